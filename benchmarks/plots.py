"""The plots: speed-up and percent of the limit by shape, and time per element by size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batchnorm.bench.plot import COLORS, bars, times_axis, two_lines
from batchnorm.bench.report import JOBS, Machine

from .cells import OURS, Cell, peer_names

# Okabe and Ito, as in the bench; ours is black.
PEER_COLORS = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#009E73")
STYLES = {"train": "-", "inference": "--", "backward": ":"}


def save_shapes(directory: Path, cells: list[Cell], machine: Machine) -> None:
    """Write speedup.png and limit.png, a panel per layout, bars by shape and job."""
    figure, panels = _by_layout(cells, lambda cell: cell.speedup)
    for axes in panels:
        times_axis(axes, "fastest peer / ours")
        axes.axhline(1, color="black", linewidth=1)
    panels[0].set_ylim(_log_range([cell.speedup for cell in cells if cell.speedup is not None]))
    finish(figure, f"Speed-up over the fastest peer\nfloat32, {machine}", directory / "speedup.png")

    figure, panels = _by_layout(cells, lambda cell: cell.percent_of_limit)
    for axes in panels:
        axes.set_ylabel("% of the limit of memory")
    finish(figure, f"The time that moving the bytes takes, over ours\nfloat32, {machine}", directory / "limit.png")


def save_sizes(directory: Path, cells: list[Cell], machine: Machine) -> None:
    """Write size_time.png, a panel per layout and job, and size_limit.png, a panel per layout."""
    layouts = _layouts(cells)
    figure = Figure(figsize=(4.2 * len(JOBS), 0.8 + 3.2 * len(layouts)), layout="constrained")
    grid = figure.subplots(len(layouts), len(JOBS), sharex=True, sharey=True, squeeze=False)
    for row, layout in zip(grid, layouts, strict=True):
        for axes, job in zip(row, JOBS, strict=True):
            _time_panel(axes, [c for c in cells if (c.layout, c.job) == (layout, job)], peer_names(cells))
            axes.set_title(f"{job}, channels-{layout}", loc="left", fontsize=11)
        row[0].set_ylabel("ns per element")
    finish(figure, f"Time by size\nfloat32, {machine}", directory / "size_time.png")

    figure = Figure(figsize=(5.0 * len(layouts), 4.2), layout="constrained")
    for axes, layout in zip(figure.subplots(1, len(layouts), sharey=True, squeeze=False)[0], layouts, strict=True):
        for job in JOBS:
            of_job = [c for c in cells if (c.layout, c.job) == (layout, job)]
            _line(axes, of_job, lambda cell: cell.percent_of_limit, color=COLORS[job], label=job, style=STYLES[job])
        axes.set_title(f"channels-{layout}", loc="left", fontsize=11)
        axes.set_xlabel("elements")
        axes.set_ylabel("% of the limit of memory")
        axes.grid(alpha=0.4)
    finish(figure, f"Fraction of the limit by size\nfloat32, {machine}", directory / "size_limit.png")


def _by_layout(cells: list[Cell], height: Callable[[Cell], float | None]) -> tuple[Figure, list[Axes]]:
    layouts, labels = _layouts(cells), list(dict.fromkeys(cell.label for cell in cells))
    figure = Figure(figsize=(max(7.5, 1.5 + 0.95 * len(labels)), 1.2 + 2.6 * len(layouts)), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(layouts), 1, sharey=True, squeeze=False)[:, 0])
    for axes, layout in zip(panels, layouts, strict=True):
        heights: dict[str, dict[str, float]] = {job: {} for job in JOBS}
        for cell in cells:
            value = height(cell)
            if cell.layout == layout and value is not None:
                heights[cell.job][cell.label] = value
        bars(axes, labels, heights)
        axes.set_xticklabels([two_lines(label) for label in labels] if axes is panels[-1] else [])
        axes.set_title(f"channels-{layout}", loc="left", fontsize=11)
    return figure, panels


def _time_panel(axes: Axes, cells: list[Cell], peers: list[str]) -> None:
    def time_of(name: str) -> Callable[[Cell], float | None]:
        return lambda cell: 1e9 * cell.peers[name] / cell.size if name in cell.peers else None

    for name, color in zip(peers, PEER_COLORS, strict=False):
        _line(axes, cells, time_of(name), color=color, label=name)
    _line(axes, cells, lambda cell: 1e9 * cell.buffer[OURS] / cell.size, color="black", label=OURS, width=2.2)
    _line(axes, cells, lambda cell: 1e9 * cell.limit / cell.size, color="grey", label="limit", style="--")
    axes.set_yscale("log")
    axes.set_xlabel("elements")
    axes.grid(alpha=0.4)


def _line(
    axes: Axes,
    cells: list[Cell],
    value: Callable[[Cell], float | None],
    *,
    color: str,
    label: str,
    style: str = "-",
    width: float = 1.3,
) -> None:
    points = sorted((cell.size, v) for cell in cells if (v := value(cell)) is not None)
    sizes, values = [size for size, _ in points], [v for _, v in points]
    axes.plot(sizes, values, linestyle=style, color=color, label=label, linewidth=width, marker=".")
    axes.set_xscale("log")


def _layouts(cells: list[Cell]) -> list[str]:
    return [name for name in ("first", "last") if any(cell.layout == name for cell in cells)]


def _log_range(values: list[float]) -> tuple[float, float]:
    """Leave room for 1 and for the numbers above the bars."""
    return 0.8 * min([1.0, *values]), 1.5 * max([2.0, *values])


def finish(figure: Figure, title: str, path: Path) -> None:
    """Write the figure with a title and one legend of all panels."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        entries |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries), frameon=False)
    figure.suptitle(title, fontsize=12)
    figure.savefig(path, dpi=120)
