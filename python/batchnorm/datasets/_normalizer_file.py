"""The file that holds a Normalizer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from .._whole_file import is_json, read_either, write_whole

FORMAT, VERSION = "batchnorm.Normalizer", 1
_FIELDS = "mean", "var", "scale", "axis", "eps"


def write_normalizer(path: str | os.PathLike[str], values: tuple[Any, ...]) -> None:
    """Write mean, var, scale, axis and eps, which `read_normalizer` returns."""
    fields = {"format": FORMAT, "version": VERSION, **dict(zip(_FIELDS, values, strict=True))}
    if is_json(path):
        text = json.dumps({name: np.asarray(value).tolist() for name, value in fields.items()}, allow_nan=False)
        write_whole(path, lambda file: file.write(text.encode() + b"\n"))
    else:
        write_whole(path, lambda file: np.savez(file, **fields))


def read_normalizer(file: BinaryIO) -> dict[str, Any]:
    """Return what was written, by name; any exception tells of another file."""
    return read_either(file, _values, lambda text: _values(json.loads(text)))


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    held = {name: np.asarray(value) for name, value in fields.items()}
    if "format" not in held or held["format"].tolist() != FORMAT:
        raise ValueError("another one")
    version = held["version"].tolist() if "version" in held else None
    if version != VERSION:
        raise ValueError(f"version {version!r} (this batchnorm reads version {VERSION})")
    missing = [name for name in _FIELDS if name not in held]
    if missing:
        raise ValueError(f"one without {missing[0]!r}")
    return {name: held[name] if name in ("mean", "var") else held[name].tolist() for name in _FIELDS}
