"""denormalize, the inverse of the inference form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import Case, fresh_out, given_statistics, only_inside_written, padded_out, parameters
from tolerances import TABLE, assert_denormalized, assert_same_bits, within


def test_agrees_with_the_oracle(isa: str, dtype: Any, case: Case) -> None:
    axis, y = case.arrays(dtype, mean=0.5)
    weight, bias = parameters(y.shape[axis], dtype)
    mean, var = given_statistics(y.shape[axis], dtype)
    before = y.tobytes()
    x = bn.denormalize(y, mean, var, weight, bias, eps=1e-3, axis=axis)
    want = oracle.denormalize(y, mean, var, weight, bias, 1e-3, axis)
    assert_denormalized(x, y, want, mean, var, weight, bias, 1e-3, axis)
    assert y.tobytes() == before
    out = fresh_out(y)
    assert bn.denormalize(y, mean, var, weight, bias, eps=1e-3, axis=axis, out=out) is out
    assert_same_bits("x", out, x)
    out, around = padded_out(y)
    assert bn.denormalize(y, mean, var, weight, bias, eps=1e-3, axis=axis, out=out) is out
    assert only_inside_written(around)
    assert_denormalized(out, y, want, mean, var, weight, bias, 1e-3, axis)
    if y.flags.writeable and min(y.strides) >= 0:
        assert bn.denormalize(y, mean, var, weight, bias, eps=1e-3, axis=axis, out=y) is y
        assert_same_bits("x", y, x)


@pytest.mark.parametrize("with_bias", [False, True], ids=["no_bias", "bias"])
@pytest.mark.parametrize("with_weight", [False, True], ids=["no_weight", "weight"])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e5])
def test_undoes_inference(dtype: Any, offset: float, with_weight: bool, with_bias: bool) -> None:
    """To within the row of y for each way."""
    x = np.random.default_rng(0).normal(offset, 3, (6, 5, 7)).astype(dtype)
    mean, var = given_statistics(5)
    weight, bias = parameters(5)
    given = weight if with_weight else None, bias if with_bias else None
    w, b = weight if with_weight else np.ones(5), bias if with_bias else np.zeros(5)
    mean = mean + offset
    y = bn.batch_norm_inference(x, mean, var, *given)
    again = bn.denormalize(y, mean, var, *given)
    assert_denormalized(again, y, oracle.denormalize(y, mean, var, w, b), mean, var, w, b, 1e-5, 1)
    std = np.sqrt(var + 1e-5)[:, None]
    far = offset / std if dtype == np.float64 else 0
    size = np.maximum(np.maximum(1, np.abs(y)), np.abs(b[:, None])) / np.abs(w[:, None]) * std
    within("x", again, oracle.wide(x), TABLE["y"][dtype] * (2 * size * (1 + far) + np.abs(mean[:, None])))


def test_negative_weights_are_undone(dtype: Any) -> None:
    y = np.random.default_rng(0).normal(size=(6, 2, 7)).astype(dtype)
    weight, zero, one = np.array([-2.0, 0.5]), np.zeros(2), np.ones(2)
    x = bn.denormalize(y, zero, one, weight, eps=0)
    assert_same_bits("x", x, y / weight[:, None].astype(dtype))


def test_a_variance_and_eps_of_zero_give_the_mean(isa: str, dtype: Any) -> None:
    y = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(dtype)
    mean = np.array([1.0, -2.5, 1 / 3])
    x = bn.denormalize(y, mean, np.zeros(3), eps=0)
    assert_same_bits("x", x, np.broadcast_to(mean.astype(dtype)[:, None], y.shape).copy())


def test_what_is_not_finite_stays_where_it_is(isa: str, dtype: Any) -> None:
    y = np.random.default_rng(0).normal(size=(7, 3, 30)).astype(dtype)
    mean, var = given_statistics(3)
    clean = bn.denormalize(y, mean, var)
    y[2, 1, 4], y[3, 1, 29] = np.nan, np.inf
    x = bn.denormalize(y, mean, var)
    assert np.isnan(x[2, 1, 4])
    assert x[3, 1, 29] == np.inf
    x[2, 1, 4], x[3, 1, 29] = clean[2, 1, 4], clean[3, 1, 29]
    assert_same_bits("x", x, clean)


@pytest.mark.parametrize("zero", [0.0, -0.0], ids=["0", "-0"])
def test_a_zero_weight_cannot_be_undone(zero: float) -> None:
    y = np.ones((2, 3))
    out = np.full_like(y, 7)
    with pytest.raises(ValueError, match=r"^weight: expected .*zero.*, got -?0.* channel 1"):
        bn.denormalize(y, np.zeros(3), np.ones(3), np.array([1.0, zero, 2.0]), out=out)
    assert (out == 7).all()


def test_lists_are_arrays_of_float64() -> None:
    assert_same_bits("x", bn.denormalize([[0.0], [2.0]], [1.0], [4.0], eps=0), np.array([[1.0], [5.0]]))


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (0, 0)], ids=str)
def test_nothing_there(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    x = bn.denormalize(np.empty(shape, dtype), *given_statistics(shape[1]))
    assert (x.shape, x.dtype) == (shape, dtype)
