"""Values, and what statistics of a data set must be."""

from __future__ import annotations

from typing import Any

import numpy as np

import batchnorm as bn
from batchnorm.datasets import DatasetStatistics

SHAPE = (6, 5, 7, 4)
SMALL = 300  # bytes per window: many of them, in each of the three ways


def values(dtype: Any = np.float32, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    return (rng.normal(3, 2, shape) * 4).astype(dtype)


def assert_of(result: DatasetStatistics, x: np.ndarray[Any, Any], axis: int | None, items: int = 1) -> None:
    """The laws of merging allow 1e-13."""
    want = bn.channel_stats(x, axis=axis, extremes=True)
    assert result.items == items and result.skipped == ()
    np.testing.assert_array_equal(result.count, want.count)
    np.testing.assert_allclose(result.mean, want.mean, rtol=1e-13)
    np.testing.assert_allclose(result.std, want.std(), rtol=1e-13)
    if result.min is not None:
        np.testing.assert_array_equal(result.min, want.min)
        np.testing.assert_array_equal(result.max, want.max)
