"""Random shapes, axes, strides, memory orders, dtypes and options against the oracle.

BATCHNORM_EXAMPLES says how many examples there are in all; the tests marked `campaign` make 100,000.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401  makes "bfloat16" a name that NumPy knows
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import batchnorm as bn
import oracle
from activations import slope_of
from batchnorm import _core
from oracle import Array
from tolerances import (
    LAW_FAR,
    TABLE,
    assert_denormalized,
    assert_forward,
    assert_gradients,
    assert_mean,
    assert_same_bits,
    assert_same_stats,
    assert_stats,
    assert_var,
    assert_y,
    within,
)

TESTS = 6
EXAMPLES = int(os.environ.get("BATCHNORM_EXAMPLES", "300"))
CAMPAIGN = 100_000


def examples(total: int) -> settings:
    """A share of so many examples, the same ones every time."""
    return settings(
        max_examples=-(-total // TESTS),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class Layout:
    """How an array lies in memory: the axes from slow to fast, and a step and free places for each axis."""

    order: tuple[int, ...]
    steps: tuple[int, ...]  # 0: the axis is repeated
    spaces: tuple[int, ...]
    shift: int  # bytes past an address that 64 divides

    def place(self, values: Array) -> Array:
        """The values, as far as an axis is not repeated, in memory that is NaN elsewhere."""
        extents = [
            1 if s == 0 else n * abs(s) + p for n, s, p in zip(values.shape, self.steps, self.spaces, strict=True)
        ]
        size = int(np.prod(extents)) * values.itemsize
        raw = np.empty(size + 128, np.uint8)
        offset = -raw.ctypes.data % 64 + self.shift
        memory: Array = np.ndarray([extents[i] for i in self.order], values.dtype, raw.data, offset)
        memory[...] = np.nan
        view = memory.transpose([self.order.index(i) for i in range(values.ndim)])
        for axis, (n, step, space) in enumerate(zip(values.shape, self.steps, self.spaces, strict=True)):
            at = [slice(None)] * values.ndim
            start = space // 2 if step else 0
            at[axis] = slice(start, start + n * abs(step), abs(step)) if step else slice(0, min(1, n))
            view = view[tuple(at)]
            if step < 0:
                view = np.flip(view, axis)
        view[...] = values[tuple(slice(0, 1) if s == 0 else slice(None) for s in self.steps)]
        return np.broadcast_to(view, values.shape) if 0 in self.steps else view


@dataclass(frozen=True)
class Problem:
    """One call: everything that decides its arrays and options."""

    shape: tuple[int, ...]
    axis: int
    dtype: str
    x_layout: Layout
    dy_layout: Layout
    mean: float
    std: float
    weight: str | None
    bias: str | None
    eps: float
    out: str  # "none", "itself" or "gaps"
    num_threads: int
    isa: str
    seed: int

    def arrays(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(self.seed)
        x = rng.normal(self.mean, self.std, self.shape).astype(self.dtype)
        dy = rng.normal(0.1, 1, self.shape).astype(self.dtype)
        return self.x_layout.place(x), self.dy_layout.place(dy)

    def parameters(self) -> tuple[Any, Any, Array, Array]:
        """(weight, bias, mean, var), the first two None where absent."""
        rng, c = np.random.default_rng(self.seed + 1), self.shape[self.axis]
        weight, bias = rng.uniform(0.5, 2, c), rng.normal(size=c)
        mean, var = rng.normal(self.mean, self.std, c), rng.uniform(0.5, 2, c) * self.std**2
        w, b = (None if kind is None else v.astype(kind) for v, kind in ((weight, self.weight), (bias, self.bias)))
        return w, b, mean, var

    @property
    def options(self) -> dict[str, Any]:
        return {"axis": self.axis, "num_threads": self.num_threads}

    def out_for(self, itself: Array, like: Array) -> Array | None:
        """An out of the asked kind; `like` is what is returned without one, and tells x's memory order."""
        if self.out == "itself":
            fits = itself.flags.writeable and min(itself.strides) >= 0 and self.x_layout == self.dy_layout
            return itself if fits else None
        if self.out == "none":
            return None
        order = sorted(range(like.ndim), key=lambda i: -like.strides[i])
        memory = np.full([like.shape[i] + 2 for i in order], np.nan, like.dtype)
        return memory[tuple(slice(1, -1) for _ in order)].transpose([order.index(i) for i in range(like.ndim)])


