"""What becomes of NaN in an array whose statistics are taken.

Nothing is looked at where there is none: a NaN makes its channel's mean NaN, so the ordinary statistics are taken
first. Infinities make a mean NaN, too, so a channel is looked at before it is taken again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from ._moments import Moments, frozen, full_count, merged, no_values

if TYPE_CHECKING:
    from ._core import BoolArray

NAN_POLICIES = ["propagate", "omit", "raise"]

# A mask of that many bytes, and weights of eight times as many, fit in a core's cache.
_VALUES_PER_WINDOW = 2**18


class Source(NamedTuple):
    """An array and what of it counts. `mask` and `weights` broadcast to its shape without the channel axis."""

    x: np.ndarray[Any, Any]
    axis: int
    mask: np.ndarray[Any, Any] | None
    weights: np.ndarray[Any, Any] | None
    num_threads: int | None
    flush_subnormals: bool

    def moments(self) -> Moments:
        """Return the ordinary statistics; a TypeError or ValueError tells what is wrong with the arguments."""
        x, axis, mask, weights, num_threads, flush_subnormals = self
        count, total, mean, m2 = _core.channel_stats(x, axis, num_threads, mask, weights, flush_subnormals)
        weight = None if total is None else np.full(len(mean), total)
        return frozen(full_count(count, len(mean)), mean, m2, weight)

    def channel(self, channel: int) -> np.ndarray[Any, Any]:
        """Return a view of one channel."""
        view: np.ndarray[Any, Any] = np.moveaxis(self.x, self.axis, 0)[channel]
        return view

    def windows(self, channel: int) -> Iterator[Source]:
        """Return the channel in parts of bounded size, each as a source of one channel along axis 0."""
        values = self.channel(channel)
        mask, weights = (None if a is None else np.broadcast_to(a, values.shape) for a in (self.mask, self.weights))
        for at in windows(values.shape):
            part = values[at][None]
            yield self._replace(
                x=part,
                axis=0,
                mask=None if mask is None else mask[at],
                weights=None if weights is None else weights[at],
            )


def windows(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Return slices that cut an array of this shape into windows, fixed by the shape alone."""
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    step = max(_VALUES_PER_WINDOW // max(inner, 1), 1)
    for start in range(0, shape[0], step):
        for rest in [()] if inner <= _VALUES_PER_WINDOW else windows(shape[1:]):
            yield slice(start, start + step), *rest


def _counting_nan(window: Source) -> BoolArray:
    """Where a value is NaN that counts."""
    nan: BoolArray = np.isnan(window.x[0])
    if window.weights is not None:
        nan &= window.weights > 0
    elif window.mask is not None:
        nan &= window.mask
    return nan


def channels_with_nan(source: Source, moments: Moments) -> Iterator[int]:
    """Return the channels in which a NaN counts, of a source that has these moments."""
    if source.x.dtype.kind in "iu":
        return
    for channel in np.flatnonzero(np.isnan(moments.mean) & (moments.measure > 0)).tolist():
        if any(_counting_nan(window).any() for window in source.windows(channel)):
            yield channel


def without_nan(source: Source, channel: int) -> Moments:
    """Return the moments of one channel without its NaNs."""
    moments = no_values(1)
    for window in source.windows(channel):
        kept = ~_counting_nan(window)
        mask = kept if window.mask is None else kept & window.mask
        weights = None if window.weights is None else np.where(kept, window.weights, window.weights.dtype.type(0))
        moments = merged(moments, window._replace(mask=mask, weights=weights).moments())
    return moments
