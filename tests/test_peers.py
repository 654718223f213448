"""PyTorch agrees on ordinary data: forward, both derivatives, running statistics, evaluation, the layer's state; and
other frameworks with their conventions.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from layouts import given_statistics, parameters
from oracle import Array

pytestmark = pytest.mark.peers

torch: Any = pytest.importorskip("torch", reason="needs the extra [peers]")
BOUND = {"float32": 2e-5, "float64": 1e-12, "int64": 0}  # theirs, on values near 1

SHAPES = [(16, 5), (6, 5, 7), (6, 5, 7, 8), (3, 5, 4, 3, 2)]


def t(a: Array, grad: bool = False) -> Any:
    return torch.from_numpy(a.copy()).requires_grad_(grad)


def data(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(0.5, 1, shape).astype(dtype) for _ in range(2))
    weight, bias = parameters(5, dtype)
    return x, dy, weight, bias


def assert_close(name: str, ours: Array, theirs: Any) -> None:
    __tracebackhide__ = True
    want = theirs.detach().numpy()
    assert ours.dtype == want.dtype, name
    bound = BOUND[want.dtype.name] * max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(ours, want, rtol=0, atol=bound, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["channels_first", "channels_last"])
def test_training(dtype: Any, shape: tuple[int, ...], channels_last: bool) -> None:
    x, dy, weight, bias = data(shape, dtype)
    mean, var = given_statistics(5, dtype)
    tx, tw, tb, tm, tv = t(x, True), t(weight, True), t(bias, True), t(mean), t(var)
    ty = torch.nn.functional.batch_norm(tx, tm, tv, tw, tb, True, 0.3, 1e-3)
    ty.backward(t(dy))
    axis = -1 if channels_last else 1
    x, dy = (np.ascontiguousarray(np.moveaxis(a, 1, axis)) for a in (x, dy))
    y, saved = bn.batch_norm_train(
        x, weight, bias, running_mean=mean, running_var=var, momentum=0.3, eps=1e-3, axis=axis
    )
    got = bn.batch_norm_backward(dy, x, saved)
    assert_close("y", np.moveaxis(y, axis, 1), ty)
    assert_close("running_mean", mean, tm)
    assert_close("running_var", var, tv)
    assert_close("dx", np.moveaxis(got.dx, axis, 1), tx.grad)
    assert_close("dweight", got.dweight, tw.grad)
    assert_close("dbias", got.dbias, tb.grad)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_evaluation(dtype: Any, shape: tuple[int, ...]) -> None:
    x, dy, weight, bias = data(shape, dtype)
    mean, var = given_statistics(5, dtype)
    tx, tw, tb = t(x, True), t(weight, True), t(bias, True)
    ty = torch.nn.functional.batch_norm(tx, t(mean), t(var), tw, tb, False, 0.1, 1e-3)
    ty.backward(t(dy))
    assert_close("y", bn.batch_norm_inference(x, mean, var, weight, bias, eps=1e-3), ty)
    got = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, eps=1e-3)
    assert_close("dx", got.dx, tx.grad)
    assert_close("dweight", got.dweight, tw.grad)
    assert_close("dbias", got.dbias, tb.grad)


def test_gradients_of_given_statistics() -> None:
    """PyTorch has none for running statistics; its autograd on the formula does."""
    x, dy, weight, bias = data((6, 5, 7), np.float64)
    mean, var = given_statistics(5)
    tm, tv = t(mean, True), t(var, True)
    shape = (1, -1, 1)
    ty = (t(x) - tm.view(shape)) / (tv.view(shape) + 1e-5).sqrt() * t(weight).view(shape) + t(bias).view(shape)
    ty.backward(t(dy))
    got = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias)
    assert got.dmean is not None
    assert got.dvar is not None
    assert_close("dmean", got.dmean, tm.grad)
    assert_close("dvar", got.dvar, tv.grad)


def test_saved_statistics_of_pytorch() -> None:
    """native_batch_norm's mean and invstd make a SavedStatistics that our backward takes."""
    x, dy, weight, bias = data((6, 5, 7, 8), np.float32)
    tx, tw, tb = t(x, True), t(weight, True), t(bias, True)
    ty, mean, invstd = torch.native_batch_norm(tx, tw, tb, None, None, True, 0.1, 1e-5)
    ty.backward(t(dy))
    saved = bn.SavedStatistics(mean.detach().numpy(), invstd.detach().numpy(), 6 * 7 * 8, eps=1e-5, weight=weight)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_close("dx", got.dx, tx.grad)
    assert_close("dweight", got.dweight, tw.grad)
    assert_close("dbias", got.dbias, tb.grad)


@pytest.mark.parametrize("momentum", [0.1, None], ids=str)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("track", [True, False], ids=["track", "batch"])
def test_the_layer(momentum: float | None, affine: bool, track: bool) -> None:
    """Some steps of training, then evaluation; its state goes both ways."""
    theirs = torch.nn.BatchNorm2d(5, momentum=momentum, affine=affine, track_running_stats=track)
    ours = bn.BatchNorm(5, momentum=momentum, affine=affine, track_running_stats=track)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, dy = rng.normal(1, 2, (2, 6, 5, 7, 8)).astype(np.float32)
        tx = t(x, True)
        ty = theirs(tx)
        theirs.zero_grad()
        ty.backward(t(dy))
        assert_close("y", ours(x), ty)
        assert_close("dx", ours.backward(dy), tx.grad)
        for name, gradient in ours.gradients().items():
            assert_close(name, gradient, getattr(theirs, name).grad)
        for name, parameter in ours.parameters().items():
            parameter -= 0.01 * ours.gradients()[name]
            getattr(theirs, name).data -= 0.01 * getattr(theirs, name).grad
    for name, array in ours.state_dict().items():
        assert_close(name, array, theirs.state_dict()[name])
    tx = t(x, True)
    ty = theirs.eval()(tx)
    ty.backward(t(dy))
    assert_close("y", ours.eval()(x), ty)
    assert_close("dx", ours.backward(dy), tx.grad)
    theirs.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in ours.state_dict().items()})
    assert_close("y", ours(x), theirs(t(x)))


