"""The plot of the README: speed-up over NumPy by shape, layout and job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .report import JOBS, Machine, geometric_means

if TYPE_CHECKING:  # what it loads needs scikit-learn
    from .runner import Result

# Told apart by colour-blind readers and in grey (Okabe and Ito).
COLORS = {"train": "#0072B2", "inference": "#56B4E9", "backward": "#E69F00"}


def save(path: Path, results: list[Result], machine: Machine) -> None:
    """Write one panel of bars per layout as a picture; the name's ending tells the format."""
    layouts = [name for name in ("first", "last") if any(r.layout == name for r in results)]
    labels = list(dict.fromkeys(r.label for r in results))
    figure = Figure(figsize=(max(7.5, 1.5 + 0.95 * len(labels)), 1.2 + 2.4 * len(layouts)), layout="constrained")
    panels = figure.subplots(len(layouts), 1, sharey=True, squeeze=False)[:, 0]
    for axes, layout in zip(panels, layouts, strict=True):
        _panel(axes, labels, [r for r in results if r.layout == layout])
        axes.set_title(f"channels-{layout}", loc="left", fontsize=11)
    speedups = [r.speedup for r in results]
    # Bars start at 1, where both are equally fast, and leave room for the numbers above them.
    panels[0].set_ylim(min([1.0, *(0.8 * s for s in speedups)]), 1.5 * max(2.0, *speedups))
    panels[-1].set_xticklabels([two_lines(label) for label in labels])
    for axes in panels[:-1]:
        axes.set_xticklabels([])
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside lower center", ncols=len(JOBS), frameon=False)
    mean = geometric_means(results)["all"]
    threads = f"{machine.threads} thread{'' if machine.threads == 1 else 's'}"
    figure.suptitle(
        f"Batch normalization: speed-up over NumPy {machine.numpy}, geometric mean {mean:.1f}\n"
        f"float32, {machine.cpu}, {threads}",
        fontsize=12,
    )
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, labels: list[str], results: list[Result]) -> None:
    bars(axes, labels, {job: {r.label: r.speedup for r in results if r.job == job} for job in JOBS})
    times_axis(axes, "times NumPy")


def times_axis(axes: Axes, label: str) -> None:
    """Scale speed-ups by their logarithm: twice as fast is as far up as half as fast is down."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(label)


def bars(axes: Axes, labels: list[str], heights: Mapping[str, Mapping[str, float]]) -> None:
    """Draw the bars of each job, by label, with their heights above them."""
    width = 0.8 / len(JOBS)
    for i, job in enumerate(JOBS):
        places = [labels.index(label) + (i - 1) * width for label in heights[job]]
        drawn = axes.bar(places, list(heights[job].values()), width, color=COLORS[job], label=job)
        numbers = [f"{h:.0f}" if h >= 10 else f"{h:.1f}" for h in heights[job].values()]
        axes.bar_label(drawn, numbers, fontsize=7.5)
    axes.set_xticks(range(len(labels)))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(axis="y", alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def two_lines(label: str) -> str:
    """50x64x112x112 as "50x64" over "112x112"; the words of "photos 64x3x224x224" apart."""
    words = label.split()
    if len(words) > 1:
        return "\n".join(words)
    extents = label.split("x")
    return "x".join(extents[:2]) + "\n" + "x".join(extents[2:])
