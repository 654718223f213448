"""The comparison with other programs: ``python -m benchmarks.compare``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import batchnorm as bn
from batchnorm.bench import output_file, positive
from batchnorm.bench.shapes import Case, Shape

from . import cases, cells, measure, peers
from .busy import Others

# Cores. On a busy one a thread that others wait for may be away for a time slice, as long as a thousand small calls.
BUSY = 0.1


def main() -> int:
    """Run the comparison. Returns 0, 1 where ours is wrong, 2 where an extra is missing."""
    options = _options()
    needed = ["rich"] if options.plot_dir is None else ["rich", "matplotlib"]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        print(f"benchmarks.compare needs {', '.join(missing)}: pip install '.[benchmarks]'", file=sys.stderr)
        return 2
    with bn.num_threads(options.threads or bn.get_num_threads()):
        return _compare(options, _cases(options))


def _compare(options: argparse.Namespace, wanted: list[Case]) -> int:
    from rich.console import Console

    from batchnorm.bench.agreement import DisagreementError
    from batchnorm.bench.report import machine, progress_bar

    from . import table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    contenders, versions, absent = peers.installed(bn.get_num_threads(), options.peers)
    for package in absent:
        console.print(f"{package} is not installed, its column is left out", highlight=False)
    others = Others()
    runs: list[list[cells.Cell]] = []
    remarks: dict[str, None] = {}
    try:
        with progress_bar(console) as bar:
            task = bar.add_task("", total=3 * len(wanted) * options.runs)
            for _ in range(options.runs):
                found, off = measure.run(
                    wanted,
                    contenders,
                    options.seconds,
                    lambda text, done: bar.update(task, description=text, advance=done),
                )
                runs.append(found)
                remarks |= dict.fromkeys(off)
    except DisagreementError as error:
        print(f"benchmarks.compare: {error}", file=sys.stderr)
        return 1
    busy = others.cores()
    result = cells.medians(runs)
    title = f"{machine()}\n{', '.join(f'{name} {version}' for name, version in versions.items())}"
    table.print_tables(console, result, title, list(versions))
    if busy is not None and busy > BUSY:
        remarks[f"Other programs used {busy:.1f} cores meanwhile: measure again, above all small arrays."] = None
    for remark in remarks:
        console.print(remark, highlight=False)
    if options.json is not None:
        table.write_json(options.json, result, machine(), versions, list(remarks))
    if options.plot_dir is not None:
        _plot(options, result)
    return 0


def _plot(options: argparse.Namespace, result: list[cells.Cell]) -> None:
    from batchnorm.bench.report import machine

    from . import plots

    options.plot_dir.mkdir(parents=True, exist_ok=True)
    curve = {case.label for case in cases.both_layouts(_curve(options))}
    of_shapes = [cell for cell in result if cell.label not in curve]
    of_sizes = [cell for cell in result if cell.label in curve]
    if of_shapes:
        plots.save_shapes(options.plot_dir, of_shapes, machine())
    if of_sizes:
        plots.save_sizes(options.plot_dir, of_sizes, machine())


def _cases(options: argparse.Namespace) -> list[Case]:
    named: list[Shape] = options.shapes or ([] if options.sizes else cases.parse("resnet_50"))
    return cases.both_layouts([*named, *_curve(options)])


def _curve(options: argparse.Namespace) -> list[Shape]:
    return cases.curve(options.most_bytes) if options.sizes else []


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Check batchnorm, then time it beside every installed peer: float32, one process, the same memory.",
    )
    names = f"{', '.join(cases.sets())}, or shapes like 50x64x112x112"
    add = parser.add_argument
    add("--shapes", type=_shapes, metavar="NAME[,NAME]", help=f"{names} (default: resnet_50)")
    add("--sizes", action="store_true", help="the curve over sizes, instead of or besides --shapes")
    add("--most-bytes", type=positive, default=10**9, metavar="N", help="largest array of --sizes (default: 1 GB)")
    add("--threads", type=positive, metavar="N", help="threads of each contender (default: batchnorm's own choice)")
    add("--runs", type=positive, default=1, metavar="N", help="whole runs to take the medians of (default: 1)")
    add("--seconds", type=_seconds, default=2.0, metavar="S", help="of timing per cell, about (default: 2)")
    known = list(peers.MODULES)
    add("--peers", type=_peers, default=known, metavar="NAME[,NAME]", help=f"of {', '.join(known)} (default: all)")
    add("--json", type=output_file, metavar="FILE", help="write the results as JSON")
    add("--plot-dir", type=Path, metavar="DIR", help="draw the results into a directory")
    return parser.parse_args()


def _shapes(text: str) -> list[Shape]:
    try:
        return cases.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _peers(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(peers.MODULES)
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(peers.MODULES)}; got {text!r}")
    return names


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
