"""Batches that are not finite, and numbers below the normal range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from layouts import Case
from tolerances import assert_same_bits

SHAPES = [((6, 5, 4, 3), "channels_first"), ((6, 5, 4, 3), "channels_last"), ((64, 40, 20, 20), "channels_first")]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30], ids=str)
@pytest.mark.parametrize(("shape", "layout"), SHAPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_what_is_not_finite(isa: str, shape: tuple[int, ...], layout: str, groups: int, bad: float) -> None:
    axis, x = Case(shape, layout).arrays(np.float64)
    x[(-1,) * x.ndim] = bad if bad != 1e30 else 1e300  # its square is infinite
    channels = x.shape[axis]

    def call(on_nonfinite: Any, out: Any = None) -> Any:
        running = np.zeros(channels), np.ones(channels)
        y, _ = bn.batch_norm_train(
            x,
            axis=axis,
            running_mean=running[0],
            running_var=running[1],
            groups=groups,
            on_nonfinite=on_nonfinite,
            out=out,
        )
        return y, *running

    y, mean, var = call("propagate")
    assert np.isfinite(mean[:-1]).all()
    assert not (np.isfinite(mean[-1]) and np.isfinite(var[-1]))
    skipped = call("skip_update")
    assert_same_bits("y", skipped[0], y)
    assert not skipped[1].any()
    assert (skipped[2] == 1).all()
    kept = x.copy()
    mean, var = np.zeros(channels), np.ones(channels)
    with pytest.raises(ValueError, match=rf"^x: expected finite values, got .* not finite in channel {channels - 1}$"):
        bn.batch_norm_train(
            x, axis=axis, running_mean=mean, running_var=var, groups=groups, on_nonfinite="raise", out=x
        )
    assert_same_bits("x", x, kept)
    assert not mean.any()
    assert (var == 1).all()


@pytest.mark.parametrize(("shape", "layout"), SHAPES, ids=str)
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip_update"])
def test_what_is_finite(isa: str, shape: tuple[int, ...], layout: str, on_nonfinite: Any) -> None:
    """It has the same bits as without the guard, and its statistics count."""
    axis, x = Case(shape, layout).arrays(np.float32)
    found = []
    for guard in ("propagate", on_nonfinite):
        mean, var = np.zeros(x.shape[axis]), np.ones(x.shape[axis])
        y, saved = bn.batch_norm_train(x, axis=axis, running_mean=mean, running_var=var, on_nonfinite=guard)
        found.append((y, saved.mean, saved.var, mean, var))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


@pytest.mark.parametrize(
    ("x", "groups", "dtype"),
    [
        ([[1e200], [1e200], [-1e200], [-1e200]], 2, np.float64),  # each part's variance is 0, that of all overflows
        ([[3e25], [-3e25]], 1, np.float32),  # a variance of float64, but not of float32
    ],
    ids=["merged", "rounded"],
)
def test_what_running_statistics_cannot_hold(x: Any, groups: int, dtype: Any) -> None:
    x = np.array(x)
    mean, var = np.zeros(1, dtype), np.ones(1, dtype)
    options: dict[str, Any] = {"running_mean": mean, "running_var": var, "groups": groups}
    before = x.copy()
    with pytest.raises(ValueError, match=r"^x: expected finite values, got a mean or a variance .* in channel 0$"):
        bn.batch_norm_train(x, on_nonfinite="raise", out=x, **options)
    assert_same_bits("x", x, before)
    bn.batch_norm_train(x, on_nonfinite="skip_update", **options)
    assert (mean[0], var[0]) == (0, 1)
    layer = bn.BatchNorm(1, on_nonfinite="skip_update", groups=groups, dtype=dtype)
    layer(x)
    assert (layer.running_mean, layer.running_var, layer.num_batches_tracked) == (0, 1, 0)


@pytest.mark.parametrize("on_nonfinite", ["propagate", "raise", "skip_update"])
def test_the_layer(on_nonfinite: Any) -> None:
    layer = bn.BatchNorm(2, on_nonfinite=on_nonfinite)
    good = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    layer(good)
    before = {name: a.copy() for name, a in layer.state_dict().items()}
    bad = good.copy()
    bad[3, 1] = np.nan
    if on_nonfinite == "raise":
        with pytest.raises(ValueError, match=r"^x: expected finite values"):
            layer(bad)
    else:
        layer(bad)
    changed = [name for name, a in layer.state_dict().items() if a.tobytes() != before[name].tobytes()]
    assert changed == (["running_mean", "running_var", "num_batches_tracked"] if on_nonfinite == "propagate" else [])
    with bn.accumulate_statistics(layer) as collected:
        layer(good)
        if on_nonfinite == "skip_update":
            layer(bad)
    if on_nonfinite != "propagate":
        assert (collected.statistics[0].count == 8).all()
        assert layer.num_batches_tracked == 2


def subnormal(dtype: Any, shape: tuple[int, ...]) -> Any:
    least = np.finfo(dtype).smallest_normal
    return (np.random.default_rng(0).normal(size=shape) * float(least) / 8).astype(dtype)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("threads", [1, 3])
def test_subnormals_are_flushed_for_one_call(isa: str, dtype: Any, layout: str, threads: int) -> None:
    x = subnormal(dtype, (16, 5, 40, 40))
    axis, x = (1, x) if layout == "channels_first" else (-1, np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    least = np.finfo(dtype).smallest_normal
    for _ in range(2):  # a thread is left as it was
        plain = bn.batch_norm_inference(x, np.zeros(5), np.ones(5), axis=axis, eps=0.0, num_threads=threads)
        assert_same_bits("y", plain, x)
        flushed = bn.batch_norm_inference(
            x, np.zeros(5), np.ones(5), axis=axis, eps=0.0, num_threads=threads, flush_subnormals=True
        )
        assert not flushed.any()
        assert (np.array([least]) / 2 != 0).all()
    y, saved = bn.batch_norm_train(x, axis=axis, num_threads=threads, flush_subnormals=True)
    assert not saved.mean.any()
    assert not y.any()
    assert not bn.batch_norm_backward(x, x, saved, flush_subnormals=True).dx.any()
    stats = bn.channel_stats(x, axis=axis, flush_subnormals=True)
    assert not stats.mean.any()
    assert bn.channel_stats(x, axis=axis).mean.all() or dtype == np.float64


def test_flushing_an_error() -> None:
    """After an exception too."""
    with pytest.raises(ValueError, match="finite"):
        bn.batch_norm_train(np.full((4, 3), np.nan), on_nonfinite="raise", flush_subnormals=True)
    assert np.array([2.0**-1060])[0] / 2 > 0


def test_normal_numbers_do_not_change(isa: str, dtype: Any) -> None:
    _, x, dy = Case((6, 5, 9, 11), "channels_first").arrays(dtype, 2)
    y, saved = bn.batch_norm_train(x)
    flushed, again = bn.batch_norm_train(x, flush_subnormals=True)
    assert_same_bits("y", flushed, y)
    dx = bn.batch_norm_backward(dy, x, saved).dx
    assert_same_bits("dx", bn.batch_norm_backward(dy, x, again, flush_subnormals=True).dx, dx)
    back = bn.denormalize(y, saved.mean, saved.var)
    assert_same_bits("x", bn.denormalize(y, saved.mean, saved.var, flush_subnormals=True), back)
