"""Activation and residual in one sweep with the transform, forward and back, and the forward that is undone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from activations import KINDS, activation, slope_of
from layouts import Case, given_statistics, parameters
from oracle import Array, channels
from tolerances import TABLE, assert_gradients, assert_same_bits, within

BOTH = [("relu", False), ("prelu", True), (None, True)]
BOTH_IDS = ["relu", "residual_prelu", "residual"]


def made(kind: str | None, channels: int) -> Any:
    return None if kind is None else activation(kind, channels)


def in_order_of(residual: Array, x: Array) -> Array:
    """The same values in C order, whatever x's: operands may lie in memory in different ways."""
    return np.ascontiguousarray(residual)


def assert_fused(y: Array, x: Array, before: Array, given: Any, axis: int) -> None:
    """`before` is the oracle's value before the activation."""
    __tracebackhide__ = True
    assert y.dtype == x.dtype
    bound = 2 * TABLE["y"][x.dtype] * np.maximum(1, np.abs(before).max(initial=0))
    within("y", y, oracle.activated(before, slope_of(given, x, axis)), bound)


@pytest.mark.parametrize(("kind", "with_residual"), BOTH, ids=BOTH_IDS)
def test_training_agrees_with_the_oracle(
    isa: str, dtype: Any, few_case: Case, kind: str | None, with_residual: bool
) -> None:
    axis, x, r = few_case.arrays(dtype, 2, mean=0.5)
    weight, bias = parameters(x.shape[axis], dtype)
    given = made(kind, x.shape[axis])
    before = x.tobytes(), r.tobytes()
    y, saved = bn.batch_norm_train(
        x, weight, bias, axis=axis, on_single="allow", activation=given, residual=r if with_residual else None
    )
    want = oracle.train(x, weight, bias, axis=axis).y
    assert_fused(y, x, want + oracle.wide(r) if with_residual else want, given, axis)
    assert (x.tobytes(), r.tobytes()) == before
    assert (saved.activation is None) == (kind is None)


@pytest.mark.parametrize(("kind", "with_residual"), BOTH, ids=BOTH_IDS)
def test_inference_agrees_with_the_oracle(
    isa: str, dtype: Any, few_case: Case, kind: str | None, with_residual: bool
) -> None:
    axis, x, r = few_case.arrays(dtype, 2)
    weight, bias = parameters(x.shape[axis], dtype)
    mean, var = given_statistics(x.shape[axis], dtype)
    given = made(kind, x.shape[axis])
    residual = in_order_of(r, x) if with_residual else None
    y = bn.batch_norm_inference(x, mean, var, weight, bias, axis=axis, activation=given, residual=residual)
    want = oracle.inference(x, mean, var, weight, bias, axis=axis)
    assert_fused(y, x, want + oracle.wide(r) if with_residual else want, given, axis)


@pytest.mark.parametrize(
    ("kind", "side"),
    [
        ("relu", "x"),
        ("relu", "y"),
        ("relu", "residual"),
        ("leaky_relu", "signs"),
        ("prelu", "x"),
        ("prelu", "x and signs"),
        ("prelu", "y"),
        ("prelu", "residual"),
    ],
)
def test_backward_agrees_with_the_oracle(isa: str, dtype: Any, few_case: Case, kind: str, side: str) -> None:
    """The side of the kink from x, and what was added to it; from y; from the signs that were kept."""
    axis, x, dy, r = few_case.arrays(dtype, 3, mean=0.5)
    c = x.shape[axis]
    weight, bias = parameters(c, dtype)
    given = activation(kind, c, dtype)
    residual = None if side.startswith("x") else r
    options: Any = {"activation": given, "residual": residual, "keep_sign": side.endswith("signs")}
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow", **options)
    telling: Any = {"y": y} if side == "y" else {"residual": in_order_of(r, x)} if side == "residual" else {}
    got = bn.batch_norm_backward(dy, x, saved, **telling)
    slope = slope_of(given, x, axis)
    positive = ~(y <= 0)  # y tells what the kernel saw, the oracle might round to the other side
    g = oracle.taken_back(dy, np.where(positive, 1, -1), slope)
    forward = oracle.train(x, weight, bias, axis=axis)
    assert_gradients(got, g, x, oracle.backward(g, x, weight, axis=axis), forward, weight, axis)
    if residual is None:
        assert got.dresidual is None
    else:
        low = slope.astype(dtype) if isinstance(slope, np.ndarray) else dtype.type(slope)
        assert_same_bits("dresidual", got.dresidual + 0, np.where(positive, dy, dy * low).astype(dtype) + 0)
    if kind == "prelu":
        v = forward.y + (0 if residual is None else oracle.wide(residual))
        scaled = np.where(positive, 0, oracle.wide(dy) * v)
        row = 10 * TABLE["dweight"][dtype] * channels(np.abs(oracle.wide(dy)), axis).sum(1)
        assert got.dslope is not None
        assert got.dslope.dtype == dtype
        within("dslope", got.dslope, channels(scaled, axis).sum(1), row * (1 + np.abs(v).max(initial=0)))
    else:
        assert got.dslope is None


