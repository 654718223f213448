"""What becomes of NaN in an array whose statistics are taken.

Nothing is looked at where there is none: a NaN makes its channel's mean NaN, so the ordinary statistics are taken
first. Infinities make a mean NaN, too, so a channel is looked at before it is taken again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._moments import Moments, merged, no_values

if TYPE_CHECKING:
    from ._core import BoolArray
    from ._source import Source

NAN_POLICIES = ["propagate", "omit", "raise"]


def _counting_nan(channel: Source) -> BoolArray:
    """Where a value of one channel is NaN that counts."""
    nan: BoolArray = np.isnan(channel.x[0])
    if channel.weights is not None:
        nan &= channel.weights > 0
    elif channel.mask is not None:
        nan &= channel.mask
    return nan


def channels_with_nan(source: Source, moments: Moments) -> list[int]:
    """Return the channels in which a NaN counts, of a source that has these moments."""
    if source.x.dtype.kind in "iu":
        return []
    suspects = set(np.flatnonzero(np.isnan(moments.mean) & (moments.measure > 0)).tolist())
    found: set[int] = set()
    for window in source.windows() if suspects else ():
        found |= {c for c in suspects - found if _counting_nan(window.of_channel(c)).any()}
        if found == suspects:
            break
    return sorted(found)


def without_nan(source: Source, channels: list[int]) -> dict[int, Moments]:
    """Return the moments of these channels without their NaNs."""
    moments = dict.fromkeys(channels, no_values(1))
    for window in source.windows():
        for c in channels:
            channel = window.of_channel(c)
            kept = ~_counting_nan(channel)
            mask = kept if channel.mask is None else kept & channel.mask
            weights = None if channel.weights is None else np.where(kept, channel.weights, 0)
            # One thread: a window takes less time than waking others.
            part = channel._replace(mask=mask, weights=weights, num_threads=1)
            moments[c] = merged(moments[c], part.moments())
    return moments
