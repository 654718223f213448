"""The numbers of a run, and what is made of them: ratios, geometric means, the cells that are lost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

OURS = "ours"
FRESH_RIVAL = "PyTorch"

# A cell counts as lost below 1 less what the same code differs by from run to run, and from an array size on: times
# of smaller ones are mostly those of the call.
TOLERANCE = 0.03
LEAST_BYTES = 1_000_000


@dataclass(frozen=True)
class Cell:
    """One job on one case. Seconds by contender, ours among them, into a buffer and into fresh memory."""

    label: str
    layout: str
    job: str
    size: int
    nbytes: int
    buffer: dict[str, float]
    fresh: dict[str, float]
    limit: float

    @property
    def key(self) -> tuple[str, str, str]:
        """What names the cell in every run."""
        return self.label, self.layout, self.job

    @property
    def peers(self) -> dict[str, float]:
        """The time of each peer: into the buffer if it can, else fresh."""
        return {name: t for name, t in (self.fresh | self.buffer).items() if name != OURS}

    @property
    def fastest(self) -> str | None:
        """The fastest peer."""
        return min(self.peers, key=lambda name: self.peers[name], default=None)

    @property
    def speedup(self) -> float | None:
        """The time of the fastest peer over ours into the buffer."""
        return None if self.fastest is None else self.over(self.fastest)

    @property
    def fresh_speedup(self) -> float | None:
        """PyTorch's time over ours, both into fresh memory."""
        rival = self.fresh.get(FRESH_RIVAL)
        return None if rival is None else rival / self.fresh[OURS]

    @property
    def percent_of_limit(self) -> float:
        """The time that moving the bytes takes, as a percentage of ours into the buffer."""
        return 100 * self.limit / self.buffer[OURS]

    @property
    def is_lost(self) -> bool:
        """Whether a peer is faster, by more than the tolerance, on an array that is not small."""
        return self.nbytes >= LEAST_BYTES and self.speedup is not None and self.speedup < 1 - TOLERANCE

    def over(self, peer: str) -> float | None:
        """The time of a peer over ours into the buffer; None where it has none."""
        return self.peers[peer] / self.buffer[OURS] if peer in self.peers else None


def peer_names(cells: Iterable[Cell]) -> list[str]:
    """Return the peers that have a time in any of the cells, in their order."""
    return list(dict.fromkeys(name for cell in cells for name in cell.peers))


def geometric_means(cells: Iterable[Cell], value: Callable[[Cell], float | None]) -> dict[str, float]:
    """Average a value per layout, then over all cells, leaving out the cells that have none."""
    values = [(cell.layout, v) for cell in cells if (v := value(cell)) is not None]
    groups = {layout: [v for name, v in values if name == layout] for layout in ("first", "last")}
    groups["all"] = [v for _, v in values]
    return {name: statistics.geometric_mean(group) for name, group in groups.items() if group}


def medians(runs: list[list[Cell]]) -> list[Cell]:
    """Take the median of each time over whole runs of the same cells."""
    return [_median(list(same)) for same in zip(*runs, strict=True)]


def _median(same: list[Cell]) -> Cell:
    first = same[0]
    if any(cell.key != first.key for cell in same):
        raise ValueError(f"expected runs of the same cells, got {sorted({cell.key for cell in same})}")
    return Cell(
        label=first.label,
        layout=first.layout,
        job=first.job,
        size=first.size,
        nbytes=first.nbytes,
        buffer={name: statistics.median(cell.buffer[name] for cell in same) for name in first.buffer},
        fresh={name: statistics.median(cell.fresh[name] for cell in same) for name in first.fresh},
        limit=statistics.median(cell.limit for cell in same),
    )
