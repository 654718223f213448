"""BatchNorm, the layer: modes, gradients, statistics, what it holds, copies."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from activations import activation
from layers import batch, state_of
from layouts import parameters
from oracle import Array
from tolerances import assert_gradients, assert_same_bits, assert_y, within


def test_a_new_layer() -> None:
    layer = bn.BatchNorm(3)
    for name, value in [
        ("weight", 1),
        ("bias", 0),
        ("weight_grad", 0),
        ("bias_grad", 0),
        ("running_mean", 0),
        ("running_var", 1),
    ]:
        assert_same_bits(name, getattr(layer, name), np.full(3, value, np.float32))
    assert_same_bits("num_batches_tracked", layer.num_batches_tracked, np.array(0))
    assert layer.training is True


def test_train_mode_is_batch_norm_train(layer: bn.BatchNorm, dtype: Any) -> None:
    x, dy = batch(dtype=dtype), batch(seed=1, dtype=dtype)
    mean, var = layer.running_mean.copy(), layer.running_var.copy()  # type: ignore[union-attr]
    want, saved = bn.batch_norm_train(x, layer.weight, layer.bias, running_mean=mean, running_var=var)
    gradients = bn.batch_norm_backward(dy, x, saved)
    assert_same_bits("y", layer(x), want)
    assert_same_bits("running_mean", layer.running_mean, mean)
    assert_same_bits("running_var", layer.running_var, var)
    assert int(layer.num_batches_tracked) == 8  # type: ignore[arg-type]
    assert_same_bits("dx", layer.backward(dy), gradients.dx)
    assert_same_bits("weight_grad", layer.weight_grad, gradients.dweight)
    assert_same_bits("bias_grad", layer.bias_grad, gradients.dbias)


def test_eval_mode_is_batch_norm_inference(layer: bn.BatchNorm, dtype: Any) -> None:
    x, dy = batch(dtype=dtype), batch(seed=1, dtype=dtype)
    assert layer.eval() is layer
    assert layer.training is False
    before = state_of(layer)
    given = layer.running_mean, layer.running_var, layer.weight, layer.bias
    assert_same_bits("y", layer(x), bn.batch_norm_inference(x, *given))  # type: ignore[arg-type]
    assert state_of(layer) == before
    want = bn.batch_norm_inference_backward(dy, x, *given)  # type: ignore[arg-type]
    assert_same_bits("dx", layer.backward(dy), want.dx)
    assert_same_bits("weight_grad", layer.weight_grad, want.dweight)
    assert_same_bits("bias_grad", layer.bias_grad, want.dbias)
    assert layer.train() is layer
    assert layer.training is True
    assert layer.train(False).training is False


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_backward_follows_the_mode_and_the_values_of_its_forward(layer: bn.BatchNorm, training: bool) -> None:
    """Whatever happens to the layer in between."""
    x, dy = batch(), batch(seed=1)
    other = copy.deepcopy(layer).train(training)
    other(x)
    want = other.backward(dy)
    layer.train(training)(x)
    layer.train(not training)
    for array in layer.state_dict().values():
        array[...] = 77
    assert_same_bits("dx", layer.backward(dy), want)


def test_agrees_with_the_oracle(dtype: Any) -> None:
    x, dy = batch(6, 4, 5, 3, dtype=dtype), batch(6, 4, 5, 3, seed=1, dtype=dtype)
    layer = bn.BatchNorm(3, eps=1e-3, axis=-1, dtype=dtype)
    layer.weight[:], layer.bias[:] = weight, bias = parameters(3, dtype)  # type: ignore[index]
    y, dx = layer(x), layer.backward(dy)
    forward = oracle.train(x, weight, bias, 1e-3, -1)
    assert_y(y, x, forward.y, forward.mean, forward.var, weight, bias, -1)
    got = bn.Gradients(dx=dx, dweight=layer.weight_grad, dbias=layer.bias_grad)
    assert_gradients(got, dy, x, oracle.backward(dy, x, weight, 1e-3, -1), forward, weight, -1)


def test_gradients_are_overwritten_in_the_same_arrays() -> None:
    layer, x = bn.BatchNorm(3), batch()
    arrays = layer.weight_grad, layer.bias_grad
    layer(x)
    layer.backward(np.ones_like(x))
    first = layer.bias_grad.copy()  # type: ignore[union-attr]
    layer(x)
    layer.backward(np.ones_like(x))
    assert layer.weight_grad is arrays[0]
    assert layer.bias_grad is arrays[1]
    assert_same_bits("bias_grad", layer.bias_grad, first)  # not added to
    assert layer.gradients()["weight"] is arrays[0]
    assert layer.gradients()["bias"] is arrays[1]


def test_training_goes_down() -> None:
    """A step against the gradients of sum(t * y) lowers it."""
    layer, x, t = bn.BatchNorm(3, dtype=np.float64), batch(dtype=np.float64), batch(seed=1, dtype=np.float64)
    before = (t * layer(x)).sum()
    layer.backward(t)
    for name, parameter in layer.parameters().items():
        parameter -= 1e-3 * layer.gradients()[name]
    step = sum((g**2).sum() for g in layer.gradients().values())
    within("loss", np.array((t * layer(x)).sum()), np.array(before - 1e-3 * step), 1e-9)


@pytest.mark.parametrize(
    ("options", "has"),
    [
        ({}, ("weight", "bias")),
        ({"affine": False}, ()),
        ({"weight": False}, ("bias",)),
        ({"bias": False}, ("weight",)),
        ({"weight": False, "bias": False}, ()),
        ({"affine": False, "weight": True}, ()),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_parameters_are_optional(options: dict[str, bool], has: tuple[str, ...], training: bool) -> None:
    layer, x = bn.BatchNorm(3, **options).train(training), batch()  # type: ignore[arg-type]
    assert set(layer.parameters()) == set(layer.gradients()) == set(has)
    for name in ("weight", "bias"):
        assert (getattr(layer, name) is not None) == (getattr(layer, f"{name}_grad") is not None) == (name in has)
    layer(x)
    layer.backward(np.ones_like(x))
    if "bias" in has:
        assert np.all(layer.bias_grad == 6 * 4 * 5)


def test_without_running_statistics() -> None:
    layer, x = bn.BatchNorm(3, track_running_stats=False), batch()
    assert layer.running_mean is None
    assert layer.running_var is None
    assert layer.num_batches_tracked is None
    y = layer(x)
    dx = layer.backward(x)
    layer.eval()
    assert_same_bits("y", layer(x), y)
    assert_same_bits("dx", layer.backward(x), dx)


def test_momentum_none_is_the_plain_average() -> None:
    layer = bn.BatchNorm(3, momentum=None, dtype=np.float64)
    batches = [batch(seed=i, dtype=np.float64) for i in range(5)]
    for x in batches:
        layer(x)
    stats = [bn.channel_stats(x) for x in batches]
    within("running_mean", layer.running_mean, np.mean([s.mean for s in stats], axis=0), 1e-14)
    within("running_var", layer.running_var, np.mean([s.var(1) for s in stats], axis=0), 1e-13)
    layer.reset_running_stats()
    layer(batches[3])
    within("running_mean", layer.running_mean, stats[3].mean, 1e-14)


def test_options_reach_the_function() -> None:
    x = batch(8, 5, 3, dtype=np.float64)
    layer = bn.BatchNorm(3, 1e-2, 0.25, axis=2, momentum_of="old", unbiased=False, dtype=np.float64, num_threads=2)
    mean, var = np.zeros(3), np.ones(3)
    want, _ = bn.batch_norm_train(
        x, running_mean=mean, running_var=var, momentum=0.25, momentum_of="old", unbiased=False, eps=1e-2, axis=2
    )
    assert_same_bits("y", layer(x), want)
    assert_same_bits("running_mean", layer.running_mean, mean)
    assert_same_bits("running_var", layer.running_var, var)


def test_on_single() -> None:
    one = np.ones((1, 3), np.float32)
    layer = bn.BatchNorm(3)
    before = state_of(layer)
    with pytest.raises(ValueError, match=r"^x: expected more than one value per channel"):
        layer(one)
    assert state_of(layer) == before
    with pytest.warns(UserWarning, match=r"^x: expected more than one value per channel"):
        bn.BatchNorm(3, on_single="warn")(one)
    layer = bn.BatchNorm(3, on_single="allow")
    assert not layer(one).any()
    assert int(layer.num_batches_tracked) == 1  # type: ignore[arg-type]
    within("running_mean", layer.running_mean, np.full(3, 0.1), 1e-8)
    assert np.all(layer.running_var == 1)
    assert layer.eval()(one).shape == (1, 3)


def test_an_empty_batch_is_not_counted(layer: bn.BatchNorm) -> None:
    before = state_of(layer)
    empty = np.empty((0, 3, 4), np.float32)
    assert layer(empty).shape == (0, 3, 4)
    assert state_of(layer) == before
    assert layer.backward(empty).shape == (0, 3, 4)
    assert not layer.weight_grad.any()  # type: ignore[union-attr]
    assert not layer.bias_grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_out_and_in_place(layer: bn.BatchNorm, training: bool) -> None:
    x = batch()
    layer.train(training)
    want = copy.deepcopy(layer)(x)
    out = np.empty_like(x)
    assert copy.deepcopy(layer)(x, out) is out
    assert_same_bits("y", out, want)
    assert layer.forward(x, out=x) is x
    assert_same_bits("y", x, want)
    dy = batch(seed=1)
    if training:  # x is found from y
        again = copy.deepcopy(layer)
        again(batch())
        within("dx", layer.backward(dy), again.backward(dy), 1e-5)
    else:
        with pytest.raises(ValueError, match=r"^x: expected "):
            layer.backward(dy)


class Tensor:
    """Another library's array, whose memory NumPy can see."""

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = array.__array_interface__
        self.array = array


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_in_place_in_another_librarys_memory(layer: bn.BatchNorm, training: bool) -> None:
    x = batch()
    layer.train(training)
    want = copy.deepcopy(layer)(x)
    layer(Tensor(x), out=np.empty_like(x))  # type: ignore[arg-type]
    assert layer.backward(np.ones_like(x)).shape == x.shape
    for given, out in [(Tensor(x), x), (x[::1], x), (x, x[...])]:
        before = x.copy()
        assert layer(given, out=out) is out  # type: ignore[arg-type]
        if training:
            dy = batch(seed=1)
            dx = layer.backward(dy)
            copy_of_layer = copy.deepcopy(layer)
            copy_of_layer(before)
            within("dx", dx, copy_of_layer.backward(dy), 1e-5)
        else:
            with pytest.raises(ValueError, match=r"^x: expected the x of the forward, but it is gone"):
                layer.backward(np.ones_like(x))
        assert_same_bits("y", x, want)
        x[...] = before


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_an_empty_batch_is_never_in_place(layer: bn.BatchNorm, training: bool) -> None:
    """There is nothing to overwrite."""
    x = np.empty((0, 3, 4), np.float32)
    layer.train(training)(x, out=x)
    assert layer.backward(x).shape == x.shape


