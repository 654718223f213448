"""What other programs used of this machine, as Linux counts it."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
IDLE, IO_WAIT = 3, 4


class Others:
    """Watches from when it is made."""

    def __init__(self) -> None:
        self._started, self._used = time.perf_counter(), _used_by_others()

    def cores(self) -> float | None:
        """Return how many cores others have kept busy on average; None where the system does not tell."""
        used = _used_by_others()
        if used is None or self._used is None:
            return None
        return max(0.0, used - self._used) / (time.perf_counter() - self._started)


def _used_by_others() -> float | None:
    """Sum up seconds of all cores since the start: all but those that were idle or ours."""
    if not STAT.exists():
        return None
    # cpu user nice system idle iowait irq softirq steal ...
    ticks = [int(n) for n in STAT.read_text(encoding="ascii").split(maxsplit=9)[1:9]]
    used = sum(ticks) - ticks[IDLE] - ticks[IO_WAIT]
    return used / os.sysconf("SC_CLK_TCK") - time.process_time()