def test_where_pytorch_is_wrong_we_are_not() -> None:
    """The reason for this library: a large mean, channels last."""
    x = np.random.default_rng(0).normal(1e4, 1, (8, 56, 56, 16)).astype(np.float32)
    y, saved = bn.batch_norm_train(x, axis=-1, eps=0)
    wide = x.astype(np.float64)
    want = (wide - wide.mean((0, 1, 2))) / wide.std((0, 1, 2))
    assert np.abs(y - want).max() < 1e-5
    assert np.abs(saved.var / wide.var((0, 1, 2)) - 1).max() < 3e-7


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "inference"])
def test_second_derivatives(shape: tuple[int, ...], training: bool) -> None:
    x, dy, weight, bias = data(shape, np.float64)
    ddx, (ddweight, ddbias) = data(shape, np.float64)[1] ** 2, parameters(5, np.float64, seed=3)
    mean, var = given_statistics(5)
    tx, tdy, tw, tb = t(x, True), t(dy, True), t(weight, True), t(bias, True)
    ty = torch.nn.functional.batch_norm(tx, t(mean), t(var), tw, tb, training)
    first = torch.autograd.grad(ty, (tx, tw, tb), tdy, create_graph=True)
    wanted = torch.autograd.grad(first, (tdy, tx, tw), (t(ddx), t(ddweight), t(ddbias)))
    saved = bn.SavedStatistics(mean, 1 / np.sqrt(var + 1e-5), 1, eps=1e-5, weight=weight)
    if training:
        _, saved = bn.batch_norm_train(x, weight, bias)
    got = bn.batch_norm_double_backward(ddx, ddweight, ddbias, dy, x, saved, training=training)
    for name, ours, want in zip(got._fields, got, wanted, strict=True):
        assert_close(name, ours, want)


def step_of_torch(x: Array, mean: Array, var: Array) -> tuple[Any, ...]:
    layer = torch.nn.BatchNorm1d(4, dtype=torch.float64)
    layer.running_mean[:], layer.running_var[:] = t(mean), t(var)
    return layer(t(x)).detach().numpy(), layer.running_mean.numpy(), layer.running_var.numpy()


def step_of_keras(x: Array, mean: Array, var: Array) -> tuple[Any, ...]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="needs the extra [peers]")
    layer = keras.layers.BatchNormalization(dtype="float64")
    layer.build(x.shape)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(var)
    y = layer(x, training=True)
    return tuple(keras.ops.convert_to_numpy(a) for a in (y, layer.moving_mean, layer.moving_variance))


def step_of_flax(x: Array, mean: Array, var: Array) -> tuple[Any, ...]:
    flax = pytest.importorskip("flax.linen", reason="needs the extra [peers]")
    state = {
        "params": {"scale": np.ones(4, "f"), "bias": np.zeros(4, "f")},
        "batch_stats": {"mean": mean.astype("f"), "var": var.astype("f")},
    }
    y, moved = flax.BatchNorm(use_running_average=False).apply(state, x.astype("f"), mutable=["batch_stats"])
    return y, moved["batch_stats"]["mean"], moved["batch_stats"]["var"]


def step_of_onnx(x: Array, mean: Array, var: Array) -> tuple[Any, ...]:
    onnx = pytest.importorskip("onnx", reason="needs the extra [peers]")
    from onnx.reference import ReferenceEvaluator

    names = ["x", "scale", "bias", "mean", "var"]
    node = onnx.helper.make_node("BatchNormalization", names, ["y", "new_mean", "new_var"], training_mode=1)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "step",
        [value(name, onnx.TensorProto.DOUBLE, None) for name in names],
        [value(name, onnx.TensorProto.DOUBLE, None) for name in ("y", "new_mean", "new_var")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    given = dict(zip(names, (x, np.ones(4), np.zeros(4), mean, var), strict=True))
    return tuple(ReferenceEvaluator(model).run(None, given))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "step", "bound"),
    [
        ("torch", step_of_torch, 1e-12),
        ("keras", step_of_keras, 2e-6),  # epsilon and momentum in float32, as in ONNX's reference
        ("flax", step_of_flax, 1e-5),
        ("onnx", step_of_onnx, 2e-6),
    ],
    ids=["torch", "keras", "flax", "onnx"],
)
def test_conventions(name: Any, step: Any, bound: float) -> None:
    """One step of a framework's own defaults; chainer and mxnet are no longer kept up, and have none to compare."""
    x = np.random.default_rng(0).normal(0, 0.03, (6, 4))  # so that eps tells
    mean, var = given_statistics(4)
    layer = bn.BatchNorm(4, dtype=np.float64, **bn.convention(name))
    layer.load_state_dict({"running_mean": mean, "running_var": var}, strict=False)
    want = step(x, mean, var)
    for what, ours, theirs in zip(
        ("y", "running_mean", "running_var"), (layer(x), layer.running_mean, layer.running_var), want, strict=True
    ):
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=bound, atol=bound, err_msg=f"{name}: {what}")
