"""HDF5 (h5py) and zarr: arrays in chunks, read a few chunks at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._extras import needs
from ._axes import Axis, channel_axis
from ._npy import choose, file_mark
from ._parts import WINDOW, Block, Piece, Worker, native


class Boxes:
    """The boxes that an array is read in, by their number: whole chunks, several along the last axes as they fit."""

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...] | None, itemsize: int) -> None:
        self._shape = shape
        box = [min(c, max(1, n)) for c, n in zip(chunks or (1,) * len(shape), shape, strict=True)]
        for axis in reversed(range(len(shape))):
            fits = WINDOW // max(1, math.prod(box) * itemsize)
            box[axis] = min(max(1, shape[axis]), box[axis] * max(1, fits))
            if box[axis] < shape[axis]:
                break
        self._box = box
        self._counts = [max(1, -(-n // b)) for n, b in zip(shape, box, strict=True)]

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __getitem__(self, i: int) -> tuple[slice, ...]:
        at = []
        for count, box, extent in zip(self._counts[::-1], self._box[::-1], self._shape[::-1], strict=True):
            i, k = divmod(i, count)
            at.append(slice(k * box, min(extent, (k + 1) * box)))
        return tuple(at[::-1])


class ChunkedArray:
    """An array of h5py or zarr; its boxes are the items."""

    def __init__(
        self,
        array: Any,
        axis: Axis,
        name: str,
        mark: Callable[[], list[Any] | None],
        opened: Callable[[Worker], Any] | None = None,
    ) -> None:
        """Take an array; if it does not stay open, `opened` returns it from a worker's file."""
        self._opened = opened or (lambda worker: array)
        self._shape = array.shape
        self.fingerprint = mark
        self.name = name
        if array.shape is None:
            raise ValueError(f"{name}: expected an array, got an empty dataset, which has no shape")
        self._axis = channel_axis(array.shape, axis, np.dtype(array.dtype))
        chunks = getattr(array, "shards", None) or array.chunks
        self._boxes = Boxes(array.shape, chunks, np.dtype(array.dtype).itemsize)
        self.items = len(self._boxes)

    def pieces(self, item: int) -> Iterator[Piece]:
        """Yield the box. It is not skipped: boxes before it may have been counted."""

        def blocks(worker: Worker) -> Iterator[Block]:
            at = self._boxes[item]
            array = self._opened(worker)
            if array.shape != self._shape:
                raise ValueError(f"expected shape {self._shape}, as before, got {array.shape}")
            values = native(np.asarray(array[at]))
            if self._axis is None:
                yield Block(values, None)
            else:
                yield Block(values, self._axis, at[self._axis].start, self._shape[self._axis])

        yield Piece(self.name, blocks, counts=int(item == self.items - 1), skippable=False)

    def first_channel(self, item: int) -> int:
        """Return that of the box."""
        return 0 if self._axis is None else int(self._boxes[item][self._axis].start)


def hdf5_array(path: str, axis: Axis, dataset: str | None) -> ChunkedArray:
    """Return an array of an HDF5 file, which workers open, each for itself."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(needs("an HDF5 file", "h5py", "hdf5")) from error
    with h5py.File(path, "r") as file:
        if dataset is None or dataset not in file or not isinstance(file[dataset], h5py.Dataset):
            there: list[str] = []
            file.visititems(lambda name, node: there.append(name) if isinstance(node, h5py.Dataset) else None)
            dataset = choose("dataset", dataset, there)
        return ChunkedArray(
            file[dataset],
            axis,
            f"{path}[{dataset}]",
            lambda: ["hdf5", *file_mark(path), dataset],
            lambda worker: worker.file(path, h5py.File)[dataset],
        )


def zarr_array(path: str, axis: Axis, dataset: str | None) -> ChunkedArray:
    """Open a zarr array, or one of a group."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError(needs("a zarr folder", "zarr", "zarr")) from error
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        if dataset is not None:
            raise ValueError(f"dataset: expected None for a single zarr array, got {dataset!r}")
        return ChunkedArray(node, axis, path, lambda: _folder_mark(path))
    there = sorted(name for name, _ in node.arrays())
    if dataset is not None and "/" in dataset and isinstance(node.get(dataset), zarr.Array):
        there.append(dataset)  # deeper down
    name = choose("dataset", dataset, there)
    return ChunkedArray(node[name], axis, f"{path}[{name}]", lambda: [*_folder_mark(path), name])


def is_zarr(path: str) -> bool:
    """Tell whether a folder is a zarr array or group."""
    return any(os.path.isfile(os.path.join(path, name)) for name in ("zarr.json", ".zarray", ".zgroup"))


def is_chunked(source: object) -> bool:
    """Tell whether this is an open array of h5py or zarr."""
    module = type(source).__module__.partition(".")[0]
    return module in ("h5py", "zarr") and all(hasattr(source, name) for name in ("shape", "dtype", "chunks"))


def _folder_mark(path: str) -> list[Any]:
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return ["zarr", *(file_mark(file) for file in files)]
