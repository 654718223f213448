"""Statistics and parameters of batch normalization, from one model to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .._channel_stats import ChannelStats
from .._checks import as_vector, require_writeable
from .._layer import BatchNorm
from .._running_stats import update_running_stats
from .._saved import SavedStatistics
from ._checks import FloatArray, as_flag, as_rate
from .roles import as_layers

_STATISTICS: tuple[str, ...] = ("running_mean", "running_var", "num_batches_tracked")
_AFFINE: tuple[str, ...] = ("weight", "bias")


def _parts(statistics: object, affine: object) -> tuple[str, ...]:
    parts = _STATISTICS if as_flag("statistics", statistics) else ()
    parts += _AFFINE if as_flag("affine", affine) else ()
    if not parts:
        raise ValueError("statistics, affine: expected one of them to be True, got False for both")
    return parts


def extract(
    layers: Mapping[str, BatchNorm], *, statistics: bool = True, affine: bool = True
) -> dict[str, np.ndarray[Any, Any]]:
    """Copy what layers know.

    Parameters
    ----------
    layers : mapping of str to BatchNorm
        Layers by name.
    statistics : bool, default True
        Whether to copy running statistics and the number of batches.
    affine : bool, default True
        Whether to copy weights and biases.

    Returns
    -------
    dict of str to ndarray
        "name.running_mean" and so on, as PyTorch calls them: save it with ``numpy.savez``, give it to `transfer`.

    Raises
    ------
    TypeError, ValueError
        `layers` is something else, or there is nothing to copy.

    Examples
    --------
    >>> import batchnorm as bn
    >>> from batchnorm.training import extract
    >>> list(extract({"bn": bn.BatchNorm(2)}, affine=False))
    ['bn.running_mean', 'bn.running_var', 'bn.num_batches_tracked']
    """
    parts = _parts(statistics, affine)
    return {
        f"{name}.{part}": array.copy()
        for name, layer in as_layers(layers).items()
        for part, array in layer.state_dict().items()
        if part in parts
    }


def transfer(
    state: Mapping[str, Any],
    layers: Mapping[str, BatchNorm],
    names: Mapping[str, str] | Callable[[str], str] | None = None,
    *,
    statistics: bool = True,
    affine: bool = True,
) -> None:
    """Copy what `extract` took, or a whole model's state, into layers: into all of them, or none after an error.

    Parameters
    ----------
    state : mapping of str to array_like
        Names to arrays; more than is needed may be there. Values are what `BatchNorm.load_state_dict` takes.
    layers : mapping of str to BatchNorm
        Layers that take it over, by name.
    names : mapping or function, optional
        Name of a layer here to its name in `state`, where they differ.
    statistics, affine : bool, default True
        What to take over, as in `extract`.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    ValueError
        Something is missing, or of another shape than the layer's; the message names it.

    Examples
    --------
    >>> import batchnorm as bn
    >>> from batchnorm.training import extract, transfer
    >>> source, target = bn.BatchNorm(2), bn.BatchNorm(2)
    >>> source.running_mean += 5
    >>> transfer(extract({"features.bn": source}), {"bn1": target}, {"bn1": "features.bn"})
    >>> target.running_mean.tolist()
    [5.0, 5.0]
    """
    parts = _parts(statistics, affine)
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
    if not (names is None or callable(names) or isinstance(names, Mapping)):
        raise TypeError(f"names: expected a mapping or a function, got {type(names).__name__}")
    checked = as_layers(layers)
    if isinstance(names, Mapping) and (unknown := [name for name in names if name not in checked]):
        raise ValueError(f"names: expected keys among the layers {list(checked)}, got {unknown}")
    loads: list[tuple[BatchNorm, dict[str, Any]]] = []
    for name, layer in checked.items():
        theirs = names(name) if callable(names) else name if names is None else names.get(name, name)
        wanted = [part for part in layer.state_dict() if part in parts]
        missing = [f"{theirs}.{part}" for part in wanted if f"{theirs}.{part}" not in state]
        if missing:
            raise ValueError(f"state: expected the keys of layer {name!r}, got none of {missing}")
        values = {part: state[f"{theirs}.{part}"] for part in wanted}
        try:
            _rehearse(layer, values)
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {name!r}: {error}") from None
        loads.append((layer, values))
    for layer, values in loads:
        layer.load_state_dict(values, strict=False)


def _rehearse(layer: BatchNorm, values: dict[str, Any]) -> None:
    """Load into a layer of the same shape, which the layer itself doesn't notice."""
    twin = BatchNorm(
        layer.num_features,
        weight=layer.weight is not None,
        bias=layer.bias is not None,
        track_running_stats=layer.running_mean is not None,
        dtype=layer.dtype,
    )
    twin.load_state_dict(values, strict=False)
    for part, array in layer.state_dict().items():
        if part in values:
            require_writeable(part, array)


