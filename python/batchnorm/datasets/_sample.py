"""A sample of the values of each channel, for a plot.

It is a second, short pass over a few items. A histogram that is filled while all is read would cost every value a
search for its bin, several times what the statistics cost, and would need the range before it is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import numpy as np

from ._axes import Axis
from ._parts import Array, Block, Part, Worker
from ._sources import Options, parts_of

_MOST_ITEMS, _BLOCKS_PER_ITEM = 64, 16
_MOST_VALUES = 2**23


def sample(paths: list[str], *, axis: Axis, mode: str | None, dataset: str | None, nan_policy: str) -> list[Array]:
    """Return finite values of each channel from items that are spread evenly over the source."""
    options = Options(axis, mode, dataset, skip=True)
    found: dict[int, list[Array]] = {}
    with ExitStack() as stack:
        parts = parts_of(paths, options)
        for part in parts:
            stack.callback(part.close)
        worker = Worker()
        stack.callback(worker.close)
        index = [(part, item) for part in parts for item in range(part.items)]
        chosen = np.unique(np.linspace(0, len(index) - 1, _MOST_ITEMS).round().astype(int))
        for i in chosen.tolist():
            part, item = index[i]
            for block in _blocks(part, item, worker):
                _collect(block, found, _MOST_VALUES // (len(chosen) * _BLOCKS_PER_ITEM))
    return [np.concatenate(found[channel]) for channel in sorted(found)]


def _blocks(part: Part, item: int, worker: Worker) -> Iterator[Block]:
    """Yield the first blocks of an item, without what can't be read: that has been told."""
    for piece in islice(part.pieces(item), _BLOCKS_PER_ITEM):
        try:
            yield from islice(piece.blocks(worker), _BLOCKS_PER_ITEM)
        except (MemoryError, ImportError):
            raise
        except Exception:
            continue


def _collect(block: Block, found: dict[int, list[Array]], most: int) -> None:
    array = block.array[np.newaxis] if block.axis is None else np.moveaxis(block.array, block.axis, 0)
    each = max(1, most // max(block.channels or 0, len(array)))
    for channel, values in enumerate(array, block.first):
        some = values.flat[:: max(1, values.size // each)]
        found.setdefault(channel, []).append(some[np.isfinite(some)].copy())
