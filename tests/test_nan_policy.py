"""nan_policy: NaN stays, is left out of its channel alone, or is an error; by mask and weights."""

from __future__ import annotations

import copy
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import batchnorm as bn
from batchnorm import _source
from oracle import Array
from tolerances import assert_same_bits, assert_stats, within

FLOATS = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]


@pytest.fixture(params=FLOATS, ids=str)
def floating(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[2**18, 50], ids=["one window", "many windows"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_source.Source.windows, "__defaults__", (request.param,))


def with_nan(dtype: Any = np.float64, *, seed: int = 0) -> Array:
    """Channels (1): none, some, only NaN, infinities, infinities and NaN."""
    x = np.random.default_rng(seed).normal(3, 1, (20, 5, 11)).astype(dtype)
    x[:, 1][np.random.default_rng(1).random((20, 11)) < 0.2] = np.nan
    x[:, 2] = np.nan
    x[3, 3, 2], x[9, 3, 4] = np.inf, -np.inf
    x[3, 4, 2], x[9, 4, 4], x[10, 4, 4] = np.inf, -np.inf, np.nan
    return x


@pytest.mark.parametrize("layout", ["dense", "last", "fortran", "reversed", "first"])
def test_omit(floating: Any, window: None, layout: str) -> None:
    x = with_nan(floating)
    view, axis = {
        "dense": (x, 1),
        "last": (np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1),
        "fortran": (np.asfortranarray(x), 1),
        "reversed": (x[::-1, :, ::-1], -2),
        "first": (np.ascontiguousarray(np.moveaxis(x, 1, 0)), 0),
    }[layout]
    stats = bn.channel_stats(view, axis=axis, nan_policy="omit", extremes=True)
    counts = (~np.isnan(x)).sum(axis=(0, 2))
    assert stats.count.tolist() == counts.tolist()
    assert stats.count.dtype == np.int64
    some = x[:, 1][~np.isnan(x[:, 1])]
    for channel, values in ((0, x[:, 0]), (1, some)):
        one = bn.ChannelStats._of(*(a[channel : channel + 1] for a in (stats.count, stats.mean, stats.m2)))
        assert_stats(one, values.reshape(-1, 1).astype(np.float64))
        assert stats.min is not None and stats.max is not None
        assert (stats.min[channel], stats.max[channel]) == (values.min(), values.max())
    assert np.isnan(stats.mean[2:]).all()
    assert stats.m2[2] == 0
    assert stats.min is not None and stats.max is not None
    assert np.isnan(stats.min[2]) and np.isnan(stats.max[2])
    assert stats.min[3:].tolist() == [-np.inf] * 2
    assert stats.max[3:].tolist() == [np.inf] * 2
    plain = bn.channel_stats(view, axis=axis)
    assert_same_bits("mean", stats.mean[[0, 3]], plain.mean[[0, 3]])
    assert_same_bits("m2", stats.m2[[0, 3]], plain.m2[[0, 3]])


def test_any_number_of_threads_gives_the_same_bits(window: None) -> None:
    x = with_nan()
    one = bn.channel_stats(x, nan_policy="omit", num_threads=1)
    for threads in (2, 3, 7):
        other = bn.channel_stats(x, nan_policy="omit", num_threads=threads)
        assert_same_bits("mean", one.mean, other.mean)
        assert_same_bits("m2", one.m2, other.m2)


def test_propagate_is_the_default() -> None:
    x = with_nan()
    for stats in (bn.channel_stats(x), bn.channel_stats(x, nan_policy="propagate")):
        assert np.isnan(stats.mean).tolist() == [False, True, True, True, True]
        assert stats.count.tolist() == [220] * 5


def test_raise_names_the_first_channel_and_changes_nothing(floating: Any, window: None) -> None:
    x = with_nan(floating)
    stats = bn.channel_stats(x[:, :, :2], nan_policy="omit")
    kept = copy.copy(stats)
    for part, channel in ((x, 1), (x[:, [0, 3, 2, 3, 3]], 2), (x[:, [3, 3, 3, 3, 4]], 4)):
        message = rf'^x: expected no NaN with nan_policy "raise", got one in channel {channel}$'
        with pytest.raises(ValueError, match=message):
            stats.update(part, nan_policy="raise")
        with pytest.raises(ValueError, match=message):
            bn.channel_stats(part, nan_policy="raise")
        assert stats == kept


def test_infinities_are_no_nan() -> None:
    x = with_nan()[:, [0, 3]]
    for policy in ("raise", "omit"):
        assert bn.channel_stats(x, nan_policy=policy) == bn.channel_stats(x)  # type: ignore[arg-type]


def test_update_omits_into_counts_per_channel() -> None:
    parts = [with_nan(seed=seed)[:, :3] for seed in range(4)]
    stats = bn.ChannelStats()
    for part in parts:
        stats.update(part, nan_policy="omit")
    whole = bn.channel_stats(np.concatenate(parts), nan_policy="omit")
    assert stats.count.tolist() == whole.count.tolist()
    within("mean", stats.mean[:2], whole.mean[:2], 1e-13 * 3)
    within("m2", stats.m2[:2], whole.m2[:2], 1e-13 * whole.m2[:2])
    assert np.isnan(stats.mean[2]) and stats.m2[2] == 0


@pytest.mark.parametrize("shape", [(20, 11), (11,), (20, 1), (1, 1), ()], ids=str)
def test_masked_nan_is_none(window: None, shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(5).random(shape) < 0.6
    mask = mask | (mask.size == 1)
    full = np.broadcast_to(mask, (20, 11))
    x = np.random.default_rng(0).normal(3, 1, (20, 3, 11))
    x[:, 1][~full] = np.nan
    assert bn.channel_stats(x, mask=mask, nan_policy="raise").count.tolist() == [full.sum()] * 3
    where = tuple(np.argwhere(full)[0])
    x[where[0], 1, where[1]] = np.nan
    with pytest.raises(ValueError, match="channel 1"):
        bn.channel_stats(x, mask=mask, nan_policy="raise")
    stats = bn.channel_stats(x, mask=mask, nan_policy="omit", extremes=True)
    assert stats.count.tolist() == [full.sum(), full.sum() - 1, full.sum()]
    values = x[:, 1][full & ~np.isnan(x[:, 1])]
    assert_stats(bn.ChannelStats._of(stats.count[1:2], stats.mean[1:2], stats.m2[1:2]), values[:, None])
    if values.size:
        assert stats.min is not None and stats.max is not None
        assert (stats.min[1], stats.max[1]) == (values.min(), values.max())


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_omit_with_weights(window: None, dtype: Any, masked: bool) -> None:
    rng = np.random.default_rng(0)
    x, weights = with_nan()[:, :3], rng.choice([0.0, 0.5, 1.0, 3.0], (20, 11)).astype(dtype)
    mask = rng.random((20, 11)) < 0.7 if masked else np.ones((20, 11), bool)
    stats = bn.channel_stats(x, weights=weights, mask=mask if masked else None, nan_policy="omit", extremes=True)
    light = ~(weights > 0)  # a NaN that weighs nothing is none, as ever, and counts like any value of weight 0
    for channel in range(3):
        values = x[:, channel]
        counts = mask & (~np.isnan(values) | light)
        assert stats.count[channel] == counts.sum()
        w = np.where(counts & ~light, weights, 0).astype(float)
        assert stats.sum_weights[channel] == w.sum()
        v = np.where(w > 0, values, 0)
        if channel == 2:
            assert np.isnan(stats.mean[2]) and stats.m2[2] == 0
            continue
        mean = (w * v).sum() / w.sum()
        within("mean", stats.mean[channel], mean, 1e-13)
        within("m2", stats.m2[channel], (w * (v - mean) ** 2).sum(), 1e-11)
        assert stats.min is not None and stats.min[channel] == v[w > 0].min()
        assert stats.max is not None and stats.max[channel] == v[w > 0].max()
    assert bn.channel_stats(x, weights=np.zeros(11), nan_policy="raise").sum_weights.tolist() == [0] * 3


def test_lengths() -> None:
    x = np.ones((2, 3, 4))
    x[0, 1, 2:] = np.nan
    assert bn.channel_stats(x, lengths=[2, 4], nan_policy="raise").count.tolist() == [6] * 3
    assert bn.channel_stats(x, lengths=[3, 4], nan_policy="omit").count.tolist() == [7, 6, 7]


def test_what_has_no_nan() -> None:
    for x in (np.arange(12, dtype=np.uint8).reshape(4, 3), np.empty((0, 3)), np.empty((4, 0)), np.empty((4, 3, 0))):
        for policy in ("raise", "omit"):
            assert bn.channel_stats(x, nan_policy=policy) == bn.channel_stats(x)  # type: ignore[arg-type]


def test_without_nan_the_array_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> Any:
        raise AssertionError("looked at")

    monkeypatch.setattr(_source.Source, "windows", read)
    x = np.random.default_rng(0).normal(size=(20, 5, 11))
    for policy in ("raise", "omit", "propagate"):
        assert bn.channel_stats(x, nan_policy=policy) == bn.channel_stats(x)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="looked at"):
        bn.channel_stats(with_nan(), nan_policy="raise")


@pytest.mark.parametrize("call", [bn.channel_stats, bn.ChannelStats().update], ids=["channel_stats", "update"])
def test_bad_policies(call: Any) -> None:
    x = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"^nan_policy: expected .*propagate.*omit.*raise.*, got .*ignore"):
        call(x, nan_policy="ignore")
    for wrong in (None, True, 1, ["omit"]):
        with pytest.raises(TypeError, match=r"^nan_policy: expected .*, got"):
            call(x, nan_policy=wrong)


def test_windows_cover_every_element_once() -> None:
    for shape in ((), (0,), (7,), (3, 0, 2), (5, 7, 11), (2, 1000), (1000, 2), (1, 1, 1)):
        for most in (1, 10, 77, 10**6):
            seen = np.zeros(shape, int)
            for at in _source.windows(shape, most):
                assert seen[at].size <= max(most, 1)
                seen[at] += 1
            assert (seen == 1).all()


@pytest.mark.parametrize("at", [0, 1, 700, 4999])
def test_infinity_leaves_no_finite_mean_wherever_it_is(at: int) -> None:
    x = np.ones((5000, 2), np.float32)
    x[at, 1] = -np.inf
    for policy in ("propagate", "omit", "raise"):
        stats = bn.channel_stats(x, nan_policy=policy, extremes=True)  # type: ignore[arg-type]
        assert stats.count.tolist() == [5000, 5000]
        assert np.isfinite(stats.mean).tolist() == np.isfinite(stats.m2).tolist() == [True, False]
        assert stats.min is not None and stats.min.tolist() == [1, -np.inf]
