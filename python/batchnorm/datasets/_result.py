"""What comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._channel_stats import ChannelStats

if TYPE_CHECKING:
    from .._core import Float64Array, Int64Array


@dataclass(frozen=True)
class DatasetStatistics:
    """What `statistics` returns.

    Attributes
    ----------
    stats : ChannelStats
        Statistics of all values, ready to be saved, or merged with others.
    items : int
        Number of images, arrays or files that were counted.
    skipped : tuple of (str, str)
        Name and reason of what could not be read, in the order of the source.
    count : ndarray, int64, shape (C,)
        Number of values per channel.
    mean, std : ndarray, float64, shape (C,)
        Mean, and standard deviation, the biased one (divided by the count), which normalization takes.
    min, max : ndarray, float64, shape (C,), or None
        Smallest and largest value, NaN where there are none; None without ``extremes``.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.datasets import statistics
    >>> result = statistics(np.array([[1.0, 5.0], [3.0, 5.0]]), extremes=True)
    >>> result.mean.tolist(), result.std.tolist(), result.max.tolist(), result.items
    ([2.0, 5.0], [1.0, 0.0], [3.0, 5.0], 1)
    """

    stats: ChannelStats
    items: int
    skipped: tuple[tuple[str, str], ...] = ()

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> Int64Array:
        return self.stats.count

    @property
    def mean(self) -> Float64Array:
        return self.stats.mean

    @property
    def std(self) -> Float64Array:
        return self.stats.std()

    @property
    def min(self) -> Float64Array | None:
        return self.stats.min

    @property
    def max(self) -> Float64Array | None:
        return self.stats.max
