"""The techniques around the layer, each in a panel: its effect on the digits.

Learning-rate schedules; a moving average of the parameters; BN trained apart from the rest, and nothing but BN;
clipping; residual blocks that begin as the identity; and normalization taken back.

    python examples/techniques.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from common import Array, Mlp, Parameters, digits, options, print_table, progress, relu, save, train

import batchnorm as bn
from batchnorm.autograd import apply
from batchnorm.training import (
    SGD,
    ExponentialLR,
    ExponentialMovingAverage,
    LinearWarmup,
    Optimizer,
    Phases,
    ReduceOnPlateau,
    by_role,
    clip_by_norm,
    clip_by_value,
    parameters_of,
)
from batchnorm.training.initialization import he, zero_init

BATCH, EPOCHS = 60, 16
Curves = dict[str, list[float]]
Each = Callable[[Any, Optimizer], Callable[[], object]]  # made once; what it returns is called after each step

Change = Callable[[Parameters], object]  # may edit the gradients of a step


def nothing(net: Any, optimizer: Optimizer) -> Callable[[], object]:
    """Do nothing after a step."""
    return lambda: None


def stepping(schedule: LinearWarmup) -> Each:
    """Step a schedule after each step of training."""
    return lambda net, optimizer: schedule.step


class Experiment:
    """Trains networks for some epochs and keeps the test accuracy after each."""

    def __init__(self, epochs: int, advance: Callable[[str], None]) -> None:
        self.data, self.test = digits()
        self.epochs, self.advance = epochs, advance
        self.per_epoch = len(self.data.x) // BATCH

    def mlp(self, normalize: bool = True) -> Mlp:
        """Return the network that most panels train."""
        return Mlp(np.random.default_rng(1), (64, 100, 100, 10), lambda rng, s: he(rng, s), normalize=normalize)

    def run(
        self,
        net: Any,
        optimizer: Optimizer,
        each_epoch: Callable[[], object],
        each_step: Each = nothing,
        change: Change = lambda gradients: None,
    ) -> list[float]:
        """Return the accuracy after each epoch; `each_epoch` is called then."""
        curve: list[float] = []
        do = each_step(net, optimizer)

        def after(step: int) -> None:
            do()
            if step % self.per_epoch == 0:
                curve.append(net.accuracy(self.test))
                each_epoch()

        with np.errstate(all="ignore"):  # some diverge
            train(
                net, optimizer, self.data, self.epochs * self.per_epoch, BATCH, np.random.default_rng(2), after, change
            )
        self.advance("techniques")
        return curve


def schedules(e: Experiment) -> tuple[Curves, Curves]:
    """Compare a constant rate of 1 with schedules that start there; also return the rates."""
    curves: Curves = {}
    rates: Curves = {}
    for name in ("constant", "exponential", "on plateau", "warm-up, exponential"):
        net = e.mlp()
        optimizer = SGD(net.parameters, 1.0, momentum=0.9)
        plateau = ReduceOnPlateau(optimizer, mode="max", factor=0.3, patience=1)
        decay = ExponentialLR(optimizer, 0.75 if "exponential" in name else 1.0)
        each_step = stepping(LinearWarmup(optimizer, 2 * e.per_epoch)) if "warm-up" in name else nothing
        rates[name] = []

        def each_epoch(
            net: Any = net, name: str = name, plateau: Any = plateau, decay: Any = decay, optimizer: Any = optimizer
        ) -> None:
            rates[name].append(optimizer.groups["all"]["lr"])
            decay.step()
            if name == "on plateau":
                plateau.step(net.accuracy(e.data))

        curves[name] = e.run(net, optimizer, each_epoch, each_step)
    return curves, rates


def moving_average(e: Experiment) -> Curves:
    """Compare the parameters of each epoch's end with their moving average, statistics of BN included."""
    net = e.mlp()
    state = {f"{name}.{key}": a for name, layer in net.layers.items() for key, a in layer.state_dict().items()}
    floats = {name: a for name, a in state.items() if a.dtype.kind == "f"}
    average = ExponentialMovingAverage({**net.parameters, **floats}, 0.95)
    averaged: list[float] = []

    def each_epoch() -> None:
        with average.swapped():
            averaged.append(net.accuracy(e.test))

    raw = e.run(net, SGD(net.parameters, 1.0, momentum=0.9), each_epoch, lambda n, o: average.update)
    return {"as they are": raw, "moving average": averaged}


def apart(e: Experiment) -> Curves:
    """Train everything, BN and the rest in turns, one of them alone."""
    curves: Curves = {}
    for name, phases in {
        "all": [(["bn", "rest"], 1)],
        "in turns": [(["rest"], 1), (["bn"], 1)],
        "the rest alone": [(["rest"], 1)],
        "BN alone": [(["bn"], 1)],
    }.items():
        net = e.mlp()
        optimizer = SGD(by_role(net.parameters, net.layers), 0.05, momentum=0.9)
        curves[name] = e.run(net, optimizer, Phases(optimizer, phases, repeat=True).step)
    return curves


