"""The progress bar of a batch: what share of the input is read, how fast, and what the verdicts are so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from draftproof.batch.run import Progress
from draftproof.cli.screen import err, say
from draftproof.importers.streams import Progress as Reading
from draftproof.verdict import Outcome

_REFRESH_SECONDS = 0.1
_PLAIN_SECONDS = 10.0


class Bar:
    """Shows a live bar on a terminal, a line now and then elsewhere, and nothing when `quiet`."""

    def __init__(self, files: Sequence[str], *, limit: int | None, quiet: bool) -> None:
        self._readings = {file: Reading() for file in files}
        self._total = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
        self._limit = limit
        self._quiet = quiet
        self._shown_at = 0.0
        self._live: RichProgress | None = None
        if not quiet and sys.stderr.isatty():
            self._live = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=err(),
                transient=True,
            )
            self._task = self._live.add_task("verifying", total=None, detail="")
            self._live.start()
        else:
            self._shown_at = time.monotonic()

    def reading(self, file: str) -> Reading:
        """The counter that the reader of `file` keeps."""
        return self._readings[file]

    def show(self, progress: Progress) -> None:
        """Redraw, unless that was done a moment ago."""
        if self._quiet:
            return
        now = time.monotonic()
        pause = _REFRESH_SECONDS if self._live else _PLAIN_SECONDS
        if now - self._shown_at < pause:
            return
        self._shown_at = now
        if self._live:
            self._live.update(
                self._task, total=1000, completed=int(1000 * self._share(progress)), detail=_detail(progress)
            )
        else:
            say(f"{self._share(progress):4.0%} {_detail(progress)}")

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _share(self, progress: Progress) -> float:
        """Share of the work done: bytes read, less what is planned from them and not judged yet."""
        total = self._total
        read = sum(reading.bytes_read for reading in self._readings.values())
        if not total:
            return 0.0
        if self._limit is not None:
            read = max(read, total * progress.traces // self._limit)
        judged = progress.judged / progress.planned if progress.planned else 1.0
        return min(1.0, read / total) * judged


def _detail(progress: Progress) -> str:
    rate = progress.judged / progress.seconds if progress.seconds else 0.0
    counts = progress.outcomes
    return (
        f"{progress.traces:,} traces · {progress.judged:,} verdicts · {rate:,.0f}/s · "
        f"{counts.get(Outcome.REJECT, 0):,} rejected · {counts.get(Outcome.ERROR, 0):,} errors"
    )
