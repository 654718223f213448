"""Statistics per channel as an object that can be updated, merged and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from . import _core
from ._gather import gather
from ._moments import Moments, merged, require_channels, subtracted, with_extremes
from ._stats_kept import KeptStats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class ChannelStats(KeptStats):
    """Count, mean and sum of squared deviations per channel, that can be updated and merged in any order.

    A new one is empty and takes its number of channels C from the first update or merge. `channel_stats` makes one
    from an array. Two are equal if they hold the same numbers; they cannot be hashed, since they change.

    Parameters
    ----------
    extremes : bool, default False
        Whether minimum and maximum are kept, too, which takes a second look at the values. They can be merged, but not
        subtracted.

    Attributes
    ----------
    count : ndarray, int64, shape (C,)
        Number of values per channel.
    sum_weights : ndarray, float64, shape (C,)
        What the weights of the values add up to; equal to `count` where none were given.
    mean : ndarray, float64, shape (C,)
        Mean, NaN where `sum_weights` is 0.
    m2 : ndarray, float64, shape (C,)
        Sum of squared deviations from the mean, each times its weight.
    min, max : ndarray, float64, shape (C,), or None
        Smallest and largest value, of those that have a weight if there are weights. NaN where `sum_weights` is 0 or
        a value is NaN. None if extremes aren't kept.

    Raises
    ------
    TypeError
        `extremes` is not a bool.

    Notes
    -----
    Two sets of values merge by the pairwise formula of Chan, Golub & LeVeque (1979; 1983), in float64::

        delta = mean_b - mean_a
        mean  = mean_a + delta * count_b / (count_a + count_b)
        m2    = m2_a + m2_b + delta**2 * count_a * count_b / (count_a + count_b)

    where the counts are sums of weights, if there are some. So the parts of a data set may be gathered by several
    processes or threads, and merged later. Each thread needs its own: of two updates of one object that meet, one may
    be lost. The arrays are read-only and keep their values when the statistics change.

    Of integers, without weights, the exact sums are kept along, so `mean` and `m2` are the exact ones rounded once, the
    same in whatever order and parts they come. That ends with the first values that are no integers, and where `m2` or
    a sum passes 2**61, or the sum of one array might pass 2**53.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, Updating formulae and a pairwise algorithm for computing sample variances,
    Stanford STAN-CS-79-773, 1979; Algorithms for computing the sample variance: analysis and recommendations, The
    American Statistician 37 (1983) 242-247.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> stats = bn.ChannelStats()
    >>> for batch in np.array([[[0.8], [1.2]], [[0.9], [1.1]]]):
    ...     stats = stats.update(batch)
    >>> stats.count.tolist(), stats.mean.round(12).tolist(), stats.var().round(12).tolist()
    ([4], [1.0], [0.025])
    """

    __slots__ = ()

    def __init__(self, *, extremes: bool = False) -> None:
        super().__init__(extremes=_core.check_flag(extremes, "extremes"))

    def update(
        self,
        x: ArrayLike,
        *,
        axis: int | None = 1,
        num_threads: int | None = None,
        mask: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        flush_subnormals: bool = False,
        nan_policy: Literal["propagate", "omit", "raise"] = "propagate",
    ) -> ChannelStats:
        """Take in the values of an array.

        Parameters
        ----------
        x : array_like, at least 2 dimensions
            Of float16, bfloat16, float32, float64, uint8, int8, uint16 or int16.
            C values or more, C of them along `axis`.
        axis : int or None, default 1
            Channel axis. None takes all values of x, of any number of dimensions, as one channel.
        num_threads : int, optional
            Number of threads for this call.
        mask, lengths, weights, flush_subnormals, nan_policy : optional
            As for `channel_stats`. Statistics with weights and without can be merged: a value without one weighs 1.

        Returns
        -------
        ChannelStats
            This very object.

        Raises
        ------
        TypeError
            An argument is of the wrong type or dtype.
        ValueError
            `x` has fewer than 2 dimensions or another number of channels, `axis` is out of range, or `nan_policy` is
            "raise" and there is a NaN.
        OverflowError
            A count would pass 2**63 - 1, or a sum of weights what float64 holds.

        Notes
        -----
        After an error nothing has changed.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> bn.ChannelStats().update(np.zeros((2, 3, 4, 4))).count.tolist()
        [32, 32, 32]
        """
        moments = gather(
            x, axis, num_threads, mask, lengths, weights, flush_subnormals, nan_policy, extremes=self._extremes
        )
        self._absorb("x", moments)
        return self

    def merge(self, other: ChannelStats) -> ChannelStats:
        """Take in the values that other statistics were made of.

        Parameters
        ----------
        other : ChannelStats
            Statistics of as many channels, or empty. It may be this very object, whose values then count twice.

        Returns
        -------
        ChannelStats
            This very object.

        Raises
        ------
        TypeError
            `other` is not a `ChannelStats`.
        ValueError
            `other` has another number of channels, or values but no extremes, where these statistics keep them.
        OverflowError
            A count would pass 2**63 - 1, or a sum of weights what float64 holds.

        Notes
        -----
        After an error nothing has changed. Extremes of `other` that aren't kept here are dropped. ``a + b`` makes a new
        object of the same numbers, with extremes where both have them; one without values never stands in the way.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> a = bn.channel_stats(np.array([[0.0], [2.0]]))
        >>> b = bn.channel_stats(np.array([[4.0], [6.0]]))
        >>> (a + b).mean.tolist(), a.merge(b) == a, a.mean.tolist()
        ([3.0], True, [3.0])
        """
        moments = _moments_of(other)
        if moments is not None:
            self._absorb("other", moments)
        return self

    def _absorb(self, name: str, other: Moments) -> None:
        own = self._moments
        if own is not None:
            require_channels(name, own, other)
        other = with_extremes(name, other, self._extremes)
        self._moments = other if own is None else merged(own, other)

    def subtract(self, other: ChannelStats) -> ChannelStats:
        """Take out the values that other statistics were made of, which were merged before.

        Parameters
        ----------
        other : ChannelStats
            Statistics of a part of the values, or empty. It may be this very object, of which nothing is left then.

        Returns
        -------
        ChannelStats
            This very object.

        Raises
        ------
        TypeError
            `other` is not a `ChannelStats`.
        ValueError
            These statistics keep extremes; nothing tells what the next smallest value is. `other` has another number
            of channels. Or it can be no part of these statistics: it has more values or weight, its deviations are
            larger than theirs beyond what rounding explains, or it has all of their values with another mean.

        Notes
        -----
        After an error nothing has changed. ``a - b`` makes a new object of the same numbers.

        The formula of Chan, Golub & LeVeque (see the class) for a whole of parts a and b, solved for a::

            count_a = count - count_b
            delta   = mean_b - mean
            mean_a  = mean - delta * count_b / count_a
            m2_a    = m2 - m2_b - delta**2 * count_b * count / count_a

        The condition: **all values of `other` are among those of these statistics**. Only what contradicts it by its
        numbers is found. The differences cancel: `m2` keeps the absolute error of the whole, so its relative error
        grows by ``m2 / m2_a``, and that of the mean by ``count / count_a``. A small rest of a wide whole thus has few
        right digits, where gathering it anew has all. An `m2` that rounding would leave negative is 0. What rounding
        explains is reckoned from the numbers that are there: after a difference that cancelled much, a later one may
        be refused. A channel whose mean or `m2` is not finite stays so: what a NaN replaced is not known.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> old, new = bn.channel_stats(np.array([[1.0], [3.0]])), bn.channel_stats(np.array([[5.0], [9.0]]))
        >>> window = old + new
        >>> window.subtract(old).mean.tolist(), window.m2.tolist()
        ([7.0], [8.0])
        """
        part = _moments_of(other)
        if self._extremes:
            raise ValueError(
                "other: expected a whole without extremes, got one with extremes, which can't be subtracted"
            )
        if part is not None:
            whole = self._arrays_for(len(part.count))
            require_channels("other", whole, part)
            left = subtracted("other", whole, part)
            self._moments = None if self._moments is None else left
        return self

    def __add__(self, other: ChannelStats) -> ChannelStats:
        if not isinstance(other, ChannelStats):
            return NotImplemented
        extremes = self._extremes
        if other._extremes != extremes:
            extremes = all(stats._extremes for stats in (self, other) if stats.count.any())
        return ChannelStats(extremes=extremes).merge(self).merge(other)

    def __sub__(self, other: ChannelStats) -> ChannelStats:
        if not isinstance(other, ChannelStats):
            return NotImplemented
        return self.__copy__().subtract(other)


def _moments_of(other: object) -> Moments | None:
    if not isinstance(other, ChannelStats):
        raise TypeError(f"other: expected a ChannelStats, got {type(other).__name__}")
    return other._moments


def channel_stats(
    x: ArrayLike,
    *,
    axis: int | None = 1,
    num_threads: int | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    flush_subnormals: bool = False,
    nan_policy: Literal["propagate", "omit", "raise"] = "propagate",
    extremes: bool = False,
) -> ChannelStats:
    """Return count, mean and sum of squared deviations of each channel.

    Parameters
    ----------
    x : array_like, at least 2 dimensions
        Of float16, bfloat16, float32, float64, uint8, int8, uint16 or int16.
        Values, with C channels along `axis`; any strides.
    axis : int or None, default 1
        Channel axis. None takes all values of x as one channel; x may then have any number of dimensions, and masks
        and weights have its whole shape.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    mask : array_like of bool, optional
        Which values count, broadcast to the shape of x without its channel axis; the others may be NaN.
    lengths : array_like of int, shape (N,), optional
        In place of a mask: how many positions of each sequence count, for x of shape (N, C, L) or (N, L, C).
    weights : array_like, float32 or float64, optional
        How much each value counts, finite and >= 0, broadcast as a mask is. A value of weight 0 may be NaN.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, see `batch_norm_train`. Extremes are as they are.
    nan_policy : {"propagate", "omit", "raise"}, default "propagate"
        What becomes of NaN that counts, by mask and weights: it makes the statistics of its channel NaN, it is left out
        of its channel alone and not counted, or it is an error.
    extremes : bool, default False
        Whether the statistics keep minimum and maximum, too, which takes a second look at the values.

    Returns
    -------
    ChannelStats
        Statistics in float64 of C channels.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        `x` has fewer than 2 dimensions, an argument has the wrong shape, `axis` is out of range, `num_threads` is not
        positive, a weight is negative or not finite, or `nan_policy` is "raise" and there is a NaN.
    OverflowError
        The weights add up to more than float64 holds.

    Notes
    -----
    Blocks take their moments about a value inside the data and are merged by the formula of Chan, Golub & LeVeque
    (1979; 1983) in an order that depends on the shape alone, so a large mean does not spoil the variance and the
    number of threads does not change a bit of it. An array without values gives ``count`` 0. Unlike ``numpy.var`` it
    is right for float32 in any layout. Where a value is infinite, the mean is infinite or NaN, and m2 not finite.

    No value is looked at for NaN where there is none: only channels whose mean came out NaN are taken again, in windows
    of bounded memory.

    With weights ``mean = sum(w * x) / sum(w)`` and ``m2 = sum(w * (x - mean)**2)`` (West 1979), in float64.

    References
    ----------
    D. H. D. West, Updating mean and variance estimates: an improved method, Communications of the ACM 22 (1979)
    532-535.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> stats = bn.channel_stats(np.ones((64, 32, 32, 3), np.float32), axis=-1)
    >>> stats.mean.tolist(), stats.var().tolist()
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    >>> stats = bn.channel_stats(np.array([[1.0, 2.0], [np.nan, 4.0]]), nan_policy="omit", extremes=True)
    >>> stats.count.tolist(), stats.mean.tolist(), stats.max.tolist()
    ([1, 2], [1.0, 3.0], [1.0, 4.0])
    """
    extremes = _core.check_flag(extremes, "extremes")
    return ChannelStats._holding(
        gather(x, axis, num_threads, mask, lengths, weights, flush_subnormals, nan_policy, extremes)
    )
