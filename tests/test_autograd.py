"""The primitives of autograd: gradients by finite differences, layers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import batchnorm as bn

anp = pytest.importorskip("autograd.numpy", reason="needs the extra [autograd]")

from autograd import elementwise_grad, grad  # noqa: E402
from autograd.test_util import check_grads  # noqa: E402

from batchnorm.autograd import apply, batch_norm_inference, batch_norm_train  # noqa: E402

RNG = np.random.default_rng(0)
X, WEIGHT, BIAS, MEAN = RNG.normal(1, 2, (6, 3, 4)), RNG.normal(size=3), RNG.normal(size=3), RNG.normal(size=3)
VAR = RNG.uniform(0.5, 2, 3)


def layer(training: bool) -> bn.BatchNorm:
    made = bn.BatchNorm(3, dtype=np.float64).train(training)
    made.weight[:], made.running_mean[:], made.running_var[:] = WEIGHT, MEAN, VAR  # type: ignore[index]
    return made


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "train": (batch_norm_train, (X, WEIGHT, BIAS)),
    "train-weight": (batch_norm_train, (X, WEIGHT)),
    "train-x": (batch_norm_train, (X,)),
    "train-bias": (lambda x, bias: batch_norm_train(x, None, bias, eps=0.1), (X, BIAS)),
    "train-last": (lambda x, w: batch_norm_train(x, w, axis=-1), (X, RNG.normal(size=4))),
    "train-parameters": (lambda w, b: batch_norm_train(X, w, b), (WEIGHT, BIAS)),
    "inference": (batch_norm_inference, (X, MEAN, VAR, WEIGHT, BIAS)),
    "inference-x": (lambda x: batch_norm_inference(x, MEAN, VAR), (X,)),
    "inference-statistics": (lambda m, v: batch_norm_inference(X, m, v, eps=0.1), (MEAN, VAR)),
    "layer": (lambda *a: apply(layer(True), *a), (X, WEIGHT, BIAS)),
    "layer-own": (lambda x: apply(layer(True), x), (X,)),
    "layer-eval": (lambda *a: apply(layer(False), *a), (X, WEIGHT, BIAS)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str) -> None:
    function, arguments = FUNCTIONS[name]
    check_grads(function, modes=["rev"], order=1)(*arguments)


def test_a_layer_keeps_its_statistics_and_its_parameters() -> None:
    for training in (True, False):
        ours, plain = layer(training), layer(training)
        for x in (X, 2 * X):
            plain.weight[:] = 3 * WEIGHT  # type: ignore[index]
            np.testing.assert_array_equal(apply(ours, x, 3 * WEIGHT), plain(x))
        plain.weight[:] = WEIGHT  # type: ignore[index]
        for name, array in plain.state_dict().items():
            np.testing.assert_array_equal(ours.state_dict()[name], array, err_msg=name)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_layer_flushes_subnormals(training: bool) -> None:
    ours = bn.BatchNorm(3, flush_subnormals=True).train(training)
    ours.weight[:] = 0  # type: ignore[index]
    ours.bias[:] = 1e-40  # type: ignore[index]
    assert not apply(ours, X.astype(np.float32)).any()


def test_gradients_come_in_the_dtypes_of_the_arguments() -> None:
    """Also where what follows y promotes."""
    parameters = {"weight": WEIGHT.astype(np.float32), "bias": BIAS}

    def loss(p: dict[str, Any], x: Any) -> Any:
        return anp.sum(batch_norm_train(x, p["weight"], p["bias"]) * X)

    found, dx = grad(loss, (0, 1))(parameters, X.astype(np.float32))
    assert (found["weight"].dtype, found["bias"].dtype, dx.dtype) == (np.float32, np.float64, np.float32)
    one = grad(lambda bias: loss({"weight": WEIGHT.astype(np.float32), "bias": bias}, X.astype(np.float32)))(BIAS)
    assert one.dtype == np.float64
    want = grad(loss)({"weight": WEIGHT, "bias": BIAS}, X)
    np.testing.assert_allclose(found["weight"], want["weight"], rtol=1e-5)


def test_a_second_derivative_is_refused() -> None:
    for function in (lambda x: batch_norm_train(x) ** 2, lambda x: batch_norm_inference(x, MEAN, VAR) ** 2):
        with pytest.raises(NotImplementedError, match="_backward"):
            grad(lambda x, f=function: anp.sum(elementwise_grad(f)(x) ** 2))(X)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="out: expected to be left out"):
        batch_norm_train(X, out=np.empty_like(X))
    with pytest.raises(TypeError, match="out: expected to be left out"):
        batch_norm_inference(X, MEAN, VAR, out=np.empty_like(X))
    with pytest.raises(TypeError, match="layer: expected a BatchNorm, got NoneType"):
        apply(None, X)  # type: ignore[arg-type]
    made = layer(True)
    with pytest.raises(ValueError, match="weight: expected shape"):
        apply(made, X, np.ones(4))
    assert int(made.num_batches_tracked) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", [None, "relu", ("leaky_relu", 0.25)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "inference"])
def test_residual_and_activation(activation: Any, training: bool) -> None:
    """Against the same written in autograd.numpy."""
    rng = np.random.default_rng(0)
    x, r, t = rng.normal(size=(3, 6, 4, 5))
    weight, bias = rng.uniform(0.5, 2, (2, 4))
    mean, var = rng.normal(size=4), rng.uniform(0.5, 2, 4)

    def ours(x: Any, weight: Any, bias: Any, r: Any) -> Any:
        options = {"residual": r, "activation": activation}
        if training:
            return anp.sum(t * batch_norm_train(x, weight, bias, **options))
        return anp.sum(t * batch_norm_inference(x, mean, var, weight, bias, **options))

    def plain(x: Any, weight: Any, bias: Any, r: Any) -> Any:
        m = anp.mean(x, axis=(0, 2), keepdims=True) if training else mean[:, None]
        v = anp.mean((x - m) ** 2, axis=(0, 2), keepdims=True) if training else var[:, None]
        y = (x - m) / anp.sqrt(v + 1e-5) * anp.reshape(weight, (4, 1)) + anp.reshape(bias, (4, 1)) + r
        slope = {None: 1.0, "relu": 0.0}.get(activation, 0.25)
        return anp.sum(t * anp.where(y > 0, y, slope * y))

    for n in range(4):
        got, want = (grad(f, n)(x, weight, bias, r) for f in (ours, plain))
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
    layer = bn.BatchNorm(4, activation=activation, dtype=np.float64).train(training)
    of_layer = grad(lambda r: anp.sum(t * apply(layer, x, residual=r)))(r)
    assert of_layer.shape == r.shape


def test_prelu_is_refused() -> None:
    x, activation = np.ones((4, 3)), ("prelu", np.ones(3))
    for call in (
        lambda: batch_norm_train(x, activation=activation),
        lambda: batch_norm_inference(x, np.zeros(3), np.ones(3), activation=activation),
        lambda: apply(bn.BatchNorm(3, activation=activation), x),
    ):
        with pytest.raises(TypeError, match=r"^activation: expected no 'prelu'"):
            call()
