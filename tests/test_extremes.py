"""Minimum and maximum per channel: kept on request, merged, copied, compared."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import batchnorm as bn
from layouts import Case
from oracle import Array
from tolerances import assert_same_bits

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.uint8, np.int8, np.uint16, np.int16]


def kept(stats: bn.ChannelStats) -> tuple[Array, Array]:
    assert stats.min is not None and stats.max is not None
    assert stats.min.dtype == stats.max.dtype == np.float64
    assert not stats.min.flags.writeable and not stats.max.flags.writeable
    return stats.min, stats.max


def with_extremes(seed: int = 0, shape: tuple[int, ...] = (6, 3, 5)) -> bn.ChannelStats:
    return bn.channel_stats(np.random.default_rng(seed).normal(0, 1, shape), extremes=True)


@pytest.mark.parametrize("element", DTYPES, ids=lambda t: np.dtype(t).name)
def test_are_numpys(element: Any, few_case: Case) -> None:
    axis, x = few_case.arrays(np.float32)
    x = (x * 30).astype(element)
    if np.dtype(element).kind in "iu":
        x = np.clip(x, *(np.iinfo(element).min, np.iinfo(element).max)).astype(element)
    low, high = kept(bn.channel_stats(x, axis=axis, extremes=True))
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    wide = x.astype(np.float64)
    want = (wide.min(axis=others), wide.max(axis=others)) if x.size else (np.full(x.shape[axis], np.nan),) * 2
    np.testing.assert_array_equal(low, want[0])
    np.testing.assert_array_equal(high, want[1])


def test_are_not_kept_unless_asked_for() -> None:
    x = np.ones((4, 3))
    for stats in (bn.ChannelStats(), bn.channel_stats(x), bn.ChannelStats().update(x)):
        assert stats.min is None and stats.max is None
    stats = bn.ChannelStats(extremes=True)
    assert kept(stats)[0].shape == (0,)
    assert kept(stats.update(x))[0].tolist() == [1, 1, 1]


def test_the_other_numbers_are_the_same() -> None:
    x = np.random.default_rng(0).normal(0, 1, (6, 3, 5))
    plain, more = bn.channel_stats(x), bn.channel_stats(x, extremes=True)
    for name in ("count", "sum_weights", "mean", "m2"):
        assert_same_bits(name, getattr(plain, name), getattr(more, name))


def test_nan_as_numpy_gives_them() -> None:
    x = np.array([[1.0, np.nan, np.inf, np.nan, 1.0], [3.0, 1.0, -np.inf, np.nan, np.inf]])
    low, high = kept(bn.channel_stats(x, extremes=True))
    np.testing.assert_array_equal(low, x.min(axis=0))
    np.testing.assert_array_equal(high, x.max(axis=0))
    stats = bn.ChannelStats(extremes=True)
    for row in x:
        stats.update(row[None])
    np.testing.assert_array_equal(kept(stats)[0], x.min(axis=0))
    np.testing.assert_array_equal(kept(stats)[1], x.max(axis=0))
    low, high = kept(bn.channel_stats(x, extremes=True, nan_policy="omit"))
    np.testing.assert_array_equal(low, [1, 1, -np.inf, np.nan, 1])
    np.testing.assert_array_equal(high, [3, 1, np.inf, np.nan, np.inf])


def test_masks_and_weights() -> None:
    x = np.array([[1.0, -9.0], [2.0, np.nan], [9.0, 5.0], [4.0, 6.0]])
    mask = np.array([True, False, False, True])
    for options in ({"mask": mask}, {"weights": mask * 0.5}, {"mask": mask, "weights": np.ones(4)}):
        stats = bn.channel_stats(x, extremes=True, **options)
        assert [a.tolist() for a in kept(stats)] == [[1, -9], [4, 6]]
    none = bn.channel_stats(x, extremes=True, weights=np.zeros(4))
    assert none.count.tolist() == [4, 4]
    assert np.isnan(kept(none)).all()
    assert [a.tolist() for a in kept(none + bn.channel_stats(x[:1], extremes=True))] == [[1, -9], [1, -9]]


def test_subnormals_are_as_they_are() -> None:
    x = np.full((3, 2), 1e-310)
    assert kept(bn.channel_stats(x, extremes=True, flush_subnormals=True))[0].tolist() == [1e-310] * 2


def test_merging_wants_them_where_they_are_kept() -> None:
    stats = with_extremes()
    before = copy.copy(stats)
    plain = bn.channel_stats(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^other: expected statistics with extremes, as these are, got some without$"):
        stats.merge(plain)
    assert stats == before
    with pytest.raises(ValueError, match=r"^other: expected statistics with extremes"):
        bn.ChannelStats(extremes=True).merge(plain)
    with pytest.raises(ValueError, match=r"^other: expected 3 channels, as in these statistics, got 4$"):
        stats.merge(bn.channel_stats(np.ones((2, 4))))
    for nothing in (bn.ChannelStats(), bn.channel_stats(np.empty((0, 3)))):
        assert stats.merge(nothing) == before
    assert bn.ChannelStats(extremes=True).merge(bn.channel_stats(np.empty((0, 3)))).min is not None


def test_merging_drops_them_where_they_are_not_kept() -> None:
    stats = bn.channel_stats(np.zeros((2, 3))).merge(with_extremes())
    assert stats.min is None and stats.max is None
    assert bn.ChannelStats().merge(with_extremes()).min is None
    assert stats.count.tolist() == [32] * 3


def test_a_sum_has_them_where_both_parts_have() -> None:
    a, b, plain = with_extremes(0), with_extremes(1), bn.channel_stats(np.ones((2, 3)))
    np.testing.assert_array_equal(kept(a + b)[0], np.minimum(kept(a)[0], kept(b)[0]))
    np.testing.assert_array_equal(kept(a + b)[1], np.maximum(kept(a)[1], kept(b)[1]))
    for mixed in (a + plain, plain + a):
        assert mixed.min is None
        assert mixed.count.tolist() == [32] * 3
    for nothing in (bn.ChannelStats(), bn.ChannelStats(extremes=True), bn.channel_stats(np.empty((0, 3)))):
        assert nothing + a == a + nothing == a
        assert nothing + plain == plain + nothing == plain


def test_merging_with_itself() -> None:
    stats = with_extremes()
    low = kept(stats)[0]
    np.testing.assert_array_equal(kept(stats.merge(stats))[0], low)


@pytest.mark.parametrize(
    "stats",
    [with_extremes(), bn.ChannelStats(extremes=True), bn.channel_stats(np.empty((0, 3)), extremes=True)],
    ids=["full", "empty", "no values"],
)
def test_copies_and_pickles(stats: bn.ChannelStats) -> None:
    for again in (copy.copy(stats), copy.deepcopy(stats), pickle.loads(pickle.dumps(stats))):
        assert again == stats
        kept(again)
        kept(again.update(np.full((2, 3, 1), 99.0)))
        assert again != stats


def test_equal_by_content() -> None:
    stats = with_extremes()
    assert stats == with_extremes()
    assert stats != bn.channel_stats(np.random.default_rng(0).normal(0, 1, (6, 3, 5)))
    assert bn.ChannelStats(extremes=True) == bn.ChannelStats(extremes=True) != bn.ChannelStats()
    x = np.array([[0.0, 0.0], [4.0, 4.0], [1.0, 1.0], [3.0, 3.0]])
    one = bn.channel_stats(x, extremes=True)
    other = bn.ChannelStats._of(one.count, one.mean, one.m2, None, one.min, one.max + 1)  # type: ignore[operator]
    assert one != other


def test_repr_tells_them() -> None:
    assert repr(bn.ChannelStats(extremes=True)) == "ChannelStats(extremes=True)"
    text = repr(bn.channel_stats(np.array([[1.0], [3.0]]), extremes=True))
    assert text == "<ChannelStats: 1 channels, count=2, mean=[2.], std=[1.], min=[1.], max=[3.]>"


def test_bad_flags() -> None:
    for wrong in (None, 1, "yes", [True]):
        with pytest.raises(TypeError, match=r"^extremes: expected .*bool.*, got"):
            bn.ChannelStats(extremes=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^extremes: expected .*bool.*, got"):
            bn.channel_stats(np.ones((2, 3)), extremes=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional"):
        bn.ChannelStats(True)  # type: ignore[misc]
