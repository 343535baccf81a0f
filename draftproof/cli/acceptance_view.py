"""Streamed text with the drafted tokens that were accepted in green: speculation seen at work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from draftproof.cli.screen import err, out, visible

if TYPE_CHECKING:
    from rich.live import Live

    from draftproof.drafting.generation import Chunk
    from draftproof.drafting.vocabulary import Vocabulary


class AcceptanceView:
    """Writes a generation to standard output as it comes: plain text into a file or pipe, coloured on a terminal."""

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        self._vocabulary = vocabulary
        self._console = out() if sys.stdout.isatty() else None

    def show(self, chunk: Chunk) -> None:
        if self._console is None:
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
            return
        drafted, own = self._split(chunk)
        text = Text(visible(drafted), style="green")
        text.append(visible(own), style="default")
        self._console.print(text, end="", soft_wrap=True)

    def end(self) -> None:
        sys.stdout.write("\n")
        sys.stdout.flush()

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


class GenerationStatus:
    """A line on standard error, where that is a terminal, while nothing can be seen yet: it goes with the first text.

    Where the text goes elsewhere, it stays and says how many tokens there are and how many each pass gave.
    """

    def __init__(self) -> None:
        self._status: Live | None = None
        self._tokens = self._passes = self._emitted = 0
        if sys.stderr.isatty():
            from rich.live import Live

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
        self._tokens += len(chunk.tokens)
        if chunk.record is not None:
            self._passes += 1
            self._emitted += chunk.record.emitted
        if self._passes:
            self.show(f"{self._tokens} tokens, {self._emitted / self._passes:.2f} a pass")

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
