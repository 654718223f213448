"""What a run shows: a progress bar, a table, and the same as JSON."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import batchnorm as bn

from .. import _core

if TYPE_CHECKING:  # what it loads needs scikit-learn
    from .runner import Result

JOBS = ("train", "inference", "backward")


@dataclass(frozen=True)
class Machine:
    """Where and with what a run was made."""

    cpu: str
    threads: int
    isa: str
    batchnorm: str
    numpy: str

    def __str__(self) -> str:
        """One line for a title."""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.cpu}, {threads}, {self.isa}, batchnorm {self.batchnorm}, NumPy {self.numpy}"


def machine() -> Machine:
    """Describe this machine, and the threads that a call would use now."""
    return Machine(_cpu_name(), bn.get_num_threads(), str(_core.config()["isa"]), bn.__version__, np.__version__)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def geometric_means(results: list[Result]) -> dict[str, float]:
    """Average the speed-up of each job, then of all."""
    by_job = {job: [r.speedup for r in results if r.job == job] for job in JOBS}
    by_job["all"] = [r.speedup for r in results]
    return {job: statistics.geometric_mean(values) for job, values in by_job.items() if values}


def progress_bar(console: Console) -> Progress:
    """Make a bar that says what is running."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, transient=True)


def print_table(console: Console, results: list[Result]) -> None:
    """Print the table, the geometric means last."""
    table = Table(box=box.SIMPLE_HEAD, title=str(machine()), title_justify="left", padding=(0, 0, 0, 1))
    for name in ("shape", "channels", "job"):
        table.add_column(name, no_wrap=True)
    for name in ("NumPy ms", "ours ms", "fresh ms", "speed-up", "GB/s", "% of limit"):
        table.add_column(name, justify="right", no_wrap=name != "% of limit")
    previous = None
    for result in results:
        if previous not in (None, result.label):
            table.add_section()
        previous = result.label
        for row in _rows(result):
            table.add_row(*row)
    table.add_section()
    for job, mean in geometric_means(results).items():
        table.add_row("geometric mean", "", job, "", "", "", f"{mean:.1f}x", "", "", style="bold")
    console.print(table)
    console.print(
        "Results were compared before anything was timed. ours: into out=; fresh: into a new array; folded:\n"
        "NumPy with all constants in one scale and one shift, outside the means. GB/s: the least traffic of\n"
        "the job over our time. % of limit: the time of loops that only move these bytes, over our time.",
        highlight=False,
    )


def _rows(r: Result) -> Iterator[list[str]]:
    """Yield the lines of one result; NumPy's folded inference stands below the plain one and is in no mean."""
    yield [
        r.label,
        r.layout,
        r.job,
        *(milliseconds(t) for t in (r.numpy, r.ours, r.fresh)),
        f"{r.speedup:.1f}x",
        f"{r.gigabytes_per_second:.1f}",
        f"{r.percent_of_limit:.0f}",
    ]
    if r.folded is not None:
        yield [r.label, r.layout, "  folded", milliseconds(r.folded), "", "", f"{r.folded / r.ours:.1f}x", "", ""]


def milliseconds(seconds: float) -> str:
    """Write a time as in the tables, with more digits where it is small."""
    return f"{1e3 * seconds:.{2 if seconds >= 1e-4 else 4}f}"


def write_json(path: Path, results: list[Result]) -> None:
    """Write everything in the table, times in seconds and traffic in bytes."""
    cells = [{**asdict(r), "speedup": r.speedup, "percent_of_limit": r.percent_of_limit} for r in results]
    report = {"machine": asdict(machine()), "geometric_means": geometric_means(results), "cells": cells}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
