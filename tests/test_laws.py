"""Laws: what must agree with what, whatever the numbers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from layouts import DENSE, LAYOUTS, Case, given_statistics, parameters
from oracle import Array, along
from tolerances import LAW, LAW_FAR, TABLE, assert_same_bits, assert_same_stats, assert_stats, within

OFFSETS = {"mean/std=0": (0.0, 1.0, LAW), "mean/std=1e3": (1e3, 1.0, LAW), "mean/std=1e6": (1e5, 0.1, LAW_FAR)}


@pytest.fixture(params=list(OFFSETS.values()), ids=list(OFFSETS))
def offset(request: pytest.FixtureRequest) -> tuple[float, float, float]:
    """(mean, std, what merging may add)"""
    return request.param  # type: ignore[no-any-return]


def normal(offset: tuple[float, float, float], dtype: Any, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(*offset[:2], shape).astype(dtype)


@pytest.mark.parametrize("cut", [0, 1, 5, 16, 36, 37])
def test_merging_parts_is_the_whole(isa: str, dtype: Any, offset: tuple[float, float, float], cut: int) -> None:
    x = normal(offset, dtype, 37, 5, 24)
    whole, a, b = (bn.channel_stats(part) for part in (x, x[:cut], x[cut:]))
    assert_stats(whole, x)
    assert_stats(a + b, x, law=offset[2])
    assert_same_stats(a + b, whole, offset[2])
    assert_same_stats(b + a, whole, offset[2])
    assert_same_stats(bn.channel_stats(x[:cut]).update(x[cut:]), whole, offset[2])


@pytest.mark.parametrize("parts", [2, 7, 37])
def test_merging_is_associative_and_commutative(dtype: Any, offset: tuple[float, float, float], parts: int) -> None:
    x = normal(offset, dtype, 37, 5, 24)
    pieces = [bn.channel_stats(part) for part in np.array_split(x, parts)]
    order = np.random.default_rng(1).permutation(parts)
    left, right, shuffled = bn.ChannelStats(), bn.ChannelStats(), bn.ChannelStats()
    for i in range(parts):
        left = left + pieces[i]
        right = pieces[parts - 1 - i] + right
        shuffled.merge(pieces[order[i]])
    tree = pieces
    while len(tree) > 1:
        tree = [sum(tree[i + 1 : i + 2], tree[i]) for i in range(0, len(tree), 2)]
    for merged in (left, right, shuffled, tree[0]):
        assert_stats(merged, x, law=offset[2])


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_splitting_another_axis(dtype: Any, offset: tuple[float, float, float], axis: int) -> None:
    x = normal(offset, dtype, 6, 5, 8, 9)
    whole = bn.channel_stats(x)
    for cut in range(x.shape[axis] + 1):
        a, b = np.split(x, [cut], axis=axis)
        assert_same_stats(bn.channel_stats(a) + bn.channel_stats(b), whole, offset[2])


def test_channels_are_independent(isa: str, dtype: Any) -> None:
    x = normal((2, 3, 0), dtype, 11, 6, 40)
    whole = bn.channel_stats(x)
    for c in range(6):
        one = bn.channel_stats(x[:, c : c + 1])
        within("mean", one.mean, whole.mean[c : c + 1], 1e-13)
        within("m2", one.m2, whole.m2[c : c + 1], 1e-12 * whole.m2[c : c + 1])


def row_of_y(y: Array) -> Array:
    return 2 * TABLE["y"][y.dtype] * np.maximum(1, np.abs(y.astype(np.float64)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_and_its_dense_copy_agree(isa: str, dtype: Any, layout: str) -> None:
    axis, x, dy = Case((5, 6, 9, 10), layout).arrays(dtype, 2)
    weight, bias = parameters(x.shape[axis])
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis)
    got = bn.batch_norm_backward(dy, x, saved)
    dense_x, dense_dy = (np.ascontiguousarray(np.moveaxis(a, axis, 1)) for a in (x, dy))
    dense_y, dense_saved = bn.batch_norm_train(dense_x, weight, bias)
    want = bn.batch_norm_backward(dense_dy, dense_x, dense_saved)
    within("y", np.moveaxis(y, axis, 1), dense_y, row_of_y(dense_y) * 2)
    bound = 2 * TABLE["dx"][dtype] * np.abs(along(dense_saved.scale, dense_x, 1)) * np.abs(dense_dy).max()
    within("dx", np.moveaxis(got.dx, axis, 1), want.dx, bound)
    assert_same_stats(bn.channel_stats(x, axis=axis), bn.channel_stats(dense_x))


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize("shape", [(3, 5), (9, 16, 5, 7), (40, 64, 9, 9), (70000, 3)], ids=str)
def test_in_place_is_out_of_place_bitwise(isa: str, dtype: Any, layout: str, shape: tuple[int, ...]) -> None:
    axis, x, dy = Case(shape, layout).arrays(dtype, 2, mean=3)
    weight, bias = parameters(x.shape[axis])
    mean, var = given_statistics(x.shape[axis])
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis)
    gradients = bn.batch_norm_backward(dy, x, saved)
    jobs: dict[str, tuple[Array, Callable[[Array], Array]]] = {
        "train": (x, lambda a: bn.batch_norm_train(a, weight, bias, axis=axis, out=a)[0]),
        "inference": (x, lambda a: bn.batch_norm_inference(a, mean, var, weight, bias, axis=axis, out=a)),
        "denormalize": (x, lambda a: bn.denormalize(a, mean, var, weight, bias, axis=axis, out=a)),
        "backward": (dy, lambda a: bn.batch_norm_backward(a, x, saved, out=a).dx),
        "inference_backward": (
            dy,
            lambda a: bn.batch_norm_inference_backward(a, x, mean, var, weight, axis=axis, out=a).dx,
        ),
    }
    want = {
        "train": y,
        "inference": bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis),
        "denormalize": bn.denormalize(x, mean, var, weight, bias, axis=axis),
        "backward": gradients.dx,
        "inference_backward": bn.batch_norm_inference_backward(dy, x, mean, var, weight, axis=axis).dx,
    }
    for name, (a, job) in jobs.items():
        kept = a.copy(order="K")
        assert job(a) is a, name
        assert_same_bits(name, a, want[name])
        a[...] = kept


def test_training_is_inference_with_the_batchs_statistics(isa: str, dtype: Any) -> None:
    x = normal((2, 3, 0), dtype, 7, 6, 40)
    weight, bias = parameters(6)
    y, saved = bn.batch_norm_train(x, weight, bias)
    given = bn.batch_norm_inference(x, saved.mean, saved.var, weight, bias)
    within("y", given, y, row_of_y(y) * 2)


def test_normalised_values_have_mean_zero_and_variance_one(
    isa: str, dtype: Any, offset: tuple[float, float, float]
) -> None:
    x = normal(offset, dtype, 37, 5, 24)
    y, _ = bn.batch_norm_train(x, eps=0)
    stats = bn.channel_stats(y)
    unit = 10 * TABLE["y"][dtype] * (offset[0] / offset[1] + 1 if dtype == np.float64 else 1)
    within("mean", stats.mean, np.zeros(5), unit)
    within("var", stats.var(), np.ones(5), unit)


def test_normalising_forgets_scale_and_shift_of_x(isa: str) -> None:
    """By powers of 2 and integers nothing is rounded on the way in."""
    x = np.round(normal((0, 100, 0), np.float64, 7, 6, 40))
    want, _ = bn.batch_norm_train(x, eps=0)
    for factor, shift in [(2.0, 0.0), (0.25, 3.0), (1024.0, 4096.0)]:
        y, _ = bn.batch_norm_train(x * factor + shift, eps=0)
        within("y", y, want, row_of_y(want) * 10)
    y, _ = bn.batch_norm_train(-x, eps=0)
    within("y", y, -want, row_of_y(want))


def test_dx_is_orthogonal_to_one_and_to_xhat(isa: str) -> None:
    """Training removes what moves the mean and the variance."""
    x, dy = normal((2, 3, 0), np.float64, 2, 7, 6, 40)
    y, saved = bn.batch_norm_train(x, eps=0)
    dx = bn.batch_norm_backward(dy, x, saved).dx
    size = np.abs(dx).sum(axis=(0, 2))
    within("sum dx", dx.sum(axis=(0, 2)), np.zeros(6), 1e-13 * size)
    within("sum dx xhat", (dx * y).sum(axis=(0, 2)), np.zeros(6), 1e-12 * size)
