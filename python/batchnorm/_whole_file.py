"""Files that are replaced at once and whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Make the file of what `write` writes; one that is there stays as it is until all of the new one is on disk."""
    target = os.path.realpath(os.fsdecode(path))  # through a symbolic link, to what it names
    temporary = os.path.join(os.path.dirname(target), f".batchnorm-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
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


def is_json(path: str | os.PathLike[str]) -> bool:
    """Whether the name asks for JSON."""
    return os.fsdecode(path).lower().endswith(".json")
