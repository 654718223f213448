"""float16 and bfloat16: conversions bit by bit, one rounding at the end, and what may be mixed."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import batchnorm as bn
import oracle
from activations import activation, slope_of
from layouts import Case, given_statistics, parameters
from oracle import Array, along, channels
from tolerances import assert_same_bits, within

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
FRACTION_BITS = {HALVES[0]: 10, HALVES[1]: 7}


@pytest.fixture(params=HALVES, ids=str)
def half(request: pytest.FixtureRequest) -> Any:
    return request.param


def ulp(values: Array, half: Any) -> Array:
    """The spacing of a half precision at the values."""
    info = ml_dtypes.finfo(half)
    exponent = np.floor(np.log2(np.maximum(np.abs(values), float(info.smallest_normal))))
    return np.asarray(2.0 ** (exponent - FRACTION_BITS[half]))


def identity(x: Array, out: Array) -> Array:
    """The transform that changes nothing, so that only conversions are left."""
    return bn.batch_norm_inference(x, np.zeros(x.shape[1]), np.ones(x.shape[1]), eps=0.0, out=out)


def every_pattern(half: Any) -> Array:
    return np.arange(2**16, dtype=np.uint16).view(half).reshape(64, -1)


@pytest.mark.parametrize(
    "layout", [np.ascontiguousarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2]], ids=["run", "apart"]
)
def test_every_value_widens_exactly(isa: str, half: Any, layout: Any) -> None:
    x = every_pattern(half)
    got = identity(layout(x), np.empty(x.shape, np.float32))
    want = x.astype(np.float32)
    assert_same_bits("nan", np.isnan(got), np.isnan(want))
    finite = ~np.isnan(want)
    assert_same_bits("values", got[finite] + 0, want[finite] + 0)


@pytest.mark.parametrize("apart", [False, True], ids=["run", "apart"])
def test_what_is_narrowed_is_rounded_to_nearest_even(isa: str, half: Any, apart: bool) -> None:
    """Every value, what lies halfway to the next one, and the floats beside that; infinity, NaN, and what overflows."""
    values = np.sort(every_pattern(half).astype(np.float32)[np.isfinite(every_pattern(half).astype(np.float32))])
    halfway = ((values[:-1].astype(np.float64) + values[1:]) / 2).astype(np.float32)
    x = np.concatenate(
        [values, halfway, np.nextafter(halfway, np.float32(np.inf)), np.nextafter(halfway, np.float32(0))]
    )
    x = np.concatenate([x, np.float32([np.inf, -np.inf, 3e38, -3e38, 65519.996, 65520, 1e-45, -1e-45])])
    nans = np.uint32([0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00001]).view(np.float32)
    x = np.concatenate([x, nans, np.zeros(-(x.size + nans.size) % 32, np.float32)]).reshape(-1, 32)
    out = np.zeros((len(x), 64), half)[:, ::2] if apart else np.empty(x.shape, half)
    got = identity(x, out)
    with np.errstate(over="ignore"):
        want = x.astype(half)
    assert_same_bits("nan", np.isnan(got), np.isnan(want))
    numbers = ~np.isnan(x)
    assert_same_bits("values", got[numbers].astype(np.float32) + 0, want[numbers].astype(np.float32) + 0)


def assert_rounded_once(name: str, got: Array, want: Array, half: Any, more: float = 0.0) -> None:
    """Within 1 ulp of the rounded result: what float lanes lose may round to the other side."""
    __tracebackhide__ = True
    assert got.dtype == half
    rounded = want.astype(half).astype(np.float64)
    within(name, got.astype(np.float64), rounded, ulp(rounded, half) + more)


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (100, 1), (-3, 0.01)], ids=str)
def test_forward_agrees_with_the_oracle(isa: str, half: Any, few_case: Case, mean: float, std: float) -> None:
    axis, x = few_case.arrays(half, mean=mean, std=std)
    weight, bias = parameters(x.shape[axis], np.float32)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow")
    want = oracle.train(x, weight, bias, axis=axis)
    near_zero = 4e-6 * (1 + np.abs(want.y).max(initial=0))  # what 1 ulp at 0 can't hold: weight * xhat + bias cancels
    assert_rounded_once("y", y, want.y, half, near_zero)
    if x.size:
        scale = np.maximum(np.abs(want.mean), np.sqrt(want.var))
        within("mean", saved.mean, want.mean, 1e-6 * scale)
        within("var", saved.var, want.var, 1e-6 * want.var)
    mean_given, var_given = given_statistics(x.shape[axis], np.float32)
    y = bn.batch_norm_inference(x, mean_given, var_given, weight, bias, axis=axis)
    want_y = oracle.inference(x, mean_given, var_given, weight, bias, axis=axis)
    assert_rounded_once("y", y, want_y, half, 4e-6 * (1 + np.abs(want_y).max(initial=0)))


def test_backward_agrees_with_the_oracle(isa: str, half: Any, few_case: Case) -> None:
    axis, x, dy = few_case.arrays(half, 2, mean=0.5)
    weight, bias = parameters(x.shape[axis], np.float32)
    _, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow")
    got = bn.batch_norm_backward(dy, x, saved)
    want = oracle.backward(dy, x, weight, axis=axis)
    g = np.abs(oracle.wide(dy))
    scale = np.abs(saved.scale).max(initial=0) * g.max(initial=0)
    assert_rounded_once("dx", got.dx, want.dx, half, 1e-5 * scale)
    assert got.dweight.dtype == got.dbias.dtype == np.float32
    sums = channels(g, axis).sum(1)
    within("dbias", got.dbias, want.dbias, 1e-6 * sums)
    far = np.abs(oracle.train(x, axis=axis).y).max(initial=1)
    within("dweight", got.dweight, want.dweight, 2e-6 * sums * far)
    mean, var = given_statistics(x.shape[axis], np.float32)
    frozen = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, axis=axis)
    want = oracle.inference_backward(dy, x, mean, var, weight, axis=axis)
    assert_rounded_once("dx", frozen.dx, want.dx, half, 1e-6 * g.max(initial=0))


@pytest.mark.parametrize("kind", ["relu", "prelu"])
def test_fused(isa: str, half: Any, few_case: Case, kind: str) -> None:
    axis, x, r, dy = few_case.arrays(half, 3, mean=0.5)
    c = x.shape[axis]
    weight, bias = parameters(c, np.float32)
    given = activation(kind, c, np.float32)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow", activation=given, residual=r)
    want = oracle.activated(oracle.train(x, weight, bias, axis=axis).y + oracle.wide(r), slope_of(given, x, axis))
    assert_rounded_once("y", y, want, half, 4e-6 * (1 + np.abs(want).max(initial=0)))
    got = bn.batch_norm_backward(dy, x, saved, y=y)
    g = oracle.taken_back(dy, np.where(~(y.astype(np.float32) <= 0), 1, -1), slope_of(given, x, axis))
    assert got.dresidual is not None
    assert_rounded_once("dresidual", got.dresidual, g, half)
    dx = oracle.backward(g, x, weight, axis=axis).dx
    scale = np.abs(saved.scale).max(initial=0) * np.abs(g).max(initial=0)
    assert_rounded_once("dx", got.dx, dx, half, 1e-5 * scale)


@pytest.mark.parametrize("axis", [1, -1])
def test_a_million_large_values(isa: str, half: Any, axis: int) -> None:
    """Up to half precision's largest: sums of squares are far beyond it."""
    rng = np.random.default_rng(0)
    shape = (2, 4, 500_000) if axis == 1 else (1_000_000, 4)
    x = np.clip(rng.normal(3e4, 2e4, shape), -65504, 65504).astype(half)
    _, saved = bn.batch_norm_train(x, axis=axis)
    stats = bn.channel_stats(x, axis=axis)
    count, mean, m2 = oracle.moments(x.astype(np.float64), axis)
    for name, got in (("train", saved.mean), ("stats", stats.mean)):
        within(name, got, mean, 1e-6 * np.abs(mean))
    for name, got in (("train", saved.var), ("stats", stats.var())):
        within(name, got, m2 / count, 1e-6 * m2 / count)
    within("m2", stats.m2, m2, 1e-13 * m2)


