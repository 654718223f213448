"""What channel statistics tell, apart from how they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._checks import INT64_MAX, as_int
from ._moments import Moments, no_values, same, span

if TYPE_CHECKING:
    from ._core import Float64Array, Int64Array


class StatsValues:
    """Statistics per channel, as they are now."""

    __slots__ = ("_extremes", "_moments")
    # None until the number of channels is known. The arrays are read-only and replaced together, never written, so
    # that an error leaves everything as it was. Read once where several are needed: a thread may replace them between.
    _moments: Moments | None
    _extremes: bool  # whether the moments have them, once and for all

    __hash__ = None  # type: ignore[assignment]

    def _arrays_for(self, channels: int) -> Moments:
        """Return the moments; of `channels` as long as their number is unknown."""
        own = self._moments
        return no_values(channels, self._extremes) if own is None else own

    @property
    def count(self) -> Int64Array:
        return self._arrays_for(0).count

    @property
    def sum_weights(self) -> Float64Array:
        return self._arrays_for(0).measure

    @property
    def mean(self) -> Float64Array:
        return self._arrays_for(0).mean

    @property
    def m2(self) -> Float64Array:
        return self._arrays_for(0).m2

    @property
    def min(self) -> Float64Array | None:
        return self._arrays_for(0).minimum

    @property
    def max(self) -> Float64Array | None:
        return self._arrays_for(0).maximum

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
        ddof = min(as_int("ddof", ddof, 0), INT64_MAX)  # no count is greater
        moments = self._arrays_for(0)
        var = np.full(moments.count.shape, np.nan)
        measure = moments.count if moments.weights is None else moments.weights
        np.divide(moments.m2, measure - ddof, out=var, where=measure > ddof)
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StatsValues):
            return NotImplemented
        own, others = self._moments, other._moments
        if own is None or others is None:
            return own is others and self._extremes == other._extremes
        return same(own, others)

    def __repr__(self) -> str:
        name, own = type(self).__name__, self._moments
        if own is None:
            return f"{name}(extremes=True)" if self._extremes else f"{name}()"
        now = type(self).__new__(type(self))  # of one moment, whatever other threads do
        now._moments, now._extremes = own, self._extremes
        told = {"mean": own.mean, "std": now.std(), "min": own.minimum, "max": own.maximum}
        with np.printoptions(precision=4, threshold=8, edgeitems=2, linewidth=100):
            text = ", ".join(f"{name}={array}" for name, array in told.items() if array is not None)
        return f"<{name}: {len(own.count)} channels, count={span(own.count)}, {text}>"
