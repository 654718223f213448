"""Activations, and what the oracle needs of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle import Array, along

KINDS = ("relu", "leaky_relu", "prelu")


def activation(kind: str, channels: int, dtype: Any = np.float64) -> Any:
    """As an argument."""
    if kind == "relu":
        return kind
    if kind == "leaky_relu":
        return kind, 0.25
    return kind, np.random.default_rng([7, channels]).uniform(0.1, 0.9, channels).astype(dtype)


def slope_of(given: Any, x: Array, axis: int) -> Any:
    """Of negative values, to broadcast along x."""
    if given is None:
        return 1.0
    if given == "relu":
        return 0.0
    return along(given[1], x, axis) if given[0] == "prelu" else given[1]
