"""Nothing is timed that is not right: ours against the NumPy formulas, evaluated in float64.

In float64, because NumPy's float32 sums over the leading axes of a large array are wrong themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .jobs import (
    EPS,
    Array,
    Arrays,
    Data,
    Job,
    numpy_backward,
    numpy_inference,
    numpy_train,
)
from .shapes import Case

# At least ten times what the library promises: this finds a wrong formula, channel or element; last bits are for tests.
TOLERANCE = 1e-5

# Values per channel group: small enough that the float64 temporaries of a group stay near 100 MB.
GROUP = 2_000_000


class DisagreementError(RuntimeError):
    """Ours and NumPy differ; the message names the cell."""


def check(case: Case, job: Job, d: Data, got: Arrays) -> None:
    """Raise DisagreementError unless got, the result of ours, agrees with NumPy in float64 on every channel."""
    step = max(1, GROUP * case.channels // case.size)
    for start in range(0, case.channels, step):
        group = slice(start, start + step)
        actual = [_rows(a, case.axis if a.ndim > 1 else 0, group) for a in got]
        for name, value, expected, scale in _expected(job, _float64_group(d, case.axis, group), actual):
            error = np.abs(value - expected) / scale
            if not np.all(error <= TOLERANCE):
                raise DisagreementError(
                    f"{case.label}, channels {case.layout}, {job.name}: {name} differs from NumPy in float64 by "
                    f"{np.max(error):.1e} of its scale in channels {start}..{start + len(error) - 1}; "
                    f"expected at most {TOLERANCE:.0e}"
                )


def _rows(a: Array, axis: int, group: slice) -> Array:
    """One row of float64 values per channel of a group."""
    rows = np.moveaxis(a, axis, 0)[group]
    return rows.reshape(len(rows), -1).astype(np.float64)


def _float64_group(d: Data, axis: int, group: slice) -> Data:
    x, dy, weight, bias, mean, var = (_rows(a, axis, group) for a in (d.x, d.dy, d.weight, d.bias, d.mean, d.var))
    return Data(x, dy, weight, bias, mean, var, (1,))


def _expected(job: Job, d: Data, got: list[Array]) -> Iterator[tuple[str, Array, Array, Array]]:
    """Name, ours, expected, and the scale of the error, for each output of a job."""
    if job.name == "backward":
        mean, var = d.x.mean(1, keepdims=True), d.x.var(1, keepdims=True)
        dx, dg, db = numpy_backward(Data(d.x, d.dy, d.weight, d.bias, mean, var, d.ax))
        rstd = 1 / np.sqrt(var + EPS)
        largest = np.abs(d.dy).max(1, keepdims=True)
        tiny = np.finfo(np.float64).tiny
        yield "dx", got[0], dx, np.abs(d.weight * rstd) * largest + tiny
        yield "dweight", got[1], dg, np.abs(d.dy * (d.x - mean) * rstd).sum(1, keepdims=True) + largest
        yield "dbias", got[2], db, np.abs(d.dy).sum(1, keepdims=True) + tiny
    else:
        (y,) = numpy_train(d) if job.name == "train" else numpy_inference(d)
        yield "y", got[0], y, np.maximum(1, np.abs(y)) + np.abs(d.bias)
