"""Clipping, network slimming, and initial weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.training import (
    add_l1,
    clip_by_norm,
    clip_by_value,
    initialization,
    kept_channels,
    take_channels,
    take_layer,
)


def test_clip_by_value(dtype: Any) -> None:
    w = np.array([[-3, -0.5], [math.nan, math.inf]], dtype)
    clip_by_value({"w": w}, 1.5)
    np.testing.assert_array_equal(w, np.array([[-1.5, -0.5], [math.nan, 1.5]], dtype))


@pytest.mark.parametrize("together", [False, True])
def test_clip_by_norm(dtype: Any, together: bool) -> None:
    a, b, c = np.array([3, 4], dtype), np.full((2, 2), 6, dtype), np.array([0.1], dtype)
    norms = clip_by_norm({"a": a, "b": b, "c": c}, 2.0, together=together)
    assert norms == pytest.approx({"a": 5, "b": 12, "c": 0.1})
    after = [float(np.linalg.norm(x)) for x in (a, b, c)]
    whole = math.sqrt(25 + 144 + 0.01)
    assert after == pytest.approx([10 / whole, 24 / whole, 0.2 / whole] if together else [2, 2, 0.1], rel=1e-6)


def test_a_norm_that_float32_cannot_hold() -> None:
    w = np.full(4, 3e38, np.float32)
    assert clip_by_norm({"w": w}, 1.0)["w"] == pytest.approx(6e38)
    assert w.tolist() == pytest.approx([0.5] * 4)


@pytest.mark.parametrize(
    ("clip", "limit", "error"),
    [
        (clip_by_value, 0.0, ValueError),
        (clip_by_value, math.nan, ValueError),
        (clip_by_value, "1", TypeError),
        (clip_by_norm, -1.0, ValueError),
        (clip_by_norm, math.inf, ValueError),
    ],
)
def test_bad_limits(clip: Any, limit: Any, error: type[Exception]) -> None:
    w = np.full(2, 9.0)
    with pytest.raises(error, match="limit: expected"):
        clip({"w": w}, limit)
    with pytest.raises(TypeError, match="float32 or float64, got an array of int64"):
        clip({"w": w, "v": np.ones(2, np.int64)}, 1.0)
    assert w.tolist() == [9, 9]


def test_nothing_is_clipped_beside_a_norm_that_is_not_finite() -> None:
    w = np.full(2, 9.0)
    with pytest.raises(ValueError, match="expected finite norms, got nan of 'v'"):
        clip_by_norm({"w": w, "v": np.array([math.nan])}, 1.0)
    assert w.tolist() == [9, 9]


def test_l1() -> None:
    gradients = {"bn.weight": np.ones(3, np.float32), "fc": np.ones(2)}
    add_l1(gradients, {"bn.weight": np.array([2.0, -3.0, 0.0])}, 0.25)
    assert gradients["bn.weight"].tolist() == [1.25, 0.75, 1]
    assert gradients["fc"].tolist() == [1, 1]
    for weights, strength, error in (
        ({"bn.bias": np.ones(3)}, 0.1, ValueError),
        ({"bn.weight": np.ones(3), "x": np.ones(3)}, 0.1, ValueError),
        ({"bn.weight": np.ones(2)}, 0.1, ValueError),
        ({"bn.weight": np.ones(3)}, -0.1, ValueError),
        ([1], 0.1, TypeError),
    ):
        with pytest.raises(error, match="expected"):
            add_l1(gradients, weights, strength)  # type: ignore[arg-type]
    assert gradients["bn.weight"].tolist() == [1.25, 0.75, 1]


def test_one_threshold_over_all_layers() -> None:
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=40), "b": 0.5 * rng.normal(size=60).astype(np.float32)}
    for fraction in (0.0, 0.1, 0.5, 0.8):
        kept = kept_channels(weights, fraction)
        assert sum(k.size for k in kept.values()) == 100 - round(100 * fraction)
        smallest = min(abs(weights[name][k]).min() for name, k in kept.items())
        for name, weight in weights.items():
            assert (np.diff(kept[name]) > 0).all()
            assert (np.delete(abs(weight), kept[name]) <= smallest).all()


def test_equal_scales_and_the_least_that_is_kept() -> None:
    weights = {"a": np.ones(3), "b": np.full(2, 0.1), "c": np.ones(0)}
    assert {n: k.tolist() for n, k in kept_channels(weights, 0.6).items()} == {"a": [1, 2], "b": [1], "c": []}
    assert {n: k.tolist() for n, k in kept_channels(weights, 0.4, least=0).items()} == {
        "a": [0, 1, 2],
        "b": [],
        "c": [],
    }
    for bad, fraction, error in (
        ({"a": np.ones((2, 2))}, 0.5, ValueError),
        ({"a": np.array([1, math.nan])}, 0.5, ValueError),
        ({"a": np.array(["x"])}, 0.5, TypeError),
        ({"a": np.ones(2)}, 1.0, ValueError),
        ([np.ones(2)], 0.5, TypeError),
    ):
        with pytest.raises(error, match="expected"):
            kept_channels(bad, fraction)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="least: expected an int >= 0, got -1"):
        kept_channels(weights, 0.5, least=-1)


@pytest.mark.parametrize("training", [True, False])
def test_a_pruned_net_computes_what_is_kept(training: bool) -> None:
    rng = np.random.default_rng(0)
    layer = bn.BatchNorm(5, eps=1e-3, momentum=None, axis=-1, bias=False, dtype=np.float64).train(training)
    for array in (layer.weight, layer.running_mean, layer.running_var):
        array[...] = rng.uniform(1, 2, 5)  # type: ignore[index]
    before, after, x = rng.normal(size=(4, 5)), rng.normal(size=(5, 2)), rng.normal(size=(8, 4))
    kept = [1, 4]
    small = take_layer(layer, kept)
    assert repr(small) == repr(layer).replace("BatchNorm(5", "BatchNorm(2")
    assert small.training is training
    got = small(x @ take_channels(before, kept, 1)) @ take_channels(after, kept, 0)
    dead = layer(x @ before)
    dead[:, [0, 2, 3]] = 0
    np.testing.assert_allclose(got, dead @ after, rtol=1e-12)


def test_nothing_is_kept() -> None:
    assert take_channels(np.ones((5, 2)), [], 0).shape == (0, 2)
    with pytest.raises(ValueError, match="num_features: expected an int >= 1, got 0"):
        take_layer(bn.BatchNorm(5), [])


@pytest.mark.parametrize(
    ("kept", "error"),
    [([0, 5], ValueError), ([-1], ValueError), ([1, 1], ValueError), ([0.5], TypeError), ([[0]], TypeError)],
)
def test_bad_indices(kept: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="kept: expected"):
        take_channels(np.ones((5, 2)), kept, 0)
    with pytest.raises(error, match="kept: expected"):
        take_layer(bn.BatchNorm(5), kept)
    with pytest.raises(ValueError, match=r"axis: expected -2 .. 1 for shape \(5, 2\), got 2"):
        take_channels(np.ones((5, 2)), [0], 2)


MOMENTS = {
    "normal": (lambda rng, shape, d: initialization.normal(rng, shape, dtype=d), 0.01, math.inf),
    "uniform": (lambda rng, shape, d: initialization.uniform(rng, shape, 2.0, dtype=d), 2 / math.sqrt(1200), 0.1),
    "xavier": (lambda rng, shape, d: initialization.xavier(rng, shape, dtype=d), math.sqrt(2 / 1000), 0.0774597),
    "xavier-normal": (
        lambda rng, shape, d: initialization.xavier(rng, shape, gain=2.0, distribution="normal", dtype=d),
        2 * math.sqrt(2 / 1000),
        math.inf,
    ),
    "he": (lambda rng, shape, d: initialization.he(rng, shape, dtype=d), math.sqrt(2 / 400), math.inf),
    "he-uniform-out": (
        lambda rng, shape, d: initialization.he(rng, shape, mode="fan_out", distribution="uniform", dtype=d),
        math.sqrt(2 / 600),
        0.1,
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_initial_weights(name: str, dtype: Any) -> None:
    """Mean 0 and the formula's deviation, within 5 standard errors; an even distribution has ends."""
    draw, std, largest = MOMENTS[name]
    shape = (400, 600)
    w = draw(np.random.default_rng(0), shape, dtype)
    n = math.prod(shape)
    assert (w.shape, w.dtype) == (shape, dtype)
    assert abs(w.mean()) < 5 * std / math.sqrt(n)
    assert abs(w.std() / std - 1) < 5 / math.sqrt(2 * n)
    assert abs(w).max() <= largest * (1 + 1e-6)
    np.testing.assert_array_equal(w, draw(np.random.default_rng(0), shape, dtype))


