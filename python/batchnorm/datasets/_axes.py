"""The channel axis of what is not in memory, checked in the words of the core."""

from __future__ import annotations


def channel_axis(shape: tuple[int, ...], axis: int | None) -> int | None:
    """Return the axis counted from the front; None takes all values for one channel."""
    if axis is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"expected at least 2 dimensions, got shape {shape} (axis=None takes all for one channel)")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis: expected an int from {-len(shape)} to {len(shape) - 1}, got {axis}")
    return axis % len(shape)
