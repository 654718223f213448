"""What the tests of the layer share."""

from __future__ import annotations

from typing import Any

import numpy as np

import batchnorm as bn
from layouts import parameters
from oracle import Array


def batch(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).normal(2, 3, shape or (6, 3, 4, 5)).astype(dtype)


def trained_layer() -> bn.BatchNorm:
    """One whose parameters and statistics are not the initial ones."""
    layer = bn.BatchNorm(3)
    for array, values in zip(layer.state_dict().values(), (*parameters(3), [1, 2, 3], [1, 2, 0.5], 7), strict=True):
        array[...] = values
    return layer


def state_of(layer: bn.BatchNorm) -> dict[str, bytes]:
    """The bytes of everything that a call could change."""
    gradients = {f"{name}_grad": array for name, array in layer.gradients().items()}
    return {name: array.tobytes() for name, array in {**layer.state_dict(), **gradients}.items()}
