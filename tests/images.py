"""Image files that Pillow does not write: colors of 16 bits."""

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


def write_tiff16(path: Path, pixels: Pixels, order: str = "<", *, deflated: bool = False) -> None:
    """TIFF 6.0 of 16 bits in one strip, its bytes in either order."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflated else data
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    at_bits = 8 + len(data) + len(data) % 2
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, at_bits), (259, 3, 1, 8 if deflated else 1)]
    tags += [(262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data))]
    tags += [(338, 3, 1, 2)] if channels == 4 else []
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at_bits + len(bits))
    content += data + b"\0" * (len(data) % 2) + bits + struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        inline = kind == 3 and count == 1
        content += struct.pack(f"{order}HHI", tag, kind, count)
        content += struct.pack(f"{order}HH", value, 0) if inline else struct.pack(f"{order}I", value)
    path.write_bytes(content + b"\0\0\0\0")