def test_types_mix_through_out_and_dy(isa: str) -> None:
    """One rounding at the end, whatever comes in: float32 lanes between."""
    rng = np.random.default_rng(0)
    kinds = [np.dtype(np.float32), *HALVES]
    weight, bias = parameters(37, np.float32)
    for source in kinds:
        x = rng.normal(2, 3, (5, 37, 11)).astype(source)
        want = oracle.train(x, weight, bias)
        for target in kinds:
            out = np.empty(x.shape, target)
            y, saved = bn.batch_norm_train(x, weight, bias, out=out)
            assert y is out
            if target == np.float32:
                within("y", y, want.y, 2e-6 * (1 + np.abs(want.y)))
            else:
                assert_rounded_once("y", y, want.y, target, 1e-5)
            dy = rng.normal(size=x.shape).astype(target)
            dx_want = oracle.backward(dy, x, weight).dx
            dx = bn.batch_norm_backward(dy, x, saved).dx
            assert dx.dtype == source
            bound = 1e-5 if source == np.float32 else ulp(dx_want, source) + 1e-5
            within("dx", dx.astype(np.float64), dx_want.astype(np.float64), bound)
        residual = rng.normal(size=x.shape).astype(HALVES[0])
        y = bn.batch_norm_inference(x, weight, np.abs(bias) + 1, residual=residual, out=np.empty(x.shape, np.float32))
        assert y.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 7, 32])
