"""More than 2**31 elements, and broadcast views larger than memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import batchnorm as bn
import oracle
from tolerances import F4, TABLE, within

GIB = 2**30


def need_memory(gib: float) -> None:
    """Skip unless so much is free."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        pytest.skip(f"needs {gib} GiB of memory, and this system does not tell how much is free")
    match = re.search(r"MemAvailable:\s+(\d+) kB", info.read_text())
    free = int(match[1]) * 1024 / GIB if match else 0.0
    if free < gib:
        pytest.skip(f"needs {gib} GiB of memory, {free:.1f} are free")


@pytest.mark.no_sanitizer
def test_more_than_2_to_the_31_elements() -> None:
    """In place. Channel c holds 0 .. 20479, each as often, times c + 1: closed forms for mean, variance and y."""
    n, c, side, levels = 1025, 2, 1024, 4096
    need_memory(10)
    x = np.empty((n, c, side, side), np.float32)
    assert x.size > 2**31
    plane = (np.arange(side * side, dtype=np.float32) % levels).reshape(side, side)
    for i in range(n):
        for k in range(c):
            np.multiply(plane + levels * (i % 5), k + 1, out=x[i, k])
    scale = np.arange(1, c + 1)
    count = 5 * levels
    mean, var = scale * (count - 1) / 2, scale**2 * (count**2 - 1) / 12
    weight, bias = np.array([1.5, -2.0]), np.array([0.25, 3.0])
    running_mean, running_var = np.zeros(c), np.ones(c)
    y, saved = bn.batch_norm_train(
        x, weight, bias, running_mean=running_mean, running_var=running_var, momentum=1.0, unbiased=False, out=x
    )
    assert y is x
    assert saved.count.tolist() == [n * side * side] * c
    within("mean", saved.mean, mean, TABLE["mean"][F4] * np.maximum(mean, np.sqrt(var)))
    within("var", saved.var, var, TABLE["var"][F4] * var)
    within("running_var", running_var, var, TABLE["var"][F4] * var)
    rng = np.random.default_rng(0)
    at = [tuple(rng.integers(0, (n, c, side, side))) for _ in range(10000)]
    at += [(0, 0, 0, 0), (n - 1, c - 1, side - 1, side - 1), (n - 1, 0, 0, 0), (1023, 1, 1023, 1023), (1024, 0, 0, 0)]
    i, k, row, column = np.array(at).T
    values = ((row * side + column) % levels + levels * (i % 5)) * (k + 1.0)
    shift = bias[k]
    want = (values - mean[k]) / np.sqrt(var[k] + 1e-5) * weight[k] + shift
    size = np.maximum(np.maximum(1, np.abs(want)), np.maximum(np.abs(shift), np.abs(want - shift)))
    within("y", y[i, k, row, column].astype(np.float64), want, TABLE["y"][F4] * size)


def test_a_broadcast_view_of_2_to_the_32_elements(dtype: type[np.generic]) -> None:
    """16 or 32 GB that are nowhere: the batch axis has stride 0."""
    one = np.random.default_rng(0).normal(3, 1, (1, 16, 2048)).astype(dtype)
    times = 2**17
    stats = bn.channel_stats(np.broadcast_to(one, (times, 16, 2048)))
    count, mean, m2 = oracle.moments(one)
    assert stats.count.tolist() == [count * times] * 16
    row = TABLE["stats"][F4]
    within("mean", stats.mean, mean, row * np.abs(mean))
    within("m2", stats.m2, m2 * times, 10 * row * m2 * times)


def test_a_view_that_repeats_its_inner_axis(isa: str, dtype: type[np.generic]) -> None:
    """Runs that vectors cannot read are gathered."""
    one = np.random.default_rng(0).normal(3, 1, (64, 16, 1)).astype(dtype)
    times = 2**14
    stats = bn.channel_stats(np.broadcast_to(one, (64, 16, times)))
    count, mean, m2 = oracle.moments(one)
    assert stats.count.tolist() == [count * times] * 16
    row = TABLE["stats"][F4]
    within("mean", stats.mean, mean, row * np.abs(mean))
    within("m2", stats.m2, m2 * times, 10 * row * m2 * times)
