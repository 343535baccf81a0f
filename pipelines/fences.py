"""Quote text that a model wrote in a prompt, so that it cannot end its own quotation."""

from __future__ import annotations

import re


def fence_for(*texts: str) -> str:
    """Backticks, at least three, and more than stand in a row in any of `texts`."""
    longest = max((len(run) for text in texts for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def fenced(text: str, fence: str) -> str:
    return f"{fence}\n{text}\n{fence}"
