"""The comparison with NumPy: ``python -m batchnorm bench``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .._extras import first_missing, needs
from . import shapes


def main(argv: list[str]) -> int:
    """Run the comparison. Returns 0, 1 where ours and NumPy disagree, 2 where an extra is missing."""
    options = _options(argv)
    plots = {} if options.plot is None else {"matplotlib": "matplotlib"}
    missing = first_missing({"rich": "rich", "sklearn": "scikit-learn", "PIL": "Pillow", **plots})
    if missing is not None:
        print(needs("batchnorm bench", missing, "bench"), file=sys.stderr)
        return 2

    from rich.console import Console

    import batchnorm as bn

    from . import report, runner
    from .agreement import DisagreementError

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    cases = runner.select(options.shapes, quick=options.quick)
    with bn.num_threads(options.threads or bn.get_num_threads()):
        try:
            with report.progress_bar(console) as bar:
                task = bar.add_task("", total=3 * len(cases))
                results = runner.run(
                    cases, lambda text, done: bar.update(task, description=text, completed=done), quick=options.quick
                )
        except DisagreementError as error:
            print(f"batchnorm bench: {error}", file=sys.stderr)
            return 1
        report.print_table(console, results)
        if options.json is not None:
            report.write_json(options.json, results)
        if options.plot is not None:
            from . import plot

            plot.save(options.plot, results, report.machine())
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m batchnorm bench",
        description="Check that batchnorm and NumPy agree, then time both: training forward, inference and backward, "
        "float32, channels-first and channels-last.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer shapes, small batches: about 20 seconds")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--plot", type=output_file, metavar="FILE.png", help="draw the speed-ups")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of batchnorm (default: its own choice)")
    parser.add_argument(
        "--shapes",
        type=_shapes,
        default=shapes.parse(shapes.DEFAULT),
        metavar="NAME[,NAME]",
        help=f"{', '.join(shapes.shape_sets())}, {shapes.PHOTOS}, or shapes like 50x64x112x112 "
        f"(default: {shapes.DEFAULT})",
    )
    return parser.parse_args(argv)


def _shapes(text: str) -> list[shapes.Shape | str]:
    try:
        return shapes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Take a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def output_file(text: str) -> Path:
    """Take a path whose directory exists: better said before minutes of timing than after."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no such directory: {path.parent}")
    return path
