"""Every gradient against finite differences of the forward that it differentiates, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from layouts import Case, given_statistics, parameters
from oracle import Array
from tolerances import within

STEP = 1e-5  # error of a central difference: 1e-16 / 1e-5 from rounding, 1e-10 from the third derivative
BOUND = 1e-8
LAYOUTS = ["channels_first", "channels_last", "channel_axis_0", "crop", "every_second_element"]


def differences(loss: Callable[[Array], float], a: Array) -> Array:
    """d loss / d a by central differences, one element at a time; a is as it was afterwards."""
    gradient = np.empty(a.shape)
    for i in np.ndindex(a.shape):
        kept = a[i]
        a[i] = kept + STEP
        above = loss(a)
        a[i] = kept - STEP
        below = loss(a)
        a[i] = kept
        gradient[i] = (above - below) / (2 * STEP)
    return gradient


def assert_close(name: str, got: Any, want: Array) -> None:
    __tracebackhide__ = True
    within(name, got, want, BOUND * max(1.0, np.abs(want).max()))


@pytest.fixture(params=[(5, 3), (3, 2, 4), (2, 3, 2, 3)], ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("eps", [1e-5, 0.5], ids=str)
def test_training(isa: str, shape: tuple[int, ...], layout: str, eps: float) -> None:
    axis, x, dy = Case(shape, layout).arrays(np.float64, 2, mean=1, std=2)
    weight, bias = parameters(x.shape[axis])

    def loss(x: Array, weight: Array, bias: Array) -> float:
        return float((dy * bn.batch_norm_train(x, weight, bias, eps=eps, axis=axis)[0]).sum())

    _, saved = bn.batch_norm_train(x, weight, bias, eps=eps, axis=axis)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_close("dx", got.dx, differences(lambda a: loss(a, weight, bias), x))
    assert_close("dweight", got.dweight, differences(lambda a: loss(x, a, bias), weight))
    assert_close("dbias", got.dbias, differences(lambda a: loss(x, weight, a), bias))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("eps", [1e-5, 0.5], ids=str)
def test_inference(isa: str, shape: tuple[int, ...], layout: str, eps: float) -> None:
    axis, x, dy = Case(shape, layout).arrays(np.float64, 2, mean=1, std=2)
    weight, bias = parameters(x.shape[axis])
    mean, var = given_statistics(x.shape[axis])
    arguments = {"x": x, "mean": mean, "var": var, "weight": weight, "bias": bias}

    def loss(name: str, a: Array) -> float:
        y = bn.batch_norm_inference(*{**arguments, name: a}.values(), eps=eps, axis=axis)
        return float((dy * y).sum())

    got = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, eps=eps, axis=axis)
    for name, a in arguments.items():
        assert_close(f"d{name}", getattr(got, f"d{name}"), differences(lambda a, name=name: loss(name, a), a))  # type: ignore[misc]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_layer(shape: tuple[int, ...], training: bool) -> None:
    layer = bn.BatchNorm(shape[1], dtype=np.float64).train(training)
    rng = np.random.default_rng(0)
    for array, values in zip(
        layer.state_dict().values(), (*parameters(shape[1]), *given_statistics(shape[1])), strict=False
    ):
        array[...] = values
    x, dy = rng.normal(1, 2, (2, *shape))
    layer(x)
    dx = layer.backward(dy)
    fixed = {name: array.copy() for name, array in layer.state_dict().items()}

    def loss(_: Array) -> float:
        if not training:
            return float((dy * layer(x)).sum())
        return float((dy * bn.batch_norm_train(x, layer.weight, layer.bias)[0]).sum())

    assert layer.weight is not None
    assert layer.bias is not None
    assert_close("dx", dx, differences(loss, x))
    assert_close("weight_grad", layer.weight_grad, differences(loss, layer.weight))
    assert_close("bias_grad", layer.bias_grad, differences(loss, layer.bias))
    for name, array in layer.state_dict().items():
        assert array.tobytes() == fixed[name].tobytes(), name
