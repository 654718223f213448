"""Statistics per channel as an object that can be updated, merged and saved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._checks import INT64_MAX, as_int, read_only
from ._masks import as_weights, mask_of
from ._stats_file import read_stats, write_stats
from ._threads import context_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._core import Float64Array, Int64Array
    from ._stats_file import Moments


def full_count(count: int, channels: int) -> Int64Array:
    """Return the count of each channel, read-only."""
    return read_only(np.full(channels, count, np.int64))


def span(count: Int64Array) -> str:
    """Return the smallest and the largest count, for a repr."""
    low, high = (int(count.min()), int(count.max())) if count.size else (0, 0)
    return f"{low}" if low == high else f"{low}..{high}"


class ChannelStats:
    """Count, mean and sum of squared deviations per channel, that can be updated and merged in any order.

    A new one is empty and takes its number of channels C from the first update or merge. `channel_stats` makes one
    from an array. Two are equal if they hold the same numbers; they cannot be hashed, since they change.

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

    Notes
    -----
    Two sets of values merge by the pairwise formula of Chan, Golub & LeVeque (1979; 1983), in float64::

        delta = mean_b - mean_a
        mean  = mean_a + delta * count_b / (count_a + count_b)
        m2    = m2_a + m2_b + delta**2 * count_a * count_b / (count_a + count_b)

    where the counts are sums of weights, if there are some. So the parts of a data set may be gathered by several
    processes or threads, and merged later. Each thread needs its own: of two updates of one object that meet, one may
    be lost. The arrays are read-only and keep their values when the statistics change.

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

    __slots__ = ("_moments",)
    # None until the number of channels is known. The arrays are read-only and replaced together, never written, so
    # that an error leaves everything as it was. Read once where several are needed: a thread may replace them between.
    _moments: Moments | None

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self._moments = None

    @classmethod
    def _of(
        cls, count: Int64Array, mean: Float64Array, m2: Float64Array, weights: Float64Array | None = None
    ) -> ChannelStats:
        """Make one that owns these arrays: unchecked, not copied."""
        self = cls()
        weights = None if weights is None else read_only(weights)
        self._moments = read_only(count), read_only(mean), read_only(m2), weights
        return self

    def _arrays_for(self, channels: int) -> Moments:
        """Return count, mean, m2 and the sum of weights or None; of `channels` as long as their number is unknown."""
        own = self._moments
        if own is None:
            return full_count(0, channels), read_only(np.full(channels, np.nan)), read_only(np.zeros(channels)), None
        return own

    @property
    def count(self) -> Int64Array:
        return self._arrays_for(0)[0]

    @property
    def sum_weights(self) -> Float64Array:
        return measure_of(self._arrays_for(0))

    @property
    def mean(self) -> Float64Array:
        return self._arrays_for(0)[1]

    @property
    def m2(self) -> Float64Array:
        return self._arrays_for(0)[2]

    def var(self, ddof: int = 0) -> Float64Array:
        """Return the variance per channel.

        Parameters
        ----------
        ddof : int, default 0
            0 for the biased variance, 1 for the unbiased one; not negative.

        Returns
        -------
        ndarray, float64, shape (C,)
            ``m2 / (sum_weights - ddof)``, NaN where `sum_weights` is not greater than `ddof`. With `ddof` 1 weights are
            thus taken as how often a value was seen.

        Raises
        ------
        TypeError
            `ddof` is not an int.
        ValueError
            `ddof` is negative.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> bn.channel_stats(np.array([[1.0], [3.0]])).var(ddof=1).tolist()
        [2.0]
        """
        ddof = as_int("ddof", ddof)
        if ddof < 0:
            raise ValueError(f"ddof: expected an int >= 0, got {ddof}")
        ddof = min(ddof, INT64_MAX)  # no count is greater
        count, _, m2, weights = self._arrays_for(0)
        var = np.full(count.shape, np.nan)
        measure = count if weights is None else weights
        np.divide(m2, measure - ddof, out=var, where=measure > ddof)
        return var

    def std(self, ddof: int = 0) -> Float64Array:
        """Return the standard deviation per channel, the square root of `var`.

        Parameters
        ----------
        ddof : int, default 0
            As for `var`.

        Returns
        -------
        ndarray, float64, shape (C,)
            NaN where `sum_weights` is not greater than `ddof`.

        Raises
        ------
        TypeError
            `ddof` is not an int.
        ValueError
            `ddof` is negative.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> bn.channel_stats(np.array([[1.0], [3.0]])).std().tolist()
        [1.0]
        """
        std: Float64Array = np.sqrt(self.var(ddof))
        return std

    def update(
        self,
        x: ArrayLike,
        *,
        axis: int = 1,
        num_threads: int | None = None,
        mask: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        flush_subnormals: bool = False,
    ) -> ChannelStats:
        """Take in the values of an array.

        Parameters
        ----------
        x : array_like, at least 2 dimensions
            Of float16, bfloat16, float32, float64, uint8, int8, uint16 or int16.
            C values or more, C of them along `axis`.
        axis : int, default 1
            Channel axis.
        num_threads : int, optional
            Number of threads for this call.
        mask, lengths, weights, flush_subnormals : optional
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
            `x` has fewer than 2 dimensions or another number of channels, or `axis` is out of range.
        OverflowError
            A count would pass 2**63 - 1.

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
        stats = channel_stats(
            x,
            axis=axis,
            num_threads=num_threads,
            mask=mask,
            lengths=lengths,
            weights=weights,
            flush_subnormals=flush_subnormals,
        )
        assert stats._moments is not None
        self._absorb("x", stats._moments)
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
            `other` has another number of channels.
        OverflowError
            A count would pass 2**63 - 1.

        Notes
        -----
        After an error nothing has changed. ``a + b`` makes a new object of the same numbers.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> a = bn.channel_stats(np.array([[0.0], [2.0]]))
        >>> b = bn.channel_stats(np.array([[4.0], [6.0]]))
        >>> (a + b).mean.tolist(), a.merge(b) == a, a.mean.tolist()
        ([3.0], True, [3.0])
        """
        if not isinstance(other, ChannelStats):
            raise TypeError(f"other: expected a ChannelStats, got {type(other).__name__}")
        moments = other._moments
        if moments is not None:
            self._absorb("other", moments)
        return self

    def _absorb(self, name: str, other: Moments) -> None:
        own = self._moments
        if own is None:
            self._moments = other
            return
        channels, others = len(own[0]), len(other[0])
        if others != channels:
            raise ValueError(f"{name}: expected {channels} channels, as in these statistics, got {others}")
        count, mean, m2 = own[0].copy(), own[1].copy(), own[2].copy()
        weights = others_weights = None
        if own[3] is not None or other[3] is not None:
            weights, others_weights = measure_of(own).copy(), measure_of(other)
        _core.merge_stats(count, weights, mean, m2, other[0], others_weights, other[1], other[2])
        self._moments = (
            read_only(count),
            read_only(mean),
            read_only(m2),
            None if weights is None else read_only(weights),
        )

    def __add__(self, other: ChannelStats) -> ChannelStats:
        if not isinstance(other, ChannelStats):
            return NotImplemented
        return ChannelStats().merge(self).merge(other)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelStats):
            return NotImplemented
        own, others = self._moments, other._moments
        if own is None or others is None:
            return own is others
        pairs = (own[0], others[0]), (own[1], others[1]), (own[2], others[2]), (measure_of(own), measure_of(others))
        return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics to a file.

        Parameters
        ----------
        path : str or path-like
            File to write, usually named ``*.npz``; nothing is appended to the name. A file that is there is replaced,
            at once and whole.

        Raises
        ------
        OSError
            The file cannot be written. One that was there is as it was.

        Notes
        -----
        The file is a NumPy ``.npz`` with ``format``, ``version``, ``channels`` (-1 while that is unknown), ``count``,
        ``mean`` and ``m2``; where values have weights, with ``sum_weights``. The numbers are kept exactly.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> stats = bn.channel_stats(np.array([[1.0], [3.0]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stats.save(os.path.join(folder, "stats.npz"))
        ...     bn.ChannelStats.load(os.path.join(folder, "stats.npz")) == stats
        True
        """
        write_stats(path, self._moments)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ChannelStats:
        """Read statistics that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            File to read.

        Returns
        -------
        ChannelStats

        Raises
        ------
        OSError
            The file cannot be opened.
        ValueError
            The file is damaged, was not written by `save`, or by a newer version of it.

        Notes
        -----
        Nothing in the file is run: pickled objects are refused.

        Examples
        --------
        >>> import os, tempfile
        >>> import batchnorm as bn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bn.ChannelStats().save(os.path.join(folder, "stats.npz"))
        ...     bn.ChannelStats.load(os.path.join(folder, "stats.npz"))
        ChannelStats()
        """
        moments = read_stats(path)
        return cls() if moments is None else cls._of(*moments)

    def __reduce__(self) -> tuple[Any, ...]:
        own = self._moments
        return (ChannelStats, ()) if own is None else (ChannelStats._of, own)

    def __copy__(self) -> ChannelStats:
        return ChannelStats().merge(self)

    def __deepcopy__(self, memo: object) -> ChannelStats:
        return ChannelStats().merge(self)

    def __repr__(self) -> str:
        now = ChannelStats().merge(self)
        if now._moments is None:
            return "ChannelStats()"
        with np.printoptions(precision=4, threshold=8, edgeitems=2, linewidth=100):
            mean, std = str(now.mean), str(now.std())
        return f"<ChannelStats: {len(now.count)} channels, count={span(now.count)}, mean={mean}, std={std}>"


def measure_of(moments: Moments) -> Float64Array:
    """Return how much the values of each channel count."""
    count, _, _, weights = moments
    return read_only(count.astype(np.float64)) if weights is None else weights


def channel_stats(
    x: ArrayLike,
    *,
    axis: int = 1,
    num_threads: int | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    flush_subnormals: bool = False,
) -> ChannelStats:
    """Return count, mean and sum of squared deviations of each channel.

    Parameters
    ----------
    x : array_like, at least 2 dimensions
        Of float16, bfloat16, float32, float64, uint8, int8, uint16 or int16.
        Values, with C channels along `axis`; any strides.
    axis : int, default 1
        Channel axis.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    mask : array_like of bool, optional
        Which values count, broadcast to the shape of x without its channel axis; the others may be NaN.
    lengths : array_like of int, shape (N,), optional
        In place of a mask: how many positions of each sequence count, for x of shape (N, C, L) or (N, L, C).
    weights : array_like, float32 or float64, optional
        How much each value counts, finite and >= 0, broadcast as a mask is. A value of weight 0 may be NaN.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, see `batch_norm_train`.

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
        positive, or a weight is negative or not finite.

    Notes
    -----
    Blocks take their moments about a value inside the data and are merged by the formula of Chan, Golub & LeVeque
    (1979; 1983) in an order that depends on the shape alone, so a large mean does not spoil the variance and the
    number of threads does not change a bit of it. An array without values gives ``count`` 0. Unlike ``numpy.var`` it
    is right for float32 in any layout.

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
    """
    if lengths is not None:
        mask = mask_of(x, axis, mask, lengths)
    if weights is not None:
        weights = as_weights(weights, mask)
    threads = context_num_threads() if num_threads is None else num_threads
    count, total, mean, m2 = _core.channel_stats(x, axis, threads, mask, weights, flush_subnormals)
    of_channels = None if total is None else np.full(len(mean), total)
    return ChannelStats._of(full_count(count, len(mean)), mean, m2, of_channels)