@pytest.mark.parametrize(
    ("kind", "side"),
    [("relu", "residual"), ("leaky_relu", "x"), ("prelu", "x"), ("prelu", "residual"), ("prelu", "y")],
)
def test_inference_backward_agrees_with_the_oracle(isa: str, dtype: Any, few_case: Case, kind: str, side: str) -> None:
    axis, x, dy, r = few_case.arrays(dtype, 3)
    c = x.shape[axis]
    weight, bias = parameters(c, dtype)
    mean, var = given_statistics(c, dtype)
    given = activation(kind, c, dtype)
    residual = None if side == "x" else in_order_of(r, x)
    options: Any = {"axis": axis, "activation": given, "residual": residual}
    y = bn.batch_norm_inference(x, mean, var, weight, bias, **options)
    got = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, **options, y=y if side == "y" else None)
    slope = slope_of(given, x, axis)
    g = oracle.taken_back(dy, np.where(~(y <= 0), 1, -1), slope)
    want = oracle.inference_backward(g, x, mean, var, weight, axis=axis)
    forward = oracle.Forward(y, mean, var, oracle.rsqrt(var, 1e-5))
    assert_gradients(got, g, x, want, forward, weight, axis, given=True)
    assert (got.dresidual is None) == (residual is None)
    assert (got.dslope is None) == (kind != "prelu")
    if kind == "prelu":
        v = oracle.inference(x, mean, var, weight, bias, axis=axis) + (0 if residual is None else oracle.wide(r))
        scaled = np.where(y <= 0, oracle.wide(dy) * v, 0)
        row = 10 * TABLE["dweight"][dtype] * channels(np.abs(oracle.wide(dy)), axis).sum(1)
        within("dslope", got.dslope, channels(scaled, axis).sum(1), row * (1 + np.abs(v).max(initial=0)))


@pytest.mark.parametrize("kind", [None, "leaky_relu", "prelu"])
def test_x_is_found_from_y(isa: str, dtype: Any, few_case: Case, kind: str | None) -> None:
    """In place, and back: as accurate as y, whose rounding grows by 1 / weight and 1 / slope."""
    axis, x, dy = few_case.arrays(dtype, 2, mean=0.5)
    if few_case.layout.startswith(("repeated", "backwards")):
        x = x.copy()  # the others may be their own out
    c = x.shape[axis]
    weight, bias = parameters(c, dtype)
    given = made(kind, c)
    kept = x.copy()
    ordinary = bn.batch_norm_train(kept, weight, bias, axis=axis, on_single="allow", activation=given)[1]
    want = bn.batch_norm_backward(dy, kept, ordinary)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, on_single="allow", activation=given, out=x)
    assert y is x
    if x.size:
        with pytest.raises(ValueError, match=r"^x: expected the x of the forward, but it is gone.*x=None and y=y"):
            bn.batch_norm_backward(dy, x, saved)
    got = bn.batch_norm_backward(dy, None, saved, y=y)
    epsilon = 40 * float(np.finfo(dtype).eps)  # |y| of 4 at most, over a weight of 0.5 and more
    top = np.abs(dy).max(initial=0) * np.abs(ordinary.scale).max(initial=0)
    within("dx", got.dx, want.dx, epsilon * max(top, 1) * 4)
    n = max(1, x.size)
    for name in ("dweight", "dbias", "dslope"):
        if getattr(want, name) is not None:
            within(name, getattr(got, name), getattr(want, name), epsilon * n * 4)
    assert y is x


