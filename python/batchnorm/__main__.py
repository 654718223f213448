"""``python -m batchnorm bench | stats | config``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__
from ._config import show_config


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:  # it has its own parser, and needs the extra [bench]
        from .bench import main as bench

        return bench(arguments[1:])
    if arguments[:1] == ["stats"]:  # so has this one
        from .datasets._command import main as stats

        return stats(arguments[1:])

    parser = argparse.ArgumentParser(prog="python -m batchnorm", description="Batch normalization for NumPy.")
    parser.add_argument("--version", action="version", version=f"batchnorm {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    commands.add_parser("bench", help="compare with NumPy on this machine (bench --help tells its options)")
    commands.add_parser("stats", help="statistics per channel of files (stats --help tells its options)")
    commands.add_parser("config", help="print version, compiler, instruction sets, OpenMP, threads")
    parser.parse_args(arguments)
    show_config()
    return 0


if __name__ == "__main__":
    sys.exit(main())
