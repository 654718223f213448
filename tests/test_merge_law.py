"""Statistics of parts, merged in any order, are those of the whole: 1,000 random partitions of each kind of data."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from oracle import Array
from tolerances import LAW, LAW_FAR, assert_same_bits, assert_same_stats, assert_stats

PARTITIONS = 1000
INTEGERS = [np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16)]


def partition(x: Array, rng: np.random.Generator) -> list[Array]:
    """Cut x at random places along random axes but the channels' (1); parts may be empty."""
    parts = [x]
    for _ in range(int(rng.integers(1, 12))):
        part = parts.pop(int(rng.integers(len(parts))))
        axis = int(rng.choice([0, 2]))
        parts += np.split(part, [int(rng.integers(part.shape[axis] + 1))], axis=axis)
    return parts


def merged_somehow(parts: list[Any], rng: np.random.Generator) -> Any:
    """Merge two random ones until one is left: any order, any tree."""
    while len(parts) > 1:
        a, b = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        parts.append(a + b if rng.integers(2) else a.merge(b))
    return parts[0]


def merges(x: Array, **options: Any) -> Iterator[bn.ChannelStats]:
    rng = np.random.default_rng(7)
    for _ in range(PARTITIONS):
        yield merged_somehow([bn.channel_stats(part, **options) for part in partition(x, rng)], rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("mean", "std", "law"), [(0, 1, LAW), (1e3, 1, LAW), (1e5, 0.1, LAW_FAR)], ids=["0", "1e3", "1e6"]
)
def test_of_floats(dtype: Any, mean: float, std: float, law: float) -> None:
    x = np.random.default_rng(0).normal(mean, std, (37, 3, 24)).astype(dtype)
    whole = bn.channel_stats(x)
    assert_stats(whole, x)
    for i, stats in enumerate(merges(x)):
        assert stats.count.tolist() == whole.count.tolist()
        assert_same_stats(stats, whole, law)
        if i % 20 == 0:  # the oracle takes long
            assert_stats(stats, x, law=law)


def test_of_floats_with_extremes() -> None:
    x = np.random.default_rng(0).normal(0, 1, (37, 3, 24))
    for stats in merges(x, extremes=True):
        assert_same_bits("min", stats.min, x.min(axis=(0, 2)))
        assert_same_bits("max", stats.max, x.max(axis=(0, 2)))


def exact(x: Array) -> list[tuple[Fraction, Fraction]]:
    """(mean, m2) per channel (1), in rational numbers."""
    pairs = []
    for values in np.moveaxis(x, 1, 0):
        numbers = values.ravel().astype(np.int64)
        n, total, squares = numbers.size, int(numbers.sum()), int((numbers * numbers).sum())
        pairs.append((Fraction(total, n), squares - Fraction(total * total, n)))
    return pairs


def assert_one_ulp(stats: bn.ChannelStats, x: Array) -> None:
    for got_mean, got_m2, (mean, m2) in zip(stats.mean, stats.m2, exact(x), strict=True):
        for got, want in ((got_mean, mean), (got_m2, m2)):
            assert abs(Fraction(float(got)) - want) <= Fraction(float(np.spacing(abs(float(want)))))


@pytest.mark.parametrize("integer", INTEGERS, ids=str)
@pytest.mark.parametrize("few", [True, False], ids=["two values", "any"])
def test_of_integers(integer: Any, few: bool) -> None:
    """The same bits in any order, within 1 ulp of rational sums. int8 and int16 have means near 0."""
    info = np.iinfo(integer)
    low = info.max - 1 if few else info.min
    x = np.random.default_rng(0).integers(low, info.max, (37, 3, 24), integer, endpoint=True)
    whole = bn.channel_stats(x)
    assert_one_ulp(whole, x)
    for stats in merges(x):
        assert stats == whole


@pytest.mark.parametrize("axis", [1, -1])
def test_of_more_integers_than_float64_tells_apart(axis: int) -> None:
    """An m2 beyond 2**53, of parts beyond it."""
    x = np.random.default_rng(0).choice(np.array([0, 1, 65534, 65535], np.uint16), (5, 2, 2_000_000))
    view = np.moveaxis(x, 1, axis)
    whole = bn.channel_stats(view, axis=axis)
    assert whole.m2.min() > 2**53
    assert_one_ulp(whole, x)
    stats = bn.ChannelStats()
    for part in (view[:3], view[3:4], view[4:]):
        stats.update(part, axis=axis)
    assert stats == whole
    mask = np.random.default_rng(1).integers(2, size=(5, 2_000_000)).astype(bool)
    kept = bn.channel_stats(view, axis=axis, mask=mask)
    assert kept + bn.channel_stats(view, axis=axis, mask=~mask) == whole
    assert kept.count.tolist() == [mask.sum()] * 2
    with pytest.raises(ValueError, match=r"^mask: expected an array that broadcasts"):
        bn.channel_stats(view, axis=axis, mask=mask[:2])
    with pytest.raises(TypeError, match=r"^mask: expected bool"):
        bn.channel_stats(view, axis=axis, mask=mask.astype(float))
    with pytest.raises(ValueError, match=r"^axis: expected"):
        bn.channel_stats(view, axis=3)
    with pytest.raises(ValueError, match=r"^num_threads: expected"):
        bn.channel_stats(view, axis=axis, num_threads=0)


def test_integers_survive_files_pickles_and_no_values(tmp_path: Any) -> None:
    """What is saved between two updates changes no bit of the result."""
    x = np.random.default_rng(0).integers(-32768, 32767, (40, 3), np.int16)
    whole = bn.channel_stats(x)
    stats = bn.ChannelStats()
    for i, part in enumerate(np.array_split(x, 20)):
        stats.update(part)
        stats.update(part[:0])
        stats = bn.channel_stats(np.empty((0, 3))) + stats + bn.ChannelStats()
        if i % 3 == 0:
            stats = pickle.loads(pickle.dumps(stats))
        else:
            path = tmp_path / ("stats.npz" if i % 3 == 1 else "stats.json")
            stats.save(path)
            stats = bn.ChannelStats.load(path)
    assert stats == whole


def test_integers_and_floats_merge() -> None:
    x = np.random.default_rng(0).integers(0, 255, (40, 3), np.uint8)
    mixed = bn.channel_stats(x[:20]) + bn.channel_stats(x[20:].astype(np.float32))
    assert_same_stats(mixed, bn.channel_stats(x))
    assert_same_stats(mixed + bn.channel_stats(x), bn.channel_stats(np.concatenate([x, x])))


def test_sums_that_would_not_fit() -> None:
    """From where 64 bits don't hold them on, integers are merged as floats are."""
    stats = bn.channel_stats(np.array([[0, 65535], [65535, 65535]], np.uint16).T)
    times = 1
    while times < 2**55:
        stats, times = stats + stats, times * 2
        assert stats.count.tolist() == [2 * times] * 2
        assert stats.mean.tolist() == [32767.5, 65535]
        assert stats.m2.tolist() == [times * 65535**2 / 2, 0]
