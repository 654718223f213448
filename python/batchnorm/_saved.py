"""What a forward leaves for its backward, and what a backward returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import _core
from ._channel_stats import ChannelStats
from ._checks import INT64_MAX, as_array, as_vector, read_only
from ._moments import full_count, span

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._core import Activation, BoolArray, Float64Array, FloatArray, Int64Array, SavedFields

X_IS_GONE = (
    "x: expected the x of the forward, but it is gone: the forward was called with out=x and overwrote it. "
    "Where the forward can be undone, x=None and y=y find it again"
)


def _refuse(name: str, array: FloatArray, wrong: np.ndarray[Any, np.dtype[np.bool_]], expected: str) -> None:
    if wrong.any():
        channel = int(wrong.argmax())
        raise ValueError(f"{name}: expected {expected}, got {float(array[channel])!r} in channel {channel}")


def _count(value: object, channels: int) -> int | Int64Array:
    if isinstance(value, int) and not isinstance(value, bool):  # it may be too large for an array
        smallest = largest = value
        count: int | Int64Array = value
    else:
        array = as_array("count", value)
        if array.dtype.kind not in "iu":
            raise TypeError(f"count: expected an int or an array of ints, got {type(value).__name__} of {array.dtype}")
        if array.shape not in ((), (channels,)):
            raise ValueError(f"count: expected an int or shape ({channels},), got {array.shape}")
        smallest, largest = (int(array.min()), int(array.max())) if array.size else (0, 0)
        count = read_only(array.astype(np.int64)) if array.ndim else int(array)
    if smallest < 0:
        raise ValueError(f"count: expected values >= 0, got {smallest}")
    if largest > INT64_MAX:
        raise ValueError(f"count: expected values of at most 2**63 - 1, got {largest}")
    return count


class SavedStatistics:
    """What `batch_norm_backward` needs of a training forward. It cannot be changed.

    `batch_norm_train` returns one. Make one by hand to run a backward on another framework's saved statistics.

    Parameters
    ----------
    mean : array_like, float32 or float64, shape (C,)
        Mean of the batch.
    rstd : array_like, float32 or float64, shape (C,)
        ``1 / sqrt(var + eps)``, and 0 where ``var + eps`` is 0.
    count : int or array_like of int, shape (C,)
        Number of values per channel.
    var : array_like, float32 or float64, shape (C,), optional
        Biased variance of the batch. If it is not given it is taken from `rstd` and `eps`.
    eps : float
        What was added to the variance; finite and >= 0.
    axis : int, default 1
        Channel axis of x.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Parameters of the forward. ``dweight`` and ``dbias`` come in the weight's dtype.
    activation : None, "relu", ("leaky_relu", slope) or ("prelu", slopes), optional
        Activation of the forward, see `batch_norm_train`.

    Attributes
    ----------
    mean, rstd, var : ndarray, float64, shape (C,)
        As above, read-only.
    weight, bias : ndarray, float64, shape (C,), or None
        As above, read-only; None if not given.
    count : ndarray, int64, shape (C,)
        Number of values per channel, read-only.
    eps : float
    axis : int
    activation : None, "relu", ("leaky_relu", slope) or ("prelu", slopes)
        As above; slopes are read-only.
    scale, shift : ndarray, float64, shape (C,)
        The forward as ``y = x * scale + shift``, read-only. (With groups each has a transform of its own.)
    stats : ChannelStats
        The batch's statistics, ready to be merged.
    mask : ndarray of bool, or None
        A read-only copy of the forward's.
    groups : tuple of ChannelStats, or None
        The statistics of each group, where the forward cut the batch.
    renorm : ndarray, float64, shape (2, C) or (groups, 2, C), or None
        r and d of batch renormalization, read-only.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape, `rstd`, `count` or `var` is negative, `rstd` is infinite, `eps` is negative
        or not finite.

    Notes
    -----
    ``scale = weight * rstd`` and ``shift = bias - mean * scale``, with 1 and 0 for a missing weight and bias (Ioffe &
    Szegedy 2015, Algorithm 2, step 11). The forward itself subtracts the mean first, which is right at any offset;
    the folded form loses ``abs(mean) / std`` of precision. Without `var`, ``var = max(1 / rstd**2 - eps, 0)``, and 0
    where rstd is 0. Arguments are copied.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> saved = bn.SavedStatistics(np.array([1.0]), np.array([2.0]), 4, eps=0.0, bias=np.array([3.0]))
    >>> saved.var.tolist(), saved.scale.tolist(), saved.shift.tolist()
    ([0.25], [2.0], [1.0])
    """

    __slots__ = ("_fields",)
    _fields: SavedFields

    def __init__(
        self,
        mean: ArrayLike,
        rstd: ArrayLike,
        count: int | ArrayLike,
        *,
        var: ArrayLike | None = None,
        eps: float,
        axis: int = 1,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        activation: Activation = None,
    ) -> None:
        mean = as_vector("mean", mean)
        channels = mean.shape[0]
        rstd = as_vector("rstd", rstd, channels)
        _refuse("rstd", rstd, (rstd < 0) | np.isinf(rstd), "finite values >= 0 (0 where var + eps is 0)")
        checked_count = _count(count, channels)
        if var is not None:
            var = as_vector("var", var, channels)
            _refuse("var", var, var < 0, "values >= 0")
        eps = _core.check_eps(eps)
        axis = _core.check_axis_int(axis)
        weight_dtype = None
        if weight is not None:
            weight = as_vector("weight", weight, channels)
            weight_dtype = weight.dtype
        if bias is not None:
            bias = as_vector("bias", bias, channels)
        if var is None:
            wide = rstd.astype(np.float64)
            with np.errstate(divide="ignore", over="ignore"):
                var = np.where(wide == 0, 0.0, np.maximum((1 / wide) ** 2 - eps, 0))
        rows = [row for row in (mean, rstd, var, weight, bias) if row is not None]
        state = read_only(np.array(rows, dtype=np.float64))
        activation = _core.check_activation(activation, channels)
        self._fields = (state, checked_count, eps, axis, weight_dtype, False, activation, False, None, None, None, None)

    @classmethod
    def _of(cls, fields: SavedFields) -> SavedStatistics:
        """Make one from what the compiled core returned: unchecked, not copied."""
        self = cls.__new__(cls)
        self._fields = fields
        return self

    def _row(self, i: int) -> Float64Array:
        row: Float64Array = self._fields[0][i]
        return row

    @property
    def mean(self) -> Float64Array:
        return self._row(0)

    @property
    def rstd(self) -> Float64Array:
        return self._row(1)

    @property
    def var(self) -> Float64Array:
        return self._row(2)

    @property
    def weight(self) -> Float64Array | None:
        return None if self._fields[4] is None else self._row(3)

    @property
    def bias(self) -> Float64Array | None:
        row = 3 if self._fields[4] is None else 4
        return self._row(row) if len(self._fields[0]) > row else None

    @property
    def count(self) -> Int64Array:
        count = self._fields[1]
        if isinstance(count, int):
            count = full_count(count, self._fields[0].shape[1])
        return count

    @property
    def eps(self) -> float:
        return self._fields[2]

    @property
    def axis(self) -> int:
        return self._fields[3]

    @property
    def activation(self) -> Activation:
        return self._fields[6]

    @property
    def scale(self) -> Float64Array:
        weight, renorm = self.weight, self.renorm
        if weight is None and renorm is None:
            return self.rstd
        with np.errstate(over="ignore", invalid="ignore"):
            scale = self.rstd if weight is None else weight * self.rstd
            if renorm is not None and renorm.ndim == 2:
                scale = renorm[0] * scale
        return read_only(scale)

    @property
    def shift(self) -> Float64Array:
        bias, weight, renorm = self.bias, self.weight, self.renorm
        with np.errstate(over="ignore", invalid="ignore"):
            shift: Float64Array = (0.0 if bias is None else bias) - self.mean * self.scale
            if renorm is not None and renorm.ndim == 2:
                shift = shift + (renorm[1] if weight is None else weight * renorm[1])
        return read_only(shift)

    @property
    def mask(self) -> BoolArray | None:
        return self._fields[9]

    @property
    def renorm(self) -> Float64Array | None:
        factors = self._fields[10]
        return factors[0] if factors is not None and len(factors) == 1 else factors

    @property
    def groups(self) -> tuple[ChannelStats, ...] | None:
        parts = self._fields[11]
        if parts is None:
            return None
        channels = parts[0].shape[2]
        return tuple(
            _stats_of(full_count(int(count), channels), statistics[0], statistics[2])
            for statistics, count in zip(*parts, strict=True)
        )

    @property
    def stats(self) -> ChannelStats:
        return _stats_of(self.count, self.mean, self.var)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, self._fields

    def __copy__(self) -> SavedStatistics:
        return self

    def __deepcopy__(self, memo: object) -> SavedStatistics:
        return self

    def __repr__(self) -> str:
        state, _, eps, axis, _, in_place, activation, residual, signs, mask, factors, parts = self._fields
        given = "".join(f", {name}" for name in ("weight", "bias") if getattr(self, name) is not None)
        if activation is not None:
            given += f", {activation if isinstance(activation, str) else activation[0]}"
        given += ", residual" if residual else ""
        given += ", signs" if signs is not None else ""
        given += ", mask" if mask is not None else ""
        given += ", renorm" if factors is not None else ""
        given += f", {len(parts[1])} groups" if parts is not None else ""
        end = ", in place" if in_place else ""
        count = span(self.count)
        return f"<SavedStatistics: {state.shape[1]} channels, count={count}, eps={eps}, axis={axis}{given}{end}>"


def _restore(state: Float64Array, count: int | Int64Array, *rest: Any) -> SavedStatistics:
    """Undo a pickle, which forgets that arrays are read-only. An older one has fewer fields."""
    defaults = (None, False, None, None, None, None)  # from activation on
    fields: tuple[Any, ...] = (*rest[4:], *defaults[len(rest) - 4 :])
    activation, _, signs, mask, factors, parts = fields
    for array in (mask, factors, *(parts or ())):
        if array is not None:
            read_only(array)
    if isinstance(activation, tuple) and isinstance(activation[1], np.ndarray):
        read_only(activation[1])
    if signs is not None:
        read_only(signs[0])
    count = count if isinstance(count, int) else read_only(count)
    return SavedStatistics._of((read_only(state), count, *rest[:4], *fields))


def _stats_of(count: Int64Array, mean: Float64Array, var: Float64Array) -> ChannelStats:
    with np.errstate(over="ignore", invalid="ignore"):
        m2 = np.where(count == 0, 0.0, var * count)
        # A single value does not deviate; a var that was taken from rstd and eps may, by rounding.
        m2 = np.where(count == 1, mean - mean, m2)
    return ChannelStats._of(count, np.where(count == 0, np.nan, mean), m2)


_NAMES = ("dx", "dweight", "dbias", "dresidual", "dslope", "dmean", "dvar")
_Maybe: TypeAlias = "FloatArray | None"
# The first three are there in all that the library returns, so a type checker need not ask whether they are.
_Given: TypeAlias = "tuple[FloatArray, FloatArray, FloatArray, _Maybe, _Maybe, _Maybe, _Maybe]"


class Gradients:
    """The gradients of one backward, as attributes. It cannot be changed, iterated or indexed, so that it can grow.

    Attributes
    ----------
    dx : ndarray, dtype and shape of x
    dweight, dbias : ndarray, shape (C,)
        In the weight's dtype; without a weight in float64 for float64 x, else in float32. Also there when the forward
        had no weight or no bias: what they would be.
    dmean, dvar : ndarray, shape (C,), or None
        In the dtypes of the running mean and the running variance. Only from `batch_norm_inference_backward`.
    dresidual : ndarray, dtype and shape of x, or None
        Where a residual was added.
    dslope : ndarray, shape (C,), or None
        In the dtype of the slopes, where the activation is "prelu".

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> bn.Gradients(dx=np.zeros((4, 2)), dbias=np.zeros(2))
    Gradients(dx=float64 (4, 2), dbias=float64 (2,))
    """

    __slots__ = ("_fields",)
    _fields: _Given

    def __init__(
        self,
        *,
        dx: FloatArray | None = None,
        dweight: FloatArray | None = None,
        dbias: FloatArray | None = None,
        dresidual: FloatArray | None = None,
        dslope: FloatArray | None = None,
        dmean: FloatArray | None = None,
        dvar: FloatArray | None = None,
    ) -> None:
        self._fields = (dx, dweight, dbias, dresidual, dslope, dmean, dvar)  # type: ignore[assignment]

    @classmethod
    def _of(cls, fields: _Given) -> Gradients:
        self = cls.__new__(cls)
        self._fields = fields
        return self

    @property
    def dx(self) -> FloatArray:
        return self._fields[0]

    @property
    def dweight(self) -> FloatArray:
        return self._fields[1]

    @property
    def dbias(self) -> FloatArray:
        return self._fields[2]

    @property
    def dresidual(self) -> FloatArray | None:
        return self._fields[3]

    @property
    def dslope(self) -> FloatArray | None:
        return self._fields[4]

    @property
    def dmean(self) -> FloatArray | None:
        return self._fields[5]

    @property
    def dvar(self) -> FloatArray | None:
        return self._fields[6]

    def __reduce__(self) -> tuple[Any, ...]:
        return _regrow, (dict(zip(_NAMES, self._fields, strict=True)),)

    def __repr__(self) -> str:
        given = [(name, array) for name, array in zip(_NAMES, self._fields, strict=True) if array is not None]
        return f"Gradients({', '.join(f'{name}={array.dtype} {array.shape}' for name, array in given)})"


def _regrow(fields: dict[str, Any]) -> Gradients:
    """Undo a pickle, by name: an older one knows fewer gradients."""
    return Gradients(**fields)
