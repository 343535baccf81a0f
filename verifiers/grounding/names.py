"""Find the names that a sentence states: people, places, works, organisations, acronyms.

Read by capital letters alone, no model: a name is a run of capitalised words, with small particles inside. A sentence
begins with a capital as well, so that there an ordinary word is not taken for a name. What is all in capitals, or in a
script without them, states no names that could be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from draftproof.verifiers.grounding.number_words import (
    DECADES,
    MONTHS,
    ORDINAL_TENS,
    ORDINAL_UNITS,
    SCALES,
    TENS,
    UNITS,
)
from draftproof.verifiers.grounding.ordinary import (
    DEGREES,
    ERAS,
    FUNCTION_WORDS,
    NO_ANSWERS,
    PARTICLES,
    TITLES,
    is_ordinary,
)
from draftproof.verifiers.grounding.words import Word, words

_JOINS = re.compile(r"[ \u00a0]|\s?[-‐‑–&/]\s?|['’]|\. ?|[ ]?['’][ ]?")
_BEGINS = re.compile(r"(?:^|[.!?:;…\n•*#>|]|[-–—]\s|[\"“”„«‘'(\[{])[\s\"“„«‘'(\[{*_]*$")
_NUMBER_WORDS = frozenset({*UNITS, *TENS, *SCALES, *ORDINAL_UNITS, *ORDINAL_TENS, *DECADES, *MONTHS, "hundred"})
FEW_WORDS = 4
"""Long words without one that is written small, from which on capitals tell nothing: `THE BAND HAS WON`."""

MOST_WORDS = 16
"""Of a name: what goes on after them is another."""

MOST_BARE = 8
"""Words of an answer that is nothing but a name."""

_ACRONYMS = frozenset(("us", "who", "it"))
"""Function words that are names when all in capitals."""


@dataclass(frozen=True, slots=True)
class Name:
    start: int
    end: int
    words: tuple[Word, ...]
    """Those that have to be found: no titles, particles or words that the name could be without."""


def names(sentence: str, small: Set[str] = frozenset()) -> list[Name]:
    """The names of `sentence`, in order. `small`: folded words that the question or the documents write small: where a
    sentence begins they are no names."""
    found = list(words(sentence))
    reader = _Reader(sentence, small, _is_shouted(found), _is_bare(found))
    return [name for run in _runs(sentence, found) if (name := reader.name(run)) is not None]


def _is_shouted(found: list[Word]) -> bool:
    long = [word for word in found if len(word.text) > 3 and word.text[0].isalpha()]
    return len(long) >= FEW_WORDS and all(word.text[0].isupper() for word in long)


def _is_bare(found: list[Word]) -> bool:
    """Whether it is no sentence but an answer, a name alone: `Rush`, `The Battle of Hastings`."""
    if not 0 < len(found) <= MOST_BARE or (len(found) > 1 and all(word.text.isupper() for word in found)):
        return False
    return all(word.capital or word.text.isdigit() or word.folded in PARTICLES for word in found)


def _runs(sentence: str, found: list[Word]) -> Iterator[list[Word]]:
    """Capitalised words that stand together, with the particles between them."""
    run: list[Word] = []
    pending: list[Word] = []
    for word in found:
        joined = (
            bool(run) and len(run) < MOST_WORDS and _are_joined(sentence, pending[-1] if pending else run[-1], word)
        )
        if word.capital:
            if run and not joined:
                yield run
                run = []
            run += [*(pending if run else ()), word]
            pending = []
        elif joined and word.folded in PARTICLES and len(pending) < 3:
            pending.append(word)
        elif run:
            yield run
            run, pending = [], []
    if run:
        yield run


def _are_joined(sentence: str, left: Word, right: Word) -> bool:
    join = _JOINS.fullmatch(sentence, left.end, right.start)
    if join is None or not join[0].startswith("."):
        return join is not None
    # the full stop of a title or an initial ends no sentence
    return len(left.text) == 1 or left.folded in TITLES or left.acronym


@dataclass(frozen=True)
class _Reader:
    """What makes a capitalised word a name in this sentence."""

    sentence: str
    small: Set[str]
    shouted: bool
    bare: bool

    def name(self, run: list[Word]) -> Name | None:
        begins = _BEGINS.search(self.sentence, max(0, run[0].start - 12), run[0].start) is not None
        may_be_name = [word for word in run if self._may_be_name(word)]
        needed = [
            word
            for word in may_be_name
            if not self._is_title(word)
            and not ((self.shouted or (begins and word is run[0] and not self.bare)) and self._is_ordinary(word))
        ]
        if not needed and self.bare:
            needed = may_be_name  # `President`, and no name with it
        return Name(needed[0].start, needed[-1].end, tuple(needed)) if needed else None

    def _may_be_name(self, word: Word) -> bool:
        folded = word.folded
        if not word.capital or len(folded) < 2 or not any(map(str.isalpha, folded)) or word.text[0].isdigit():
            return False
        if folded in FUNCTION_WORDS or folded in NO_ANSWERS:
            return word.acronym and not self.shouted and folded in _ACRONYMS
        return folded not in _NUMBER_WORDS and not self._is_era(word)

    def _is_title(self, word: Word) -> bool:
        return word.folded in TITLES and (self.shouted or not word.acronym or word.folded in DEGREES)

    def _is_ordinary(self, word: Word) -> bool:
        if not self.shouted and not word.text[1:].islower():
            return False
        return is_ordinary(word.folded) or word.folded in self.small

    def _is_era(self, word: Word) -> bool:
        """Whether it belongs to a year or an hour: `5 BC`, `AD 70`, `7 PM`."""
        near = self.sentence[max(0, word.start - 3) : word.start] + self.sentence[word.end : word.end + 3]
        return word.folded in ERAS and any(map(str.isdigit, near))
