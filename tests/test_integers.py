"""Integers: exact statistics of any size, and images normalized as they are read."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import Case, given_statistics, parameters
from oracle import Array
from tolerances import assert_same_bits, within

INTEGERS = [np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16)]


@pytest.fixture(params=INTEGERS, ids=str)
def integer(request: pytest.FixtureRequest) -> Any:
    return request.param


def exact(x: Array, axis: int) -> tuple[list[Fraction], list[Fraction]]:
    """(mean, m2) per channel, in rational numbers."""
    means, m2s = [], []
    for values in np.moveaxis(x, axis, 0):
        numbers = values.ravel().astype(object)
        n, total = len(numbers), int(numbers.sum()) if numbers.size else 0
        squares = int((numbers * numbers).sum()) if numbers.size else 0
        means.append(Fraction(total, n) if n else Fraction(0))
        m2s.append(squares - Fraction(total * total, n) if n else Fraction(0))
    return means, m2s


def test_statistics_are_exact(isa: str, integer: Any, few_case: Case) -> None:
    axis, x = few_case.arrays(integer)
    stats = bn.channel_stats(x, axis=axis)
    if not x.size:
        return
    means, m2s = exact(x, axis % x.ndim)
    for c, (mean, m2) in enumerate(zip(means, m2s, strict=True)):
        assert stats.mean[c] == float(mean)  # rounded once
        assert abs(Fraction(stats.m2[c]) - m2) <= m2 * Fraction(1, 2**50)


@pytest.mark.parametrize("total_and_count", [(146090, 2259), (25374, 2455), (412104, 2795)], ids=str)
def test_a_mean_is_rounded_once(total_and_count: tuple[int, int]) -> None:
    """By way of long double, which rounds these to the middle of two float64, the mean would be the other one."""
    total, count = total_and_count
    x = np.full((count, 1), total // count, np.uint8)
    x[: total % count] += 1
    assert bn.channel_stats(x).mean[0] == float(Fraction(total, count))


@pytest.mark.parametrize("axis", [1, -1])
def test_sums_beyond_two_to_the_53(isa: str, axis: int) -> None:
    """Squares of 65535 pass it after two million; a sum in float64 would lose the ones."""
    shape = (3, 2, 3_000_000) if axis == 1 else (9_000_000, 2)
    x = np.full(shape, 65535, np.uint16)
    x[..., ::3] = 65534 if axis == 1 else x[..., ::3]
    if axis == -1:
        x[::3] = 65534
    stats = bn.channel_stats(x, axis=axis)
    n = 9_000_000
    low = n // 3
    mean = Fraction(65535 * n - low, n)
    m2 = Fraction(low * (n - low), n)  # of a third that is 1 below the rest
    for c in range(2):
        assert stats.mean[c] == float(mean)
        assert abs(Fraction(stats.m2[c]) - m2) <= m2 * Fraction(1, 2**50)


@pytest.mark.parametrize("value", [0, 1, 127])
def test_of_a_constant(isa: str, integer: Any, value: int) -> None:
    stats = bn.channel_stats(np.full((70001, 3), value, integer))
    assert stats.mean.tolist() == [value] * 3
    assert stats.m2.tolist() == [0] * 3


@pytest.mark.parametrize("n", [2, 3, 5, 17])
def test_parts_have_the_bits_of_the_whole(integer: Any, n: int) -> None:
    info = np.iinfo(integer)
    x = np.random.default_rng(n).integers(info.min, info.max, (n, 1000), integer, endpoint=True)
    parts = bn.ChannelStats()
    for part in np.array_split(x, 2)[::-1]:
        parts.update(part)
    whole = bn.channel_stats(x)
    assert_same_bits("mean", parts.mean, whole.mean)
    assert_same_bits("m2", parts.m2, whole.m2)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_parts_of_many_values_have_the_bits_of_the_whole(axis: int, masked: bool) -> None:
    """Sums of squares that float64 has no room for, about the mean either."""
    rng = np.random.default_rng(0)
    x = np.moveaxis(rng.choice(np.array([0, 1, 65534, 65535], np.uint16), (3_000_000, 3)), -1, axis)
    mask = rng.random(3_000_000) < 0.9 if masked else None
    whole = bn.channel_stats(x, axis=axis, mask=mask)
    parts = bn.ChannelStats()
    for at in (slice(1_000_000, None), slice(7), slice(7, 1_000_000)):
        of_x = (slice(None), at) if axis == 0 else at
        parts.update(x[of_x], axis=axis, mask=None if mask is None else mask[at])
    assert_same_bits("mean", parts.mean, whole.mean)
    assert_same_bits("m2", parts.m2, whole.m2)
    means, m2s = exact(x if mask is None else np.compress(mask, x, axis=1 if axis == 0 else 0), axis)
    assert whole.mean.tolist() == [float(mean) for mean in means]
    assert whole.m2.tolist() == [float(m2) for m2 in m2s]


def test_sums_that_grow_too_large_are_given_up() -> None:
    stats = bn.channel_stats(np.array([[0, 7], [65535, 7]], np.uint16))
    kept = []
    for _ in range(60):
        assert stats.mean.tolist() == [32767.5, 7]
        assert stats.var().tolist() == [32767.5**2, 0]
        kept.append("total" in json.loads(stats.to_json()))
        stats.merge(stats)
    ends = 61 - 31  # m2 doubles from just below 2**31 to just below 2**61
    assert kept == [True] * (ends + 1) + [False] * (60 - ends - 1)


def test_batches_merge_to_the_whole(integer: Any) -> None:
    info = np.iinfo(integer)
    x = np.random.default_rng(0).integers(info.min, info.max, (300, 5, 7, 3), integer, endpoint=True)
    stats = bn.ChannelStats()
    for part in np.array_split(x, 7):
        stats.update(part, axis=-1)
    whole = bn.channel_stats(x, axis=-1)
    within("mean", stats.mean, whole.mean, 1e-14 * np.maximum(np.abs(whole.mean), whole.std()))
    within("m2", stats.m2, whole.m2, 1e-13 * whole.m2)
    same = bn.channel_stats(x, axis=-1, num_threads=1)
    assert_same_bits("m2", same.m2, whole.m2)


def test_inference_agrees_with_the_oracle(isa: str, integer: Any, few_case: Case) -> None:
    axis, x = few_case.arrays(integer)
    c = x.shape[axis]
    weight, bias = parameters(c, np.float32)
    mean, var = given_statistics(c, np.float32)
    mean, var = mean * 10, var * 1000
    y = bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis)
    assert y.dtype == np.float32
    want = oracle.inference(x, mean, var, weight, bias, axis=axis)
    within("y", y, want, 1e-6 * np.maximum(1, np.abs(want)))
    out = np.empty(y.shape, np.float16)
    if y.flags.c_contiguous:
        assert bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis, out=out) is out
        with np.errstate(over="ignore"):
            within("y", out.astype(float), want.astype(np.float16).astype(float), 1e-3 * np.maximum(1, np.abs(want)))


def test_images_as_one_normalizes_them() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 33, 3), np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    got = bn.batch_norm_inference(images, mean * 255, (std * 255) ** 2, eps=0.0, axis=-1)
    assert np.abs(got - (images / 255 - mean) / std).max() < 1e-6


def test_integers_are_not_trained_on(integer: Any) -> None:
    x = np.ones((4, 3), integer)
    expected = r"expected float16, bfloat16 \(of ml_dtypes\), float32 or float64, got"
    with pytest.raises(TypeError, match=f"^x: {expected}"):
        bn.batch_norm_train(x)
    for out in (np.empty((4, 3), integer), x):
        with pytest.raises(TypeError, match=f"^out: {expected}"):
            bn.batch_norm_inference(x, np.zeros(3), np.ones(3), out=out)
    with pytest.raises(
        TypeError, match=rf"^out: expected float16, .* or float32, which goes with x's {np.dtype(integer)}, got float64"
    ):
        bn.batch_norm_inference(x, np.zeros(3), np.ones(3), out=np.empty((4, 3)))
