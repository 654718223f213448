"""The run: every job on every case, checked, then timed beside its limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import limit, photos, shapes
from .agreement import check
from .jobs import Array, Data, Job, Workspace, jobs
from .shapes import Case, Shape
from .timing import median_seconds

# Seconds of timing for a whole run, and crops in the batch of photographs: full, quick.
BUDGET, BUDGET_QUICK = 120.0, 10.0
CROPS, CROPS_QUICK = 64, 4


@dataclass(frozen=True)
class Result:
    """One line of the table. Times in seconds, traffic in bytes; ``folded`` is NumPy's folded form of inference."""

    label: str
    layout: str
    job: str
    numpy: float
    ours: float
    fresh: float
    limit: float
    traffic: int
    folded: float | None

    @property
    def speedup(self) -> float:
        """NumPy's time over ours."""
        return self.numpy / self.ours

    @property
    def gigabytes_per_second(self) -> float:
        """The least traffic of the job over our time."""
        return self.traffic / self.ours / 1e9

    @property
    def percent_of_limit(self) -> float:
        """The time that moving the bytes takes, as a percentage of ours."""
        return 100 * self.limit / self.ours


def select(wanted: list[Shape | str], *, quick: bool) -> list[Case]:
    """Choose the cases of a run."""
    found: list[Case] = []
    for shape in shapes.quick(wanted) if quick else wanted:
        if isinstance(shape, str):
            found.append(photos.case(CROPS_QUICK if quick else CROPS))
        else:
            found.extend(shapes.cases(shape))
    return found


def run(cases: list[Case], progress: Callable[[str, int], None], *, quick: bool) -> list[Result]:
    """Check and time every job of every case. progress gets what is running and how many jobs are done."""
    workspace = Workspace(cases)
    budget = (BUDGET_QUICK if quick else BUDGET) / (3 * len(cases))
    results: list[Result] = []
    for case in cases:
        progress(f"{case.label} {case.layout}", len(results))
        data, out = workspace.lay_out(case, photos.fill if case.photos else None)
        for job in jobs(case, data, out):
            progress(f"{case.label} {case.layout} {job.name}", len(results))
            check(case, job, data, job.ours(out))
            results.append(_measure(case, job, data, out, budget))
    progress("done", len(results))
    return results


def _measure(case: Case, job: Job, data: Data, out: Array, budget: float) -> Result:
    kernels = limit.moves(job.name, case, data.x.itemsize)
    numpy: dict[str, Callable[[], object]] = {"numpy": job.numpy}
    if job.folded is not None:
        numpy["folded"] = job.folded
    ours: dict[str, Callable[[], object]] = {"ours": lambda: job.ours(out), "fresh": lambda: job.ours(None)}
    times = median_seconds([numpy, ours | limit.contenders(kernels, data.x, data.dy, out)], budget)
    return Result(
        label=case.label,
        layout=case.layout,
        job=job.name,
        numpy=times["numpy"],
        ours=times["ours"],
        fresh=times["fresh"],
        limit=limit.seconds(kernels, times),
        traffic=limit.traffic(kernels, data.x.nbytes),
        folded=times.get("folded"),
    )
