"""NumPy's files, read window by window into one buffer per worker: .npy, and the members of an .npz."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._axes import Axis, channel_axis
from ._parts import Array, Block, Piece, Worker, native
from ._windows import Window, items_of, whole, windows_of

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class _Layout:
    """What the header of an .npy says, and its values window by window."""

    def __init__(self, file: Any, axis: Axis) -> None:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:  # version 3 differs by the names of fields, and records have no statistics
            raise ValueError(f"expected version 1.0 or 2.0 of the .npy format, got {version[0]}.{version[1]}")
        shape, fortran_order, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError("expected numbers, got Python objects, which reading could run code of")
        if dtype.itemsize == 0:
            raise ValueError(f"expected numbers, got {dtype}")
        if not all(type(extent) is int and extent >= 0 for extent in shape):
            raise ValueError(f"expected a shape of ints >= 0, got {shape}")
        along = channel_axis(shape, axis, dtype)
        if fortran_order:  # the same bytes as of the reversed shape in C order
            shape, along = shape[::-1], None if along is None else len(shape) - 1 - along
        self.shape, self.dtype, self.fortran_order = shape, dtype, fortran_order
        self.values = whole(shape, along)
        self.start = file.tell()

    @property
    def nbytes(self) -> int:
        return math.prod(self.values.shape) * int(self.dtype.itemsize)

    def blocks(self, file: Any, item: Window, worker: Worker) -> Iterator[Block]:
        """Read the windows of an item, or of all values, from where the file stands: each begins where one ends."""
        for _, shape, first in windows_of(item, self.dtype.itemsize):
            buffer = worker.buffer(math.prod(shape) * self.dtype.itemsize)
            _fill(file, buffer)
            yield Block(native(buffer.view(self.dtype)).reshape(shape), 1, first, self.values.shape[1])


def _fill(file: Any, buffer: Array) -> None:
    view = memoryview(buffer)  # type: ignore[arg-type]
    done = 0
    while done < len(view):
        n = file.readinto(view[done:])
        if not n:
            raise ValueError(f"expected {len(view) - done} bytes more, got the end of the file")
        done += n


def _unbuffered(path: str) -> Any:
    return open(path, "rb", buffering=0)


class NpyFile:
    """An .npy file, its items some windows each. Workers open it, each for itself."""

    def __init__(self, path: str, axis: Axis) -> None:
        self.name = path
        with open(path, "rb") as file:
            self._layout = layout = _Layout(file, axis)
            there = os.fstat(file.fileno()).st_size - layout.start
        if there < layout.nbytes:
            raise ValueError(f"expected {layout.nbytes} bytes of values, got {there}: the file is truncated")
        self._items = items_of(layout.values, layout.dtype.itemsize)
        self.items = len(self._items)

    def pieces(self, item: int) -> Iterator[Piece]:
        """Yield the windows as one. It is not skipped: items before it may have been counted."""

        def blocks(worker: Worker) -> Iterator[Block]:
            file = worker.file(self.name, _unbuffered)
            layout, windows = self._layout, self._items[item]
            file.seek(layout.start + windows.start * layout.dtype.itemsize)
            yield from layout.blocks(file, windows, worker)

        yield Piece(self.name, blocks, counts=int(item == self.items - 1), skippable=False)

    def first_channel(self, item: int) -> int:
        """Return that of the first window."""
        return self._items[item].first

    def fingerprint(self) -> list[Any]:
        """Return the file and how it is read."""
        return ["npy", *file_mark(self.name)]


class NpzMember:
    """One array of an .npz, one item: what is compressed can be read from its beginning only."""

    items = 1

    def __init__(self, path: str, axis: Axis, dataset: str | None) -> None:
        self._path, self._axis = path, axis
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            member = f"{choose('dataset', dataset, [name.removesuffix('.npy') for name in members])}.npy"
            with archive.open(member) as file:
                _Layout(file, axis)
        self._member = member
        self.name = f"{path}[{member.removesuffix('.npy')}]"

    def pieces(self, item: int) -> Iterator[Piece]:
        """Yield the member."""
        yield Piece(self.name, self._blocks)

    def _blocks(self, worker: Worker) -> Iterator[Block]:
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            layout = _Layout(file, self._axis)
            yield from layout.blocks(file, layout.values, worker)
            file.read(1)  # the end, where zipfile compares the checksum

    def first_channel(self, item: int) -> int:
        """Return 0: a member has all channels."""
        return 0

    def fingerprint(self) -> list[Any]:
        """Return the file and the member."""
        return ["npz", *file_mark(self._path), self._member]


def choose(name: str, wanted: str | None, there: list[str]) -> str:
    """Return the array that is asked for, or the only one."""
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted in there:
        assert wanted is not None
        return wanted
    shown = ", ".join(map(repr, there[:8])) + (", ..." if len(there) > 8 else "")
    raise ValueError(f"{name}: expected one of {shown or 'the arrays, of which there are none'}, got {wanted!r}")


def file_mark(path: str) -> list[Any]:
    """Return what tells a file from another or a changed one."""
    return [os.path.abspath(path), *size_and_time(path)]


def size_and_time(path: str) -> tuple[int, int]:
    """Return the bytes of a file and when they were changed, in ns; zeros if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
