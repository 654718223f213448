"""What other frameworks mean by batch normalization, as options."""

from __future__ import annotations

from typing import Literal, TypedDict


class Convention(TypedDict):
    """Options in which frameworks differ, as keywords of `BatchNorm` and `batch_norm_train`.

    Attributes
    ----------
    eps : float
    momentum : float
    momentum_of : {"new", "old"}
    unbiased : bool
    """

    eps: float
    momentum: float
    momentum_of: Literal["new", "old"]
    unbiased: bool


# Defaults of: torch.nn.BatchNorm2d; keras.layers.BatchNormalization (3.x); flax.linen.BatchNorm; ONNX's operator
# BatchNormalization (opset 15); chainer.links.BatchNormalization; mxnet.gluon.nn.BatchNorm.
_CONVENTIONS: dict[str, Convention] = {
    "torch": {"eps": 1e-5, "momentum": 0.1, "momentum_of": "new", "unbiased": True},
    "keras": {"eps": 1e-3, "momentum": 0.99, "momentum_of": "old", "unbiased": False},
    "flax": {"eps": 1e-5, "momentum": 0.99, "momentum_of": "old", "unbiased": False},
    "onnx": {"eps": 1e-5, "momentum": 0.9, "momentum_of": "old", "unbiased": False},
    "chainer": {"eps": 2e-5, "momentum": 0.9, "momentum_of": "old", "unbiased": True},
    "mxnet": {"eps": 1e-5, "momentum": 0.9, "momentum_of": "old", "unbiased": False},
}


def convention(name: str) -> Convention:
    """Return the defaults of another framework, as keywords of `BatchNorm` and `batch_norm_train`.

    Parameters
    ----------
    name : {"torch", "keras", "flax", "onnx", "chainer", "mxnet"}
        The framework.

    Returns
    -------
    dict
        eps, momentum, momentum_of and unbiased; a new one.

    Raises
    ------
    TypeError
        `name` is not a str.
    ValueError
        There is no such framework here.

    Notes
    -----
    ======== ===== ======== =============== ==================
    name     eps   momentum weighs          running variance
    ======== ===== ======== =============== ==================
    torch    1e-5  0.1      the new value   unbiased
    keras    1e-3  0.99     the old value   biased
    flax     1e-5  0.99     the old value   biased
    onnx     1e-5  0.9      the old value   biased
    chainer  2e-5  0.9      the old value   unbiased
    mxnet    1e-5  0.9      the old value   biased
    ======== ===== ======== =============== ==================

    Everywhere the batch itself is normalized by the biased variance. The channel axis is the last one in Keras and
    Flax: give ``axis=-1``.

    Examples
    --------
    >>> import batchnorm as bn
    >>> bn.convention("keras")
    {'eps': 0.001, 'momentum': 0.99, 'momentum_of': 'old', 'unbiased': False}
    >>> bn.BatchNorm(64, axis=-1, **bn.convention("keras")).eps
    0.001
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a str, got {type(name).__name__}")
    if name not in _CONVENTIONS:
        raise ValueError(f"name: expected one of {', '.join(map(repr, _CONVENTIONS))}, got {name!r}")
    return _CONVENTIONS[name].copy()
