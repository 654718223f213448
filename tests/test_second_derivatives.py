"""The derivative of the backward, against finite differences of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from layouts import Case, given_statistics, parameters
from oracle import Array
from test_gradients import LAYOUTS, assert_close, differences
from tolerances import assert_same_bits


def arrays(shape: tuple[int, ...], layout: str) -> tuple[int, Array, Array, Array]:
    axis, x, dy, ddx = Case(shape, layout).arrays(np.float64, 3, mean=1, std=2)
    return axis, x, dy, ddx


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 4), (2, 3, 2, 3)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "inference"])
@pytest.mark.parametrize("without", ["", "ddx", "ddweight", "ddbias", "weight"])
def test_finite_differences(isa: str, shape: tuple[int, ...], layout: str, training: bool, without: str) -> None:
    axis, x, dy, ddx = arrays(shape, layout)
    weight, ddweight = parameters(x.shape[axis])
    ddbias, _ = parameters(x.shape[axis], seed=5)
    mean, var = given_statistics(x.shape[axis])
    w = None if without == "weight" else weight

    def loss(dy: Array, x: Array, weight: Array | None) -> float:
        if training:
            g = bn.batch_norm_backward(dy, x, bn.batch_norm_train(x, weight, axis=axis)[1])
        else:
            g = bn.batch_norm_inference_backward(dy, x, mean, var, weight, axis=axis)
        total = 0.0 if without == "ddx" else (ddx * g.dx).sum()
        total += 0.0 if without == "ddweight" else (ddweight * g.dweight).sum()
        return float(total + (0.0 if without == "ddbias" else (ddbias * g.dbias).sum()))

    if training:
        _, saved = bn.batch_norm_train(x, w, axis=axis)
    else:
        saved = bn.SavedStatistics(mean, 1 / np.sqrt(var + 1e-5), 1, eps=1e-5, axis=axis, weight=w)
    given = {"ddx": ddx, "ddweight": ddweight, "ddbias": ddbias, without: None}
    got = bn.batch_norm_double_backward(
        given["ddx"], given["ddweight"], given["ddbias"], dy, x, saved, training=training
    )
    assert_close("ddy", got.ddy, differences(lambda a: loss(a, x, w), dy))
    assert_close("dx", got.dx, differences(lambda a: loss(dy, a, w), x))
    if w is not None:
        assert_close("dweight", got.dweight, differences(lambda a: loss(dy, x, a), weight))


def test_every_layout_and_type(isa: str, case: Case) -> None:
    """As float64 in C order, to the precision of the type."""
    for dtype, tolerance in ((np.float32, 2e-5), (np.float16, 2e-2)):
        axis, x, dy, ddx = case.arrays(dtype, 3)
        weight, ddweight = parameters(x.shape[axis])
        _, saved = bn.batch_norm_train(x, weight, axis=axis, on_single="allow")
        got = bn.batch_norm_double_backward(ddx, ddweight, ddweight, dy, x, saved)
        wide = [np.array(a, np.float64) for a in (ddx, dy, x)]
        want = bn.batch_norm_double_backward(wide[0], ddweight, ddweight, wide[1], wide[2], saved)
        for name in ("ddy", "dx"):
            a, b = getattr(got, name), getattr(want, name)
            assert a.dtype == dtype
            np.testing.assert_allclose(a.astype(np.float64), b, atol=tolerance * max(np.abs(b).max(initial=1), 1) * 10)
        assert got.dweight.dtype == np.float64


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_infinite_stays_where_it_plays_a_part(isa: str, layout: str, dtype: Any) -> None:
    """With given statistics x plays a part in ddweight * xhat alone."""
    axis, x, dy, ddx = (a if isinstance(a, int) else a.astype(dtype) for a in arrays((5, 3, 4), layout))
    weight, ddweight = parameters(3)
    mean, var = given_statistics(3)
    rstd = 1 / np.sqrt(var + 1e-5)
    saved = bn.SavedStatistics(mean, rstd, 1, eps=1e-5, axis=axis, weight=weight)
    along = [1] * x.ndim
    along[axis] = 3
    x[(0,) * x.ndim] = np.inf
    for given in (None, ddweight):
        got = bn.batch_norm_double_backward(ddx, given, None, dy, x, saved, training=False)
        dx = np.zeros_like(dy) if given is None else (given * rstd).reshape(along) * dy
        np.testing.assert_allclose(got.dx, dx, rtol=1e-5)
        ddy = (weight * rstd).reshape(along) * ddx.astype(np.float64)
        if given is not None:
            ddy = ddy + (given * rstd).reshape(along) * (x - mean.reshape(along))
        np.testing.assert_allclose(got.ddy, ddy, rtol=1e-4, atol=1e-4)
    got = bn.batch_norm_double_backward(None, None, np.ones(3), dy, x, saved, training=False)
    assert (got.ddy == 1).all()
    ddx[(0,) * x.ndim] = np.inf
    got = bn.batch_norm_double_backward(ddx, None, None, dy, x, saved, training=False)
    assert np.isinf(got.ddy).sum() == 1
    assert not np.isnan(got.ddy).any()


def test_outputs(isa: str) -> None:
    _, x, dy, ddx = arrays((6, 5, 9, 11), "channels_first")
    weight, ddweight = parameters(5)
    _, saved = bn.batch_norm_train(x, weight)
    want = bn.batch_norm_double_backward(ddx, ddweight, None, dy, x, saved)
    got = bn.batch_norm_double_backward(ddx, ddweight, None, dy, x, saved, out=ddx, dx_out=dy)
    assert got.ddy is ddx
    assert got.dx is dy
    assert_same_bits("ddy", got.ddy, want.ddy)
    assert_same_bits("dx", got.dx, want.dx)


@pytest.mark.threaded
def test_any_number_of_threads(isa: str) -> None:
    for layout in ("channels_first", "channels_last"):
        axis, x, dy, ddx = Case((16, 6, 40, 41), layout).arrays(np.float32, 3)
        _, saved = bn.batch_norm_train(x, axis=axis)
        found = set()
        for threads in (1, 2, 3, 8):
            got = bn.batch_norm_double_backward(ddx, None, np.ones(6), dy, x, saved, num_threads=threads)
            found.add(b"".join(a.tobytes() for a in got))
        assert len(found) == 1


def test_what_is_not_differentiated_twice() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    for options in ({"activation": "relu"}, {"residual": x}, {"groups": 2}, {"mask": np.ones(6, bool)}):
        _, saved = bn.batch_norm_train(x, **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^saved: expected a forward without activation, residual, mask, groups"):
            bn.batch_norm_double_backward(x, None, None, x, x, saved)


def test_in_place_leaves_no_x() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    _, saved = bn.batch_norm_train(x, out=x)
    with pytest.raises(ValueError, match=r"^x: "):
        bn.batch_norm_double_backward(x.copy(), None, None, x.copy(), x, saved)


def test_bad_input() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    _, saved = bn.batch_norm_train(x)
    rows: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"saved": None}, TypeError, "saved: expected a SavedStatistics, got NoneType"),
        ({"ddx": x[:5]}, ValueError, r"ddx: expected x's shape \(6, 3\), got \(5, 3\)"),
        ({"ddx": x.astype("f")}, TypeError, "ddx: expected float64, which goes with x's float64, got float32"),
        ({"ddweight": np.ones(4)}, ValueError, r"ddweight: expected shape \(3,\), got \(4,\)"),
        ({"ddbias": np.ones(3, int)}, TypeError, "ddbias: expected float32 or float64, got int64"),
        ({"dy": None}, TypeError, "dy: expected an array, got None"),
        ({"dy": x[:5]}, ValueError, r"dy: expected x's shape \(6, 3\), got \(5, 3\)"),
        ({"x": x[0]}, ValueError, r"x: expected at least 2 dimensions, got shape \(3,\)"),
        ({"weight": np.ones(2)}, ValueError, r"weight: expected shape \(3,\), got \(2,\)"),
        ({"training": 1}, TypeError, "training: expected a bool, got int"),
        ({"out": x}, ValueError, "out: expected memory apart from x"),
        ({"dx_out": np.ones((6, 4))}, ValueError, r"dx_out: expected x's shape \(6, 3\), got \(6, 4\)"),
        ({"num_threads": 0}, ValueError, "num_threads: expected a positive int or None, got 0"),
        (
            {"saved": bn.SavedStatistics(np.ones(3), np.ones(3), 5, eps=0.0)},
            ValueError,
            "saved: expected the statistics",
        ),
    ]
    for change, error, message in rows:
        good = {"ddx": x.copy(), "ddweight": None, "ddbias": None, "dy": x.copy(), "x": x, "saved": saved}
        kept = x.copy()
        with pytest.raises(error, match=f"^{message}"):
            bn.batch_norm_double_backward(**{**good, **change})
        assert_same_bits("x", x, kept)
    same = np.zeros((6, 3))
    with pytest.raises(ValueError, match=r"^dx_out: expected memory apart from out"):
        bn.batch_norm_double_backward(x.copy(), None, None, x.copy(), x, saved, out=same, dx_out=same)
