"""The forward functions, and what undoes one: arrays in, arrays out. The compiled core checks every argument first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from . import _core
from ._masks import mask_of
from ._saved import SavedStatistics
from ._threads import context_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._core import Activation, FloatArray


def batch_norm_train(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    running_mean: FloatArray | None = None,
    running_var: FloatArray | None = None,
    momentum: float = 0.1,
    momentum_of: Literal["new", "old"] = "new",
    unbiased: bool = True,
    update_stats: bool = True,
    on_single: Literal["error", "warn", "allow"] = "error",
    eps: float = 1e-5,
    axis: int = 1,
    out: FloatArray | None = None,
    num_threads: int | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    keep_sign: bool = False,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    groups: int = 1,
    renorm: tuple[float, float] | None = None,
    on_nonfinite: Literal["propagate", "raise", "skip_update"] = "propagate",
    flush_subnormals: bool = False,
) -> tuple[FloatArray, SavedStatistics]:
    """Normalize each channel by the mean and the variance of this batch.

    Parameters
    ----------
    x : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions
        Batch, with C channels along `axis`; any strides. bfloat16 is that of ml_dtypes.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Scale and shift of each channel (gamma and beta in the paper), 1 and 0 if omitted. Each may be given alone.
    running_mean, running_var : ndarray, float32 or float64, shape (C,), optional
        Running statistics, both or none, changed in place.
    momentum : float, default 0.1
        How much one side weighs in a running statistic, from 0 to 1.
    momentum_of : {"new", "old"}, default "new"
        Which side: "new" is PyTorch's meaning, "old" is Keras's.
    unbiased : bool, default True
        Whether the running variance takes in the unbiased variance of the batch. The batch itself is always
        normalized by the biased one.
    update_stats : bool, default True
        Whether the running statistics are changed at all.
    on_single : {"error", "warn", "allow"}, default "error"
        What to do about one value per channel, where y is the bias whatever x is.
    eps : float, default 1e-5
        Added to the variance; finite and >= 0.
    axis : int, default 1
        Channel axis.
    out : ndarray, shape of x, optional
        Array to write y to; it is the very array returned. It may be `x` itself, otherwise it overlaps no argument. It
        has x's memory order, with positive strides. Its dtype is float64 where x's is, else float16, bfloat16 or
        float32.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    activation : None, "relu", ("leaky_relu", slope) or ("prelu", slopes), optional
        What y is passed through: v where it is positive, elsewhere v times a slope, which is 0, one number >= 0, or a
        float32 or float64 array of shape (C,).
    residual : array_like, shape of x, optional
        Added before the activation. Its dtype is float64 where x's is, else float16, bfloat16 or float32.
    keep_sign : bool, default False
        Whether `saved` keeps a bit per value, so that the backward of an activation after a residual needs no y.
    mask : array_like of bool, optional
        Which values count, broadcast to the shape of x without its channel axis: (N, L) for padded sequences, (N, H, W)
        for ragged images. The others, which may be NaN, count neither here nor in the gradients, and y and dx are 0
        there.
    lengths : array_like of int, shape (N,), optional
        In place of a mask: how many positions of each sequence count, for x of shape (N, C, L) or (N, L, C).
    groups : int, default 1
        Into how many parts the batch is cut, each normalized by its own statistics: ghost batch normalization. Parts
        have ``ceil(N / groups)`` samples, the last one fewer. The running statistics take in those of all together.
    renorm : (r_max, d_max), optional
        Batch renormalization by the running statistics, within these bounds; r_max >= 1 and d_max >= 0. (1, 0) is plain
        batch normalization.
    on_nonfinite : {"propagate", "raise", "skip_update"}, default "propagate"
        What to do about a batch of which a mean or a variance is NaN or infinite: let it into the running statistics,
        raise a ValueError before y is written, or leave the running statistics as they are.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, which spares a CPU its slow way with them. Threads are
        left as they were.

    Returns
    -------
    y : ndarray, dtype and shape of x
        In x's memory order.
    saved : SavedStatistics
        What `batch_norm_backward` needs.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value, there is one value per channel and `on_single` is "error", or a
        statistic is not finite and `on_nonfinite` is "raise".

    Notes
    -----
    Ioffe & Szegedy (2015), Algorithm 1, for each channel over its m values::

        mean = sum(x) / m
        var  = sum((x - mean)**2) / m
        y    = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)

    and, after Algorithm 2, step 10, whose average is made a moving one::

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * m / (m - 1)

    Where ``var + eps`` is 0, y is the bias. An empty batch gives an empty y and leaves the running statistics alone.
    With one value per channel the running mean moves, and the running variance stays when it is the unbiased one. NaN
    and Inf stay in their channel. The result has the same bits for any number of threads. After an error nothing has
    changed.

    Half precisions are widened to float32 as they are read, and y is rounded once, to nearest even. Unless x is
    float64, ``weight / sqrt(var + eps)`` is used in float32, and taken as 3.4e38 where it is larger, so that a constant
    channel still gives the bias. The activations are those of Nair & Hinton (2010), Maas et al. (2013) and He et al.
    (2015), equation 1.

    With `groups` (Hoffer et al. 2017, Algorithm 1) y is, bit by bit, what one call for each part gives. A part, or a
    batch, of which nothing counts is treated as an empty one.

    With `renorm` (Ioffe 2017, Algorithm 1) ``(x - mean) / sqrt(var + eps)`` is multiplied by r and moved by d, before
    weight and bias::

        sigma = sqrt(running_var + eps)
        r = clip(sqrt(var + eps) / sigma, 1 / r_max, r_max)
        d = clip((mean - running_mean) / sigma, -d_max, d_max)

    with the running statistics as they were before this batch; the backward takes r and d as constants, as the paper
    does. Ioffe averages the deviation, here the variance is averaged. `batchnorm.training.RenormWarmup` gives his
    schedule.

    References
    ----------
    E. Hoffer, I. Hubara, D. Soudry, Train longer, generalize better: closing the generalization gap in large batch
    training of neural networks, 2017, arXiv:1705.08741.

    S. Ioffe, Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models, 2017,
    arXiv:1702.03275.

    S. Ioffe, C. Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift, 2015, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> x = np.array([[0.8], [1.2], [0.9], [1.1]])
    >>> y, saved = bn.batch_norm_train(x, weight=np.array([0.5]), bias=np.array([2.0]), eps=0.0)
    >>> y.ravel().round(4).tolist()
    [1.3675, 2.6325, 1.6838, 2.3162]
    >>> saved.mean.round(12).tolist(), saved.var.round(12).tolist()
    ([1.0], [0.025])
    """
    if lengths is not None:
        mask = mask_of(x, axis, mask, lengths)
    y, fields = _core.batch_norm_train(
        x,
        weight,
        bias,
        running_mean,
        running_var,
        momentum,
        momentum_of,
        unbiased,
        update_stats,
        on_single,
        eps,
        axis,
        out,
        context_num_threads() if num_threads is None else num_threads,
        activation,
        residual,
        keep_sign,
        mask,
        groups,
        renorm,
        on_nonfinite,
        flush_subnormals,
    )
    return y, SavedStatistics._of(fields)


def batch_norm_inference(
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
    out: FloatArray | None = None,
    num_threads: int | None = None,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    flush_subnormals: bool = False,
) -> FloatArray:
    """Normalize each channel by given statistics.

    Parameters
    ----------
    x : array_like, at least 2 dimensions
        Batch, with C channels along `axis`; any strides. Of float16, bfloat16, float32 or float64, or images of uint8,
        int8, uint16 or int16.
    running_mean, running_var : array_like, float32 or float64, shape (C,)
        Mean and variance to normalize by; the variance is not negative.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Scale and shift of each channel, 1 and 0 if omitted. Each may be given alone.
    eps : float, default 1e-5
        Added to the variance; finite and >= 0.
    axis : int, default 1
        Channel axis.
    out : ndarray, shape of x, optional
        Array to write y to; it is the very array returned. It may be `x` itself, otherwise it overlaps no argument. It
        has x's memory order, with positive strides. Its dtype is float64 where x's is, else float16, bfloat16 or
        float32.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    activation : None, "relu", ("leaky_relu", slope) or ("prelu", slopes), optional
        What y is passed through, see `batch_norm_train`.
    residual : array_like, shape of x, optional
        Added before the activation.
    mask, lengths : optional
        Which values count, see `batch_norm_train`; y is 0 where one doesn't.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, which spares a CPU its slow way with them. Threads are
        left as they were.

    Returns
    -------
    ndarray, dtype and shape of x
        y, in x's memory order; float32 for integers.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value.

    Notes
    -----
    Ioffe & Szegedy (2015), Algorithm 2, step 11, centred before it is scaled so that it is right at any offset::

        y = activation((x - running_mean) / sqrt(running_var + eps) * weight + bias + residual)

    Where ``running_var + eps`` is 0, y is the bias. `denormalize` is the inverse, `batch_norm_inference_backward` the
    derivative.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> bn.batch_norm_inference(np.array([[1.0], [5.0]]), np.array([1.0]), np.array([4.0]), eps=0.0).tolist()
    [[0.0], [2.0]]

    Images of bytes, by the statistics that are quoted for values from 0 to 1:

    >>> images = np.full((1, 2, 2, 3), 255, np.uint8)
    >>> mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    >>> y = bn.batch_norm_inference(images, mean * 255, (std * 255) ** 2, eps=0.0, axis=-1)
    >>> y[0, 0, 0].round(3).tolist() == ((1 - mean) / std).round(3).astype(np.float32).tolist()
    True
    """
    if lengths is not None:
        mask = mask_of(x, axis, mask, lengths)
    y, _ = _core.batch_norm_inference(
        x,
        running_mean,
        running_var,
        weight,
        bias,
        eps,
        axis,
        out,
        context_num_threads() if num_threads is None else num_threads,
        activation,
        residual,
        mask,
        flush_subnormals,
    )
    return y


def denormalize(
    y: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
    out: FloatArray | None = None,
    num_threads: int | None = None,
    flush_subnormals: bool = False,
) -> FloatArray:
    """Undo `batch_norm_inference`.

    Parameters
    ----------
    y : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions
        Normalized values, with C channels along `axis`; any strides.
    mean, var : array_like, float32 or float64, shape (C,)
        What y was normalized by; the variance is not negative.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        What y was scaled and shifted by; no weight is 0.
    eps : float, default 1e-5
        What was added to the variance; finite and >= 0.
    axis : int, default 1
        Channel axis.
    out : ndarray, shape of y, optional
        Array to write x to; it is the very array returned. It may be `y` itself, otherwise it overlaps no argument. It
        has y's memory order, with positive strides. Its dtype is float64 where y's is, else float16, bfloat16 or
        float32.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, see `batch_norm_train`.

    Returns
    -------
    ndarray, dtype and shape of y
        x, in y's memory order.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value, or a weight is 0.

    Notes
    -----
    Step 11 of Algorithm 2 of Ioffe & Szegedy (2015), solved for x::

        x = (y - bias) / weight * sqrt(var + eps) + mean

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> bn.denormalize(np.array([[0.0], [2.0]]), np.array([1.0]), np.array([4.0]), eps=0.0).tolist()
    [[1.0], [5.0]]
    """
    return _core.denormalize(
        y,
        mean,
        var,
        weight,
        bias,
        eps,
        axis,
        out,
        context_num_threads() if num_threads is None else num_threads,
        flush_subnormals,
    )
