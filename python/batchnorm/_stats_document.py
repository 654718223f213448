"""What a file of channel statistics says, whatever it is written in: named fields, their versions, what is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import _core
from ._moments import Moments, frozen, no_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._core import BoolArray

# Empty statistics, of an unknown number of channels, with extremes or without; or their moments.
Held: TypeAlias = "Moments | bool"

_FORMAT = "batchnorm.ChannelStats"
# The first version that knows all of the fields is written, so that older readers read what they can.
_VERSION, _VERSION_WITH_WEIGHTS, _VERSION_WITH_EXTREMES = _VERSIONS = 1, 2, 3

INTS = "count", "total", "squares"
FLOATS = "mean", "m2", "sum_weights", "min", "max"
_ATTRIBUTES = {"sum_weights": "weights", "min": "minimum", "max": "maximum"}
_INT, _FLOAT = np.dtype(np.int64), np.dtype(np.float64)
# The mean is within the extremes up to this part of them, and to what flush_subnormals takes for 0.
_ROUNDING = 1e-11
_FLUSHED = float(np.finfo(np.float32).tiny)
_UNDERFLOW = 1e-300  # squares have lost digits below


def fields_of(held: Held) -> dict[str, Any]:
    """Return the fields to write, which `held_in` understands."""
    unknown = isinstance(held, bool)
    moments = no_values(0, held) if isinstance(held, bool) else held
    version = _VERSION if moments.weights is None else _VERSION_WITH_WEIGHTS
    fields = {"count": moments.count, "mean": moments.mean, "m2": moments.m2}
    if moments.weights is not None:
        fields["sum_weights"] = moments.weights
    if moments.minimum is not None and moments.maximum is not None:
        version = _VERSION_WITH_EXTREMES
        fields |= {"min": moments.minimum, "max": moments.maximum}
    if moments.total is not None and moments.squares is not None:
        fields |= {"total": moments.total, "squares": moments.squares}  # older readers do without
    channels = -1 if unknown else len(moments.count)
    return {"format": _FORMAT, "version": version, "channels": channels, **fields}


def held_in(fields: Mapping[str, Any]) -> Held:
    """Return what `fields_of` made these of; any exception tells of others."""
    if "format" not in fields or np.asarray(fields["format"]).tolist() != _FORMAT:
        raise ValueError("another format")
    version = _integer("version", fields)
    if version not in _VERSIONS:
        raise ValueError(f"version {version!r} (this batchnorm reads versions {_VERSION} to {_VERSIONS[-1]})")
    channels = _integer("channels", fields)
    weighted = version == _VERSION_WITH_WEIGHTS or (version == _VERSION_WITH_EXTREMES and "sum_weights" in fields)
    extremes = version == _VERSION_WITH_EXTREMES
    names = ["count", "mean", "m2"]
    names += ["sum_weights"] * weighted + ["min", "max"] * extremes + ["total", "squares"] * ("total" in fields)
    arrays = {name: _of_dtype(name, fields, _INT if name in INTS else _FLOAT) for name in names}
    moments = frozen(Moments(**{_ATTRIBUTES.get(name, name): array for name, array in arrays.items()}))
    shapes = tuple(array.shape for array in arrays.values())
    if channels < -1 or set(shapes) != {(max(channels, 0),)}:
        raise ValueError(f"shapes {shapes} for {channels} channels")
    with np.errstate(all="ignore"):  # of numbers that are far from possible, too
        for impossible, what in _impossibilities(moments):
            if impossible.any():
                raise ValueError(f"impossible numbers: {what} in channel {int(impossible.argmax())}")
    return extremes if channels < 0 else moments


def _impossibilities(moments: Moments) -> Iterator[tuple[BoolArray, str]]:
    """Return where the numbers cannot be those of any values, and what they are there."""
    count, mean, m2, _, minimum, maximum, total, squares = moments.arrays
    measure = moments.measure
    # NaN and Inf in the data, and deviations whose squares overflow, leave NaN or Inf in m2, so no more can be said.
    deviates = (m2 != 0) & ~(np.isnan(m2) & ~np.isfinite(mean))
    yield count < 0, "a negative count"
    yield m2 < 0, "a negative m2"
    yield ~((measure >= 0) & np.isfinite(measure)), "a negative or infinite sum of weights"
    yield (measure > 0) & (count == 0), "weights of no values"
    yield (measure == 0) & ~np.isnan(mean), "a mean of no values"
    yield (measure == 0) & (m2 != 0), "an m2 of no values that is not 0"
    yield (count == 1) & deviates, "an m2 of one value that is not 0"
    if total is not None and squares is not None:
        yield (count == 0) & ((total != 0) | (squares != 0)), "sums of no values that are not 0"
        its_mean, its_m2 = _core.moments_of_sums(count, total, squares)
        wrong = ~np.isclose(its_mean, mean, 1e-14, 0, equal_nan=True) | ~np.isclose(its_m2, m2, 1e-14, 0)
        yield wrong, "sums of integers that have another mean or m2"
    if minimum is None or maximum is None:
        return
    yield (measure == 0) & ~(np.isnan(minimum) & np.isnan(maximum)), "extremes of no values"
    yield np.isnan(minimum) != np.isnan(maximum), "one of the extremes alone"
    yield minimum > maximum, "a minimum above the maximum"
    yield np.isnan(minimum) & ~np.isnan(mean), "no extremes of values that have a mean"
    slack = _ROUNDING * np.maximum(np.abs(minimum), np.abs(maximum)) + _FLUSHED
    outside = (mean < minimum - slack) | (mean > maximum + slack)
    yield outside & np.isfinite(mean), "a mean outside of the extremes"
    # Bhatia & Davis (2000): no variance is larger than that of values that are all one of the extremes.
    most = measure * (maximum - mean + slack) * (mean - minimum + slack)
    yield np.isfinite(m2) & (m2 > (1 + _ROUNDING) * most + _UNDERFLOW), "an m2 too large for the extremes"
    if moments.weights is None:  # each of the extremes is a value, and the mean between them at best
        least = np.maximum(maximum - minimum - 2 * _FLUSHED, 0) ** 2 / 2
        yield np.isfinite(least) & (m2 < (1 - _ROUNDING) * least - _UNDERFLOW), "an m2 too small for the extremes"


def _field(name: str, fields: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    if name not in fields:
        raise ValueError(f"none of its {name}")
    return np.asarray(fields[name])


def _integer(name: str, fields: Mapping[str, Any]) -> int:
    array = _field(name, fields)
    if array.shape or array.dtype.kind not in "iu":
        raise ValueError(f"{name} of dtype {array.dtype} and shape {array.shape} in place of one int")
    return int(array)


def _of_dtype(name: str, fields: Mapping[str, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    array = _field(name, fields)
    if array.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"an array of {array.dtype} in place of {dtype} for {name}")
    return array.astype(dtype)
