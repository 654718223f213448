"""A progress bar, where a run takes long enough to wonder."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

_PATIENCE = 2.0  # seconds


class Meter:
    """Context manager that shows a bar on standard error after two seconds, if rich is installed and somebody looks."""

    def __init__(self, total: int | None, *, wanted: bool) -> None:
        self._total, self._wanted = total, wanted
        self._start = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int) -> None:
        """Say how far the run is."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif self._wanted and time.monotonic() - self._start > _PATIENCE:
            self._wanted = False  # asked once
            self._begin(done)

    def _begin(self, done: int) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn
        except ImportError:  # a bar is a comfort, no part of the result
            return
        console = Console(stderr=True)
        if not console.is_terminal:
            return
        columns = BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        self._bar = Progress("statistics", *columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=self._total, completed=done)
        self._bar.start()
