"""The numerical contract, section 4 of the design, as one table with reasons.

A relative error of 6e-8 is one rounding to float32 (2**-24), 1.1e-16 one rounding to float64 (2**-53).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import oracle
from oracle import Array, along, channels, wide

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)

# fmt: off
TABLE = {
    "mean":    {F4: 6e-8,  F8: 1e-15},  # as good as if it were rounded once; of max(abs mean, std)
    "var":     {F4: 3e-7,  F8: 1e-13},  # 16 additions in lanes of x's type before they widen; relative
    "y":       {F4: 1e-6,  F8: 1e-13},  # 16 roundings, in float64 a thousand; of max(1, |y|, |bias|, |weight*xhat|)
    "dbias":   {F4: 1e-7,  F8: 1e-14},  # of sum |dy|; one rounding is the result's own
    "dweight": {F4: 1e-6,  F8: 1e-13},  # of sum |dy*xhat|
    "dx":      {F4: 1e-6,  F8: 1e-13},  # of |scale| * max |dy|, per channel
    "stats":   {F4: 1e-14, F8: 1e-14},  # mean and m2 of channel_stats: float64 lanes whatever x is
}
# fmt: on
M2_PER_OFFSET = 1e-16  # channel_stats: m2 may lose one rounding of the mean for each std that the mean is away from 0
LAW = 1e-13  # merging in another order, at mean/std up to 1e3 ...
LAW_FAR = 1e-11  # ... and up to 1e6


def within(name: str, got: Any, want: Any, bound: Any) -> None:
    """Every abs(got - want) is within its bound. A NaN is within none."""
    __tracebackhide__ = True
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, want {want.shape}"
    bound = np.broadcast_to(bound, want.shape)
    error = np.abs(got.astype(want.dtype) - want)
    bad = ~(error <= bound)
    if bad.any():
        ratio = np.where(bad, error / np.where(bound > 0, bound, np.finfo(np.float64).tiny), 0)
        at = np.unravel_index(int(np.argmax(np.where(np.isnan(ratio), np.inf, ratio))), want.shape)
        raise AssertionError(
            f"{name}: {bad.sum()} of {bad.size} outside; worst at {tuple(map(int, at))}: "
            f"got {got[at]!r}, want {want[at]!r}, error {error[at]:.3g}, bound {bound[at]:.3g}"
        )


def offset(mean: Any, var: Any) -> Array:
    """abs mean / std, and 0 where the std is 0: a constant is held to more than the table says."""
    std = np.sqrt(var)
    return np.where(std > 0, np.abs(mean) / np.where(std > 0, std, 1), 0)


def assert_mean(got: Any, want: oracle.Forward, dtype: Any) -> None:
    __tracebackhide__ = True
    within("mean", got, want.mean, TABLE["mean"][np.dtype(dtype)] * np.maximum(np.abs(want.mean), np.sqrt(want.var)))


def assert_var(got: Any, want: oracle.Forward, dtype: Any) -> None:
    """Relative, so exactly 0 for a constant."""
    __tracebackhide__ = True
    within("var", got, want.var, TABLE["var"][np.dtype(dtype)] * want.var)


def assert_y(
    got: Array, x: Array, want: Any, mean: Any, var: Any, weight: Any = 1, bias: Any = 0, axis: int = 1
) -> None:
    """`want` is the oracle's y of x with these statistics."""
    __tracebackhide__ = True
    assert got.dtype == x.dtype, f"y: {got.dtype}, want {x.dtype}"
    c = np.ones(x.shape[axis])
    shift = along(c * bias, x, axis)
    scale = np.maximum(np.maximum(1, np.abs(want)), np.maximum(np.abs(shift), np.abs(want - shift)))
    bound = TABLE["y"][x.dtype] * scale
    if x.dtype == F8:
        bound = bound * (1 + along(offset(mean, var), x, axis))
    within("y", got, want, bound)


