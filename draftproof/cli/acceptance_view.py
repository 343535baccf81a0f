"""Streamed text with the drafted tokens that were accepted in green: speculation seen at work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from draftproof.cli.screen import out, visible

if TYPE_CHECKING:
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
