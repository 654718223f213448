"""From what is given to the parts that it consists of."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from . import _chunked as chunked
from . import _images as images
from ._axes import Axis
from ._npy import NpyFile, NpzMember
from ._parts import Part, Unreadable

_HDF5 = (".h5", ".hdf5", ".hdf")


@dataclass(frozen=True)
class Options:
    """How a source is read."""

    axis: Axis
    mode: str | None
    dataset: str | None
    skip: bool

    @property
    def of_images(self) -> int | None:
        return -1 if self.axis == "auto" else self.axis


def is_array(source: object) -> bool:
    """Tell whether this is an array in memory, or becomes one."""
    if images.is_image(source):
        return True
    return hasattr(source, "__array__") and not chunked.is_chunked(source) and not _is_dask(source)


def is_stream(source: object) -> bool:
    """Tell whether this is an iterable of arrays, and not an array, a path or paths."""
    if isinstance(source, (list, tuple)):
        return bool(source) and not any(is_path(item) for item in source)
    one = hasattr(source, "__array__") or is_path(source) or chunked.is_chunked(source) or is_mapping(source)
    return not one and isinstance(source, Iterable)


def _is_dask(source: object) -> bool:
    return type(source).__module__.partition(".")[0] == "dask"


def parts_of(source: object, options: Options) -> list[Part]:
    """Return the parts of anything but an array in memory and a stream, in order."""
    if _is_dask(source):
        raise TypeError("source: expected an array in memory or a file, got a dask array (batchnorm.dask takes it)")
    if chunked.is_chunked(source):
        parts: list[Part] = [chunked.ChunkedArray(source, options.axis, "source", lambda: None)]
    elif is_path(source):
        parts = _of_paths([os.fsdecode(source)], options)  # type: ignore[arg-type]
    elif isinstance(source, (list, tuple)):
        if not source:
            raise ValueError("source: expected a path or an array at least, got an empty list")
        others = [item for item in source if not is_path(item)]
        if others:
            raise TypeError(
                f"source: expected paths alone or arrays alone, got {type(others[0]).__name__} beside paths"
            )
        parts = _of_paths([os.fsdecode(path) for path in source], options)
    elif is_mapping(source):
        raise TypeError(
            f"source: expected an array or arrays, got a {type(source).__name__} of {keys_of(source)} (take one of "
            "its values, or give the path of a file and dataset=)"
        )
    else:
        raise TypeError(
            "source: expected an array, a path, paths, an array of h5py or zarr, or an iterable of arrays, got "
            f"{type(source).__name__}"
        )
    _require_use(parts, options)
    return parts


def is_path(value: object) -> bool:
    """Tell whether this names a file."""
    return isinstance(value, (str, bytes, os.PathLike))


def is_mapping(value: object) -> bool:
    """Tell whether this is a dict, or like one: an open .npz, an HDF5 file or a zarr group."""
    return hasattr(value, "keys") and hasattr(value, "__getitem__") and not hasattr(value, "__array__")


def keys_of(mapping: Any) -> str:
    """Return the first keys as a phrase."""
    keys = list(mapping.keys())
    return (", ".join(map(repr, keys[:8])) or "nothing") + (", ..." if len(keys) > 8 else "")


def _require_use(parts: list[Part], options: Options) -> None:
    """Refuse options that would have no effect."""
    if any(isinstance(part, Unreadable) for part in parts):
        return
    if options.mode is not None and not any(isinstance(part, images.Images) for part in parts):
        raise ValueError(f"mode: expected None for a source without images, got {options.mode!r}")
    if options.dataset is not None and not any(isinstance(part, (NpzMember, chunked.ChunkedArray)) for part in parts):
        raise ValueError(f"dataset: expected None for a source without .npz, HDF5 or zarr, got {options.dataset!r}")


def _of_paths(paths: Sequence[str], options: Options) -> list[Part]:
    parts: list[Part] = []
    run: list[str] = []  # images in a row are one part
    kind: tuple[str, int] | None = None  # of all images

    def end_run() -> None:
        nonlocal kind
        if run:
            part = images.Images(list(run), options.of_images, options.mode, kind)
            parts.append(part)
            kind = part.expected
            run.clear()

    for path in _files(paths, options.skip):
        if isinstance(path, Unreadable):
            end_run()
            parts.append(path)
            continue
        opener = _opener(path, options)
        if opener is None:
            run.append(path)
            continue
        end_run()
        try:
            parts.append(opener())
        except (ImportError, MemoryError):
            raise
        except Exception as error:
            if not options.skip:
                fail(path, error)
            parts.append(Unreadable(path, error))
    end_run()
    return parts


def _files(paths: Iterable[str], skip: bool) -> Iterator[str | Unreadable]:
    """Yield files, from paths, folders of images and patterns; each folder and pattern sorted by name."""
    for path in paths:
        if os.path.isdir(path) and not chunked.is_zarr(path):
            yield from _in_folder(path, skip)
        elif os.path.exists(path) or not glob.has_magic(path):
            yield path
        else:
            found = sorted(
                name for name in glob.glob(path, recursive=True) if not os.path.isdir(name) or chunked.is_zarr(name)
            )
            if not found:
                raise FileNotFoundError(f"source: expected files that match {path!r}, got none")
            yield from found


def _in_folder(path: str, skip: bool) -> list[str | Unreadable]:
    """Return the images in a folder and all below it, and what of that cannot be read, unless that is an error."""
    found: dict[str, str | Unreadable] = {}
    seen = {os.path.realpath(path)}

    def cannot_read(error: OSError) -> None:
        if not skip:
            raise error
        found[error.filename] = Unreadable(error.filename, error)

    def is_new(folder: str) -> bool:
        real = os.path.realpath(folder)
        return not (real in seen or seen.add(real))  # type: ignore[func-returns-value]

    def shown(names: list[str]) -> list[str]:
        return [name for name in sorted(names) if not name.startswith(".")]

    for folder, folders, names in os.walk(path, onerror=cannot_read, followlinks=True):
        # Each once: a link may lead back.
        folders[:] = [name for name in shown(folders) if is_new(os.path.join(folder, name))]
        for name in shown(names):
            if name.lower().endswith(images.SUFFIXES):
                found[os.path.join(folder, name)] = os.path.join(folder, name)
    if not found:
        raise FileNotFoundError(f"source: expected images ({' '.join(images.SUFFIXES)}) in {path!r}, got none")
    return [found[name] for name in sorted(found)]


def _opener(path: str, options: Options) -> Callable[[], Part] | None:
    """Return what opens a file of arrays; None for an image."""
    name, axis, dataset = path.lower(), options.axis, options.dataset
    if name.endswith(".npy"):
        return lambda: NpyFile(path, axis)
    if name.endswith(".npz"):
        return lambda: NpzMember(path, axis, dataset)
    if name.endswith(_HDF5):
        return lambda: chunked.hdf5_array(path, axis, dataset)
    if os.path.isdir(path) or name.rstrip("/").endswith(".zarr"):
        return lambda: chunked.zarr_array(path, axis, dataset)
    return None


def fail(name: str, error: Exception) -> NoReturn:
    """Raise an error of the same kind that names the file or the item."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        raise error  # it does
    text = str(error) or type(error).__name__
    if name not in text:
        text = f"{name}: {text}"
    for kind in (TypeError, OSError):
        if isinstance(error, kind):
            raise kind(text) from error
    raise ValueError(text) from error


def source_marks(parts: Sequence[Part]) -> list[Any] | None:
    """Return the fingerprint of all parts; None if one has none."""
    marks = [part.fingerprint() for part in parts]
    return None if any(mark is None for mark in marks) else marks
