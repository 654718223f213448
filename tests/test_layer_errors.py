"""What a layer refuses, and that it is as it was afterwards."""

from __future__ import annotations

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
        (np.ones((2, 3), int), TypeError, r"^x: expected float32 or float64, got int64"),
        (np.ma.masked_array(np.ones((2, 3))), TypeError, r"^x: expected .*mask"),
    ]:
        for mode in (True, False):
            with pytest.raises(error, match=message):
                layer.train(mode)(x)
            assert state_of(layer) == before


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
        ((3,), {"weight": np.ones(3)}, TypeError, r"^weight: expected .*, got ndarray"),
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
