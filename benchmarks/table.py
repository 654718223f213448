"""What a run shows: a table per job, the cells that are lost, and all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from batchnorm.bench.report import JOBS, Machine, milliseconds

from .cells import FRESH_RIVAL, LEAST_BYTES, OURS, TOLERANCE, Cell, geometric_means, peer_names

LEGEND = """Times in ms, medians. ours and the peers write into an existing buffer; * marks peers that can't, whose time
includes fresh memory. The last lines hold geometric means, below a peer those of its time over ours."""


def print_tables(console: Console, cells: list[Cell], title: str, peers: list[str]) -> None:
    """Print a table per job, the columns in the order of peers, then the cells that are lost."""
    console.print(title, highlight=False, markup=False)
    for job in JOBS:
        of_job = [cell for cell in cells if cell.job == job]
        if of_job:
            console.print(_table(job, of_job, [name for name in peers if name in peer_names(of_job)]))
    console.print(LEGEND, highlight=False)
    lost = [cell for cell in cells if cell.is_lost]
    large = sum(cell.nbytes >= LEAST_BYTES for cell in cells)
    console.print(
        f"\nOf {large} cells of {LEAST_BYTES / 1e6:g} MB and more, {len(lost)} are below 1 by more than "
        f"{100 * TOLERANCE:.0f} %{':' if lost else '.'}",
        highlight=False,
    )
    for cell in sorted(lost, key=lambda c: c.speedup or 0):
        line = f"  {cell.speedup:.2f}x  {cell.label}, channels {cell.layout}, {cell.job}: {cell.fastest} is faster"
        console.print(line, highlight=False)


def _table(job: str, cells: list[Cell], peers: list[str]) -> Table:
    into_fresh = {name for name in peers if not any(name in cell.buffer for cell in cells)}
    table = Table(box=box.SIMPLE_HEAD, title=job, title_justify="left", padding=(0, 0, 0, 1))
    for name in ("shape", "channels"):
        table.add_column(name, no_wrap=True)
    columns = ["MB", OURS, *(f"{name}*" if name in into_fresh else name for name in peers)]
    columns += ["fastest / ours", "ours fresh", f"{FRESH_RIVAL} fresh", "fresh / ours fresh", "% of limit"]
    for name in columns:
        table.add_column(name, justify="right")
    previous = None
    for cell in cells:
        if previous not in (None, cell.label):
            table.add_section()
        previous = cell.label
        table.add_row(*_row(cell, peers), style="bold red" if cell.is_lost else None)
    table.add_section()
    means = summary(cells)
    for group in ("first", "last", "all"):
        if any(group in mean for mean in means.values()):
            ratios = [_times(means[name].get(group)) for name in peers]
            ends = [_times(means["fastest"].get(group)), "", "", _times(means["fresh"].get(group))]
            table.add_row("geometric mean", group, "", "", *ratios, *ends, f"{means['limit'][group]:.0f}", style="bold")
    return table


def _row(cell: Cell, peers: list[str]) -> list[str]:
    return [
        cell.label,
        cell.layout,
        f"{cell.nbytes / 1e6:.3g}",
        _ms(cell.buffer[OURS]),
        *(_ms(cell.peers.get(name)) for name in peers),
        _times(cell.speedup),
        _ms(cell.fresh[OURS]),
        _ms(cell.fresh.get(FRESH_RIVAL)),
        _times(cell.fresh_speedup),
        f"{cell.percent_of_limit:.0f}",
    ]


def summary(cells: list[Cell]) -> dict[str, dict[str, float]]:
    """Return the geometric means of every column of a table, by layout and over all."""

    def over(peer: str) -> Callable[[Cell], float | None]:
        return lambda cell: cell.over(peer)

    return {name: geometric_means(cells, over(name)) for name in peer_names(cells)} | {
        "fastest": geometric_means(cells, lambda cell: cell.speedup),
        "fresh": geometric_means(cells, lambda cell: cell.fresh_speedup),
        "limit": geometric_means(cells, lambda cell: cell.percent_of_limit),
    }


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else milliseconds(seconds)


def write_json(path: Path, cells: list[Cell], machine: Machine, versions: dict[str, str], remarks: list[str]) -> None:
    """Write everything that the tables show, times in seconds."""
    report = {
        "machine": asdict(machine),
        "peers": versions,
        "geometric_means": {job: summary(of_job) for job in JOBS if (of_job := [c for c in cells if c.job == job])},
        "remarks": remarks,
        "cells": [
            asdict(cell)
            | {"fastest": cell.fastest, "speedup": cell.speedup, "fresh_speedup": cell.fresh_speedup}
            | {"percent_of_limit": cell.percent_of_limit}
            for cell in cells
        ],
    }
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
