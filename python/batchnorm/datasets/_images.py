"""Images, decoded by Pillow: JPEG, PNG and TIFF, of 8 and 16 bits, grey, RGB and RGBA."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from .. import _core
from .._extras import needs
from ._npy import size_and_time
from ._parts import KINDS, SMALL, WINDOW, Array, Block, Piece

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
MODES = ("grey", "RGB", "RGBA")
_FORMATS = ("JPEG", "PNG", "TIFF")
# Tags of TIFF 6.0.
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION, _SAMPLE_FORMAT = 258, 262, 284, 339

# So many small images are one item, so that what an item costs doesn't show beside decoding; large ones go alone, so
# that workers share them out evenly. It depends on the files alone: a merge order that hung on more would change bits.
_MOST_FILES, _MOST_BYTES = 64, 2**20


def pillow() -> Any:
    """Return the module PIL.Image."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(needs("an image", "Pillow", "datasets")) from error
    return Image


class Images:
    """A run of images. All have the mode and the depth of the first one of the source, unless `mode` converts.

    `expected` is what an earlier run of the same source found them to be.
    """

    def __init__(
        self, paths: Sequence[str], axis: int | None, mode: str | None, expected: tuple[str, int] | None = None
    ) -> None:
        self._paths, self._axis, self._asked = paths, axis, mode
        self._image = pillow()
        self._lends = axis in (-1, 2) and _lends(self._image)
        self._marks = [size_and_time(path) for path in paths]
        self._starts = _starts([size for size, _ in self._marks])
        self.name = paths[0]
        self.items = len(self._starts) - 1
        self.expected = expected or self._first_kind()

    def _first_kind(self) -> tuple[str, int] | None:
        """Return mode and depth of the first image that can be opened and has one of ours."""
        for path in self._paths:
            try:
                with self._image.open(path, formats=_FORMATS) as image:
                    return self._asked or natural_mode(image), depth(image)
            except MemoryError:
                raise
            except Exception:  # it is told when its turn comes
                continue
        return None

    def pieces(self, item: int) -> Iterator[Piece]:
        """Yield the images of an item."""
        for i in range(self._starts[item], self._starts[item + 1]):
            yield Piece(self._paths[i], lambda _, i=i: self._blocks(i))  # type: ignore[misc]

    def _open(self, i: int) -> Any:
        path, (size, _) = self._paths[i], self._marks[i]
        try:
            return self._image.open(_whole(path, size) if size <= _MOST_BYTES else path, formats=_FORMATS)
        except self._image.UnidentifiedImageError as error:
            raise OSError(f"expected {KINDS}, got a file that is no such image") from error

    def _blocks(self, i: int) -> Iterator[Block]:
        path = self._paths[i]
        with self._open(i) as image:
            # A TIFF may be a stack. Other formats have a preview or an animation after the image.
            frames = image.n_frames if image.format == "TIFF" else 1
            for frame in range(frames):
                if frame:
                    image.seek(frame)
                mode, bits = self._kind_of(image)
                small = frames == 1 and 4 * image.width * image.height <= SMALL
                if self._lends and small and bits == 8 and image.format != "TIFF":
                    yield _lent(image, _of_pillow(mode))
                    continue
                for pixels in self._pixels(path, image, frame, mode, bits):
                    alone = frames == 1 and len(pixels) == image.height and self._axis in (None, -1, 2)
                    yield Block(pixels, self._axis, small=alone and pixels.nbytes <= SMALL)

    def _kind_of(self, image: Any) -> tuple[str, int]:
        """Return mode and depth of an image, which are those of all."""
        bits = depth(image)
        kind = self._asked or natural_mode(image), bits
        expected = self.expected or kind  # none where no image could be opened a moment ago
        if kind != expected:
            raise ValueError(
                f"expected an image of mode {expected[0]} and {expected[1]} bits, as the first, got mode {kind[0]} and "
                f"{bits} bits (mode= converts modes, not bits)"
            )
        return kind

    def _pixels(self, path: str, image: Any, frame: int, mode: str, bits: int) -> Iterator[Array]:
        if bits == 8:
            yield from _strips(image, _of_pillow(mode))
        elif image.mode in ("RGB", "RGBA", "RGBX"):
            with self._image.open(path, formats=_FORMATS) as low:
                low.seek(frame)
                yield from _wide_color(image, low, mode)
        elif image.mode.startswith("I"):
            for grey in _strips(image, image.mode):
                yield _of_grey(grey.astype(np.uint16, copy=False), mode)
        else:
            raise ValueError(f"expected grey, RGB or RGBA of 16 bits, got {image.mode}")

    def first_channel(self, item: int) -> int:
        """Return 0: an image has all channels."""
        return 0

    def fingerprint(self) -> list[Any]:
        """Return the files and how they are read."""
        marks = zip(self._paths, self._marks, strict=True)
        return ["images", self._asked, *([os.path.abspath(path), *mark] for path, mark in marks)]


def _whole(path: str, size: int) -> BytesIO | str:
    """Return a small file, read at once: Pillow would read its header byte by byte, and wait for the GIL more often.

    What no longer has the size that was seen, or never had one, as a device, is left to Pillow: it may have no end.
    """
    with open(path, "rb", buffering=0) as file:
        content = file.read(size + 1)
    return BytesIO(content) if len(content) == size else path


def _starts(sizes: Sequence[int]) -> list[int]:
    """Return where the items start, and the end."""
    starts, files, nbytes = [0], 0, 0
    for i, size in enumerate(sizes):
        if files == _MOST_FILES or (files and nbytes + size > _MOST_BYTES):
            starts.append(i)
            files = nbytes = 0
        files, nbytes = files + 1, nbytes + size
    return [*starts, len(sizes)]


