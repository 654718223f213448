"""Statistics and parameters from one model to another, all or nothing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.training import blend, extract, reestimate, transfer


def layers(seed: int, **options: Any) -> dict[str, bn.BatchNorm]:
    rng = np.random.default_rng(seed)
    made = {"bn1": bn.BatchNorm(3, **options), "bn2": bn.BatchNorm(2, **options)}
    for layer in made.values():
        for name, array in layer.state_dict().items():
            array[...] = rng.integers(1, 9) if name == "num_batches_tracked" else rng.uniform(1, 2, array.shape)
    return made


def state(of: dict[str, bn.BatchNorm]) -> dict[str, list[float]]:
    return {f"{name}.{part}": a.tolist() for name, layer in of.items() for part, a in layer.state_dict().items()}


def test_through_a_file() -> None:
    source, target = layers(0), layers(1)
    file = io.BytesIO()
    np.savez(file, **extract(source))
    file.seek(0)
    transfer(np.load(file), target)
    assert state(target) == state(source)
    assert not np.shares_memory(target["bn1"].weight, source["bn1"].weight)


@pytest.mark.parametrize("part", ["statistics", "affine"])
def test_one_part(part: str) -> None:
    source, target = layers(0), layers(1)
    before = state(target)
    other = {"statistics": "affine", "affine": "statistics"}[part]
    transfer(extract(source), target, **{other: False})  # type: ignore[arg-type]
    moved = {name for name, value in state(target).items() if value == state(source)[name]}
    affine = {f"{name}.{key}" for name in target for key in ("weight", "bias")}
    assert moved == (affine if part == "affine" else set(before) - affine)
    assert extract(source, **{other: False}).keys() == moved  # type: ignore[arg-type]


def test_names() -> None:
    source, target = layers(0), layers(1)
    theirs = {f"model.{name}": array for name, array in extract(source).items()}
    transfer({**theirs, "model.fc.weight": np.ones(7)}, target, lambda name: f"model.{name}")
    assert state(target) == state(source)
    target = layers(1)
    transfer({**theirs, **extract(source)}, target, {"bn2": "model.bn2"})
    assert state(target) == state(source)


def without(part: str) -> dict[str, Any]:
    return {name: array for name, array in extract(layers(0)).items() if name != part}


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "missing": (
        without("bn2.bias"),
        {},
        ValueError,
        r"state: expected the keys of layer 'bn2', got none of \['bn2.bias",
    ),
    "shape": ({**extract(layers(0)), "bn2.weight": np.ones(5)}, {}, ValueError, r"layer 'bn2': .* shape \(2,\)"),
    "negative": ({**extract(layers(0)), "bn2.running_var": -np.ones(2)}, {}, ValueError, "layer 'bn2': .* values >= 0"),
    "type": ({**extract(layers(0)), "bn2.weight": np.ones(2, complex)}, {}, TypeError, "layer 'bn2': .* real numbers"),
    "nothing": (extract(layers(0)), {"statistics": False, "affine": False}, ValueError, "one of them to be True"),
    "flag": (extract(layers(0)), {"affine": 1}, TypeError, "affine: expected a bool, got int"),
    "names": (extract(layers(0)), {"names": {"bn3": "x"}}, ValueError, r"names: expected keys .* got \['bn3'\]"),
    "names of a kind": (extract(layers(0)), {"names": 3}, TypeError, "names: expected a mapping or a function"),
    "list": ([1], {}, TypeError, "state: expected a mapping"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_transfer_changes_nothing(case: str) -> None:
    given, options, error, message = BAD[case]
    target = layers(1)
    before = state(target)
    with pytest.raises(error, match=message):
        transfer(given, target, **options)
    assert state(target) == before


def test_a_read_only_target_changes_nothing() -> None:
    target = layers(1)
    before = state(target)
    target["bn2"].running_mean.flags.writeable = False  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="layer 'bn2': running_mean: expected a writeable array"):
        transfer(extract(layers(0)), target)
    assert state(target) == before


def test_blend() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (10, 2))
    mean, var = np.array([0.0, 1.0]), np.array([1.0, 4.0], np.float32)
    got = blend(mean, var, bn.channel_stats(x), prior_count=30)
    for values, source, target in zip(got, (mean, var), (x.mean(0), x.var(0)), strict=True):
        np.testing.assert_allclose(values, 0.75 * source + 0.25 * target, rtol=1e-13)
    np.testing.assert_allclose(blend(mean, var, bn.channel_stats(x), prior_count=0)[1], x.var(0), rtol=1e-13)
    for empty in (bn.ChannelStats(), bn.channel_stats(np.empty((0, 2)))):
        assert [a.tolist() for a in blend(mean, var, empty, prior_count=0)] == [mean.tolist(), var.tolist()]
    for bad, error in (
        ((mean, var, bn.channel_stats(rng.normal(size=(4, 3)))), ValueError),
        ((mean, var[:1], bn.channel_stats(x)), ValueError),
        ((mean.astype(int), var, bn.channel_stats(x)), TypeError),
        ((mean, var, x), TypeError),
    ):
        with pytest.raises(error, match="expected"):
            blend(*bad, prior_count=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prior_count: expected a finite number >= 0, got -1"):
        blend(mean, var, bn.channel_stats(x), prior_count=-1)


def chain(of: dict[str, bn.BatchNorm]) -> Any:
    w = np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)
    return lambda x: of["bn2"](of["bn1"](x) @ w)


@pytest.mark.parametrize("unbiased", [True, False])
def test_reestimation_is_of_all_values(unbiased: bool) -> None:
    """In training mode each layer normalizes by its batch; what it sees is merged over batches of any size."""
    target = layers(1, unbiased=unbiased)
    target["bn1"].eval()
    x = np.random.default_rng(2).normal(3, 2, (100, 3)).astype(np.float32)
    batches = [x[:64], x[64:80], x[80:]]
    stats = reestimate(target, chain(target), batches)
    ddof = 1 if unbiased else 0
    np.testing.assert_allclose(target["bn1"].running_mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(target["bn1"].running_var, x.var(0, ddof=ddof), rtol=1e-5)
    fresh = layers(1)
    w = np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)
    hidden = np.concatenate([fresh["bn1"](b) @ w for b in batches])
    np.testing.assert_allclose(stats["bn2"].mean, hidden.mean(0), atol=1e-5)
    np.testing.assert_allclose(target["bn2"].running_var, hidden.var(0, ddof=ddof), rtol=1e-5)
    assert [int(layer.num_batches_tracked) for layer in target.values()] == [3, 3]  # type: ignore[arg-type]
    assert [layer.training for layer in target.values()] == [False, True]


def test_a_failed_reestimation_changes_nothing() -> None:
    target = layers(1)
    target["bn2"].eval()
    before = state(target)
    x = np.ones((4, 3), np.float32)

    def half(batch: Any) -> None:
        target["bn1"](batch)

    def broken(batch: Any) -> None:
        chain(target)(batch)
        raise KeyError("broken")

    for forward, batches, error, message in (
        (half, [x], RuntimeError, "expected it to call every layer, got no call of 'bn2'"),
        (broken, [x], KeyError, "broken"),
        (chain(target), [], RuntimeError, "batches: expected at least one"),
    ):
        with pytest.raises(error, match=message):
            reestimate(target, forward, batches)
        assert state(target) == before
        assert [layer.training for layer in target.values()] == [True, False]
    with pytest.raises(ValueError, match="expected running statistics in each, got none in 'a'"):
        reestimate({"a": bn.BatchNorm(2, track_running_stats=False)}, half, [x])
