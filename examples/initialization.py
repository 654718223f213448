"""Four initializations by depth, with and without BN: test accuracy of a dense ReLU network on the digits.

With batch normalization the scale of the weights hardly matters; without it, deep networks need the right one.

    python examples/initialization.py
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import Array, Draw, Mlp, digits, options, print_table, progress, save, train

from batchnorm.training import SGD
from batchnorm.training.initialization import he, normal, uniform, xavier

DEPTHS, WIDTH, STEPS, BATCH, RATE = (2, 5, 10, 20), 64, 600, 60, 0.1
DRAWS: dict[str, Draw] = {
    "normal, 0.01": lambda rng, shape: normal(rng, shape, 0.01),
    "uniform, 1 / sqrt(n)": lambda rng, shape: uniform(rng, shape),
    "Xavier": lambda rng, shape: xavier(rng, shape),
    "He": lambda rng, shape: he(rng, shape),
}


def run(draw: str, depth: int, normalize: bool, steps: int) -> float:
    """Return the test accuracy of one network after training."""
    data, test = digits()
    rng = np.random.default_rng(4)
    net = Mlp(rng, (64, *[WIDTH] * depth, 10), DRAWS[draw], normalize=normalize)
    # Without normalization some diverge: their accuracy is that of guessing.
    with np.errstate(over="ignore", invalid="ignore"):
        train(net, SGD(net.parameters, RATE, momentum=0.9), data, steps, BATCH, rng)
        return net.accuracy(test)


def draw_maps(maps: dict[str, Array]) -> Any:
    """Draw a heat map without and one with BN."""
    figure, axes = plt.subplots(1, len(maps), figsize=(10, 3.6), sharey=True, layout="constrained")
    for axis, (title, values) in zip(axes, maps.items(), strict=True):
        image = axis.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(DEPTHS)), [str(depth) for depth in DEPTHS])
        axis.set_yticks(range(len(DRAWS)), list(DRAWS))
        axis.set(title=title, xlabel="hidden layers")
        for (row, column), value in np.ndenumerate(values):
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", color="w" if value < 70 else "k")
    figure.colorbar(image, ax=axes, label="test accuracy, %")
    return figure


def main() -> None:
    """Train all of them and show them."""
    chosen = options(__doc__)
    steps = 60 if chosen.quick else STEPS
    cells = [(name, depth, normalize) for normalize in (False, True) for name in DRAWS for depth in DEPTHS]
    found: list[float] = []
    with ProcessPoolExecutor(2) as pool, progress(len(cells)) as advance:
        for value in pool.map(run, *zip(*cells, strict=True), [steps] * len(cells)):
            found.append(value)
            advance("networks")
    both = np.array(found).reshape(2, len(DRAWS), len(DEPTHS))
    maps = {"without BN": both[0], "with BN": both[1]}
    rows = [
        [f"{n}, {title}", *(f"{v:.1f}" for v in line)]
        for title, a in maps.items()
        for n, line in zip(DRAWS, a, strict=True)
    ]
    print_table(f"Test accuracy, %, after {steps} steps, by hidden layers", ["", *map(str, DEPTHS)], rows)
    save(draw_maps(maps), chosen.out, __file__)


if __name__ == "__main__":
    main()
