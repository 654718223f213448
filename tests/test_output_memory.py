"""Outputs of 32 MB and more: their memory is kept for the next ones, and their arrays are like any other."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm import _core
from oracle import Array

pytestmark = [
    pytest.mark.skipif(
        not _core.config()["keeps_memory"], reason="this build keeps no memory: no Linux, or sanitizers"
    ),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MEAN, VAR = np.zeros(4), np.ones(4)
LEAST = 32 * 2**20  # bytes
HUGE_PAGE = 2 * 2**20


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    bn.set_kept_memory(0)
    bn.set_kept_memory(None)
    yield
    bn.set_kept_memory(None)


def data(rows: int = 2**21) -> Array:
    return np.random.default_rng(0).normal(1, 2, (rows, 4)).astype(np.float32)


def normalize(x: Array, **options: Any) -> Array:
    return bn.batch_norm_inference(x, MEAN, VAR, **options)


def kept() -> int:
    return _core.get_kept_bytes()


def test_the_next_output_of_the_size_lies_where_the_last_one_did() -> None:
    x = data()
    want = normalize(x, out=np.empty_like(x))
    y = normalize(x)
    first, view = y.ctypes.data, y[5:]
    del y
    assert kept() == 0  # the view holds it
    del view
    assert LEAST <= kept() <= LEAST + 2 * HUGE_PAGE
    other = normalize(data(2**22))
    assert kept() > 0
    y = normalize(x)
    assert (y.ctypes.data, kept()) == (first, 0)
    np.testing.assert_array_equal(y, want)
    del other


def test_every_function_that_makes_an_array() -> None:
    x = data()
    saved = bn.batch_norm_train(x)[1]
    assert kept() > 0
    for make in (
        lambda: bn.batch_norm_train(x)[0],
        lambda: bn.batch_norm_backward(x, x, saved).dx,
        lambda: normalize(x),
        lambda: bn.batch_norm_inference_backward(x, x, MEAN, VAR).dx,
        lambda: bn.denormalize(x, MEAN, VAR),
    ):
        made = make()
        assert kept() == 0
        del made
        assert kept() > 0


def test_its_array_is_like_any_other() -> None:
    x = data()
    y = normalize(x)
    want = y.copy()
    assert y.flags.owndata and y.flags.writeable and y.base is None
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)), want)
    y.resize((3, 4), refcheck=False)
    np.testing.assert_array_equal(y, want[:3])
    y.resize(x.shape, refcheck=False)
    np.testing.assert_array_equal(y[:3], want[:3])
    assert not y[3:].any()


def test_a_smaller_output_is_numpys() -> None:
    del_me = normalize(data(2**21 - 4))
    del del_me
    assert kept() == 0


def test_other_arrays_do_not_come_from_here() -> None:
    x = data()
    normalize(x)
    before = kept()
    assert before > 0
    z = np.empty_like(x)
    assert kept() == before
    del z
    assert kept() == before


def test_no_more_is_kept_than_was_asked_for() -> None:
    x = data()
    size = LEAST + HUGE_PAGE
    bn.set_kept_memory(2 * size)
    outputs = [normalize(x) for _ in range(4)]
    outputs.clear()
    assert kept() == 2 * size
    bn.set_kept_memory(size)
    assert kept() == size
    bn.set_kept_memory(size - 1)
    normalize(x)
    assert kept() == 0
    for bad, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="most: expected an int"):
            bn.set_kept_memory(bad)  # type: ignore[arg-type]


def test_many_outputs_at_once() -> None:
    """More blocks than there are places for."""
    bn.set_kept_memory(2**40)
    x = np.broadcast_to(data(4)[:1], (2**21, 4))
    outputs = [normalize(x) for _ in range(70)]
    outputs.clear()
    assert kept() == 64 * (LEAST + HUGE_PAGE)


@pytest.mark.threaded
def test_threads_share_it() -> None:
    x = data()
    want = normalize(x, num_threads=1)
    wrong = []

    def work() -> None:
        for _ in range(10):
            if not np.array_equal(normalize(x, num_threads=1), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.no_sanitizer
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_its_own() -> None:
    x = data()
    want = normalize(x)
    normalize(x)
    child = os.fork()
    if child == 0:
        ok = all(np.array_equal(normalize(x, num_threads=1), want) for _ in range(3))
        os._exit(0 if ok else 1)
    again = normalize(x)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(again, want)
