"""What several modules ask of their arguments, in the same words."""

from __future__ import annotations

import operator
import sys
from typing import Any, TypeVar

import numpy as np

INT64_MAX = 2**63 - 1

_Array = TypeVar("_Array", bound="np.ndarray[Any, Any]")


def as_int(name: str, value: object, least: int | None = None) -> int:
    """Return `value` as an int, not below `least` if that is given; a bool is none."""
    try:
        if isinstance(value, (bool, np.bool_, np.ndarray)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}") from None
    if least is not None and number < least:
        raise ValueError(f"{name}: expected an int >= {least}, got {number}")
    return number


def as_array(name: str, value: object) -> np.ndarray[Any, Any]:
    """Return `value` as an array; what would lose its meaning is refused."""
    if "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got MaskedArray (use .filled or .data)")
    try:
        return np.asarray(value)
    except Exception as error:
        raise TypeError(f"{name}: expected an array, got {type(value).__name__} ({error})") from error


def as_vector(name: str, value: object, channels: int | None = None) -> np.ndarray[Any, Any]:
    """Return `value` as a float32 or float64 array of shape (channels,)."""
    array = as_array(name, value)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64 in native byte order, got {array.dtype}")
    if array.ndim != 1 or channels not in (None, array.shape[0]):
        raise ValueError(f"{name}: expected shape ({'C' if channels is None else channels},), got {array.shape}")
    return array


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """Return float32 or float64, whichever `dtype` names."""
    try:
        for known in (np.dtype(np.float32), np.dtype(np.float64)):
            if dtype is not None and np.dtype(dtype) == known:  # np.dtype(None) would be float64
                return known
    except (TypeError, ValueError):
        pass
    raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")


def require_writeable(name: str, array: np.ndarray[Any, Any]) -> None:
    """Refuse an array that cannot be written to."""
    if not array.flags.writeable:
        raise ValueError(f"{name}: expected a writeable array, got a read-only one")


def read_only(array: _Array) -> _Array:
    """Return the very array, which nobody can write to any more."""
    array.setflags(write=False)
    return array
