"""The numerical bars of issue 2, and data that is known to break batch normalization elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import parameters
from oracle import Array
from tolerances import assert_forward, assert_gradients, assert_same_bits, assert_stats, within

AXES = {"channels_first": 1, "channels_last": -1}


@pytest.fixture(params=list(AXES.values()), ids=list(AXES))
def axis(request: pytest.FixtureRequest) -> int:
    return request.param  # type: ignore[no-any-return]


def in_layout(a: Array, axis: int) -> Array:
    """(N, C, ...) with the channels moved to axis, dense."""
    return np.ascontiguousarray(np.moveaxis(a, 1, axis))


def from_sequence(values: Any, axis: int) -> Array:
    """(C, n) values as (16, C, n / 256, 16) or with C last, in that order in each channel."""
    c, n = values.shape
    return in_layout(np.moveaxis(values.reshape(c, 16, n // 256, 16), 0, 1), axis)


def assert_every_row(x: Array, axis: int, seed: int = 9) -> None:
    """Every row of the contract, once."""
    __tracebackhide__ = True
    c = x.shape[axis]
    weight, bias = parameters(c)
    dy = np.random.default_rng(seed).normal(0.1, 1, x.shape).astype(x.dtype)
    forward = oracle.train(x, weight, bias, axis=axis)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis)
    assert_forward(y, saved, x, forward, weight, bias, axis)
    want = oracle.backward(dy, x, weight, axis=axis)
    assert_gradients(bn.batch_norm_backward(dy, x, saved), dy, x, want, forward, weight, axis)
    assert_stats(bn.channel_stats(x, axis=axis), x, axis)


class Bar(NamedTuple):
    """The data of one bar, with what the oracle says about it, once for all instruction sets."""

    x: Array
    dy: Array
    axis: int
    weight: Array
    bias: Array
    forward: oracle.Forward
    backward: oracle.Backward


SHAPE = (32, 16, 112, 112)
BARS: dict[str, Callable[[np.random.Generator], Array]] = {
    "mean=0,std=1": lambda rng: rng.normal(0, 1, SHAPE),
    "mean=100,std=1": lambda rng: rng.normal(100, 1, SHAPE),
    "mean=1e4,std=1": lambda rng: rng.normal(1e4, 1, SHAPE),
    "mean=1e5,std=0.1": lambda rng: rng.normal(1e5, 0.1, SHAPE),
    "ramp_over_the_batch": lambda rng: rng.normal(0, 1, SHAPE) + np.linspace(0, 1e4, 32)[:, None, None, None],
}


@pytest.fixture(scope="module", params=[(b, a) for b in BARS for a in AXES], ids=lambda p: f"{p[0]}-{p[1]}")
def bar(request: pytest.FixtureRequest) -> Bar:
    name, layout = request.param
    rng = np.random.default_rng(0)
    axis, (weight, bias) = AXES[layout], parameters(16)
    x, dy = (in_layout(a.astype(np.float32), axis) for a in (BARS[name](rng), rng.normal(0.1, 1, SHAPE)))
    return Bar(
        x, dy, axis, weight, bias, oracle.train(x, weight, bias, axis=axis), oracle.backward(dy, x, weight, axis=axis)
    )


def test_the_bars_of_the_issue(bar: Bar, isa: str) -> None:
    """float32, (32, 16, 112, 112) and (32, 112, 112, 16)."""
    y, saved = bn.batch_norm_train(bar.x, bar.weight, bar.bias, axis=bar.axis)
    assert_forward(y, saved, bar.x, bar.forward, bar.weight, bar.bias, bar.axis)
    got = bn.batch_norm_backward(bar.dy, bar.x, saved)
    assert_gradients(got, bar.dy, bar.x, bar.backward, bar.forward, bar.weight, bar.axis)


def test_the_bars_of_the_issue_for_statistics(bar: Bar, isa: str) -> None:
    stats = bn.channel_stats(bar.x, axis=bar.axis)
    count = bar.x.size // 16
    assert stats.count.tolist() == [count] * 16
    std = np.sqrt(bar.forward.var)
    within("mean", stats.mean, bar.forward.mean, 1e-14 * np.maximum(np.abs(bar.forward.mean), std))
    m2 = bar.forward.var * count
    within("m2", stats.m2, m2, (1e-14 + 1e-16 * np.abs(bar.forward.mean) / std) * m2)


@pytest.mark.parametrize("mean_and_std", [(0, 1), (100, 1), (1e4, 1), (1e5, 0.1), (1e6, 1), (-1e6, 1)], ids=str)
def test_far_from_zero(isa: str, dtype: Any, axis: int, mean_and_std: tuple[float, float]) -> None:
    x = np.random.default_rng(0).normal(*mean_and_std, (8, 6, 40, 41)).astype(dtype)
    assert_every_row(in_layout(x, axis), axis)


def test_a_ramp_over_the_batch(isa: str, dtype: Any, axis: int) -> None:
    x = np.random.default_rng(0).normal(0, 1, (32, 6, 20, 21)) + np.linspace(0, 1e4, 32)[:, None, None, None]
    assert_every_row(in_layout(x.astype(dtype), axis), axis)


@pytest.mark.parametrize("mean", [0, 1e4], ids=str)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_an_outlier_of_1e4_sigma(isa: str, dtype: Any, axis: int, where: str, mean: float) -> None:
    """First, it is what a pivot is taken from."""
    values = np.random.default_rng(0).normal(mean, 1, (4, 65536))
    values[:, {"first": 0, "middle": 30001, "last": -1}[where]] += 1e4
    assert_every_row(from_sequence(values.astype(dtype), axis), axis)


@pytest.mark.parametrize("length", [1, 16, 1000, 4096, 8192, 16384, 65536])
def test_alternating_blocks(isa: str, dtype: Any, axis: int, length: int) -> None:
    """At +100 and -100: a pivot from one block is 200 sigma off in the next."""
    sign = 1 - 2 * (np.arange(2**17) // length % 2)
    values = np.random.default_rng(0).normal(0, 1, (3, 2**17)) + 100 * sign
    assert_every_row(from_sequence(values.astype(dtype), axis), axis)


def test_alternating_samples(isa: str, dtype: Any, axis: int) -> None:
    sign = 1 - 2 * (np.arange(32) % 2)
    x = np.random.default_rng(0).normal(0, 1, (32, 5, 50, 51)) + 1e3 * sign[:, None, None, None]
    assert_every_row(in_layout(x.astype(dtype), axis), axis)


@pytest.mark.parametrize("a", [0.1, 1 / 3, 12345.678], ids="{:.4g}".format)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.003], ids=str)
def test_sparse_two_valued_data(isa: str, dtype: Any, axis: int, share: float, a: float) -> None:
    """0 or a: all rounding errors have one sign, so long sums of float32 drift."""
    values = np.where(np.random.default_rng(0).random((4, 2**17)) < share, a, 0)
    assert_every_row(from_sequence(values.astype(dtype), axis), axis)


@pytest.mark.parametrize("length", [47, 49, 60, 63])
def test_sparse_data_in_short_rows(isa: str, length: int) -> None:
    """Rows apart that end between vectors, whose ends must not be longer sums than the rest."""
    rng = np.random.default_rng(0)
    for share in (0.5, 0.1, 0.01):
        a = rng.uniform(0.5, 1.5, (1, 16, 1))
        x = np.where(rng.random((512, 16, length + 3)) < share, a, 0).astype(np.float32)[:, :, :length]
        y, saved = bn.batch_norm_train(x)
        assert_forward(y, saved, x, oracle.train(x))


@pytest.mark.parametrize("period", [2, 4, 16, 64])
def test_periodic_data(isa: str, dtype: Any, axis: int, period: int) -> None:
    """Each lane of a vector sees few values, or one, so its rounding errors add up in the same direction."""
    values = np.tile(np.random.default_rng(0).normal(0, 1, (20, period)), 2**14 // period)
    assert_every_row(from_sequence(values.astype(dtype), axis), axis)


CONSTANTS = [0.0, 0.1, 1 / 3, -0.7, 1.0, 123456.789, 16777215.0, 1e-30, 1e-40, 1e30, 3e38]


@pytest.mark.parametrize("eps", [0, 1e-5], ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 1), (3, 5, 17), (13, 5, 31, 31), (2, 5, 70001)], ids=str)
def test_a_constant_has_variance_zero_and_gives_the_bias(
    isa: str, dtype: Any, axis: int, shape: tuple[int, ...], eps: float
) -> None:
    bias = np.array([0.0, 1 / 3, -2.5, 1e-3, 7e5])
    for value in CONSTANTS:
        x = in_layout(np.full(shape, value, dtype), axis)
        y, saved = bn.batch_norm_train(x, None, bias, axis=axis, eps=eps)
        assert_same_bits(f"var of {value}", saved.var, np.zeros(5))
        want = np.broadcast_to(oracle.along(bias, x, axis).astype(dtype), x.shape)
        assert (y == want).all(), value
        assert_same_bits(f"m2 of {value}", bn.channel_stats(x, axis=axis).m2, np.zeros(5))


def test_a_constant_channel_among_others(isa: str, dtype: Any, axis: int) -> None:
    """Also one constant per channel, so that columns differ where the variance is zero."""
    x = np.random.default_rng(0).normal(3, 2, (16, 5, 20, 21))
    x[:, [1, 3]] = np.array([0.1, -1e4])[:, None, None]
    x = in_layout(x.astype(dtype), axis)
    _, saved = bn.batch_norm_train(x, axis=axis)
    assert_same_bits("var", saved.var[[1, 3]], np.zeros(2))
    assert (saved.var[[0, 2, 4]] > 1).all()
    assert_every_row(x, axis)


@pytest.mark.no_sanitizer  # 400 MB
def test_ones() -> None:
    """NumPy says mean 0.5 here."""
    x = np.ones((8192, 64, 64, 3), np.float32)
    stats = bn.channel_stats(x, axis=-1)
    assert stats.count.tolist() == [2**25] * 3
    assert stats.mean.tolist() == [1, 1, 1]
    assert stats.var().tolist() == [0, 0, 0]
    y, saved = bn.batch_norm_train(x, axis=-1, out=x)
    assert saved.mean.tolist() == [1, 1, 1]
    assert saved.var.tolist() == [0, 0, 0]
    assert not y.any()


@pytest.mark.parametrize("std", [1e-15, 1e-8, 1e8, 1e15], ids="{:.0e}".format)
@pytest.mark.parametrize("mean_over_std", [0, 1, 1000])
def test_small_and_large_standard_deviations(isa: str, dtype: Any, axis: int, std: float, mean_over_std: float) -> None:
    x = (np.random.default_rng(0).normal(mean_over_std, 1, (8, 6, 40, 41)) * std).astype(dtype)
    x = in_layout(x, axis)
    forward = oracle.train(x, eps=0, axis=axis)
    y, saved = bn.batch_norm_train(x, eps=0, axis=axis)
    assert_forward(y, saved, x, forward, axis=axis)
    assert_stats(bn.channel_stats(x, axis=axis), x, axis)
    assert_every_row(x, axis)


FINITE: dict[str, Callable[[np.random.Generator], Array]] = {
    "subnormal": lambda rng: rng.normal(0, 1e-41, (4, 4096)),
    "near_the_smallest": lambda rng: rng.normal(0, 1e-37, (4, 4096)),
    "near_the_largest": lambda rng: rng.uniform(-3e38, 3e38, (4, 4096)),
    "every_magnitude": lambda rng: 10.0 ** rng.uniform(-40, 38, (4, 4096)) * rng.choice([-1, 1], (4, 4096)),
    "one_huge": lambda rng: np.where(np.arange(4096) == 17, 3e38, rng.normal(0, 1, (4, 4096))),
}


@pytest.mark.parametrize("data", FINITE.values(), ids=FINITE.keys())
def test_statistics_of_any_finite_input(isa: str, dtype: Any, axis: int, data: Callable[..., Array]) -> None:
    """channel_stats sums in float64 lanes, which hold the square of any float32."""
    x = from_sequence(data(np.random.default_rng(0)).astype(dtype), axis)
    assert np.isfinite(x).all()
    assert_stats(bn.channel_stats(x, axis=axis), x, axis)


def test_statistics_of_doubles_beyond_float32(isa: str, axis: int) -> None:
    for std in (1e-140, 1e140):
        x = from_sequence(np.random.default_rng(0).normal(3, 1, (4, 4096)) * std, axis)
        assert_stats(bn.channel_stats(x, axis=axis), x, axis)


def test_eight_million_values_in_one_channel(isa: str) -> None:
    """A running mean in float32 would freeze; one in float64 by single values would drift."""
    x = np.random.default_rng(0).random((2**23 + 3, 1), np.float32) + np.float32(10)
    forward = oracle.train(x)
    y, saved = bn.batch_norm_train(x)
    assert_forward(y, saved, x, forward)
    assert_stats(bn.channel_stats(x), x)


def test_a_large_offset_in_dy(isa: str, dtype: Any, axis: int) -> None:
    """dx takes the mean of dy away, and dweight must not see it."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(100, 1, (8, 6, 40, 41)), rng.normal(1e3, 1, (8, 6, 40, 41))
    x, dy = (in_layout(a.astype(dtype), axis) for a in (x, dy))
    _, saved = bn.batch_norm_train(x, axis=axis)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_gradients(got, dy, x, oracle.backward(dy, x, axis=axis), oracle.train(x, axis=axis), axis=axis)


