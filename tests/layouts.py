"""Shapes, and ways to lay an array out in memory. Bytes beside a view are NaN, so reading them shows in the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracle import Array


def nan_like(a: Array, shape: tuple[int, ...]) -> Array:
    """Or the largest integer, which shows in statistics as well."""
    return np.full(shape, np.iinfo(a.dtype).max if a.dtype.kind in "iu" else np.nan, a.dtype)


def inside(a: Array, *index: slice | Any, shape: tuple[int, ...]) -> Array:
    """A copy of a as the view [index] of an array of NaN."""
    view: Array = nan_like(a, shape)[index]
    view[...] = a
    return view


def channels_last(a: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(a, 1, -1))


def in_memory_order(a: Array, order: tuple[int, ...]) -> Array:
    """The same axes; order[0] is the slowest in memory."""
    back = [order.index(i) for i in range(a.ndim)]
    return np.ascontiguousarray(a.transpose(order)).transpose(back)


def crop(a: Array) -> Array:
    return inside(a, *(slice(1, n + 1) for n in a.shape), shape=tuple(n + 3 for n in a.shape))


def every_second(a: Array, *axes: int) -> Array:
    """Every second element along some axes."""
    axes = tuple(i % a.ndim for i in axes)
    index = [slice(None, None, 2 if i in axes else 1) for i in range(a.ndim)]
    return inside(a, *index, shape=tuple(2 * n if i in axes else n for i, n in enumerate(a.shape)))


def backwards(a: Array, *axes: int) -> Array:
    return np.flip(np.flip(a, axes).copy(), axes)


def repeated(a: Array, *axes: int) -> Array:
    """Stride 0 along some axes; the values are another array's."""
    axes = tuple(i % a.ndim for i in axes)
    first = a[tuple(slice(0, 1) if i in axes else slice(None) for i in range(a.ndim))]
    return np.broadcast_to(first, a.shape)


def misaligned(a: Array) -> Array:
    """The first element is at an odd address."""
    raw = np.zeros(a.nbytes + 16, np.uint8)
    start = (1 - raw.ctypes.data) % 8
    view: Array = np.frombuffer(raw.data, a.dtype, count=a.size, offset=start).reshape(a.shape)
    view[...] = a
    return view


