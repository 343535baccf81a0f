"""What may reach a terminal. Texts of traces are hostile: escape sequences and markup are shown, not obeyed."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console
from rich.text import Text

from draftproof.verdict import Outcome

COLOURS = {
    Outcome.ACCEPT: "green",
    Outcome.REJECT: "red",
    Outcome.ABSTAIN: "bright_black",
    Outcome.ERROR: "yellow",
}
SIGNS = {Outcome.ACCEPT: "✓", Outcome.REJECT: "✗", Outcome.ABSTAIN: "·", Outcome.ERROR: "!"}


class _Screen(Console):
    """Leaves a reader that has gone, as in `| head`, to the caller; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def out() -> Console:
    """For data: standard output."""
    return _Screen(file=sys.stdout, highlight=False, soft_wrap=False)


def err() -> Console:
    """For progress: standard error."""
    return _Screen(file=sys.stderr, highlight=False)


def say(text: str) -> None:
    """A note on standard error. Whether anyone reads it changes nothing."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Send what is still written to `stream`, whose reader has gone, nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def visible(text: str) -> str:
    """`text` with control characters, bidirectional overrides included, as escapes. Length may change."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def plain(text: str, style: str = "") -> Text:
    """Untrusted text for rich: no markup, nothing a terminal obeys."""
    return Text(visible(text), style=style)


def one_line(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters."""
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= width else flat[: max(0, width - 1)] + "…"
