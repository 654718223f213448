"""The moments of an array: axis, mask, lengths, weights, NaN policy and extremes in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._checks import as_array, read_only
from ._masks import as_weights, mask_of
from ._moments import Moments, frozen
from ._nan_policy import NAN_POLICIES, channels_with_nan, without_nan
from ._source import Source
from ._threads import context_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def gather(
    x: ArrayLike,
    axis: int | None,
    num_threads: int | None,
    mask: ArrayLike | None,
    lengths: ArrayLike | None,
    weights: ArrayLike | None,
    flush_subnormals: bool,
    nan_policy: str,
    extremes: bool,
) -> Moments:
    """Return the moments of an array, see `channel_stats`."""
    nan_policy = _core.check_choice(nan_policy, "nan_policy", NAN_POLICIES)
    if x is None:
        raise TypeError("x: expected an array, got None")
    if not isinstance(x, np.ndarray):  # once, whatever it takes
        x = as_array("x", x)
    if lengths is not None:
        mask = mask_of(x, axis, mask, lengths)
    if weights is not None:
        weights = as_weights(weights, mask)
    if axis is None:
        x, axis = _one_channel(x), 0
    threads = context_num_threads() if num_threads is None else num_threads
    source = Source(x, axis, mask, weights, threads, flush_subnormals)  # type: ignore[arg-type]  # the core checks them
    moments = source.moments()
    if not extremes and nan_policy == "propagate":
        return moments
    return _looked_at(source, moments, nan_policy, extremes)


def _one_channel(x: ArrayLike) -> np.ndarray[Any, Any]:
    """Return a view of x as one channel along axis 0, so that masks of x's shape are without its channel axis."""
    array = as_array("x", x)
    return array[None] if array.ndim else array[None, None]


def _looked_at(source: Source, moments: Moments, nan_policy: str, extremes: bool) -> Moments:
    """Return the moments by a policy other than "propagate", or with extremes. The arguments are checked."""
    source = source._replace(
        x=np.asarray(source.x),
        mask=None if source.mask is None else np.asarray(source.mask),
        weights=None if source.weights is None else np.asarray(source.weights),
    )
    with_nan = channels_with_nan(source, moments)
    if with_nan and nan_policy == "raise":
        raise ValueError(f'x: expected no NaN with nan_policy "raise", got one in channel {with_nan[0]}')
    if with_nan and nan_policy == "omit":
        moments = _omit(source, moments, with_nan)
    if extremes:
        counts = source.mask if source.weights is None else source.weights > 0
        minimum, maximum = _core.channel_extremes(source.x, source.axis, counts, source.num_threads)
        for array in (minimum, maximum):
            array[moments.measure == 0] = np.nan
            if nan_policy == "propagate":
                array[with_nan] = np.nan
        moments = replace(moments, minimum=read_only(minimum), maximum=read_only(maximum))
    return moments


def _omit(source: Source, moments: Moments, channels: list[int]) -> Moments:
    """Return the moments, those of these channels without their NaNs."""
    count, mean, m2 = moments.count.copy(), moments.mean.copy(), moments.m2.copy()
    weights = None if moments.weights is None else moments.weights.copy()
    for channel, rest in without_nan(source, channels).items():
        count[channel], mean[channel], m2[channel] = rest.count[0], rest.mean[0], rest.m2[0]
        if weights is not None:
            weights[channel] = rest.measure[0]
    return frozen(Moments(count, mean, m2, weights))
