"""Exact sums of integers, so that parts of integer data merge to the very bits of the whole, in any order.

Mean and m2 of one call are rounded about once, so the integers behind them are found again as long as they are small
enough. They are kept as sums and sums of squares, the latter modulo 2**64, as is all arithmetic of them: only what is
left about an integer near the mean has to fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ._core import Float64Array, Int64Array

# What mean and m2 of merged parts must be below, so that nothing that matters passes 2**63.
_LARGEST = 2.0**61


def most_values(dtype: np.dtype[Any]) -> int:
    """Return how many values per channel have an m2, of (half the range)**2 each, of at most 2**50.

    Up to there float64 tells integers apart, with two bits to spare for its rounding.
    """
    return int(2 ** (52 - 16 * dtype.itemsize))


def sums_of(count: Int64Array, mean: Float64Array, m2: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Return (sum, sum of squares) of at most `most_values` integers per channel."""
    mean = np.where(count > 0, mean, 0)
    total = np.rint(mean * count).astype(np.int64)
    near = np.rint(mean).astype(np.int64)
    rest = total - count * near
    about = np.rint(m2 + rest.astype(np.float64) ** 2 / np.maximum(count, 1)).astype(np.int64)
    return total, about + near * (2 * total - count * near)


def moments_of(count: Int64Array, total: Int64Array, squares: Int64Array) -> tuple[Float64Array, Float64Array]:
    """Return (mean, m2) of integers with these sums, rounded once where long double is longer than double."""
    wide, some = np.longdouble, np.maximum(count, 1)
    mean = (total.astype(wide) / some).astype(np.float64)
    near = np.rint(mean).astype(np.int64)
    rest = total - count * near
    about = squares - near * (2 * total - count * near)
    m2 = (about.astype(wide) - rest.astype(wide) ** 2 / some).astype(np.float64)
    return np.where(count > 0, mean, np.nan), m2


def fit(count: Int64Array, mean: Float64Array, m2: Float64Array) -> bool:
    """Whether integers with these moments have sums that can be kept."""
    return bool(((np.abs(np.where(count > 0, mean, 0)) * count < _LARGEST) & (m2 < _LARGEST)).all())
