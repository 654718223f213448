"""The backward functions: gradients of the forward ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core
from ._masks import mask_of
from ._saved import X_IS_GONE, Gradients, SavedStatistics
from ._threads import context_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._core import Activation, FloatArray


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike | None,
    saved: SavedStatistics,
    weight: ArrayLike | None = None,
    *,
    out: FloatArray | None = None,
    num_threads: int | None = None,
    y: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    residual_out: FloatArray | None = None,
    flush_subnormals: bool = False,
) -> Gradients:
    """Differentiate `batch_norm_train`.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y. Its dtype is float64 where x's is, else float16, bfloat16 or float32.
    x : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions, or None
        The very x of the forward. None if that was in place: x is then found from `y`, which stands for x in what
        follows.
    saved : SavedStatistics
        What the forward returned, or statistics of another framework.
    weight : array_like, float32 or float64, shape (C,), optional
        The forward's, if omitted, which `saved` keeps.
    out : ndarray, shape of x, optional
        Array to write dx to, of a dtype that dy may have and in x's memory order. It may be `dy` itself, never `x`.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    y : array_like, shape of x, optional
        What the forward returned. It tells which side of the activation's kink a value was on, which otherwise x
        tells, or, after a residual, `residual` or the signs that `keep_sign` kept. What y rounded to 0 is taken for
        not positive. Slopes per channel must be positive.
    residual : array_like, shape of x, optional
        The forward's. With x it tells the side of the kink where y is not given, whatever the slopes are. It must be
        given after a residual if `saved` was made by hand, and so does not know of it.
    residual_out : ndarray, shape of x, optional
        Array to write dresidual to, as `out` is, or a new one if omitted. It may be `dy` itself if `out` is not.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, which spares a CPU its slow way with them. Threads are
        left as they were.

    Returns
    -------
    Gradients
        With dx, dweight and dbias. The last two come in the weight's dtype; without a weight in float64 for float64
        x, else in float32. After a residual with dresidual, with slopes per channel with dslope.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value; the forward was in place, so that x is gone; or x is None and can't be
        found from y.

    Notes
    -----
    The gradients that follow Algorithm 1 in section 3 of Ioffe & Szegedy (2015), with the chain through mean and
    variance gathered in one line, for each channel over its m values::

        g       = dy where v is positive, else dy * slope        v is what the activation saw
        xhat    = (x - mean) * rstd
        dbias   = sum(g)
        dweight = sum(g * xhat)
        dx      = weight * rstd * (g - (dbias + xhat * dweight) / m)
        dresidual = g
        dslope  = sum(dy * v where v is not positive)

    Where ``var + eps`` is 0, dx is 0. An empty batch gives an empty dx, and zeros. A NaN counts as positive.

    A mask, groups and a renormalization of the forward are in `saved`: dx and dresidual are 0 where x was masked, each
    group has its own sums, and with r and d ``dweight = sum(g * (xhat * r + d))`` and dx is r times as large.

    Where x is None, v is y, divided by the slope where that is not positive, and ``xhat = (v - bias) / weight`` (Rota
    Bulo et al. 2018, section 3). Forward and backward then need one large array less. It takes slopes and weights of at
    least 0.001, and no residual; xhat is off by what rounding y loses, ``eps(dtype) * abs(v / weight)``, which for a
    weight of 0.01 is 100 times as much as from x. A float16 y below 6e-5 loses 3e-8, so that xhat is off by
    ``3e-8 / (slope * weight)`` there; where y overflowed, dx is NaN.

    References
    ----------
    S. Rota Bulo, L. Porzi, P. Kontschieder, In-Place Activated BatchNorm for Memory-Optimized Training of DNNs, 2018,
    arXiv:1712.02616.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> x = np.array([[0.8], [1.2], [0.9], [1.1]])
    >>> y, saved = bn.batch_norm_train(x)
    >>> gradients = bn.batch_norm_backward(np.array([[1.0], [0.0], [0.0], [0.0]]), x, saved)
    >>> gradients.dbias.tolist(), gradients.dweight.round(3).tolist()
    ([1.0], [-1.265])
    """
    if not isinstance(saved, SavedStatistics):
        raise TypeError(f"saved: expected a SavedStatistics, got {type(saved).__name__}")
    state, count, _, axis, weight_dtype, in_place, activation, had_residual, signs, mask, factors, parts = saved._fields
    if in_place and x is not None:
        raise ValueError(X_IS_GONE)
    # Only the side of the kink, and an x that is found from y, depend on it.
    bias = None if activation is None and x is not None else saved.bias
    if weight is not None:
        weight_dtype = None
    elif weight_dtype is not None:
        weight = state[3]
    dx, dweight, dbias, dresidual, dslope = _core.batch_norm_backward(
        dy,
        x,
        state[0],
        state[1],
        count,
        weight,
        weight_dtype,
        bias,
        axis,
        out,
        context_num_threads() if num_threads is None else num_threads,
        activation,
        had_residual,
        signs,
        y,
        residual,
        residual_out,
        mask,
        factors,
        parts,
        flush_subnormals,
    )
    return Gradients._of((dx, dweight, dbias, dresidual, dslope, None, None))


def batch_norm_inference_backward(
    dy: ArrayLike,
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
    y: ArrayLike | None = None,
    residual_out: FloatArray | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    flush_subnormals: bool = False,
) -> Gradients:
    """Differentiate `batch_norm_inference`, the form with frozen statistics.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y. Its dtype is float64 where x's is, else float16, bfloat16 or float32.
    x : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions
        The very x of the forward.
    running_mean, running_var : array_like, float32 or float64, shape (C,)
        The forward's statistics.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        The forward's parameters.
    eps : float, default 1e-5
        The forward's.
    axis : int, default 1
        Channel axis.
    out : ndarray, shape of x, optional
        Array to write dx to, of a dtype that dy may have and in x's memory order. It may be `dy` itself, never `x`.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    activation, residual : optional
        The forward's.
    y : array_like, shape of x, optional
        What the forward returned, see `batch_norm_backward`. Without it the side of the activation's kink is computed
        anew.
    residual_out : ndarray, shape of x, optional
        Array to write dresidual to, as `out` is, or a new one if omitted. It may be `dy` itself if `out` is not.
    mask, lengths : optional
        The forward's.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, see `batch_norm_train`.

    Returns
    -------
    Gradients
        With dx, dweight, dbias, dmean and dvar. dweight and dbias come in the weight's dtype; without a weight in
        float64 for float64 x, else in float32. dmean comes in running_mean's dtype and dvar in running_var's. With a
        residual also dresidual, with slopes per channel dslope.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value.

    Notes
    -----
    The chain rule on step 11 of Algorithm 2 of Ioffe & Szegedy (2015), where mean and variance do not depend on x::

        rstd    = 1 / sqrt(running_var + eps)
        g       = dy where what the activation saw is positive, else dy * slope
        dbias   = sum(g)
        dweight = sum(g * (x - running_mean) * rstd)
        dx      = g * weight * rstd
        dmean   = -weight * rstd * dbias
        dvar    = -weight * rstd**2 * dweight / 2

    Where ``running_var + eps`` is 0, rstd is taken as 0.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> x, mean, var = np.array([[1.0], [5.0]]), np.array([1.0]), np.array([4.0])
    >>> gradients = bn.batch_norm_inference_backward(np.ones((2, 1)), x, mean, var, eps=0.0)
    >>> gradients.dx.tolist(), gradients.dweight.tolist(), gradients.dmean.tolist(), gradients.dvar.tolist()
    ([[0.5], [0.5]], [2.0], [-1.0], [-0.25])
    """
    if lengths is not None:
        mask = mask_of(x, axis, mask, lengths)
    gradients = _core.batch_norm_inference_backward(
        dy,
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
        y,
        residual_out,
        mask,
        flush_subnormals,
    )
    return Gradients._of(gradients)
