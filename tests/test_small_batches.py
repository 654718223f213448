"""Ghost batches and batch renormalization, forward and back, and statistics over many batches."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.training import RenormWarmup
from layouts import Case, parameters
from oracle import Array, along, rsqrt
from test_gradients import assert_close, differences
from tolerances import assert_same_bits, within


def slices(x: Array, axis: int, groups: int) -> Iterator[tuple[slice, ...]]:
    batch = 1 if axis % x.ndim == 0 else 0
    step = -(-x.shape[batch] // groups)
    for first in range(0, x.shape[batch], step):
        yield (slice(None),) * batch + (slice(first, first + step),)


@pytest.mark.parametrize("groups", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last", "channel_axis_0", "fortran", "crop"])
@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"activation": ("leaky_relu", 0.5)}], ids=str)
def test_groups_are_separate_calls(isa: str, layout: str, groups: int, options: Any) -> None:
    axis, x, dy = Case((13, 5, 4, 7), layout).arrays(np.float32, 2, mean=2)
    weight, bias = parameters(5)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, groups=groups, **options)
    got = bn.batch_norm_backward(dy, x, saved)
    whole = bn.ChannelStats()
    dweight, dbias = np.zeros(5), np.zeros(5)
    parts = list(slices(x, axis, groups))
    for i, part in enumerate(parts):
        want, of_part = bn.batch_norm_train(x[part], weight, bias, axis=axis, **options)
        gradients = bn.batch_norm_backward(dy[part], x[part], of_part)
        assert_same_bits("y", y[part], want)
        assert_same_bits("dx", got.dx[part], gradients.dx)
        dweight, dbias = dweight + gradients.dweight, dbias + gradients.dbias
        whole.merge(of_part.stats)
        if len(parts) > 1:
            assert saved.groups is not None
            assert saved.groups[i] == of_part.stats
    np.testing.assert_allclose(got.dweight, dweight, rtol=1e-12)
    np.testing.assert_allclose(got.dbias, dbias, rtol=1e-12)
    exact = bn.channel_stats(x, axis=axis)
    np.testing.assert_allclose(saved.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(saved.mean, exact.mean, rtol=1e-7)
    np.testing.assert_allclose(saved.var, exact.var(), rtol=3e-7)
    assert (saved.count == exact.count).all()
    assert (saved.groups is None) == (len(parts) == 1)


def test_groups_with_everything(isa: str) -> None:
    axis, x, residual = Case((9, 4, 5, 6), "channels_first").arrays(np.float64, 2, mean=2)
    dy = Case((9, 4, 5, 6), "channels_first").arrays(np.float64, seed=3)[1]
    mask = np.random.default_rng(0).random((9, 5, 6)) < 0.6
    mask[:3] = False  # of the first group nothing counts
    slope = ("prelu", np.array([0.1, 0.2, 0.3, 0.4]))
    mean, var = np.zeros(4), np.ones(4)
    y, saved = bn.batch_norm_train(
        x, mask=mask, groups=3, residual=residual, activation=slope, running_mean=mean, running_var=var
    )
    got = bn.batch_norm_backward(dy, x, pickle.loads(pickle.dumps(saved)), y=y)
    dslope = np.zeros(4)
    for part in slices(x, axis, 3):
        options = {"mask": mask[part], "residual": residual[part], "activation": slope}
        want, of_part = bn.batch_norm_train(x[part], **options)
        gradients = bn.batch_norm_backward(dy[part], x[part], of_part, y=want)
        assert_same_bits("y", y[part], want)
        assert_same_bits("dx", got.dx[part], gradients.dx)
        assert_same_bits("dresidual", np.asarray(got.dresidual)[part], gradients.dresidual)
        dslope += gradients.dslope
    np.testing.assert_allclose(np.asarray(got.dslope), dslope, rtol=1e-13)
    stats = bn.channel_stats(x, mask=mask)
    np.testing.assert_allclose(mean, 0.1 * stats.mean, rtol=1e-13)
    np.testing.assert_allclose(var, 0.9 + 0.1 * stats.var(1), rtol=1e-13)
    assert repr(saved).endswith("prelu, residual, mask, 3 groups>")


def test_groups_keep_signs(isa: str) -> None:
    x, residual, dy = np.random.default_rng(0).normal(size=(3, 7, 3, 5)).astype(np.float32)
    y, saved = bn.batch_norm_train(x, groups=2, residual=residual, activation="relu", keep_sign=True)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_same_bits("dx", got.dx, bn.batch_norm_backward(dy, x, saved, y=y).dx)


def test_one_sample_in_a_group() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    mean, var, out = np.zeros(3), np.ones(3), np.zeros((5, 3))
    with pytest.raises(
        ValueError, match=r"^x: expected more than one value per channel and group to train on, got shape"
    ):
        bn.batch_norm_train(x, groups=4, running_mean=mean, running_var=var, out=out)
    assert not mean.any()
    assert not out.any()
    y, saved = bn.batch_norm_train(x, groups=4, on_single="allow")
    assert not y[4].any()
    assert y[:4].all()
    assert [int(stats.count[0]) for stats in saved.groups or ()] == [2, 2, 1]


def renormalized(x: Array, mean: Array, var: Array, bounds: tuple[float, float], eps: float, axis: int) -> Any:
    """(y, r, d) by the formula of the paper."""
    around = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    batch_mean, batch_var = x.mean(around), x.var(around)
    sigma, batch_sigma = np.sqrt(var + eps), np.sqrt(batch_var + eps)
    r = np.clip(batch_sigma / sigma, 1 / bounds[0], bounds[0])
    d = np.clip((batch_mean - mean) / sigma, -bounds[1], bounds[1])
    xhat = (x - along(batch_mean, x, axis)) * along(rsqrt(batch_var, eps), x, axis)
    return xhat * along(r, x, axis) + along(d, x, axis), r, d


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("bounds", [(1.0, 0.0), (1.2, 0.3), (100.0, 100.0)], ids=str)
def test_renormalization(isa: str, layout: str, bounds: tuple[float, float]) -> None:
    axis, x = Case((6, 5, 4, 3), layout).arrays(np.float64, mean=1, std=2)
    weight, bias = parameters(5)
    mean, var = np.array([0, 1, 2, -5, 1.1]), np.array([1, 4, 2, 0.1, 100])
    running = mean.copy(), var.copy()
    y, saved = bn.batch_norm_train(
        x, weight, bias, axis=axis, running_mean=running[0], running_var=running[1], renorm=bounds
    )
    want, r, d = renormalized(x, mean, var, bounds, 1e-5, axis)
    within("y", y, want * along(weight, x, axis) + along(bias, x, axis), 1e-10)
    assert saved.renorm is not None
    np.testing.assert_allclose(saved.renorm, [r, d], rtol=1e-12)
    within("scale, shift", y, x * along(saved.scale, x, axis) + along(saved.shift, x, axis), 1e-10)
    plain, _ = bn.batch_norm_train(x, weight, bias, axis=axis)
    if bounds == (1, 0):
        assert_same_bits("y", y, plain)
    if bounds[0] == 100:  # unclipped: inference by the running statistics
        within("y", y, bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis), 1e-10)
    bn.update_running_stats(mean, var, bn.channel_stats(x, axis=axis))
    np.testing.assert_allclose(running, [mean, var], rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("activation", [None, "relu", ("leaky_relu", 0.5)], ids=str)
def test_renormalization_backward(isa: str, groups: int, activation: Any) -> None:
    """r and d are constants, so the finite differences hold them."""
    x, dy = np.random.default_rng(0).normal(1, 2, (2, 6, 3, 2))
    weight, bias = parameters(3)
    mean, var = np.array([0.0, 1, 2]), np.array([1.0, 4, 30])
    options: Any = {"groups": groups, "renorm": (1.5, 0.5), "activation": activation}
    y, saved = bn.batch_norm_train(x, weight, bias, running_mean=mean.copy(), running_var=var.copy(), **options)
    got = bn.batch_norm_backward(dy, x, saved)
    factors = np.asarray(saved.renorm).reshape(groups, 2, 3)

    def loss(x: Array, weight: Array, bias: Array) -> float:
        total = 0.0
        for part, (r, d) in zip(slices(x, 1, groups), factors, strict=True):
            v, _ = bn.batch_norm_train(x[part], weight * r, bias + weight * d, activation=activation)
            total += float((dy[part] * v).sum())
        return total

    np.testing.assert_allclose(loss(x, weight, bias), (dy * y).sum())
    assert_close("dx", got.dx, differences(lambda a: loss(a, weight, bias), x))
    assert_close("dweight", got.dweight, differences(lambda a: loss(x, a, bias), weight))
    assert_close("dbias", got.dbias, differences(lambda a: loss(x, weight, a), bias))
    if activation != "relu":
        y, in_place = bn.batch_norm_train(
            x, weight, bias, running_mean=mean.copy(), running_var=var.copy(), out=x, **options
        )
        np.testing.assert_allclose(bn.batch_norm_backward(dy, None, in_place, y=y).dx, got.dx, atol=1e-12)


def test_renormalization_of_nothing_that_varies(isa: str) -> None:
    x = np.full((4, 2), 3.0)
    mean, var = np.array([3.0, 1.0]), np.zeros(2)
    y, saved = bn.batch_norm_train(x, running_mean=mean, running_var=var, renorm=(2.0, 5.0), eps=0.0)
    assert (y == [0.0, 5.0]).all()
    assert saved.renorm is not None
    assert saved.renorm.tolist() == [[1.0, 1.0], [0.0, 5.0]]


def test_renormalization_of_nothing(isa: str) -> None:
    """A part without values adds nothing to the gradients of the parameters."""
    x = np.random.default_rng(0).normal(size=(6, 2, 5))
    layer, few = (bn.BatchNorm(2, renorm=(3.0, 5.0), groups=groups, dtype=np.float64) for groups in (2, 1))
    layer(x, mask=np.arange(6)[:, None] < 3)
    few(x[:3])
    dx = layer.backward(x)
    np.testing.assert_allclose(dx[:3], few.backward(x[:3]), atol=1e-14)
    assert not dx[3:].any()
    assert layer.weight_grad is not None
    np.testing.assert_allclose(layer.weight_grad, few.weight_grad, rtol=1e-13)
    few(x[:0])
    few.backward(x[:0])
    assert few.weight_grad is not None
    assert not few.weight_grad.any()


def test_layer_with_groups_and_renormalization() -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(2, 3, (2, 10, 3, 4))
    layer = bn.BatchNorm(3, groups=2, renorm=(1.5, 0.5), dtype=np.float64)
    mean, var = np.zeros(3), np.ones(3)
    want, saved = bn.batch_norm_train(
        x, layer.weight, layer.bias, running_mean=mean, running_var=var, groups=2, renorm=(1.5, 0.5)
    )
    assert_same_bits("y", layer(x), want)
    assert_same_bits("dx", layer.backward(dy), bn.batch_norm_backward(dy, x, saved).dx)
    assert_same_bits("running_mean", layer.running_mean, mean)
    assert_same_bits("running_var", layer.running_var, var)
    assert repr(layer).endswith("dtype='float64', groups=2, renorm=(1.5, 0.5))")
    assert_same_bits("eval", layer.eval()(x), bn.batch_norm_inference(x, mean, var))


def test_schedule_of_renormalization() -> None:
    layers = {"a": bn.BatchNorm(2), "b": bn.BatchNorm(3)}
    schedule = RenormWarmup(layers)
    assert schedule.bounds(5000) == (1, 0)
    assert schedule.bounds(40000) == (3, 5)
    assert schedule.bounds(25000) == (1 + 2 * 20000 / 35000, 5)
    assert schedule.bounds(10**9) == (3, 5)
    state = schedule.state_dict()
    for _ in range(3):
        schedule.step()
    state["steps"] = np.asarray(15000)
    schedule.load_state_dict(state)
    assert layers["b"].renorm == layers["a"].renorm == schedule.bounds(15000) == (1 + 2 * 10 / 35, 2.5)
    with pytest.raises(ValueError, match=r"^layers: expected running statistics in each, got none in 'c'$"):
        RenormWarmup({"c": bn.BatchNorm(2, track_running_stats=False)})
    with pytest.raises(ValueError, match=r"^renorm: r_max: expected a number >= 1, got 0\.5$"):
        RenormWarmup(layers, (0.5, 1))
    with pytest.raises(ValueError, match=r"^r_end: expected an int > start, got 10$"):
        RenormWarmup(layers, start=10, r_end=10)
    with pytest.raises(ValueError, match=r"^start: expected an int >= 0, got -1$"):
        RenormWarmup(layers, start=-1)


def batches_of(mean: float) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(mean, 1, (n, 3, 5)) for n in (7, 1, 64, 12)]


@pytest.mark.parametrize("mean", [0.0, 1e3], ids=str)
@pytest.mark.parametrize("momentum", [0.1, None], ids=str)
def test_collected_batches_are_one(isa: str, mean: float, momentum: float | None) -> None:
    batches = batches_of(mean)
    collecting, at_once = (bn.BatchNorm(3, momentum=momentum, dtype=np.float64) for _ in range(2))
    for _ in range(2):
        with bn.accumulate_statistics(collecting) as collected:
            for batch in batches:
                y = collecting(batch)
                assert_same_bits("y", y, bn.batch_norm_train(batch)[0])
                collecting.backward(y)
        at_once(np.concatenate(batches))
        for name, a in collecting.state_dict().items():
            np.testing.assert_allclose(a, at_once.state_dict()[name], rtol=1e-12, err_msg=name)
    assert (collected.statistics[0].count == 84 * 5).all()


@pytest.mark.parametrize("end", ["discard", "error", "nothing", "evaluation"])
def test_nothing_collected(end: str) -> None:
    layer, other = bn.BatchNorm(3), bn.BatchNorm(2)
    before = {name: a.copy() for name, a in layer.state_dict().items()}
    try:
        with bn.accumulate_statistics(layer, other) as collected:
            if end == "evaluation":
                layer.eval()
            if end != "nothing":
                layer(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
            if end == "discard":
                collected.discard()
            if end == "error":
                raise KeyError
    except KeyError:
        assert end == "error"
    for name, a in layer.state_dict().items():
        assert_same_bits(name, a, before[name])
    layer.train()(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    assert layer.num_batches_tracked == 1


def test_collecting_refuses() -> None:
    layer = bn.BatchNorm(3)
    with pytest.raises(TypeError, match=r"^layers: expected a BatchNorm, got int$"):
        bn.accumulate_statistics(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^layers: expected each layer once"):
        bn.accumulate_statistics(layer, layer)
    with pytest.raises(ValueError, match=r"^layers: expected running statistics"):
        bn.accumulate_statistics(bn.BatchNorm(3, track_running_stats=False))
    with bn.accumulate_statistics(layer), pytest.raises(ValueError, match=r"^layers: expected layers that no other"):
        bn.accumulate_statistics(bn.BatchNorm(2), layer).__enter__()
    other = bn.BatchNorm(3)
    assert other.running_var is not None
    collecting = bn.accumulate_statistics(layer, other)
    collecting.__enter__()
    for each in (layer, other):
        each(np.eye(3, dtype=np.float32))
    other.running_var.flags.writeable = False
    with pytest.raises(ValueError, match=r"^running_var: expected a writeable array"):
        collecting.__exit__(None, None, None)
    assert layer.num_batches_tracked == 0
    assert not np.asarray(layer.running_mean).any()


@pytest.mark.parametrize("wrong", [{"momentum": 5.0}, {"running_mean": np.zeros(3, np.float16)}], ids=str)
def test_all_or_none_is_committed(wrong: dict[str, Any]) -> None:
    first, second = bn.BatchNorm(3), bn.BatchNorm(3)
    before = {name: a.copy() for name, a in first.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    with pytest.raises((TypeError, ValueError)), bn.accumulate_statistics(first, second):  # noqa: PT012
        first(x)
        second(x)
        for name, value in wrong.items():
            setattr(second, name, value)
    for name, a in first.state_dict().items():
        assert_same_bits(name, a, before[name])


@pytest.mark.parametrize("mean", [0.0, 1e3], ids=str)
def test_population_statistics(isa: str, mean: float) -> None:
    batches = [*batches_of(mean), np.zeros((0, 3, 5))]
    whole = bn.channel_stats(np.concatenate(batches))
    layer = bn.BatchNorm(3, unbiased=False)
    for source in (layer, lambda batch: batch):
        got = bn.population_statistics(source, iter(batches))
        np.testing.assert_allclose(got.mean, whole.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.var, whole.var(0 if source is layer else 1), rtol=1e-12)
        assert (got.count == whole.count).all()
    paper = bn.population_statistics(layer, batches, method="paper")
    np.testing.assert_allclose(paper.mean, np.mean([b.mean((0, 2)) for b in batches[:4]], 0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(paper.var, np.mean([b.var((0, 2), ddof=1) for b in batches[:4]], 0), rtol=1e-9)
    last = bn.population_statistics(lambda b: np.moveaxis(b, 1, -1), batches, axis=-1, unbiased=False)
    np.testing.assert_allclose(last.var, whole.var(), rtol=1e-12)


def test_population_statistics_refuse() -> None:
    layer, ones = bn.BatchNorm(3), [np.ones((2, 3))]
    with pytest.raises(TypeError, match=r"^source: expected a BatchNorm or a function, got int$"):
        bn.population_statistics(3, ones)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^method: expected 'exact' or 'paper', got 'mean'$"):
        bn.population_statistics(layer, ones, method="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^batches: expected values, got none$"):
        bn.population_statistics(layer, [])
    with pytest.raises(ValueError, match=r"^batches: expected 3 channels along axis 1, got 4$"):
        bn.population_statistics(layer, [np.ones((2, 4))])
    with pytest.raises(ValueError, match=r"^batches: expected more than one value per channel in each"):
        bn.population_statistics(layer, [np.ones((1, 3))], method="paper")
    with pytest.raises(TypeError, match=r"^batches: expected an iterable of arrays, got int$"):
        bn.population_statistics(layer, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^batches: expected 3 channels, as before, got 4$"):
        bn.population_statistics(lambda b: b, [np.ones((2, 3)), np.ones((2, 4))])


NUMBERS = {  # eps, weight of the new value, unbiased: from each framework's documentation
    "torch": (1e-5, 0.1, True),
    "keras": (1e-3, 0.01, False),
    "flax": (1e-5, 0.01, False),
    "onnx": (1e-5, 0.1, False),
    "chainer": (2e-5, 0.1, True),
    "mxnet": (1e-5, 0.1, False),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_conventions(name: Any) -> None:
    eps, new, unbiased = NUMBERS[name]
    x = np.random.default_rng(0).normal(3, 2, (6, 4))
    layer = bn.BatchNorm(4, dtype=np.float64, **bn.convention(name))
    y = layer(x)
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + eps), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(layer.running_mean), new * x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(layer.running_var), 1 - new + new * x.var(0, ddof=int(unbiased)), rtol=1e-12)
    options = bn.convention(name)
    options["eps"] = 7.0
    assert bn.convention(name)["eps"] == eps


def test_no_such_convention() -> None:
    with pytest.raises(ValueError, match=r"^name: expected one of 'torch', 'keras', .*'mxnet', got 'caffe'$"):
        bn.convention("caffe")
    with pytest.raises(TypeError, match=r"^name: expected a str, got int$"):
        bn.convention(7)  # type: ignore[arg-type]