def _raw_modes(image: Any) -> list[str]:
    """Return how the file holds its pixels, as Pillow calls it."""
    return [tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in getattr(image, "tile", ())]


def depth(image: Any) -> int:
    """Return the bits per value that the file holds; Pillow's own mode says 8 for colors of 16."""
    is_wide = image.mode.startswith("I;16") or any(";16" in raw for raw in _raw_modes(image))
    if image.mode in ("I", "F") and not is_wide:
        raise ValueError(f"expected an image of 8 or 16 bits, got mode {image.mode}, of 32")
    return _depth_of_tiff(image.tag_v2) if image.format == "TIFF" else 16 if is_wide else 8


def _depth_of_tiff(tags: Any) -> int:
    """Return the bits that the tags tell; an error tells of what Pillow reads as other values."""
    bits = 16 if max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8 else 8
    if set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise ValueError(f"expected unsigned values, got SampleFormat {tags[_SAMPLE_FORMAT]}")
    if bits == 16 and tags.get(_PLANAR_CONFIGURATION, 1) != 1 and len(tags.get(_BITS_PER_SAMPLE, ())) > 1:
        raise ValueError("expected colors of 16 bits interleaved, got them in planes")
    if bits == 16 and tags.get(_PHOTOMETRIC_INTERPRETATION) == 0:  # Pillow turns these of 8 bits alone
        raise ValueError("expected 0 for black in grey values of 16 bits, got 0 for white")
    return bits


def natural_mode(image: Any, way_out: str = "mode= converts") -> str:
    """Return the mode that an image has without a conversion."""
    if image.mode == "L" or image.mode.startswith("I;16") or (image.mode == "I" and depth(image) == 16):
        return "grey"
    if image.mode not in MODES:
        raise ValueError(f"expected an image of mode L, I;16, RGB or RGBA, got {image.mode} ({way_out})")
    return str(image.mode)


def is_image(value: object) -> bool:
    """Tell whether this is an image of Pillow, which is not imported for that."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def pixels_of(image: Any) -> Array:
    """Return the pixels of an image of Pillow as they are, channels last."""
    mode, bits = natural_mode(image, "image.convert converts"), depth(image)
    if bits == 16 and mode != "grey":
        raise ValueError(f"expected {mode} of 8 bits, got 16, of which Pillow keeps 8 (give the path)")
    pixels = np.asarray(image)
    pixels = pixels.astype(np.uint16, copy=False) if bits == 16 else pixels
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _of_pillow(mode: str) -> str:
    return {"grey": "L"}.get(mode, mode)


# Note [Lent pixels]
# Pillow copies the pixels twice for NumPy, into fresh memory, which takes up to half of the time that decoding does.
# By Arrow's interface (from 11.2 on) it lends those of a small image where they are, where RGB has a spare fourth byte.
# Lines that PILLOW_ALIGNMENT sets apart aren't lent. A TIFF, which may be mapped or have pages, is copied.
def _lends(pillow_image: Any) -> bool:
    return hasattr(pillow_image.Image, "__arrow_c_array__") and pillow_image.core.get_alignment() == 1


def _lent(image: Any, mode: str) -> Block:
    """Return the pixels of a small image of 8 bits, converted, where Pillow has them. See Note [Lent pixels]."""
    image.load()
    converted = image if image.mode == mode else image.convert(mode)
    pixels = _core.lent_bytes(*converted.__arrow_c_array__())
    return Block(pixels, -1, small=True, spare=pixels.shape[1] - len(converted.getbands()))


def _strips(image: Any, mode: str) -> Iterator[Array]:
    """Yield the pixels, converted, a few megabytes at a time: beside a large image there is no second one."""
    width, height = image.size
    rows = max(1, WINDOW // max(1, 4 * width))
    image.load()
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(height, top + rows)))
        pixels = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        yield pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _of_grey(grey: Array, mode: str) -> Array:
    """Return grey values of 16 bits as they are, or as equal colors, opaque."""
    if mode == "grey":
        return grey
    color = np.broadcast_to(grey, (*grey.shape[:2], 3))
    return color if mode == "RGB" else _with_alpha(color)


def _with_alpha(color: Array) -> Array:
    return np.concatenate([color, np.full_like(color[..., :1], 65535)], axis=-1)


# Note [Colors of 16 bits]
# Pillow keeps the high byte of each value. What it takes for that one depends on the byte order it is told, so a second
# decoding with the other order gives the low byte.
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def _wide_color(high: Any, low: Any, mode: str) -> Iterator[Array]:
    """Yield RGB or RGBA of 16 bits. See Note [Colors of 16 bits]."""
    has = high.mode
    if mode == "grey" or has == "RGBX":
        raise ValueError(f"expected grey values for mode={mode!r}, got {has} of 16 bits, which is not converted")
    low.tile = [_in_other_order(tile) for tile in low.tile]
    for high_bytes, low_bytes in zip(_strips(high, has), _strips(low, has), strict=True):
        pixels = high_bytes.astype(np.uint16)
        pixels <<= 8
        pixels |= low_bytes
        if has == "RGBA" and mode == "RGB":
            yield pixels[..., :3]
        else:
            yield _with_alpha(pixels) if has != mode else pixels


def _in_other_order(tile: Any) -> Any:
    raw, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args
    if raw[:-1] not in ("RGB;16", "RGBA;16") or raw[-1] not in _OTHER_ORDER:
        raise ValueError(f"expected RGB or RGBA of 16 bits, interleaved, got {raw}")
    other = raw[:-1] + _OTHER_ORDER[raw[-1]]
    return tile._replace(args=(other, *rest) if rest else other)
