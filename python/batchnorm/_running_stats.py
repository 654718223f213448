"""Running statistics, moved by those of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from . import _core
from ._channel_stats import ChannelStats

if TYPE_CHECKING:
    from ._core import FloatArray


def update_running_stats(
    running_mean: FloatArray,
    running_var: FloatArray,
    stats: ChannelStats,
    *,
    momentum: float = 0.1,
    momentum_of: Literal["new", "old"] = "new",
    unbiased: bool = True,
) -> None:
    """Move running statistics towards those of a batch, in place.

    Parameters
    ----------
    running_mean, running_var : ndarray, float32 or float64, shape (C,)
        Running statistics, changed in their own dtype.
    stats : ChannelStats
        Statistics of C channels, for instance of a batch that was spread over several processes.
    momentum : float, default 0.1
        How much one side weighs, from 0 to 1.
    momentum_of : {"new", "old"}, default "new"
        Which side: "new" is PyTorch's meaning, "old" is Keras's.
    unbiased : bool, default True
        Whether the running variance takes in the unbiased variance.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value, or a running statistic is read-only.

    Notes
    -----
    With m values in the channel, after Ioffe & Szegedy (2015), Algorithm 2, step 10::

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * m2 / (m - 1)

    where m is the sum of the weights, if the values have some. A channel without values keeps its statistics; with one
    value it keeps its variance, when that is the unbiased one. After an error nothing has changed.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> bn.update_running_stats(mean, var, bn.channel_stats(np.array([[1.0], [3.0]])), momentum=0.5)
    >>> mean.tolist(), var.tolist()
    ([1.0], [1.5])
    """
    if not isinstance(stats, ChannelStats):
        raise TypeError(f"stats: expected a ChannelStats, got {type(stats).__name__}")
    channels = running_mean.size if isinstance(running_mean, np.ndarray) else 0
    # Empty statistics have no number of channels yet, so they fit any.
    moments = stats._arrays_for(channels)
    try:
        _core.update_running_stats(
            running_mean, running_var, moments.measure, moments.mean, moments.m2, momentum, momentum_of, unbiased
        )
    except ValueError:
        # Where the running statistics fit each other, it is the other ones that do not fit.
        if len(moments.count) != channels and (channels,) == running_mean.shape == getattr(running_var, "shape", None):
            raise ValueError(
                f"stats: expected {channels} channels, as in running_mean, got {len(moments.count)}"
            ) from None
        raise
