"""The layer: it holds parameters, statistics and what a backward needs, and leaves all numerics to the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from . import _core
from ._backward import batch_norm_backward, batch_norm_inference_backward
from ._channel_stats import ChannelStats
from ._checks import INT64_MAX, as_array, as_int, float_dtype, require_writeable
from ._layer_state import LayerState, write
from ._masks import mask_of
from ._saved import X_IS_GONE, SavedStatistics
from ._threads import context_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike
    from typing_extensions import Self

    from ._core import Activation, BoolArray, Float64Array, FloatArray, Int64Array


class _Frozen(NamedTuple):
    """What a forward in evaluation mode used.

    The arrays are live, and the backward belongs to what they held then: their data, as bytes. The forward leaves a
    plain tuple, which takes 1.2 times as long as the function on a (32, 64) array; with copies in place of bytes, or
    with this class, it would be 1.3.
    """

    mean: FloatArray
    mean_data: bytes
    var: FloatArray
    var_data: bytes
    weight: FloatArray | None
    weight_data: bytes
    eps: float
    axis: int
    in_place: bool
    bias: FloatArray | None
    bias_data: bytes
    activation: Activation
    mask: BoolArray | None

    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None]:
        """Return mean, var, weight and bias as they were, read-only."""
        weight = None if self.weight is None else np.frombuffer(self.weight_data, self.weight.dtype)
        bias = None if self.bias is None else np.frombuffer(self.bias_data, self.bias.dtype)
        return (
            np.frombuffer(self.mean_data, self.mean.dtype),
            np.frombuffer(self.var_data, self.var.dtype),
            weight,
            bias,
        )


# The fields of _Frozen.
_Fields: TypeAlias = (
    "tuple[FloatArray, bytes, FloatArray, bytes, FloatArray | None, bytes, float, int, bool, FloatArray | None, bytes, "
    "Activation, BoolArray | None]"
)


class BatchNorm(LayerState):
    """Batch normalization as a layer with parameters, running statistics and gradients.

    Parameters
    ----------
    num_features : int
        Number of channels C of the input.
    eps : float, default 1e-5
        Added to the variance; finite and >= 0.
    momentum : float or None, default 0.1
        How much one side weighs in a running statistic, from 0 to 1. None makes the running statistics the plain
        average over all batches.
    affine : bool, default True
        Whether there are a weight and a bias. False drops both, whatever `weight` and `bias` say.
    track_running_stats : bool, default True
        Whether there are running statistics. Without them evaluation uses the batch's statistics too.
    weight, bias : bool, default True
        Whether there is the one and the other.
    axis : int, default 1
        Channel axis of the input.
    momentum_of : {"new", "old"}, default "new"
        Which side `momentum` weighs: "new" is PyTorch's meaning, "old" is Keras's.
    unbiased : bool, default True
        Whether the running variance takes in the unbiased variance of the batch.
    on_single : {"error", "warn", "allow"}, default "error"
        What to do about one value per channel when the batch's statistics are used.
    dtype : float32 or float64, default float32
        Of parameters, gradients and running statistics, whatever the input's is.
    num_threads : int, optional
        Number of threads of this layer's calls; the setting if omitted.
    activation : None, "relu", ("leaky_relu", slope) or ("prelu", slopes), optional
        Applied to the result in the same sweep, see `batch_norm_train`. Slopes are the caller's parameter: the layer
        reads them at each forward, and gives their gradient.
    groups : int, default 1
        Into how many parts a training batch is cut, each normalized by its own statistics, see `batch_norm_train`.
    renorm : (r_max, d_max), optional
        Batch renormalization in training, within these bounds, see `batch_norm_train`. The attribute may be set anew,
        as `batchnorm.training.RenormWarmup` does.
    on_nonfinite : {"propagate", "raise", "skip_update"}, default "propagate"
        What to do about a training batch of which a mean or a variance is not finite. A batch that is skipped is not
        counted.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0.

    Attributes
    ----------
    weight, bias : ndarray, shape (C,), or None
        Parameters, 1 and 0 at first. Change them in place: ``layer.weight -= step * layer.weight_grad``.
    weight_grad, bias_grad : ndarray, shape (C,), or None
        Gradients of the last backward, 0 at first. Always the same arrays, overwritten by each backward.
    residual_grad : ndarray, dtype and shape of x, or None
        Gradient of the last backward with respect to the residual, a new array each time; None where there was none.
    slope_grad : ndarray, shape (C,), or None
        Gradient of the last backward with respect to the slopes of "prelu", a new array each time.
    running_mean, running_var : ndarray, shape (C,), or None
        Running statistics, 0 and 1 at first.
    num_batches_tracked : ndarray, int64, shape (), or None
        Number of batches that the running statistics have seen.
    training : bool
        The mode, see `train` and `eval`.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    ValueError
        An argument has the wrong value.

    Notes
    -----
    Training follows Algorithm 1 of Ioffe & Szegedy (2015), see `batch_norm_train`; evaluation follows Algorithm 2,
    step 11, see `batch_norm_inference`. With ``momentum=None`` the weight of a new batch is 1 / (number of batches
    with it).

    The semantics, and the keys of `state_dict`, are PyTorch's. What differs: there is one class for any number of
    dimensions; a backward overwrites the gradients where PyTorch adds to them; an empty batch is no error, and is not
    counted; `reset_parameters` leaves the running statistics alone.

    A backward belongs to the last forward, whatever its mode; a forward replaces the one before. From a forward until
    its backward the layer holds references to x and the residual, which must not be changed meanwhile; in training,
    but for "prelu", it keeps a bit per value in place of the residual. Where a training forward was in place, x is
    found from y, see `batch_norm_backward`, which after a residual it can't. Copies and pickles of the layer leave that
    out.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> layer = bn.BatchNorm(2, momentum=0.5)
    >>> x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    >>> y = layer(x)
    >>> dx = layer.backward(np.ones_like(y))
    >>> layer.bias_grad.tolist(), layer.running_mean.tolist(), int(layer.num_batches_tracked)
    ([6.0, 6.0], [2.25, 3.25], 1)
    >>> layer.eval()(x).shape
    (3, 2, 2)
    """

    residual_grad: FloatArray | None
    slope_grad: FloatArray | None
    training: bool
    _collected: ChannelStats | None  # takes the batches' statistics in place of the running ones
    _pending: tuple[Any, SavedStatistics | _Fields, FloatArray | None, ArrayLike | None] | None  # x, ..., y, residual

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        weight: bool = True,
        bias: bool = True,
        axis: int = 1,
        momentum_of: Literal["new", "old"] = "new",
        unbiased: bool = True,
        on_single: Literal["error", "warn", "allow"] = "error",
        dtype: DTypeLike = np.float32,
        num_threads: int | None = None,
        activation: Activation = None,
        groups: int = 1,
        renorm: tuple[float, float] | None = None,
        on_nonfinite: Literal["propagate", "raise", "skip_update"] = "propagate",
        flush_subnormals: bool = False,
    ) -> None:
        self.num_features = as_int("num_features", num_features, 1)
        self.eps = _core.check_eps(eps)
        self.momentum = None if momentum is None else _core.check_momentum(momentum)
        self.affine = _core.check_flag(affine, "affine")
        self.track_running_stats = _core.check_flag(track_running_stats, "track_running_stats")
        has_weight = _core.check_flag(weight, "weight") and self.affine
        has_bias = _core.check_flag(bias, "bias") and self.affine
        self.axis = _core.check_axis_int(axis)
        self.momentum_of: Literal["new", "old"] = _core.check_choice(momentum_of, "momentum_of", ["new", "old"])
        self.unbiased = _core.check_flag(unbiased, "unbiased")
        self.on_single: Literal["error", "warn", "allow"] = _core.check_choice(
            on_single, "on_single", ["error", "warn", "allow"]
        )
        self.dtype = float_dtype(dtype)
        if num_threads is not None:
            _core.check_num_threads(num_threads)
        self.num_threads = num_threads
        _core.check_activation(activation, self.num_features)
        self.activation = activation
        self.groups = as_int("groups", groups, 1)
        self.renorm = _core.check_renorm(renorm)
        if self.renorm is not None and not self.track_running_stats:
            raise ValueError("renorm: expected None without running statistics, which it compares batches with")
        self.on_nonfinite: Literal["propagate", "raise", "skip_update"] = _core.check_choice(
            on_nonfinite, "on_nonfinite", ["propagate", "raise", "skip_update"]
        )
        self.flush_subnormals = _core.check_flag(flush_subnormals, "flush_subnormals")

        def fill(exists: bool, value: float) -> FloatArray | None:
            return np.full(self.num_features, value, self.dtype) if exists else None

        self.weight, self.weight_grad = fill(has_weight, 1), fill(has_weight, 0)
        self.bias, self.bias_grad = fill(has_bias, 0), fill(has_bias, 0)
        self.running_mean, self.running_var = fill(self.track_running_stats, 0), fill(self.track_running_stats, 1)
        self.num_batches_tracked = np.zeros((), np.int64) if self.track_running_stats else None
        self.training = True
        self.residual_grad = self.slope_grad = None
        self._pending = None
        self._collected = None

    def forward(
        self,
        x: ArrayLike,
        out: FloatArray | None = None,
        *,
        residual: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> FloatArray:
        """Normalize a batch; ``layer(x)`` is the same.

        Parameters
        ----------
        x : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions
            Batch, with `num_features` channels along `axis`; any strides. In evaluation it may be of uint8, int8,
            uint16 or int16, too, and has no backward.
        out : ndarray, shape of x, optional
            Array to write y to; it is the very array returned. It may be `x` itself; a backward in training then finds
            x from y, where weight and activation let it.
        residual : array_like, shape of x, optional
            Added to the result before the activation.
        mask, lengths : optional
            Which values count, see `batch_norm_train`; y, and dx of the backward, are 0 where one doesn't.

        Returns
        -------
        ndarray, dtype and shape of x
            y, in x's memory order; float32 for integers.

        Raises
        ------
        TypeError
            An argument is of the wrong type or dtype.
        ValueError
            An argument has the wrong shape or value, there is one value per channel and `on_single` is "error", or
            what would be updated is read-only.
        OverflowError
            `num_batches_tracked` would pass 2**63 - 1.

        Notes
        -----
        In training, and without running statistics, this is `batch_norm_train`, otherwise `batch_norm_inference`.
        After an error nothing has changed.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> bn.BatchNorm(1, eps=0.0).forward(np.array([[1.0], [3.0]])).tolist()
        [[-1.0], [1.0]]
        """
        mean, var, weight, eps, axis = self.running_mean, self.running_var, self.weight, self.eps, self.axis
        if self.training or mean is None or var is None:
            y, in_batch = self._normalize_batch(
                x, self.weight, self.bias, out, self.activation, residual, mask, lengths
            )
            in_place, with_signs = in_batch._fields[5], in_batch._fields[8] is not None
            needs_residual = in_batch.activation is not None and not with_signs
            self._pending = (
                *(None if in_place else x, in_batch, y if in_place else None),
                residual if needs_residual else None,
            )
            return y
        # Attributes may have been set to anything; the backward needs the numbers that the forward used.
        if type(eps) is not float:
            eps = _core.check_eps(eps)
        if type(axis) is not int:
            axis = _core.check_axis_int(axis)
        threads = context_num_threads() if self.num_threads is None else self.num_threads
        if lengths is not None:
            mask = mask_of(x, axis, mask, lengths)
        bias, activation = self.bias, self.activation
        try:
            mean_data, var_data = mean.tobytes(), var.tobytes()
            weight_data = b"" if weight is None else weight.tobytes()
            bias_data = b"" if bias is None or activation is None else bias.tobytes()
        except AttributeError:  # an attribute that was set to a list, say
            mean, var = as_array("running_mean", mean), as_array("running_var", var)
            weight = None if weight is None else as_array("weight", weight)
            bias = None if bias is None else as_array("bias", bias)
            mean_data, var_data, weight_data, bias_data = (
                b"" if v is None else v.tobytes() for v in (mean, var, weight, bias)
            )
        try:  # not by way of batch_norm_inference, whose share of a small call is 5 %
            y, in_place = _core.batch_norm_inference(
                x,
                mean,
                var,
                weight,
                bias,
                eps,
                axis,
                out,
                threads,
                activation,
                residual,
                mask,
                self.flush_subnormals,
            )
        except ValueError:
            self._check_channels(x)
            raise
        if activation is not None:
            activation = _core.check_activation(activation, self.num_features)
        if activation is None:  # else the side of the kink depends on it
            bias, bias_data = None, b""
        self._pending = (
            x,
            (
                mean,
                mean_data,
                var,
                var_data,
                weight,
                weight_data,
                eps,
                axis,
                in_place,
                bias,
                bias_data,
                activation,
                None if mask is None else np.array(mask),
            ),
            None,
            residual,
        )
        return y

    __call__ = forward

    def _normalize_batch(
        self,
        x: ArrayLike,
        weight: ArrayLike | None,
        bias: ArrayLike | None,
        out: FloatArray | None = None,
        activation: Activation = None,
        residual: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[FloatArray, SavedStatistics]:
        """Normalize by the batch's statistics, and let the running ones, or those that are collected, take it in."""
        if weight is None and bias is None and self.running_mean is None:
            self._check_channels(x)  # there is nothing else that could tell
        collected = self._collected if self.training else None
        counter = self.num_batches_tracked if self.training and collected is None else None
        batches, momentum, momentum_of = self._next_batch(counter, x)
        keeps_sign = residual is not None and not (isinstance(activation, tuple) and activation[0] == "prelu")
        try:  # not by way of batch_norm_train, whose keywords are a sixth of a small call
            if lengths is not None:
                mask = mask_of(x, self.axis, mask, lengths)
            y, fields = _core.batch_norm_train(
                x,
                weight,
                bias,
                self.running_mean,
                self.running_var,
                momentum,
                momentum_of,
                self.unbiased,
                collected is None,
                self.on_single,
                self.eps,
                self.axis,
                out,
                context_num_threads() if self.num_threads is None else self.num_threads,
                activation,
                residual,
                keeps_sign,
                mask,
                self.groups if self.training else 1,
                self.renorm if self.training else None,
                self.on_nonfinite,
                self.flush_subnormals,
            )
        except ValueError:
            self._check_channels(x)
            raise
        saved = SavedStatistics._of(fields)
        counts = bool(saved._fields[1])  # an empty batch counts nothing
        if counts and self.on_nonfinite == "skip_update":
            counts = _finite(saved.mean, self.running_mean) and _finite(saved.var, self.running_var)
        if counts and counter is not None:
            counter[()] = batches
        if counts and collected is not None:
            collected.merge(saved.stats)
        return y, saved

    def _next_batch(self, counter: Int64Array | None, values: ArrayLike) -> tuple[int, float, Literal["new", "old"]]:
        """Return the number of batches with the next one, if it has values, and how it moves the running statistics."""
        batches = 1
        if counter is not None:
            require_writeable("num_batches_tracked", counter)
            batches += counter.item()
            if batches > INT64_MAX and np.size(values) > 0:
                raise OverflowError(f"num_batches_tracked: expected an integer below 2**63 - 1, got {batches - 1}")
        if self.momentum is None:
            return batches, 1.0 / batches, "new"
        return batches, self.momentum, self.momentum_of

    def _check_channels(self, x: ArrayLike) -> None:
        """Say that x does not fit, where a function would say that the weight or a running statistic does not."""
        shape, axis = np.shape(x), self.axis
        if len(shape) > 1 and -len(shape) <= axis < len(shape) and shape[axis] != self.num_features:
            raise ValueError(
                f"x: expected {self.num_features} channels along axis {axis}, got {shape[axis]} in shape {shape}"
            ) from None

    def backward(self, dy: ArrayLike) -> FloatArray:
        """Differentiate the last forward, in the mode that it had.

        Parameters
        ----------
        dy : array_like, dtype and shape of x
            Gradient of the loss with respect to y.

        Returns
        -------
        ndarray, dtype and shape of x
            dx, the gradient of the loss with respect to x. `weight_grad` and `bias_grad` are overwritten,
            `residual_grad` and `slope_grad` replaced.

        Raises
        ------
        RuntimeError
            There was no forward since the last backward.
        TypeError
            `dy` is of the wrong type or dtype, x was of integers, or the forward was in place after a residual.
        ValueError
            `dy` has the wrong shape, a gradient is read-only, or the forward was in place, so that x is gone, and
            can't be found from y.

        Notes
        -----
        See `batch_norm_backward` and `batch_norm_inference_backward`. Changes of parameters and running statistics
        after the forward play no part. After an error nothing has changed, so the right call can still be made.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> layer = bn.BatchNorm(1, eps=0.0).eval()
        >>> y = layer(np.array([[1.0], [3.0]]))
        >>> layer.backward(np.array([[1.0], [1.0]])).tolist(), layer.weight_grad.tolist()
        ([[1.0], [1.0]], [4.0])
        """
        if self._pending is None:
            raise RuntimeError("backward: expected one forward before each backward, got none since the last one")
        x, saved, y, residual = self._pending
        if isinstance(saved, SavedStatistics):
            gradients = batch_norm_backward(
                dy,
                x,
                saved,
                y=y,
                residual=residual,
                num_threads=self.num_threads,
                flush_subnormals=self.flush_subnormals,
            )
        else:
            frozen = _Frozen(*saved)
            if frozen.in_place:
                raise ValueError(X_IS_GONE)
            gradients = batch_norm_inference_backward(
                dy,
                x,
                *frozen.arrays(),
                eps=frozen.eps,
                axis=frozen.axis,
                num_threads=self.num_threads,
                activation=frozen.activation,
                residual=residual,
                mask=frozen.mask,
                flush_subnormals=self.flush_subnormals,
            )
        write(("weight_grad", self.weight_grad, gradients.dweight), ("bias_grad", self.bias_grad, gradients.dbias))
        self.residual_grad, self.slope_grad = gradients.dresidual, gradients.dslope
        self._pending = None
        return gradients.dx

    def train(self, mode: bool = True) -> Self:
        """Choose training mode, or evaluation mode with False; return the layer.

        Parameters
        ----------
        mode : bool, default True
            True to normalize by the batch's statistics and to update the running ones.

        Returns
        -------
        BatchNorm
            This very layer.

        Raises
        ------
        TypeError
            `mode` is not a bool.

        Examples
        --------
        >>> import batchnorm as bn
        >>> bn.BatchNorm(3).eval().train().training
        True
        """
        self.training = _core.check_flag(mode, "mode")
        return self

    def eval(self) -> Self:
        """Choose evaluation mode; return the layer.

        Returns
        -------
        BatchNorm
            This very layer.

        Examples
        --------
        >>> import batchnorm as bn
        >>> bn.BatchNorm(3).eval().training
        False
        """
        return self.train(False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pending": None, "_collected": None}

    def __repr__(self) -> str:
        extras = {
            "weight": self.weight is not None or not self.affine,
            "bias": self.bias is not None or not self.affine,
            "axis": self.axis,
            "momentum_of": self.momentum_of,
            "unbiased": self.unbiased,
            "on_single": self.on_single,
            "dtype": self.dtype.name,
            "num_threads": self.num_threads,
            "activation": self.activation,
            "groups": self.groups,
            "renorm": self.renorm,
            "on_nonfinite": self.on_nonfinite,
            "flush_subnormals": self.flush_subnormals,
        }
        extra = "".join(f", {name}={value!r}" for name, value in extras.items() if value != _DEFAULTS[name])
        return (
            f"BatchNorm({self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}{extra})"
        )


_DEFAULTS = {
    "weight": True,
    "bias": True,
    "axis": 1,
    "momentum_of": "new",
    "unbiased": True,
    "on_single": "error",
    "dtype": "float32",
    "num_threads": None,
    "activation": None,
    "groups": 1,
    "renorm": None,
    "on_nonfinite": "propagate",
    "flush_subnormals": False,
}


def _finite(statistic: Float64Array, running: FloatArray | None) -> bool:
    """Whether a running statistic can take these values in."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(statistic if running is None else statistic.astype(running.dtype)).all())
