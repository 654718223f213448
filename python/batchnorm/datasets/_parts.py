"""What a source is made of: parts, items, pieces and blocks; and what a worker keeps between them.

A part is a file, an array or a run of images. Its items are what one worker does at a time and what is merged in order.
A piece of an item is what can fail and be skipped for itself. Its blocks are arrays, small enough to lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._channel_stats import ChannelStats

Array: TypeAlias = "np.ndarray[Any, Any]"

# A block of a few megabytes takes so much longer than the calls around it that these don't show, and a worker needs no
# more than one at a time.
WINDOW = 8 * 2**20
SMALL = 2**20  # bytes

KINDS = "a JPEG, PNG or TIFF image, or a name that ends in .npy, .npz, .h5, .hdf5, .hdf or .zarr"


class Block(NamedTuple):
    """Values in memory. Without `channels` they have all channels of the part, else those from `first` on.

    What is `small` has at most so many bytes, its channels last, and is the only block of its piece. The last `spare`
    channels of the array hold no values.
    """

    array: Array
    axis: int | None
    first: int = 0
    channels: int | None = None
    small: bool = False
    spare: int = 0


class Piece(NamedTuple):
    """What is read and fails as one. `counts` is how many more it makes of what the result calls items."""

    name: str
    blocks: Callable[[Worker], Iterator[Block]]
    counts: int = 1
    skippable: bool = True


class Part(Protocol):
    """What stays the same for all workers: where things lie, and into how many items they are cut."""

    @property
    def name(self) -> str: ...

    @property
    def items(self) -> int: ...

    def pieces(self, item: int) -> Iterator[Piece]:
        """Yield what an item consists of, in order."""

    def first_channel(self, item: int) -> int:
        """Return the first of the channels that an item has values of."""

    def fingerprint(self) -> list[Any] | None:
        """Return what tells this part from another or a changed one, as JSON; None if nothing does."""


class Outcome(NamedTuple):
    """Of one item: statistics, how many images or arrays it holds, what was skipped.

    `name` is that of the first thing that was counted, `seen` a digest of a stream up to the item.
    """

    stats: ChannelStats
    items: int
    skipped: list[tuple[str, str]]
    name: str = ""
    seen: str = ""


def join(total: ChannelStats, stats: ChannelStats, name: str) -> ChannelStats:
    """Merge the statistics of what has this name into the total, and return that."""
    channels, others = (None if s._moments is None else len(s.count) for s in (total, stats))
    if None not in (channels, others) and channels != others:
        raise ValueError(f"{name}: expected {channels} channels, as before, got {others}")
    return total.merge(stats)


class Worker:
    """What a thread keeps from one item to the next: one buffer, and the last file that it read."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)
        self._path: str | None = None
        self._file: Any = None

    def buffer(self, nbytes: int) -> Array:
        """Return so many bytes, the same ones as before where they suffice."""
        if self._buffer.nbytes < nbytes:
            self._buffer = np.empty(0, np.uint8)  # before the new one is there, not after
            self._buffer = np.empty(nbytes, np.uint8)
        return self._buffer[:nbytes]

    def file(self, path: str, opener: Callable[[str], Any]) -> Any:
        """Return the file, open."""
        if path != self._path:
            self.close()
            self._file = opener(path)
            self._path = path
        return self._file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._path = self._file = None


@dataclass
class Unreadable:
    """A part that could not be opened: its one item says why."""

    name: str
    error: Exception
    items: int = 1

    def pieces(self, item: int) -> Iterator[Piece]:
        """Yield a piece that raises."""
        yield Piece(self.name, self._raise)

    def _raise(self, worker: Worker) -> Iterator[Block]:
        raise self.error

    def first_channel(self, item: int) -> int:
        """Return 0."""
        return 0

    def fingerprint(self) -> list[Any]:
        """Return the name and the reason."""
        return ["unreadable", self.name, str(self.error)]


def native(array: Array) -> Array:
    """Return an array that nobody else holds in native byte order, swapped in place."""
    if array.dtype.isnative:
        return array
    swapped: Array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return swapped