@st.composite
def layouts(draw: st.DrawFn, ndim: int) -> Layout:
    plain = draw(st.booleans())
    step = st.just(1) if plain else st.sampled_from((1, 1, 1, 2, 3, -1, -2, 0))
    space = st.just(0) if plain else st.integers(0, 3)
    order = draw(st.permutations(range(ndim))) if draw(st.booleans()) else range(ndim)
    return Layout(
        tuple(order),
        tuple(draw(step) for _ in range(ndim)),
        tuple(draw(space) for _ in range(ndim)),
        draw(st.sampled_from((0, 0, 0, 8, 4, 1))),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    ndim = draw(st.integers(2, 6))
    shape = [draw(st.integers(1, 5)) for _ in range(ndim)]
    long = draw(st.integers(0, 9))
    if long < ndim:  # one axis past vectors, tiles and blocks
        shape[long] = draw(st.sampled_from((15, 16, 17, 31, 33, 64, 65, 257, 1000, 4099, 20000)))
        for i in range(ndim):
            if i != long and np.prod(shape) > 40000:
                shape[i] = 1
    if draw(st.integers(0, 19)) == 0:
        shape[draw(st.integers(0, ndim - 1))] = 0
    x_layout = draw(layouts(ndim))
    kinds = st.sampled_from((None, "float32", "float64"))
    return Problem(
        shape=tuple(shape),
        axis=draw(st.integers(-ndim, ndim - 1)),
        dtype=draw(st.sampled_from(("float32", "float64"))),
        x_layout=x_layout,
        dy_layout=x_layout if draw(st.booleans()) else draw(layouts(ndim)),
        mean=draw(st.sampled_from((0.0, 1.0, -1e3))),
        std=draw(st.sampled_from((1.0, 1e-3, 1e3))),
        weight=draw(kinds),
        bias=draw(kinds),
        eps=draw(st.sampled_from((1e-5, 0.0, 1.0))),
        out=draw(st.sampled_from(("none", "itself", "gaps"))),
        num_threads=draw(st.integers(1, 3)),
        isa=draw(st.sampled_from(_core._isas())),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def check_training(p: Problem) -> None:
    x, dy = p.arrays()
    weight, bias, _, _ = p.parameters()
    w, b = 1 if weight is None else weight, 0 if bias is None else bias
    options: dict[str, Any] = {**p.options, "eps": p.eps, "on_single": "allow"}
    before = x.tobytes(), dy.tobytes()
    y, saved = bn.batch_norm_train(x, weight, bias, **options)
    forward = oracle.train(x, w, b, p.eps, p.axis)
    assert_forward(y, saved, x, forward, w, b, p.axis)
    got = bn.batch_norm_backward(dy, x, saved, num_threads=p.num_threads)
    want = oracle.backward(dy, x, w, p.eps, p.axis)
    assert_gradients(got, dy, x, want, forward, w, p.axis)
    assert (x.tobytes(), dy.tobytes()) == before

    dx_out = p.out_for(dy, got.dx)
    kept = dy.copy()
    again = bn.batch_norm_backward(dy, x, saved, out=dx_out, num_threads=p.num_threads)
    assert dx_out is None or again.dx is dx_out
    assert_gradients(again, kept, x, want, forward, w, p.axis)
    out = p.out_for(x, y)
    kept = x.copy()
    again_y, again_saved = bn.batch_norm_train(x, weight, bias, out=out, **options)
    assert out is None or again_y is out
    assert_forward(again_y, again_saved, kept, forward, w, b, p.axis)
    assert_same_bits("var", again_saved.var, saved.var)
    if p.out != "gaps":
        assert_same_bits("y", again_y, y)


def check_given_statistics(p: Problem) -> None:
    x, dy = p.arrays()
    weight, bias, mean, var = p.parameters()
    w, b = 1 if weight is None else weight, 0 if bias is None else bias
    options: dict[str, Any] = {**p.options, "eps": p.eps}
    before = x.tobytes(), dy.tobytes()
    y = bn.batch_norm_inference(x, mean, var, weight, bias, **options)
    want_y = oracle.inference(x, mean, var, w, b, p.eps, p.axis)
    assert_y(y, x, want_y, mean, var, w, b, p.axis)
    back = bn.denormalize(x, mean, var, weight, bias, **options)
    want_back = oracle.denormalize(x, mean, var, w, b, p.eps, p.axis)
    assert_denormalized(back, x, want_back, mean, var, w, b, p.eps, p.axis)
    got = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, **options)
    want = oracle.inference_backward(dy, x, mean, var, w, p.eps, p.axis)
    as_forward = oracle.Forward(y, mean, var, oracle.rsqrt(var, p.eps))
    assert_gradients(got, dy, x, want, as_forward, w, p.axis, given=True)
    assert (x.tobytes(), dy.tobytes()) == before

    dx_out, kept = p.out_for(dy, got.dx), dy.copy()
    again = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, out=dx_out, **options)
    assert_gradients(again, kept, x, want, as_forward, w, p.axis, given=True)
    out, kept = p.out_for(x, y), x.copy()
    again_y = bn.batch_norm_inference(x, mean, var, weight, bias, out=out, **options)
    assert out is None or again_y is out
    assert_y(again_y, kept, want_y, mean, var, w, b, p.axis)


