"""What a layer refuses, and that it is as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from layers import batch, state_of


def test_backward_before_forward_and_twice() -> None:
    layer, x = bn.BatchNorm(3), batch()
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(x)
    layer(x)
    layer.backward(x)
    before = state_of(layer)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(x)
    assert state_of(layer) == before


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_backward_of_another_shape_changes_nothing(layer: bn.BatchNorm, training: bool) -> None:
    x = batch()
    layer.train(training)(x)
    before = state_of(layer)
    for dy, error in [(x[:5], ValueError), (batch(6, 3, 20), ValueError), (x.astype(np.float64), TypeError)]:
        with pytest.raises(error, match=r"^dy: expected .* got "):
            layer.backward(dy)
        assert state_of(layer) == before
    assert layer.backward(x).shape == x.shape  # the right call can still be made


def test_a_forward_that_fails_changes_nothing(layer: bn.BatchNorm) -> None:
    before = state_of(layer)
    for x, error, message in [
        (batch(6, 4, 5), ValueError, r"^x: expected 3 channels along axis 1, got 4 in shape \(6, 4, 5\)"),
        (np.ones(3), ValueError, r"^x: expected at least 2 dimensions, got shape \(3,\)"),
        (np.ones((2, 3), int), TypeError, r"^x: expected float16, .* got int64"),
        (np.ma.masked_array(np.ones((2, 3))), TypeError, r"^x: expected .*mask"),
    ]:
        for mode in (True, False):
            with pytest.raises(error, match=message):
                layer.train(mode)(x)
            assert state_of(layer) == before


@pytest.mark.parametrize("name", ["running_mean", "running_var", "num_batches_tracked"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_forward_with_a_read_only_statistic_changes_nothing(
    layer: bn.BatchNorm, name: str, momentum: float | None
) -> None:
    layer.momentum = momentum
    getattr(layer, name).flags.writeable = False
    before = state_of(layer)
    with pytest.raises(ValueError, match=rf"^{name}: expected a writeable array, got a read-only one"):
        layer(batch())
    assert state_of(layer) == before
    layer.eval()(batch())  # which writes nothing


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_forward_whose_counter_would_overflow_changes_nothing(layer: bn.BatchNorm, momentum: float | None) -> None:
    layer.momentum = momentum
    counter = layer.num_batches_tracked
    assert counter is not None
    counter[()] = 2**63 - 1
    before = state_of(layer)
    with pytest.raises(OverflowError, match=r"^num_batches_tracked: expected .*, got 9223372036854775807"):
        layer(batch())
    layer(np.empty((0, 3), np.float32))  # an empty batch is not counted
    assert state_of(layer) == before
    counter[()] = 2**63 - 2
    layer(batch())
    assert counter == 2**63 - 1


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ["weight_grad", "bias_grad"])
def test_a_backward_with_a_read_only_gradient_changes_nothing(layer: bn.BatchNorm, training: bool, name: str) -> None:
    x = batch()
    layer.train(training)(x)
    before = state_of(layer)
    getattr(layer, name).flags.writeable = False
    with pytest.raises(ValueError, match=rf"^{name}: expected a writeable array, got a read-only one"):
        layer.backward(x)
    assert state_of(layer) == before
    getattr(layer, name).flags.writeable = True
    layer.backward(x)  # the right call can still be made
    assert state_of(layer) != before


class Once:
    """A number that can be asked for once."""

    def __init__(self, value: Any) -> None:
        self.values = [value]

    def __float__(self) -> float:
        return float(self.values.pop())

    def __index__(self) -> int:
        return int(self.values.pop())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_eps_and_axis_are_converted_once(layer: bn.BatchNorm, training: bool) -> None:
    x = batch()
    layer.train(training)(x)
    expected = layer.backward(x)
    layer.eps, layer.axis = Once(1e-5), Once(1)  # type: ignore[assignment]
    layer(x)
    assert layer.backward(x).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0,), {}, ValueError, r"^num_features: expected .*, got 0"),
        ((-1,), {}, ValueError, r"^num_features: expected .*, got -1"),
        ((True,), {}, TypeError, r"^num_features: expected .*, got bool"),
        ((3.0,), {}, TypeError, r"^num_features: expected .*, got float"),
        ((3, -1e-5), {}, ValueError, r"^eps: expected .*, got -1e-05"),
        ((3, np.inf), {}, ValueError, r"^eps: expected .*, got inf"),
        ((3, None), {}, TypeError, r"^eps: expected .*, got NoneType"),
        ((3, 1e-5, 1.5), {}, ValueError, r"^momentum: expected .*, got 1.5"),
        ((3, 1e-5, np.nan), {}, ValueError, r"^momentum: expected .*, got nan"),
        ((3, 1e-5, "0.1"), {}, TypeError, r"^momentum: expected .*, got str"),
        ((3,), {"affine": 1}, TypeError, r"^affine: expected .*, got int"),
        ((3,), {"weight": np.ones(3)}, TypeError, r"^weight: expected a bool, got numpy.ndarray"),
        ((3,), {"axis": 1.0}, TypeError, r"^axis: expected .*, got float"),
        ((3,), {"momentum_of": "both"}, ValueError, r"^momentum_of: expected .*, got 'both'"),
        ((3,), {"on_single": "ignore"}, ValueError, r"^on_single: expected .*, got 'ignore'"),
        ((3,), {"dtype": np.float16}, TypeError, r"^dtype: expected float32 or float64, got .*float16"),
        ((3,), {"dtype": int}, TypeError, r"^dtype: expected float32 or float64, got .*int"),
        ((3,), {"num_threads": 0}, ValueError, r"^num_threads: expected .*, got 0"),
        ((3,), {"num_threads": True}, TypeError, r"^num_threads: expected .*, got bool"),
        ((3, 1e-5, 0.1, True, True, True), {}, TypeError, "positional"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bn.BatchNorm(*arguments, **options)


def outcome(call: Callable[[], Any]) -> str:
    """The error of a call, or that there is none."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


