"""Small batches: what to train a network with, and what to evaluate it with.

A network with BN is trained with batches of 2 to 64 digits. Its running average has seen the last batches of a network
that was still moving, and each of them told little. The population's statistics are merged from one more pass over the
training data (`reestimate`), exactly, so that batches may be of any size.

Batch renormalization (Ioffe 2017) trains with the running statistics as far as the batch lies within bounds of them, so
that a small batch is taken for what it is. Ghost batch normalization (Hoffer et al. 2017) goes the other way: it
normalizes a large batch in groups of 8, for the noise that small batches have and large ones lack.

    python examples/small_batches.py
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import Data, Mlp, digits, median_and_range, options, print_table, progress, save, train

from batchnorm.training import SGD, RenormWarmup, reestimate
from batchnorm.training.initialization import he

SIZES, SEEDS, EXAMPLES, RATE = (2, 4, 8, 16, 64), 5, 12_000, 0.05  # the rate is that of 64, and falls with the batch
GHOST = 8  # samples of a group


def forward(net: Mlp) -> Callable[[Any], Any]:
    """Return the network as a function that calls its layers."""
    return lambda x: net.logits(net.parameters, x, normalize=lambda layer, x, weight, bias: layer(x))


def running_average(net: Mlp, data: Data, size: int) -> None:
    """Leave the layers as training left them."""


def population(net: Mlp, data: Data, size: int) -> None:
    """Take the statistics over the training data, in batches as large as those of training."""
    reestimate(net.layers, forward(net), (data.x[i : i + size] for i in range(0, len(data.x) - size + 1, size)))


def population_in_one(net: Mlp, data: Data, size: int) -> None:
    """Take them over the training data at once."""
    reestimate(net.layers, forward(net), [data.x])


def plain(net: Mlp, size: int, steps: int) -> Callable[[int], None]:
    """Leave the layers as they are; return what to do after a step."""
    return lambda step: None


def renormalized(net: Mlp, size: int, steps: int) -> Callable[[int], None]:
    """Widen the bounds of batch renormalization over the first half of training, as the paper does."""
    bounds = RenormWarmup(net.layers, start=steps // 10, r_end=steps // 2, d_end=steps // 3)
    return lambda step: bounds.step()


def ghost(net: Mlp, size: int, steps: int) -> Callable[[int], None]:
    """Normalize in groups of a few samples."""
    for layer in net.layers.values():
        layer.groups = max(1, size // GHOST)
    return lambda step: None


Trained = Callable[[Mlp, int, int], Callable[[int], None]]
Evaluated = Callable[[Mlp, Data, int], None]
WAYS: dict[str, tuple[Trained, Evaluated]] = {
    "running average": (plain, running_average),
    "population, same batches": (plain, population),
    "population, one batch": (plain, population_in_one),
    "renormalization": (renormalized, running_average),
    f"ghost batches of {GHOST}": (ghost, running_average),
}


def run(size: int, seed: int, examples: int) -> list[float]:
    """Return the test accuracy of each way; networks that are trained alike are trained once."""
    data, test = digits()
    steps = examples // size
    nets: dict[Trained, Mlp] = {}
    found = []
    for trained, evaluated in WAYS.values():
        if trained not in nets:
            rng = np.random.default_rng(seed)
            net = nets[trained] = Mlp(rng, (64, 100, 100, 10), lambda rng, shape: he(rng, shape), normalize=True)
            optimizer = SGD(net.parameters, RATE * size / 64, momentum=0.9)
            train(net, optimizer, data, steps, size, rng, after=trained(net, size, steps))
        evaluated(nets[trained], data, size)
        found.append(nets[trained].accuracy(test))
    return found


def draw(found: Any) -> Any:
    """Median and range over seeds, by the size of a batch."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for i, name in enumerate(WAYS):
        values = found[:, :, i]
        axis.plot(SIZES, np.median(values, axis=1), marker="o", label=name)
        axis.fill_between(SIZES, values.min(axis=1), values.max(axis=1), alpha=0.15)
    axis.set_xscale("log", base=2)
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.set(
        xlabel="size of a batch in training", ylabel="test accuracy, %", title="trained plainly, but for the last two"
    )
    axis.legend()
    return figure


def main() -> None:
    """Train all of them and show them."""
    chosen = options(__doc__)
    seeds, examples = (2, 3000) if chosen.quick else (SEEDS, EXAMPLES)
    cells = [(size, seed) for size in SIZES for seed in range(seeds)]
    results: list[list[float]] = []
    with ProcessPoolExecutor(2) as pool, progress(len(cells)) as advance:
        for accuracies in pool.map(run, *zip(*cells, strict=True), [examples] * len(cells)):
            results.append(accuracies)
            advance("networks")
    found = np.array(results).reshape(len(SIZES), seeds, len(WAYS))
    rows = [
        [str(size), *(median_and_range(list(found[s, :, i]), 1) for i in range(len(WAYS)))]
        for s, size in enumerate(SIZES)
    ]
    title = f"Test accuracy, %, after {examples} examples: median (range) over {seeds} seeds"
    print_table(title, ["batch", *WAYS], rows)
    save(draw(found), chosen.out, __file__)


if __name__ == "__main__":
    main()
