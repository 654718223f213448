"""``python -m batchnorm stats``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._extras import first_missing, needs
from . import _plot
from ._axes import Axis
from ._command_words import in_words_of_the_command
from ._images import MODES
from ._report import as_json, may_be_bytes, print_table
from ._sample import sample
from ._statistics import statistics


def main(argv: list[str]) -> int:
    """Print the statistics. Returns 0; 1 where they could not be had or shown; 2 where an extra is missing."""
    options = _options(argv)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("batchnorm stats: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except _FileError as error:
        print(f"batchnorm stats: {in_words_of_the_command(str(error))}", file=sys.stderr)
        return 2 if isinstance(error.__cause__, ImportError) else 1
    except OSError as error:  # standard output, which Python would try to write to once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # who reads has seen enough
            print(f"batchnorm stats: standard output: {error}", file=sys.stderr)
        return 1


class _FileError(Exception):
    """What is wrong with a file or an argument, in contrast to standard output."""


@contextmanager
def _of_files() -> Iterator[None]:
    try:
        yield
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise _FileError(str(error)) from error


def _run(options: argparse.Namespace) -> int:
    scale_is_told, options.scale = options.scale is not None, options.scale or 1.0
    needed = {"rich": not options.json, "matplotlib": options.plot is not None}
    if missing := first_missing({name: name for name, is_needed in needed.items() if is_needed}):
        print(needs("batchnorm stats", missing, "datasets"), file=sys.stderr)
        return 2
    if options.plot is not None and options.plot.suffix.lower() not in (endings := _plot.endings()):
        print(f"batchnorm stats: --plot: expected a name in {', '.join(endings)}, got {options.plot}", file=sys.stderr)
        return 2
    how: dict[str, Any] = {name: getattr(options, name) for name in ("axis", "mode", "dataset")}
    with _of_files():
        result = statistics(
            options.paths,
            workers=options.workers,
            checkpoint=options.checkpoint,
            on_error=options.on_error,
            nan_policy=options.nan_policy,
            extremes=True,
            **how,
        )
    if options.json:
        print(json.dumps(as_json(result, options.scale), indent=1, allow_nan=False))
    else:
        print_table(result, options.scale)
    sys.stdout.flush()  # so that an error is told here
    for name, message in result.skipped:
        print(f"skipped {name}: {in_words_of_the_command(message)}", file=sys.stderr)
    if not result.count.any():
        print("batchnorm stats: expected values, got none", file=sys.stderr)
        return 1
    if may_be_bytes(result) and not scale_is_told:
        print(
            "batchnorm stats: integers from 0 to 255 without --scale; torchvision's ToTensor divides bytes by 255, so "
            "for Normalize after it take --scale 255 (--scale 1 if not)",
            file=sys.stderr,
        )
    if options.plot is not None:
        with _of_files():
            values = sample(options.paths, len(result.count), **how)
            _plot.save(options.plot, values, result, options.scale)
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m batchnorm stats",
        description="Statistics per channel of files that may be larger than memory: .npy, .npz, HDF5, zarr, images.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder of images, or pattern in quotes")
    parser.add_argument(
        "--axis",
        type=_axis,
        default="auto",
        metavar="N",
        help="channel axis; 'none' takes all values as one channel (default: 1 of arrays, -1 of images)",
    )
    parser.add_argument(
        "--scale",
        type=_scale,
        metavar="S",
        help="divide values by this in what is shown: 255 for bytes that ToTensor divides, too (default: 1)",
    )
    parser.add_argument("--mode", choices=MODES, help="convert images (default: they must be like the first)")
    parser.add_argument("--dataset", metavar="NAME", help="which array of an .npz, an HDF5 file or a zarr group")
    parser.add_argument("--nan-policy", choices=("propagate", "omit", "raise"), default="propagate")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do about a broken file")
    parser.add_argument(
        "--checkpoint", type=_output_file, metavar="FILE", help="keep the state here, and go on from it"
    )
    parser.add_argument("--workers", type=_positive, metavar="N", help="threads (default: as many as CPUs)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--plot", type=_output_file, metavar="FILE.png", help="draw the distribution of each channel")
    return parser.parse_args(argv)


def _axis(text: str) -> Axis:
    if text == "auto":
        return "auto"
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer or 'none', got {text!r}") from None


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a finite number > 0, got {text!r}")
    return scale


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def _output_file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no such directory: {path.parent}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file, got a directory: {path}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"no permission to write {path}")
    return path
