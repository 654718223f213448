"""What the command shows: a table, lines to paste, and the same as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._command_words import in_words_of_the_command
from ._result import DatasetStatistics

_MOST_ROWS = 64  # of the table; lines with more numbers are nothing to paste, either


def print_table(result: DatasetStatistics, scale: float) -> None:
    """Print the table, then the lines for torchvision and Keras."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    divided = "" if scale == 1 else f", values divided by {scale:g}"
    title = f"{result.items:,} item{'' if result.items == 1 else 's'}{divided}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 0, 0, 1))
    for name in ("channel", "count", "mean", "std", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    columns = scaled(result, scale)
    channels = len(result.count)
    for channel in range(min(channels, _MOST_ROWS)):
        numbers = [f"{columns[name][channel]:.6g}" for name in ("mean", "std", "min", "max")]
        table.add_row(str(channel), f"{result.count[channel]:,}", *numbers)
    console.print(table)
    if channels > _MOST_ROWS:
        console.print(f"{channels - _MOST_ROWS} more channels: --json has them.", highlight=False)
        return
    # Not by the console, which would break lines that somebody copies.
    print(f"torchvision  {torchvision_line(result, scale)}")
    print(f"Keras        {keras_line(result, scale)}")


def may_be_bytes(result: DatasetStatistics) -> bool:
    """Tell whether all values are integers from 0 to 255."""
    moments, low, high = result.stats._moments, result.min, result.max
    assert low is not None and high is not None
    if moments is None or moments.total is None:
        return False
    counted = result.count > 0
    return bool(counted.any() and (low[counted] >= 0).all() and (high[counted] <= 255).all())


def scaled(result: DatasetStatistics, scale: float) -> dict[str, Any]:
    """Return mean, std, min and max of the values divided by `scale`."""
    low, high = result.min, result.max
    assert low is not None and high is not None
    return {"mean": result.mean / scale, "std": result.std / scale, "min": low / scale, "max": high / scale}


def torchvision_line(result: DatasetStatistics, scale: float) -> str:
    """Return a transform of torchvision."""
    columns = scaled(result, scale)
    return f"transforms.Normalize(mean={_list(columns['mean'])}, std={_list(columns['std'])})"


def keras_line(result: DatasetStatistics, scale: float) -> str:
    """Return a layer of Keras, which takes channels last."""
    mean, variance = result.mean / scale, result.stats.var() / scale**2
    return f"keras.layers.Normalization(axis=-1, mean={_list(mean)}, variance={_list(variance)})"


def _list(numbers: Any) -> str:
    # Python has no literal for what is not finite.
    texts = [f"{n:.6g}" if math.isfinite(n) else f"float('{n}')" for n in np.asarray(numbers).tolist()]
    return f"[{', '.join(texts)}]"


def as_json(result: DatasetStatistics, scale: float) -> dict[str, Any]:
    """Return everything in the table, all digits; None where a number is not finite, which JSON has no word for."""
    columns = {
        name: [n if math.isfinite(n) else None for n in column.tolist()]
        for name, column in scaled(result, scale).items()
    }
    return {
        "items": result.items,
        "scale": scale,
        "count": result.count.tolist(),
        **columns,
        "skipped": [{"name": name, "message": in_words_of_the_command(message)} for name, message in result.skipped],
        "torchvision": torchvision_line(result, scale),
        "keras": keras_line(result, scale),
    }