def clipping(e: Experiment) -> Curves:
    """Train without BN at too high a rate, as it is, with clipped weights, and with clipped gradients."""
    runs: dict[str, tuple[Each, Change]] = {
        "not clipped": (nothing, lambda gradients: None),
        "weights, value 0.3": (lambda net, o: lambda: clip_by_value(net.parameters, 0.3), lambda gradients: None),
        "gradients, norm 0.5": (nothing, lambda gradients: clip_by_norm(gradients, 0.5, together=True)),
    }
    curves: Curves = {}
    for name, (each_step, change) in runs.items():
        net = e.mlp(normalize=False)
        curves[name] = e.run(net, SGD(net.parameters, 0.4, momentum=0.9), lambda: None, each_step, change)
    return curves


class ResidualNet(Mlp):
    """x + BN(W relu(BN(V x))), block after block, between two dense layers."""

    def __init__(self, blocks: int, zero: bool) -> None:
        rng = np.random.default_rng(3)
        super().__init__(rng, (64, 64, 10), lambda rng, s: he(rng, s), normalize=True)
        self.blocks = blocks
        for k in range(blocks):
            for part in "ab":
                self.layers[f"{part}{k}"] = bn.BatchNorm(64)
                self.parameters[f"{part}{k}.dense"] = he(rng, (64, 64))
            if zero:
                zero_init(self.layers[f"b{k}"])
        self.parameters |= parameters_of(self.layers)

    def logits(self, p: Parameters, x: Any, seen: list[Any] | None = None, normalize: Any = apply) -> Any:
        """Run the network."""

        def part(name: str, x: Any) -> Any:
            y = anp.dot(x, p[f"{name}.dense"])
            return apply(self.layers[name], y, p[f"{name}.weight"], p[f"{name}.bias"])

        x = relu(apply(self.layers["bn1"], anp.dot(x, p["fc1.weight"]), p["bn1.weight"], p["bn1.bias"]))
        for k in range(self.blocks):
            x = x + part(f"b{k}", relu(part(f"a{k}", x)))
        return anp.dot(x, p["fc2.weight"]) + p["fc2.bias"]


def residual(e: Experiment) -> Curves:
    """Compare ten residual blocks that begin as the identity with ten that don't."""
    curves: Curves = {}
    for name, zero in (("weight 1", False), ("weight 0", True)):
        net = ResidualNet(10, zero)
        curves[name] = e.run(net, SGD(net.parameters, 0.02, momentum=0.9), lambda: None)
    return curves


def inverse(x: Array) -> tuple[Array, float]:
    """Return an image, normalized pixel by pixel, and back; and how far the way back misses."""
    stats = bn.channel_stats(x)
    y = bn.batch_norm_inference(x, stats.mean, stats.var())
    back = bn.denormalize(y, stats.mean, stats.var())
    return np.hstack([a[0].reshape(8, 8) for a in (x, y / 6 + 0.5, back)]), float(np.abs(back - x).max())


def draw(panels: dict[str, Curves], rates: Curves, images: Array) -> Any:
    """Draw a panel for each."""
    figure, axes = plt.subplots(2, 4, figsize=(17, 7), layout="constrained")
    for axis, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for name, curve in curves.items():
            axis.plot(range(1, len(curve) + 1), curve, label=name)
        axis.set(title=f"{title}: test accuracy, %", xlabel="epoch")
        axis.set_ylim(bottom=max(0, np.percentile(np.concatenate([*curves.values()]), 15) - 8), top=100.5)
        axis.legend()
    for name, values in rates.items():
        axes[1, 1].semilogy(range(1, len(values) + 1), values, label=name)
    axes[1, 1].set(title="learning rates of the schedules", xlabel="epoch")
    axes[1, 1].legend()
    axes[1, 2].imshow(images, cmap="gray", vmin=0, vmax=1)
    axes[1, 2].set(title="an image, normalized by pixel, and back", xticks=[], yticks=[])
    axes[1, 3].axis("off")
    return figure


def main() -> None:
    """Run every panel and show them."""
    chosen = options(__doc__)
    with progress(14) as advance:
        e = Experiment(2 if chosen.quick else EPOCHS, advance)
        with_schedules, rates = schedules(e)
        panels = {
            "schedules from 1": with_schedules,
            "parameters": moving_average(e),
            "BN apart": apart(e),
            "clipping, no BN": clipping(e),
            "last BN of a block": residual(e),
        }
    images, missed = inverse(e.test.x)
    rows = [
        [f"{title}: {name}", f"{curve[0]:.1f}", f"{curve[-1]:.1f}", f"{max(curve):.1f}"]
        for title, curves in panels.items()
        for name, curve in curves.items()
    ]
    print_table("Test accuracy, %", ["", "after 1 epoch", "last", "best"], rows)
    print(f"denormalize(normalize(x)) misses x by {missed:.1e} at most")
    save(draw(panels, rates, images), chosen.out, __file__)


if __name__ == "__main__":
    main()
