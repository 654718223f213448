"""A dense array on disk as runs of consecutive values, each of a few megabytes."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._parts import WINDOW


class Window(NamedTuple):
    """Consecutive values from `start` on, of shape [outer, channels, inner], of the channels from `first` on."""

    start: int
    shape: tuple[int, int, int]
    first: int


class Windows:
    """The windows of an array of this shape in C order, by their number.

    It is [outer, channels, inner]. A window holds whole periods of channels * inner values as far as these fit, else
    whole channels of one period, else a run within one channel. Where they lie depends on the shape alone.
    """

    def __init__(self, shape: tuple[int, ...], axis: int | None, itemsize: int) -> None:
        most = max(1, WINDOW // itemsize)
        if axis is None:
            self.outer, self.channels, self.inner = 1, 1, math.prod(shape)
        else:
            self.outer, self.channels = math.prod(shape[:axis]), shape[axis]
            self.inner = math.prod(shape[axis + 1 :])
        period = self.channels * self.inner
        if period == 0 or self.outer == 0:  # one window of nothing, that tells the number of channels
            self._steps = (max(1, self.outer), max(1, self.channels), max(1, self.inner))
        elif period <= most:
            self._steps = (most // period, self.channels, self.inner)
        elif self.inner <= most:
            self._steps = (1, most // self.inner, self.inner)
        else:
            self._steps = (1, 1, most)
        extents = (self.outer, self.channels, self.inner)
        self._counts = tuple(max(1, -(-n // step)) for n, step in zip(extents, self._steps, strict=True))

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __getitem__(self, i: int) -> Window:
        if not 0 <= i < len(self):
            raise IndexError(i)
        _, of_channels, of_inner = self._counts
        step_o, step_c, step_i = self._steps
        o, c, k = (
            i // (of_channels * of_inner) * step_o,
            i // of_inner % of_channels * step_c,
            i % of_inner * step_i,
        )
        shape = min(step_o, self.outer - o), min(step_c, self.channels - c), min(step_i, self.inner - k)
        return Window((o * self.channels + c) * self.inner + k, shape, c)
