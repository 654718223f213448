"""Count, mean and sum of squared deviations per channel as plain arrays: how parts are merged and taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import _core
from ._checks import read_only

if TYPE_CHECKING:
    from ._core import BoolArray, Float64Array, Int64Array, Stats

Arrays: TypeAlias = (
    "tuple[Int64Array, Float64Array, Float64Array, Float64Array | None, Float64Array | None, Float64Array | None, "
    "Int64Array | None, Int64Array | None]"
)

# What rounding may leave where nothing should be: of the moments, and of a mean that many merges made. The laws of
# merging allow as much.
_ROUNDING_OF_M2 = 1e-11
_ROUNDING_OF_MEAN = 1e-12


@dataclass(slots=True, eq=False)
class Moments:
    """Arrays of shape (C,), read-only. `minimum` and `maximum` are NaN where nothing was measured.

    `total` and `squares` are the exact sums of integers and of their squares, modulo 2**64; None where some values
    were none.
    """

    count: Int64Array
    mean: Float64Array
    m2: Float64Array
    weights: Float64Array | None = None  # what the weights of the values add up to, if they have some
    minimum: Float64Array | None = None
    maximum: Float64Array | None = None
    total: Int64Array | None = None
    squares: Int64Array | None = None

    @property
    def arrays(self) -> Arrays:
        """All of them, in the order of the fields."""
        return (
            self.count,
            self.mean,
            self.m2,
            self.weights,
            self.minimum,
            self.maximum,
            self.total,
            self.squares,
        )

    @property
    def sums(self) -> tuple[Int64Array, Int64Array] | None:
        """The exact sums of integers, which are known of no values, too."""
        if self.total is not None and self.squares is not None:
            return self.total, self.squares
        if self.weights is None and not self.count.any():
            return np.zeros_like(self.count), np.zeros_like(self.count)
        return None

    @property
    def measure(self) -> Float64Array:
        """How much the values of each channel count."""
        return read_only(self.count.astype(np.float64)) if self.weights is None else self.weights

    def stats(self, weighted: bool, of_integers: bool) -> Stats:
        """Return them as the core merges them, with weights and sums or without."""
        weights = self.measure if weighted else None
        total, squares = (of_integers and self.sums) or (None, None)
        return self.count, self.mean, self.m2, weights, total, squares


def moments_of(stats: Stats) -> Moments:
    """Return what the core made as moments without extremes."""
    count, mean, m2, weights, total, squares = stats
    return Moments(count, mean, m2, weights, None, None, total, squares)


def full_count(count: int, channels: int) -> Int64Array:
    """Return the count of each channel, read-only."""
    return read_only(np.full(channels, count, np.int64))


def span(count: Int64Array) -> str:
    """Return the smallest and the largest count, for a repr."""
    low, high = (int(count.min()), int(count.max())) if count.size else (0, 0)
    return f"{low}" if low == high else f"{low}..{high}"


def frozen(moments: Moments) -> Moments:
    """Return the very moments, whose arrays nobody can write to any more."""
    for array in moments.arrays:
        if array is not None:
            read_only(array)
    return moments


def no_values(channels: int, extremes: bool = False) -> Moments:
    """Return the moments of no values."""
    nan = np.full(channels, np.nan)
    extreme = nan if extremes else None
    return frozen(Moments(full_count(0, channels), nan, np.zeros(channels), None, extreme, extreme))


def placed(some: Moments, first: int, channels: int) -> Moments:
    """Return the moments of channels `first` and following as those of all channels; the others have no values."""

    def wide(array: np.ndarray[Any, Any] | None, nothing: float) -> Any:
        if array is None:
            return None
        whole = np.full(channels, nothing, array.dtype)
        whole[first : first + len(array)] = array
        return whole

    nothing = 0, np.nan, 0, 0, np.nan, np.nan, 0, 0
    return frozen(Moments(*map(wide, some.arrays, nothing)))


def first_channels(some: Moments, channels: int) -> Moments:
    """Return the moments of so many channels."""
    arrays: list[Any] = [None if array is None else array[:channels].copy() for array in some.arrays]
    return frozen(Moments(*arrays))


def same(a: Moments, b: Moments) -> bool:
    """Whether both hold the same numbers, NaN being equal to NaN."""
    if (a.minimum is None) != (b.minimum is None):
        return False
    pairs: list[tuple[Any, Any]] = [(a.count, b.count), (a.mean, b.mean), (a.m2, b.m2), (a.measure, b.measure)]
    if a.minimum is not None:
        pairs += [(a.minimum, b.minimum), (a.maximum, b.maximum)]
    return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)


def require_channels(name: str, own: Moments, other: Moments) -> None:
    """Refuse another number of channels."""
    channels, others = len(own.count), len(other.count)
    if others != channels:
        raise ValueError(f"{name}: expected {channels} channels, as in these statistics, got {others}")


def with_extremes(name: str, moments: Moments, kept: bool) -> Moments:
    """Return the moments with minimum and maximum if those are `kept`, else without."""
    if kept == (moments.minimum is not None):
        return moments
    if not kept:
        return replace(moments, minimum=None, maximum=None)
    if moments.count.any():
        raise ValueError(f"{name}: expected statistics with extremes, as these are, got some without")
    nan = read_only(np.full(len(moments.count), np.nan))
    return replace(moments, minimum=nan, maximum=nan)


def merged(a: Moments, b: Moments) -> Moments:
    """Return the moments of the values of both, which have as many channels, and extremes both or neither."""
    weighted = a.weights is not None or b.weights is not None
    of_integers = a.total is not None or b.total is not None
    both = moments_of(_core.merge_stats(a.stats(weighted, of_integers), b.stats(weighted, of_integers)))
    if a.minimum is None or a.maximum is None or b.minimum is None or b.maximum is None:
        return both
    none_in_a, none_in_b = a.measure == 0, b.measure == 0
    minimum, maximum = (
        np.where(none_in_a, y, np.where(none_in_b, x, outer(x, y)))
        for x, y, outer in ((a.minimum, b.minimum, np.minimum), (a.maximum, b.maximum, np.maximum))
    )
    return frozen(replace(both, minimum=minimum, maximum=maximum))


def subtracted(name: str, whole: Moments, part: Moments) -> Moments:
    """Return the moments of what is left of `whole` without `part`, of as many channels; a ValueError if none can be.

    The formula of Chan, Golub & LeVeque for the whole, solved for one of its parts.
    """

    def require(possible: BoolArray, what: str) -> None:
        if not possible.all():
            raise ValueError(f"{name}: expected a part of these statistics, got {what} in channel {possible.argmin()}")

    count = whole.count - part.count
    require(count >= 0, "more values than they have")
    weighted = whole.weights is not None or part.weights is not None
    n, n_part = whole.measure, part.measure
    left = n - n_part if weighted else count.astype(np.float64)
    if weighted:
        nothing = np.abs(left) <= _ROUNDING_OF_MEAN * n
        require((left >= 0) | nothing, "more weight than they have")
        left[nothing] = 0
        require((left == 0) | (count > 0), "all of their values, but not all of their weight")
    some = n_part > 0
    for own, others in ((whole.mean, part.mean), (whole.m2, part.m2)):
        require(~some | np.isfinite(others) | ~np.isfinite(own), "values that are not finite, unlike theirs,")
    with np.errstate(all="ignore"):
        apart = part.mean - whole.mean
        share = np.where(left > 0, n_part / left, 0)
        mean = np.where(some, whole.mean - apart * share, whole.mean)
        m2 = np.where(some, whole.m2 - part.m2 - apart**2 * share * n, whole.m2)
        # How far from the exact numbers these may be.
        std = np.sqrt(whole.m2 / n)
        off = _ROUNDING_OF_MEAN * np.maximum(np.maximum(np.abs(whole.mean), np.abs(part.mean)), std)
        rounding = _ROUNDING_OF_M2 * (whole.m2 + part.m2) + n * off * (std + off)
        rounding += n * share * off * (2 * np.abs(apart) + off)
    sums: tuple[Int64Array | None, Int64Array | None] = None, None
    if whole.sums is not None and part.sums is not None:
        sums = whole.sums[0] - part.sums[0], whole.sums[1] - part.sums[1]
        mean, m2 = _core.moments_of_sums(count, *sums)
        off[:] = rounding[:] = 0
    told = some & np.isfinite(m2)  # what is not finite tells nothing of what is left
    require(~told | (m2 >= -rounding), "larger deviations than theirs")
    require(~told | (left > 0) & (count > 1) | (m2 <= rounding), "smaller deviations than theirs, but for one value,")
    require(~told | (left > 0) | (np.abs(apart) <= off), "all of their values with another mean")
    m2 = np.where(some & ~np.isfinite(m2), np.nan, np.maximum(m2, 0))
    mean[(left == 0) | some & ~np.isfinite(whole.mean)] = np.nan
    m2[(left == 0) | (count == 1) & np.isfinite(mean)] = 0  # one value does not deviate
    return frozen(Moments(count, mean, m2, left if weighted else None, None, None, *sums))
