"""Find quotations in a text, and the place in a document that says the same, character by character.

*The same* allows for two things that copying changes: runs of white space count as one space, and typographic
quotation marks and apostrophes as straight ones. All else counts: case, spelling, accents, punctuation. An ellipsis
(`…`, `...`, in brackets or not) stands for anything, so that a quotation with one has parts, which must come in order.
A comma or full stop that ends a quotation may belong to the sentence around it, and need not be in the document.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from draftproof.trace import Span

MARKS = {
    "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』", "‘": "’", "‹": "›", "‟": "”",
}  # fmt: skip
"""Opening marks and what closes them. The apostrophe `'` opens nothing: it could not be told from one."""

_FOLDED = str.maketrans(dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛′ʼ`´", "'"))
_SPACE = re.compile(r"\s+")
_ELLIPSIS = re.compile(r"\[\s?(?:…|\.{3})\s?\]|\(\s?(?:…|\.{3})\s?\)|…|\.{3,}|\.(?:\s\.){2,}")


@dataclass(frozen=True, slots=True)
class Quotation:
    """What stands between a pair of marks, and where."""

    start: int
    end: int
    text: str
    closed: bool = True


def quotations(text: str) -> Iterator[Quotation]:
    """The quotations of `text`, outermost only, in order; linear in its length.

    A quotation ends at a blank line if not before: the first that is open there is told as not closed.
    """
    at = 0
    for paragraph in re.split(r"(\n[^\S\n]*\n\s*)", text):
        yield from _in_paragraph(paragraph, at)
        at += len(paragraph)


def _in_paragraph(text: str, offset: int) -> Iterator[Quotation]:
    at = 0
    closers: dict[str, list[int]] = {}
    is_open = False
    while (opened := _OPENING.search(text, at)) is not None:
        begin = opened.end()
        closing = '"' if opened[0] == '"' else MARKS[opened[0]]
        if closing not in closers:
            closers[closing] = [m.start() for m in re.finditer(f"[{closing}]", text) if _closes(text, m)]
        ends = closers[closing]
        index = bisect_right(ends, begin - 1)
        if index == len(ends):
            if opened[0] != "‘" and not is_open:  # which may be an apostrophe: ‘tis
                is_open = True
                yield Quotation(offset + begin, offset + len(text), text[begin:], closed=False)
            at = begin
            continue
        end = ends[index]
        if any(map(str.isalnum, text[begin:end])):
            yield Quotation(offset + begin, offset + end, text[begin:end])
        at = end + 1


_OPENING = re.compile(r'[“„«»「『‹‟]|(?<!\w)‘|"')


def _closes(text: str, mark: re.Match[str]) -> bool:
    """Whether it can close a quotation: the apostrophe of *Luther’s* cannot."""
    return mark[0] != "’" or not text[mark.end() : mark.end() + 1].isalnum()


@dataclass(frozen=True)
class FoldedText:
    """A document with white space and marks folded, and the way back."""

    text: str
    starts: tuple[int, ...]
    """Where each run of white space that was shortened begins, in `text`."""
    shifts: tuple[int, ...]
    """How many characters were left out up to and with that run."""

    @classmethod
    def of(cls, document: str) -> FoldedText:
        pieces: list[str] = []
        starts: list[int] = []
        shifts: list[int] = []
        length = at = left_out = 0
        for space in _SPACE.finditer(document):
            pieces += [document[at : space.start()], " "]
            length += space.start() - at + 1
            at = space.end()
            if len(space[0]) > 1:
                left_out += len(space[0]) - 1
                starts.append(length)
                shifts.append(left_out)
        pieces.append(document[at:])
        return cls("".join(pieces).translate(_FOLDED), tuple(starts), tuple(shifts))

    def original(self, start: int, end: int) -> Span:
        """The span of the document that `text[start:end]` was made from."""
        return Span(start=self._back(start), end=self._back(end - 1) + 1)

    def _back(self, at: int) -> int:
        index = bisect_right(self.starts, at) - 1
        return at + (self.shifts[index] if index >= 0 else 0)


def parts(quotation: str) -> list[str]:
    """What stands between the ellipses, folded; pieces without a letter or digit are left out."""
    folded = (_SPACE.sub(" ", piece).strip().translate(_FOLDED) for piece in _ELLIPSIS.split(quotation))
    return [piece for piece in folded if any(map(str.isalnum, piece))]


def find(wanted: list[str], document: FoldedText) -> list[Span] | None:
    """Where the parts stand in `document`, in order and apart; None where one of them does not.

    The first place of each is taken, which leaves most room for the next: if they stand there in order at all, they are
    found. Words are not cut: `art` does not stand in *part*.
    """
    found: list[Span] = []
    at = 0
    for number, part in enumerate(wanted):
        last = number == len(wanted) - 1
        options = [part, part[:-1]] if last and part[-1] in ".," and len(part) > 1 else [part]
        places = [(place, option) for option in options if (place := _find(document.text, option, at)) >= 0]
        if not places:
            return None
        place, option = places[0]
        found.append(document.original(place, place + len(option)))
        at = place + len(option)
    return found


MOST_CUT = 10_000
"""Places inside longer words that are passed over before a part counts as absent."""


def _find(text: str, part: str, at: int) -> int:
    for _ in range(MOST_CUT):
        place = text.find(part, at)
        if place < 0 or _is_whole(text, place, place + len(part)):
            return place
        at = place + 1
    return -1


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word is cut at either end."""
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    return not (before.isalnum() and text[start].isalnum()) and not (after.isalnum() and text[end - 1].isalnum())
