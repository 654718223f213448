"""Statistics and normalization of one block of a larger array, for `batchnorm.dask` and `batchnorm.xarray`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._channel_stats import ChannelStats
from ._checks import as_vector
from ._float_types import any_of, floats_for, usual_float
from ._forward import batch_norm_inference
from ._moments import Moments, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from ._core import FloatArray

    Array = np.ndarray[Any, Any]


def axis_of(axis: Any, shape: tuple[int, ...]) -> int | None:
    """Return the channel axis counted from the first, or None."""
    if axis is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"x: expected at least 2 dimensions, got shape {shape}")
    return _core.check_axis(axis, shape)


def normalized(
    block: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    axis: int | None,
    eps: float,
    dtype: DTypeLike,
    num_threads: int | None,
) -> FloatArray:
    """Return `batch_norm_inference` of a block, of a dtype that `result_dtype` has returned."""
    out = np.empty_like(block, dtype=dtype)
    x, along = _with_axis(block, axis)
    y, _ = _with_axis(out, axis)
    batch_norm_inference(x, mean, var, weight, bias, eps=eps, axis=along, out=y, num_threads=num_threads)
    return out


def _with_axis(block: Array, axis: int | None) -> tuple[Array, int]:
    """Return a view with a channel axis: one of length 1, if `axis` is None."""
    return (block[None, None], 0) if axis is None else (block, axis)


def result_dtype(dtype: DTypeLike | None, x: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of normalized values of dtype `x`, the given one or the default."""
    if dtype is None:
        return usual_float(x)
    given = np.dtype(dtype)
    if given.name not in floats_for(x) or not given.isnative:
        raise TypeError(f"dtype: expected {any_of(floats_for(x))} for values of {x}, got {given}")
    return given


def parameters_of(
    stats: ChannelStats, weight: ArrayLike | None, bias: ArrayLike | None, channels: int | None
) -> tuple[Array, Array, Array | None, Array | None]:
    """Return mean, variance, weight and bias of so many channels; of any number if None."""
    if not isinstance(stats, ChannelStats):
        raise TypeError(f"stats: expected a ChannelStats, got {type(stats).__name__}")
    mean = stats.mean
    if channels not in (None, len(mean)):
        raise ValueError(f"stats: expected {channels} channels, as in x, got {len(mean)}")
    scale = None if weight is None else as_vector("weight", weight, len(mean))
    shift = None if bias is None else as_vector("bias", bias, len(mean))
    return mean, stats.var(), scale, shift


def joined(parts: Sequence[ChannelStats]) -> ChannelStats:
    """Return the statistics of ranges of channels, none of which is without a number of them, as those of all."""
    if len(parts) == 1:
        return parts[0]
    fields: list[Any] = []
    for arrays in zip(*(part._moments.arrays for part in parts if part._moments is not None), strict=True):
        # What is not known of a range is not known of all.
        fields.append(None if any(array is None for array in arrays) else np.concatenate(arrays))
    return ChannelStats._holding(frozen(Moments(*fields)))
