"""A dense network 64-512-256-10 on the digits: BN under SGD and Adam, and beside dropout and L2.

With --bench, what batch normalization adds to a training step at a batch of 256: compiled, against the same written in
autograd's NumPy.

    python examples/dense_net.py
    python examples/dense_net.py --bench
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from autograd import value_and_grad
from autograd.tracer import getval
from common import Data, Mlp, batches, cross_entropy, digits, options, print_table, progress, save, train

import batchnorm as bn
from batchnorm.autograd import apply
from batchnorm.training import SGD, Adam, Optimizer, by_role
from batchnorm.training.initialization import he

WIDTHS, BATCH, EPOCHS = (64, 512, 256, 10), 64, 30
# name: (normalize, dropout, weight decay of everything but BN)
NETS = {
    "plain": (False, 0.0, 0.0),
    "dropout 0.3": (False, 0.3, 0.0),
    "BN": (True, 0.0, 0.0),
    "BN, dropout 0.3": (True, 0.3, 0.0),
    "BN, L2 1e-3": (True, 0.0, 1e-3),
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda groups, decay: SGD(groups, 0.05, momentum=0.9, weight_decay=decay),
    "Adam": lambda groups, decay: Adam(groups, 1e-3, weight_decay=decay),
}


def run(net_name: str, optimizer_name: str, epochs: int) -> list[float]:
    """Return the test accuracy after each epoch."""
    data, test = digits()
    normalize, dropout, decay = NETS[net_name]
    rng = np.random.default_rng(2)
    net = Mlp(rng, WIDTHS, lambda rng, shape: he(rng, shape), normalize=normalize, dropout=dropout)
    optimizer = OPTIMIZERS[optimizer_name](by_role(net.parameters, net.layers), decay)
    per_epoch = len(data.x) // BATCH
    curve: list[float] = []

    def after(step: int) -> None:
        if step % per_epoch == 0:
            curve.append(net.accuracy(test))

    train(net, optimizer, data, epochs * per_epoch, BATCH, rng, after)
    return curve


def draw(curves: dict[tuple[str, str], list[float]]) -> Any:
    """Accuracy by epoch, an optimizer on each side."""
    figure, axes = plt.subplots(1, len(OPTIMIZERS), figsize=(11, 3.8), sharey=True)
    for axis, optimizer in zip(axes, OPTIMIZERS, strict=True):
        for name in NETS:
            curve = curves[name, optimizer]
            axis.plot(range(1, len(curve) + 1), curve, label=name)
        axis.set(title=f"test accuracy, %, {optimizer}", xlabel="epoch", ylim=(90, 100))
        axis.legend()
    return figure


def in_numpy(layer: bn.BatchNorm, x: Any, weight: Any, bias: Any) -> Any:
    """Batch normalization as one writes it in autograd's NumPy, running statistics included."""
    mean = anp.mean(x, axis=0)
    centered = x - mean
    var = anp.mean(centered**2, axis=0)
    n = len(getval(x))
    for running, new in ((layer.running_mean, mean), (layer.running_var, var * n / (n - 1))):
        running += 0.1 * (getval(new) - running)
    return centered / anp.sqrt(var + layer.eps) * weight + bias


def training_step(normalize: Any, data: Data, batch: int) -> Callable[[], None]:
    """Return what trains a network by one step, with this way of normalizing."""
    rng = np.random.default_rng(2)
    net = Mlp(rng, WIDTHS, lambda rng, shape: he(rng, shape), normalize=True)
    optimizer, rows = SGD(net.parameters, 1e-3, momentum=0.9), batches(rng, len(data.x), batch)

    def loss(p: Any, part: Data) -> Any:
        # Every parameter has a gradient, also with the identity.
        unused = 0 * sum(anp.sum(p[name]) for name in net.parameters if name.startswith("bn"))
        return cross_entropy(net.logits(p, part.x, normalize=normalize), part.labels) + unused

    gradient = value_and_grad(loss)
    return lambda: optimizer.step(gradient(net.parameters, data.take(next(rows)))[1])


def bench(rounds: int, batch: int = 256) -> None:
    """Time a step with each way of normalizing, in turns, and print medians."""
    ways = {"identity": lambda layer, x, w, b: x, "autograd.numpy": in_numpy, "compiled": apply}
    data, _ = digits()
    steps = {name: training_step(normalize, data, batch) for name, normalize in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    with progress(rounds) as advance:
        for _ in range(rounds):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                times[name].append(1000 * (time.perf_counter() - started))
            advance("rounds")
    median = {name: float(np.median(values)) for name, values in times.items()}
    added = {name: median[name] - median["identity"] for name in median}
    rows_ = [[name, f"{median[name]:.2f}", f"{added[name]:.2f}"] for name in median]
    print_table(f"A training step, batch {batch}: ms, median of {rounds}", ["BN", "step", "of it BN"], rows_)
    print(f"BN: {added['autograd.numpy'] / added['compiled']:.1f} times less when compiled")
    print(f"whole step: {median['autograd.numpy'] / median['compiled']:.2f} times")


def main() -> None:
    """Train all of them and show them."""
    chosen = options(
        __doc__, lambda parser: parser.add_argument("--bench", action="store_true", help="time a step instead")
    )
    if chosen.bench:
        return bench(40 if chosen.quick else 400)
    curves = {}
    with progress(len(NETS) * len(OPTIMIZERS)) as advance:
        for optimizer in OPTIMIZERS:
            for name in NETS:
                curves[name, optimizer] = run(name, optimizer, 4 if chosen.quick else EPOCHS)
                advance(f"{name}, {optimizer}")
    head = ["", *(f"{optimizer}, {what}" for optimizer in OPTIMIZERS for what in ("1 epoch", "last", "best"))]
    rows = []
    for name in NETS:
        found = [curves[name, optimizer] for optimizer in OPTIMIZERS]
        rows.append([name, *(f"{v:.1f}" for curve in found for v in (curve[0], curve[-1], max(curve)))])
    print_table("Test accuracy, %", head, rows)
    return save(draw(curves), chosen.out, __file__)


if __name__ == "__main__":
    main()
