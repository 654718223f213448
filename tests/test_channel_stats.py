"""channel_stats against the oracle, and ChannelStats as an object."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import Case
from oracle import Array
from tolerances import assert_same_bits, assert_stats, within


def normal(*shape: int, seed: int = 0, mean: float = 0.0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(dtype)


@pytest.fixture
def stats() -> bn.ChannelStats:
    return bn.channel_stats(normal(6, 3, 5, mean=2))


def test_agrees_with_the_oracle(isa: str, dtype: Any, case: Case) -> None:
    axis, x = case.arrays(dtype, mean=0.5)
    before = x.tobytes()
    assert_stats(bn.channel_stats(x, axis=axis), x, axis)
    assert x.tobytes() == before


def test_larger_than_the_cache(isa: str, dtype: Any) -> None:
    for shape, axis in [((3, 64, 80, 80), 1), ((3, 80, 80, 64), -1), ((50001, 30), 1)]:
        x = normal(*shape, mean=100, dtype=dtype)
        assert_stats(bn.channel_stats(x, axis=axis), x, axis)


def test_sum_weights_is_the_count(stats: bn.ChannelStats) -> None:
    assert_same_bits("count", stats.count, np.full(3, 30))
    assert_same_bits("sum_weights", stats.sum_weights, np.full(3, 30.0))


def test_variance_and_standard_deviation() -> None:
    x = normal(6, 3, 5)
    stats = bn.channel_stats(x)
    flat = np.moveaxis(x, 1, 0).reshape(3, -1)
    for ddof in (0, 1, 7):
        within("var", stats.var(ddof), flat.var(axis=1, ddof=ddof), 1e-14)
        within("std", stats.std(ddof), flat.std(axis=1, ddof=ddof), 1e-14)
    assert_same_bits("var", stats.var(ddof=0), stats.var())


def test_the_variance_of_too_few_is_nan() -> None:
    """And no warning: pytest makes any an error."""
    for count in (0, 1):
        stats = bn.channel_stats(np.ones((count, 2)))
        assert np.isnan(stats.var(1)).all()
        assert np.isnan(stats.std(ddof=1)).all()
        assert np.isnan(stats.var()).all() == (count == 0)
    assert not bn.channel_stats(np.ones((1, 2))).var().any()


@pytest.mark.parametrize("ddof", [2**63 - 1, 2**63, 2**64, 10**30])
def test_any_ddof(stats: bn.ChannelStats, ddof: int) -> None:
    assert np.isnan(stats.var(ddof)).all()
    assert np.isnan(stats.std(ddof)).all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (0, 0)], ids=str)
def test_nothing_there(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    stats = bn.channel_stats(np.empty(shape, dtype))
    assert (stats.count == (shape[0] if shape[1] == 0 else 0)).all()
    assert stats.count.shape == stats.mean.shape == stats.m2.shape == (shape[1],)
    assert np.isnan(stats.mean).all()
    assert not stats.m2.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_not_finite_stays_in_its_channel(isa: str, dtype: Any, value: float) -> None:
    x = normal(7, 3, 30, dtype=dtype)
    clean = bn.channel_stats(x)
    x[3, 1, 7] = value
    stats = bn.channel_stats(x)
    assert np.isnan(stats.var()[1])
    assert_same_bits("mean", stats.mean[[0, 2]], clean.mean[[0, 2]])
    assert_same_bits("m2", stats.m2[[0, 2]], clean.m2[[0, 2]])


def test_the_first_update_sets_the_number_of_channels() -> None:
    stats = bn.ChannelStats()
    assert stats.count.shape == (0,)
    x = normal(6, 3, 5)
    assert stats.update(x) is stats
    assert stats == bn.channel_stats(x)
    assert bn.ChannelStats().update(np.moveaxis(x, 1, -1), axis=-1, num_threads=1).count.shape == (3,)


def test_update_merge_and_add(dtype: Any) -> None:
    a, b = normal(6, 3, 5, mean=3, dtype=dtype), normal(9, 3, 5, seed=1, dtype=dtype)
    both = np.concatenate([a, b])
    updated = bn.channel_stats(a).update(b)
    assert_stats(updated, both)
    left, right = bn.channel_stats(a), bn.channel_stats(b)
    assert left + right == updated
    assert left == bn.channel_stats(a)
    assert right == bn.channel_stats(b)
    assert left.merge(right) is left
    assert left == updated


def test_merging_with_itself_counts_twice() -> None:
    x = normal(6, 3, 5, mean=3)
    stats = bn.channel_stats(x)
    assert stats.merge(stats) is stats
    assert_stats(stats, np.concatenate([x, x]))


def test_nothing_is_neutral(stats: bn.ChannelStats) -> None:
    kept = copy.deepcopy(stats)
    for nothing in (bn.ChannelStats(), bn.channel_stats(np.empty((0, 3)))):
        assert nothing + stats == stats + nothing == stats
        assert stats.merge(nothing) == kept
    assert bn.ChannelStats() + bn.ChannelStats() == bn.ChannelStats()


def test_a_merge_of_channels_that_have_no_values_in_one_part() -> None:
    """Channels may have seen different numbers of values."""
    few = bn.SavedStatistics([1.0, 7.0], [1.0, 1.0], np.array([2, 0]), eps=0.0).stats
    merged = few + bn.channel_stats(np.array([[3.0, 5.0], [3.0, 5.0]]))
    assert merged.count.tolist() == [4, 2]
    within("mean", merged.mean, np.array([2.0, 5.0]), 0)
    within("m2", merged.m2, np.array([6.0, 0.0]), 0)


def test_equal_by_content(stats: bn.ChannelStats) -> None:
    same = bn.channel_stats(normal(6, 3, 5, mean=2))
    assert stats == same
    assert (stats != same) is False
    assert stats != bn.channel_stats(normal(6, 3, 5, mean=2, seed=1))
    assert stats != bn.channel_stats(normal(6, 4, 5))
    assert stats != bn.ChannelStats()
    assert bn.ChannelStats() == bn.ChannelStats()
    assert bn.channel_stats(np.empty((0, 3))) == bn.channel_stats(np.empty((0, 3)))
    assert stats != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(stats)


def test_arrays_that_were_taken_keep_their_values(stats: bn.ChannelStats) -> None:
    mean, count = stats.mean, stats.count
    before = mean.copy(), count.copy()
    stats.update(normal(6, 3, 5, seed=9))
    assert_same_bits("mean", mean, before[0])
    assert_same_bits("count", count, before[1])
    with pytest.raises(ValueError, match="read-only"):
        stats.mean[0] = 1


@pytest.mark.parametrize("make", [lambda: bn.channel_stats(normal(6, 3, 5)), bn.ChannelStats], ids=["full", "empty"])
def test_copies_and_pickles(make: Callable[[], bn.ChannelStats]) -> None:
    stats = make()
    for again in (copy.copy(stats), copy.deepcopy(stats), pickle.loads(pickle.dumps(stats))):
        assert again == stats
        again.update(normal(2, 3, 5, seed=4))
        assert again != stats
    assert stats == make()


def doubled(stats: bn.ChannelStats, times: int) -> bn.ChannelStats:
    for _ in range(times):
        stats = stats + stats
    return stats


def test_a_count_that_overflows_changes_nothing() -> None:
    x = normal(2, 3)
    half = doubled(bn.channel_stats(x), 61)  # 2**62 values
    assert half.count.tolist() == [2**62] * 3
    kept = copy.deepcopy(half)
    with pytest.raises(OverflowError, match="count"):
        half.merge(half)
    with pytest.raises(OverflowError, match="count"):
        half + half
    assert half == kept
    almost = half + doubled(bn.channel_stats(x[:1]), 61)
    almost.merge(doubled(bn.channel_stats(x[:1]), 60))
    rest = 2**63 - 1 - int(almost.count[0])
    for bit in range(rest.bit_length()):
        almost.merge(doubled(bn.channel_stats(x[:1]), bit))
    assert almost.count.tolist() == [2**63 - 1] * 3
    kept = copy.deepcopy(almost)
    with pytest.raises(OverflowError, match="count"):
        almost.update(x[:1])
    assert almost == kept


def test_an_error_changes_nothing(stats: bn.ChannelStats) -> None:
    kept = copy.deepcopy(stats)
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: stats.update(normal(2, 4)), ValueError, r"^x: expected 3 channels.* got 4"),
        (lambda: stats.update(np.ones(3)), ValueError, r"^x: expected at least 2 dimensions, got"),
        (lambda: stats.update(np.ones((2, 3), int)), TypeError, r"^x: expected float16, .* got int64"),
        (lambda: stats.update(normal(2, 3), axis=2), ValueError, r"^axis: expected .*, got 2"),
        (lambda: stats.update(normal(2, 3), num_threads=0), ValueError, r"^num_threads: expected .*, got 0"),
        (lambda: stats.merge(bn.channel_stats(normal(2, 4))), ValueError, r"^other: expected 3 channels.* got 4"),
        (lambda: stats.merge(1), TypeError, r"^other: expected .*ChannelStats.* got int"),  # type: ignore[arg-type]
        (lambda: stats + 1, TypeError, r"unsupported operand"),  # type: ignore[operator]
        (lambda: stats + bn.channel_stats(normal(2, 4)), ValueError, r"^other: expected 3 channels.* got 4"),
        (lambda: stats.var(-1), ValueError, r"^ddof: expected .*, got -1"),
        (lambda: stats.var(0.5), TypeError, r"^ddof: expected .*, got float"),  # type: ignore[arg-type]
    ]
    for call, error, message in wrong:
        with pytest.raises(error, match=message):
            call()
        assert stats == kept
    empty = bn.ChannelStats()
    with pytest.raises(TypeError, match=r"^x: expected"):
        empty.update("text")
    assert empty == bn.ChannelStats()


@pytest.mark.parametrize("x", [3.0, np.float32(3), np.array(3.0), [3.0], np.full((2, 3, 4, 5), 3, np.uint8)], ids=repr)
def test_all_values_as_one_channel(x: Any) -> None:
    stats = bn.ChannelStats(extremes=True).update(x, axis=None)
    assert (stats.count.tolist(), stats.mean.tolist(), stats.m2.tolist()) == ([np.size(x)], [3.0], [0.0])
    assert stats.min is not None and stats.min.tolist() == [3.0]
    assert stats == bn.channel_stats(x, axis=None, extremes=True)


@pytest.mark.parametrize("shape", [(), (7,), (0,), (4, 5), (3, 4, 5), (6, 1, 2, 3)], ids=str)
def test_all_values_as_one_channel_with_masks_of_their_shape(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    x = normal(*shape, mean=2, dtype=dtype)
    for view in (x, x.T, x[::-1] if shape else x):
        assert_stats(bn.channel_stats(view, axis=None), x.reshape(-1, 1))
    mask = np.random.default_rng(1).random(shape) < 0.5
    assert_stats(bn.channel_stats(x, axis=None, mask=mask), x[mask].reshape(-1, 1))
    assert bn.channel_stats(x, axis=None, weights=np.where(mask, 2.0, 0.0)).sum_weights.tolist() == [2 * mask.sum()]


def test_all_values_as_one_channel_bad_input() -> None:
    x = normal(2, 3, 4)
    with pytest.raises(ValueError, match=r"^mask: expected an array that broadcasts to .*\(2, 3, 4\), got \(2, 3\)$"):
        bn.channel_stats(x, axis=None, mask=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"^lengths: expected a channel axis, got axis None"):
        bn.channel_stats(x, axis=None, lengths=[1, 2])
    with pytest.raises(TypeError, match=r"^x: expected float16, .* got int64$"):
        bn.channel_stats(3, axis=None)
    with pytest.raises(TypeError, match=r"^x: expected an array, got None$"):
        bn.channel_stats(None, axis=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^x: expected an array without a mask, got MaskedArray"):
        bn.channel_stats(np.ma.array(x), axis=None)
    with pytest.raises(ValueError, match=r"^x: expected 3 channels, as in these statistics, got 1$"):
        bn.channel_stats(x).update(x, axis=None)


def test_one_channel_is_a_view() -> None:
    large = np.lib.stride_tricks.as_strided(np.ones(1, np.uint8), (2**20, 2**10), (0, 0))
    assert bn.channel_stats(large[:, :64], axis=None).count.tolist() == [2**26]


@pytest.mark.threaded
def test_count_mean_and_m2_belong_together_whatever_other_threads_do() -> None:
    """Updates that meet may be lost, but no state is made of two."""
    part = bn.channel_stats(np.array([[0.0], [2.0]]))  # n copies of it have count 2 n, mean 1 and m2 2 n
    stats = copy.copy(part)

    def work(thread: int) -> list[bn.ChannelStats]:
        seen = []
        for _ in range(2000):
            stats.merge(part)
            seen.append(copy.copy(stats))
        return seen

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            seen = [state for states in pool.map(work, range(4)) for state in states]
    finally:
        sys.setswitchinterval(interval)
    torn = [state for state in seen if state.m2 != state.count or state.mean != 1]
    assert not torn, torn[0]


def test_update_running_stats_of_another_number_of_channels(stats: bn.ChannelStats) -> None:
    mean, var = np.zeros(4), np.ones(4)
    with pytest.raises(ValueError, match=r"^stats: expected 4 channels, as in running_mean, got 3$"):
        bn.update_running_stats(mean, var, stats)
    with pytest.raises(ValueError, match=r"^running_mean: expected shape \(3,\), got \(4,\)$"):
        bn.update_running_stats(mean, var[:3], stats)
    with pytest.raises(ValueError, match=r"^running_var: expected shape \(3,\), got \(4,\)$"):
        bn.update_running_stats(mean[:3], var, stats)
    with pytest.raises(ValueError, match=r"^running_mean: expected shape \(3,\), got \(1, 3\)$"):
        bn.update_running_stats(mean[None, :3], var[None, :3], stats)
    with pytest.raises(ValueError, match=r"^momentum: "):
        bn.update_running_stats(mean, var, bn.ChannelStats(), momentum=2)
    bn.update_running_stats(mean, var, bn.ChannelStats())  # it has no number of channels yet
    assert not mean.any()
    assert (var == 1).all()


def test_repr_names_channels_and_count(stats: bn.ChannelStats) -> None:
    text = repr(stats)
    assert "ChannelStats" in text
    assert "3 channels" in text
    assert "30" in text
    assert repr(bn.ChannelStats()) == "ChannelStats()"


def test_closed_form(isa: str, dtype: Any) -> None:
    """0, 1, ..., n - 1 has mean (n - 1) / 2 and m2 n (n**2 - 1) / 12."""
    for n in (1, 2, 255, 256, 1000, 65537):
        x = np.repeat(np.arange(n, dtype=dtype)[:, None], 3, axis=1)
        for view, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
            stats = bn.channel_stats(view, axis=axis)
            within("mean", stats.mean, np.full(3, (n - 1) / 2), 1e-14 * n)
            within("m2", stats.m2, np.full(3, n * (n**2 - 1) / 12), 2e-14 * n**3 / 12)
            assert_stats(stats, view, axis)
    assert oracle.moments(np.arange(5.0)[:, None])[2].tolist() == [10]
