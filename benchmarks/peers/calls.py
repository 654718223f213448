"""What a peer is to the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from batchnorm.bench.jobs import Array, Arrays, Data, Job
from batchnorm.bench.shapes import Case

Call: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Calls:
    """One job on one case, into the buffer and into fresh memory: None for what a peer can't do.

    ``arrays`` reads a result of either as the outputs of the job: y, or dx, dweight and dbias. It is not timed.
    """

    buffer: Call | None = None
    fresh: Call | None = None
    arrays: Callable[[Any], Arrays] = tuple


class Peer(Protocol):
    """Its setting up is not timed, be it of threads, compiled functions or descriptions of arrays."""

    name: str

    def calls(self, case: Case, data: Data, job: Job, out: Array) -> Calls:
        """Prepare a job on the arrays of a case; out is the buffer."""
