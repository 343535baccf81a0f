"""Words of a text, folded so that usual spellings of one word are equal, with their places.

A word is a run of letters and digits: `Norse–Gaels` is two, `Luther's` is *luther* and *s*. Initials that belong
together are one: `U.S.` and `US` are both *us*, `J. K.` and `JK` both *jk*. Folded are case, diacritics and the letters
that Unicode does not take apart (ø, ł, ß, æ …).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SURROGATE = re.compile("[\ud800-\udfff]")

_INITIALS = r"(?:[^\W\d_]\.[ \u00a0]?){1,8}[^\W\d_](?:\.|\b(?![\w'’]))"
_WORD = re.compile(rf"\b(?P<initials>{_INITIALS})|[^\W_]+")
_PLAIN = re.compile(r"[^\W_]+")
_INITIAL = re.compile(r"(?<!\w)[^\W\d_a-z]['’ʼ]$")
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t"}
)
_LONGEST = 100
"""Characters of a word that are folded: longer ones are no words of any language, and are taken as they are."""


@dataclass(frozen=True, slots=True)
class Word:
    start: int
    end: int
    text: str
    """Verbatim."""
    folded: str
    capital: bool
    """Whether it is written as a name is: `Rollo`, `NASA`, `iPhone`, `McAdam`, `H1N1`; also the end of `K’iche`."""

    @property
    def acronym(self) -> bool:
        return sum(map(str.isupper, self.text)) >= 2 and not any(map(str.islower, self.text.removesuffix("s")))


def words(text: str) -> Iterator[Word]:
    """In order. Linear in the length of `text`."""
    for match in _WORD.finditer(text):
        found = match[0]
        if match["initials"] is not None and not found.isupper():
            yield from (_word(text, *each.span()) for each in _PLAIN.finditer(text, *match.span()))
            continue
        yield _word(text, *match.span())


def _word(text: str, start: int, end: int) -> Word:
    found = text[start:end]
    behind_initial = _INITIAL.search(text, max(0, start - 3), start) is not None
    return Word(start, end, found, fold(found), found != found.lower() or behind_initial)


@lru_cache(maxsize=100_000)
def fold(word: str) -> str:
    """`Müller` and `MULLER` as *muller*, `U. S.` as *us*."""
    if len(word) > _LONGEST:
        return word
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    folded = word.casefold().translate(_LETTERS)
    return folded if folded.isalnum() else "".join(c for c in folded if c.isalnum())


def readable(text: str) -> str:
    """`text` with each lone surrogate, which no store and no model takes, replaced: offsets stay."""
    return SURROGATE.sub("\ufffd", text)