@pytest.mark.parametrize("period", [1, 2, 16])
def test_a_periodic_gradient(isa: str, dtype: Any, axis: int, period: int) -> None:
    """That of a mean is one value everywhere, 1 / count: rounding errors of its sum have one sign."""
    rng = np.random.default_rng(0)
    x = from_sequence(rng.normal(0, 1, (32, 2**14)).astype(dtype), axis)
    dy = from_sequence(np.tile(rng.uniform(0.1, 1, (32, period)), 2**14 // period).astype(dtype), axis)
    _, saved = bn.batch_norm_train(x, np.ones(32), axis=axis)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_gradients(got, dy, x, oracle.backward(dy, x, axis=axis), oracle.train(x, axis=axis), axis=axis)


@pytest.mark.parametrize("axis", [1, -1], ids=["channels_first", "channels_last"])
def test_sums_beyond_float32(isa: str, axis: int) -> None:
    """A few values of x, or of dy, pass 3.4e38 together, though their mean and deviations don't."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (16, 3, 500))
    x = in_layout((3e38 + 1e32 * noise).astype(np.float32), axis)
    forward = oracle.train(x, axis=axis, eps=0)
    y, saved = bn.batch_norm_train(x, axis=axis, eps=0)
    assert_forward(y, saved, x, forward, axis=axis)
    x = in_layout(noise.astype(np.float32), axis)
    dy = in_layout((2e38 + 1e35 * rng.normal(size=noise.shape)).astype(np.float32), axis)
    _, saved = bn.batch_norm_train(x, np.ones(3), axis=axis)
    dbias = bn.batch_norm_backward(dy, x, saved).dbias
    expected = dy.sum(axis=tuple(i for i in range(3) if i != axis % 3), dtype=np.float64)
    assert np.abs(dbias / expected - 1).max() <= 1e-7


@pytest.mark.parametrize("mean", [2.0**19, -(2.0**19), 512.0, 1.0])
@pytest.mark.parametrize("deviation", [1.0, 2.0**-9])
@pytest.mark.parametrize("shape", [(4, 3, 2048), (2048, 32, 1), (257, 1, 1), (300, 5, 60)], ids=str)
def test_values_around_a_power_of_two(
    isa: str, axis: int, mean: float, deviation: float, shape: tuple[int, ...]
) -> None:
    """Sums of few values then lie a binade below the next value, where a fast two-sum is not exact."""
    x = in_layout(np.random.default_rng(0).normal(mean, deviation * abs(mean) / 512, shape).astype(np.float32), axis)
    y, saved = bn.batch_norm_train(x, axis=axis)
    assert_forward(y, saved, x, oracle.train(x, axis=axis), axis=axis)


@pytest.mark.parametrize("axis", [1, -1], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("small", [2.0**-24, 1e-3, 1.0])
def test_values_of_both_signs_that_cancel(isa: str, axis: int, small: float) -> None:
    """A float sum is now smaller and now larger than the next value; what additions lose must stay in the mean."""
    rng = np.random.default_rng(0)
    pattern = np.array([1 + 2**-23, small, -1, 3 * small, -(1 + 2**-22), 1])
    x = np.tile(pattern, (4, 2000))[:, None] * rng.choice([1, 1.5, 3], (1, 5, 1))
    x = in_layout(x.astype(np.float32), axis)
    y, saved = bn.batch_norm_train(x, axis=axis)
    assert_forward(y, saved, x, oracle.train(x, axis=axis), axis=axis)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("axis", [1, -1], ids=["channels_first", "channels_last"])
def test_small_values_beside_a_large_one_in_dy(isa: str, axis: int, lanes: int) -> None:
    """Each is less than half an ulp of the 1 that shares its float lane; together they are 2.6 times the tolerance."""
    dy = np.zeros((1, 1, 256), np.float32)
    dy[0, 0, 0] = 1
    dy[0, 0, [lanes * i for i in (1, 2, 4, 8, 12)]] = 5.3e-8
    x = np.random.default_rng(0).normal(size=dy.shape).astype(np.float32)
    x, dy = (np.ascontiguousarray(np.moveaxis(a, 1, axis)) for a in (x, dy))
    _, saved = bn.batch_norm_train(x, axis=axis)
    got = bn.batch_norm_backward(dy, x, saved, np.ones(1)).dbias
    assert abs(got[0] - dy.sum(dtype=np.float64)) <= 1e-7


def test_gradients_of_a_wide_range(isa: str) -> None:
    """The product of dy and x alone leaves float32; neither does by itself, nor does any gradient."""
    rng = np.random.default_rng(0)
    for std, size in ((1e15, 1e24), (1e-8, 1e-32)):
        x = (std * rng.normal(size=(64, 5, 9))).astype(np.float32)
        dy = (size * rng.normal(size=x.shape)).astype(np.float32)
        _, saved = bn.batch_norm_train(x, eps=0)
        got = bn.batch_norm_backward(dy, x, saved)
        want = oracle.backward(dy, x, eps=0)
        for name in ("dweight", "dbias"):
            a, b = getattr(got, name), np.asarray(getattr(want, name)).reshape(-1)
            assert np.abs(a - b).max() <= 1e-6 * np.abs(dy).sum(dtype=np.float64) / 5, name


def test_a_constant_and_the_smallest_eps(isa: str, dtype: Any) -> None:
    """The scale is beyond float32, and 0 times it is 0 all the same."""
    x = np.full((8, 2, 3), 0.1, dtype)
    y, saved = bn.batch_norm_train(x, None, np.array([1.0, 2.0]), eps=float(np.finfo(float).tiny))
    assert (y == np.array([1, 2])[:, None]).all()
    got = bn.batch_norm_backward(np.ones_like(x), x, saved)
    assert np.isfinite(got.dx).all()
    assert (got.dweight == 0).all()


def test_squares_that_overflow(isa: str) -> None:
    """About the first value they do, about the mean they don't; where they do all the same, var is infinite."""
    x = np.zeros((10**5, 2))
    x[0] = 1e153
    stats = bn.channel_stats(x)
    assert np.allclose(stats.mean, 1e148, rtol=0, atol=1e-14 * 10**150.5)  # the row of channel_stats: by the deviation
    assert np.allclose(stats.m2, 1e306 * (1 - 1e-5), rtol=1e-12)
    _, saved = bn.batch_norm_train(np.random.default_rng(0).normal(size=(1000, 2)) * 1e160)
    assert np.isposinf(saved.var).all()
    assert np.isfinite(saved.mean).all()


@pytest.mark.parametrize("odd", [np.nan, 1e25, 1e-25], ids=str)
def test_a_channel_out_of_range_keeps_its_neighbours(isa: str, axis: int, odd: float) -> None:
    """It is summed again in wide lanes; what its neighbours get stays the same, bit by bit."""
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(3000, 3)).astype(np.float32) for _ in range(2))
    strange_x, strange_dy = x.copy(), dy.copy()
    strange_x[:, 1] *= np.float32(odd)
    strange_dy[:, 1] = 3e38
    if axis == 0:
        x, dy, strange_x, strange_dy = (np.ascontiguousarray(a.T) for a in (x, dy, strange_x, strange_dy))
    kept = [0, 2]
    results = []
    for a, b in ((x, dy), (strange_x, strange_dy)):
        y, saved = bn.batch_norm_train(a, axis=axis)
        got = bn.batch_norm_backward(b, a, saved)
        assert got.dweight is not None
        assert got.dbias is not None
        arrays = (saved.mean, saved.var, got.dweight, got.dbias, *(np.moveaxis(v, axis, 0) for v in (y, got.dx)))
        results.append([v[kept] for v in arrays])
    for want, have in zip(*results, strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("period", [2, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_periodic_data_in_long_tiles(isa: str, dtype: type, period: int) -> None:
    """Arrays of 4 million values and more have the longest tiles of rows, whose roundings could all go one way."""
    few = np.random.default_rng(0).normal(3, 1, size=(period, 256)).astype(dtype)
    x = np.tile(few, (16384 // period, 1))
    exact = few.astype(np.longdouble)
    mean, var = exact.mean(0), exact.var(0)
    stats = bn.channel_stats(x)
    assert (np.abs(stats.mean - mean) <= 1e-14 * np.maximum(np.abs(mean), np.sqrt(var))).all()
    assert (np.abs(stats.m2 - var * len(x)) <= (1e-14 + 1e-16 * np.abs(mean) / np.sqrt(var)) * var * len(x)).all()
    _, saved = bn.batch_norm_train(x)
    assert (np.abs(saved.var - var) <= (3e-7 if dtype is np.float32 else 1e-13) * var).all()


def test_gradients_near_the_top_of_float32(isa: str) -> None:
    x, dy = np.full((10000, 2), 0.5, np.float32), np.full((10000, 2), 3e37, np.float32)
    x[::2] = -0.5
    _, saved = bn.batch_norm_train(x, np.ones(2))
    got = bn.batch_norm_backward(dy, x, saved)
    assert (got.dweight == 0).all()
    assert np.abs(got.dx).max() <= 1e-6 * 3e37 * saved.rstd.max()


@pytest.mark.parametrize("repeats", [16, 64, 1024])
@pytest.mark.parametrize("how", ["each", "all"])
def test_a_few_values_repeated(isa: str, axis: int, how: str, repeats: int) -> None:
    """Float lanes that summed them would miss the mean's row by a factor of two."""
    few = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    sequence = np.repeat(few, repeats, axis=1) if how == "each" else np.tile(few, repeats)
    x = from_sequence(sequence, axis)
    y, saved = bn.batch_norm_train(x, axis=axis)
    assert_forward(y, saved, x, oracle.train(x, axis=axis), axis=axis)
