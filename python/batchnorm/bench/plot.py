"""The plot of the README: speed-up over NumPy by shape, layout and job."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .report import JOBS, Machine, geometric_means
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
    panels[-1].set_xticklabels([_two_lines(label) for label in labels])
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
    width = 0.8 / len(JOBS)
    for i, job in enumerate(JOBS):
        bars = [(labels.index(r.label) + (i - 1) * width, r.speedup) for r in results if r.job == job]
        places, heights = [place for place, _ in bars], [height for _, height in bars]
        drawn = axes.bar(places, heights, width, color=COLORS[job], label=job)
        axes.bar_label(drawn, [f"{h:.0f}" if h >= 10 else f"{h:.1f}" for h in heights], fontsize=7.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(range(len(labels)))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_ylabel("times NumPy")
    axes.grid(axis="y", alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _two_lines(label: str) -> str:
    """50x64x112x112 as "50x64" over "112x112"; the words of "photos 64x3x224x224" apart."""
    words = label.split()
    if len(words) > 1:
        return "\n".join(words)
    extents = label.split("x")
    return "x".join(extents[:2]) + "\n" + "x".join(extents[2:])
