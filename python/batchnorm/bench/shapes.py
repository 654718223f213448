"""What is timed: sets of shapes by name from shapes.json, photographs, or a shape spelled out as 50x64x112x112."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

Shape = tuple[int, ...]

PHOTOS = "photos"
DEFAULT = f"resnet_50,{PHOTOS}"


@dataclass(frozen=True)
class Case:
    """One array to normalize: ``label`` tells (N, C, spatial...), ``shape`` and ``axis`` are those in memory."""

    label: str
    layout: str
    shape: Shape
    axis: int
    photos: bool = False

    @property
    def size(self) -> int:
        """Elements of the array."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Extent of the channel axis."""
        return self.shape[self.axis]

    @property
    def reduced(self) -> Shape:
        """The axes that statistics are taken over."""
        return tuple(i for i in range(len(self.shape)) if i != self.axis % len(self.shape))


def shape_sets() -> dict[str, list[Shape]]:
    """Read the named sets of shapes.json, without the layer counts."""
    text = resources.files("batchnorm.bench").joinpath("shapes.json").read_text(encoding="utf-8")
    return {
        name: [tuple(entry["shape"]) for entry in entries]
        for name, entries in json.loads(text).items()
        if isinstance(entries, list)
    }


def parse(text: str) -> list[Shape | str]:
    """Read shapes, or the word "photos", from a comma-separated list; ValueError for what is neither."""
    sets = shape_sets()
    found: list[Shape | str] = []
    for name in text.split(","):
        if name == PHOTOS:
            found.append(name)
        elif name in sets:
            found.extend(sets[name])
        else:
            found.append(spelled_out(name, [*sets, PHOTOS]))
    return found


def spelled_out(text: str, names: list[str]) -> Shape:
    """Read a shape like 50x64x112x112; ValueError, with the names that would do, for what is none."""
    extents = text.split("x")
    if len(extents) < 2 or not all(e.isdecimal() and int(e) > 0 for e in extents):
        raise ValueError(f"expected one of {', '.join(names)}, or a shape like 50x64x112x112; got {text!r}")
    return tuple(int(e) for e in extents)


def quick(shapes: list[Shape | str]) -> list[Shape | str]:
    """Take a twelfth of the batch, and of the shapes that differ only in batch and channels the first."""
    seen: dict[Shape, Shape] = {}
    for shape in shapes:
        if not isinstance(shape, str):
            seen.setdefault(shape[2:], (max(1, shape[0] // 12), *shape[1:]))
    return [*seen.values(), *(shape for shape in shapes if isinstance(shape, str))]


def cases(shape: Shape) -> Iterator[Case]:
    """Yield both layouts of a shape (N, C, spatial...); just one where they are the same memory."""
    label = "x".join(map(str, shape))
    if math.prod(shape[2:]) > 1:
        yield Case(label, "first", shape, 1)
    yield Case(label, "last", (shape[0], *shape[2:], shape[1]), -1)
