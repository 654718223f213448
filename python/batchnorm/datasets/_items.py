"""From an item to its statistics."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np

from .._channel_stats import ChannelStats, channel_stats
from .._moments import first_channels, placed
from ._arrays import block_of
from ._axes import Axis
from ._checkpoint import Prefix
from ._parts import SMALL, WINDOW, Array, Block, Outcome, Part, Piece, Worker, join
from ._sources import fail

NanPolicy: TypeAlias = "Literal['propagate', 'omit', 'raise']"
_END = object()


class _ReadingError(Exception):
    """An error while a piece was read, in contrast to one in what was read."""


class _Heap:
    """Small blocks, to be taken as one: a call and a merge for each would cost as much as the values do."""

    # They are copied at once, since memory that is freed at once is what the next image gets, warm. As many as fit a
    # window: each call gives up the GIL, and then waits for it behind the Python of another worker.
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._filled = 0
        self._like: Block | None = None  # what they are like: one of them, of no values

    @property
    def is_full(self) -> bool:
        return self._filled >= WINDOW

    def takes(self, block: Block) -> bool:
        """Tell whether a block is like those that are here; all have the same dtype."""
        return self._like is None or self._like.array.shape[-1] == block.array.shape[-1]

    def add(self, block: Block) -> None:
        """Take a block in."""
        values = np.ascontiguousarray(block.array)
        room = self._worker.buffer(WINDOW + SMALL)[self._filled : self._filled + values.nbytes]
        # NumPy would give up the GIL for this.
        memoryview(room)[:] = memoryview(values).cast("B")  # type: ignore[arg-type]
        self._filled += values.nbytes
        self._like = block._replace(array=np.empty((0, values.shape[-1]), values.dtype))

    def take(self) -> Iterator[Block]:
        """Yield all of them as one block, if there are some, and forget them."""
        if self._like is not None:
            array, axis, spare = self._like.array, self._like.axis, self._like.spare
            rows = self._worker.buffer(self._filled).view(array.dtype).reshape(-1, array.shape[-1])
            self._filled, self._like = 0, None
            yield Block(rows, None if axis is None else 1, spare=spare)


class Gatherer:
    """How items become statistics."""

    def __init__(self, nan_policy: NanPolicy, extremes: bool, skip: bool) -> None:
        self._nan_policy, self._extremes, self._skip = nan_policy, extremes, skip

    def of_item(self, part: Part, item: int, worker: Worker) -> Outcome:
        """Return the statistics of an item of a part."""
        total, items, skipped, first = ChannelStats(extremes=self._extremes), 0, [], ""
        heap = _Heap(worker)
        for piece in part.pieces(item):
            try:
                stats = self._of_piece(piece, worker, heap)
            except _ReadingError as wrapped:
                error = wrapped.__cause__
                assert isinstance(error, Exception)
                if not (self._skip and piece.skippable):
                    fail(piece.name, error)
                skipped.append((piece.name, _one_line(error)))
                continue
            first = first or piece.name
            if stats is not None:
                join(total, stats, piece.name)
            if heap.is_full:
                self._empty(heap, total)
            items += piece.counts
        self._empty(heap, total)
        return Outcome(total, items, skipped, first)

    def _of_piece(self, piece: Piece, worker: Worker, heap: _Heap) -> ChannelStats | None:
        """Return the statistics of a piece; None of a small one, which is on the heap."""
        total = None
        for block in _read(piece, worker):
            if block.small and heap.takes(block):
                heap.add(block)
                continue
            try:
                stats = self.of_block(block, 1)
            except (TypeError, ValueError) as error:
                fail(piece.name, error)
            total = stats if total is None else join(total, stats, piece.name)
        return total

    def _empty(self, heap: _Heap, total: ChannelStats) -> None:
        for block in heap.take():
            total.merge(self.of_block(block, 1))

    def of_block(self, block: Block, num_threads: int) -> ChannelStats:
        """Return the statistics of a block, of all channels of the part."""
        stats = channel_stats(
            block.array,
            axis=block.axis,
            num_threads=num_threads,
            nan_policy=self._nan_policy,
            extremes=self._extremes,
        )
        assert stats._moments is not None
        if block.spare:
            return ChannelStats._holding(first_channels(stats._moments, len(stats.count) - block.spare))
        if block.channels is None or block.channels == len(stats.count):
            return stats
        return ChannelStats._holding(placed(stats._moments, block.first, block.channels))

    def of_stream(
        self, arrays: Iterable[Any], axis: Axis, threads: int, prefix: Prefix, *, marked: bool
    ) -> Generator[Outcome, None, None]:
        """Yield the statistics of each array from that on where the prefix ends; `marked`: so as to know them again."""
        stream, seen = iter(arrays), ""
        for known in islice(stream, prefix.done):
            seen = _mark(seen, block_of(known, axis).array)
        if seen != prefix.seen:
            raise ValueError(
                f"checkpoint: expected an iterable that starts with the same {prefix.done} arrays, got others or fewer"
            )
        for i in itertools.count(prefix.done):
            array: Any = next(stream, _END)
            if array is _END and i == 0:
                raise ValueError(
                    "source: expected an array at least, got an iterable without any (a generator is good for one use)"
                )
            if array is _END:
                return
            try:
                block = block_of(array, axis)
                stats = self.of_block(block, threads)
            except (OSError, TypeError, ValueError) as error:
                fail(f"source[{i}]", error)
            seen = _mark(seen, block.array) if marked else ""
            del array, block  # so that there is one less while the next one is made
            yield Outcome(stats, 1, [], f"source[{i}]", seen)


def _read(piece: Piece, worker: Worker) -> Iterator[Block]:
    """Yield the blocks of a piece; an error in reading becomes a _ReadingError."""
    try:
        yield from piece.blocks(worker)
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        raise _ReadingError from error


def _mark(seen: str, array: Array) -> str:
    """Return a digest of the arrays before and this one: its shape, dtype and first values."""
    values = zlib.crc32(np.ascontiguousarray(array.flat[:4096]).tobytes())
    return f"{zlib.crc32(f'{seen} {array.shape} {array.dtype} {values}'.encode()):08x}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
