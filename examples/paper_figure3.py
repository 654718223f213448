"""The headline of Ioffe & Szegedy (2015), figure 3, in small: steps to the baseline's best accuracy.

In the paper, on ImageNet: 31.0 million steps for the baseline, 13.3 with BN, 2.1 and 2.7 with BN and 5 and 30 times the
learning rate. Here: the network of figure 1 on the digits, a batch of 60, a test every 25 steps, five seeds. Then a
network of ten hidden layers of sigmoids, with and without BN.

    python examples/paper_figure3.py
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import Mlp, digits, gaussian, median_and_range, options, print_table, progress, save, sigmoid, train

from batchnorm.training import SGD

STEPS, EVERY, BATCH, STD = 6000, 25, 60, 0.1
RATE, OTHER_RATES, FACTORS = 0.5, (0.1, 2.0), (1, 5, 30)
DEEP, DEEP_STEPS = 10, 2000
IMAGENET = {1: "13.3", 5: "2.1", 30: "2.7"}  # million steps


def run(seed: int, normalize: bool, rate: float, steps: int, target: float | None, hidden: int = 3) -> list[float]:
    """Return the test accuracy every 25 steps, until it reaches the target if there is one."""
    data, test = digits()
    rng = np.random.default_rng(seed)
    net = Mlp(rng, (64, *[100] * hidden, 10), gaussian(STD), normalize=normalize, activation=sigmoid)
    curve: list[float] = []

    def after(step: int) -> bool:
        if step % EVERY == 0:
            curve.append(net.accuracy(test))
        return target is not None and bool(curve) and curve[-1] >= target

    train(net, SGD(net.parameters, rate), data, steps, BATCH, rng, after)
    return curve


def first_step(curve: list[float], target: float) -> float:
    """Return the step at which the target is reached, or infinity."""
    reached = [i for i, accuracy in enumerate(curve) if accuracy >= target]
    return EVERY * (reached[0] + 1) if reached else float("inf")


def draw(curves: dict[str, list[float]], deep: dict[str, list[float]]) -> Any:
    """Accuracy by step of the first seed; and of the deep network."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
    for axis, lines, title in ((axes[0], curves, "3 hidden layers"), (axes[1], deep, f"{DEEP} hidden layers")):
        for name, curve in lines.items():
            axis.plot(EVERY * np.arange(1, len(curve) + 1), curve, label=name)
        axis.set(title=f"test accuracy, %, {title}", xlabel="step", ylim=(0, 101))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes[0].set_xscale("log")
    return figure


def run_seed(seed: int, steps: int) -> dict[str, list[float]]:
    """Return the curve of each contender; those after the first stop at its best accuracy."""
    baseline = run(seed, False, RATE, steps, None)
    curves = {f"baseline, {RATE}": baseline}
    for rate in OTHER_RATES:
        curves[f"baseline, {rate}"] = run(seed, False, rate, steps, max(baseline))
    for factor in FACTORS:
        curves[f"BN, {factor} x {RATE}"] = run(seed, True, factor * RATE, steps, max(baseline))
    return curves


def steps_needed(seeds: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return the steps to the baseline's best accuracy of each contender, by seed."""
    targets = [max(next(iter(curves.values()))) for curves in seeds]
    return {name: [first_step(c[name], t) for c, t in zip(seeds, targets, strict=True)] for name in seeds[0]}


def table(seeds: list[dict[str, list[float]]], steps: dict[str, list[float]]) -> list[list[str]]:
    """Return a row per contender; steps are medians over seeds."""
    base = np.median(steps[f"baseline, {RATE}"])
    paper = ["31.0", *[""] * len(OTHER_RATES), *(IMAGENET[factor] for factor in FACTORS)]
    return [
        [
            name,
            median_and_range(found),
            f"{base / np.median(found):.1f}x",
            median_and_range([max(c[name]) for c in seeds], 1),
            million,
        ]
        for (name, found), million in zip(steps.items(), paper, strict=True)
    ]


def best_of(steps: dict[str, list[float]]) -> str:
    """Return which baseline and which BN took the fewest steps in the median."""
    median = {name: float(np.median(found)) for name, found in steps.items()}
    baseline, normalized = (min((n for n in median if n.startswith(k)), key=median.__getitem__) for k in ("base", "BN"))
    share = 100 * median[normalized] / median[f"baseline, {RATE}"]
    return f"best: {baseline}; {normalized}, in {share:.0f} % of the steps of the baseline at {RATE}"


def main() -> None:
    """Run everything and show it."""
    chosen = options(__doc__)
    seeds, steps, deep_steps = (range(1), 1500, 400) if chosen.quick else (range(5), STEPS, DEEP_STEPS)
    runs: list[dict[str, list[float]]] = []
    deep = {}
    with ProcessPoolExecutor(2) as pool, progress(len(seeds) + 2) as advance:
        deep_runs = [pool.submit(run, 0, normalize, RATE, deep_steps, None, DEEP) for normalize in (False, True)]
        for curves in pool.map(run_seed, seeds, [steps] * len(seeds)):
            runs.append(curves)
            advance(f"{len(runs)} of {len(seeds)} seeds")
        for name, job in zip(("without BN", "with BN"), deep_runs, strict=True):
            deep[name] = job.result()
            advance("deep")
    steps_to_target = steps_needed(runs)
    print_table(
        "Steps to the baseline's best test accuracy, and the best accuracy until then: median (range) over seeds",
        ["learning rate", "steps", "sooner", "accuracy, %", "ImageNet, million steps"],
        table(runs, steps_to_target),
    )
    print(best_of(steps_to_target))
    deep_rows = [[name, f"{max(curve):.1f}", f"{curve[-1]:.1f}"] for name, curve in deep.items()]
    print_table(f"{DEEP} hidden layers, {deep_steps} steps", ["test accuracy", "best, %", "last, %"], deep_rows)
    save(draw(runs[0], deep), chosen.out, __file__)


if __name__ == "__main__":
    main()
