"""Statistics of data sets: order, threads and memory of a run."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchnorm.datasets import statistics
from batchnorm.datasets._ordered import in_order
from data_sets import values
from processes import run_code


def test_an_iterable_may_use_its_memory_again() -> None:
    def batches() -> Iterator[np.ndarray[Any, Any]]:
        buffer = np.empty((100, 3))
        for i in range(50):
            buffer[:] = i
            yield buffer

    result = statistics(batches(), workers=4)
    assert result.items == 50
    assert result.mean.tolist() == [24.5] * 3


def test_an_iterable_runs_in_the_thread_of_the_caller() -> None:
    threads = set()

    def batches() -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(5):
            threads.add(threading.current_thread())
            yield np.zeros((2, 3))

    statistics(batches(), workers=3)
    assert threads == {threading.current_thread()}


@pytest.mark.threaded
@pytest.mark.parametrize("source", ["x.npy", "x.npz"])
def test_the_same_bits_for_any_number_of_workers(tmp_path: Path, long_items: None, source: str) -> None:
    np.save(tmp_path / "x.npy", values(np.float64, (40, 5, 7)))
    np.savez(tmp_path / "x.npz", values(np.float64, (40, 5, 7)))
    first = statistics(tmp_path / source, workers=1)
    for workers in (2, 3, 8):
        assert statistics(tmp_path / source, workers=workers).stats == first.stats


@pytest.mark.threaded
def test_results_come_in_order_whoever_is_first() -> None:
    """Each item waits for the next one, as far as both are begun: they end in reverse order."""
    ended = [threading.Event() for _ in range(21)]
    order = []

    def work(i: int, worker: object) -> int:
        if i % 4 != 3 and i < 20:
            assert ended[i + 1].wait(30)
        order.append(i)
        ended[i].set()
        return i

    assert list(in_order(work, 0, 20, 4)) == list(range(20))
    assert order != sorted(order)


@pytest.mark.threaded
def test_how_many_are_begun_is_bounded_and_nothing_is_after_an_error() -> None:
    begun = []

    def work(i: int, worker: object) -> int:
        begun.append(i)
        if i == 5:
            raise ValueError("the fifth")
        return i

    results = in_order(work, 0, 1000, 2)
    for i in range(5):
        assert next(results) == i
        assert max(begun) < i + 5
    with pytest.raises(ValueError, match="the fifth"):
        next(results)
    assert max(begun) < 12
    assert not [t for t in threading.enumerate() if t.name.startswith("batchnorm")]


def growth(source: Path, **options: object) -> tuple[float, float]:
    """Megabytes that a run takes beyond what import does, and the first mean."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to see peak memory")
    grown, mean = run_code(
        "import re, sys, batchnorm.datasets as d\n"
        "def peak():\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) / 1024\n"
        "before = peak()\n"
        f"mean = d.statistics({str(source)!r}, **{options!r}).mean[0]\n"
        "print(peak() - before, mean)\n"
    ).split()
    return float(grown), float(mean)


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_memory(tmp_path: Path, name: str) -> None:
    """200 MB in a file. Beyond what import takes there are two windows, and 64 MB."""
    block = np.random.default_rng(0).normal(size=2**18).astype(np.float32)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (200, 2**18))
    x[:] = block
    if name == "x.npz":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "x.npy", "x.npy")
    del x
    grown, mean = growth(tmp_path / name, axis=None, workers=2)
    assert grown < 64 + 2 * 8
    assert mean == pytest.approx(block.mean(dtype=np.float64), rel=1e-9)


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("dtype", "each"), [(np.float32, 40), (np.uint8, 56)])
def test_memory_with_many_channels(tmp_path: Path, dtype: Any, each: int) -> None:
    """The results come on top, in several copies."""
    channels, workers = 1_000_000, 2
    np.save(tmp_path / "x.npy", np.ones((16, channels), dtype))
    grown, mean = growth(tmp_path / "x.npy", workers=workers)
    assert grown < 64 + workers * 8 + 5 * (workers + 1) * each * channels / 2**20
    assert mean == 1