def test_fans() -> None:
    assert initialization.fans((3, 5), "io") == (3, 5)
    assert initialization.fans((5, 3), "oi") == (3, 5)
    assert initialization.fans((64, 3, 5, 7), "oihw") == (105, 2240)
    assert initialization.fans((5, 7, 3, 64), "hwio") == (105, 2240)
    assert initialization.fans((2, 3, 4, 5, 6), "dhwio") == (120, 144)
    w = initialization.he(np.random.default_rng(0), (3, 3, 32, 64), layout="hwio")
    assert abs(w.std() / math.sqrt(2 / 288) - 1) < 0.03


def test_bad_initial_weights() -> None:
    rng = np.random.default_rng(0)
    for call, error, message in (
        (lambda: initialization.he(rng, (3, 5), layout="oihw"), ValueError, "layout: expected a letter per axis"),
        (lambda: initialization.he(rng, (3, 5), layout="ii"), ValueError, "layout"),
        (lambda: initialization.he(rng, (0, 5)), ValueError, "shape: expected inputs and outputs"),
        (lambda: initialization.he(rng, (3, -5)), ValueError, "shape: expected sizes >= 0"),
        (lambda: initialization.he(rng, 5), TypeError, "shape: expected a sequence of int"),  # type: ignore[arg-type]
        (lambda: initialization.he(rng, (3, 5), mode="fan"), ValueError, "mode"),  # type: ignore[arg-type]
        (lambda: initialization.xavier(rng, (3, 5), gain=0.0), ValueError, "gain: expected a finite number > 0"),
        (lambda: initialization.xavier(rng, (3, 5), distribution="x"), ValueError, "distribution"),  # type: ignore[arg-type]
        (lambda: initialization.normal(0, (3, 5)), TypeError, "rng: expected a numpy.random.Generator, got int"),  # type: ignore[arg-type]
        (lambda: initialization.normal(rng, (3, 5), -1.0), ValueError, "std"),
        (lambda: initialization.normal(rng, (3, 5), dtype=int), TypeError, "dtype: expected float32 or float64"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_a_residual_block_begins_as_the_identity() -> None:
    layer = bn.BatchNorm(3)
    initialization.zero_init(layer)
    assert (layer(np.random.default_rng(0).normal(size=(4, 3))) == 0).all()
    with pytest.raises(ValueError, match="expected one with a weight"):
        initialization.zero_init(bn.BatchNorm(3, affine=False))
    with pytest.raises(TypeError, match="expected a BatchNorm"):
        initialization.zero_init(None)  # type: ignore[arg-type]
