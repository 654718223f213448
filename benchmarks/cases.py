"""What is timed besides the sets of batchnorm.bench: tables, small batches of ResNet-50, and a curve over sizes."""

from __future__ import annotations

import math

from batchnorm.bench.shapes import Case, Shape, cases, shape_sets, spelled_out

ITEMSIZE = 4  # of float32

# Arrays without spatial axes: a layer's small and large batches, and data sets with few columns.
NC: list[Shape] = [(32, 64), (128, 1024), (4096, 256), (65536, 64), (1_000_000, 30), (2_000_000, 3)]

# Channels and largest plane of the curve: as in the middle of a network.
CURVE_CHANNELS, CURVE_SIDE = 64, 32
CURVE_LEAST, CURVE_MOST = 2**10, 2**29


def sets() -> dict[str, list[Shape]]:
    """Return every named set of shapes."""
    known = shape_sets()
    one, eight = ([(n, *shape[1:]) for shape in known["resnet_50"]] for n in (1, 8))
    return known | {"nc": NC, "batch1": _different(one), "batch8": _different(eight)}


def parse(text: str) -> list[Shape]:
    """Read shapes from a comma-separated list of sets and shapes; ValueError for what is neither."""
    known = sets()
    return [
        shape
        for name in text.split(",")
        for shape in (known[name] if name in known else [spelled_out(name, list(known))])
    ]


def curve(most_bytes: int) -> list[Shape]:
    """Return shapes that double from 1e3 to 5e8 elements, as far as an array of most_bytes goes.

    Planes grow first, to CURVE_SIDE squared, then the batch: few shapes in practice have larger planes than batches.
    """
    found: list[Shape] = []
    size = CURVE_LEAST
    while size <= min(CURVE_MOST, most_bytes // ITEMSIZE):
        side = min(CURVE_SIDE, math.isqrt(size // CURVE_CHANNELS))
        side = 1 << (side.bit_length() - 1)
        found.append((size // (CURVE_CHANNELS * side * side), CURVE_CHANNELS, side, side))
        size *= 2
    return found


def both_layouts(shapes: list[Shape]) -> list[Case]:
    """Return the cases of all shapes, each once."""
    return [case for shape in _different(shapes) for case in cases(shape)]


def _different(shapes: list[Shape]) -> list[Shape]:
    return list(dict.fromkeys(shapes))
