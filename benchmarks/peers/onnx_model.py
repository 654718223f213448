"""A model of one BatchNormalization, written as ONNX's protocol buffer by hand: a package less to install."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from batchnorm.bench.jobs import Array
from batchnorm.bench.shapes import Shape

IR_VERSION, OPSET, FLOAT_TENSOR, FLOAT_ATTRIBUTE = 8, 15, 1, 1


def batch_normalization(shape: Shape, parameters: Mapping[str, Array], eps: float) -> bytes:
    """Make the model x -> y on arrays of a shape; parameters are scale, bias, mean and variance, in that order."""
    epsilon = _text(1, "epsilon") + _float(2, eps) + _int(20, FLOAT_ATTRIBUTE)
    inputs = b"".join(_text(1, name) for name in ("x", *parameters))
    node = inputs + _text(2, "y") + _text(4, "BatchNormalization") + _bytes(5, epsilon)
    graph = _bytes(1, node) + _text(2, "batch_normalization")
    graph += b"".join(_bytes(5, _tensor(name, a)) for name, a in parameters.items())
    graph += _bytes(11, _value("x", shape)) + _bytes(12, _value("y", shape))
    return _int(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _int(2, OPSET))


def _tensor(name: str, a: Array) -> bytes:
    dims = b"".join(_int(1, extent) for extent in a.shape)
    return dims + _int(2, FLOAT_TENSOR) + _text(8, name) + _bytes(9, a.astype("<f4").tobytes())


def _value(name: str, shape: Shape) -> bytes:
    dims = b"".join(_bytes(1, _int(1, extent)) for extent in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, FLOAT_TENSOR) + _bytes(2, dims)))


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