def test_x_is_held_until_backward() -> None:
    layer, x = bn.BatchNorm(3), batch()
    held, shape = weakref.ref(x), x.shape
    layer(x)
    del x
    gc.collect()
    assert held() is not None
    layer.backward(np.ones(shape, np.float32))
    gc.collect()
    assert held() is None


def test_copies_and_pickles_leave_the_pending_x_out(layer: bn.BatchNorm) -> None:
    x = batch()
    layer(x)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert repr(again) == repr(layer)
        assert state_of(again) == state_of(layer)
        with pytest.raises(RuntimeError, match="forward"):
            again.backward(x)
    before = state_of(layer)
    deep = copy.deepcopy(layer)
    deep(x + 1)
    deep.weight[:] = 5  # type: ignore[index]
    assert state_of(layer) == before
    assert layer.backward(x).shape == x.shape


def test_repr() -> None:
    assert repr(bn.BatchNorm(64)) == "BatchNorm(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    layer = bn.BatchNorm(
        3, 1e-3, None, True, False, weight=False, axis=-1, momentum_of="old", unbiased=False, on_single="warn",
        dtype=np.float64, num_threads=2,
    )  # fmt: skip
    again = eval(repr(layer), {"BatchNorm": bn.BatchNorm})
    assert repr(again) == repr(layer)
    for name in (
        "num_features",
        "eps",
        "momentum",
        "track_running_stats",
        "axis",
        "momentum_of",
        "unbiased",
        "on_single",
    ):
        assert getattr(again, name) == getattr(layer, name)
    assert again.weight is None
    assert again.bias.dtype == np.float64


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "prelu"])
def test_activation_and_residual(kind: str, training: bool) -> None:
    """The layer's backward is the functions', whatever is changed between forward and backward."""
    given = activation(kind, 3, np.float32)
    layer = bn.BatchNorm(3, activation=given).train(training)
    for array, values in zip(layer.state_dict().values(), (*parameters(3), [1, 2, 3], [1, 2, 0.5], 7), strict=True):
        array[...] = values
    x, r, dy = batch(), batch(seed=1), batch(seed=2)
    options: Any = {"activation": activation(kind, 3, np.float32), "residual": r.copy()}
    weight, bias = parameters(3, np.float32)
    if training:
        want_y, saved = bn.batch_norm_train(x, weight, bias, **options)
        want = bn.batch_norm_backward(dy, x, saved, residual=options["residual"])
    else:
        statistics = np.float32([1, 2, 3]), np.float32([1, 2, 0.5])
        want_y = bn.batch_norm_inference(x, *statistics, weight, bias, **options)
        want = bn.batch_norm_inference_backward(dy, x, *statistics, weight, bias, **options)
    y = layer(x, residual=r)
    assert_same_bits("y", y, want_y)
    y[...] = 0  # nobody needs it
    if training and kind != "prelu":
        r[...] = 0
    for array in layer.state_dict().values():
        array += 1
    if kind == "prelu":
        given[1][...] = 0.5
    assert_same_bits("dx", layer.backward(dy), want.dx)
    assert_same_bits("residual_grad", layer.residual_grad, want.dresidual)
    assert_same_bits("weight_grad", layer.weight_grad, want.dweight)
    if kind == "prelu":
        assert_same_bits("slope_grad", layer.slope_grad, want.dslope)
    else:
        assert layer.slope_grad is None
    layer(x)
    layer.backward(dy)
    assert layer.residual_grad is None
    assert (repr(layer).find("activation") > 0) == (kind is not None)


