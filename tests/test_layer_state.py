"""The layer's state_dict: PyTorch's keys; loading is all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from oracle import Array
from tolerances import assert_same_bits

KEYS = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def some_state(dtype: Any = np.float32) -> dict[str, Array]:
    vectors = np.array([[1, 2, 3], [4, 5, 6], [-1, -2, -3], [0.5, 1.5, 2.5]], dtype)
    return {**dict(zip(KEYS, vectors, strict=False)), "num_batches_tracked": np.array(9)}


def bytes_of(layer: bn.BatchNorm) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in layer.state_dict().items()}


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, KEYS),
        ({"affine": False}, KEYS[2:]),
        ({"weight": False}, KEYS[1:]),
        ({"bias": False}, [KEYS[0], *KEYS[2:]]),
        ({"track_running_stats": False}, KEYS[:2]),
        ({"track_running_stats": False, "affine": False}, []),
    ],
    ids=str,
)
def test_the_keys_are_pytorchs(options: dict[str, Any], keys: list[str]) -> None:
    layer = bn.BatchNorm(3, **options)
    assert list(layer.state_dict()) == keys
    layer.load_state_dict({key: some_state()[key] for key in keys})
    for key in keys:
        assert_same_bits(key, layer.state_dict()[key], some_state()[key])


def test_the_arrays_are_live_and_stay_the_same() -> None:
    layer = bn.BatchNorm(3)
    state = layer.state_dict()
    for name in KEYS:
        assert state[name] is getattr(layer, name)
    given = some_state()
    layer.load_state_dict(given)
    given["weight"][:] = 99  # a copy was taken
    layer(np.random.default_rng(0).normal(size=(4, 3)))
    layer.reset_running_stats()
    layer.reset_parameters()
    for name in KEYS:
        assert state[name] is getattr(layer, name)


def test_a_loaded_layer_computes_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32)
    layer, other = bn.BatchNorm(3), bn.BatchNorm(3)
    layer.load_state_dict(some_state())
    layer(x)
    other.load_state_dict(layer.state_dict())
    assert bytes_of(other) == bytes_of(layer)
    assert int(other.num_batches_tracked) == 10  # type: ignore[arg-type]
    assert_same_bits("y", other.eval()(x), layer.eval()(x))
    layer.load_state_dict(layer.state_dict())  # its own live arrays
    assert bytes_of(other) == bytes_of(layer)


def test_values_are_converted_to_the_layers_dtype() -> None:
    layer = bn.BatchNorm(3, dtype=np.float64)
    layer.load_state_dict({**some_state(), "bias": [1, 2, 3], "num_batches_tracked": np.array([4], np.int32)})
    assert layer.bias.dtype == layer.weight.dtype == np.float64  # type: ignore[union-attr]
    assert layer.bias.tolist() == [1, 2, 3]  # type: ignore[union-attr]
    assert_same_bits("num_batches_tracked", layer.num_batches_tracked, np.array(4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weight": ...}, ValueError, r"^state: expected .*, got .*missing.*weight"),
        ({"num_batches_tracked": ...}, ValueError, r"^state: expected .*, got .*missing.*num_batches_tracked"),
        ({"extra": np.ones(3)}, ValueError, r"^state: expected .*, got .*unexpected.*extra"),
        ({"weight": ..., "gamma": np.ones(3)}, ValueError, r"^state: expected .*, got .*weight.*gamma"),
        ({"weight": np.ones(4)}, ValueError, r"weight.*: expected shape \(3,\), got \(4,\)"),
        ({"weight": np.ones((3, 1))}, ValueError, r"weight.*: expected shape \(3,\), got \(3, 1\)"),
        ({"running_var": np.ones(2)}, ValueError, r"running_var.*: expected shape \(3,\), got \(2,\)"),
        ({"running_var": np.array([1, -1, 1.0])}, ValueError, r"running_var.*: expected .*, got -1.0"),
        (
            {"num_batches_tracked": np.ones(3, int)},
            ValueError,
            r"num_batches_tracked.*: expected shape \(\), got \(3,\)",
        ),
        ({"num_batches_tracked": np.array(-1)}, ValueError, r"num_batches_tracked.*: expected .*, got -1"),
        (
            {"num_batches_tracked": np.array(1.5)},
            TypeError,
            r"num_batches_tracked.*: expected an integer, got .*float64",
        ),
        ({"bias": np.array(["a", "b", "c"])}, TypeError, r"bias.*: expected real numbers, got "),
        ({"bias": np.ones(3, complex)}, TypeError, r"bias.*: expected real numbers, got .*complex128"),
        ({"bias": None}, TypeError, r"bias.*: expected real numbers, got .*object"),
    ],
    ids=str,
)
def test_a_wrong_state_loads_nothing(change: dict[str, Any], error: type[Exception], message: str) -> None:
    layer = bn.BatchNorm(3)
    before = bytes_of(layer)
    state = {name: value for name, value in {**some_state(), **change}.items() if value is not ...}
    with pytest.raises(error, match=message):
        layer.load_state_dict(state)
    assert bytes_of(layer) == before
    if all(value is ... or name not in KEYS for name, value in change.items()):
        layer.load_state_dict(state, strict=False)  # what is there is loaded, what is unknown ignored
        for name in KEYS:
            if name in state:
                assert_same_bits(name, layer.state_dict()[name], some_state()[name])
            else:
                assert layer.state_dict()[name].tobytes() == before[name]
    else:
        with pytest.raises(error, match=message):
            layer.load_state_dict(state, strict=False)
        assert bytes_of(layer) == before


@pytest.mark.parametrize("name", KEYS)
def test_a_read_only_array_of_the_layer_loads_and_resets_nothing(name: str) -> None:
    layer = bn.BatchNorm(3)
    layer.load_state_dict(some_state())
    before = bytes_of(layer)
    getattr(layer, name).flags.writeable = False
    zeros = {key: np.zeros_like(value) for key, value in some_state().items()}
    reset = layer.reset_parameters if name in KEYS[:2] else layer.reset_running_stats
    calls: list[Callable[[], None]] = [lambda: layer.load_state_dict(zeros), reset]
    for call in calls:
        with pytest.raises(ValueError, match=rf"^{name}: expected a writeable array, got a read-only one"):
            call()
        assert bytes_of(layer) == before
    del zeros[name]
    layer.load_state_dict(zeros, strict=False)  # which leaves that one alone
    assert layer.state_dict()[name].tobytes() == before[name]
    for key in zeros:
        assert not layer.state_dict()[key].any()


def test_a_state_is_a_mapping() -> None:
    for wrong in (None, [1, 2], "weight"):
        with pytest.raises(TypeError, match=r"^state: expected .*, got "):
            bn.BatchNorm(3).load_state_dict(wrong)  # type: ignore[arg-type]


def test_resets_are_separate() -> None:
    layer = bn.BatchNorm(3)
    layer.load_state_dict(some_state())
    layer.reset_running_stats()
    fresh = bn.BatchNorm(3).state_dict()
    for name in KEYS[:2]:
        assert_same_bits(name, layer.state_dict()[name], some_state()[name])
    for name in KEYS[2:]:
        assert_same_bits(name, layer.state_dict()[name], fresh[name])
    layer.reset_parameters()
    for name in KEYS:
        assert_same_bits(name, layer.state_dict()[name], fresh[name])


def test_the_counter_survives_a_large_count() -> None:
    layer = bn.BatchNorm(3, momentum=None)
    layer.load_state_dict({**some_state(), "num_batches_tracked": np.array(2**53 + 1)})
    layer(np.random.default_rng(0).normal(size=(4, 3)))
    assert int(layer.num_batches_tracked) == 2**53 + 2  # type: ignore[arg-type]
    for name in ("running_mean", "running_var"):
        assert_same_bits(name, layer.state_dict()[name], some_state()[name])
