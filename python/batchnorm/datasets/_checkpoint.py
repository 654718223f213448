"""The file from which a run that was killed goes on: statistics of the first items, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import time
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._channel_stats import ChannelStats
from .._whole_file import write_whole
from ._parts import Outcome, join

_FORMAT, _VERSION = "batchnorm.datasets.checkpoint", 2  # the version changes with the windows and the order of merges
_PERIOD = 3.0  # seconds between two writes at least: what a kill costs
_REST = 20  # times what a write took until the next: with millions of channels it takes seconds


@dataclass(frozen=True)
class Prefix:
    """The first `done` items of a source: their statistics, how many images or arrays these are, what was skipped.

    It is never changed, but replaced as a whole: whatever interrupts a run, it fits together.
    """

    stats: ChannelStats
    done: int = 0
    items: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    seen: str = ""  # of a stream: a digest of its first items, to know it again

    def and_next(self, outcome: Outcome) -> Prefix:
        """Return the prefix that is longer by this item; a ValueError tells of other channels."""
        return Prefix(
            join(copy(self.stats), outcome.stats, outcome.name),
            self.done + 1,
            self.items + outcome.items,
            self.skipped + tuple(outcome.skipped),
            outcome.seen,
        )


def digest(value: Any) -> str:
    """Return a digest of anything that JSON knows."""
    return _digest_of(_text_of(value))


def _text_of(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Checkpoint:
    """A file that holds a prefix of this source, read in this way. `options` is what a reader may look at."""

    def __init__(self, path: str | os.PathLike[str], source: list[Any], options: dict[str, Any]) -> None:
        self._path = Path(os.fsdecode(path))
        self._source, self._options = digest(source), options
        self._written = -1
        self._next = time.monotonic() + _PERIOD

    def load(self, empty: Prefix) -> Prefix:
        """Return the prefix that the file holds. If there is no file yet, it is made of the empty one."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            self.save(empty)  # better an error now than after hours
            return empty
        state = self._state_in(text)
        for what, ours, theirs in (
            ("of this source", self._source, state["source"]),
            ("with these options", self._options, state["options"]),
        ):
            if ours != theirs:
                told = "" if what == "of this source" else f" ({theirs}, now {ours})"
                raise ValueError(
                    f"checkpoint: expected a run {what} in {str(self._path)!r}, got another one or files that have "
                    f"changed since{told} (remove it to start anew)"
                )
        skipped = tuple((name, message) for name, message in state["skipped"])
        stats = ChannelStats.from_json(json.dumps(state["stats"]))
        self._written = state["done"]
        return Prefix(stats, state["done"], state["items"], skipped, state["seen"])

    def _state_in(self, text: bytes) -> dict[str, Any]:
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise ValueError("another file")
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']!r}, where this batchnorm reads {_VERSION}")
            state: dict[str, Any] = document["state"]
            if document["digest"] != digest(state):
                raise ValueError("a damaged one")
        except Exception as error:
            told = "another file" if isinstance(error, (KeyError, TypeError, json.JSONDecodeError)) else error
            raise ValueError(f"checkpoint: expected a checkpoint in {str(self._path)!r}, got {told}") from error
        return state

    def perhaps_save(self, prefix: Prefix) -> None:
        """Write the file if the last time is a few seconds ago, or longer where it takes long."""
        if time.monotonic() >= self._next:
            self.save(prefix)

    def save(self, prefix: Prefix) -> None:
        """Write the file, unless it holds this prefix."""
        if self._written == prefix.done:
            return
        begun = time.monotonic()
        state = {
            "source": self._source,
            "options": self._options,
            "done": prefix.done,
            "items": prefix.items,
            "skipped": [list(pair) for pair in prefix.skipped],
            "seen": prefix.seen,
            "stats": json.loads(prefix.stats.to_json()),
        }
        text = _text_of(state)
        head = json.dumps({"format": _FORMAT, "version": _VERSION, "digest": _digest_of(text)})
        document = f'{head[:-1]}, "state": {text}}}\n'.encode()
        write_whole(self._path, lambda file: file.write(document))
        self._written = prefix.done
        ended = time.monotonic()
        self._next = ended + max(_PERIOD, _REST * (ended - begun))
