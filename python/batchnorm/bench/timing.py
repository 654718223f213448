"""Fair timing: contenders take turns, rest in between, and are compared by medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

# Threads that slept may first share one core; a turn keeps them busy for this long before anything is timed.
WARM_UP = 0.010

# Idle threads of a contender may go on spinning for a while; a rest lets them fall asleep before the next one starts.
REST = 0.020

# Enough for a median that one hiccup cannot move; a round of huge arrays averages out hiccups by itself.
ROUNDS, ROUNDS_IF_SLOW, SLOW = 5, 3, 2.0

# More rounds than this do not make a median better.
MOST_ROUNDS = 25


def median_seconds(turns: Sequence[Mapping[str, Callable[[], object]]], budget: float) -> dict[str, float]:
    """Take the median seconds of each named call, over as many rounds as fit into budget seconds.

    A turn holds the calls that share one pool of threads. In each round every turn is taken once, after a rest. Within
    a turn threads are warmed up, then each call is made twice and the second is timed: the first brings back into cache
    what the others pushed out.
    """
    started = time.perf_counter()
    for turn in turns:
        for call in turn.values():
            call()
    first = 2 * (time.perf_counter() - started) + REST * len(turns)
    least = ROUNDS if first < SLOW else ROUNDS_IF_SLOW
    times: dict[str, list[float]] = {name: [] for turn in turns for name in turn}
    for _ in range(max(least, min(MOST_ROUNDS, int(budget / first)))):
        for turn in turns:
            time.sleep(REST)
            _warm_up(next(iter(turn.values())))
            for name, call in turn.items():
                call()
                times[name].append(_seconds(call))
    return {name: statistics.median(values) for name, values in times.items()}


def _warm_up(call: Callable[[], object]) -> None:
    """Call it until its threads are awake and spread over the cores."""
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_UP:
        call()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    result = call()
    elapsed = time.perf_counter() - started
    del result
    return elapsed
