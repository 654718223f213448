"""A dense array on disk as runs of consecutive values: items of some windows each, windows of a few megabytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from ._parts import WINDOW

# What the pool does for an item takes a thirtieth of the time of one window; but workers that are done wait for the one
# that has the last item.
_MOST_PER_ITEM = 4  # windows
_FEWEST_ITEMS = 64  # before they become longer than a window


class Window(NamedTuple):
    """Consecutive values from `start` on, of shape [outer, channels, inner], of the channels from `first` on."""

    start: int
    shape: tuple[int, int, int]
    first: int


def whole(shape: tuple[int, ...], axis: int | None) -> Window:
    """Return an array of this shape in C order as one window."""
    if axis is None:
        return Window(0, (1, 1, math.prod(shape)), 0)
    return Window(0, (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])), 0)


def items_of(array: Window, itemsize: int) -> Windows:
    """Return what one worker does at a time."""
    share = math.prod(array.shape) * itemsize // _FEWEST_ITEMS
    return Windows(array, min(max(WINDOW, share), _MOST_PER_ITEM * WINDOW) // itemsize)


def windows_of(item: Window, itemsize: int) -> Windows:
    """Return what is in memory at a time."""
    return Windows(item, WINDOW // itemsize)


class Windows:
    """The windows of at most so many values that a larger one is cut into, by their number.

    They hold whole periods of channels * inner values as far as these fit, else whole channels of one period, else a
    run within one channel. Where they lie depends on the shape alone.
    """

    def __init__(self, of: Window, most: int) -> None:
        self._of = of
        most = max(1, most)
        outer, channels, inner = of.shape
        period = channels * inner
        if period == 0 or outer == 0:  # one window of nothing, that tells the number of channels
            self._steps = (max(1, outer), max(1, channels), max(1, inner))
        elif period <= most:
            self._steps = (most // period, channels, inner)
        elif inner <= most:
            self._steps = (1, most // inner, inner)
        else:
            self._steps = (1, 1, most)
        self._counts = tuple(max(1, -(-n // step)) for n, step in zip(of.shape, self._steps, strict=True))

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __iter__(self) -> Iterator[Window]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, i: int) -> Window:
        if not 0 <= i < len(self):
            raise IndexError(i)
        _, of_channels, of_inner = self._counts
        outer, channels, inner = self._of.shape
        step_o, step_c, step_i = self._steps
        o, c, k = (
            i // (of_channels * of_inner) * step_o,
            i // of_inner % of_channels * step_c,
            i % of_inner * step_i,
        )
        shape = min(step_o, outer - o), min(step_c, channels - c), min(step_i, inner - k)
        return Window(self._of.start + (o * channels + c) * inner + k, shape, self._of.first + c)
