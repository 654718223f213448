"""Channel statistics as JSON."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np

from ._checks import INT64_MAX
from ._stats_document import FLOATS, INTS, Held, fields_of, held_in

# JSON has no such numbers.
_STRINGS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(held: Held) -> str:
    """Return the statistics as one JSON object, that any parser of JSON reads."""
    return json.dumps({name: _plain(value) for name, value in fields_of(held).items()}, allow_nan=False)


def from_json(text: str | bytes) -> Held:
    """Return what `to_json` made the text of; any exception tells of another."""
    document = json.loads(text, parse_constant=_refuse)
    if not isinstance(document, dict):
        raise ValueError("JSON of no object")
    return held_in(document | {name: _array(name, document[name]) for name in INTS + FLOATS if name in document})


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "i":
        return value.tolist()
    return [number if math.isfinite(number) else _string(number) for number in value.tolist()]


def _string(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _array(name: str, value: Any) -> Any:
    """Return a list as an array of the dtype that the field has."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r} in place of a list for {name}")
    if name in INTS:
        for number in value:
            if type(number) is not int or not -INT64_MAX - 1 <= number <= INT64_MAX:
                raise ValueError(f"{number!r} in place of an int of 64 bits for {name}")
        return np.array(value, np.int64)
    return np.array([_float(name, number) for number in value], np.float64)


def _float(name: str, value: Any) -> float:
    if isinstance(value, str) and value in _STRINGS:
        return _STRINGS[value]
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    raise ValueError(f"{value!r} in place of a number for {name}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant}, which is no JSON")
