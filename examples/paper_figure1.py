"""Figure 1 of Ioffe & Szegedy (2015), on the digits: three layers of 100 sigmoid units, with and without BN.

Left: test accuracy by step. Right: the 15th, 50th and 85th percentile of one unit's input in the last hidden layer.
With batch normalization the network learns sooner, and what the unit sees stays put while the layers below it change.

    python examples/paper_figure1.py
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import Data, Mlp, digits, gaussian, options, print_table, progress, save, sigmoid, train

from batchnorm.training import SGD

STEPS, EVERY, BATCH, RATE, STD = 6000, 50, 60, 0.5, 0.1
PERCENTILES = (15, 50, 85)


@dataclass
class Curve:
    """What one network did, every so many steps."""

    steps: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    spread: list[Any] = field(default_factory=list)

    def take(self, step: int, net: Mlp, test: Data) -> None:
        """Add a point."""
        seen: list[Any] = []
        net.train(False)
        net.logits(net.parameters, test.x, seen)
        net.train(True)
        self.steps.append(step)
        self.accuracy.append(net.accuracy(test))
        self.spread.append(np.percentile(seen[-1][:, 0], PERCENTILES))


def run(normalize: bool, steps: int, advance: Any) -> Curve:
    """Train one network."""
    data, test = digits()
    rng = np.random.default_rng(1)
    net = Mlp(rng, (64, 100, 100, 100, 10), gaussian(STD), normalize=normalize, activation=sigmoid)
    curve = Curve()
    curve.take(0, net, test)

    def after(step: int) -> None:
        if step % EVERY == 0:
            curve.take(step, net, test)
            advance("with BN" if normalize else "without BN")

    train(net, SGD(net.parameters, RATE), data, steps, BATCH, rng, after)
    return curve


def draw(curves: dict[str, Curve]) -> Any:
    """Accuracy, and percentiles for each network on axes of the same scale."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), width_ratios=(1.3, 1, 1), layout="constrained")
    for (name, curve), color in zip(curves.items(), ("tab:gray", "tab:blue"), strict=True):
        axes[0].plot(curve.steps, curve.accuracy, color=color, label=name)
    axes[0].set(title="test accuracy, %", xlabel="step", ylim=(0, 101))
    axes[0].legend()
    for axis, (name, curve) in zip(axes[1:], curves.items(), strict=True):
        for values, p in zip(np.array(curve.spread).T, PERCENTILES, strict=True):
            axis.plot(curve.steps, values, color="tab:orange", lw=2 if p == 50 else 1)
            axis.annotate(
                f"{p} %", (curve.steps[-1], values[-1]), xytext=(3, 0), textcoords="offset points", va="center"
            )
        axis.set(title=f"input of one sigmoid, {name}", xlabel="step")
    return figure


def main() -> None:
    """Train both and show them."""
    chosen = options(__doc__)
    steps = 600 if chosen.quick else STEPS
    with progress(2 * steps // EVERY) as advance:
        curves = {"without BN": run(False, steps, advance), "with BN": run(True, steps, advance)}
    marks = [s for s in (100, 200, 400, 600, 1000, 2000, 4000, 6000) if s <= steps]
    rows = [
        [name, *(f"{curve.accuracy[curve.steps.index(s)]:.1f}" for s in marks), f"{max(curve.accuracy):.1f}"]
        for name, curve in curves.items()
    ]
    print_table("Test accuracy, %, by step", ["", *map(str, marks), "best"], rows)
    save(draw(curves), chosen.out, __file__)


if __name__ == "__main__":
    main()
