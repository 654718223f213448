"""Views that are not dense: each function is right on them, also with operands in different layouts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import DENSE, LAYOUTS, STRIDED, Case, every_second, fresh_out, parameters
from oracle import Array
from tolerances import assert_forward, assert_gradients, assert_stats

ORDERS = ["C", "F", "channels_last", "spread", "flip"]
SHAPES = [(33, 20, 12, 13), (5, 70, 3, 2), (2, 3, 130, 131), (9, 3, 40, 41)]


def in_other_order(a: Array, order: str) -> Array:
    """The same values and axes in another memory order, or spread out."""
    if order == "C":
        return np.ascontiguousarray(a)
    if order == "F":
        return np.asfortranarray(a)
    if order == "channels_last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
    if order == "spread":
        return every_second(np.ascontiguousarray(a), *range(a.ndim))
    return np.flip(np.flip(a).copy())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", STRIDED)
def test_large_enough_for_blocks(isa: str, dtype: Any, layout: str, shape: tuple[int, ...]) -> None:
    axis, x, dy = Case(shape, layout).arrays(dtype, 2, mean=2)
    weight, bias = parameters(x.shape[axis])
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis)
    forward = oracle.train(x, weight, bias, axis=axis)
    assert_forward(y, saved, x, forward, weight, bias, axis)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_gradients(got, dy, x, oracle.backward(dy, x, weight, axis=axis), forward, weight, axis)
    assert_stats(bn.channel_stats(x, axis=axis), x, axis)


@pytest.mark.parametrize(("x_order", "dy_order"), list(itertools.permutations(ORDERS, 2)))
def test_operands_in_different_orders(isa: str, x_order: str, dy_order: str) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x, dy = (in_other_order(a, o) for a, o in zip(rng.normal(2, 1, (2, *shape)), (x_order, dy_order), strict=True))
        _, saved = bn.batch_norm_train(x)
        forward, want = oracle.train(x), oracle.backward(dy, x)
        assert_gradients(bn.batch_norm_backward(dy, x, saved), dy, x, want, forward)
        got = bn.batch_norm_backward(dy, x, saved, out=fresh_out(x) if x_order != "flip" else None)
        assert_gradients(got, dy, x, want, forward)


@pytest.mark.parametrize("layout", ["crop", "every_second_image", "every_second_row_and_column", "crop_channels_last"])
def test_the_output_of_a_view_is_dense_in_its_order(dtype: Any, layout: str) -> None:
    axis, x = Case((4, 5, 6, 7), layout).arrays(dtype)
    y, _ = bn.batch_norm_train(x, axis=axis)
    assert y.strides == np.empty_like(x).strides
    assert y.flags.c_contiguous


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_view_is_not_written_to(layout: str) -> None:
    """Nor is what lies beside it."""
    axis, x = Case((4, 5, 6, 7), layout).arrays(np.float64)
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    before = owner.tobytes()
    y, saved = bn.batch_norm_train(x, axis=axis)
    assert not np.shares_memory(x, y)
    bn.batch_norm_backward(x, x, saved)
    bn.channel_stats(x, axis=axis)
    assert owner.tobytes() == before


@pytest.mark.parametrize("layout", ["crop", "crop_channels_last", *(name for name in STRIDED if "every" in name)])
def test_in_place_writes_only_the_view(isa: str, dtype: Any, layout: str) -> None:
    axis, x = Case((4, 5, 6, 7), layout).arrays(dtype)
    around = x
    while isinstance(around.base, np.ndarray):
        around = around.base
    assert np.isnan(around).sum() == around.size - x.size > 0
    want, _ = bn.batch_norm_train(x, axis=axis)
    bn.batch_norm_train(x, axis=axis, out=x)
    assert (x == want).all()
    assert np.isnan(around).sum() == around.size - x.size


def test_dense_layouts_stay_dense(dtype: Any) -> None:
    for layout in DENSE:
        axis, x = Case((4, 5, 6, 7), layout).arrays(dtype)
        y, _ = bn.batch_norm_train(x, axis=axis)
        assert y.strides == x.strides, layout


@pytest.mark.parametrize("shape", [(80, 1, 8), (80, 1, 31), (90, 2, 5, 3), (64, 1, 2, 2)], ids=str)
def test_short_runs_are_gathered(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    """Every second image of one channel or two, whose runs are shorter than a kernel's call is worth."""
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)[::2]
    y, saved = bn.batch_norm_train(x)
    got = bn.batch_norm_backward(x, x, saved)
    dense = np.ascontiguousarray(x)
    want_y, want_saved = bn.batch_norm_train(dense)
    want = bn.batch_norm_backward(dense, dense, want_saved)
    for a, b in ((y, want_y), (got.dx, want.dx), (saved.mean, want_saved.mean)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 if dtype is np.float32 else 1e-12)
    inference = bn.batch_norm_inference(x, np.zeros(shape[1]), np.ones(shape[1]))
    np.testing.assert_array_equal(
        inference, bn.batch_norm_inference(dense, np.zeros(shape[1]), np.ones(shape[1])), strict=True
    )