def test_prelu_may_learn_any_slope() -> None:
    layer = bn.BatchNorm(3, activation=("prelu", np.float32([-0.5, 0, 0.3])))
    x, r, dy = batch(), batch(seed=1), batch(seed=2)
    y, saved = bn.batch_norm_train(x, activation=layer.activation, residual=r)
    want = bn.batch_norm_backward(dy, x, saved, residual=r)
    assert_same_bits("y", layer(x, residual=r), y)
    assert_same_bits("dx", layer.backward(dy), want.dx)
    assert_same_bits("slope_grad", layer.slope_grad, want.dslope)


def test_an_in_place_forward_with_a_residual_has_no_backward() -> None:
    layer, x = bn.BatchNorm(3), batch()
    layer(x, out=x, residual=batch(seed=1))
    with pytest.raises(TypeError, match=r"^x: expected the forward's x, because y can't tell it after a residual"):
        layer.backward(batch(seed=2))


def test_integers_in_evaluation() -> None:
    layer = bn.BatchNorm(3).eval()
    x = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    assert_same_bits("y", layer(x), bn.batch_norm_inference(x, np.zeros(3), np.ones(3)))
    with pytest.raises(TypeError, match=r"^x: expected float16, .*, got uint8"):
        layer.backward(np.ones(x.shape, np.float32))
    with pytest.raises(TypeError, match=r"^x: expected float16, .*, got uint8"):
        layer.train()(x)


