"""Files, .npz or JSON, that are replaced at once and whole."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeVar

import numpy as np

_T = TypeVar("_T")


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Make the file of what `write` writes; one that is there stays as it is until all of the new one is on disk.

    The new one has the permissions of the old one. What is no regular file, as a pipe or a device, is written to.
    """
    target = os.path.realpath(os.fsdecode(path))  # through a symbolic link, to what it names
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb") as file:
            write(file)
        return
    temporary = os.path.join(os.path.dirname(target), f".batchnorm-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:  # before there is anything to read
                os.chmod(temporary, stat.S_IMODE(mode))
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        # about the file that was asked for, not the temporary one
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        raise


def _mode(path: str | os.PathLike[str]) -> int | None:
    """Return type and permissions of a file; None if there is none, or none that can be reached."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def is_json(path: str | os.PathLike[str]) -> bool:
    """Whether the name asks for JSON."""
    return os.fsdecode(path).lower().endswith(".json")


def read_either(file: BinaryIO, of_npz: Callable[[Mapping[str, Any]], _T], of_json: Callable[[bytes], _T]) -> _T:
    """Return what is made of an .npz or JSON, which the content tells; any exception tells of another file."""
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        with np.load(file, allow_pickle=False) as archive:
            return of_npz(archive)
    if start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{":
        return of_json(file.read())
    raise ValueError("a file that is neither .npz nor JSON")
