"""What a file of channel statistics says, whatever it is written in: named fields, their versions, what is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ._moments import Moments, frozen, no_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._core import BoolArray

# Empty statistics, of an unknown number of channels, with extremes or without; or their moments.
Held: TypeAlias = "Moments | bool"

FORMAT = "batchnorm.ChannelStats"
# The first version that knows all of the fields is written, so that older readers read what they can.
_VERSION, _VERSION_WITH_WEIGHTS, _VERSION_WITH_EXTREMES = _VERSIONS = 1, 2, 3

_INT, _FLOAT = np.dtype(np.int64), np.dtype(np.float64)
# The mean is within the extremes up to this part of them, and to what flush_subnormals takes for 0.
_ROUNDING = 1e-11
_FLUSHED = float(np.finfo(np.float32).tiny)


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
    channels = -1 if unknown else len(moments.count)
    return {"format": FORMAT, "version": version, "channels": channels, **fields}


def held_in(fields: Mapping[str, Any]) -> Held:
    """Return what `fields_of` made these of; any exception tells of others. Lists are no arrays."""
    version = _integer("version", fields["version"])
    if version not in _VERSIONS:
        raise ValueError(f"version {version!r} (this batchnorm reads versions {_VERSION} to {_VERSIONS[-1]})")
    channels = _integer("channels", fields["channels"])
    weighted = version == _VERSION_WITH_WEIGHTS or (version == _VERSION_WITH_EXTREMES and "sum_weights" in fields)
    extremes = version == _VERSION_WITH_EXTREMES
    names = "mean", "m2", *["sum_weights"] * weighted, *["min", "max"] * extremes
    count = _of_dtype(fields["count"], _INT)
    floats = {name: _of_dtype(fields[name], _FLOAT) for name in names}
    moments = frozen(count, *(floats.get(name) for name in ("mean", "m2", "sum_weights", "min", "max")))  # type: ignore[arg-type]
    shapes = count.shape, moments.measure.shape, *(array.shape for array in floats.values())
    if channels < -1 or set(shapes) != {(max(channels, 0),)}:
        raise ValueError(f"shapes {shapes} for {channels} channels")
    for impossible, what in _impossibilities(moments):
        if impossible.any():
            raise ValueError(f"impossible numbers: {what} in channel {int(impossible.argmax())}")
    return extremes if channels < 0 else moments


def _impossibilities(moments: Moments) -> Iterator[tuple[BoolArray, str]]:
    """Return where the numbers cannot be those of any values, and what they are there."""
    count, mean, m2, _, minimum, maximum = moments.arrays
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
    if minimum is None or maximum is None:
        return
    yield (measure == 0) & ~(np.isnan(minimum) & np.isnan(maximum)), "extremes of no values"
    yield np.isnan(minimum) != np.isnan(maximum), "one of the extremes alone"
    yield minimum > maximum, "a minimum above the maximum"
    yield np.isnan(minimum) & ~np.isnan(mean), "no extremes of values that have a mean"
    with np.errstate(invalid="ignore"):  # of infinities
        slack = _ROUNDING * np.maximum(np.abs(minimum), np.abs(maximum)) + _FLUSHED
        outside = (mean < minimum - slack) | (mean > maximum + slack)
    yield outside & np.isfinite(mean), "a mean outside of the extremes"


def _integer(name: str, value: Any) -> int:
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "iu":
        raise ValueError(f"{name} of dtype {array.dtype} and shape {array.shape} in place of one int")
    return int(array)


def _of_dtype(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"an array of {array.dtype} in place of {dtype}")
    return array.astype(dtype)
