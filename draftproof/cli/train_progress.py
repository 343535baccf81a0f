"""The progress of a training run: a bar for each of its stages."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from draftproof.cli.screen import err, say


class StageBars:
    """A live bar for each stage on a terminal, a line now and then elsewhere, nothing when `quiet`."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._said_at = time.monotonic()
        self._tasks: dict[str, Any] = {}
        self._live: Progress | None = None
        if not quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:11}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._live = Progress(*columns, console=err())

    def report(self, stage: str, done: int, total: int, detail: str) -> None:
        """What the stages of training call."""
        if self._live is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._live.add_task(stage, total=total, detail="")
            self._live.update(self._tasks[stage], completed=done, total=total, detail=detail)
        elif not self._quiet and (time.monotonic() - self._said_at > 10.0):
            self._said_at = time.monotonic()
            say(f"{stage} {done:,} of {total:,} {detail}".rstrip())

    def __enter__(self) -> StageBars:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
