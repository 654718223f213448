"""The worked example of the literature, corrected: four values, one channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from oracle import Array
from tolerances import within

X = [0.8, 1.2, 0.9, 1.1]
XHAT = [-1.2649, 1.2649, -0.6325, 0.6325]
Y = [1.3675, 2.6325, 1.6838, 2.3162]  # weight 0.5, bias 2


@pytest.fixture(params=[(4, 1), (2, 1, 2), (1, 1, 2, 2)], ids=str)
def x(request: pytest.FixtureRequest, dtype: Any) -> Array:
    x: Array = np.array(X, dtype).reshape(request.param)
    return x


def test_statistics(isa: str, x: Array) -> None:
    stats = bn.channel_stats(x)
    assert stats.count.tolist() == [4]
    within("mean", stats.mean, np.array([1.0]), 1e-7)
    within("var", stats.var(), np.array([0.025]), 1e-7)
    within("unbiased", stats.var(ddof=1), np.array([0.1 / 3]), 1e-7)


def test_normalised(isa: str, x: Array) -> None:
    y, saved = bn.batch_norm_train(x, eps=0)
    within("xhat", y.ravel(), np.array(XHAT), 5e-5)
    within("var", saved.var, np.array([0.025]), 1e-7)


def test_scaled_and_shifted(isa: str, x: Array) -> None:
    weight, bias = np.array([0.5]), np.array([2.0])
    y, saved = bn.batch_norm_train(x, weight, bias, eps=0)
    within("y", y.ravel(), np.array(Y), 5e-5)
    within("y", bn.batch_norm_inference(x, saved.mean, saved.var, weight, bias, eps=0).ravel(), np.array(Y), 5e-5)
    within("x", bn.denormalize(y, saved.mean, saved.var, weight, bias, eps=0).ravel(), np.array(X), 1e-6)


def test_running_statistics(x: Array) -> None:
    mean, var = np.zeros(1), np.ones(1)
    bn.batch_norm_train(x, running_mean=mean, running_var=var)
    within("running_mean", mean, np.array([0.1]), 1e-8)
    within("running_var", var, np.array([0.9 + 0.1 * 0.1 / 3]), 1e-8)