def test_prelu_without_a_residual_in_training() -> None:
    slopes = np.float32([0.1, 0.2, 0.3])
    layer = bn.BatchNorm(3, activation=("prelu", slopes))
    x, dy = batch(), batch(seed=1)
    saved = bn.batch_norm_train(x, np.ones(3, "f"), np.zeros(3, "f"), activation=("prelu", slopes))[1]
    want = bn.batch_norm_backward(dy, x, saved)
    layer(x)
    assert_same_bits("dx", layer.backward(dy), want.dx)
    assert_same_bits("slope_grad", layer.slope_grad, want.dslope)
    with pytest.raises(ValueError, match=r"^activation: slopes: expected shape \(3,\)"):
        bn.BatchNorm(3, activation=("prelu", np.ones(2)))


def test_parameters_that_are_lists() -> None:
    """An attribute may be set to what NumPy makes an array of; nothing is written before it is."""
    x = np.ones((2, 2))
    layer = bn.BatchNorm(2, dtype=np.float64, activation="relu").eval()
    want = bn.batch_norm_inference(x, np.zeros(2), np.ones(2), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    layer.weight, layer.bias = [1.0, 2.0], [3.0, 4.0]  # type: ignore[assignment]
    assert_same_bits("y", layer(x, out=x), want)
    sequences = np.ones((2, 2, 3))
    assert not layer(sequences, lengths=[3, 1])[1, :, 1:].any()
    layer.running_var = object()  # type: ignore[assignment]
    before = x.copy()
    with pytest.raises(TypeError, match=r"^running_var: expected"):
        layer(x, out=x)
    assert_same_bits("x", x, before)
