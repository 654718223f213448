"""The limit: what the memory traffic of a job costs when nothing is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import batchnorm as bn

from .. import _core
from .jobs import Array
from .shapes import Case

# Sweeps over the array, reading or writing, of each kernel of _core.move_bytes.
SWEEPS = {"read1": 1, "copy": 2, "read2": 2, "read2write1": 3}


def moves(job: str, case: Case, itemsize: int) -> tuple[str, ...]:
    """Name the kernels whose times add up to the limit of a job: the least traffic that any program needs.

    Inference reads and writes once. Training and backward need the sums of a channel before its first output, so they
    visit every value twice. Channels-first, the values of one channel lie in runs of their own: the second visit comes
    from cache if the channel (x, and dy in backward) fits there, and memory is read once. Channels-last, every
    cache line holds many channels, no channel is complete before the last row, and the second visit goes to memory; so
    it does for a channel that does not fit.
    """
    inputs = 2 if job == "backward" else 1
    kept = case.layout == "first" and inputs * itemsize * case.size // case.channels <= cache_per_core()
    if job == "inference":
        return ("copy",)
    if job == "train":
        return ("copy",) if kept else ("read1", "copy")
    return ("read2write1",) if kept else ("read2", "read2write1")


def traffic(kernels: tuple[str, ...], nbytes: int) -> int:
    """Count the bytes that the kernels move over an array of nbytes."""
    return nbytes * sum(SWEEPS[kernel] for kernel in kernels)


def cache_per_core() -> int:
    """Find the bytes of cache that one core can count on, as the library does for its stores."""
    # 1 MiB where the system does not tell: the smallest L2 of today's server cores.
    return int(_core.config()["cache_bytes"]) // (os.cpu_count() or 1) or 2**20


def contenders(kernels: tuple[str, ...], x: Array, dy: Array, out: Array) -> dict[str, Callable[[], object]]:
    """Return calls to time, named "kernel/store"; kernels that write come with streaming and with plain stores."""
    threads = bn.get_num_threads()

    def call(kernel: str, stream: bool) -> Callable[[], object]:
        b = dy if kernel.startswith("read2") else None
        target = None if kernel in ("read1", "read2") else out
        return lambda: _core.move_bytes(kernel, stream, x, b, target, threads)

    writes = {kernel: (False,) if kernel in ("read1", "read2") else (False, True) for kernel in kernels}
    return {
        f"{kernel}/{'stream' if stream else 'plain'}": call(kernel, stream)
        for kernel, stores in writes.items()
        for stream in stores
    }


def seconds(kernels: tuple[str, ...], times: Mapping[str, float]) -> float:
    """Add up the limit from the times of the contenders: each kernel by its faster kind of store."""
    return sum(min(t for name, t in times.items() if name.startswith(f"{kernel}/")) for kernel in kernels)