def test_images_at_two_strides(isa: str, channels: int) -> None:
    """What is converted for the sums is kept for the map, also where a channel's images don't lie at one stride."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4, 2 * channels, 13, 13)).astype(np.float16)[:, :3, ::2]
    assert x.shape[2] == channels
    y, saved = bn.batch_norm_train(x, axis=2, out=np.empty(x.shape, np.float32))
    want, wanted = bn.batch_norm_train(x.astype(np.float32), axis=2)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6)
    np.testing.assert_allclose(saved.var, wanted.var, rtol=1e-6)


def test_every_array_may_be_of_its_own_type(isa: str) -> None:
    """One that differs from the others is converted, whichever it is."""
    rng = np.random.default_rng(0)
    kinds = [np.dtype(np.float32), *HALVES]
    x, r, dy = rng.normal(size=(3, 5, 7, 11)).astype(np.float32)
    mean, var = given_statistics(7, np.float32)
    given = ("leaky_relu", 0.25)
    want_y = bn.batch_norm_train(x, activation=given, residual=r)[0]
    for odd, base in [(a, b) for a in kinds for b in kinds if a != b]:
        for which in range(6):
            types = [odd if i == which else base for i in range(6)]
            x_, r_, dy_ = x.astype(types[0]), r.astype(types[1]), dy.astype(types[2])
            y, saved = bn.batch_norm_train(x_, activation=given, residual=r_, out=np.empty(x.shape, types[3]))
            within("y", y.astype(float), want_y.astype(float), 0.1)
            outs: Any = {"out": np.empty(x.shape, types[4]), "residual_out": np.empty(x.shape, types[5])}
            g = bn.batch_norm_backward(dy_, x_, saved, y=y, **outs)
            scaled = np.where(y.astype(float) <= 0, 0.25, 1) * dy_.astype(float)
            within("dresidual", g.dresidual.astype(float), scaled, 0.02 * np.abs(scaled))
            frozen = bn.batch_norm_inference_backward(dy_, x_, mean, var, activation=given, residual=r_, **outs)
            assert frozen.dx.dtype == types[4]
            assert frozen.dresidual.dtype == types[5]
            assert np.isfinite(frozen.dx.astype(float)).all()


@pytest.mark.parametrize("axis", [1, -1])
def test_threads_change_no_bit(isa: str, half: Any, axis: int) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 6, 24, 70, 24)).astype(half)
    results = []
    for threads in (1, 2, 3, 5, 8):
        y, saved = bn.batch_norm_train(x, axis=axis, num_threads=threads)
        g = bn.batch_norm_backward(dy, x, saved, num_threads=threads)
        results.append([a.view(np.uint16) for a in (y, g.dx)] + [g.dweight, g.dbias, saved.var])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same_bits("bits", a, b)


def test_in_place_and_streamed(isa: str, half: Any) -> None:
    from batchnorm import _core

    rng = np.random.default_rng(0)
    for shape, axis in (((3, 5, 41, 43), 1), ((3, 41, 43, 5), -1), ((50, 7, 7, 19), -1)):
        x = rng.normal(size=shape).astype(half)
        want = bn.batch_norm_train(x, axis=axis)[0]
        _core._set_stream_above(0)
        try:
            got = bn.batch_norm_train(x.copy(), axis=axis)[0]
            mine = x.copy()
            assert bn.batch_norm_train(mine, axis=axis, out=mine)[0] is mine
        finally:
            _core._set_stream_above(None)
        assert_same_bits("streamed", got.view(np.uint16), want.view(np.uint16))
        assert_same_bits("in place", mine.view(np.uint16), want.view(np.uint16))


def test_statistics_merge_and_the_layer_takes_halves(half: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3, 20)).astype(half)
    stats = bn.channel_stats(x[:5]).merge(bn.channel_stats(x[5:]))
    whole = bn.channel_stats(x)
    within("m2", stats.m2, whole.m2, 1e-13 * whole.m2)
    layer = bn.BatchNorm(3)
    y = layer(x)
    assert y.dtype == half
    assert layer.backward(y).dtype == half
    assert layer.eval()(x).dtype == half
    assert along(layer.running_mean, x, 1).shape == (1, 3, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.int4,
        "V2",
        [("a", "f2")],
        np.uint32,
        np.int64,
        np.uint64,
        bool,
        complex,
        "M8[s]",
    ],
    ids=str,
)
def test_what_is_not_taken(wrong: Any) -> None:
    x = np.zeros((4, 3), wrong)
    expected = r"expected float16, bfloat16 \(of ml_dtypes\), float32, float64, uint8, int8, uint16 or int16, got "
    with pytest.raises(TypeError, match=f"^x: {expected}"):
        bn.channel_stats(x)
    with pytest.raises(TypeError, match=r"^x: expected float16, bfloat16 \(of ml_dtypes\), float32 or float64, got "):
        bn.batch_norm_train(x)


def test_a_bfloat16_of_another_library() -> None:
    """Known by its name and its module: other ones may hold other bits."""

    class Bfloat16(np.void):
        pass

    Bfloat16.__name__ = "bfloat16"
    x = np.zeros((4, 3), np.dtype((Bfloat16, 2)))
    with pytest.raises(TypeError, match=r"^x: expected float16, bfloat16 \(of ml_dtypes\)"):
        bn.batch_norm_train(x)


def test_float64_goes_with_nothing_else(half: Any) -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    y, saved = bn.batch_norm_train(x)
    for call in (
        lambda: bn.batch_norm_train(x, out=np.empty(x.shape, half)),
        lambda: bn.batch_norm_train(x.astype(half), out=np.empty(x.shape)),
        lambda: bn.batch_norm_train(x.astype(half), residual=x),
        lambda: bn.batch_norm_backward(y.astype(half), x, saved),
        lambda: bn.batch_norm_backward(y, x.astype(half), saved),
    ):
        with pytest.raises(TypeError, match=r"^(out|residual|dy): expected float.*, which goes with x's .*, got "):
            call()
    for name in ("weight", "bias"):
        with pytest.raises(TypeError, match=f"^{name}: expected float32 or float64, got {half}"):
            bn.batch_norm_train(x.astype(half), **{name: np.ones(3, half)})  # type: ignore[arg-type]
