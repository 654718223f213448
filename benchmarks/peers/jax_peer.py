"""JAX on the CPU: the same formulas, compiled by jit."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from batchnorm.bench.jobs import EPS, Array, Data, Job
from batchnorm.bench.shapes import Case, Shape

from .calls import Calls


class Jax:
    """Fresh only: its arrays can't be written to. It keeps copies of the inputs, made before anything is timed."""

    name = "JAX"

    def calls(self, case: Case, data: Data, job: Job, out: Array) -> Calls:
        """Prepare a job; the checking call compiles it."""
        x, dy, weight, bias, mean, var = (
            jnp.asarray(a) for a in (data.x, data.dy, data.weight, data.bias, data.mean, data.var)
        )
        if job.name == "train":
            compiled, arguments = jax.jit(partial(_train, ax=data.ax)), [x, weight, bias]
        elif job.name == "inference":
            compiled, arguments = jax.jit(_inference), [x, mean, var, weight, bias]
        else:
            compiled, arguments = jax.jit(partial(_backward, ax=data.ax)), [dy, x, mean, var, weight]
        return Calls(
            fresh=lambda: jax.block_until_ready(compiled(*arguments)),
            arrays=lambda result: tuple(np.asarray(a) for a in result),
        )


def _train(x: Any, weight: Any, bias: Any, *, ax: Shape) -> tuple[Any, ...]:
    return _inference(x, x.mean(ax, keepdims=True), x.var(ax, keepdims=True), weight, bias)


def _inference(x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
    return ((x - mean) * jax.lax.rsqrt(var + EPS) * weight + bias,)


def _backward(dy: Any, x: Any, mean: Any, var: Any, weight: Any, *, ax: Shape) -> tuple[Any, ...]:
    n = x.size // mean.size
    rstd = jax.lax.rsqrt(var + EPS)
    xhat = (x - mean) * rstd
    db = dy.sum(ax, keepdims=True)
    dg = (dy * xhat).sum(ax, keepdims=True)
    return (dy - db / n - xhat * (dg / n)) * (weight * rstd), dg, db


def make(threads: int) -> Jax:
    """Return the peer on some threads."""
    # Read when the backend starts, at the first array; JAX has no other way to set the number of its threads.
    os.environ["NPROC"] = str(threads)
    jax.config.update("jax_platforms", "cpu")
    return Jax()
