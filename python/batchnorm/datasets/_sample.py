"""A sample of the values of each channel, for a plot.

It is a second, short pass over a few items. A histogram that is filled while all is read would cost every value a
search for its bin, several times what the statistics cost, and would need the range before it is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np

from ._axes import Axis
from ._parts import Array, Block, Part, Worker
from ._sources import Options, parts_of

_MOST_ITEMS, _BLOCKS_PER_ITEM = 64, 16
_MOST_VALUES = 2**23


def sample(paths: list[str], channels: int, *, axis: Axis, mode: str | None, dataset: str | None) -> list[Array]:
    """Return finite values of each channel from items that are spread evenly over the source."""
    options = Options(axis, mode, dataset, skip=True)
    found: list[list[Array]] = [[] for _ in range(channels)]
    groups = _groups(parts_of(paths, options))
    items = max(1, _MOST_ITEMS // max(1, len(groups)))
    most = max(1, _MOST_VALUES // (max(1, channels) * items * _BLOCKS_PER_ITEM))
    with closing(Worker()) as worker:
        for group in groups:
            for i in np.unique(np.linspace(0, len(group) - 1, items).round().astype(int)):
                part, item = group[int(i)]
                for block in _blocks(part, item, worker):
                    _collect(block, found, most)
    return [np.concatenate(some) if some else np.empty(0) for some in found]


def _groups(parts: list[Part]) -> list[list[tuple[Part, int]]]:
    """Return the items in groups that begin with the same channel: together these have all channels."""
    groups: dict[int, list[tuple[Part, int]]] = {}
    for part in parts:
        for item in range(part.items):
            groups.setdefault(part.first_channel(item), []).append((part, item))
    return list(groups.values())


def _blocks(part: Part, item: int, worker: Worker) -> Iterator[Block]:
    """Yield the first blocks of an item, of each channel, without what can't be read: that has been told."""
    for piece in islice(part.pieces(item), _BLOCKS_PER_ITEM):
        taken: Counter[int] = Counter()
        try:
            for block in piece.blocks(worker):
                taken[block.first] += 1
                if taken[block.first] <= _BLOCKS_PER_ITEM:
                    yield block
                elif _has_last_channel(block):
                    break
        except (MemoryError, ImportError):
            raise
        except Exception:
            continue


def _collect(block: Block, found: list[list[Array]], most: int) -> None:
    """Take at most about so many values of each channel of a block."""
    array = block.array[np.newaxis] if block.axis is None else np.moveaxis(block.array, block.axis, 0)
    for channel, values in enumerate(array[: len(array) - block.spare], block.first):
        some = values.flat[:: max(1, values.size // most)]
        found[channel].append(some[np.isfinite(some)].copy())


def _has_last_channel(block: Block) -> bool:
    here = 1 if block.axis is None else block.array.shape[block.axis]
    return block.channels is None or block.first + here == block.channels
