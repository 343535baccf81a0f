"""Streamed text with the drafted tokens that were accepted in green, and figures below it: speculation seen at work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from draftproof.cli.screen import err, out, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from draftproof.drafting.generation import Chunk
    from draftproof.drafting.vocabulary import Vocabulary


_REDRAWN_S = 0.08
"""Time between two drawings, which take some milliseconds and are no time of a pass, but of whoever waits."""


class Figures:
    """What the rounds of a running generation have come to."""

    def __init__(self) -> None:
        self._tokens = self._passes = self._emitted = self._accepted = 0
        self._ms = 0.0

    def add(self, chunk: Chunk) -> None:
        self._tokens += len(chunk.tokens)
        if chunk.record is not None:
            self._passes += 1
            self._emitted += chunk.record.emitted
            self._accepted += chunk.record.accepted
            self._ms += chunk.record.draft_ms + chunk.record.verify_ms

    def __str__(self) -> str:
        if not self._passes:
            return ""
        length = (self._accepted + self._passes) / self._passes
        speed = f" · {self._emitted * 1000.0 / self._ms:.1f} tokens/s" if self._ms else ""
        return f"{self._tokens} tokens · acceptance length {length:.2f}{speed}"


class AcceptanceView:
    """Writes a generation to standard output as it comes: plain text into a file or pipe, coloured on a terminal.

    On a terminal the line that is being written stands, with the figures so far below it, in a part of the screen that
    is drawn again for each chunk; lines that are finished are printed above it and stay.
    """

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        self._vocabulary = vocabulary
        self._console = out() if sys.stdout.isatty() else None
        self._figures = Figures()
        self._line = Text()
        self._live: Live | None = None
        self._drawn = 0.0

    def show(self, chunk: Chunk) -> None:
        if self._console is None:
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
            return
        self._figures.add(chunk)
        drafted, own = self._split(chunk)
        new = Text(visible(drafted), style="green")
        new.append(visible(own))
        if self._console.is_dumb_terminal:  # which can draw nothing again
            self._console.print(new, end="", soft_wrap=True)
            return
        *finished, self._line = (self._line + new).split("\n", allow_blank=True)
        if self._live is None:
            self._live = Live(  # drawn between two passes, never during one
                _Unfinished(self), console=self._console, transient=True, auto_refresh=False,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start()
        for line in finished:
            self._console.print(line, soft_wrap=True)
        if finished or time.perf_counter() - self._drawn > _REDRAWN_S:
            self._live.refresh()
            self._drawn = time.perf_counter()

    def end(self) -> None:
        """Leave the text alone, as it would stand in a file. Needed on every way out."""
        if self._live is not None and self._console is not None:
            self._live.stop()
            self._live = None
            self._console.print(self._line, end="", soft_wrap=True)
        sys.stdout.write("\n")
        sys.stdout.flush()

    def unfinished(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The end of the line that is being written, as much as fits the screen, and the figures."""
        most = max(1, console.height - 2)
        rows = self._line[-options.max_width * most :].wrap(console, options.max_width, tab_size=8)
        yield from rows[-most:]
        yield Text(str(self._figures), style="bright_black", no_wrap=True, overflow="ellipsis")

    def _split(self, chunk: Chunk) -> tuple[str, str]:
        """The chunk's text from accepted tokens, and from the target's own token, which comes last.

        Text that was held back for a character or a stop string to be completed may fall on the wrong side.
        """
        if chunk.record is None or not chunk.record.accepted or self._vocabulary is None:
            return "", chunk.text
        if len(chunk.tokens) <= chunk.record.accepted:  # a stop cut the target's own token off
            return chunk.text, ""
        own = self._vocabulary.decode(chunk.tokens[-1:])
        return (chunk.text.removesuffix(own), own) if chunk.text.endswith(own) else (chunk.text, "")


class _Unfinished:
    def __init__(self, view: AcceptanceView) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return self._view.unfinished(console, options)


class GenerationStatus:
    """A line on standard error, where that is a terminal, while nothing can be seen yet: it goes with the first text.

    Where the text goes elsewhere, it stays and says how many tokens there are and how fast they come.
    """

    def __init__(self) -> None:
        self._status: Live | None = None
        self._figures = Figures()
        if sys.stderr.isatty():
            self._status = Live(  # refreshed seldom, because passes are measured; standard output is not its own
                console=err(), transient=True, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False
            )

    def __enter__(self) -> GenerationStatus:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(Text(visible(text), style="bright_black"), refresh=True)

    def count(self, chunk: Chunk, *, printed: bool) -> None:
        """Note a chunk; `printed`: whether its text is about to be printed, over this line on a terminal."""
        if printed and sys.stdout.isatty():
            self._stop()
            return
        self._figures.add(chunk)
        if said := str(self._figures):
            self.show(said)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
