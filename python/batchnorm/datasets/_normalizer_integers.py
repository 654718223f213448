"""The inverse of a Normalizer in integers: rounded and clipped, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._channel_stats import channel_stats
from .._checks import require_writeable
from .._source import windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import FloatArray

Inverse: TypeAlias = "Callable[[NDArray[Any], FloatArray], FloatArray]"

_VALUES_PER_BLOCK = 2**17  # 512 KiB of float32, which stay in a core's cache from one step to the next


def to_integers(
    y: NDArray[Any], out: NDArray[Any], axis: int, num_threads: int | None, inverse: Inverse
) -> NDArray[Any]:
    """Write the inverse of y to an array of integers; where there would be a NaN, an error, and nothing is written."""
    require_writeable("out", out)
    if np.may_share_memory(y, out):
        raise ValueError("out: expected memory apart from y for integers, got some of y's")
    # Only what is not finite becomes NaN, and that leaves no finite mean.
    stats = channel_stats(y, axis=axis, num_threads=num_threads)
    if not np.isfinite(stats.mean[stats.count > 0]).all():
        _refuse_nan(y, out.dtype, axis, inverse)
    info = np.iinfo(out.dtype)
    for block, x in _inverse_blocks(y, axis, inverse):
        np.clip(np.rint(x, out=x), info.min, info.max, out=x)
        out[block] = x
    return out


def _refuse_nan(y: NDArray[Any], dtype: np.dtype[Any], axis: int, inverse: Inverse) -> None:
    for block, x in _inverse_blocks(y, axis, inverse):
        if np.isnan(x).any():
            got = "one" if np.isnan(y[block]).any() else "infinity times a standard deviation of 0"
            raise ValueError(f"y: expected no NaN to make {dtype} of, got {got}")


def _inverse_blocks(y: NDArray[Any], axis: int, inverse: Inverse) -> Iterator[tuple[tuple[slice, ...], FloatArray]]:
    """Yield where each block lies, and its inverse."""
    wide = np.float64 if y.dtype == np.float64 else np.float32
    for block in _blocks(y.shape, axis % y.ndim):
        yield block, inverse(y[block], np.empty_like(y[block], wide))


def _blocks(shape: tuple[int, ...], axis: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks with all channels."""
    others = shape[:axis] + shape[axis + 1 :]
    for at in windows(others, max(_VALUES_PER_BLOCK // max(shape[axis], 1), 1)):
        yield *at[:axis], slice(None), *at[axis:]
