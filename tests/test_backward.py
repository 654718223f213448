"""The backward of training against the oracle, over instruction sets, dtypes, layouts and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import Case, fresh_out, only_inside_written, padded_out, parameters
from oracle import Array
from tolerances import assert_gradients, assert_same_bits


def forward(x: Array, weight: Any = None, axis: int = 1, **options: Any) -> bn.SavedStatistics:
    return bn.batch_norm_train(x, weight, axis=axis, on_single="allow", **options)[1]


def test_agrees_with_the_oracle(isa: str, dtype: Any, case: Case) -> None:
    axis, x, dy = case.arrays(dtype, 2, mean=0.5)
    weight, _ = parameters(x.shape[axis], dtype)
    before = x.tobytes(), dy.tobytes()
    got = bn.batch_norm_backward(dy, x, forward(x, weight, axis))
    want = oracle.backward(dy, x, weight, axis=axis)
    assert_gradients(got, dy, x, want, oracle.train(x, weight, axis=axis), weight, axis)
    assert (x.tobytes(), dy.tobytes()) == before
    assert got.dresidual is got.dslope is got.dmean is got.dvar is None


def test_the_gradient_has_the_memory_order_of_x(dtype: Any, dense_case: Case) -> None:
    axis, x, dy = dense_case.arrays(dtype, 2)
    dx = bn.batch_norm_backward(dy, x, forward(x, None, axis)).dx
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
    if x.size:
        moved = [i for i in range(x.ndim) if x.shape[i] > 1]
        assert [dx.strides[i] for i in moved] == [x.strides[i] for i in moved]


def test_out_is_what_is_returned(isa: str, dtype: Any, case: Case) -> None:
    axis, x, dy = case.arrays(dtype, 2)
    saved = forward(x, None, axis)
    want = bn.batch_norm_backward(dy, x, saved)
    out = fresh_out(x)
    got = bn.batch_norm_backward(dy, x, saved, out=out)
    assert got.dx is out
    assert_same_bits("dx", got.dx, want.dx)
    out, around = padded_out(x)
    got = bn.batch_norm_backward(dy, x, saved, out=out)
    assert got.dx is out
    assert only_inside_written(around)
    assert_gradients(got, dy, x, oracle.backward(dy, x, axis=axis), oracle.train(x, axis=axis), axis=axis)


def test_out_may_be_dy(isa: str, dtype: Any, writeable_case: Case) -> None:
    axis, x, dy = writeable_case.arrays(dtype, 2)
    saved = forward(x, None, axis)
    want = bn.batch_norm_backward(dy, x, saved)
    got = bn.batch_norm_backward(dy, x, saved, out=dy)
    assert got.dx is dy
    for name in ("dx", "dweight", "dbias"):
        assert_same_bits(name, getattr(got, name), getattr(want, name))


@pytest.mark.parametrize("x_axis_order", ["channels_first", "channels_last"])
def test_dy_and_x_may_differ_in_memory_order(isa: str, dtype: Any, x_axis_order: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 17, 6, 4)).astype(dtype)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(b, 1, -1)), -1, 1)
    x, dy = (a, last) if x_axis_order == "channels_first" else (last, a)
    got = bn.batch_norm_backward(dy, x, forward(x))
    assert_gradients(got, dy, x, oracle.backward(dy, x), oracle.train(x))


@pytest.mark.parametrize("weight_dtype", [None, np.float32, np.float64], ids=["no_weight", "weight32", "weight64"])
def test_the_parameters_gradients_have_the_dtype_of_the_weight(dtype: Any, weight_dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 6, 5, 7)).astype(dtype)
    weight = None if weight_dtype is None else np.full(5, 0.7, weight_dtype)
    want = dtype if weight is None else weight.dtype
    got = bn.batch_norm_backward(dy, x, forward(x, weight))
    assert (got.dweight.dtype, got.dbias.dtype, got.dx.dtype) == (want, want, dtype)
    if weight is not None:  # a weight that is given here counts, not the forward's
        got = bn.batch_norm_backward(dy, x, forward(x), weight)
        assert (got.dweight.dtype, got.dbias.dtype, got.dx.dtype) == (want, want, dtype)


def test_weight_omitted_is_the_forwards(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 6, 5, 7)).astype(dtype)
    weight, other = parameters(5, dtype)
    saved = forward(x, weight)
    want = bn.batch_norm_backward(dy, x, saved, weight.copy())
    kept = weight.copy()
    weight[:] = np.nan  # saved has its own copy
    assert_same_bits("dx", bn.batch_norm_backward(dy, x, saved).dx, want.dx)
    got = bn.batch_norm_backward(dy, x, saved, other)
    assert_gradients(got, dy, x, oracle.backward(dy, x, other), oracle.train(x), other)
    assert (other != kept).all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (2, 0, 5), (0, 0)], ids=str)
def test_nothing_to_differentiate(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.empty(shape, dtype)
    got = bn.batch_norm_backward(x, x, forward(x))
    assert got.dx.shape == shape
    zero = np.zeros(shape[1], dtype)
    assert_same_bits("dweight", got.dweight, zero)
    assert_same_bits("dbias", got.dbias, zero)


@pytest.mark.parametrize("eps", [0, 1e-5], ids=str)
@pytest.mark.parametrize("shape", [(4, 3, 5), (1, 3), (6, 3)], ids=str)
def test_of_a_constant(isa: str, dtype: Any, shape: tuple[int, ...], eps: float) -> None:
    """xhat is 0. With eps 0 so is rstd, and dx."""
    x = np.full(shape, 0.1, dtype)
    dy = np.random.default_rng(0).normal(size=shape).astype(dtype)
    got = bn.batch_norm_backward(dy, x, forward(x, eps=eps))
    assert not got.dweight.any()
    if eps == 0 or shape[0] == 1:
        assert not got.dx.any()
    assert_gradients(got, dy, x, oracle.backward(dy, x, eps=eps), oracle.train(x, eps=eps))


@pytest.mark.parametrize("bad", ["x", "dy"])
def test_what_is_not_finite_stays_in_its_channel(isa: str, dtype: Any, bad: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 7, 3, 30)).astype(dtype)
    clean = bn.batch_norm_backward(dy, x, forward(x))
    {"x": x, "dy": dy}[bad][3, 1, 4] = np.nan
    got = bn.batch_norm_backward(dy, x, forward(x))
    assert np.isnan(got.dx[:, 1]).all()
    assert np.isnan(got.dweight[1])
    for name in ("dweight", "dbias"):
        assert_same_bits(name, getattr(got, name)[[0, 2]], getattr(clean, name)[[0, 2]])
    assert_same_bits("dx", got.dx[:, [0, 2]], clean.dx[:, [0, 2]])


def test_lists_are_arrays_of_float64() -> None:
    x, dy = [[1.0, 2.0], [3.0, 6.0]], [[1.0, 0.0], [0.0, 2.0]]
    _, saved = bn.batch_norm_train(x)
    got = bn.batch_norm_backward(dy, x, saved)
    a, g = np.array(x), np.array(dy)
    assert_gradients(got, g, a, oracle.backward(g, a), oracle.train(a))


def test_a_sum_of_ones_is_the_count(isa: str) -> None:
    """Sums in float32 that are never widened stop at 2**24."""
    x = np.zeros((2**24 + 3, 1), np.float32)
    dy = np.ones_like(x)
    got = bn.batch_norm_backward(dy, x, forward(x, np.ones(1)), out=dy)
    assert got.dbias.tolist() == [2**24 + 3]
    assert not got.dx.any()


def test_larger_than_the_cache(isa: str, dtype: Any) -> None:
    for shape, axis in [((3, 64, 80, 80), 1), ((3, 80, 80, 64), -1), ((50001, 30), 1)]:
        rng = np.random.default_rng(0)
        x, dy = rng.normal(2, 3, shape).astype(dtype), rng.normal(0.3, 1, shape).astype(dtype)
        got = bn.batch_norm_backward(dy, x, forward(x, None, axis))
        assert_gradients(got, dy, x, oracle.backward(dy, x, axis=axis), oracle.train(x, axis=axis), axis=axis)
