"""A pipeline run while it goes on: problems as rows of blocks on a terminal, a line now and then elsewhere.

Rows of problems that are being solved stand on standard error and are drawn again as steps come; a finished problem is
printed to standard output, above them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text

from draftproof.batch.solved import Block, Solved, blocks_of
from draftproof.cli.route_view import blocks, legend
from draftproof.cli.screen import err, one_line, out, plain, say

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from draftproof.batch.problems import Problem
    from draftproof.batch.tally import Tally

_REFRESHED_A_SECOND = 6
_PLAIN_SECONDS = 10.0
_NAME, _ANSWER = 18, 14


class RunView:
    """Shows a run. `observe` is called from the threads that work, all else from the one that waits for them."""

    def __init__(self, tally: Tally, *, quiet: bool, title: str = "") -> None:
        self._tally, self._quiet, self._title = tally, quiet, title
        self._lock = threading.Lock()
        self._running: dict[int, tuple[str, tuple[Block, ...]]] = {}
        self._tokens = 0
        """Of problems that were solved now, discarded ones included."""
        self._started = self._shown_at = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> RunView:
        if not self._quiet and sys.stderr.isatty() and not err().is_dumb_terminal:
            self._live = Live(
                self, console=err(), transient=True, refresh_per_second=_REFRESHED_A_SECOND,
                redirect_stdout=sys.stdout.isatty(), redirect_stderr=True,
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def observe(self, problem: Problem, state: Mapping[str, Any] | Solved) -> None:
        with self._lock:
            if isinstance(state, Solved):
                self._running.pop(id(problem), None)
                if not state.known:
                    self._tokens += _written(state)
            elif self._live is not None:
                self._running[id(problem)] = (problem.id, blocks_of(state))

    def show(self, solved: Solved, *, row: bool) -> None:
        """A problem has come to its end. `row`: whether it is printed; else only counted."""
        if row:
            _print_row(solved)
        if self._quiet or self._live is not None:
            return
        now = time.monotonic()
        if now - self._shown_at >= _PLAIN_SECONDS:
            self._shown_at = now
            say(self.figures())

    def figures(self) -> str:
        """Where the run is, in one line."""
        tally = self._tally
        counts = tally.counts
        seconds = time.monotonic() - self._started
        parts = [
            f"{tally.solved + tally.failed:,} of {tally.read:,} problems read",
            f"escalated {1 - (tally.acceptance or 0):.0%} of {tally.steps:,} steps" if tally.steps else "no steps yet",
            f"tokens: draft {counts.get('draft_tokens_kept', 0):,}, discarded "
            f"{counts.get('draft_tokens_discarded', 0):,}, target {counts.get('target_tokens', 0):,}",
            f"{self._tokens / seconds if seconds else 0.0:,.0f} tokens/s",
        ]
        if tally.referenced:
            parts.append(f"right {tally.right:,} of {tally.referenced:,}")
        if tally.routes.unjudged:
            parts.append(f"not judged {tally.routes.unjudged.total():,} of {tally.routes.decided:,}")
        if tally.failed:
            parts.append(f"{tally.failed:,} errored")
        return " · ".join(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        with self._lock:
            running = list(self._running.values())
        most = max(1, console.height - 4)
        width = max(8, options.max_width - _NAME - 4)
        for name, written in running[:most]:
            yield Text.assemble(plain(f"… {one_line(name, _NAME):<{_NAME}} ", "dim"), blocks(written, width))
        if len(running) > most:
            yield plain(f"… and {len(running) - most} more", "dim")
        head = f"{self._title}: " if self._title else ""
        yield Text.assemble(plain(head, "bold"), plain(self.figures()), no_wrap=True, overflow="ellipsis")
        yield legend()


def _written(solved: Solved) -> int:
    names = ("draft_tokens_kept", "draft_tokens_discarded", "target_tokens")
    return sum(solved.counts.get(name, 0) for name in names)


def _print_row(solved: Solved) -> None:
    """A finished problem in one line: whether it is right, its answer, and who wrote its steps."""
    screen = out()
    sign, style = sign_of(solved)
    answer = one_line(solved.answer or f"({solved.finish})", _ANSWER)
    reference = solved.problem.answer if solved.correct is False else None
    row = Text.assemble(
        plain(f"{sign} ", style),
        plain(f"{one_line(solved.problem.id, _NAME):<{_NAME}} "),
        plain(f"{answer:<{_ANSWER}} ", style if solved.correct is not None else ""),
    )
    row.append_text(blocks(solved.blocks, 60))
    if reference is not None:
        row.append_text(plain(f"  not {one_line(reference, _ANSWER)}", "dim"))
    if solved.failed:
        row.append_text(plain(f"  {one_line(solved.error, 80)}", "yellow"))
    if solved.outcome and solved.outcome != "accept":
        row.append_text(plain(f"  its check: {one_line(solved.outcome, _ANSWER)}", "yellow"))
    if solved.known:
        row.append_text(plain("  known", "dim"))
    screen.print(row, soft_wrap=True)


def sign_of(solved: Solved) -> tuple[str, str]:
    if solved.failed:
        return "!", "yellow"
    if solved.correct is None:
        return "·", ""
    return ("✓", "green") if solved.correct else ("✗", "red")
