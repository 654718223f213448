"""Channel statistics as JSON."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np

from ._checks import INT64_MAX
from ._stats_document import FORMAT, Held, fields_of, held_in

# JSON has no such numbers.
_STRINGS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(held: Held) -> str:
    """Return the statistics as one JSON object, that any parser of JSON reads."""
    return json.dumps({name: _plain(value) for name, value in fields_of(held).items()}, allow_nan=False)


def from_json(text: str | bytes) -> Held:
    """Return what `to_json` made the text of; any exception tells of another."""
    document = json.loads(text, parse_constant=_refuse)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("other JSON")
    missing = {"version", "channels", "count", "mean", "m2"} - document.keys()
    if missing:
        raise ValueError(f"JSON without {min(missing)!r}")
    return held_in({name: _array(name, value) for name, value in document.items()})


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "i":
        return value.tolist()
    return [number if math.isfinite(number) else _string(number) for number in value.tolist()]


def _string(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _array(name: str, value: Any) -> Any:
    """Return a list as an array of the dtype that the field has, anything else as it is."""
    if not isinstance(value, list):
        return value
    if name == "count":
        for number in value:
            if type(number) is not int or abs(number) > INT64_MAX:
                raise ValueError(f"{number!r} in {name} in place of an int of 64 bits")
        return np.array(value, np.int64)
    return np.array([_float(name, number) for number in value], np.float64)


def _float(name: str, value: Any) -> float:
    if isinstance(value, str) and value in _STRINGS:
        return _STRINGS[value]
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    raise ValueError(f"{value!r} in {name} in place of a number")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant}, which is no JSON")
