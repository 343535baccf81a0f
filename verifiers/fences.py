"""Quote text that a model wrote in a prompt, so that it cannot end its own quotation."""

from __future__ import annotations

import re

from draftproof.canonical import digest, short


def fence_for(*texts: str) -> str:
    """Backticks, at least three, and more than stand in a row in any of `texts`."""
    longest = max((len(run) for text in texts for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def drawn_fence(seed: str, *texts: str) -> str:
    """Such a fence with a mark behind it that is drawn by `seed` and stands in none of `texts`.

    Backticks alone can be foreseen; and a model that reads may take a shorter fence for the end of a longer one. What
    was written before the mark was drawn has no such line, and to name all marks takes texts without an end.
    """
    backticks, draw = fence_for(*texts), 0
    while any((mark := short(digest([seed, draw]))) in text for text in texts):
        draw += 1
    return backticks + mark


def fenced(text: str, fence: str) -> str:
    return f"{fence}\n{text}\n{fence}"
