"""The file that holds channel statistics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ._stats_document import fields_of, held_in
from ._stats_json import from_json, to_json
from ._whole_file import is_json, read_either, write_whole

if TYPE_CHECKING:
    from ._stats_document import Held


def write_stats(path: str | os.PathLike[str], held: Held) -> None:
    """Write a file that `read_stats` returns the same from; one that is there is replaced, at once and whole."""
    if is_json(path):
        text = to_json(held).encode() + b"\n"
        write_whole(path, lambda file: file.write(text))
    else:
        write_whole(path, lambda file: np.savez(file, **fields_of(held)))


def read_stats(path: str | os.PathLike[str]) -> Held:
    """Return what `write_stats` wrote; a ValueError tells of any other file."""
    with open(path, "rb") as file:
        try:
            return read_either(file, held_in, from_json)
        except Exception as error:  # a damaged archive raises nearly anything
            raise ValueError(f"{os.fsdecode(path)}: expected a ChannelStats file, got {error}") from error


def read_stats_text(text: str) -> Held:
    """Return what `to_json` made the text of; a ValueError tells of any other."""
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {type(text).__name__}")
    try:
        return from_json(text)
    except Exception as error:  # so deep that Python refuses it, for one
        raise ValueError(f"text: expected the JSON of a ChannelStats, got {error}") from error
