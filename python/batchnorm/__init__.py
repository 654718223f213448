"""Batch normalization for NumPy: right at any offset and layout, fast, mergeable, safe.

``x`` is any array with at least 2 dimensions; ``axis`` is its channel axis, 1 unless told. Data are positional, options
are keywords.

Examples
--------
>>> import numpy as np
>>> import batchnorm as bn
>>> x = np.array([[0.8], [1.2], [0.9], [1.1]])
>>> y, saved = bn.batch_norm_train(x, eps=0.0)
>>> y.ravel().round(4).tolist()
[-1.2649, 1.2649, -0.6325, 0.6325]
>>> bn.batch_norm_backward(np.ones_like(y), x, saved).dbias.tolist()
[4.0]
"""

from ._accumulate import accumulate_statistics
from ._backward import batch_norm_backward, batch_norm_inference_backward
from ._channel_stats import ChannelStats, channel_stats
from ._config import show_config
from ._conventions import convention
from ._core import __version__
from ._forward import batch_norm_inference, batch_norm_train, denormalize
from ._layer import BatchNorm
from ._memory import set_kept_memory
from ._population import PopulationStatistics, population_statistics
from ._running_stats import update_running_stats
from ._saved import Gradients, SavedStatistics
from ._second import SecondGradients, batch_norm_double_backward
from ._threads import get_num_threads, num_threads, set_num_threads

__all__ = [
    "BatchNorm",
    "ChannelStats",
    "Gradients",
    "PopulationStatistics",
    "SavedStatistics",
    "SecondGradients",
    "__version__",
    "accumulate_statistics",
    "batch_norm_backward",
    "batch_norm_double_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "batch_norm_train",
    "channel_stats",
    "convention",
    "denormalize",
    "get_num_threads",
    "num_threads",
    "population_statistics",
    "set_kept_memory",
    "set_num_threads",
    "show_config",
    "update_running_stats",
]
