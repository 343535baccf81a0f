"""Look for every number and name of a sentence in the documents: what is in none of them is not supported.

A number is there when the same value stands in any document, in whatever spelling; a name when all its words do, near
each other. Nothing is computed: a sum of two numbers of a document does not stand in it, for among the sums and
differences of its numbers nearly any number could be found. Nothing is rounded either.

Where a name's words all stand somewhere, but apart, or only as initials, nothing is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from draftproof.trace import Span
from draftproof.verdict import GroundingEvidence
from draftproof.verifiers.grounding.chunk import Chunk, initial
from draftproof.verifiers.grounding.names import Name, names
from draftproof.verifiers.grounding.numbers import Number, Value, stated_numbers
from draftproof.verifiers.grounding.words import Word

FOUND, GIVEN, ABSENT, SCATTERED = "found", "given_by_question", "absent", "scattered"


@dataclass(frozen=True)
class Sources:
    """What a text may rest on: the documents, and the question, whose numbers and names are given."""

    chunks: Mapping[str, Chunk]
    question: Chunk

    @cached_property
    def small(self) -> frozenset[str]:
        """Words written small in any of them."""
        return frozenset().union(self.question.small, *(chunk.small for chunk in self.chunks.values()))

    def findings(self, text: str, span: Span) -> list[GroundingEvidence]:
        """What the numbers and names of the sentence at `span` of `text` come to, in order."""
        sentence = _without_marks(text[span.start : span.end], self.chunks)
        found = [self._number(sentence, span.start, number) for number in stated_numbers(sentence)]
        found += [self._name(sentence, span.start, name) for name in names(sentence, self.small)]
        return sorted(found, key=lambda each: each.span.start)

    def _number(self, sentence: str, offset: int, number: Number) -> GroundingEvidence:
        shown = _Shown(sentence, offset, number.start, number.end, "number")
        for reading in number.readings:
            places = [self._place(value) for value in reading]
            if reading and all(places):
                name, span = places[0] or ("", None)
                return shown.evidence(True, FOUND, name, span)
        for reading in number.readings:
            if reading and all(value in self.question.values or self._place(value) for value in reading):
                return shown.evidence(None, GIVEN)
        return shown.evidence(False, ABSENT)

    def _place(self, value: Value) -> tuple[str, Span] | None:
        for name, chunk in self.chunks.items():
            if value in chunk.values:
                return name, chunk.values[value]
        return None

    def _name(self, sentence: str, offset: int, name: Name) -> GroundingEvidence:
        shown = _Shown(sentence, offset, name.start, name.end, "name")
        needed = name.words
        for document, chunk in self.chunks.items():
            if (span := _standing(chunk, needed)) is not None:
                return shown.evidence(True, FOUND, document, span)
        asked = [word for word in needed if not self.question.positions(word)]
        if not asked:
            return shown.evidence(None, GIVEN)
        if all(any(chunk.positions(word) for chunk in self.chunks.values()) for word in asked):
            return shown.evidence(None, SCATTERED)
        return shown.evidence(False, ABSENT)


def _standing(chunk: Chunk, needed: Sequence[Word]) -> Span | None:
    """Where the words stand together in one document."""
    positions = [chunk.positions(word) for word in needed]
    if all(positions):
        return chunk.together(positions)
    if len(needed) < 2:
        return None
    initials = "".join(map(initial, needed))
    compound = "".join(word.folded for word in needed)
    for spelled, among in ((initials, chunk.acronyms), (compound, chunk.places)):
        if spelled in among:
            at = chunk.places[spelled][0]
            return chunk.span(at, at)
    return None


@dataclass(frozen=True)
class _Shown:
    """A part of a sentence, as evidence shows it."""

    sentence: str
    offset: int
    start: int
    end: int
    about: Literal["number", "name"]

    def evidence(
        self, holds: bool | None, reason: str, document: str | None = None, found: Span | None = None
    ) -> GroundingEvidence:
        return GroundingEvidence(
            span=Span(start=self.offset + self.start, end=self.offset + self.end),
            text=self.sentence[self.start : self.end],
            about=self.about,
            holds=holds,
            document=document,
            found=found,
            reason=reason,
        )


_BRACKETS = re.compile(r"\[([^\[\]]{1,200})\]|\(([^()]{1,200})\)")
_LIST_MARK = re.compile(r"\s*(?:(?:(?:step|point|fact|reason)\s)?\(?#?\d{1,3}[.):](?=\s)|[-*•]\s)", re.IGNORECASE)
_CITED = re.compile(r"\b(?:document|doc|passage|chunk|source|context|excerpt)s?[\s#]{1,2}(\d{1,3})\b", re.IGNORECASE)


def _without_marks(sentence: str, documents: Mapping[str, Chunk]) -> str:
    """`sentence` with blanks for what is no part of what it says: marks of list items and of citations."""

    def brackets(match: re.Match[str]) -> str:
        inside = match[1] or match[2] or ""
        cited = [part for part in re.split(r"[,;\s]+", inside) if part]
        is_mark = bool(cited) and all(part in documents or (match[1] and part.isdecimal()) for part in cited)
        return " " * len(match[0]) if is_mark or inside in documents else match[0]

    def numbered(match: re.Match[str]) -> str:
        return " " * len(match[0]) if int(match[1]) <= len(documents) else match[0]

    sentence = _CITED.sub(numbered, _BRACKETS.sub(brackets, sentence))
    mark = _LIST_MARK.match(sentence)
    return sentence if mark is None else " " * mark.end() + sentence[mark.end() :]