@pytest.mark.parametrize("channels", [6, 30])
def test_images_at_two_strides(isa: str, dtype: Any, channels: int) -> None:
    """Several channels are summed at a time, of some of their images; x or what the activation saw is found again."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 5, 4, 2 * channels, 13, 13)).astype(dtype)[:, :, :3, ::2]
    dense, dense_dy = x.copy(), dy.copy()
    bound = 20 * TABLE["y"][np.dtype(dtype)]
    relu: dict[str, Any] = {"axis": 2, "activation": "relu"}
    leaky: dict[str, Any] = {"axis": 2, "activation": ("leaky_relu", 0.25)}

    saved, wanted = (bn.batch_norm_train(a, residual=a, **relu)[1] for a in (x, dense))
    got = bn.batch_norm_backward(dy, x, saved, residual=x)
    want = bn.batch_norm_backward(dense_dy, dense, wanted, residual=dense)
    np.testing.assert_allclose(got.dx, want.dx, rtol=0, atol=bound)

    y, saved = bn.batch_norm_train(x, **leaky, out=np.empty_like(np.repeat(x, 2, axis=2))[:, :, ::2])
    dense_y, wanted = bn.batch_norm_train(dense, **leaky)
    got = bn.batch_norm_backward(dy, None, saved, y=y)
    want = bn.batch_norm_backward(dense_dy, None, wanted, y=dense_y)
    np.testing.assert_allclose(got.dx, want.dx, rtol=0, atol=bound)


def test_a_step_in_place_needs_one_array_less() -> None:
    """dy may take dx, so that forward and backward make no array at all."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 8, 5, 33)).astype(np.float32)
    y, saved = bn.batch_norm_train(x, out=x, activation=("leaky_relu", 0.01))
    gradients = bn.batch_norm_backward(dy, None, saved, y=y, out=dy)
    assert y is x
    assert gradients.dx is dy


