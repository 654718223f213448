"""The training forward against the oracle, over instruction sets, dtypes, layouts and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import Case, fresh_out, only_inside_written, padded_out, parameters
from tolerances import assert_forward, assert_same_bits


def test_agrees_with_the_oracle(isa: str, dtype: Any, case: Case) -> None:
    axis, x = case.arrays(dtype, mean=0.5)
    weight, bias = parameters(x.shape[axis], dtype)
    before = x.tobytes()
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow")
    assert_forward(y, saved, x, oracle.train(x, weight, bias, axis=axis), weight, bias, axis)
    assert x.tobytes() == before


@pytest.mark.parametrize("with_bias", [False, True], ids=["no_bias", "bias"])
@pytest.mark.parametrize("with_weight", [False, True], ids=["no_weight", "weight"])
def test_weight_and_bias_are_each_optional(dtype: Any, with_weight: bool, with_bias: bool) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(dtype)
    weight, bias = parameters(5, dtype)
    y, saved = bn.batch_norm_train(x, weight if with_weight else None, bias if with_bias else None)
    w, b = weight if with_weight else 1, bias if with_bias else 0
    assert_forward(y, saved, x, oracle.train(x, w, b), w, b)


@pytest.mark.parametrize("bias_dtype", [np.float32, np.float64], ids=["bias32", "bias64"])
@pytest.mark.parametrize("weight_dtype", [np.float32, np.float64], ids=["weight32", "weight64"])
def test_parameters_have_their_own_dtype(dtype: Any, weight_dtype: Any, bias_dtype: Any) -> None:
    """They are read in float64: a weight of 1/3 in float64 is not first rounded to float32."""
    x = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(dtype)
    weight, bias = np.full(5, 1 / 3, weight_dtype), np.full(5, -1 / 3, bias_dtype)
    y, saved = bn.batch_norm_train(x, weight, bias)
    assert_forward(y, saved, x, oracle.train(x, weight, bias), weight, bias)
    assert_same_bits("saved.weight", saved.weight, weight.astype(np.float64))
    assert_same_bits("saved.bias", saved.bias, bias.astype(np.float64))


def test_parameters_may_be_strided(dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(dtype)
    weight, bias = parameters(5, dtype)
    there, back = np.repeat(weight, 2)[::2], bias[::-1].copy()[::-1]
    assert_same_bits("y", bn.batch_norm_train(x, there, back)[0], bn.batch_norm_train(x, weight, bias)[0])


def test_parameters_that_are_not_numbers_stay_in_their_channel(dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(6, 3, 7)).astype(dtype)
    y, _ = bn.batch_norm_train(x, np.array([1.0, np.nan, 1.0]), np.array([0.0, 0.0, np.nan]))
    want, _ = bn.batch_norm_train(x)
    assert_same_bits("y", y[:, 0], want[:, 0])
    assert np.isnan(y[:, 1:]).all()


def test_the_output_has_the_memory_order_of_x(dtype: Any, dense_case: Case) -> None:
    axis, x = dense_case.arrays(dtype)
    y, _ = bn.batch_norm_train(x, axis=axis, on_single="allow")
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    if x.size:
        moved = [i for i in range(x.ndim) if x.shape[i] > 1]
        assert [y.strides[i] for i in moved] == [x.strides[i] for i in moved]


def test_out_is_what_is_returned(isa: str, dtype: Any, case: Case) -> None:
    axis, x = case.arrays(dtype)
    want, _ = bn.batch_norm_train(x, axis=axis, on_single="allow")
    out = fresh_out(x)
    y, saved = bn.batch_norm_train(x, axis=axis, on_single="allow", out=out)
    assert y is out
    assert_forward(y, saved, x, oracle.train(x, axis=axis), axis=axis)
    assert_same_bits("y", y, want)


def test_out_may_have_any_positive_strides(isa: str, dtype: Any, case: Case) -> None:
    axis, x = case.arrays(dtype)
    out, around = padded_out(x)
    y, saved = bn.batch_norm_train(x, axis=axis, on_single="allow", out=out)
    assert y is out
    assert_forward(y, saved, x, oracle.train(x, axis=axis), axis=axis)
    assert only_inside_written(around)


def test_in_place(isa: str, dtype: Any, writeable_case: Case) -> None:
    axis, x = writeable_case.arrays(dtype)
    weight, bias = parameters(x.shape[axis])
    want, _ = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow")
    y, _ = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow", out=x)
    assert y is x
    assert_same_bits("y", y, want)


def test_a_list_is_an_array_of_float64() -> None:
    x = [[1.0, 2.0], [3.0, 6.0]]
    y, saved = bn.batch_norm_train(x)
    assert_forward(y, saved, np.array(x), oracle.train(np.array(x)))


@pytest.mark.parametrize("eps", [0, 0.0, 1e-12, 1e-3, 10, np.float32(0.5)], ids=str)
def test_eps(dtype: Any, eps: Any) -> None:
    x = np.random.default_rng(0).normal(3, 0.01, size=(6, 5, 7)).astype(dtype)
    y, saved = bn.batch_norm_train(x, eps=eps)
    assert_forward(y, saved, x, oracle.train(x, eps=eps))


def test_a_variance_and_eps_of_zero_give_the_bias(isa: str, dtype: Any) -> None:
    x = np.full((4, 3, 5), 0.1, dtype)
    y, saved = bn.batch_norm_train(x, None, np.array([1.0, -2.5, 1 / 3]), eps=0)
    assert_same_bits("rstd", saved.rstd, np.zeros(3))
    assert_same_bits("y", y, np.broadcast_to(np.array([1, -2.5, 1 / 3], dtype)[:, None], x.shape).copy())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("at", [0, 5, 209], ids=["first", "early", "last"])
@pytest.mark.parametrize("axis", [1, -1], ids=["channels_first", "channels_last"])
def test_what_is_not_finite_stays_in_its_channel(isa: str, dtype: Any, axis: int, at: int, value: float) -> None:
    a = np.random.default_rng(0).normal(size=(7, 3, 30)).astype(dtype)
    clean, _ = bn.batch_norm_train(np.ascontiguousarray(np.moveaxis(a, 1, axis)), axis=axis)
    a[at // 30, 1, at % 30] = value
    y, saved = bn.batch_norm_train(np.ascontiguousarray(np.moveaxis(a, 1, axis)), axis=axis)
    y, clean = np.moveaxis(y, axis, 1), np.moveaxis(clean, axis, 1)
    assert np.isnan(saved.var[1])
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(saved.var[[0, 2]]).all()
    assert_same_bits("y", y[:, [0, 2]], clean[:, [0, 2]])


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (2, 0, 5), (0, 0)], ids=str)
def test_nothing_to_normalise(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    c = shape[1]
    running_mean, running_var = np.arange(c, dtype=dtype), np.ones(c, dtype)
    before = running_mean.tobytes() + running_var.tobytes()
    x = np.empty(shape, dtype)
    y, saved = bn.batch_norm_train(x, np.ones(c), np.zeros(c), running_mean=running_mean, running_var=running_var)
    assert (y.shape, y.dtype, saved.mean.shape) == (shape, dtype, (c,))
    assert (saved.count == x.size // max(c, 1)).all()
    assert running_mean.tobytes() + running_var.tobytes() == before


def test_larger_than_the_cache(isa: str, dtype: Any) -> None:
    """Several blocks per channel, several chunks per call; both walks."""
    for shape, axis in [((3, 64, 80, 80), 1), ((3, 80, 80, 64), -1), ((50001, 30), 1)]:
        x = np.random.default_rng(0).normal(2, 3, shape).astype(dtype)
        y, saved = bn.batch_norm_train(x, axis=axis)
        assert_forward(y, saved, x, oracle.train(x, axis=axis), axis=axis)
