"""Statistics of data sets that are larger than memory (files of arrays, images, iterables), and what applies them.

Examples
--------
>>> import os, tempfile
>>> import numpy as np
>>> from batchnorm.datasets import statistics
>>> with tempfile.TemporaryDirectory() as folder:
...     np.save(os.path.join(folder, "x.npy"), np.arange(12.0).reshape(4, 3))
...     statistics(os.path.join(folder, "x.npy")).mean.tolist()
[4.5, 5.5, 6.5]
"""

from ._result import DatasetStatistics
from ._statistics import statistics
from .normalizer import Normalizer

__all__ = ["DatasetStatistics", "Normalizer", "statistics"]
