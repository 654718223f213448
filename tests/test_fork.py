"""A child of fork computes with threads after its parent did; it neither hangs nor differs."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable

import numpy as np
import pytest

import batchnorm as bn
from processes import run_code

FOLDER = os.path.dirname(os.path.abspath(__file__))
SECONDS = 10  # guards against a hang; a computation here takes milliseconds

pytestmark = [
    pytest.mark.threaded,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def compute(threads: int = 2) -> bytes:
    """The bits of a forward and a backward that are large enough for threads."""
    x = np.random.default_rng(0).normal(3, 1, (16, 32, 28, 28)).astype(np.float32)
    y, saved = bn.batch_norm_train(x, num_threads=threads)
    gradients = bn.batch_norm_backward(y, x, saved, num_threads=threads)
    return y.tobytes() + gradients.dx.tobytes() + saved.mean.tobytes() + saved.var.tobytes()


def in_child(work: Callable[[], bytes]) -> bytes:
    """What `work` returns in a forked child, which is killed if it takes too long."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receive)
            with os.fdopen(send, "wb") as pipe:
                pipe.write(work())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(send)
    received, deadline = b"", time.monotonic() + SECONDS
    try:
        while True:
            readable, _, _ = select.select([receive], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                os.kill(child, signal.SIGKILL)
                pytest.fail(f"the child hung for {SECONDS} s")
            part = os.read(receive, 2**20)
            if not part:
                break
            received += part
    finally:
        os.close(receive)
        _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"
    return received


def test_parent_and_child() -> None:
    want = compute()
    assert in_child(compute) == want
    assert compute() == want  # the parent still works


def test_child_of_a_child() -> None:
    want = compute()
    assert in_child(lambda: compute() and in_child(compute)) == want


def test_many_children() -> None:
    want = compute()
    for threads in (1, 2, 3, 2):
        assert in_child(lambda threads=threads: compute(threads)) == want  # type: ignore[misc]
        assert compute(threads) == want


def test_parent_that_has_not_computed() -> None:
    """In a fresh interpreter, where nothing of OpenMP has started."""
    code = f"""
import sys; sys.path.insert(0, {FOLDER!r})
import test_fork
child = test_fork.in_child(test_fork.compute)
print(child == test_fork.compute() == test_fork.in_child(test_fork.compute))
"""
    assert run_code(code, PYTHONWARNINGS="ignore").split() == ["True"]


def test_a_thread_of_the_parent_has_computed() -> None:
    """Its workers are another thread's than the one that forks, and are not in the child either."""
    want, done, end = compute(), threading.Event(), threading.Event()

    def work() -> None:
        compute()
        done.set()
        end.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert done.wait(60)
        assert in_child(compute) == want
    finally:
        end.set()
        thread.join()


@pytest.mark.no_sanitizer
@pytest.mark.peers
def test_torch_was_imported_first() -> None:
    """It brings an OpenMP runtime of its own, and uses it."""
    pytest.importorskip("torch", reason="needs the extra [peers]")
    code = f"""
import torch
torch.ones(1000, 1000).sum(), torch.ones(500, 500) @ torch.ones(500, 500)
import sys; sys.path.insert(0, {FOLDER!r})
import test_fork
want = test_fork.compute()
print(test_fork.in_child(test_fork.compute) == want == test_fork.compute())
"""
    assert run_code(code, PYTHONWARNINGS="ignore").split() == ["True"]
