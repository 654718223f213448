"""Work in a pool of threads, its results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ._parts import Worker

T = TypeVar("T")


def in_order(work: Callable[[int, Worker], T], start: int, stop: int, workers: int) -> Generator[T, None, None]:
    """Yield ``work(i, worker)`` for i from `start` to `stop`, in order, worked out by so many threads.

    At most twice as many as there are threads are begun and not yet yielded, so what waits for its turn is bounded.
    The first error, in order, is raised; nothing is begun after it, and all threads have ended.
    """
    own = threading.local()
    made: list[Worker] = []

    def run(i: int) -> T:
        if not hasattr(own, "worker"):
            own.worker = Worker()
            made.append(own.worker)
        return work(i, own.worker)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="batchnorm")
    pending: deque[Future[T]] = deque()
    upcoming = iter(range(start, stop))
    try:
        for i in upcoming:
            pending.append(pool.submit(run, i))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in made:
            worker.close()
