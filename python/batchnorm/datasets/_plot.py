"""The plot of the command: how the values of each channel are distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .._whole_file import write_whole
from ._parts import Array
from ._result import DatasetStatistics

# Told apart by colour-blind readers and in grey (Okabe and Ito).
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_BINS = 128


def save(path: Path, values: list[Array], result: DatasetStatistics, scale: float) -> None:
    """Write the picture, whole; the name's ending tells the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    edges = bin_edges(values)
    densities = [_density(channel, edges) for channel in values]
    if len(values) <= len(_COLORS):
        for channel, (density, color) in enumerate(zip(densities, _COLORS, strict=False)):
            mean, std = result.mean[channel] / scale, result.std[channel] / scale
            label = f"channel {channel}: mean {mean:.4g}, std {std:.4g}"
            axes.stairs(density * scale, edges / scale, color=color, label=label)
            axes.axvline(mean, color=color, linestyle=":", linewidth=1)
        axes.set_ylabel("density")
        axes.legend(frameon=False)
    else:
        extent = edges[0] / scale, edges[-1] / scale, len(values) - 0.5, -0.5
        image = axes.imshow(np.array(densities) * scale, aspect="auto", extent=extent, interpolation="nearest")
        axes.set_ylabel("channel")
        figure.colorbar(image, label="density")
    axes.set_xlabel("value" if scale == 1 else f"value / {scale:g}")
    looked_at = sum(channel.size for channel in values)
    axes.set_title(f"A sample of {looked_at:,} of {result.count.sum():,} values", loc="left", fontsize=11)
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=120))


def endings() -> list[str]:
    """Return those that matplotlib knows a format for."""
    from matplotlib.figure import Figure

    return [f".{ending}" for ending in sorted(Figure().canvas.get_supported_filetypes())]


def bin_edges(values: list[Array]) -> Array:
    """Return the edges of bins that all channels share; of integers each bin holds as many."""
    filled = [channel for channel in values if channel.size]
    if not filled:
        return np.array([-0.5, 0.5])
    low, high = min(float(v.min()) for v in filled), max(float(v.max()) for v in filled)
    if all(v.dtype.kind in "iu" for v in filled):
        width = max(1, -(-int(high - low + 1) // (2 * _BINS)))
        return np.arange(low - 0.5, high + width + 0.5, width)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def _density(values: ArrayLike, edges: Array) -> Array:
    counts, _ = np.histogram(np.asarray(values, np.float64), edges)
    return np.asarray(counts / max(1, counts.sum()) / np.diff(edges))
