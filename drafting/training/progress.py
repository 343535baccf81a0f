"""How long jobs tell what they have done: a callback, so that this package knows nothing of terminals."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int, str], None]
"""Called with the stage's name, what is done of it, how much there is, and a short detail such as the loss."""


def silent(stage: str, done: int, total: int, detail: str) -> None:
    """Tells nobody."""
