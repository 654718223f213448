"""What an iterable gives: arrays and images of Pillow, and nothing that would have to be guessed."""

from __future__ import annotations

from typing import Any

from .._checks import as_array
from ._axes import Axis, array_axis
from ._images import is_image, pixels_of
from ._parts import Block
from ._sources import is_mapping, is_path, keys_of


def block_of(item: Any, axis: Axis) -> Block:
    """Return an array or an image as a block."""
    if is_image(item):
        return Block(pixels_of(item), -1 if axis == "auto" else axis)
    if is_path(item):
        raise TypeError("expected an array, got a path (paths are given as a list: list(source))")
    if is_mapping(item):
        raise TypeError(f"expected an array, got a {type(item).__name__} of {keys_of(item)} (take one of its values)")
    if isinstance(item, (list, tuple)):
        first = item[0] if item else None
        of_arrays = hasattr(first, "__array__") or is_image(first)
        way_out = (
            "take its first element: (batch[0] for batch in loader)" if of_arrays else "numpy.asarray makes an array"
        )
        raise TypeError(f"expected an array, got a {type(item).__name__} of {len(item)} ({way_out})")
    array = as_array("x", item)
    return Block(array, array_axis(array.shape, axis, array.dtype))
