"""An array whose statistics are taken, with what of it counts, whole or in windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._masks import near_one
from ._moments import Moments, frozen, moments_of

_VALUES_PER_WINDOW = 2**20
_FEWEST_PER_CHANNEL = 2**12  # with fewer, Python takes longer than the kernels


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
        if weights is None:
            return moments_of(_core.channel_stats(x, axis, num_threads, mask, None, flush_subnormals))
        weights, exponent = near_one(weights)
        count, mean, m2, sums, _, _ = _core.channel_stats(x, axis, num_threads, mask, weights, flush_subnormals)
        assert sums is not None
        with np.errstate(over="ignore", under="ignore"):
            sums, m2 = np.ldexp(sums, exponent), np.ldexp(m2, exponent)
        if not np.isfinite(sums).all():
            raise OverflowError("sum_weights: the sum passes the largest float64")
        return frozen(Moments(count, mean, m2, sums))

    def of_channel(self, channel: int) -> Source:
        """Return a view of one channel, along axis 0."""
        return self._replace(x=np.moveaxis(self.x, self.axis, 0)[channel : channel + 1], axis=0)

    def windows(self, most: int | None = None) -> Iterator[Source]:
        """Return views of at most so many values per channel each; if omitted, of what a cache holds."""
        x = np.moveaxis(self.x, self.axis, 0)
        if most is None:
            most = max(_VALUES_PER_WINDOW // max(len(x), 1), _FEWEST_PER_CHANNEL)
        mask, weights = (None if a is None else np.broadcast_to(a, x.shape[1:]) for a in (self.mask, self.weights))
        for at in windows(x.shape[1:], most):
            of_all = slice(None), *at
            yield self._replace(
                x=x[of_all],
                axis=0,
                mask=None if mask is None else mask[at],
                weights=None if weights is None else weights[at],
            )


def windows(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Return slices that cut an array of this shape into windows of `most` elements, fixed by the shape alone."""
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    step = max(most // max(inner, 1), 1)
    for start in range(0, shape[0], step):
        for rest in [()] if inner <= most else windows(shape[1:], most):
            yield slice(start, start + step), *rest
