"""One job on one case, called so many times: what benchmarks.instructions runs under valgrind."""

from __future__ import annotations

import sys

from batchnorm.bench.jobs import Workspace, jobs
from batchnorm.bench.shapes import cases, spelled_out


def main(label: str, layout: str, name: str, calls: str) -> None:
    """Call the job, into a buffer."""
    case = next(c for c in cases(spelled_out(label, [])) if c.layout == layout)
    data, out = Workspace([case]).lay_out(case)
    job = next(j for j in jobs(case, data, out) if j.name == name)
    for _ in range(int(calls)):
        job.ours(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
