"""What the modules of this package ask of their arguments, in the same words."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from .._checks import as_array, require_writeable

FloatArray: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any]]]"


def as_real(name: str, value: object) -> float:
    """Return a real number, or an array of shape (), as a float; a bool is none."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    return float(value)


def as_rate(name: str, value: object) -> float:
    """Return a finite number >= 0."""
    number = as_real(name, value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}: expected a finite number >= 0, got {number}")
    return number


def as_fraction(name: str, value: object) -> float:
    """Return a number from 0 to below 1."""
    number = as_real(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name}: expected a number >= 0 and < 1, got {number}")
    return number


def as_positive(name: str, value: object) -> float:
    """Return a finite number > 0."""
    number = as_real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}: expected a finite number > 0, got {number}")
    return number


def as_flag(name: str, value: object) -> bool:
    """Return a bool."""
    return _core.check_flag(value, name)


def as_parameters(name: str, value: object) -> dict[str, FloatArray]:
    """Return a mapping of names to float arrays that can be changed in place, as a dict of the very arrays."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping of names to arrays, got {type(value).__name__}")
    for key, array in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: expected names that are str, got {key!r}")
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
            got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{name}[{key!r}]: expected an array of float32 or float64, got {got}")
        require_writeable(f"{name}[{key!r}]", array)
    return dict(value)


def require_keys(name: str, given: Iterable[str], expected: Collection[str], optional: Collection[str] = ()) -> None:
    """Refuse what is missing and what is unknown."""
    keys = list(given)
    missing = [key for key in expected if key not in keys and key not in optional]
    unknown = [key for key in keys if key not in expected]
    if missing or unknown:
        raise ValueError(f"{name}: expected {list(expected)}, got missing {missing}, unknown {unknown}")


def fitting(
    name: str,
    arrays: object,
    targets: Mapping[str, np.ndarray[Any, Any]],
    *,
    optional: Collection[str] = (),
    same_kind: bool = False,
) -> dict[str, np.ndarray[Any, Any]]:
    """Return a mapping to arrays, one for each target and of its shape; real ones, or of the target's kind."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{name}: expected a mapping of names to arrays, got {type(arrays).__name__}")
    require_keys(name, arrays, targets, optional)
    fitted = {}
    for key, value in arrays.items():
        array, target = as_array(f"{name}[{key!r}]", value), targets[key]
        kinds = target.dtype.kind if same_kind else "iuf"
        if array.dtype.kind not in kinds:
            expected = f"dtype {target.dtype}" if same_kind else "real numbers"
            raise TypeError(f"{name}[{key!r}]: expected {expected}, got {array.dtype}")
        if array.shape != target.shape:
            raise ValueError(f"{name}[{key!r}]: expected shape {target.shape}, got {array.shape}")
        fitted[key] = array
    return fitted
