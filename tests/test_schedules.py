"""Schedules, averages of parameters, and roles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.training import (
    SGD,
    ExponentialLR,
    ExponentialMovingAverage,
    LinearWarmup,
    Phases,
    ReduceOnPlateau,
    by_role,
    gradients_of,
    parameters_of,
)


def optimizer(lr: float = 0.8) -> SGD:
    return SGD({"a": {"parameters": {"w": np.ones(2)}}, "b": {"parameters": {"v": np.ones(2)}, "lr": 0.1}}, lr)


def rates(of: SGD) -> list[float]:
    return [group["lr"] for group in of.groups.values()]


def test_exponential() -> None:
    o = optimizer()
    schedule = ExponentialLR(o, 0.9)
    for epoch in range(1, 200):
        schedule.step()
        np.testing.assert_allclose(rates(o), [0.8 * 0.9**epoch, 0.1 * 0.9**epoch], rtol=1e-13)


def test_exponential_goes_on_after_the_power_has_vanished() -> None:
    o = optimizer()
    schedule = ExponentialLR(o, 1e-200)
    for _ in range(5):
        schedule.step()
    assert rates(o) == [0, 0]


def test_warm_up() -> None:
    o = optimizer()
    schedule = LinearWarmup(o, 4, start=0.2)
    seen = [rates(o)[0]]
    for _ in range(6):
        schedule.step()
        seen.append(rates(o)[0])
    np.testing.assert_allclose(seen, 0.8 * np.array([0.2, 0.4, 0.6, 0.8, 1, 1, 1]), rtol=1e-13)


def test_schedules_combine() -> None:
    o = optimizer()
    warm, decay = LinearWarmup(o, 4, start=0.5), ExponentialLR(o, 0.9)
    for _ in range(10):
        warm.step()
        decay.step()
    np.testing.assert_allclose(rates(o), [0.8 * 0.9**10, 0.1 * 0.9**10], rtol=1e-13)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau(mode: Any) -> None:
    o = optimizer(1.0)
    schedule = ReduceOnPlateau(o, mode=mode, factor=0.5, patience=2, threshold=0.1, cooldown=2, min_lr=0.3)
    sign = 1 if mode == "min" else -1
    # better; 3 times not better by a tenth, so halved; 2 to cool; 3 times not better; and again
    losses = [1.0, 0.95, 0.95, 0.95, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    seen = []
    for loss in losses:
        schedule.step(math.exp(-sign * math.log(1 / loss)))
        seen.append(rates(o)[0])
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    assert rates(o)[1] == 0.1  # below min_lr already, stays


def test_plateau_waits_through_nan() -> None:
    o = optimizer(1.0)
    schedule = ReduceOnPlateau(o, factor=0.5, patience=0)
    schedule.step(1.0)
    schedule.step(math.nan)
    assert rates(o)[0] == 0.5
    assert schedule.best == 1


@pytest.mark.parametrize("make", [lambda o: ExponentialLR(o, 0.9), lambda o: LinearWarmup(o, 7), ReduceOnPlateau])
def test_state_of_a_schedule(make: Any) -> None:
    one, other = optimizer(), optimizer(0.3)
    first, second = make(one), make(other)
    argument = (1.5,) if isinstance(first, ReduceOnPlateau) else ()
    for _ in range(3):
        first.step(*argument)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(one.state_dict())
    for _ in range(20):
        first.step(*argument)
        second.step(*argument)
    assert rates(other) == rates(one)
    assert first.state_dict() == second.state_dict()
    with pytest.raises(ValueError, match="missing"):
        second.load_state_dict({})
    name = "waited" if argument else "steps"
    with pytest.raises(ValueError, match=f"{name}: expected an integer >= 0"):
        second.load_state_dict({**first.state_dict(), name: np.array(-1)})
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: ExponentialLR(o, 0.0), ValueError, "decay: expected a finite number > 0, got 0.0"),
        (lambda o: ExponentialLR(o, 1.1), ValueError, "decay: expected a number > 0 and <= 1, got 1.1"),
        (lambda o: ExponentialLR(o, "x"), TypeError, "decay: expected a real number, got str"),
        (lambda o: ExponentialLR(None, 0.9), TypeError, "optimizer: expected an Optimizer, got NoneType"),
        (lambda o: LinearWarmup(o, 0), ValueError, "length: expected an int >= 1, got 0"),
        (lambda o: LinearWarmup(o, 2.5), TypeError, "length: expected an int, got float"),
        (lambda o: LinearWarmup(o, 2, start=0.0), ValueError, "start: expected a finite number > 0"),
        (lambda o: ReduceOnPlateau(o, mode="best"), ValueError, "mode"),
        (lambda o: ReduceOnPlateau(o, factor=-1.0), ValueError, "factor"),
        (lambda o: ReduceOnPlateau(o, patience=-1), ValueError, "patience: expected an int >= 0, got -1"),
        (lambda o: ReduceOnPlateau(o, min_lr=-1.0), ValueError, "min_lr"),
        (lambda o: ReduceOnPlateau(o).step("low"), TypeError, "metric: expected a real number, got str"),
    ],
)
def test_bad_schedules_change_no_rate(make: Any, error: type[Exception], message: str) -> None:
    o = optimizer()
    with pytest.raises(error, match=message):
        make(o)
    assert rates(o) == [0.8, 0.1]


@pytest.mark.parametrize("correction", [False, True])
def test_average_of_parameters(dtype: Any, correction: bool) -> None:
    w = np.array([1.0, -2.0], dtype)
    average = ExponentialMovingAverage({"w": w}, 0.9, bias_correction=correction)
    want = np.zeros(2) if correction else w.astype(np.float64)
    for t in range(1, 6):
        w += t
        average.update()
        want = 0.9 * want + 0.1 * w.astype(np.float64)
    want = want / (1 - 0.9**5) if correction else want
    got = average.averages()["w"]
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=1e-6 if dtype == np.float32 else 1e-14)
    with average.swapped():
        np.testing.assert_array_equal(w, got)
    assert w.tolist() == [16, 13]
    with pytest.raises(KeyError), average.swapped():
        raise KeyError
    assert w.tolist() == [16, 13]


def test_a_swap_has_an_order() -> None:
    w = np.ones(2)
    average = ExponentialMovingAverage({"w": w}, bias_correction=True)
    with pytest.raises(RuntimeError, match="expected an update first"):
        average.swap_in()
    with pytest.raises(RuntimeError, match="swap_out: expected the averages to be swapped in"):
        average.swap_out()
    average.update()
    average.swap_in()
    for method in (average.swap_in, average.update):
        with pytest.raises(RuntimeError, match="swapped in"):
            method()
    average.swap_out()
    assert w.tolist() == [1, 1]


def test_state_of_an_average() -> None:
    w = np.ones(2)
    one, other = ExponentialMovingAverage({"w": w}), ExponentialMovingAverage({"w": w})
    w += 1
    one.update()
    other.load_state_dict(one.state_dict())
    assert other.updates == 1
    np.testing.assert_array_equal(other.averages()["w"], one.averages()["w"])
    for change in ({"updates": np.array(-1)}, {"averages/w": np.ones(3)}, {"averages/v": np.ones(2)}):
        with pytest.raises(ValueError, match="expected"):
            other.load_state_dict({**ExponentialMovingAverage({"w": w}).state_dict(), **change})
    assert other.updates == 1
    for value in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="decay: expected a number >= 0 and < 1"):
            ExponentialMovingAverage({"w": w}, value)


def test_roles() -> None:
    layers = {"bn1": bn.BatchNorm(2), "bn2": bn.BatchNorm(3, bias=False)}
    dense = {"fc1.weight": np.ones((2, 2)), "fc1.bias": np.ones(2)}
    parameters = {**dense, **parameters_of(layers)}
    groups = by_role(parameters, layers, lr=0.5, frozen=True)
    assert list(groups["bn"]["parameters"]) == ["bn1.weight", "bn1.bias", "bn2.weight"]
    assert list(groups["rest"]["parameters"]) == list(dense)
    assert groups["bn"]["parameters"]["bn1.bias"] is layers["bn1"].bias
    o = SGD(groups, lr=0.1, weight_decay=0.5)
    assert [(g["lr"], g["weight_decay"], g["frozen"]) for g in o.groups.values()] == [(0.5, 0, True), (0.1, 0.5, False)]
    assert gradients_of(layers)["bn2.weight"] is layers["bn2"].weight_grad
    with pytest.raises(ValueError, match=r"layers: expected names with parameters among .* got 'bn3'"):
        by_role(parameters, ["bn1", "bn3"])
    with pytest.raises(TypeError, match="several names, got one str"):
        by_role(parameters, "bn1")
    with pytest.raises(TypeError, match="expected names and BatchNorm, got 'a' and ndarray"):
        parameters_of({"a": np.ones(2)})  # type: ignore[dict-item]


def test_phases() -> None:
    def frozen() -> list[bool]:
        return [group["frozen"] for group in o.groups.values()]

    o = optimizer()
    phases = Phases(o, [(["a"], 1), (["b"], 2), (["a", "b"], 1)])
    seen = [frozen()]
    for _ in range(5):
        phases.step()
        seen.append(frozen())
    assert seen == [[False, True], [True, False], [True, False], [False, False], [False, False], [False, False]]
    again = Phases(o, [(["a"], 1), (["b"], 2), (["a", "b"], 1)])
    again.load_state_dict({"steps": np.array(2)})
    assert (again.current, frozen()) == (("b",), [True, False])
    for bad, error in (
        ([(["c"], 1)], ValueError),
        ([(["a"], 0)], ValueError),
        ([], ValueError),
        ([("a", 1)], TypeError),
        ([(["a"], 1.5)], TypeError),
        ([["a"]], TypeError),
        ([3], TypeError),
    ):
        with pytest.raises(error, match="phases: expected"):
            Phases(o, bad)  # type: ignore[arg-type]
    assert frozen() == [True, False]
