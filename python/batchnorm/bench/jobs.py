"""The three jobs, as one writes them in NumPy and as batchnorm does them.

The NumPy formulas are the yardstick, so they are written out once, plainly, and work for any floating dtype: the
agreement check runs the same functions in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import batchnorm as bn

from .shapes import Case, Shape

Array: TypeAlias = NDArray[np.floating[Any]]
Arrays: TypeAlias = tuple[Array, ...]

EPS = 1e-5


@dataclass(frozen=True)
class Data:
    """Arrays of one case. Parameters and statistics have the shape that broadcasts against x."""

    x: Array
    dy: Array
    weight: Array
    bias: Array
    mean: Array
    var: Array
    ax: Shape


def numpy_train(d: Data) -> Arrays:
    """Return y = (x - mean) / sqrt(var + eps) * weight + bias, with the mean and variance of x."""
    x, g, b, ax, eps = d.x, d.weight, d.bias, d.ax, EPS
    m = x.mean(ax, keepdims=True)
    v = x.var(ax, keepdims=True)
    return ((x - m) / np.sqrt(v + eps) * g + b,)


def numpy_inference(d: Data) -> Arrays:
    """Return y by the last line of the training formula, with the mean and variance given."""
    x, m, v, g, b, eps = d.x, d.mean, d.var, d.weight, d.bias, EPS
    return ((x - m) / np.sqrt(v + eps) * g + b,)


def numpy_inference_folded(d: Data) -> Arrays:
    """Return the same with everything that is constant per channel folded into one scale and one shift."""
    scale = d.weight / np.sqrt(d.var + EPS)
    return (d.x * scale + (d.bias - d.mean * scale),)


def numpy_backward(d: Data) -> Arrays:
    """Return dx, dweight and dbias, with the mean and variance kept from the forward."""
    x, dy, m, v, g, ax, eps = d.x, d.dy, d.mean, d.var, d.weight, d.ax, EPS
    n = x.size // m.size
    rstd = 1 / np.sqrt(v + eps)
    xhat = (x - m) * rstd
    db = dy.sum(ax, keepdims=True)
    dg = (dy * xhat).sum(ax, keepdims=True)
    dx = (dy - db / n - xhat * (dg / n)) * (g * rstd)
    return dx, dg, db


@dataclass(frozen=True)
class Job:
    """A job: NumPy's callable, ours into a given array or (None) a fresh one, and what else NumPy users write."""

    name: str
    numpy: Callable[[], Arrays]
    ours: Callable[[Array | None], Arrays]
    folded: Callable[[], Arrays] | None = None


def jobs(case: Case, d: Data, out: Array) -> list[Job]:
    """Return the three jobs on one case; out is scratch here."""
    weight, bias, mean, var = (a.reshape(-1) for a in (d.weight, d.bias, d.mean, d.var))
    _, saved = bn.batch_norm_train(d.x, weight, bias, on_single="allow", eps=EPS, axis=case.axis, out=out)

    def train(out: Array | None) -> Arrays:
        y, _ = bn.batch_norm_train(d.x, weight, bias, on_single="allow", eps=EPS, axis=case.axis, out=out)
        return (y,)

    def inference(out: Array | None) -> Arrays:
        return (bn.batch_norm_inference(d.x, mean, var, weight, bias, eps=EPS, axis=case.axis, out=out),)

    def backward(out: Array | None) -> Arrays:
        gradients = bn.batch_norm_backward(d.dy, d.x, saved, out=out)
        assert gradients.dweight is not None
        assert gradients.dbias is not None
        return gradients.dx, gradients.dweight, gradients.dbias

    return [
        Job("train", lambda: numpy_train(d), train),
        Job("inference", lambda: numpy_inference(d), inference, lambda: numpy_inference_folded(d)),
        Job("backward", lambda: numpy_backward(d), backward),
    ]


class Workspace:
    """Three flat buffers that every case is laid over, so that a run needs no more memory than its largest array."""

    def __init__(self, cases: list[Case]) -> None:
        size = max(case.size for case in cases)
        self._random = np.random.default_rng(0)
        self._x = np.empty(size, np.float32)
        self._dy = self._random.standard_normal(size, np.float32)
        self._out = np.empty(size, np.float32)

    def lay_out(self, case: Case, fill: Callable[[Array], None] | None = None) -> tuple[Data, Array]:
        """Return the data of a case, and its out. x comes from fill, or is noise whose mean differs by channel."""
        shape = [1] * len(case.shape)
        shape[case.axis] = case.channels
        x, dy, out = (buffer[: case.size].reshape(case.shape) for buffer in (self._x, self._dy, self._out))
        if fill is None:
            # dy backwards: noise that has nothing to do with dy, without a fourth buffer.
            np.add(dy[(slice(None, None, -1),) * dy.ndim], self._draw(1, 3, shape), out=x)
        else:
            fill(x)
        stats = bn.channel_stats(x, axis=case.axis)
        mean, var = (a.astype(np.float32).reshape(shape) for a in (stats.mean, stats.var()))
        return Data(x, dy, self._draw(0.5, 2, shape), self._draw(-1, 1, shape), mean, var, case.reduced), out

    def _draw(self, low: float, high: float, shape: list[int]) -> Array:
        return self._random.uniform(low, high, shape).astype(np.float32)
