"""A document, read once, so that numbers and names can be looked up in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from draftproof.trace import Span
from draftproof.verifiers.grounding.kinship import relatives
from draftproof.verifiers.grounding.number_words import roman
from draftproof.verifiers.grounding.numbers import Value, numbers
from draftproof.verifiers.grounding.words import Word, readable, words

_ACRONYM_STEM = re.compile(r"[A-Z]{3,}(?=[a-z]{3,}$)")
"""Of `GABAergic`."""

_WAR = re.compile("ww(i{1,2}|1|2)")

LONGEST_INITIALS = 8
_INSIDE = frozenset(("of", "the", "and", "for", "de", "la", "in", "on"))

SPREAD = 6
"""A name's words may have so many others between them: *Leonard Francis “Len” Worley* has *Len Worley* and *Leonard
Worley*."""

MOST_ANCHORS = 1_000
"""Places of a name's rarest word that are looked at."""

LOWER_INITIALS = 4
"""Letters from which on an acronym may stand for words that are written small: shorter ones fit by chance."""


@dataclass
class Chunk:
    """What stands in one document."""

    text: str
    """Lone surrogates replaced; offsets are those of the document."""
    listed: list[Word] = field(default_factory=list)
    values: dict[Value, Span] = field(default_factory=dict)
    """Every number, with the first place where it stands."""
    places: dict[str, list[int]] = field(default_factory=dict)
    """Folded words, and compounds written with a hyphen: indices into `listed`."""
    kin: dict[str, list[int]] = field(default_factory=dict)
    """The same by `relatives`, of capitalised words and their initials."""
    small: set[str] = field(default_factory=set)
    """Folded words that are written small somewhere."""
    acronyms: set[str] = field(default_factory=set)
    """Folded words that are written in capitals somewhere."""
    initials: str = ""
    """The first letter of every word, in order."""

    @classmethod
    def read(cls, document: str) -> Chunk:
        """Linear in the length of `document`."""
        chunk = cls(readable(document))
        for number in numbers(chunk.text):
            for value in number.values:
                chunk.values.setdefault(value, Span(start=number.start, end=number.end))
        chunk._read_words()
        return chunk

    def _read_words(self) -> None:
        places: defaultdict[str, list[int]] = defaultdict(list)
        kin: defaultdict[str, list[int]] = defaultdict(list)
        self.listed = list(words(self.text))
        self.initials = "".join(word.folded[:1] or " " for word in self.listed)
        for index, word in enumerate(self.listed):
            places[word.folded].append(index)
            if not word.capital:
                self.small.add(word.folded)
                continue
            if word.acronym:
                self.acronyms.add(word.folded)
                if (war := _WAR.fullmatch(word.folded)) is not None:
                    for part in ("world", "war", war[1]):
                        places[part].append(index)
            for key in relatives(word.folded):
                kin[key].append(index)
        for index, (left, right) in enumerate(pairwise(self.listed)):
            if right.start - left.end == 1 and self.text[left.end] in "-‐‑–'’":
                places[left.folded + right.folded].append(index)
        for start, initials in _capital_runs(self.listed):
            for length in range(2, min(len(initials), LONGEST_INITIALS) + 1):
                for at in range(len(initials) - length + 1):
                    for key in relatives("".join(initials[at : at + length])):
                        kin[key].append(start[at])
        self.places, self.kin = dict(places), dict(kin)

    def positions(self, word: Word) -> list[int]:
        """Where `word`, or what is taken for it, stands: indices into `listed`; none where it is absent."""
        folded = word.folded
        if word.acronym and folded in self.small and folded not in self.acronyms:
            return self._kin(folded)  # `us` is not the US
        found = self.places.get(folded) or self._kin(folded) or self._plural(folded)
        if not found and word.acronym and len(folded) >= LOWER_INITIALS:
            at = self.initials.find(folded)
            found = [at] if at >= 0 else []
        if not found and word.text.isupper() and (numeral := roman(folded)) is not None:
            return self._at(self.values.get(Fraction(numeral)))
        if not found and (stem := _ACRONYM_STEM.match(word.text)) is not None:
            return self.places.get(stem[0].lower(), [])
        return found

    def _at(self, span: Span | None) -> list[int]:
        """The word with which `span` begins."""
        return [] if span is None else [bisect_right(self.listed, span.start, key=lambda word: word.start) - 1]

    def _kin(self, folded: str) -> list[int]:
        return next((self.kin[key] for key in sorted(relatives(folded)) if key in self.kin), [])

    def _plural(self, folded: str) -> list[int]:
        return self.places.get(f"{folded}s") or self.places.get(folded.removesuffix("s")) or []

    def span(self, first: int, last: int) -> Span:
        """Of the words with these indices."""
        return Span(start=self.listed[first].start, end=self.listed[last].end)

    def together(self, needed: list[list[int]]) -> Span | None:
        """Where one position of each list lies close to one of every other; None where none do."""
        reach = len(needed) + SPREAD
        rarest = min(needed, key=len)
        sets = [set(positions) for positions in needed]
        for anchor in rarest[:MOST_ANCHORS]:
            around = sorted(range(max(0, anchor - reach), anchor + reach + 1), key=lambda at: abs(at - anchor))
            met = [next((at for at in around if at in each), -1) for each in sets]
            if min(met) >= 0:
                return self.span(min(met), max(met))
        return None


def initial(word: Word) -> str:
    """What stands for `word` in an acronym: numerals stay whole, as in *WWII*."""
    return word.folded if word.folded.isdigit() or roman(word.folded) is not None else word.folded[:1]


def _capital_runs(listed: list[Word]) -> Iterator[tuple[list[int], list[str]]]:
    """Runs of two capitalised words or more, small particles left out: their indices and initials."""
    indices: list[int] = []
    gap = 0
    for index, word in enumerate([*listed, None]):
        if word is not None and word.capital:
            indices.append(index)
            gap = 0
            continue
        gap += 1
        if word is None or gap > 2 or word.folded not in _INSIDE:
            if len(indices) > 1:
                yield indices, [initial(listed[each]) for each in indices]
            indices, gap = [], 0
