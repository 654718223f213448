"""Training beside PyTorch, step by step: the same losses, statistics and accuracy; optimizers and schedules too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm import training
from batchnorm.training import gradients_of, parameters_of
from oracle import Array

pytestmark = pytest.mark.peers

torch: Any = pytest.importorskip("torch", reason="needs the extra [peers]")
datasets: Any = pytest.importorskip("sklearn.datasets", reason="needs the extra [peers]")

STEPS, BATCH = 300, 60
WIDTHS = (64, 100, 100, 10)


def digits(dtype: Any) -> tuple[Array, Array]:
    x, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype(dtype), labels[order]


def batches(count: int) -> Iterator[Array]:
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        yield rng.choice(count, BATCH, replace=False)


class Ours:
    """Linear, BN, ReLU, twice; linear with a bias; softmax and cross entropy."""

    def __init__(self, dtype: Any) -> None:
        rng = np.random.default_rng(2)
        self.layers = {f"bn{k}": bn.BatchNorm(WIDTHS[k], dtype=dtype) for k in (1, 2)}
        self.parameters: dict[str, Array] = {
            f"fc{k}.weight": rng.normal(0, 0.1, WIDTHS[k - 1 : k + 1]).astype(dtype) for k in (1, 2, 3)
        }
        self.parameters["fc3.bias"] = np.zeros(WIDTHS[3], dtype)
        self.parameters |= parameters_of(self.layers)

    def logits(self, x: Array) -> tuple[Array, list[Array]]:
        inputs = [x]
        for k in (1, 2):
            x = np.maximum(self.layers[f"bn{k}"](x @ self.parameters[f"fc{k}.weight"]), 0)
            inputs.append(x)
        return x @ self.parameters["fc3.weight"] + self.parameters["fc3.bias"], inputs

    def loss_and_gradients(self, x: Array, labels: Array) -> tuple[float, dict[str, Array]]:
        z, inputs = self.logits(x)
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        rows = np.arange(len(x))
        loss = -float(log_p[rows, labels].mean())
        d = np.exp(log_p)
        d[rows, labels] -= 1
        d /= len(x)
        gradients = {"fc3.bias": d.sum(axis=0), "fc3.weight": inputs[2].T @ d}
        for k in (2, 1):
            d = (d @ self.parameters[f"fc{k + 1}.weight"].T) * (inputs[k] > 0)
            d = self.layers[f"bn{k}"].backward(d)
            gradients[f"fc{k}.weight"] = inputs[k - 1].T @ d
        return loss, {**gradients, **gradients_of(self.layers)}

    def accuracy(self, x: Array, labels: Array) -> float:
        for layer in self.layers.values():
            layer.eval()
        right = self.logits(x)[0].argmax(axis=1) == labels
        return 100 * float(right.mean())


def theirs(ours: Ours) -> Any:
    """The same network with copies of the same weights."""
    linear = [torch.nn.Linear(WIDTHS[k - 1], WIDTHS[k], bias=k == 3) for k in (1, 2, 3)]
    norms = [torch.nn.BatchNorm1d(WIDTHS[k]) for k in (1, 2)]
    relu = torch.nn.ReLU()
    net = torch.nn.Sequential(linear[0], norms[0], relu, linear[1], norms[1], relu, linear[2])
    net.to(torch.from_numpy(ours.parameters["fc1.weight"]).dtype)
    with torch.no_grad():
        for k in (1, 2, 3):
            linear[k - 1].weight.copy_(torch.from_numpy(ours.parameters[f"fc{k}.weight"].T.copy()))
        linear[2].bias.zero_()
    return net


OPTIMIZERS: dict[str, tuple[Any, Any]] = {
    "sgd": (
        lambda p: training.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    ),
    "adam": (lambda p: training.Adam(p, 1e-3), lambda p: torch.optim.Adam(p, 1e-3)),
    "rmsprop": (lambda p: training.RMSprop(p, 1e-3), lambda p: torch.optim.RMSprop(p, 1e-3)),
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_training(name: str, dtype: Any, one_thread: None) -> None:
    x, labels = digits(dtype)
    train, test = slice(0, 1400), slice(1400, None)
    ours = Ours(dtype)
    net = theirs(ours)
    make, make_theirs = OPTIMIZERS[name]
    optimizer, torch_optimizer = make(ours.parameters), make_theirs(net.parameters())
    for rows in batches(1400):
        loss, gradients = ours.loss_and_gradients(x[train][rows], labels[train][rows])
        optimizer.step(gradients)
        torch_optimizer.zero_grad()
        torch_loss = torch.nn.functional.cross_entropy(
            net(torch.from_numpy(x[train][rows])), torch.from_numpy(labels[train][rows])
        )
        torch_loss.backward()
        torch_optimizer.step()
        if dtype == np.float64:
            assert loss == pytest.approx(torch_loss.item(), rel=1e-9, abs=0)
    if dtype == np.float64:
        for k, module in ((1, net[1]), (2, net[4])):
            layer = ours.layers[f"bn{k}"]
            assert layer.running_mean is not None and layer.running_var is not None
            std = np.sqrt(layer.running_var)
            assert (abs(layer.running_mean - module.running_mean.numpy()) <= 1e-10 * std).all()
            assert (abs(std - np.sqrt(module.running_var.numpy())) <= 1e-10 * std).all()
    net.eval()
    with torch.no_grad():
        right = net(torch.from_numpy(x[test])).numpy().argmax(axis=1) == labels[test]
    accuracy = ours.accuracy(x[test], labels[test])
    assert accuracy > 90
    assert abs(accuracy - 100 * float(right.mean())) <= 0.5


FORMULAS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "sgd-nesterov": ("SGD", "SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}, {}),
    "adam-decay": (
        "Adam",
        "Adam",
        {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1},
        {"beta1": 0.8, "beta2": 0.95},
    ),
    "adamw": ("AdamW", "AdamW", {"lr": 0.05, "weight_decay": 0.1}, {"beta1": 0.8, "beta2": 0.95}),
    "rmsprop-momentum": (
        "RMSprop",
        "RMSprop",
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.7, "weight_decay": 0.1},
        {},
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_same_steps(name: str) -> None:
    ours_name, theirs_name, shared, betas = FORMULAS[name]
    w = np.random.default_rng(0).normal(size=(4, 3))
    tw = torch.from_numpy(w.copy()).requires_grad_()
    optimizer = getattr(training, ours_name)({"w": w}, **shared, **betas)
    extra = {"betas": tuple(betas.values())} if betas else {}
    torch_optimizer = getattr(torch.optim, theirs_name)([tw], **shared, **extra)
    schedule = training.ExponentialLR(optimizer, 0.9)
    torch_schedule = torch.optim.lr_scheduler.ExponentialLR(torch_optimizer, 0.9)
    for g in np.random.default_rng(1).normal(size=(40, 4, 3)):
        optimizer.step({"w": g})
        tw.grad = torch.from_numpy(g.copy())
        torch_optimizer.step()
        schedule.step()
        torch_schedule.step()
        np.testing.assert_allclose(w, tw.detach().numpy(), rtol=1e-12)


def test_the_same_plateaus_and_warm_up() -> None:
    def optimizers() -> tuple[Any, Any]:
        return training.SGD({"w": np.ones(1)}, 0.5), torch.optim.SGD([torch.ones(1)], 0.5)

    def rates(ours: Any, torch_one: Any) -> tuple[float, float]:
        return ours.groups["all"]["lr"], torch_one.param_groups[0]["lr"]

    pair = optimizers()
    options = {"mode": "max", "factor": 0.3, "patience": 2, "cooldown": 3, "min_lr": 1e-3, "threshold": 0.01}
    ours = training.ReduceOnPlateau(pair[0], **options)  # type: ignore[arg-type]
    torch_one = torch.optim.lr_scheduler.ReduceLROnPlateau(pair[1], **options)
    rng = np.random.default_rng(0)
    for t in range(60):
        metric = 1 - 1 / (1 + t // 7) + 0.004 * rng.normal()
        ours.step(metric)
        torch_one.step(metric)
        assert rates(*pair)[0] == pytest.approx(rates(*pair)[1], rel=1e-12)
    assert rates(*pair)[0] < 0.5

    pair = optimizers()
    warm = training.LinearWarmup(pair[0], 8, start=0.25)
    torch_warm = torch.optim.lr_scheduler.LinearLR(pair[1], start_factor=0.25, total_iters=8)
    for _ in range(12):
        assert rates(*pair)[0] == pytest.approx(rates(*pair)[1], rel=1e-12)
        pair[1].step()
        warm.step()
        torch_warm.step()


def test_the_same_average() -> None:
    w = np.ones(3)
    module = torch.nn.Linear(3, 1, bias=False).double()
    average = training.ExponentialMovingAverage({"w": w}, 0.9)
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    with torch.no_grad():
        module.weight.fill_(1)
    torch_average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=decay)
    torch_average.update_parameters(module)  # theirs starts with the first values that it is given
    for g in np.random.default_rng(1).normal(size=(20, 3)):
        w += g
        with torch.no_grad():
            module.weight += torch.from_numpy(g)
        average.update()
        torch_average.update_parameters(module)
    np.testing.assert_allclose(average.averages()["w"], torch_average.module.weight.detach().numpy()[0], rtol=1e-12)