def blend(
    running_mean: FloatArray, running_var: FloatArray, stats: ChannelStats, *, prior_count: float
) -> tuple[FloatArray, FloatArray]:
    """Mix statistics of a source with those of a few values of a target.

    Parameters
    ----------
    running_mean, running_var : ndarray, float32 or float64, shape (C,)
        Statistics of the source.
    stats : ChannelStats
        Statistics of the target, over n values per channel.
    prior_count : float
        Number N of target's values that the source counts as much as, >= 0.

    Returns
    -------
    mean, var : ndarray, float64, shape (C,)
        New arrays.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type, shape or value.

    Notes
    -----
    Schneider et al., Improving robustness against common corruptions by covariate shift adaptation, 2020, equation 3::

        mean = N / (N + n) * running_mean + n / (N + n) * target's mean
        var  = N / (N + n) * running_var  + n / (N + n) * target's biased variance

    It is no merge: the distance of the two means doesn't enter the variance. To merge two sets of values, add two
    `ChannelStats`. A channel without values keeps the source's.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> from batchnorm.training import blend
    >>> stats = bn.channel_stats(np.array([[4.0], [8.0]]))
    >>> [a.tolist() for a in blend(np.array([0.0]), np.array([1.0]), stats, prior_count=2)]
    [[3.0], [2.5]]
    """
    prior = as_rate("prior_count", prior_count)
    mean = as_vector("running_mean", running_mean).astype(np.float64)
    var = as_vector("running_var", running_var, mean.size).astype(np.float64)
    if not isinstance(stats, ChannelStats):
        raise TypeError(f"stats: expected a ChannelStats, got {type(stats).__name__}")
    if stats.mean.size not in (0, mean.size):
        raise ValueError(f"stats: expected {mean.size} channels, as in running_mean, got {stats.mean.size}")
    seen = np.flatnonzero(stats.count)
    share = stats.count[seen] / (prior + stats.count[seen])
    for values, target in ((mean, stats.mean), (var, stats.var())):
        values[seen] = (1 - share) * values[seen] + share * target[seen]
    return mean, var


def reestimate(
    layers: Mapping[str, BatchNorm], forward: Callable[[Any], object], batches: Iterable[Any]
) -> dict[str, ChannelStats]:
    """Replace running statistics by those of a target's data, over all of it.

    Parameters
    ----------
    layers : mapping of str to BatchNorm
        Layers by name.
    forward : function
        Runs the model on a batch, and so calls each layer once.
    batches : iterable
        What `forward` takes, batch by batch; any sizes. Wrap it to show progress.

    Returns
    -------
    dict of str to ChannelStats
        What the running statistics were set to.

    Raises
    ------
    TypeError, ValueError
        `layers` is something else, or a layer has no running statistics.
    RuntimeError
        A layer was not called by `forward`, or there was no batch.

    Notes
    -----
    Adaptive batch normalization (Li et al., Revisiting batch normalization for practical domain adaptation, 2016). The
    layers run in training mode, so each sees what it will be trained on; the statistics of all batches are merged, so
    that batches of different sizes weigh as they should and the scatter of batch means is in the variance. The variance
    is unbiased if the layer's `unbiased` says so. Modes are put back; after an error, statistics too.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> from batchnorm.training import reestimate
    >>> layer = bn.BatchNorm(1).eval()
    >>> stats = reestimate({"bn": layer}, layer, [np.array([[1.0], [2.0]]), np.array([[6.0], [7.0], [9.0]])])
    >>> layer.running_mean.tolist(), layer.running_var.tolist(), layer.training
    ([5.0], [11.5], False)
    """
    checked = as_layers(layers)
    for name, layer in checked.items():
        if layer.running_mean is None:
            raise ValueError(f"layers: expected running statistics in each, got none in {name!r}")
    before = extract(checked, affine=False)
    modes = {name: layer.training for name, layer in checked.items()}
    merged = {name: ChannelStats() for name in checked}
    done = 0
    try:
        for layer in checked.values():
            layer.train()
        for batch in batches:
            for layer in checked.values():
                layer._pending = None
            forward(batch)
            for name, layer in checked.items():
                pending = layer._pending
                if pending is None or not isinstance(pending[1], SavedStatistics):
                    raise RuntimeError(f"forward: expected it to call every layer, got no call of {name!r}")
                merged[name].merge(pending[1].stats)
                layer._pending = None
            done += 1
        if not done:
            raise RuntimeError("batches: expected at least one, got none")
    except BaseException:
        transfer(before, checked, affine=False)
        raise
    finally:
        for name, layer in checked.items():
            layer._pending = None
            layer.train(modes[name])
    for name, layer in checked.items():
        assert layer.running_mean is not None and layer.running_var is not None
        assert layer.num_batches_tracked is not None
        update_running_stats(layer.running_mean, layer.running_var, merged[name], momentum=1.0, unbiased=layer.unbiased)
        layer.num_batches_tracked[()] = done
    return merged
