"""Whether other programs keep this machine busy, as Linux counts it."""

from __future__ import annotations

import time
from pathlib import Path

STAT = Path("/proc/stat")
IDLE, IO_WAIT = 3, 4

# Long for the clock ticks that the counters are in.
SAMPLE = 0.5


def busy_cores() -> float | None:
    """Count the cores in use while this program sleeps; None where the system does not tell."""
    if not STAT.exists():
        return None
    before = _ticks()
    time.sleep(SAMPLE)
    spent = [b - a for a, b in zip(before, _ticks(), strict=True)]
    idle = spent[IDLE] + spent[IO_WAIT]
    cores = sum(line.startswith("cpu") for line in STAT.read_text(encoding="ascii").splitlines()) - 1
    return cores * (1 - idle / max(1, sum(spent)))


def _ticks() -> list[int]:
    """Read the ticks of all cores together: user, nice, system, idle, iowait, irq, softirq, steal."""
    return [int(ticks) for ticks in STAT.read_text(encoding="ascii").split(maxsplit=9)[1:9]]