def assert_forward(
    y: Array, saved: Any, x: Array, want: oracle.Forward, weight: Any = 1, bias: Any = 0, axis: int = 1
) -> None:
    __tracebackhide__ = True
    assert np.all(np.asarray(saved.count) == x.size // max(x.shape[axis], 1))
    if x.size:
        assert_mean(saved.mean, want, x.dtype)
        assert_var(saved.var, want, x.dtype)
    assert_y(y, x, want.y, want.mean, want.var, weight, bias, axis)


def assert_gradients(
    got: Any,
    dy: Array,
    x: Array,
    want: oracle.Backward,
    forward: oracle.Forward,
    weight: Any = 1,
    axis: int = 1,
    given: bool = False,
) -> None:
    """The rows dbias, dweight and dx. `given`: the statistics were given, as in inference, and have no error.

    The rows for float64 have no term for the offset, which a saved mean in float64 cannot hold: it may itself be off by
    the row "mean". What that moves is added; it is below the row at mean/std of 100 and less.
    """
    __tracebackhide__ = True
    dtype, c = x.dtype, np.ones(x.shape[axis])
    g, scale = np.abs(wide(dy)), np.abs(c * weight * forward.rstd)
    xhat = np.abs(wide(x) - along(forward.mean, x, axis)) * along(forward.rstd, x, axis)
    shifted = TABLE["mean"][F8] * offset(forward.mean, forward.var) if dtype == F8 and not given else c * 0
    assert got.dx.dtype == dtype, f"dx: {got.dx.dtype}, want {dtype}"
    rounding = TABLE["mean"][F4] if dtype == F8 and got.dbias.dtype == F4 else 0  # they come in the weight's dtype
    row = TABLE["dbias"][dtype] * channels(g, axis).sum(1)
    within("dbias", got.dbias, want.dbias, row + rounding * np.abs(want.dbias))
    row = TABLE["dweight"][dtype] * channels(g * xhat, axis).sum(1)
    within("dweight", got.dweight, want.dweight, row + shifted * np.abs(want.dbias) + rounding * np.abs(want.dweight))
    top, far = (a.max(axis=tuple(i for i in range(a.ndim) if i != axis % a.ndim), initial=0) for a in (g, xhat))
    within("dx", got.dx, want.dx, along(scale * top * (TABLE["dx"][dtype] + shifted * (1 + far)), x, axis))


def assert_stats(stats: Any, x: Array, axis: int = 1, law: float = 0.0) -> None:
    """The row of channel_stats. `law`: what merging in another order may add."""
    __tracebackhide__ = True
    count, mean, m2 = oracle.moments(x, axis)
    var = m2 / max(count, 1)
    assert stats.count.dtype == np.int64
    assert stats.mean.dtype == stats.m2.dtype == np.float64
    assert (stats.count == count).all()
    if not count:
        assert np.isnan(stats.mean).all()
        assert not stats.m2.any()
        return
    row = TABLE["stats"][F8] + law
    within("mean", stats.mean, mean, row * np.maximum(np.abs(mean), np.sqrt(var)))
    within("m2", stats.m2, m2, (row + M2_PER_OFFSET * offset(mean, var)) * m2)


def assert_same_stats(a: Any, b: Any, law: float = LAW) -> None:
    """Two ways to the same statistics agree: within twice the row, once for each, and the law."""
    __tracebackhide__ = True
    assert (a.count == b.count).all()
    std, row = np.sqrt(b.var()), 2 * TABLE["stats"][F8] + law
    within("mean", a.mean, b.mean, row * np.maximum(np.abs(b.mean), std))
    within("m2", a.m2, b.m2, (row + 2 * M2_PER_OFFSET * offset(b.mean, b.var())) * b.m2)


def assert_denormalized(
    got: Array, y: Array, want: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, axis: int
) -> None:
    """No row of its own: y's row in the units of x, |std/weight| for 1, plus |mean|."""
    __tracebackhide__ = True
    assert got.dtype == y.dtype, f"x: {got.dtype}, want {y.dtype}"
    c = np.ones(y.shape[axis])
    unit = along(np.sqrt(np.asarray(var) + eps) / np.abs(c * weight), y, axis)
    scale = np.maximum(np.abs(wide(y)), np.maximum(1, np.abs(along(c * bias, y, axis)))) * unit
    within("x", got, want, TABLE["y"][y.dtype] * (scale + np.abs(along(mean, y, axis))))


def assert_same_bits(name: str, a: Any, b: Any) -> None:
    """Also the sign of 0 and the kind of NaN."""
    __tracebackhide__ = True
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{name}: {a.dtype} {a.shape}, not {b.dtype} {b.shape}"
    if a.tobytes() != b.tobytes():
        bad = np.flatnonzero(a.ravel() != b.ravel())
        if not bad.size:
            raise AssertionError(f"{name}: bits differ in the sign of a 0 or the kind of a NaN")
        first = f"first at {bad[0]}: {a.ravel()[bad[0]]!r}, {b.ravel()[bad[0]]!r}"
        raise AssertionError(f"{name}: {bad.size} of {a.size} differ, {first}")
