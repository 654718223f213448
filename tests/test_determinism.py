"""The same bits for any number of threads, from any address, at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm import _core
from layouts import Case, given_statistics, parameters
from oracle import Array
from tolerances import assert_same_bits

THREADS = (1, 2, 3, 5, 8)

# Large enough for several chunks, and for all eight threads to have work.
SHAPES = {
    "planes": (8, 64, 56, 56),
    "small_planes": (64, 256, 7, 7),
    "few_channels": (32, 3, 96, 97),
    "one_channel": (3, 1, 400001),
    "rows": (60001, 30),
    "many_channels": (64, 20000),
}
LAYOUTS = ("channels_first", "channels_last", "fortran", "crop", "every_second_image", "backwards_inner")
CASES = {
    f"{name}-{layout}": Case(shape, layout)
    for name, shape in SHAPES.items()
    for layout in LAYOUTS
    if layout in ("channels_first", "channels_last") or name in ("planes", "rows")
}


def every_result(axis: int, x: Array, dy: Array, num_threads: int | None) -> dict[str, Array]:
    """What every function returns for these arrays."""
    c = x.shape[axis]
    weight, bias = parameters(c)
    mean, var = given_statistics(c)
    running = np.zeros(c), np.ones(c)
    options: dict[str, Any] = {"axis": axis, "num_threads": num_threads}
    y, saved = bn.batch_norm_train(x, weight, bias, running_mean=running[0], running_var=running[1], **options)
    trained = bn.batch_norm_backward(dy, x, saved, num_threads=num_threads)
    frozen = bn.batch_norm_inference_backward(dy, x, mean, var, weight, bias, **options)
    stats = bn.channel_stats(x, **options)
    updated = bn.channel_stats(dy, **options).update(x, **options)
    results = {
        "y": y,
        "saved.mean": saved.mean,
        "saved.var": saved.var,
        "saved.rstd": saved.rstd,
        "running_mean": running[0],
        "running_var": running[1],
        "inference": bn.batch_norm_inference(x, mean, var, weight, bias, **options),
        "denormalize": bn.denormalize(x, mean, var, weight, bias, **options),
        "stats.mean": stats.mean,
        "stats.m2": stats.m2,
        "updated.mean": updated.mean,
        "updated.m2": updated.m2,
    }
    results |= {f"train.{name}": getattr(trained, name) for name in ("dx", "dweight", "dbias")}
    results |= {f"inference.{name}": getattr(frozen, name) for name in ("dx", "dweight", "dbias", "dmean", "dvar")}
    return results


def assert_all_same(a: dict[str, Array], b: dict[str, Array]) -> None:
    __tracebackhide__ = True
    assert a.keys() == b.keys()
    for name in a:
        assert_same_bits(name, a[name], b[name])


@pytest.mark.threaded
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_any_number_of_threads(isa: str, dtype: Any, case: Case) -> None:
    axis, x, dy = case.arrays(dtype, 2, mean=3)
    one = every_result(axis, x, dy, 1)
    for threads in THREADS[1:]:
        assert_all_same(every_result(axis, x, dy, threads), one)


@pytest.mark.threaded
def test_again_and_again(isa: str) -> None:
    """A race shows as a run that differs."""
    axis, x, dy = CASES["few_channels-channels_first"].arrays(np.float32, 2, mean=3)
    first = every_result(axis, x, dy, 2)
    for _ in range(10):
        assert_all_same(every_result(axis, x, dy, 2), first)


@pytest.fixture
def group_bytes() -> Iterator[Callable[[int], None]]:
    """Let groups of channels be cut for another cache."""
    yield _core._set_group_bytes
    _core._set_group_bytes(None)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((45, 520, 14, 14), "channels_first"), ((9, 200, 30, 30), "crop"), ((40, 260, 14, 14), "every_second_image")],
    ids=str,
)
def test_any_cache(
    isa: str, dtype: Any, shape: tuple[int, ...], layout: str, group_bytes: Callable[[int], None]
) -> None:
    """Which channels are summed and mapped together changes no bit, nor does what is converted or found on the way."""
    axis, x, dy = Case(shape, layout).arrays(dtype, 2, mean=3)
    half = x.astype(np.float16)

    def results() -> dict[str, Array]:
        converted = bn.batch_norm_train(half, axis=axis, out=np.empty(x.shape, np.float32))[0]
        _, saved = bn.batch_norm_train(x, axis=axis, activation="relu", residual=dy)
        of_residual = bn.batch_norm_backward(dy, x, saved, residual=dy).dx
        y, saved = bn.batch_norm_train(x, axis=axis, activation=("leaky_relu", 0.2))
        of_y = bn.batch_norm_backward(dy, None, saved, y=y).dx
        return every_result(axis, x, dy, 2) | {"converted": converted, "of residual": of_residual, "of y": of_y}

    want = results()
    for of_array in (1 << 20, 1 << 17, 0):
        group_bytes(of_array)
        assert_all_same(results(), want)


@pytest.mark.threaded
def test_groups_of_columns_as_a_whole_or_in_spans(isa: str) -> None:
    """One thread takes a group of columns at once; several share out what is done once per channel."""
    shape = 386, 8200
    rng = np.random.default_rng(0)
    x, dy, ddx = rng.normal(3, 1, (3, *shape)).astype(np.float32)
    integers = {t: rng.integers(0, 127, shape).astype(t) for t in (np.uint8, np.uint16)}
    weight, bias = parameters(shape[1])
    slope = rng.uniform(0.1, 0.9, shape[1])

    def results(num_threads: int) -> dict[str, Array]:
        threads: dict[str, Any] = {"num_threads": num_threads}
        _, saved = bn.batch_norm_train(x, weight, bias, activation=("prelu", slope), **threads)
        first = bn.batch_norm_backward(dy, x, saved, **threads)
        linear = bn.SavedStatistics(saved.mean, saved.rstd, saved.count, eps=saved.eps, weight=weight)
        second = bn.batch_norm_double_backward(ddx, weight, bias, dy, x, linear, **threads)
        named = {"dslope": first.dslope, "ddy": second.ddy, "second.dx": second.dx, "second.dweight": second.dweight}
        for dtype, values in {np.float32: x, **integers}.items():
            stats = bn.channel_stats(values, extremes=True, **threads)
            named |= {f"{dtype.__name__}.{name}": getattr(stats, name) for name in ("mean", "m2", "min", "max")}
        return every_result(1, x, dy, num_threads) | {name: a for name, a in named.items() if a is not None}

    one = results(1)
    for threads in THREADS[1:]:
        assert_all_same(results(threads), one)


def at_offset(a: Array, elements: int) -> Array:
    """A dense copy whose first element lies so many elements after an address that 64 divides."""
    raw = np.empty(a.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + elements * a.itemsize
    view = raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


@pytest.mark.parametrize("shape", [(5, 7, 33), (9, 17), (16, 64, 30, 31), (60001, 30)], ids=str)
def test_any_address(isa: str, dtype: Any, shape: tuple[int, ...]) -> None:
    """Partial vectors are at the end of a run, wherever it starts."""
    x, dy = np.random.default_rng(0).normal(3, 1, (2, *shape)).astype(dtype)
    for axis in {1, len(shape) - 1}:
        want = every_result(axis, at_offset(x, 0), at_offset(dy, 0), 1)
        for elements in (1, 3, 7):
            assert_all_same(every_result(axis, at_offset(x, elements), at_offset(dy, 8 - elements), 1), want)


def test_a_value_does_not_depend_on_where_it_lies(isa: str, dtype: Any) -> None:
    """The same numbers at every place of a run give the same y and dx, in full vectors and in tails."""
    mean, var = np.array([0.3]), np.array([1.7])
    for n in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 257):
        for shape, axis in [((1, 1, n), 1), ((n, 1), 1), ((1, n), 1)]:
            x = np.full(shape, 1 / 3, dtype)
            given = (np.repeat(mean, shape[axis]), np.repeat(var, shape[axis]))
            y = bn.batch_norm_inference(x, *given, axis=axis)
            dx = bn.batch_norm_inference_backward(x, x, *given, axis=axis).dx
            back = bn.denormalize(x, *given, axis=axis)
            for name, a in (("y", y), ("dx", dx), ("x", back)):
                assert len(set(a.ravel().tolist())) == 1, (name, shape)


def test_identical_channels_give_identical_results(isa: str, dtype: Any) -> None:
    """Whichever column of a vector a channel falls into."""
    column = np.random.default_rng(0).normal(3, 1, (3001, 1)).astype(dtype)
    dy = np.random.default_rng(1).normal(0, 1, (3001, 1)).astype(dtype)
    for c in (2, 3, 15, 16, 17, 30, 67, 300):
        x, g = np.repeat(column, c, axis=1), np.repeat(dy, c, axis=1)
        y, saved = bn.batch_norm_train(x)
        got = bn.batch_norm_backward(g, x, saved)
        for name, a in (("mean", saved.mean[None]), ("var", saved.var[None]), ("y", y), ("dx", got.dx)):
            assert_same_bits(name, a, np.repeat(a[:, :1], c, axis=1))
        assert len(set(got.dweight.tolist())) == len(set(got.dbias.tolist())) == 1


@pytest.mark.threaded
@pytest.mark.parametrize("shape", [(16, 64, 56, 56), (60001, 30)], ids=str)
def test_the_way_of_asking_for_threads_does_not_matter(default_threads: None, shape: tuple[int, ...]) -> None:
    x, dy = np.random.default_rng(0).normal(3, 1, (2, *shape)).astype(np.float32)
    want = every_result(1, x, dy, 1)
    ask: list[Callable[[int], dict[str, Array]]] = [lambda n: every_result(1, x, dy, n)]

    def in_context(n: int) -> dict[str, Array]:
        with bn.num_threads(n):
            return every_result(1, x, dy, None)

    def by_setting(n: int) -> dict[str, Array]:
        bn.set_num_threads(n)
        return every_result(1, x, dy, None)

    ask += [in_context, by_setting]
    for n in (2, 3):
        for way in ask:
            assert_all_same(way(n), want)


def test_alignment_changes_no_bit(isa: str, dtype: Any) -> None:
    """Memory at an odd address is gathered, in the same blocks."""
    for shape, axis in (((6, 5, 70, 40), 1), ((900, 3), 1), ((40, 30, 7, 7), 1), ((700, 130), 1)):
        x = np.random.default_rng(0).normal(size=shape).astype(dtype)
        odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(shape)
        assert odd.ctypes.data % x.itemsize
        y, saved = bn.batch_norm_train(x, axis=axis)
        odd_y, odd_saved = bn.batch_norm_train(odd, axis=axis)
        assert_same_bits("y", odd_y, y)
        assert_same_bits("mean", odd_saved.mean, saved.mean)
        assert_same_bits("var", odd_saved.var, saved.var)
