"""Minimum and maximum per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._nan_policy import Source

if TYPE_CHECKING:
    from ._core import Float64Array


def channel_extremes(
    x: np.ndarray[Any, Any], axis: int, mask: np.ndarray[Any, Any] | None, num_threads: int | None
) -> tuple[Float64Array, Float64Array]:
    """Return (min, max) per channel in float64; NaNs are ignored, +inf and -inf stand where there are no values."""
    source = Source(x, axis, mask, None, num_threads, False)
    channels = x.shape[axis]
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for channel in range(channels):
        for window in source.windows(channel):
            values = window.x[0] if window.mask is None else window.x[0][window.mask]
            if values.size:
                low[channel] = np.fmin(low[channel], float(np.fmin.reduce(values, axis=None)))
                high[channel] = np.fmax(high[channel], float(np.fmax.reduce(values, axis=None)))
    return low, high
