"""The channel axis of what is not in memory; and where nobody told it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from .. import _core

Axis: TypeAlias = "int | Literal['auto'] | None"

_COLORS = 1, 3, 4  # grey, RGB, RGBA


def channel_axis(shape: tuple[int, ...], axis: Axis, dtype: np.dtype[Any]) -> int | None:
    """Return the axis counted from the front; None takes all values for one channel."""
    if axis == "auto":
        axis = array_axis(shape, axis, dtype)
    if axis is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"expected at least 2 dimensions, got shape {shape} (axis=None takes all for one channel)")
    return _core.check_axis(axis, shape)


def array_axis(shape: tuple[int, ...], axis: Axis, dtype: np.dtype[Any]) -> int | None:
    """Return the axis that is asked for; 1 for "auto", unless these seem to be images with their channels last."""
    if axis != "auto":
        return axis
    bytes_or_so = dtype.kind == "u" and dtype.itemsize <= 2
    if bytes_or_so and len(shape) in (3, 4) and shape[-1] in _COLORS and shape[1] not in _COLORS:
        raise ValueError(
            f"axis: expected an int for {dtype} of shape {shape}, got 'auto' "
            f"(axis=-1 if the last {shape[-1]} are channels, axis=1 if the {shape[1]} are)"
        )
    return 1
