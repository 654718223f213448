"""Which floating-point types values of a dtype are normalized to, and how these are told."""

from __future__ import annotations

from typing import Any

import numpy as np

NARROW_FLOATS = "float16", "bfloat16", "float32"
FLOATS = *NARROW_FLOATS, "float64"


def floats_for(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Return the names of the floating-point types that the core makes of this one, or takes it back to."""
    return ("float64",) if dtype == np.float64 else NARROW_FLOATS


def usual_float(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the floating-point type that the core makes of this one unless told."""
    return np.dtype(np.float32) if dtype.kind in "iu" else dtype


def any_of(names: tuple[str, ...]) -> str:
    """Return the names as a phrase."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