def check_statistics(p: Problem) -> None:
    x, dy = p.arrays()
    stats = bn.channel_stats(x, **p.options)
    assert_stats(stats, x, p.axis)
    assert bn.channel_stats(x, axis=p.axis, num_threads=1) == stats
    other = bn.channel_stats(dy, **p.options)
    assert_stats(other, dy, p.axis)
    split_axis = (p.axis + 1) % x.ndim
    a, b = np.split(x, [p.seed % (x.shape[split_axis] + 1)], axis=split_axis)
    if x.size:
        merged = bn.channel_stats(a, **p.options) + bn.channel_stats(b, **p.options)
        assert_same_stats(merged, stats, LAW_FAR)
        assert_stats(stats + other, np.concatenate([x, dy], axis=split_axis), p.axis, law=LAW_FAR)


def check_fused(p: Problem) -> None:
    """Against the plain functions, followed or preceded by NumPy in float32 or float64, value by value."""
    rng = np.random.default_rng(p.seed + 2)
    dtype = np.dtype(rng.choice([p.dtype, "float32", "float16", "bfloat16"]))
    lanes = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    c = p.shape[p.axis]
    slopes = rng.uniform(0.1, 0.9, c).astype(lanes)
    given: Any = [None, "relu", ("leaky_relu", 0.25), ("prelu", slopes)][rng.integers(4)]
    slope = slope_of(given, np.empty(p.shape, lanes), p.axis)
    x = p.x_layout.place(rng.normal(p.mean / 100, 1, p.shape).astype(dtype))
    r, dy = (p.dy_layout.place(rng.normal(0.1, 1, p.shape).astype(dtype)) for _ in range(2))
    weight, bias, _, _ = p.parameters()
    options: dict[str, Any] = {**p.options, "eps": p.eps, "on_single": "allow"}
    y, saved = bn.batch_norm_train(x, weight, bias, activation=given, residual=r, keep_sign=True, **options)
    if dtype == lanes:
        v = bn.batch_norm_train(x, weight, bias, **options)[0] + r
        want = np.where(v <= 0, 0 if given == "relu" else v * np.asarray(slope, lanes), v)
        assert_same_bits("y", y + 0, want.astype(dtype) + 0)
    positive = ~(y.astype(lanes) <= 0)
    told = bn.batch_norm_backward(dy, x, saved, y=y, num_threads=p.num_threads)
    g = np.where(positive, dy, dy.astype(lanes) * np.asarray(slope, lanes)).astype(lanes)
    assert told.dresidual is not None
    assert_same_bits("dresidual", told.dresidual + 0, g.astype(dtype) + 0)
    _, again = bn.batch_norm_train(x.astype(lanes), weight, bias, **options)
    want_back = bn.batch_norm_backward(g, x.astype(lanes), again, num_threads=1)
    top = max(1e-30, float(np.abs(g).max(initial=0)) * float(np.abs(again.scale).max(initial=0)))
    rounding = {2: 2.0**-7, 4: 2e-6, 8: 1e-12}[dtype.itemsize]
    within("dx", told.dx.astype(lanes), want_back.dx, 4 * rounding * top)
    sums = np.abs(g).sum() + 1e-30
    within("dbias", told.dbias, want_back.dbias.astype(told.dbias.dtype), 1e-6 * sums)
    if given is not None and not (isinstance(given, tuple) and given[0] == "prelu"):
        signs = bn.batch_norm_backward(dy, x, saved, num_threads=p.num_threads)
        if dtype == lanes:  # what rounds to 0 in a half has a sign before
            assert_same_bits("dx", signs.dx, told.dx)