NUMBERS = [
    *(
        0,
        1,
        0.5,
        -0.0,
        -1,
        1.5,
        np.nan,
        np.inf,
        10**400,
        -(10**400),
        True,
        np.True_,
        1j,
        np.complex64(1),
        "1",
        None,
        [1.0],
    ),
    *(np.float16(0.5), np.float32(0.5), np.longdouble(0.5), np.int8(1), Fraction(1, 2), Decimal("0.5"), np.array(0.5)),
]
FLAGS = [True, False, np.True_, 0, 1.0, None, "yes", np.array(True)]
WORDS = ["new", "old", "error", "warn", "allow", np.str_("new"), "New", "", b"new", None, True, 1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("eps", NUMBERS),
        ("momentum", [value for value in NUMBERS if value is not None]),  # None has a meaning for a layer
        ("momentum_of", WORDS),
        ("unbiased", FLAGS),
        ("on_single", WORDS),
        ("axis", [1, np.int8(1), True, np.True_, 1.0, None, "1", (1,), np.array(1)]),
        ("num_threads", [1, np.int8(1), 0, -1, True, 1.0, None, "1", np.array(1)]),
    ],
)
def test_a_layer_takes_what_the_functions_take(name: str, values: list[Any]) -> None:
    """And refuses the rest in the same words."""
    x, accepted = batch(), []
    for value in values:
        of_layer = outcome(lambda value=value: bn.BatchNorm(3, **{name: value}))  # type: ignore[misc]
        stats = {"running_mean": np.zeros(3), "running_var": np.ones(3)}
        options: dict[str, Any] = {**stats, name: value}
        assert of_layer == outcome(lambda options=options: bn.batch_norm_train(x, **options))  # type: ignore[misc]
        if of_layer == "accepted":
            bn.BatchNorm(3, **{name: value})(x)
            accepted.append(value)
    assert 0 < len(accepted) < len(values)


def test_options_are_kept_as_plain_values() -> None:
    layer = bn.BatchNorm(3, Fraction(1, 2), np.float16(0.5), np.True_, axis=np.int8(1), momentum_of=np.str_("old"))  # type: ignore[arg-type]
    kept = layer.eps, layer.momentum, layer.affine, layer.axis, layer.momentum_of
    assert [type(value) for value in kept] == [float, float, bool, int, str]
    assert repr(layer) == (
        "BatchNorm(3, eps=0.5, momentum=0.5, affine=True, track_running_stats=True, momentum_of='old')"
    )


def test_flags_of_methods() -> None:
    layer = bn.BatchNorm(3)
    with pytest.raises(TypeError, match=r"^mode: expected a bool, got int$"):
        layer.train(0)  # type: ignore[arg-type]
    assert layer.training is True
    with pytest.raises(TypeError, match=r"^strict: expected a bool, got NoneType$"):
        layer.load_state_dict(layer.state_dict(), None)  # type: ignore[arg-type]
