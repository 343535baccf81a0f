"""Number words: how many of the words from one on are one number, and which.

`one hundred and five`, `twenty-one`, `two hundred thousand`, `a dozen`, `twenty-first`; behind digits, `million`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.verifiers.grounding.number_words import (
    ORDINAL_SCALES,
    ORDINAL_TENS,
    ORDINAL_UNITS,
    SCALES,
    TENS,
    UNITS,
)

BETWEEN = re.compile(r"[\s\u00a0]{1,3}|[\s]?[-‐‑–][\s]?")


@dataclass(frozen=True, slots=True)
class Atom:
    start: int
    end: int
    word: str
    """Lower case; empty for digits."""
    digits: str
    glyph: str


def cardinal(text: str, atoms: Sequence[Atom], at: int) -> tuple[int | None, int]:
    """The value of the number words from atom `at` on, and how many atoms they take; None where there are none.

    `one hundred and five`, `twenty-one`, `two hundred thousand`, `a dozen`, `twenty-first`; a word that cannot go on
    begins another number.
    """
    total = current = used = 0
    ceiling = 10**15
    last = ""
    position = at
    while position < len(atoms):
        atom = atoms[position]
        word, skipped = atom.word, 0
        if position > at:
            gap = text[atoms[position - 1].end : atom.start]
            if not BETWEEN.fullmatch(gap):
                break
            if word == "and" and last in ("hundred", *SCALES) and position + 1 < len(atoms):
                nxt = atoms[position + 1]
                if not BETWEEN.fullmatch(text[atom.end : nxt.start]):
                    break
                word, skipped = nxt.word, 1
                if word not in UNITS and word not in TENS and word not in ORDINAL_UNITS and word not in ORDINAL_TENS:
                    break
        ordinal = word in ORDINAL_UNITS or word in ORDINAL_TENS or word in ORDINAL_SCALES
        if word in UNITS or word in ORDINAL_UNITS:
            value = UNITS.get(word, ORDINAL_UNITS.get(word, 0))
            fits = not used or (last != "zero" and _room(current, value, last))
            if not fits:
                break
            current += value
        elif word in TENS or word in ORDINAL_TENS:
            if used and (current % 100 or last == "zero"):
                break
            current += TENS.get(word, ORDINAL_TENS.get(word, 0))
        elif word in ("hundred", "hundredth"):
            if used and not 0 < current < 100:
                break
            current = 100 * (current or 1)
        elif word == "dozen":
            if current >= 100:
                break
            current, last, used = 12 * (current or 1), word, used + 1
            break
        elif word in SCALES or word in ORDINAL_SCALES:
            scale = SCALES.get(word, ORDINAL_SCALES.get(word, 0))
            if scale >= ceiling or (used and not current):
                break
            total, current, ceiling = total + (current or 1) * scale, 0, scale
        else:
            break
        last = word
        used += 1 + skipped
        position += 1 + skipped
        if ordinal:
            break
    return (total + current, used) if used else (None, 0)


def _room(current: int, value: int, last: str) -> bool:
    """Whether a unit word can go on a number: behind tens, hundreds and scales."""
    if current % 100 == 0:
        return last in ("hundred", *SCALES)
    return current % 10 == 0 and current % 100 >= 20 and 0 < value < 10 and last in TENS


def scale_of(text: str, atoms: Sequence[Atom], at: int, gap: str) -> tuple[int, int]:
    """What scale words behind digits multiply by, and how many atoms they are; 0 where there are none."""
    if not re.fullmatch(r"[\s\u00a0-]?", gap):
        return 0, 0
    product, used = 1, 0
    while at + used < len(atoms):
        word = atoms[at + used].word
        size = SCALES.get(word) or {"hundred": 100, "dozen": 12}.get(word)
        if size is None or (
            used and not re.fullmatch(r"[\s-]", text[atoms[at + used - 1].end : atoms[at + used].start])
        ):
            break
        product, used = product * size, used + 1
        if used == 3:
            break
    return (product, used) if used else (0, 0)