def check_masked(p: Problem) -> None:
    """What counts, as if it were all: gathered to (values, channels)."""
    rng = np.random.default_rng(p.seed + 3)
    x, dy = p.arrays()
    axis = p.axis % x.ndim
    places = tuple(n for i, n in enumerate(p.shape) if i != axis)
    given = tuple(1 if rng.integers(4) == 0 else n for n in places)  # broadcast along some axes
    mask = rng.random(given) < rng.choice([0.0, 0.2, 0.7, 0.97, 1.0])
    if rng.integers(2):
        mask = np.ascontiguousarray(mask.T).T
    counts = np.broadcast_to(mask, places)
    everywhere = np.broadcast_to(np.expand_dims(counts, axis), p.shape)
    for a in (x, dy):
        if a.flags.writeable:
            a[...] = np.where(everywhere, a, rng.choice([np.nan, np.inf]))
    few, few_dy = (np.moveaxis(a, axis, -1)[counts] for a in (x, dy))

    stats = bn.channel_stats(x, **p.options, mask=mask)
    assert_stats(stats, few, -1)
    weights = np.where(mask, rng.uniform(0.1, 2, given), 0)
    weighted = bn.channel_stats(x, **p.options, weights=weights)
    w = np.broadcast_to(weights, places)[counts].astype(np.longdouble)[:, None]
    if counts.any():
        mean = (w * few).sum(0) / w.sum()
        m2 = (w * (few - mean) ** 2).sum(0)
        std = np.sqrt(m2 / w.sum())
        within("weighted mean", weighted.mean, mean, 2 * TABLE["stats"][np.dtype("f8")] * np.maximum(abs(mean), std))
        within("weighted m2", weighted.m2, m2, 1e-13 * m2 + 1e-30 * w.sum() * np.maximum(mean**2, 1))

    weight, bias, _, _ = p.parameters()
    options: dict[str, Any] = {**p.options, "eps": p.eps, "on_single": "allow"}
    y, saved = bn.batch_norm_train(x, weight, bias, mask=mask, **options)
    assert not y[~everywhere].any()
    assert (saved.count == counts.sum()).all()
    got = bn.batch_norm_backward(dy, x, saved, num_threads=p.num_threads)
    assert not got.dx[~everywhere].any()
    if counts.any():
        want = oracle.train(few, 1 if weight is None else weight, 0 if bias is None else bias, p.eps, -1)
        assert_mean(saved.mean, want, x.dtype)
        assert_var(saved.var, want, x.dtype)
        plain = bn.batch_norm_inference(few, saved.mean, saved.var, weight, bias, eps=p.eps, axis=-1)
        assert_same_bits("y", np.moveaxis(y, axis, -1)[counts], plain)
        at_few = bn.Gradients(dx=np.moveaxis(got.dx, axis, -1)[counts], dweight=got.dweight, dbias=got.dbias)
        w = 1 if weight is None else weight
        assert_gradients(at_few, few_dy, few, oracle.backward(few_dy, few, w, p.eps, -1), want, w, -1)


