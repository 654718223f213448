"""Streaming stores, which large outputs take: the same bits as plain ones, and nothing beside the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import batchnorm as bn
from batchnorm import _core

Array = NDArray[np.floating[Any]]

# Rows and planes that end inside a cache line, one channel per row of a tile, few channels, many, none left over.
SHAPES = [(9, 16, 5, 7), (5, 7, 33), (3, 40, 8, 8), (6, 5, 14, 14), (700, 30), (300, 3), (64, 100), (2, 3, 1, 1)]


@pytest.fixture
def streaming() -> Iterator[Callable[[], None]]:
    """Let every output stream from the call of this on."""
    yield lambda: _core._set_stream_above(0)
    _core._set_stream_above(None)


def outputs(x: Array, dy: Array, axis: int, out: Callable[[], Array]) -> list[Array]:
    """Return what every function that writes an array writes, each into an output of its own."""
    channels = x.shape[axis]
    weight, bias = np.linspace(0.5, 2, channels), np.linspace(-1, 1, channels)
    mean, var = np.linspace(-1, 1, channels), np.linspace(0.5, 2, channels)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow", out=out())
    return [
        y,
        bn.batch_norm_backward(dy, x, saved, out=out()).dx,
        bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis, out=out()),
        bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, axis=axis, out=out()).dx,
        bn.denormalize(x, mean, var, weight, bias, axis=axis, out=out()),
    ]


@pytest.mark.parametrize("offset", [0, 1, 5, 15])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_bits(
    isa: str, shape: tuple[int, ...], dtype: type, axis: int, offset: int, streaming: Callable[[], None]
) -> None:
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    guard, memories = 40, []

    def out() -> Array:
        # Any place inside a cache line, between values that nobody may touch.
        memory = np.full(x.size + 2 * guard, 7, dtype)
        memories.append(memory)
        start = guard - offset
        return memory[start : start + x.size].reshape(shape)

    plain = outputs(x, dy, axis, lambda: np.empty_like(x))
    streaming()
    streamed = outputs(x, dy, axis, out)
    for got, want in zip(streamed, plain, strict=True):
        np.testing.assert_array_equal(got, want, strict=True)
    for memory in memories:
        assert (memory[: guard - offset] == 7).all()
        assert (memory[guard - offset + x.size :] == 7).all()


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_place(isa: str, shape: tuple[int, ...], axis: int, streaming: Callable[[], None]) -> None:
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    y, saved = bn.batch_norm_train(x, axis=axis, on_single="allow")
    dx = bn.batch_norm_backward(dy, x, saved).dx
    streaming()
    np.testing.assert_array_equal(bn.batch_norm_backward(dy, x, saved, out=dy).dx, dx)
    bn.batch_norm_train(x, axis=axis, on_single="allow", out=x)
    np.testing.assert_array_equal(x, y)


def test_crops(isa: str, streaming: Callable[[], None]) -> None:
    """Runs of neighbours that don't touch, in the input, the output, or both."""
    rng = np.random.default_rng(0)
    mean, var = np.linspace(-1, 1, 64), np.linspace(0.5, 2, 64)
    large = rng.normal(size=(4, 64, 20, 20)).astype(np.float32)
    crop = large[:, :, 1:17, 2:18]
    dense = crop.copy()
    want = bn.batch_norm_inference(dense, mean, var)
    streaming()
    for x in (crop, dense):
        for out in (np.empty_like(dense), np.empty_like(large)[:, :, 1:17, 2:18]):
            np.testing.assert_array_equal(bn.batch_norm_inference(x, mean, var, out=out), want)
