"""The functions as primitives of HIPS autograd, so that networks written in ``autograd.numpy`` train with them.

Needs the package ``autograd``: ``pip install 'batchnorm[autograd]'``.

Examples
--------
>>> import autograd.numpy as np
>>> from autograd import grad
>>> from batchnorm.autograd import batch_norm_train
>>> def loss(parameters, x):
...     return np.sum(batch_norm_train(x, parameters["weight"], parameters["bias"]) ** 2)
>>> x = np.array([[0.8], [1.2], [0.9], [1.1]])
>>> parameters = {"weight": np.ones(1), "bias": np.zeros(1)}
>>> gradients = grad(loss)(parameters, x)
>>> gradients["weight"].round(3).tolist(), abs(gradients["bias"]).round(6).tolist()
([7.997], [0.0])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import _backward, _forward
from ._extras import needs
from ._layer import BatchNorm
from ._saved import SavedStatistics

try:
    from autograd.core import defvjp_argnums
    from autograd.extend import primitive
except ImportError as error:
    raise ImportError(needs("batchnorm.autograd", "autograd", "autograd")) from error

__all__ = ["apply", "batch_norm_inference", "batch_norm_train"]


def batch_norm_train(x: Any, weight: Any = None, bias: Any = None, *, residual: Any = None, **options: Any) -> Any:
    """Normalize each channel by the statistics of this batch; differentiable in x, weight, bias and residual.

    Parameters
    ----------
    x : array_like, float32 or float64, at least 2 dimensions
        Batch, with C channels along ``axis``.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Scale and shift.
    residual : array_like, shape of x, optional
        Added before the activation.
    **options
        Those of `batchnorm.batch_norm_train`, but for ``out``; an activation "prelu" is refused, because autograd does
        not see its slopes. Running statistics are changed in place; no gradient flows through them.

    Returns
    -------
    ndarray, dtype and shape of x
        y.

    Raises
    ------
    TypeError, ValueError
        As `batchnorm.batch_norm_train`.

    Notes
    -----
    One call of `batchnorm.batch_norm_backward` gives all gradients. There is no second derivative.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from batchnorm.autograd import batch_norm_train
    >>> batch_norm_train(np.array([[1.0], [3.0]]), eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    _refuse(options)
    if residual is not None:
        options["keep_sign"] = True
    return _train(x, weight, bias, residual, _Saved(), partial(_forward.batch_norm_train, **options))


def batch_norm_inference(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    residual: Any = None,
    **options: Any,
) -> Any:
    """Normalize each channel by given statistics; differentiable in all arrays.

    Parameters
    ----------
    x : array_like, float32 or float64, at least 2 dimensions
        Batch, with C channels along ``axis``.
    running_mean, running_var : array_like, float32 or float64, shape (C,)
        Mean and variance.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Scale and shift.
    residual : array_like, shape of x, optional
        Added before the activation.
    **options
        Those of `batchnorm.batch_norm_inference`, but for ``out``; an activation "prelu" is refused.

    Returns
    -------
    ndarray, dtype and shape of x
        y.

    Raises
    ------
    TypeError, ValueError
        As `batchnorm.batch_norm_inference`.

    Notes
    -----
    One call of `batchnorm.batch_norm_inference_backward` gives all gradients. There is no second derivative.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from batchnorm.autograd import batch_norm_inference
    >>> batch_norm_inference(np.array([[1.0], [5.0]]), np.array([1.0]), np.array([4.0]), eps=0.0).tolist()
    [[0.0], [2.0]]
    """
    _refuse(options)
    return _inference(x, running_mean, running_var, weight, bias, residual, options)


def apply(layer: BatchNorm, x: Any, weight: Any = None, bias: Any = None, *, residual: Any = None) -> Any:
    """Run a layer on a batch, in its mode, with parameters that are differentiated.

    Parameters
    ----------
    layer : BatchNorm
        Gives the options and holds the running statistics, which training updates.
    x : array_like, float32 or float64, at least 2 dimensions
        Batch, with C channels along the layer's axis.
    weight, bias : array_like, shape (C,), optional
        Parameters in place of the layer's own, which are used, as constants, where these are omitted.
    residual : array_like, shape of x, optional
        Added before the layer's activation.

    Returns
    -------
    ndarray, dtype and shape of x
        y.

    Raises
    ------
    TypeError, ValueError
        As ``layer(x)``.

    Notes
    -----
    ``layer.backward`` has nothing to do with this: the gradients are autograd's.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import batchnorm as bn
    >>> from batchnorm.autograd import apply
    >>> layer = bn.BatchNorm(1, eps=0.0)
    >>> apply(layer, np.array([[1.0], [3.0]]), np.array([2.0])).tolist(), int(layer.num_batches_tracked)
    ([[-2.0], [2.0]], 1)
    """
    if not isinstance(layer, BatchNorm):
        raise TypeError(f"layer: expected a BatchNorm, got {type(layer).__name__}")
    weight = layer.weight if weight is None else weight
    bias = layer.bias if bias is None else bias
    activation: dict[str, Any] = {"activation": layer.activation}
    _refuse(activation)
    if layer.training or layer.running_mean is None:
        return _train(x, weight, bias, residual, _Saved(), partial(layer._normalize_batch, **activation))
    options = {
        **{name: getattr(layer, name) for name in ("eps", "axis", "num_threads", "flush_subnormals")},
        **activation,
    }
    return _inference(x, layer.running_mean, layer.running_var, weight, bias, residual, options)


class _Saved:
    """Where a forward leaves what its backward needs; autograd keeps the arguments of a call."""

    statistics: SavedStatistics


def _refuse(options: dict[str, Any]) -> None:
    if "out" in options:
        raise TypeError("out: expected to be left out, because autograd keeps every result")
    activation = options.get("activation")
    if isinstance(activation, tuple) and activation[:1] == ("prelu",):
        raise TypeError("activation: expected no 'prelu', because autograd does not see its slopes; use numpy.where")


# Arguments after the arrays are plain objects, which autograd passes on as they are.
@primitive
def _train(
    x: Any,
    weight: Any,
    bias: Any,
    residual: Any,
    saved: _Saved,
    forward: Callable[..., tuple[Any, SavedStatistics]],
) -> Any:
    y, saved.statistics = forward(x, weight, bias, residual=residual)
    return y


@primitive
def _inference(x: Any, mean: Any, var: Any, weight: Any, bias: Any, residual: Any, options: dict[str, Any]) -> Any:
    return _forward.batch_norm_inference(x, mean, var, weight, bias, residual=residual, **options)


def _in_dtypes_of(arguments: tuple[Any, ...], gradients: tuple[Any, ...]) -> tuple[Any, ...]:
    pairs = zip(arguments, gradients, strict=True)
    return tuple(None if a is None else np.asarray(g, np.asarray(a).dtype) for a, g in pairs)


# Primitives without a derivative: autograd says so to whoever asks for a second one. dy may have been promoted by what
# follows y.
@primitive
def _train_backward(dy: Any, x: Any, weight: Any, bias: Any, residual: Any, saved: SavedStatistics) -> tuple[Any, ...]:
    g = _backward.batch_norm_backward(np.asarray(dy, np.asarray(x).dtype), x, saved, weight)
    return _in_dtypes_of((x, weight, bias, residual), (g.dx, g.dweight, g.dbias, g.dresidual))


@primitive
def _inference_backward(
    dy: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, residual: Any, options: Any
) -> tuple[Any, ...]:
    dy = np.asarray(dy, np.asarray(x).dtype)
    g = _backward.batch_norm_inference_backward(dy, x, mean, var, weight, bias, residual=residual, **options)
    gradients = (g.dx, g.dmean, g.dvar, g.dweight, g.dbias, g.dresidual)
    return _in_dtypes_of((x, mean, var, weight, bias, residual), gradients)


def _train_vjp(argnums: Sequence[int], y: Any, args: tuple[Any, ...], _: Any) -> Callable[[Any], Any]:
    *arrays, saved, _forward = args

    def pull_back(dy: Any) -> list[Any]:
        gradients = _train_backward(dy, *arrays, saved.statistics)
        return [gradients[n] for n in argnums]

    return pull_back


def _inference_vjp(argnums: Sequence[int], y: Any, args: tuple[Any, ...], _: Any) -> Callable[[Any], Any]:
    def pull_back(dy: Any) -> list[Any]:
        gradients = _inference_backward(dy, *args)
        return [gradients[n] for n in argnums]

    return pull_back


defvjp_argnums(_train, _train_vjp)
defvjp_argnums(_inference, _inference_vjp)