def check_parts_and_second(p: Problem) -> None:
    """Ghost batches, bit by bit as calls of their own; the second derivative, as that of dense float64."""
    x, dy = p.arrays()
    weight, bias, _, _ = p.parameters()
    batch = 1 if p.axis % x.ndim == 0 else 0
    options: dict[str, Any] = {**p.options, "eps": p.eps, "on_single": "allow"}
    step = -(-x.shape[batch] // (p.seed % 3 + 2)) or 1
    y, saved = bn.batch_norm_train(x, weight, bias, groups=p.seed % 3 + 2, **options)
    got = bn.batch_norm_backward(dy, x, saved, num_threads=p.num_threads)
    for first in range(0, x.shape[batch], step):
        part = (slice(None),) * batch + (slice(first, first + step),)
        want, of_part = bn.batch_norm_train(x[part], weight, bias, **options)
        assert_same_bits("y", y[part], want)
        back = bn.batch_norm_backward(dy[part], x[part], of_part, num_threads=p.num_threads)
        assert_same_bits("dx", got.dx[part], back.dx)

    rng = np.random.default_rng(p.seed + 4)
    ddx = p.dy_layout.place(rng.normal(size=p.shape).astype(p.dtype))
    c = p.shape[p.axis]
    _, whole = bn.batch_norm_train(x, weight, bias, **options)
    dd: list[Any] = [None if rng.integers(3) == 0 else a for a in (ddx, rng.normal(size=c), rng.normal(size=c))]
    second = bn.batch_norm_double_backward(*dd, dy, x, whole, num_threads=p.num_threads)
    wide = [None if a is None else np.array(a, np.float64, order="C") for a in (*dd, dy, x)]
    dense = bn.batch_norm_double_backward(*wide, whole, num_threads=1)  # type: ignore[misc]
    if not x.size:
        return
    r, scale = np.abs(whole.rstd).max(), np.abs(whole.scale).max()
    xhat = np.abs(bn.batch_norm_train(x, **options)[0]).max()
    sizes = [1.0 if a is None else 1 + np.abs(a).max() for a in (*dd, dy)]
    unit = {"float32": 2e-6, "float64": 1e-13}[p.dtype] * np.prod(sizes) * (1 + xhat) ** 3
    within("ddy", second.ddy, dense.ddy, unit * (1 + scale))
    within("dx", second.dx, dense.dx, unit * r * (1 + scale))
    within("dweight", second.dweight, dense.dweight, unit * r * x.size / c + 1e-6 * np.abs(dense.dweight))


def on_its_isa(check: Any, p: Problem) -> None:
    _core._set_isa(p.isa)
    try:
        check(p)
    finally:
        _core._set_isa(None)


@examples(EXAMPLES)
@given(problems())
def test_training(p: Problem) -> None:
    on_its_isa(check_training, p)


@examples(EXAMPLES)
@given(problems())
def test_given_statistics(p: Problem) -> None:
    on_its_isa(check_given_statistics, p)


@examples(EXAMPLES)
@given(problems())
def test_statistics(p: Problem) -> None:
    on_its_isa(check_statistics, p)


@examples(EXAMPLES)
@given(problems())
def test_fused(p: Problem) -> None:
    on_its_isa(check_fused, p)


@examples(EXAMPLES)
@given(problems())
def test_masked(p: Problem) -> None:
    on_its_isa(check_masked, p)


@examples(EXAMPLES)
@given(problems())
def test_parts_and_second(p: Problem) -> None:
    on_its_isa(check_parts_and_second, p)


@pytest.mark.campaign
@examples(CAMPAIGN)
@given(problems())
def test_campaign_training(p: Problem) -> None:
    on_its_isa(check_training, p)


@pytest.mark.campaign
@examples(CAMPAIGN)
@given(problems())
def test_campaign_given_statistics(p: Problem) -> None:
    on_its_isa(check_given_statistics, p)


@pytest.mark.campaign
@examples(CAMPAIGN)
@given(problems())
def test_campaign_statistics(p: Problem) -> None:
    on_its_isa(check_statistics, p)


@pytest.mark.campaign
@examples(CAMPAIGN)
@given(problems())
def test_campaign_fused(p: Problem) -> None:
    on_its_isa(check_fused, p)


@pytest.mark.campaign
@examples(CAMPAIGN)
@given(problems())
def test_campaign_masked(p: Problem) -> None:
    on_its_isa(check_masked, p)


@pytest.mark.campaign
@examples(CAMPAIGN)
@given(problems())
def test_campaign_parts_and_second(p: Problem) -> None:
    on_its_isa(check_parts_and_second, p)
