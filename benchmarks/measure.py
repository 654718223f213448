"""A run: every job on every case, ours checked, each peer looked at, then all timed in turns beside the limit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchnorm.bench import limit
from batchnorm.bench.agreement import GROUP, check
from batchnorm.bench.jobs import Array, Arrays, Data, Job, Workspace, jobs
from batchnorm.bench.shapes import Case
from batchnorm.bench.timing import median_seconds

from .cells import OURS, Cell
from .peers.calls import Call, Calls, Peer

# Enough to find a peer that was called wrongly; some lose digits, which is not ours to judge.
LOOSE = 1e-2


def run(
    cases: list[Case], peers: list[Peer], seconds: float, progress: Callable[[str, int], None]
) -> tuple[list[Cell], list[str]]:
    """Time about some seconds per cell. Returns the cells, and a remark for each result of a peer that is off.

    progress gets what is running, and how many cells were done since the last time.
    """
    workspace = Workspace(cases)
    cells: list[Cell] = []
    remarks: list[str] = []
    for case in cases:
        data, out = workspace.lay_out(case)
        for job in jobs(case, data, out):
            progress(f"{case.label} {case.layout} {job.name}", 0)
            got = job.ours(out)
            check(case, job, data, got)
            calls = {peer.name: peer.calls(case, data, job, out) for peer in peers}
            expected = tuple(a.copy() for a in got)
            remarks.extend(_look_at(case, job, out, calls, expected))
            del got, expected
            cells.append(_time(case, job, data, out, calls, seconds))
            progress("", 1)
    return cells, remarks


def _look_at(case: Case, job: Job, out: Array, calls: dict[str, Calls], expected: Arrays) -> list[str]:
    """Compare what each peer makes with ours, which was right."""
    remarks = []
    for name, peer in calls.items():
        for kind, call in _kinds(peer).items():
            out.fill(np.nan)  # not to find there what another one has written
            off = max(_distance(a, b) for a, b in zip(peer.arrays(call()), expected, strict=True))
            if not off <= LOOSE:
                cell = f"{case.label}, channels {case.layout}, {job.name}"
                remarks.append(f"{cell}: {name} ({kind}) is off by {off:.1e} of the largest value")
    return remarks


def _kinds(calls: Calls) -> dict[str, Call]:
    kinds = {"buffer": calls.buffer, "fresh": calls.fresh}
    return {kind: call for kind, call in kinds.items() if call is not None}


def _distance(got: Array, expected: Array) -> float:
    """Return the largest difference over the largest value, which is at least 1: gradients may all be near 0."""
    a, b = got.reshape(-1), expected.reshape(-1)
    if a.shape != b.shape:
        return float("inf")
    parts = [slice(start, start + GROUP) for start in range(0, a.size, GROUP)]  # so that temporaries stay small
    difference = np.max([np.abs(a[part] - b[part]).max() for part in parts])
    return float(difference / np.max([1, *(np.abs(b[part]).max() for part in parts)]))


def _time(case: Case, job: Job, data: Data, out: Array, calls: dict[str, Calls], seconds: float) -> Cell:
    kernels = limit.moves(job.name, case, data.x.itemsize)
    ours = Calls(buffer=lambda: job.ours(out), fresh=lambda: job.ours(None))
    turns: list[dict[str, Call]] = []
    for name, contender in (calls | {OURS: ours}).items():
        turn = {f"{kind} {name}": call for kind, call in _kinds(contender).items()}
        if turn:
            turns.append(turn)
    # The kernels of the limit run on our threads: they share our turn.
    turns[-1] |= limit.contenders(kernels, data.x, data.dy, out)
    times = median_seconds(turns, seconds)
    return Cell(
        label=case.label,
        layout=case.layout,
        job=job.name,
        size=case.size,
        nbytes=data.x.nbytes,
        buffer={name: times[f"buffer {name}"] for name in (*calls, OURS) if f"buffer {name}" in times},
        fresh={name: times[f"fresh {name}"] for name in (*calls, OURS) if f"fresh {name}" in times},
        limit=limit.seconds(kernels, times),
    )
