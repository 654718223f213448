"""The inference form, with given statistics, and its backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import Case, fresh_out, given_statistics, only_inside_written, padded_out, parameters
from oracle import Array
from tolerances import F4, TABLE, assert_gradients, assert_same_bits, assert_y, within


def test_agrees_with_the_oracle(isa: str, dtype: Any, case: Case) -> None:
    axis, x = case.arrays(dtype, mean=0.5)
    weight, bias = parameters(x.shape[axis], dtype)
    mean, var = given_statistics(x.shape[axis], dtype)
    before = x.tobytes()
    y = bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis)
    assert_y(y, x, oracle.inference(x, mean, var, weight, bias, axis=axis), mean, var, weight, bias, axis)
    assert x.tobytes() == before


def test_the_output_has_the_memory_order_of_x(dtype: Any, dense_case: Case) -> None:
    axis, x = dense_case.arrays(dtype)
    y = bn.batch_norm_inference(x, *given_statistics(x.shape[axis]), axis=axis)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    if x.size:
        moved = [i for i in range(x.ndim) if x.shape[i] > 1]
        assert [y.strides[i] for i in moved] == [x.strides[i] for i in moved]


def test_out(isa: str, dtype: Any, case: Case) -> None:
    """Dense, with gaps, and x itself: one answer."""
    axis, x = case.arrays(dtype)
    mean, var = given_statistics(x.shape[axis])
    want = bn.batch_norm_inference(x, mean, var, axis=axis)
    out = fresh_out(x)
    assert bn.batch_norm_inference(x, mean, var, axis=axis, out=out) is out
    assert_same_bits("y", out, want)
    out, around = padded_out(x)
    assert bn.batch_norm_inference(x, mean, var, axis=axis, out=out) is out
    assert only_inside_written(around)
    assert_y(out, x, oracle.inference(x, mean, var, axis=axis), mean, var, axis=axis)
    if x.flags.writeable and min(x.strides) >= 0:
        assert bn.batch_norm_inference(x, mean, var, axis=axis, out=x) is x
        assert_same_bits("y", x, want)


@pytest.mark.parametrize("with_bias", [False, True], ids=["no_bias", "bias"])
@pytest.mark.parametrize("with_weight", [False, True], ids=["no_weight", "weight"])
@pytest.mark.parametrize("own", [np.float32, np.float64], ids=["own32", "own64"])
def test_parameters_are_optional_and_have_their_own_dtype(
    dtype: Any, own: Any, with_weight: bool, with_bias: bool
) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(dtype)
    weight, bias = (np.full(5, v, own) for v in (1 / 3, -2 / 3))
    mean, var = np.full(5, 0.1, own), np.full(5, 0.7, own)
    w, b = weight if with_weight else None, bias if with_bias else None
    y = bn.batch_norm_inference(x, mean, var, w, b)
    w, b = weight if with_weight else 1, bias if with_bias else 0
    assert_y(y, x, oracle.inference(x, mean, var, w, b), mean, var, w, b)


@pytest.mark.parametrize("mean_over_std", [1e2, 1e4, 1e6], ids="{:.0e}".format)
def test_far_from_zero(isa: str, dtype: Any, mean_over_std: float) -> None:
    """The usual folded form, x * scale + shift, loses mean/std roundings here."""
    x = np.random.default_rng(0).normal(mean_over_std, 1, size=(6, 5, 40)).astype(dtype)
    mean, var = np.full(5, mean_over_std + 0.1), np.full(5, 1.1)
    y = bn.batch_norm_inference(x, mean, var)
    assert_y(y, x, oracle.inference(x, mean, var), mean, var)


def test_a_variance_and_eps_of_zero_give_the_bias(isa: str, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(dtype)
    bias = np.array([1.0, -2.5, 1 / 3])
    y = bn.batch_norm_inference(x, np.ones(3), np.zeros(3), None, bias, eps=0)
    assert_same_bits("y", y, np.broadcast_to(bias.astype(dtype)[:, None], x.shape).copy())
    got = bn.batch_norm_inference_backward(x, x, np.ones(3), np.zeros(3), eps=0)
    assert not got.dx.any()


def test_what_is_not_finite_stays_where_it_is(isa: str, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(7, 3, 30)).astype(dtype)
    mean, var = given_statistics(3)
    clean = bn.batch_norm_inference(x, mean, var)
    x[2, 1, 4], x[3, 1, 29] = np.nan, -np.inf
    y = bn.batch_norm_inference(x, mean, var)
    assert np.isnan(y[2, 1, 4])
    assert y[3, 1, 29] == -np.inf
    y[2, 1, 4], y[3, 1, 29] = clean[2, 1, 4], clean[3, 1, 29]
    assert_same_bits("y", y, clean)
    var[2] = np.nan
    assert np.isnan(bn.batch_norm_inference(x, mean, var)[:, 2]).all()


def test_one_value_per_channel_is_fine(dtype: Any) -> None:
    x = np.array([[1, 2, 3]], dtype)
    mean, var = given_statistics(3)
    assert_y(bn.batch_norm_inference(x, mean, var), x, oracle.inference(x, mean, var), mean, var)


def test_lists_are_arrays_of_float64() -> None:
    y = bn.batch_norm_inference([[1.0], [5.0]], [1.0], [4.0], eps=0)
    assert_same_bits("y", y, np.array([[0.0], [2.0]]))


def assert_all_gradients(
    got: bn.Gradients, dy: Array, x: Array, mean: Array, var: Array, weight: Any, axis: int
) -> None:
    """dmean and dvar have no row. They are dbias and dweight times a factor: those rows times that, and a rounding."""
    __tracebackhide__ = True
    want = oracle.inference_backward(dy, x, mean, var, weight, axis=axis)
    rstd = oracle.rsqrt(np.asarray(var), 1e-5)
    as_forward = oracle.Forward(x, np.asarray(mean), np.asarray(var), rstd)
    assert_gradients(got, dy, x, want, as_forward, weight, axis, given=True)
    scale, g = np.abs(rstd * weight), np.abs(oracle.wide(dy))
    xhat = np.abs(oracle.inference(x, mean, var, axis=axis))
    rounding = TABLE["mean"][F4] if got.dmean is not None and got.dmean.dtype == F4 else 0
    sums = oracle.channels(g, axis).sum(1), oracle.channels(g * xhat, axis).sum(1)
    within("dmean", got.dmean, want.dmean, scale * sums[0] * (TABLE["dbias"][x.dtype] + rounding))
    within("dvar", got.dvar, want.dvar, scale * rstd * sums[1] / 2 * (TABLE["dweight"][x.dtype] + rounding))


def test_backward_agrees_with_the_oracle(isa: str, dtype: Any, case: Case) -> None:
    axis, x, dy = case.arrays(dtype, 2, mean=0.5)
    weight, bias = parameters(x.shape[axis], dtype)
    mean, var = given_statistics(x.shape[axis], dtype)
    before = x.tobytes(), dy.tobytes()
    got = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, axis=axis)
    assert_all_gradients(got, dy, x, mean, var, weight, axis)
    assert (x.tobytes(), dy.tobytes()) == before
    assert got.dresidual is got.dslope is None


def test_backward_out(isa: str, dtype: Any, case: Case) -> None:
    """Dense, with gaps, and dy itself: one answer."""
    axis, x, dy = case.arrays(dtype, 2)
    mean, var = given_statistics(x.shape[axis])
    want = bn.batch_norm_inference_backward(dy, x, mean, var, axis=axis)
    out = fresh_out(x)
    assert bn.batch_norm_inference_backward(dy, x, mean, var, axis=axis, out=out).dx is out
    assert_same_bits("dx", out, want.dx)
    out, around = padded_out(x)
    got = bn.batch_norm_inference_backward(dy, x, mean, var, axis=axis, out=out)
    assert got.dx is out
    assert only_inside_written(around)
    assert_all_gradients(got, dy, x, mean, var, 1, axis)
    if dy.flags.writeable and min(dy.strides) >= 0:
        got = bn.batch_norm_inference_backward(dy, x, mean, var, axis=axis, out=dy)
        assert got.dx is dy
        for name in ("dx", "dweight", "dbias", "dmean", "dvar"):
            assert_same_bits(name, getattr(got, name), getattr(want, name))


@pytest.mark.parametrize("weight_dtype", [None, np.float32, np.float64], ids=["no_weight", "weight32", "weight64"])
def test_backward_has_the_dtype_of_the_weight(dtype: Any, weight_dtype: Any) -> None:
    x, dy = np.random.default_rng(0).normal(size=(2, 6, 5, 7)).astype(dtype)
    weight = 1 if weight_dtype is None else np.full(5, 0.7, weight_dtype)
    mean, var = given_statistics(5)
    got = bn.batch_norm_inference_backward(dy, x, mean, var, None if weight_dtype is None else weight)
    want = dtype if weight_dtype is None else np.dtype(weight_dtype)
    assert got.dweight.dtype == got.dbias.dtype == want
    assert_all_gradients(got, dy, x, mean, var, weight, 1)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (0, 0)], ids=str)
def test_nothing_there(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.empty(shape, dtype)
    mean, var = given_statistics(shape[1])
    assert bn.batch_norm_inference(x, mean, var).shape == shape
    got = bn.batch_norm_inference_backward(x, x, mean, var)
    assert got.dx.shape == shape
    for name in ("dweight", "dbias", "dmean", "dvar"):
        within(name, getattr(got, name), np.zeros(shape[1]), 0)


def test_larger_than_the_cache(isa: str, dtype: Any) -> None:
    for shape, axis in [((3, 64, 80, 80), 1), ((3, 80, 80, 64), -1), ((50001, 30), 1)]:
        rng = np.random.default_rng(0)
        x, dy = rng.normal(2, 3, shape).astype(dtype), rng.normal(0.3, 1, shape).astype(dtype)
        mean, var = given_statistics(shape[axis])
        y = bn.batch_norm_inference(x, mean, var, axis=axis)
        assert_y(y, x, oracle.inference(x, mean, var, axis=axis), mean, var, axis=axis)
        got = bn.batch_norm_inference_backward(dy, x, mean, var, axis=axis)
        assert_all_gradients(got, dy, x, mean, var, 1, axis)
