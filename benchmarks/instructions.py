"""Instructions per element, which no other program on the machine changes: ``python -m benchmarks.instructions``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from batchnorm import _core
from batchnorm.bench import positive
from batchnorm.bench.shapes import spelled_out

ROOT = Path(__file__).resolve().parent.parent
STORED = Path(__file__).with_name("instructions.json")

# Shape and layout: of planes, of the same channels-last, and a small table, where the call itself counts.
CASES = (("8x32x14x14", "first"), ("8x32x14x14", "last"), ("64x32", "last"))

# Enough for the calls to outweigh what differs between two starts of Python.
CALLS = 200

# Growth that is a finding; a start of Python differs from the next by far less.
TOLERANCE = 0.05

# valgrind knows no AVX-512. One thread and one seed of hashes, so that every run does the same.
ENVIRONMENT = {"BATCHNORM_ISA": "avx2", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


class CountingError(RuntimeError):
    """valgrind, or Python under it, failed."""


def main() -> int:
    """Count, print and compare. Returns 0, 1 where a case grew, 2 where it can't count or compare."""
    options = _options()
    try:
        _look_for_tools()
        stored = None if options.update else _stored()
        counts = _count_all(options.workers)
    except CountingError as error:
        print(f"benchmarks.instructions: {error}", file=sys.stderr)
        return 2
    made_with = _made_with()
    if stored is None:
        STORED.write_text(
            json.dumps({"made_with": made_with, "per_element": counts}, indent=1) + "\n", encoding="utf-8"
        )
        _print_table(counts, {})
        return 0
    if stored["made_with"] != made_with:
        print(f"stored with {stored['made_with']}, counted with {made_with}: small differences may come from there")
    _print_table(counts, stored["per_element"])
    grown = [
        name for name, count in counts.items() if count > (1 + TOLERANCE) * stored["per_element"].get(name, math.inf)
    ]
    for name in grown:
        print(f"grew by more than {100 * TOLERANCE:.0f} %: {name}")
    return 1 if grown else 0


def _look_for_tools() -> None:
    if shutil.which("valgrind") is None:
        raise CountingError("needs valgrind, which is not installed")
    if importlib.util.find_spec("rich") is None:
        raise CountingError("needs rich: pip install '.[benchmarks]'")


def _stored() -> dict[str, Any]:
    if not STORED.exists():
        raise CountingError(f"no {STORED.name} to compare with: run with --update")
    stored: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return stored


def _count_all(workers: int) -> dict[str, float]:
    """Count every job of every case, some at a time: counts don't feel each other, as times would."""
    from rich.console import Console

    from batchnorm.bench.report import JOBS, progress_bar

    cells = [(label, layout, job) for label, layout in CASES for job in JOBS]
    with progress_bar(Console(stderr=True)) as bar, ThreadPoolExecutor(workers) as pool:
        task = bar.add_task("counting", total=2 * len(cells))
        runs = [
            [pool.submit(_instructions, *cell, calls, lambda: bar.advance(task)) for calls in (CALLS, 2 * CALLS)]
            for cell in cells
        ]
        try:
            found = [[run.result() for run in pair] for pair in runs]
        except CountingError:
            pool.shutdown(cancel_futures=True)
            raise
    return {
        " ".join(cell): round((twice - once) / CALLS / math.prod(spelled_out(cell[0], [])), 3)
        for cell, (once, twice) in zip(cells, found, strict=True)
    }


def _instructions(label: str, layout: str, job: str, calls: int, done: Callable[[], None]) -> int:
    """Count the instructions of a whole Python that makes so many calls."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", sys.executable]
        command += ["-m", f"{__package__}.repeat", label, layout, job, str(calls)]
        run = subprocess.run(
            command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            raise CountingError(f"{label} {layout} {job} failed under valgrind:\n{run.stderr[-2000:]}")
        total = re.search(r"^(?:totals|summary): (\d+)", output.read_text(encoding="utf-8"), re.MULTILINE)
    if total is None:
        raise CountingError(f"{label} {layout} {job}: callgrind wrote no total")
    done()
    return int(total[1])


def _made_with() -> dict[str, str]:
    return {
        "compiler": str(_core.config()["compiler"]),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _print_table(counts: dict[str, float], stored: dict[str, float]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Instructions per element, AVX2, one thread", title_justify="left")
    for name in ("shape", "channels", "job"):
        table.add_column(name)
    for name in ("stored", "now", "change"):
        table.add_column(name, justify="right")
    for name, count in counts.items():
        before = stored.get(name)
        change = ["", f"{count:.3f}", "new"] if before is None else _change(before, count)
        table.add_row(*name.split(), *change)
    Console().print(table)


def _change(before: float, now: float) -> list[str]:
    return [f"{before:.3f}", f"{now:.3f}", f"{100 * (now / before - 1):+.1f} %"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description="Count instructions per element under valgrind and compare them with instructions.json.",
    )
    parser.add_argument("--update", action="store_true", help="store the counts instead of comparing them")
    parser.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="valgrinds at a time (default: cores)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
