"""NumPy: the formulas of the bench. They run on one thread whatever is asked for."""

from __future__ import annotations

from batchnorm.bench.jobs import Array, Data, Job
from batchnorm.bench.shapes import Case

from .calls import Calls


class NumPy:
    """Fresh only: into a buffer the formula would be another one."""

    name = "NumPy"

    def calls(self, case: Case, data: Data, job: Job, out: Array) -> Calls:
        """Hand on the job's own formula."""
        return Calls(fresh=job.numpy)


def make(threads: int) -> NumPy:
    """Return the peer."""
    return NumPy()
