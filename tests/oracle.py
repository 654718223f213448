"""Batch normalization in plain NumPy: two passes, float64 (long double for float64 input). Nobody optimises this."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


class Forward(NamedTuple):
    y: Array
    mean: Array
    var: Array
    rstd: Array


class Backward(NamedTuple):
    dx: Array
    dweight: Array
    dbias: Array
    dmean: Array | None = None
    dvar: Array | None = None


def wide(a: Any) -> Array:
    """In float64, or in long double if it is float64 already."""
    return np.asarray(a, np.longdouble if np.asarray(a).dtype in (np.float64, np.longdouble) else np.float64)


def along(v: Any, x: Array, axis: int) -> Array:
    """(C,) values, shaped to broadcast along the channel axis of x, in the oracle's type for x."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.asarray(v).astype(wide(x[:0]).dtype).reshape(shape)


def channels(a: Array, axis: int) -> Array:
    """(C, count), contiguous."""
    c = a.shape[axis]
    return np.ascontiguousarray(np.moveaxis(a, axis, 0)).reshape(c, a.size // max(c, 1))


def moments(x: Array, axis: int = 1) -> tuple[int, Array, Array]:
    """(count, mean, m2) in long double whatever x is: statistics are held to 1e-14, more than float64 sums give."""
    values = channels(np.asarray(x), axis).astype(np.longdouble)
    count = values.shape[1]
    if not count:
        return 0, np.full(len(values), np.nan), np.zeros(len(values))
    mean = values[:, :1] + (values - values[:, :1]).mean(axis=1, keepdims=True)  # a constant's mean is that constant
    return count, mean[:, 0], ((values - mean) ** 2).sum(axis=1)


def rsqrt(var: Any, eps: float) -> Array:
    """1 / sqrt(var + eps), and 0 where that is 0."""
    v = wide(var) + eps
    return np.where(v == 0, 0, 1 / np.sqrt(np.where(v == 0, 1, v)))


def activated(v: Array, slope: Any) -> Array:
    """v where it is positive, v * slope elsewhere: ReLU, leaky ReLU, PReLU. NaN stays, and infinity times 0 is 0."""
    v, slope = np.asarray(v), np.broadcast_to(slope, np.shape(v))
    with np.errstate(invalid="ignore"):
        return np.where(v <= 0, np.where(slope == 0, 0, v * slope), v)


def taken_back(dy: Array, side: Array, slope: Any) -> Array:
    """dy back through `activated`: `side` has the sign of the value before it."""
    g = wide(dy)
    return np.where(np.asarray(side) <= 0, g * slope, g)


def inference(x: Array, mean: Any, var: Any, weight: Any = 1, bias: Any = 0, eps: float = 1e-5, axis: int = 1) -> Array:
    c = np.ones(x.shape[axis])
    xhat = (wide(x) - along(mean, x, axis)) * along(rsqrt(np.asarray(var).astype(wide(x[:0]).dtype), eps), x, axis)
    return xhat * along(c * weight, x, axis) + along(c * bias, x, axis)


def train(x: Array, weight: Any = 1, bias: Any = 0, eps: float = 1e-5, axis: int = 1) -> Forward:
    count, mean, m2 = moments(x, axis)
    var = m2 / count if count else np.full(x.shape[axis], np.nan)
    return Forward(inference(x, mean, var, weight, bias, eps, axis), mean, var, rsqrt(var, eps))


def inference_backward(
    dy: Array, x: Array, mean: Any, var: Any, weight: Any = 1, eps: float = 1e-5, axis: int = 1
) -> Backward:
    """The statistics are arguments: y = (x - mean) * rstd * weight + bias."""
    g, rstd = wide(dy), rsqrt(np.asarray(var).astype(wide(x[:0]).dtype), eps)
    scale = rstd * weight
    dbias, dweight = channels(g, axis).sum(1), channels(g * inference(x, mean, var, eps=eps, axis=axis), axis).sum(1)
    return Backward(g * along(scale, x, axis), dweight, dbias, -scale * dbias, -scale * rstd * dweight / 2)


def backward(dy: Array, x: Array, weight: Any = 1, eps: float = 1e-5, axis: int = 1) -> Backward:
    """The statistics are functions of x."""
    g, n = wide(dy), max(moments(x, axis)[0], 1)
    y, _, _, rstd = train(x, eps=eps, axis=axis)
    dbias, dweight = channels(g, axis).sum(1), channels(g * y, axis).sum(1)
    dx = along(rstd * weight, x, axis) * (g - along(dbias / n, x, axis) - y * along(dweight / n, x, axis))
    return Backward(dx, dweight, dbias)


def denormalize(
    y: Array, mean: Any, var: Any, weight: Any = 1, bias: Any = 0, eps: float = 1e-5, axis: int = 1
) -> Array:
    c = np.ones(y.shape[axis])
    std = np.sqrt(np.asarray(var).astype(wide(y[:0]).dtype) + eps)
    x = (wide(y) - along(c * bias, y, axis)) / along(c * weight, y, axis) * along(std, y, axis)
    return x + along(mean, y, axis)
