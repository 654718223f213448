"""Statistics of a population, from its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _core
from ._channel_stats import ChannelStats, channel_stats
from ._checks import read_only
from ._layer import BatchNorm

if TYPE_CHECKING:
    from ._core import Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class PopulationStatistics:
    """What `population_statistics` returns.

    Attributes
    ----------
    mean, var : ndarray, float64, shape (C,)
        Mean, and variance, unbiased unless told otherwise.
    count : ndarray, int64, shape (C,)
        Number of values per channel.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> bn.population_statistics(bn.BatchNorm(1), [np.array([[1.0], [3.0]])]).count.tolist()
    [2]
    """

    mean: Float64Array
    var: Float64Array
    count: Int64Array


def population_statistics(
    source: BatchNorm | Callable[[Any], Any],
    batches: Iterable[Any],
    *,
    method: Literal["exact", "paper"] = "exact",
    axis: int | None = None,
    unbiased: bool | None = None,
    num_threads: int | None = None,
) -> PopulationStatistics:
    """Return the statistics of all values that a layer sees, batch by batch, to evaluate the network with.

    Parameters
    ----------
    source : BatchNorm or function
        A layer, of which `batches` are the inputs; or a function that turns a batch into such an input, the network up
        to the layer.
    batches : iterable
        Batches, of any sizes. Wrap it to show progress.
    method : {"exact", "paper"}, default "exact"
        "exact" merges the batches as if they were one. "paper" averages means and unbiased variances of the batches.
    axis : int, optional
        Channel axis; the layer's if omitted, and 1 for a function.
    unbiased : bool, optional
        Whether the variance is the unbiased one; the layer's `unbiased` if omitted, and True for a function. "paper" is
        unbiased.
    num_threads : int, optional
        Number of threads; the layer's, else the setting, if omitted.

    Returns
    -------
    PopulationStatistics

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value, a batch has another number of channels, there are no values, or
        `method` is "paper" and a batch has one value per channel.

    Notes
    -----
    The paper (Ioffe & Szegedy 2015, Algorithm 2, steps 8 to 10) averages over batches B of m values::

        mean = E[mean_B]        var = m / (m - 1) * E[var_B]

    which is the variance *within* batches: how far the means of the batches are apart doesn't enter. Over batches that
    are drawn at random both estimate the same variance; over batches of one class, one patient or one camera each, the
    paper's is too small. It weighs a small last batch as much as the others, too. The exact one is that of the
    concatenated data (Chan, Golub & LeVeque 1979), whatever the batches are.

    `batchnorm.training.reestimate` does this for all layers of a network at once.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> by_class = [np.array([[0.0], [2.0]]), np.array([[10.0], [12.0]])]
    >>> bn.population_statistics(bn.BatchNorm(1), by_class).var.round(3).tolist()
    [34.667]
    >>> bn.population_statistics(bn.BatchNorm(1), by_class, method="paper").var.tolist()
    [2.0]
    """
    method = _core.check_choice(method, "method", ["exact", "paper"])
    layer = source if isinstance(source, BatchNorm) else None
    if layer is None and not callable(source):
        raise TypeError(f"source: expected a BatchNorm or a function, got {type(source).__name__}")
    along = _core.check_axis_int((layer.axis if layer else 1) if axis is None else axis)
    ddof = int((layer.unbiased if layer else True) if unbiased is None else _core.check_flag(unbiased, "unbiased"))
    threads = layer.num_threads if layer and num_threads is None else num_threads
    merged = ChannelStats()
    mean_sum: Float64Array | float = 0.0
    var_sum: Float64Array | float = 0.0
    done = 0
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches: expected an iterable of arrays, got {type(batches).__name__}")
    for batch in batches:
        stats = channel_stats(batch if layer else source(batch), axis=along, num_threads=threads)
        channels = stats.mean.size
        if layer and channels != layer.num_features:
            raise ValueError(f"batches: expected {layer.num_features} channels along axis {along}, got {channels}")
        if done and channels != merged.mean.size:
            raise ValueError(f"batches: expected {merged.mean.size} channels, as before, got {channels}")
        if not stats.count.any():
            continue
        merged.merge(stats)
        if method == "paper":
            if stats.count.min() < 2:
                raise ValueError(
                    "batches: expected more than one value per channel in each for the paper's method, got 1"
                )
            mean_sum, var_sum = mean_sum + stats.mean, var_sum + stats.var(ddof=1)
        done += 1
    if not done:
        raise ValueError("batches: expected values, got none")
    if method == "paper":
        return PopulationStatistics(
            read_only(np.asarray(mean_sum / done)), read_only(np.asarray(var_sum / done)), merged.count
        )
    return PopulationStatistics(merged.mean, read_only(merged.var(ddof)), merged.count)
