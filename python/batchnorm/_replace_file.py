"""Files that are there whole, or as they were before."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, Any


def replace_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file by a function of the open file; one that is there is replaced, at once and whole."""
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
        if isinstance(error, OSError) and error.errno is not None:  # about the file that was asked for, not this one
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        raise
