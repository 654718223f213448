"""What becomes of NaN in an array whose statistics are taken.

Nothing is looked at where there is none: a NaN makes its channel's mean NaN, so the ordinary statistics are taken
first. Infinities make a mean NaN, too, so a channel is looked at before it is taken again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._moments import Moments, merged, no_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import BoolArray
    from ._source import Source

NAN_POLICIES = ["propagate", "omit", "raise"]


def _counting_nan(window: Source) -> BoolArray:
    """Where a value is NaN that counts."""
    nan: BoolArray = np.isnan(window.x[0])
    if window.weights is not None:
        nan &= window.weights > 0
    elif window.mask is not None:
        nan &= window.mask
    return nan


def channels_with_nan(source: Source, moments: Moments) -> Iterator[int]:
    """Return the channels in which a NaN counts, of a source that has these moments."""
    if source.x.dtype.kind in "iu":
        return
    for channel in np.flatnonzero(np.isnan(moments.mean) & (moments.measure > 0)).tolist():
        if any(_counting_nan(window).any() for window in source.of_channel(channel).windows()):
            yield channel


def without_nan(source: Source, channel: int) -> Moments:
    """Return the moments of one channel without its NaNs."""
    moments = no_values(1)
    for window in source.of_channel(channel).windows():
        kept = ~_counting_nan(window)
        mask = kept if window.mask is None else kept & window.mask
        weights = None if window.weights is None else np.where(kept, window.weights, window.weights.dtype.type(0))
        moments = merged(moments, window._replace(mask=mask, weights=weights).moments())
    return moments
