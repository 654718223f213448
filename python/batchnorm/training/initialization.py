"""Initial weights. Each function takes a `numpy.random.Generator` and a shape, and returns a new array.

A layout names the axes of a weight: "i" its inputs, "o" its outputs, any other letter an axis of the kernel. "io" is a
dense layer as in ``x @ w``, "oi" as PyTorch stores it, "oihw" and "hwio" are convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import _core
from .._checks import as_int, float_dtype, require_writeable
from .._layer import BatchNorm
from ._checks import FloatArray, as_positive, as_rate

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


def fans(shape: Sequence[int], layout: str = "io") -> tuple[int, int]:
    """Count what one output sums over, and what one input goes to.

    Parameters
    ----------
    shape : sequence of int
        Shape of the weight.
    layout : str, default "io"
        A letter per axis, with "i" and "o" among them.

    Returns
    -------
    fan_in, fan_out : int
        Inputs, and outputs, times the size of the kernel.

    Raises
    ------
    TypeError, ValueError
        The layout doesn't fit the shape, or has not one "i" and one "o".

    Examples
    --------
    >>> from batchnorm.training.initialization import fans
    >>> fans((64, 3, 5, 5), "oihw"), fans((5, 5, 3, 64), "hwio"), fans((784, 100))
    ((75, 1600), (75, 1600), (784, 100))
    """
    sizes = _shape(shape)
    if not isinstance(layout, str):
        raise TypeError(f"layout: expected a str, got {type(layout).__name__}")
    if len(layout) != len(sizes) or layout.count("i") != 1 or layout.count("o") != 1:
        raise ValueError(f"layout: expected a letter per axis of {sizes}, one i and one o among them, got {layout!r}")
    kernel = math.prod(size for size, letter in zip(sizes, layout, strict=True) if letter not in "io")
    return sizes[layout.index("i")] * kernel, sizes[layout.index("o")] * kernel


def normal(
    rng: np.random.Generator, shape: Sequence[int], std: float = 0.01, *, dtype: DTypeLike = np.float32
) -> FloatArray:
    """Draw from a normal distribution around 0.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : sequence of int
        Shape of the weight.
    std : float, default 0.01
        Standard deviation, >= 0.
    dtype : float32 or float64, default float32
        Of the weight.

    Returns
    -------
    ndarray
        The weight.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training.initialization import normal
    >>> bool(abs(normal(np.random.default_rng(0), (100, 100)).std() - 0.01) < 1e-3)
    True
    """
    deviation, kind = as_rate("std", std), float_dtype(dtype)
    return _generator(rng).normal(0.0, deviation, _shape(shape)).astype(kind)


def uniform(
    rng: np.random.Generator,
    shape: Sequence[int],
    k: float = 1.0,
    *,
    layout: str = "io",
    dtype: DTypeLike = np.float32,
) -> FloatArray:
    """Draw evenly from ``-k / sqrt(n) .. k / sqrt(n)``, with n the fan-in.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : sequence of int
        Shape of the weight.
    k : float, default 1.0
        Width, >= 0.
    layout : str, default "io"
        Axes of the weight, see `fans`.
    dtype : float32 or float64, default float32
        Of the weight.

    Returns
    -------
    ndarray
        The weight.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value, or the fan-in is 0.

    Notes
    -----
    LeCun et al., Efficient BackProp, 1998, section 4.6, where k is sqrt(3).

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training.initialization import uniform
    >>> bool(abs(uniform(np.random.default_rng(0), (100, 10))).max() <= 0.1)
    True
    """
    n, _ = _positive_fans(shape, layout)
    return _spread(rng, shape, as_rate("k", k) / math.sqrt(3 * n), "uniform", dtype)


def xavier(
    rng: np.random.Generator,
    shape: Sequence[int],
    *,
    layout: str = "io",
    gain: float = 1.0,
    distribution: Literal["uniform", "normal"] = "uniform",
    dtype: DTypeLike = np.float32,
) -> FloatArray:
    """Draw with the variance ``gain**2 * 2 / (fan_in + fan_out)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : sequence of int
        Shape of the weight.
    layout : str, default "io"
        Axes of the weight, see `fans`.
    gain : float, default 1.0
        Factor of the standard deviation, > 0; 5/3 is usual before tanh.
    distribution : {"uniform", "normal"}, default "uniform"
        What to draw from, around 0.
    dtype : float32 or float64, default float32
        Of the weight.

    Returns
    -------
    ndarray
        The weight.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value, or a fan is 0.

    Notes
    -----
    Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, equation 16.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training.initialization import xavier
    >>> bool(abs(xavier(np.random.default_rng(0), (100, 50))).max() <= 0.2)
    True
    """
    fan_in, fan_out = _positive_fans(shape, layout)
    std = as_positive("gain", gain) * math.sqrt(2 / (fan_in + fan_out))
    return _spread(rng, shape, std, distribution, dtype)


def he(
    rng: np.random.Generator,
    shape: Sequence[int],
    *,
    layout: str = "io",
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    gain: float = math.sqrt(2),
    distribution: Literal["uniform", "normal"] = "normal",
    dtype: DTypeLike = np.float32,
) -> FloatArray:
    """Draw with the variance ``gain**2 / fan``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : sequence of int
        Shape of the weight.
    layout : str, default "io"
        Axes of the weight, see `fans`.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Which fan: the one keeps the variance of the forward, the other that of the backward.
    gain : float, default sqrt(2)
        Factor of the standard deviation, > 0; sqrt(2) is right before ReLU.
    distribution : {"uniform", "normal"}, default "normal"
        What to draw from, around 0.
    dtype : float32 or float64, default float32
        Of the weight.

    Returns
    -------
    ndarray
        The weight.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or value, or the fan is 0.

    Notes
    -----
    He et al., Delving deep into rectifiers, 2015, equations 10 and 14.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training.initialization import he
    >>> w = he(np.random.default_rng(0), (3, 3, 64, 128), layout="hwio")
    >>> bool(abs(w.std() / np.sqrt(2 / (9 * 64)) - 1) < 0.01)
    True
    """
    which = _core.check_choice(mode, "mode", ["fan_in", "fan_out"])
    fan = _positive_fans(shape, layout)[which == "fan_out"]
    return _spread(rng, shape, as_positive("gain", gain) / math.sqrt(fan), distribution, dtype)


def zero_init(layer: BatchNorm) -> None:
    """Set a layer's weight to 0, so that the residual block that it ends begins as the identity.

    Parameters
    ----------
    layer : BatchNorm
        Last layer of a residual branch; its weight is changed in place.

    Raises
    ------
    TypeError, ValueError
        `layer` is none, has no weight, or a read-only one.

    Notes
    -----
    Goyal et al., Accurate, large minibatch SGD, 2017, section 5.1.

    Examples
    --------
    >>> import batchnorm as bn
    >>> from batchnorm.training.initialization import zero_init
    >>> layer = bn.BatchNorm(2)
    >>> zero_init(layer)
    >>> layer.weight.tolist()
    [0.0, 0.0]
    """
    if not isinstance(layer, BatchNorm):
        raise TypeError(f"layer: expected a BatchNorm, got {type(layer).__name__}")
    if layer.weight is None:
        raise ValueError("layer: expected one with a weight, got one without")
    require_writeable("weight", layer.weight)
    layer.weight[...] = 0


def _generator(rng: object) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")
    return rng


def _shape(shape: object) -> tuple[int, ...]:
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
        raise TypeError(f"shape: expected a sequence of int, got {type(shape).__name__}")
    sizes = tuple(as_int("shape", size) for size in shape)
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape: expected sizes >= 0, got {sizes}")
    return sizes


def _positive_fans(shape: Sequence[int], layout: str) -> tuple[int, int]:
    found = fans(shape, layout)
    if 0 in found:
        raise ValueError(f"shape: expected inputs and outputs, got none in {tuple(shape)} as {layout!r}")
    return found


def _spread(rng: object, shape: Sequence[int], std: float, distribution: str, dtype: Any) -> FloatArray:
    """Draw around 0 with a standard deviation; an even distribution on -a .. a has a / sqrt(3)."""
    kind = float_dtype(dtype)
    if _core.check_choice(distribution, "distribution", ["uniform", "normal"]) == "normal":
        drawn = _generator(rng).normal(0.0, std, _shape(shape))
    else:
        drawn = _generator(rng).uniform(-math.sqrt(3) * std, math.sqrt(3) * std, _shape(shape))
    return drawn.astype(kind)
