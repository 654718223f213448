"""How many threads a call uses, that it really uses them, and calls from several Python threads."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm import _core
from oracle import Array
from processes import run_code
from tolerances import assert_same_bits

OPENMP = _core.config()["openmp"]


def test_context_beats_setting(default_threads: None) -> None:
    bn.set_num_threads(3)
    assert bn.get_num_threads() == 3
    with bn.num_threads(5):
        assert bn.get_num_threads() == 5
        bn.set_num_threads(2)
        assert bn.get_num_threads() == 5
        with bn.num_threads(7):
            assert bn.get_num_threads() == 7
        assert bn.get_num_threads() == 5
    assert bn.get_num_threads() == 2


def test_none_is_the_default_again(default_threads: None) -> None:
    default = bn.get_num_threads()
    assert default >= 1
    bn.set_num_threads(default + 3)
    assert bn.get_num_threads() == default + 3
    bn.set_num_threads(None)
    assert bn.get_num_threads() == default


def test_the_context_ends_with_an_error(default_threads: None) -> None:
    before = bn.get_num_threads()
    with pytest.raises(KeyError), bn.num_threads(before + 1):
        raise KeyError
    assert bn.get_num_threads() == before


def test_one_manager_can_be_entered_again() -> None:
    before = bn.get_num_threads()
    three = bn.num_threads(3)
    with three, bn.num_threads(4), three:
        assert bn.get_num_threads() == 3
    assert bn.get_num_threads() == before


def test_the_context_is_this_contexts() -> None:
    """Another thread or task does not see it; a copy of the context does."""
    before = bn.get_num_threads()
    seen = []
    with bn.num_threads(before + 4):
        inside = contextvars.copy_context()
        fresh = contextvars.Context()
        seen.append(fresh.run(bn.get_num_threads))
        seen.append(inside.run(bn.get_num_threads))
    seen.append(inside.run(bn.get_num_threads))
    assert seen == [before, before + 4, before + 4]
    assert bn.get_num_threads() == before


def test_the_setting_is_the_processs(default_threads: None) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(bn.set_num_threads, 6).result()
    assert bn.get_num_threads() == 6


@pytest.mark.parametrize("way", ["set_num_threads", "num_threads"])
@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, r"^num_threads: expected .*, got 0"),
        (-1, ValueError, r"^num_threads: expected .*, got -1"),
        (True, TypeError, r"^num_threads: expected .*, got bool"),
        (2.0, TypeError, r"^num_threads: expected .*, got float"),
        ("2", TypeError, r"^num_threads: expected .*, got str"),
        (2**40, ValueError, r"^num_threads: expected .*, got 1099511627776"),
    ],
    ids=str,
)
def test_bad_numbers_of_threads(default_threads: None, way: str, n: Any, error: type[Exception], message: str) -> None:
    before = bn.get_num_threads()
    with pytest.raises(error, match=message):
        getattr(bn, way)(n)
    assert bn.get_num_threads() == before


def test_an_integer_of_numpy_is_an_integer(default_threads: None) -> None:
    bn.set_num_threads(np.int64(3))
    assert bn.get_num_threads() == 3
    bn.channel_stats(np.ones((2, 3)), num_threads=np.int32(2))


@pytest.mark.skipif(not OPENMP or OPENMP == "std::thread", reason="built without OpenMP")
def test_openmps_own_default_is_the_default() -> None:
    code = "import batchnorm as bn; print(bn.get_num_threads())"
    assert run_code(code, OMP_NUM_THREADS=3).split() == ["3"]
    changed = """
import ctypes, re
import batchnorm as bn
runtime = next(line.split()[-1] for line in open("/proc/self/maps") if re.search(r"lib[gi]?omp", line))
ctypes.CDLL(runtime).omp_set_num_threads(5)
print(bn.get_num_threads())
"""
    if sys.platform == "linux":  # what is set later counts too: it is asked at each call
        assert run_code(changed, OMP_NUM_THREADS=3).split() == ["5"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads in /proc")
@pytest.mark.skipif(not OPENMP or OPENMP == "std::thread", reason="built without OpenMP")
@pytest.mark.no_sanitizer  # a sanitizer has threads of its own
def test_the_threads_are_really_used() -> None:
    """As many as asked for, one where one is asked for, one where there is little to do."""
    code = """
