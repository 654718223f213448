"""Clipping of weights, and pruning of channels by the scale of batch normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from .._checks import as_array, as_int
from .._layer import BatchNorm
from ._checks import FloatArray, as_fraction, as_parameters, as_positive, as_rate, fitting


def clip_by_value(parameters: Mapping[str, FloatArray], limit: float) -> None:
    """Move what lies outside of -limit .. limit to the nearer end, in place.

    Parameters
    ----------
    parameters : mapping of str to ndarray, float32 or float64
        Weights, or gradients.
    limit : float
        Largest absolute value, > 0.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value; nothing has changed then.

    Notes
    -----
    NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import clip_by_value
    >>> weights = {"w": np.array([-3.0, 0.5, 2.0])}
    >>> clip_by_value(weights, 1.0)
    >>> weights["w"].tolist()
    [-1.0, 0.5, 1.0]
    """
    known, most = as_parameters("parameters", parameters), as_positive("limit", limit)
    for array in known.values():
        np.clip(array, -most, most, out=array)


def clip_by_norm(parameters: Mapping[str, FloatArray], limit: float, *, together: bool = False) -> dict[str, float]:
    """Scale arrays whose Euclidean norm is over a limit down to it, in place.

    Parameters
    ----------
    parameters : mapping of str to ndarray, float32 or float64
        Weights, or gradients.
    limit : float
        Largest norm, > 0.
    together : bool, default False
        Whether to scale all arrays by one factor, by the norm of them all; otherwise each by its own.

    Returns
    -------
    dict of str to float
        Norm of each array before.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value, or a norm is not finite; nothing has changed then.

    Notes
    -----
    Pascanu et al., On the difficulty of training recurrent neural networks, 2013, Algorithm 1::

        array *= min(1, limit / norm)

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import clip_by_norm
    >>> weights = {"w": np.array([3.0, 4.0])}
    >>> clip_by_norm(weights, 1.0)
    {'w': 5.0}
    >>> weights["w"].round(6).tolist()
    [0.6, 0.8]
    """
    known, most = as_parameters("parameters", parameters), as_positive("limit", limit)
    norms = {name: float(np.linalg.norm(array.astype(np.float64).ravel())) for name, array in known.items()}
    if bad := [name for name, norm in norms.items() if not np.isfinite(norm)]:
        raise ValueError(f"parameters: expected finite norms, got {norms[bad[0]]} of {bad[0]!r}")
    whole = float(np.linalg.norm(list(norms.values()))) if together else 0.0
    for name, array in known.items():
        norm = whole if together else norms[name]
        if norm > most:
            array *= most / norm
    return norms


def add_l1(gradients: Mapping[str, FloatArray], weights: Mapping[str, FloatArray], strength: float) -> None:
    """Add the gradient of an L1 penalty on weights to their gradients, in place.

    Parameters
    ----------
    gradients : mapping of str to ndarray, float32 or float64
        Gradients, those of `weights` among them.
    weights : mapping of str to ndarray
        What is drawn to 0, the weights of batch-norm layers.
    strength : float
        Factor of the penalty, >= 0.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type, a weight has no gradient or one of another shape; nothing has changed then.

    Notes
    -----
    Liu et al., Learning efficient convolutional networks through network slimming, 2017, equation 1: the penalty is
    ``strength * sum(abs(weight))``, its subgradient ``strength * sign(weight)``.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import add_l1
    >>> gradients = {"bn.weight": np.array([1.0, 1.0])}
    >>> add_l1(gradients, {"bn.weight": np.array([2.0, -3.0])}, 0.5)
    >>> gradients["bn.weight"].tolist()
    [1.5, 0.5]
    """
    known, factor = as_parameters("gradients", gradients), as_rate("strength", strength)
    targets = {name: known[name] for name in weights if name in known} if isinstance(weights, Mapping) else known
    fitted = fitting("weights", weights, targets)
    for name, weight in fitted.items():
        known[name] += (factor * np.sign(weight)).astype(known[name].dtype)


def kept_channels(
    weights: Mapping[str, FloatArray], fraction: float, *, least: int = 1
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Choose the channels that are kept when a fraction of all is pruned, by the size of their scale.

    Parameters
    ----------
    weights : mapping of str to ndarray, shape (C,)
        Weights of batch-norm layers, finite.
    fraction : float
        Share of all channels that is pruned, 0 <= fraction < 1.
    least : int, default 1
        Number of channels that each layer keeps at least, >= 0; where it binds, fewer are pruned.

    Returns
    -------
    dict of str to ndarray, int64
        Indices of the channels that are kept, ascending.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type, shape or value.

    Notes
    -----
    Liu et al. (2017), section 3: one threshold over all layers. Of equal sizes the first are pruned first.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import kept_channels
    >>> kept = kept_channels({"bn1": np.array([0.1, -2.0, 1.0]), "bn2": np.array([0.2, 0.3])}, 0.4)
    >>> {name: indices.tolist() for name, indices in kept.items()}
    {'bn1': [1, 2], 'bn2': [1]}
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}")
    share, fewest = as_fraction("fraction", fraction), as_int("least", least, 0)
    sizes = {}
    for name, weight in weights.items():
        array = as_array(f"weights[{name!r}]", weight)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"weights[{name!r}]: expected real numbers, got {array.dtype}")
        if array.ndim != 1:
            raise ValueError(f"weights[{name!r}]: expected shape (C,), got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"weights[{name!r}]: expected finite values, got {array}")
        sizes[name] = np.abs(array.astype(np.float64))
    total = sum(size.size for size in sizes.values())
    order = np.argsort(np.concatenate([*sizes.values(), np.empty(0)]), kind="stable")
    pruned = np.zeros(total, bool)
    pruned[order[: round(share * total)]] = True
    kept, start = {}, 0
    for name, size in sizes.items():
        mine = ~pruned[start : start + size.size]
        mine[np.argsort(size, kind="stable")[max(size.size - fewest, 0) :]] = True
        kept[name] = np.flatnonzero(mine)
        start += size.size
    return kept


def take_channels(weight: FloatArray, kept: Any, axis: int) -> FloatArray:
    """Copy the channels of a neighbouring weight that are kept.

    Parameters
    ----------
    weight : ndarray
        Weight of the layer before, along its output axis, or of the layer after, along its input axis.
    kept : array_like of int
        Indices, as `kept_channels` gives them.
    axis : int
        Axis of the channels.

    Returns
    -------
    ndarray
        A copy.

    Raises
    ------
    TypeError, ValueError
        `kept` are no distinct indices of that axis, or there is no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import take_channels
    >>> take_channels(np.arange(6.0).reshape(2, 3), [0, 2], axis=1).tolist()
    [[0.0, 2.0], [3.0, 5.0]]
    """
    array = as_array("weight", weight)
    where = _core.check_axis(axis, array.shape)
    return np.take(array, _indices(kept, array.shape[where]), axis=where)


def _indices(kept: object, channels: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    indices = as_array("kept", kept)
    if indices.shape == (0,):  # of an empty list, whose dtype says nothing
        return np.empty(0, np.int64)
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise TypeError(f"kept: expected a list of indices, got shape {indices.shape} of {indices.dtype}")
    if indices.size and not (indices.min() >= 0 and indices.max() < channels):
        raise ValueError(f"kept: expected indices from 0 to {channels - 1}, got {indices}")
    if np.unique(indices).size != indices.size:
        raise ValueError(f"kept: expected each index once, got {indices}")
    return indices.astype(np.int64)


def take_layer(layer: BatchNorm, kept: Any) -> BatchNorm:
    """Copy a layer with the channels that are kept.

    Parameters
    ----------
    layer : BatchNorm
        The layer, which stays as it is.
    kept : array_like of int
        Indices, as `kept_channels` gives them; at least one.

    Returns
    -------
    BatchNorm
        A layer of the same options and mode, with parameters, statistics and counter of those channels.

    Raises
    ------
    TypeError, ValueError
        `layer` is none, or `kept` are no distinct indices of its channels.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> from batchnorm.training import take_layer
    >>> layer = bn.BatchNorm(3)
    >>> layer.running_mean[:] = [1, 2, 3]
    >>> take_layer(layer, [0, 2]).running_mean.tolist()
    [1.0, 3.0]
    """
    if not isinstance(layer, BatchNorm):
        raise TypeError(f"layer: expected a BatchNorm, got {type(layer).__name__}")
    indices = _indices(kept, layer.num_features)
    small = BatchNorm(
        indices.size,
        layer.eps,
        layer.momentum,
        layer.affine,
        layer.track_running_stats,
        weight=layer.weight is not None,
        bias=layer.bias is not None,
        axis=layer.axis,
        momentum_of=layer.momentum_of,
        unbiased=layer.unbiased,
        on_single=layer.on_single,
        dtype=layer.dtype,
        num_threads=layer.num_threads,
    )
    state = layer.state_dict()
    small.load_state_dict({name: array[indices] if array.ndim else array for name, array in state.items()})
    return small.train(layer.training)
