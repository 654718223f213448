"""How wrong the mean and the std of float32 values are, by their number: ``python -m benchmarks.recipes``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import batchnorm as bn
from batchnorm.bench import output_file, positive

Array: TypeAlias = "np.ndarray[Any, Any]"
Recipe: TypeAlias = "Callable[[Array], tuple[Array, Array]]"

CHANNELS, MEAN = 3, 10.0
FLOOR = 1e-17  # where an error of 0 is drawn
WINDOW = 2**18  # rows at a time in long double
OURS = "batchnorm"


def recipes() -> dict[str, Recipe]:
    """Return what finds mean and std of each column, of what is installed."""
    found: dict[str, Recipe] = {"NumPy, mean and std": lambda x: (x.mean(axis=0), x.std(axis=0))}
    if importlib.util.find_spec("torch"):
        import torch

        def std_mean(x: Array) -> tuple[Array, Array]:
            std, mean = torch.std_mean(torch.from_numpy(x), dim=0, correction=0)
            return mean.numpy(), std.numpy()

        def batch_norm(x: Array) -> tuple[Array, Array]:
            mean, var = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
            torch.nn.functional.batch_norm(torch.from_numpy(x), mean, var, training=True, momentum=1.0)
            return mean.numpy(), np.sqrt(var.numpy() * ((len(x) - 1) / len(x)))

        found |= {"PyTorch, std_mean": std_mean, "PyTorch, batch_norm": batch_norm}
    if importlib.util.find_spec("sklearn"):
        from sklearn.preprocessing import StandardScaler

        def scaler(x: Array) -> tuple[Array, Array]:
            fitted = StandardScaler().fit(x)
            return fitted.mean_, np.sqrt(fitted.var_)

        found["scikit-learn, StandardScaler"] = scaler

    def ours(x: Array) -> tuple[Array, Array]:
        stats = bn.channel_stats(x)
        return stats.mean, stats.std()

    return found | {OURS: ours}


def values(n: int) -> Array:
    """Return n values of each channel, channels last: noise of deviation 1 about 10."""
    x = np.random.default_rng(0).standard_normal((n, CHANNELS), dtype=np.float32)
    x += np.float32(MEAN)
    return x


def truth(x: Array) -> tuple[Array, Array]:
    """Return mean and std of each column in long double, by two passes over windows."""
    windows = [x[i : i + WINDOW] for i in range(0, len(x), WINDOW)]
    mean = sum(w.sum(axis=0, dtype=np.longdouble) for w in windows) / len(x)
    var = sum(((w - mean) ** 2).sum(axis=0) for w in windows) / len(x)
    return mean, np.sqrt(var)


def errors(x: Array, named: dict[str, Recipe]) -> Iterator[tuple[str, float, float]]:
    """Yield each name with the largest relative error of its means and of its stds."""
    right = truth(x)
    for name, recipe in named.items():
        mean, std = (float(np.abs(a / b - 1).max()) for a, b in zip(recipe(x), right, strict=True))
        yield name, mean, std


def sizes(most: int) -> list[int]:
    """Return 100, 300, 1000, ... up to `most`."""
    return [size for power in range(2, 19) for size in (10**power, 3 * 10**power) if size <= most]


def draw(path: Path, found: dict[str, list[tuple[int, float, float]]], title: str) -> None:
    """Draw errors by number of values, a panel for the mean and one for the std."""
    from matplotlib.figure import Figure

    from .plots import PEER_COLORS, finish

    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    colors = dict(zip([name for name in found if name != OURS], PEER_COLORS, strict=False))
    for i, (axes, what) in enumerate(zip(figure.subplots(1, 2, sharey=True), ("mean", "std"), strict=True), start=1):
        for name, points in found.items():
            counts, heights = [p[0] for p in points], [max(float(p[i]), FLOOR) for p in points]
            width = 2.2 if name == OURS else 1.3
            axes.plot(counts, heights, marker=".", linewidth=width, color=colors.get(name, "black"), label=name)
        axes.set_title(what, loc="left", fontsize=11)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("values per channel")
        axes.grid(alpha=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("relative error")
    finish(figure, title, path)


def main() -> int:
    """Measure, print a table and draw the picture. Returns 0, or 2 where an extra is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    add = parser.add_argument
    add("--most", type=positive, default=3 * 10**7, metavar="N", help="values per channel (default: 3e7, needs 2 GB)")
    add("--plot", type=output_file, default=Path("recipes.png"), metavar="FILE", help="default: recipes.png")
    options = parser.parse_args()
    missing = [name for name in ("rich", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"benchmarks.recipes needs {', '.join(missing)}: pip install '.[benchmarks]'", file=sys.stderr)
        return 2
    from rich.console import Console
    from rich.table import Table

    from batchnorm.bench.report import progress_bar

    console, named, counts = Console(), recipes(), sizes(options.most)
    found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in named}
    with progress_bar(console) as bar:
        task = bar.add_task("", total=len(counts) * len(named))
        for n in counts:
            bar.update(task, description=f"{n:,} values")
            for name, mean, std in errors(values(n), named):
                found[name].append((n, mean, std))
                bar.advance(task)
    table = Table("values per channel", *named, title="relative error of mean, std")
    for i, n in enumerate(counts):
        table.add_row(f"{n:,}", *(f"{points[i][1]:.0e}, {points[i][2]:.0e}" for points in found.values()))
    console.print(table)
    draw(options.plot, found, f"Error by number of values\nfloat32, shape (n, {CHANNELS}), mean {MEAN:g}, std 1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
