"""subtract and a - b: what is left of a whole without a part that was merged before."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from oracle import Array
from tolerances import LAW, within


def normal(*shape: int, seed: int = 0, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(mean, 1, shape)


def assert_left(left: bn.ChannelStats, want: bn.ChannelStats, whole: bn.ChannelStats, law: float = LAW) -> None:
    """The errors are those of the whole, in the units of what is left."""
    __tracebackhide__ = True
    assert left.count.tolist() == want.count.tolist()
    std = whole.std()
    unit = law * np.maximum(np.abs(whole.mean), std)
    within("mean", left.mean, want.mean, 4 * unit * whole.sum_weights / want.sum_weights)
    apart = np.abs(whole.mean - want.mean) + std
    within("m2", left.m2, want.m2, 4 * law * whole.m2 + 8 * whole.sum_weights * unit * (apart + unit))


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("cut", [1, 2, 200, 398, 399])
def test_a_part_that_was_merged_before(mean: float, cut: int) -> None:
    x = normal(400, 3, mean=mean)
    x[:, 1] = mean  # a constant stays one
    a, b = bn.channel_stats(x[:cut]), bn.channel_stats(x[cut:])
    whole = a + b
    kept = copy.copy(whole)
    assert_left(whole - b, a, whole)
    assert_left(whole - a, b, whole)
    assert whole == kept
    assert whole.subtract(b) is whole
    assert whole == kept - b
    assert whole.m2[1] == 0 and whole.mean[1] == mean


def test_a_window_that_moves() -> None:
    """A thousand batches in, a thousand out."""
    batches = normal(1000, 16, 3, mean=5)
    window = bn.ChannelStats()
    for i, batch in enumerate(batches):
        window.update(batch)
        if i >= 10:
            window.subtract(bn.channel_stats(batches[i - 10]))
    want = bn.channel_stats(batches[-10:].reshape(-1, 3))
    assert window.count.tolist() == want.count.tolist()
    within("mean", window.mean, want.mean, 1e-12)
    within("m2", window.m2, want.m2, 1e-10 * want.m2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_integers_are_exact(dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max, (500, 3), dtype, endpoint=True)
    whole = bn.channel_stats(x)
    for cut in (1, 2, 250, 498, 499, 500):
        assert whole - bn.channel_stats(x[cut:]) == bn.channel_stats(x[:cut])
    with pytest.raises(ValueError, match=r"^other: expected a part of these statistics, got .* deviations than theirs"):
        bn.channel_stats(x[:3] // 2) - bn.channel_stats(np.array([[info.min] * 3, [info.max] * 3], dtype))


def test_all_of_it_leaves_nothing() -> None:
    for x in (normal(7, 3), normal(7, 3, mean=1e6), np.arange(21, dtype=np.uint8).reshape(7, 3)):
        stats = bn.channel_stats(x)
        assert stats.subtract(stats) is stats
        assert stats.count.tolist() == [0, 0, 0]
        assert np.isnan(stats.mean).all()
        assert stats.m2.tolist() == [0, 0, 0]
        assert stats == bn.channel_stats(x[:0])
    parts = [normal(50, 3, seed=seed, mean=100) for seed in range(5)]
    whole = bn.ChannelStats()
    for part in parts:
        whole.update(part)
    for part in parts[::-1]:
        whole.subtract(bn.channel_stats(part))
    assert whole == bn.channel_stats(parts[0][:0])
    assert whole.update(parts[0]) == bn.channel_stats(parts[0])


def test_one_value_does_not_deviate() -> None:
    for seed in range(100):
        x = normal(30, 3, mean=1e3, seed=seed)
        left = bn.channel_stats(x) - bn.channel_stats(x[1:])
        assert left.m2.tolist() == [0, 0, 0]
        within("mean", left.mean, x[0], 1e-10)
        assert bn.ChannelStats.from_json(left.to_json()) == left


def test_deviations_below_0_by_rounding_are_0() -> None:
    """A wide part of a whole whose rest is narrow."""
    wide, narrow = normal(1000, 200) * 1e6, normal(10, 200) * 1e-6
    left = (bn.channel_stats(wide) + bn.channel_stats(narrow)) - bn.channel_stats(wide)
    assert (left.m2 >= 0).all()
    assert (left.m2 == 0).any()


def test_counts_per_channel() -> None:
    x = normal(40, 3)
    x[::3, 1] = np.nan
    x[:20, 2] = np.nan
    whole, part, rest = (bn.channel_stats(a, nan_policy="omit") for a in (x, x[:20], x[20:]))
    left = whole - part
    assert left.count.tolist() == rest.count.tolist()
    within("mean", left.mean, rest.mean, 1e-13)
    assert (left.mean[2], left.m2[2]) == (whole.mean[2], whole.m2[2])  # nothing was taken away
    gone = whole - rest
    assert gone.count[2] == 0 and np.isnan(gone.mean[2]) and gone.m2[2] == 0


@pytest.mark.parametrize("weighted", [(True, True), (True, False), (False, True)], ids=str)
def test_weights(weighted: tuple[bool, bool]) -> None:
    x, weights = normal(40, 3), np.random.default_rng(1).choice([0.1, 0.3, 2.0], 40)
    a, b = (
        bn.channel_stats(x[part], weights=weights[part] if w else None)
        for part, w in zip((slice(0, 25), slice(25, 40)), weighted, strict=True)
    )
    whole = a + b
    left = whole - b
    within("sum_weights", left.sum_weights, a.sum_weights, 1e-13)
    assert_left(left, a, whole)
    nothing = left - a
    assert nothing.count.tolist() == nothing.sum_weights.tolist() == nothing.m2.tolist() == [0, 0, 0]
    assert np.isnan(nothing.mean).all()
    with pytest.raises(ValueError, match=r"^other: expected a part of these .*, got more weight than they have in"):
        whole - bn.channel_stats(x[:25], weights=weights[:25] * 100)
    with pytest.raises(ValueError, match=r"got all of their values, but not all of their weight in channel 0$"):
        bn.channel_stats(x, weights=weights) - bn.channel_stats(x, weights=weights / 2)


def test_nothing_to_take_away() -> None:
    stats = bn.channel_stats(normal(7, 3))
    kept = copy.copy(stats)
    for nothing in (bn.ChannelStats(), bn.channel_stats(np.empty((0, 3)))):
        assert stats - nothing == kept
        assert nothing - nothing == nothing
    assert bn.ChannelStats() - bn.channel_stats(np.empty((0, 3))) == bn.ChannelStats()


def test_what_is_not_finite_tells_nothing_of_what_is_left() -> None:
    x = np.array([[np.nan, np.inf, 1.7e308, 1.0], [1.0, 1.0, -1.7e308, 2.0], [2.0, 2.0, 1.0, 3.0]])
    whole = bn.channel_stats(x)
    left = whole - bn.channel_stats(x[:1])
    assert np.isnan(left.mean[:2]).all()
    assert np.isnan(left.m2[:3]).all()
    assert (left.mean[3], left.m2[3]) == (2.5, 0.5)
    assert bn.ChannelStats.from_json(left.to_json()) == left
    one = whole - bn.channel_stats(x[:2])
    assert bn.ChannelStats.from_json(one.to_json()) == one
    with pytest.raises(ValueError, match=r"got values that are not finite, unlike theirs, in channel 0$"):
        bn.channel_stats(x[1:]) - bn.channel_stats(x[:1])


def test_what_is_no_part_changes_nothing() -> None:
    x = normal(40, 3)
    stats = bn.channel_stats(x)
    kept = copy.copy(stats)
    start = "^other: expected a part of these statistics, got "
    far = np.concatenate([x[:20], x[:20]])
    far[:, 2] += 1e-3
    narrow = x[1:].copy()
    narrow[:, 1] = 0
    for other, message in (
        (normal(41, 3), "more values than they have in channel 0$"),
        (x[:10] * 100, "larger deviations than theirs in channel 0$"),
        (x[:10] + 5, "larger deviations than theirs in channel 0$"),
        (narrow, "smaller deviations than theirs, but for one value, in channel 1$"),
        (x * 0.5, "smaller deviations than theirs, but for one value, in channel 0$"),
        (x + 1e-3, "all of their values with another mean in channel 0$"),
    ):
        with pytest.raises(ValueError, match=start + message):
            stats.subtract(bn.channel_stats(other))
        assert stats == kept
    with pytest.raises(ValueError, match=r"^other: expected 3 channels, as in these statistics, got 4$"):
        stats.subtract(bn.channel_stats(normal(2, 4)))
    with pytest.raises(TypeError, match=r"^other: expected a ChannelStats, got int$"):
        stats.subtract(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unsupported operand"):
        stats - 1  # type: ignore[operator]
    with pytest.raises(ValueError, match=start + "more values than they have in channel 0$"):
        bn.ChannelStats().subtract(stats)
    assert stats == kept


def test_extremes_cannot_be_subtracted() -> None:
    x = normal(7, 3)
    stats, part = bn.channel_stats(x, extremes=True), bn.channel_stats(x[:2])
    kept = copy.copy(stats)
    with pytest.raises(ValueError, match=r"extremes, which can't be subtracted$"):
        stats.subtract(part)
    with pytest.raises(ValueError, match=r"extremes, which can't be subtracted$"):
        stats - part
    assert stats == kept
    assert bn.channel_stats(x) - bn.channel_stats(x[:2], extremes=True) == bn.channel_stats(x) - part
