"""Which values of a batch count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _core
from ._checks import as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._core import BoolArray, FloatArray


def mask_of(x: ArrayLike, axis: int | None, mask: ArrayLike | None, lengths: ArrayLike) -> BoolArray:
    """Return the mask of the first `lengths` positions of each sequence of x."""
    if mask is not None:
        raise ValueError("lengths: expected a mask or lengths, got both")
    if axis is None:
        raise ValueError("lengths: expected a channel axis, got axis None (use a mask)")
    shape, axis = as_array("x", x).shape, _core.check_axis_int(axis)
    if len(shape) != 3 or axis % 3 not in (1, 2) or not -3 <= axis < 3:
        raise ValueError(
            f"lengths: expected x of shape (N, C, L) or (N, L, C), got shape {shape} with its channels along {axis}"
        )
    samples, longest = shape[0], shape[3 - axis % 3]
    array = as_array("lengths", lengths)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"lengths: expected an array of ints, got {array.dtype}")
    if array.shape != (samples,):
        raise ValueError(f"lengths: expected shape ({samples},), got {array.shape}")
    wrong = (array < 0) | (array > longest)
    if wrong.any():
        sample = int(wrong.argmax())
        raise ValueError(f"lengths: expected values from 0 to {longest}, got {array[sample]} of sample {sample}")
    counts: BoolArray = np.arange(longest) < array[:, None]
    return counts


def as_weights(weights: ArrayLike, mask: ArrayLike | None) -> FloatArray:
    """Return weights that are finite and not negative, and 0 where the mask is false."""
    array = as_array("weights", weights)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"weights: expected float32 or float64 in native byte order, got {array.dtype}")
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        raise ValueError(f"weights: expected finite values >= 0, got {float(array[wrong][0])!r}")
    if mask is None:
        return array
    left = as_array("mask", mask)
    if left.dtype != np.bool_:
        raise TypeError(f"mask: expected bool, got {left.dtype}")
    try:
        return np.where(left, array, array.dtype.type(0))
    except ValueError:
        raise ValueError(
            f"mask: expected a shape that goes with that of the weights {array.shape}, got {left.shape}"
        ) from None


# Binades around 1 in which weights leave room for the values that they are multiplied with.
_NEAR_ONE = 64


def near_one(weights: FloatArray) -> tuple[FloatArray, int]:
    """Return weights divided by a power of two, so that the largest is near 1 unless it was, and the exponent."""
    exponent = int(np.frexp(weights.max(initial=0))[1])
    if abs(exponent) <= _NEAR_ONE:
        return weights, 0
    return np.ldexp(weights, -exponent, dtype=np.float64), exponent