@pytest.mark.parametrize("shape", [(8, 4, 6), (5, 3)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind: str, shape: tuple[int, ...]) -> None:
    """Of every gradient, both forms, away from the kink."""
    rng = np.random.default_rng(3)
    x, r, t = rng.normal(size=(3, *shape))
    c = shape[1]
    weight, bias = parameters(c)
    mean, var = given_statistics(c)
    slopes = np.full(c, {"relu": 0.0, "leaky_relu": 0.25}.get(kind, 0.4)) + (kind == "prelu") * 0.1 * np.arange(c)

    def spec(s: Array) -> Any:
        return {"relu": "relu", "leaky_relu": ("leaky_relu", 0.25)}.get(kind, ("prelu", s))

    def train(x: Array, r: Array, weight: Array, bias: Array, s: Array) -> Array:
        return bn.batch_norm_train(x, weight, bias, activation=spec(s), residual=r)[0]

    def frozen(x: Array, r: Array, weight: Array, bias: Array, s: Array) -> Array:
        return bn.batch_norm_inference(x, mean, var, weight, bias, activation=spec(s), residual=r)

    for function in (train, frozen):
        arguments = (x, r, weight, bias, slopes)
        y = function(*arguments)
        if function is train:
            _, saved = bn.batch_norm_train(x, weight, bias, activation=spec(slopes), residual=r)
            got = bn.batch_norm_backward(t, x, saved, y=y)
        else:
            got = bn.batch_norm_inference_backward(t, x, mean, var, weight, bias, activation=spec(slopes), residual=r)
        v = (train if function is train else frozen)(x, r, weight, bias, np.ones(c))
        gradients = dict(zip(("dx", "dresidual", "dweight", "dbias", "dslope"), arguments, strict=True))
        for name, argument in gradients.items():
            gradient = getattr(got, name)
            if gradient is None:
                assert (name, kind == "prelu") == ("dslope", False)
                continue
            step = 1e-6
            if kind != "prelu":
                v = bn.batch_norm_train(x, weight, bias, residual=r)[0] if function is train else v
            for index in np.ndindex(argument.shape):
                moved = []
                for sign in (1, -1):
                    changed = argument.copy()
                    changed[index] += sign * step
                    given = [changed if a is argument else a for a in arguments]
                    moved.append(function(*given))
                if ((moved[0] > 0) != (moved[1] > 0)).any():
                    continue  # across a kink
                want = ((moved[0] - moved[1]) * t).sum() / (2 * step)
                assert abs(gradient[index] - want) < 1e-6 * max(1, abs(want)), (name, index)


@pytest.mark.threaded
@pytest.mark.parametrize("axis", [1, -1])
def test_threads_change_no_bit(isa: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    x, r, dy = rng.normal(size=(3, 6, 24, 40, 24)).astype(np.float32)
    weight, bias = parameters(24, np.float32)
    given = activation("prelu", 24)
    results = []
    for threads in (1, 2, 3, 5, 8):
        options: Any = {"num_threads": threads}
        y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, activation=given, residual=r, **options)
        g = bn.batch_norm_backward(dy, x, saved, y=y, **options)
        leaky = bn.batch_norm_train(
            x, weight, bias, axis=axis, activation=("leaky_relu", 0.1), residual=r, keep_sign=True, **options
        )[1]
        h = bn.batch_norm_backward(dy, x, leaky, **options)
        results.append([y, g.dx, g.dweight, g.dbias, g.dresidual, g.dslope, h.dx, h.dresidual])
    for other in results[1:]:
        for i, (a, b) in enumerate(zip(results[0], other, strict=True)):
            assert_same_bits(str(i), a, b)


def test_dresidual_goes_where_it_is_asked_to() -> None:
    rng = np.random.default_rng(0)
    x, r, dy = rng.normal(size=(3, 6, 5, 37)).astype(np.float32)
    y, saved = bn.batch_norm_train(x, activation=("leaky_relu", 0.1), residual=r)
    want = bn.batch_norm_backward(dy, x, saved, y=y)
    assert want.dresidual is not None
    assert not np.shares_memory(want.dresidual, dy)
    out = np.empty_like(x)
    assert bn.batch_norm_backward(dy, x, saved, y=y, residual_out=out).dresidual is out
    assert_same_bits("dresidual", out, want.dresidual)
    for name in ("residual_out", "out"):  # either may be dy
        mine = dy.copy()
        got = bn.batch_norm_backward(mine, x, saved, y=y, **{name: mine})  # type: ignore[arg-type]
        assert (got.dresidual if name == "residual_out" else got.dx) is mine
        assert_same_bits("dx", got.dx, want.dx)
        assert_same_bits("dresidual", got.dresidual, want.dresidual)
    # Without a residual in the forward, asking for it gives g.
    _, plain = bn.batch_norm_train(x, activation="relu")
    assert bn.batch_norm_backward(dy, x, plain).dresidual is None
    assert bn.batch_norm_backward(dy, x, plain, residual_out=out).dresidual is out


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite(isa: str, dtype: Any, kind: str) -> None:
    """NaN stays NaN, and minus infinity times a slope of 0 is 0."""
    x = np.array([[np.nan, -np.inf, np.inf, -1.0, 0.0, 2.0]] * 9, dtype)
    given = activation(kind, 6)
    y = bn.batch_norm_inference(x, np.zeros(6), np.ones(6), eps=0.0, activation=given)
    assert_same_bits("y", np.isnan(y), np.isnan(x))
    assert (y[:, 2] == np.inf).all()
    assert (y[:, 1] == (0 if kind == "relu" else -np.inf)).all()
    assert (y[:, 4] == 0).all()
    dy = np.full_like(x, np.inf)
    g = bn.batch_norm_inference_backward(dy, x, np.zeros(6), np.ones(6), eps=0.0, activation=given)
    assert (g.dx[:, 0] == np.inf).all()  # as in PyTorch: NaN is not on the lower side
    assert (g.dx[:, [3, 4]] == (0 if kind == "relu" else np.inf)).all()


def test_signs_serve_an_x_of_another_memory_order() -> None:
    rng = np.random.default_rng(0)
    x, r, dy = rng.normal(size=(3, 6, 5, 7, 9)).astype(np.float32)
    for given in (x, np.asfortranarray(x), np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        y, saved = bn.batch_norm_train(given, activation="relu", residual=r, keep_sign=True)
        want = bn.batch_norm_backward(dy, x, saved, y=y)
        got = bn.batch_norm_backward(dy, x, pickle.loads(pickle.dumps(saved)))
        assert_same_bits("dresidual", got.dresidual, want.dresidual)
        assert_same_bits("dx", got.dx, want.dx)


@pytest.mark.parametrize("shape", [(4, 3, 50), (10, 3, 4, 5)], ids=str)
def test_signs_of_an_array_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """Also where it has as many values per channel, and the statistics would do."""
    x = np.random.default_rng(0).normal(size=(10, 3, 20))
    _, saved = bn.batch_norm_train(x, activation="relu", residual=x, keep_sign=True)
    with pytest.raises(
        ValueError, match=r"^saved: expected signs of an array of x's shape .*, got strides \(60, 20, 1\)"
    ):
        bn.batch_norm_backward(np.ones(shape), np.ones(shape), saved)


@pytest.mark.parametrize("groups", [1, 2])
def test_slopes_of_any_sign_after_a_residual(groups: int) -> None:
    """PReLU learns its slopes, which may pass 0 on the way: y no longer tells what it saw, x and the residual do."""
    rng = np.random.default_rng(0)
    x, r, dy = rng.normal(size=(3, 6, 3, 5))
    slopes = np.array([-0.5, 0.0, 0.3])
    given = ("prelu", slopes)
    y, saved = bn.batch_norm_train(x, activation=given, residual=r, groups=groups)
    with pytest.raises(ValueError, match=r"^activation: slopes: expected positive slopes, .*residual=.*, got -0.5 in"):
        bn.batch_norm_backward(dy, x, saved, y=y)
    got = bn.batch_norm_backward(dy, x, saved, residual=r)
    v, before = bn.batch_norm_train(x, residual=r, groups=groups)
    g = oracle.taken_back(dy, v, slope_of(given, x, 1)).astype(np.float64)
    want = bn.batch_norm_backward(g, x, before)
    for name in ("dx", "dweight", "dbias", "dresidual"):
        within(name, getattr(got, name), getattr(want, name), 1e-12)
    within("dslope", got.dslope, np.where(v <= 0, dy * v, 0).sum((0, 2)), 1e-12)
    # Statistics made by hand know of no residual: it is given.
    if groups == 1:
        by_hand = bn.SavedStatistics(saved.mean, saved.rstd, 30, eps=1e-5, activation=given)
        assert_same_bits("dresidual", bn.batch_norm_backward(dy, x, by_hand, residual=r).dresidual, got.dresidual)


def test_saved_statistics_keep_the_activation() -> None:
    x = np.random.default_rng(0).normal(size=(9, 3))
    slopes = np.array([0.1, 0.2, 0.3], np.float32)
    _, saved = bn.batch_norm_train(x, activation=("prelu", slopes), residual=x)
    kept = saved.activation
    assert isinstance(kept, tuple)
    assert kept[0] == "prelu"
    slopes[:] = 7  # saved has its own copy, and nobody writes to it
    again = pickle.loads(pickle.dumps(saved))
    for s in (saved, copy.deepcopy(saved), again):
        assert isinstance(s.activation, tuple)
        values = s.activation[1]
        assert isinstance(values, np.ndarray)
        assert values.tolist() == np.array([0.1, 0.2, 0.3], np.float32).tolist()
        assert not values.flags.writeable
        assert "prelu" in repr(s)
        assert "residual" in repr(s)
    by_hand = bn.SavedStatistics(saved.mean, saved.rstd, 9, eps=1e-5, activation=("leaky_relu", 0.5))
    assert by_hand.activation == ("leaky_relu", 0.5)
    dy = np.ones_like(x)
    want = bn.batch_norm_backward(dy, x, bn.batch_norm_train(x, activation=("leaky_relu", 0.5))[1])
    assert_same_bits("dx", bn.batch_norm_backward(dy, x, by_hand).dx, want.dx)


def test_a_pickle_of_before_there_were_activations() -> None:
    x = np.random.default_rng(0).normal(size=(9, 3))
    _, saved = bn.batch_norm_train(x)
    restore, fields = saved.__reduce__()[:2]
    assert_same_bits("mean", restore(*fields[:6]).mean, saved.mean)
    assert restore(*fields[:6]).activation is None
