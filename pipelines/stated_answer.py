"""The answer that a text states, as it states it."""

from __future__ import annotations

import re

_STATED = re.compile(r"(?i:\bthe\s(?:final\s)?answer\sis\b)[ \t:]*|\b(?:Answer|ANSWER):[ \t]*")
_BRACE = re.compile(r"\\boxed\s?\{|\{|\}")


def stated_answer(text: str) -> str | None:
    """What is in the last box of `text`, or else behind the last "The answer is" or "Answer:", up to the end of its
    line; None where nothing is stated. A box that is never closed states nothing."""
    inside = _last_box(text)
    if inside is not None:
        return inside.strip() or None
    stated = [found.end() for found in _STATED.finditer(text)]
    if not stated:
        return None
    line = text[stated[-1] :].partition("\n")[0].strip().strip("*$").strip()
    return line.removesuffix(".").rstrip().strip("*$").strip() or None


def _last_box(text: str) -> str | None:
    """In one pass, whatever the braces."""
    opened: list[tuple[bool, int]] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append((brace[0] != "{", brace.end()))
        elif opened:
            boxed, start = opened.pop()
            if boxed and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[slice(*last)]
