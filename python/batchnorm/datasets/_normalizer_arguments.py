"""What a Normalizer is given, checked."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._channel_stats import ChannelStats
from .._checks import as_array, as_vector, read_only
from .._float_types import any_of, usual_float
from ._result import DatasetStatistics

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .._core import BoolArray, Float64Array

# In the units of x: mean, variance with eps, its root; and for the inverse 0 and 1.
Folded: TypeAlias = "tuple[Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]"

INTEGERS = "uint8", "int8", "uint16", "int16"  # float32 holds each of their values


def mean_and_var(
    stats: ChannelStats | DatasetStatistics | None,
    mean: ArrayLike | None,
    std: ArrayLike | None,
    var: ArrayLike | None,
) -> tuple[Float64Array, Float64Array]:
    """Return the statistics that were given one way or the other, checked, read-only."""
    if isinstance(stats, DatasetStatistics):
        stats = stats.stats
    if stats is not None:
        if not isinstance(stats, ChannelStats):
            raise TypeError(
                f"stats: expected a ChannelStats or DatasetStatistics, got {type(stats).__name__}; give a mean as mean="
            )
        if not (mean is None and std is None and var is None):
            raise TypeError("stats: expected statistics alone, got mean, std or var beside them")
        prefix, own_mean, own_var = "stats: ", stats.mean, stats.var()
        if not own_mean.size:
            raise ValueError("stats: expected statistics of at least one channel, got empty ones")
    elif mean is None or (std is None) == (var is None):
        raise TypeError("stats: expected a ChannelStats or DatasetStatistics, or a mean and either std or var")
    else:
        prefix, own_mean = "", _vector("mean", mean, None)
        if var is None:
            own_std = _vector("std", std, len(own_mean))
            _require("std", own_std, own_std >= 0, "values >= 0")
            own_var = own_std**2
            _require("std", own_std, np.isfinite(own_var) & ((own_var > 0) | (own_std == 0)), "values with a square")
        else:
            own_var = _vector("var", var, len(own_mean))
            _require("var", own_var, own_var >= 0, "values >= 0")
    for name, array in (("mean", own_mean), ("var", own_var)):
        _require(prefix + name, array, np.isfinite(array), "finite values")
    return read_only(own_mean), read_only(own_var)


def _vector(name: str, value: object, channels: int | None) -> Float64Array:
    """Return a new float64 array of shape (channels,)."""
    array = as_array(name, value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected numbers, got {array.dtype}")
    return as_vector(name, array.astype(np.float64), channels)


def _require(name: str, array: Float64Array, fine: BoolArray, expected: str) -> None:
    if not fine.all():
        channel = int(fine.argmin())
        raise ValueError(f"{name}: expected {expected}, got {array[channel].item()!r} in channel {channel}")


def as_scale(value: object) -> float:
    """Return a finite number above 0 as a float."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"scale: expected a number, got {type(value).__name__}")
    scale = float(value)
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: expected a finite number > 0, got {value!r}")
    return scale


def fold(mean: Float64Array, var: Float64Array, scale: float, eps: float) -> Folded:
    """Return what a call needs, in the units of x."""
    with np.errstate(over="ignore"):
        root = np.sqrt(var + eps) * scale
        folded = mean * scale, root**2, root, np.zeros(len(mean)), np.ones(len(mean))
    if not (np.isfinite(folded[0]) & np.isfinite(folded[1]) & ((folded[1] > 0) | (var + eps == 0))).all():
        raise ValueError(f"scale: expected one that keeps mean and variance in the range of float64, got {scale!r}")
    for array in folded:
        read_only(array)
    return folded


def output(
    name: str, array: NDArray[Any], out: NDArray[Any] | None, dtype: DTypeLike, possible: tuple[str, ...]
) -> NDArray[Any] | None:
    """Return the array to write to, or None where the core makes the same one, in memory that it keeps."""
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected {any_of(possible)}, got {dtype!r}") from None
    if wanted.name not in possible:
        raise TypeError(f"dtype: expected {any_of(possible)} for {array.dtype}, got {wanted}")
    if out is None:
        return None if wanted == usual_float(array.dtype) else np.empty_like(array, wanted, subok=False)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected an array, got {type(out).__name__}")
    if out.dtype != wanted:
        raise ValueError(f"out: expected dtype {wanted}, as asked for, got {out.dtype}")
    if out.shape != array.shape:
        raise ValueError(f"out: expected {name}'s shape {array.shape}, got {out.shape}")
    return out