# name -> view, channel axis. Each takes a C-contiguous array of (batch, channel, ...).
DENSE: dict[str, Callable[[Array], tuple[Array, int]]] = {
    "channels_first": lambda a: (a, 1),
    "channels_last": lambda a: (channels_last(a), -1),
    "channels_last_view": lambda a: (np.moveaxis(channels_last(a), -1, 1), 1),
    "fortran": lambda a: (np.asfortranarray(a), 1),
    "channel_axis_0": lambda a: (np.ascontiguousarray(np.moveaxis(a, 1, 0)), 0),
    "channel_axis_inside": lambda a: (np.ascontiguousarray(np.moveaxis(a, 1, a.ndim // 2)), a.ndim // 2 - a.ndim),
    "rotated_order": lambda a: (in_memory_order(a, (*range(a.ndim // 2, a.ndim), *range(a.ndim // 2))), 1),
    "misaligned": lambda a: (misaligned(a), 1),
    "misaligned_channels_last": lambda a: (misaligned(channels_last(a)), -1),
}
STRIDED: dict[str, Callable[[Array], tuple[Array, int]]] = {
    "crop": lambda a: (crop(a), 1),
    "crop_channels_last": lambda a: (crop(channels_last(a)), -1),
    "every_second_element": lambda a: (every_second(a, -1), 1),
    "every_second_row_and_column": lambda a: (every_second(a, *range(2, a.ndim)), 1),
    "every_second_pixel_channels_last": lambda a: (every_second(channels_last(a), *range(1, a.ndim - 1)), -1),
    "every_second_image": lambda a: (every_second(a, 0), 1),
    "every_second_channel": lambda a: (every_second(a, 1), 1),
    "every_second_channel_last": lambda a: (every_second(channels_last(a), -1), -1),
    "backwards_batch": lambda a: (backwards(a, 0), 1),
    "backwards_channel": lambda a: (backwards(a, 1), 1),
    "backwards_inner": lambda a: (backwards(a, -1), 1),
    "backwards_channels_last": lambda a: (backwards(channels_last(a), -1), -1),
    "repeated_batch": lambda a: (repeated(a, 0), 1),
    "repeated_channel": lambda a: (repeated(a, 1), 1),
    "repeated_inner": lambda a: (repeated(a, -1), 1),
    "repeated_all": lambda a: (repeated(a, *range(a.ndim)), 1),
    "misaligned_crop": lambda a: (
        misaligned(np.pad(a, 1, constant_values=nan_like(a, ()).item()))[(slice(1, -1),) * a.ndim],
        1,
    ),
}
LAYOUTS = DENSE | STRIDED

SHAPES = {
    "empty_batch": (0, 3, 5),
    "no_channels": (2, 0, 4),
    "empty_plane": (2, 3, 0),
    "one_value": (1, 3, 1),
    "one_image": (1, 3, 7, 1),
    "one_channel": (5, 1, 1),
    "2d": (13, 17),
    # lanes - 1, lanes, lanes + 1 of 4, 8 and 16 lanes, as the inner run and as the channels of a row
    **{f"{n}x{n}": (3, n, n) for lanes in (4, 8, 16) for n in (lanes - 1, lanes, lanes + 1)},
    "tail_of_4_vectors": (2, 3, 67),
    "primes": (7, 13, 101),
    "4d": (2, 3, 5, 7),
    "rgb": (3, 3, 8, 8),
    "5d": (2, 4, 3, 2, 5),
    "6d": (2, 3, 2, 1, 3, 5),
}
# Every shape in these layouts, every layout in these shapes.
MAIN_LAYOUTS = ("channels_first", "channels_last", "channels_last_view", "fortran")
MAIN_SHAPES = ("empty_batch", "one_image", "2d", "5x5", "17x17", "4d", "6d")


@dataclass(frozen=True)
class Case:
    """One shape in one layout."""

    shape: tuple[int, ...]
    layout: str

    def arrays(self, dtype: Any, n: int = 1, *, seed: int = 0, mean: float = 0.0, std: float = 1.0) -> tuple[Any, ...]:
        """(axis, n arrays of normal values, or of integers of every size)."""
        rng = np.random.default_rng([seed, *self.shape])

        def values() -> Array:
            if np.dtype(dtype).kind not in "iu":
                return rng.normal(mean, std, self.shape).astype(dtype)
            info = np.iinfo(dtype)
            return rng.integers(info.min, info.max, self.shape, dtype, endpoint=True)

        made = [LAYOUTS[self.layout](values()) for _ in range(n)]
        return made[0][1], *(view for view, _ in made)


CASES = {
    f"{shape}-{layout}": Case(SHAPES[shape], layout)
    for shape in SHAPES
    for layout in LAYOUTS
    if shape in MAIN_SHAPES or layout in MAIN_LAYOUTS
}
WRITEABLE_CASES = {  # those that may be their own out
    name: case for name, case in CASES.items() if not case.layout.startswith(("repeated", "backwards"))
}
# Every shape in one of two layouts, every layout in one shape: for what is tested in many forms.
FEW_CASES = {
    f"{shape}-{layout}": Case(SHAPES[shape], layout)
    for i, shape in enumerate(SHAPES)
    for layout in (LAYOUTS if shape == "17x17" else [("channels_first", "channels_last")[i % 2]])
}
DENSE_CASES = {name: case for name, case in CASES.items() if case.layout in DENSE}


def parameters(channels: int, dtype: Any = np.float64, *, seed: int = 1) -> tuple[Array, Array]:
    """(weight, bias)"""
    rng = np.random.default_rng([seed, channels])
    return rng.uniform(0.5, 2, channels).astype(dtype), rng.normal(size=channels).astype(dtype)


def given_statistics(channels: int, dtype: Any = np.float64, *, seed: int = 2) -> tuple[Array, Array]:
    """(mean, var)"""
    rng = np.random.default_rng([seed, channels])
    return rng.normal(size=channels).astype(dtype), rng.uniform(0.5, 2, channels).astype(dtype)


SENTINEL = 12345.0


def fresh_out(x: Array) -> Array:
    """A dense `out` in the memory order of x. A broadcast view is taken to be in C order."""
    return np.full(x.shape, SENTINEL, x.dtype) if 0 in x.strides else np.full_like(x, SENTINEL)


def padded_out(x: Array) -> tuple[Array, Array]:
    """An `out` of x's axis order whose elements are apart, and the array around it, full of a sentinel."""
    order = sorted(range(x.ndim), key=lambda i: -fresh_out(x).strides[i])
    around = np.full([x.shape[i] + 2 for i in order], SENTINEL, x.dtype)
    view = around[tuple(slice(1, -1) for _ in order)].transpose([order.index(i) for i in range(x.ndim)])
    return view, around


def only_inside_written(around: Array) -> bool:
    edge = np.ones(around.shape, bool)
    edge[tuple(slice(1, -1) for _ in around.shape)] = False
    return bool((around[edge] == SENTINEL).all())
