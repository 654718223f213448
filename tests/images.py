"""Image files that Pillow does not write: colors of 16 bits, planes, signed values."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint16]]


def write_png16(path: Path, pixels: Pixels) -> None:
    """PNG (RFC 2083) of 16 bits, big-endian, every second row filtered by what is above it."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    lines = [
        b"\x02" + (rows[y] - rows[y - 1]).tobytes() if y % 2 else b"\x00" + rows[y].tobytes() for y in range(height)
    ]
    color = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def write_tiff(
    path: Path,
    pixels: np.ndarray[Any, Any],
    order: str = "<",
    *,
    deflated: bool = False,
    planar: bool = False,
    white_is_0: bool = False,
) -> None:
    """TIFF 6.0 of 8 or 16 bits, signed or not, its bytes in either order; one strip, or one for each plane."""
    height, width, channels = pixels.shape
    planes = np.split(pixels, channels, axis=-1) if planar else [pixels]
    strips = [plane.astype(pixels.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflated else strips
    content = b"II*\0" if order == "<" else b"MM\0*"
    content += b"\0" * 4  # where the tags begin, known later
    starts = []
    for strip in strips:
        starts.append(len(content))
        content += strip + b"\0" * (len(strip) % 2)
    tags = {256: [width], 257: [height], 258: [8 * pixels.itemsize] * channels, 259: [8 if deflated else 1]}
    tags |= {
        262: [2 if channels > 1 else int(not white_is_0)],
        273: starts,
        277: [channels],
        278: [height],
        279: [*map(len, strips)],
    }
    tags |= {284: [2 if planar else 1], 339: [2 if pixels.dtype.kind == "i" else 1] * channels}
    if channels == 4:
        tags[338] = [2]
    entries = b""
    for tag, numbers in sorted(tags.items()):
        kind = 4 if tag in (273, 279) else 3
        value = struct.pack(f"{order}{len(numbers)}{'HI'[kind - 3]}", *numbers)
        if len(value) > 4:
            at = len(content)
            content += value
            value = struct.pack(f"{order}I", at)
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + value.ljust(4, b"\0")
    directory = struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4
    path.write_bytes(content[:4] + struct.pack(f"{order}I", len(content)) + content[8:] + directory)