import os, numpy as np, batchnorm as bn
count = lambda: len(os.listdir("/proc/self/task"))
large, small = np.ones((64, 64, 64, 64), np.float32), np.ones((4, 8), np.float32)
counts = [count()]
bn.channel_stats(large, num_threads=1)
counts.append(count())
bn.channel_stats(small, num_threads=4)
counts.append(count())
bn.channel_stats(large, num_threads=4)
counts.append(count())
print(*counts)
"""
    at_first, one, little, four = map(int, run_code(code, OPENBLAS_NUM_THREADS=1).split())
    assert (one, little) == (at_first, at_first)
    assert four == at_first + 3


@pytest.mark.threaded
def test_two_python_threads_at_once(isa: str) -> None:
    """Each computes on its own data, with two threads, again and again."""
    rng = np.random.default_rng(0)
    data = [rng.normal(i, 1, (16, 32, 28, 28)).astype(np.float32) for i in range(2)]

    def work(x: Array) -> tuple[Array, Array, Array]:
        y, saved = bn.batch_norm_train(x, num_threads=2)
        return y, bn.batch_norm_backward(y, x, saved, num_threads=2).dx, bn.channel_stats(x, num_threads=2).m2

    want = [work(x) for x in data]
    together = threading.Barrier(2)

    def again(i: int) -> list[tuple[Array, Array, Array]]:
        together.wait(60)
        return [work(data[i]) for _ in range(10)]

    with ThreadPoolExecutor(2) as pool:
        for i, results in enumerate(pool.map(again, range(2))):
            for got in results:
                for a, b in zip(got, want[i], strict=True):
                    assert_same_bits(f"thread {i}", a, b)


@pytest.mark.threaded
def test_one_array_read_by_many_python_threads() -> None:
    x = np.random.default_rng(0).normal(size=(8, 32, 28, 28)).astype(np.float32)
    want = bn.channel_stats(x)
    with ThreadPoolExecutor(8) as pool:
        for stats in pool.map(lambda _: bn.channel_stats(x, num_threads=2), range(40)):
            assert stats == want


@pytest.mark.threaded
def test_the_gil_is_released() -> None:
    """Another Python thread runs only when the interpreter is released: the interval for taking it is an hour."""
    x = np.random.default_rng(0).normal(size=(64, 64, 56, 56)).astype(np.float32)
    _, saved = bn.batch_norm_train(x)
    options: dict[str, Any] = {"num_threads": 1}  # so that there is a core for the other thread
    calls: dict[str, Callable[[], Any]] = {
        "train": lambda: bn.batch_norm_train(x, out=out, **options),
        "inference": lambda: bn.batch_norm_inference(x, saved.mean, saved.var, out=out, **options),
        "denormalize": lambda: bn.denormalize(x, saved.mean, saved.var, out=out, **options),
        "backward": lambda: bn.batch_norm_backward(x, x, saved, out=out, **options),
        "inference_backward": lambda: bn.batch_norm_inference_backward(x, x, saved.mean, saved.var, out=out, **options),
        "channel_stats": lambda: bn.channel_stats(x, **options),
    }
    out = np.empty_like(x)
    for name, call in calls.items():
        ready, go = threading.Event(), threading.Event()
        ran: list[bool] = []

        def other(ready: threading.Event = ready, go: threading.Event = go, ran: list[bool] = ran) -> None:
            ready.set()
            go.wait()
            ran.append(True)

        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600)
        try:
            go.set()
            for _ in range(100):  # it may not be woken up in time; without a release it never is
                if not ran:
                    call()
            ran_meanwhile = bool(ran)
        finally:
            sys.setswitchinterval(interval)
            thread.join()
        assert ran_meanwhile, name


@pytest.mark.threaded
def test_more_threads_than_any_machine_has() -> None:
    x = np.broadcast_to(np.float32(1), (1, 2000, 16384))
    assert (bn.channel_stats(x, num_threads=100_000).mean == 1).all()
