"""Statistics of a batch that comes in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._channel_stats import ChannelStats
from ._checks import require_writeable
from ._layer import BatchNorm
from ._running_stats import update_running_stats

if TYPE_CHECKING:
    from types import TracebackType


class accumulate_statistics:
    """Context manager: what layers see in training moves their running statistics once, at the end, as one batch.

    For gradients that are accumulated over micro-batches, and for forwards that are run a second time (checkpointing),
    which are discarded. Each micro-batch is normalized by its own statistics as ever.

    Parameters
    ----------
    *layers : BatchNorm
        Layers with running statistics, each once.

    Attributes
    ----------
    statistics : tuple of ChannelStats
        What was collected so far, by layer.

    Raises
    ------
    TypeError
        An argument is no `BatchNorm`.
    ValueError
        A layer has no running statistics, is given twice, or is being collected by another context; or, at the end,
        a running statistic is read-only.
    OverflowError
        At the end, a `num_batches_tracked` would pass 2**63 - 1.

    Notes
    -----
    At the end of the ``with`` block the statistics of all micro-batches are merged by the formula of Chan, Golub &
    LeVeque (see `ChannelStats`), the running statistics move once by the layer's momentum, and `num_batches_tracked`
    grows by 1. After an exception in the block, or `discard`, nothing has changed. A layer that saw nothing stays as
    it is. The mode may change inside; only what is seen in training counts.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> layer = bn.BatchNorm(1, momentum=1.0)
    >>> with bn.accumulate_statistics(layer):
    ...     for micro_batch in np.array([[[1.0], [2.0]], [[6.0], [7.0]]]):
    ...         y = layer(micro_batch)
    >>> layer.running_mean.tolist(), layer.running_var.round(3) == np.float32(8.667), int(layer.num_batches_tracked)
    ([4.0], array([ True]), 1)
    """

    def __init__(self, *layers: BatchNorm) -> None:
        for layer in layers:
            if not isinstance(layer, BatchNorm):
                raise TypeError(f"layers: expected a BatchNorm, got {type(layer).__name__}")
            if layer.running_mean is None:
                raise ValueError("layers: expected running statistics in each, got a layer without")
        if len({id(layer) for layer in layers}) != len(layers):
            raise ValueError("layers: expected each layer once, got one twice")
        self._layers = layers
        self._collected: tuple[ChannelStats, ...] = ()

    @property
    def statistics(self) -> tuple[ChannelStats, ...]:
        return self._collected

    def __enter__(self) -> accumulate_statistics:
        if any(layer._collected is not None for layer in self._layers):
            raise ValueError("layers: expected layers that no other context collects, got one that is being collected")
        self.discard()
        return self

    def discard(self) -> None:
        """Forget what was collected, and go on.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> layer = bn.BatchNorm(1)
        >>> with bn.accumulate_statistics(layer) as collected:
        ...     y = layer(np.array([[1.0], [2.0]]))
        ...     collected.discard()
        >>> layer.running_mean.tolist(), int(layer.num_batches_tracked)
        ([0.0], 0)
        """
        self._collected = tuple(ChannelStats() for _ in self._layers)
        for layer, stats in zip(self._layers, self._collected, strict=True):
            layer._collected = stats

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._layers:
            layer._collected = None
        if kind is None:
            self._commit()

    def _commit(self) -> None:
        moves = []
        for layer, stats in zip(self._layers, self._collected, strict=True):
            if not stats.count.any():
                continue
            mean, var, counter = layer.running_mean, layer.running_var, layer.num_batches_tracked
            assert mean is not None and var is not None and counter is not None
            require_writeable("running_mean", mean)
            require_writeable("running_var", var)
            batches, momentum, momentum_of = layer._next_batch(counter, stats.count)
            moved = mean.copy(), var.copy()  # an error comes before any layer has moved
            update_running_stats(*moved, stats, momentum=momentum, momentum_of=momentum_of, unbiased=layer.unbiased)
            moves.append((mean, moved[0], var, moved[1], counter, batches))
        for mean, new_mean, var, new_var, counter, batches in moves:
            mean[...], var[...], counter[()] = new_mean, new_var, batches
