"""Optimizers against their formulas, written out for one number at a time; groups, state, and bad input."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from batchnorm.training import SGD, Adam, AdamW, Optimizer, RMSprop

STEPS = 25
Step = Callable[[float, float], float]


def sgd(lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> Step:
    v = 0.0

    def step(p: float, g: float) -> float:
        nonlocal v
        g += weight_decay * p
        v = momentum * v + g
        return p - lr * (g + momentum * v if nesterov else v)

    return step


def adam(lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool = False) -> Step:
    m = v = 0.0
    t = 0

    def step(p: float, g: float) -> float:
        nonlocal m, v, t
        t += 1
        if decoupled:
            p -= lr * weight_decay * p
        else:
            g += weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        return p - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)

    return step


def rmsprop(lr: float, alpha: float, eps: float, momentum: float, weight_decay: float) -> Step:
    s = v = 0.0

    def step(p: float, g: float) -> float:
        nonlocal s, v
        g += weight_decay * p
        s = alpha * s + (1 - alpha) * g**2
        v = momentum * v + g / (math.sqrt(s) + eps)
        return p - lr * v

    return step


FORMULAS: dict[str, tuple[type[Optimizer], dict[str, Any], Callable[[], Step]]] = {
    "sgd": (SGD, {"lr": 0.1}, lambda: sgd(0.1)),
    "sgd-momentum": (SGD, {"lr": 0.1, "momentum": 0.9}, lambda: sgd(0.1, 0.9)),
    "sgd-nesterov-decay": (
        SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
        lambda: sgd(0.1, 0.8, True, 0.05),
    ),
    "adam": (Adam, {}, lambda: adam(1e-3, 0.9, 0.999, 1e-8, 0.0)),
    "adam-decay": (
        Adam,
        {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
        lambda: adam(0.05, 0.8, 0.95, 1e-3, 0.1),
    ),
    "adamw": (AdamW, {"lr": 0.05}, lambda: adam(0.05, 0.9, 0.999, 1e-8, 0.01, decoupled=True)),
    "rmsprop": (RMSprop, {}, lambda: rmsprop(1e-2, 0.99, 1e-8, 0.0, 0.0)),
    "rmsprop-momentum-decay": (
        RMSprop,
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-4, "momentum": 0.7, "weight_decay": 0.1},
        lambda: rmsprop(0.02, 0.9, 1e-4, 0.7, 0.1),
    ),
}
OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


@pytest.fixture(params=list(OPTIMIZERS.values()), ids=list(OPTIMIZERS))
def optimizer_class(request: pytest.FixtureRequest) -> Any:
    return request.param


def gradients(steps: int, shape: tuple[int, ...] = (3, 2), seed: int = 0) -> Iterator[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.normal(0.3, 1, shape)


def everything(parameters: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    return {**{name: a.copy() for name, a in parameters.items()}, **optimizer.state_dict()}


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str, dtype: Any) -> None:
    optimizer_type, options, formula = FORMULAS[name]
    w = np.random.default_rng(1).normal(size=(3, 2)).astype(dtype)
    want = [float(value) for value in w.ravel()]
    steps = [formula() for _ in want]
    optimizer = optimizer_type({"w": w}, **options)
    for g in gradients(STEPS):
        optimizer.step({"w": g.astype(dtype)})
        want = [step(p, float(v)) for step, p, v in zip(steps, want, g.astype(dtype).ravel(), strict=True)]
    assert w.dtype == dtype
    np.testing.assert_allclose(w.ravel(), want, rtol=1e-12 if dtype == np.float64 else 1e-4)


def test_groups_have_their_own_settings() -> None:
    a, b, c = np.ones(2), np.ones(2), np.ones(2)
    groups = {
        "bn": {"parameters": {"a": a}, "lr": 0.5},
        "rest": {"parameters": {"b": b}},
        "still": {"parameters": {"c": c}, "frozen": True},
    }
    SGD(groups, lr=0.1).step({"a": np.ones(2), "b": np.ones(2)})
    assert (a.tolist(), b.tolist(), c.tolist()) == ([0.5, 0.5], [0.9, 0.9], [1.0, 1.0])


def test_what_is_frozen_keeps_its_state_too(optimizer_class: Any) -> None:
    a, b = np.ones(2), np.ones(2)
    optimizer = optimizer_class({"one": {"parameters": {"a": a}}, "two": {"parameters": {"b": b}}}, lr=0.1)
    optimizer.freeze("one")
    optimizer.step({"a": np.ones(2), "b": np.ones(2)})
    state = optimizer.state_dict()
    assert a.tolist() == [1, 1]
    assert b[0] < 1
    assert int(state["parameters/a/step"]) == 0
    assert int(state["parameters/b/step"]) == 1
    optimizer.unfreeze("one")
    optimizer.step({"a": np.ones(2), "b": np.ones(2)})
    assert a[0] < 1
    optimizer.train_only("one")
    assert [group["frozen"] for group in optimizer.groups.values()] == [False, True]


def test_state_survives_a_file(optimizer_class: Any) -> None:
    """Stopped in the middle, saved, loaded and gone on with, it gives the same bits as in one go."""
    whole = np.ones((3, 2))
    optimizer = optimizer_class({"w": whole}, lr=0.1)
    for g in gradients(STEPS):
        optimizer.step({"w": g})

    half = np.ones((3, 2))
    optimizer = optimizer_class({"w": half}, lr=0.1)
    parts = list(gradients(STEPS))
    for g in parts[:10]:
        optimizer.step({"w": g})
    file = io.BytesIO()
    np.savez(file, **optimizer.state_dict())
    file.seek(0)
    again = optimizer_class({"w": half}, lr=0.7)
    again.load_state_dict(np.load(file))
    for g in parts[10:]:
        again.step({"w": g})
    np.testing.assert_array_equal(half, whole)


BAD_STEPS: dict[str, tuple[Any, type[Exception], str]] = {
    "missing": ({"v": np.ones(2)}, ValueError, r"gradients: expected \['w', 'v'\], got missing \['w'\], unknown \[\]"),
    "unknown": ({"w": np.ones(2), "v": np.ones(2), "u": np.ones(2)}, ValueError, r"gradients: .* unknown \['u'\]"),
    "shape": ({"w": np.ones(3), "v": np.ones(2)}, ValueError, r"gradients\['w'\]: expected shape \(2,\), got \(3,\)"),
    "scalar": ({"w": 1.0, "v": np.ones(2)}, ValueError, r"gradients\['w'\]: expected shape \(2,\), got \(\)"),
    "complex": ({"w": np.ones(2, complex), "v": np.ones(2)}, TypeError, r"gradients\['w'\]: expected real numbers"),
    "none": ({"w": None, "v": np.ones(2)}, TypeError, r"gradients\['w'\]: expected real numbers, got object"),
    "masked": ({"w": np.ma.ones(2), "v": np.ones(2)}, TypeError, r"gradients\['w'\]: expected an array without a mask"),
    "list": ([np.ones(2)], TypeError, "gradients: expected a mapping of names to arrays, got list"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_a_bad_step_changes_nothing(optimizer_class: Any, case: str) -> None:
    given, error, message = BAD_STEPS[case]
    parameters = {"w": np.ones(2), "v": np.zeros(2)}
    optimizer = optimizer_class(parameters, lr=0.1)
    optimizer.step({"w": np.ones(2), "v": np.ones(2)})
    before = everything(parameters, optimizer)
    with pytest.raises(error, match=message):
        optimizer.step(given)
    assert_equal(everything(parameters, optimizer), before)


def test_a_bad_setting_or_a_read_only_parameter_stops_a_step(optimizer_class: Any) -> None:
    w = np.ones(2)
    optimizer = optimizer_class({"w": w}, lr=0.1)
    before = optimizer.state_dict()
    for value, error in ((-1.0, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("1", TypeError)):
        optimizer.groups["all"]["lr"] = value
        with pytest.raises(error, match="lr of group 'all': expected a"):
            optimizer.step({"w": np.ones(2)})
    optimizer.groups["all"]["lr"] = 0.1
    optimizer.groups["all"]["lrr"] = 0.1
    with pytest.raises(ValueError, match=r"group 'all': .* unknown \['lrr'\]"):
        optimizer.step({"w": np.ones(2)})
    del optimizer.groups["all"]["lrr"]
    for parameters, message in (({"v": np.ones(2)}, "missing"), ({"w": np.ones(3)}, "shape"), ({"w": 1.0}, "an array")):
        optimizer.groups["all"]["parameters"] = parameters
        with pytest.raises((TypeError, ValueError), match=message):
            optimizer.step({name: np.ones(np.shape(a)) for name, a in parameters.items()})
    optimizer.groups["all"]["parameters"] = {"w": w}
    w.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        optimizer.step({"w": np.ones(2)})
    assert w.tolist() == [1, 1]
    assert_equal(optimizer.state_dict(), before)


BAD_OPTIMIZERS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "negative": (lambda: SGD({"w": np.ones(2)}, -0.1), ValueError, "lr of group 'all': expected a finite number >= 0"),
    "bool": (lambda: SGD({"w": np.ones(2)}, True), TypeError, "lr of group 'all': expected a real number, got bool"),
    "momentum": (lambda: SGD({"w": np.ones(2)}, 0.1, momentum=1.0), ValueError, "momentum .* >= 0 and < 1, got 1.0"),
    "beta": (lambda: Adam({"w": np.ones(2)}, beta2=1.5), ValueError, "beta2 of group 'all'"),
    "integers": (lambda: SGD({"w": np.ones(2, int)}, 0.1), TypeError, "float32 or float64, got an array of int64"),
    "float16": (lambda: SGD({"w": np.ones(2, np.float16)}, 0.1), TypeError, "float32 or float64"),
    "list": (lambda: SGD([np.ones(2)], 0.1), TypeError, "parameters: expected a mapping"),  # type: ignore[arg-type]
    "mixed": (lambda: SGD({"a": {"parameters": {}}, "b": np.ones(2)}, 0.1), TypeError, r"parameters\['b'\]"),
    "no parameters": (lambda: SGD({"a": {"lr": 1.0}}, 0.1), TypeError, "parameters of 'a': expected a mapping"),
    "unknown": (lambda: SGD({"a": {"parameters": {}, "beta1": 0.5}}, 0.1), ValueError, r"unknown \['beta1'\]"),
    "twice": (
        lambda: SGD({"a": {"parameters": {"w": np.ones(2)}}, "b": {"parameters": {"w": np.ones(2)}}}, 0.1),
        ValueError,
        "each name in one group, got 'w' in two",
    ),
}


@pytest.mark.parametrize("case", BAD_OPTIMIZERS)
def test_bad_arguments(case: str) -> None:
    make, error, message = BAD_OPTIMIZERS[case]
    with pytest.raises(error, match=message):
        make()


def test_settings_become_plain_numbers() -> None:
    settings = SGD({"w": np.ones(2)}, np.float32(0.5), momentum=np.array(0.25), nesterov=np.True_).groups["all"]
    assert [type(settings[name]) for name in ("lr", "momentum", "nesterov")] == [float, float, bool]


def test_unknown_groups_are_refused() -> None:
    optimizer = SGD({"a": {"parameters": {"w": np.ones(2)}}, "b": {"parameters": {"v": np.ones(2)}}}, 0.1)
    for method in (optimizer.freeze, optimizer.unfreeze, optimizer.train_only):
        with pytest.raises(ValueError, match=r"groups: expected some of \['a', 'b'\], got \['c'\]"):
            method("a", "c")
    assert [group["frozen"] for group in optimizer.groups.values()] == [False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters/w/velocity": np.ones(3)}, "expected shape"),
        ({"parameters/w/velocity": np.ones(2, int)}, "expected dtype float64"),
        ({"parameters/w/step": np.array(-1)}, "expected an integer >= 0, got -1"),
        ({"groups/all/lr": np.array(-1.0)}, "groups/all/lr: expected a finite number >= 0"),
        ({"groups/all/nesterov": np.array(1)}, "expected dtype bool"),
        ({"something": np.ones(1)}, r"unknown \['something'\]"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_a_bad_state_changes_nothing(change: dict[str, Any], message: str) -> None:
    parameters = {"w": np.ones(2)}
    optimizer = SGD(parameters, lr=0.1, momentum=0.9)
    optimizer.step({"w": np.ones(2)})
    before = everything(parameters, optimizer)
    state = {**SGD({"w": np.ones(2)}, lr=0.5).state_dict(), **change}
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(state)
    with pytest.raises(ValueError, match="missing"):
        optimizer.load_state_dict({})
    assert_equal(everything(parameters, optimizer), before)
