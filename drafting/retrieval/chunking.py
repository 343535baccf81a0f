"""Documents into chunks: runs of whole sentences up to so many words, each with its place in the document.

    sentences ─> units (a sentence, or a piece of one that is too long) ─> chunks of units, the last ones repeated

A chunk is the document's own text, verbatim: `document[start:end]`, offsets counted in characters. Nothing but white
space lies outside all chunks. A chunk ends where a paragraph ends when that leaves it at least half full, else where a
sentence ends; the next one opens with the last units of it, as many as fit into `overlap`. A document is read once, in
parts of any size, with as much memory as a part and a chunk take; where the parts end changes nothing.

Words are what white space separates; what is longer than ten characters a word on average (no spaces at all, as in
Chinese or in a line of digits) counts as one word for every ten characters, so that a chunk's length is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from draftproof.errors import UsageError

CHUNKING_RULE = "sentences@1"
"""Changes with every change by which any document would be cut differently."""
MOST_WORDS = 10_000
_CHARACTERS_A_WORD = 10
_AT_ONCE = 1 << 16
_WIDE = 200
"""White space of at least so many characters ends a chunk: it is never a part of one."""

_TERMINALS = ".!?…。！？"
_CLOSERS = "\"'”’»)]」』）"
# Begins with a character to look for, which is quick. What ends a paragraph may begin inside a run of white space, the
# others where it begins; each takes the rest of the run, so the time is linear.
_BOUNDARY = re.compile(
    rf"\s(?:(?<=[{re.escape(_TERMINALS + _CLOSERS)}]\s)\s*+|(?<=\n)[^\S\n]*+\n\s*+|(?<!\s\s)\s{{{_WIDE - 1}}}\s*+)"
)
_UNSPACED = "。！？"
_BOUNDARY_UNSPACED = re.compile(rf"{_BOUNDARY.pattern}|(?<=[{_UNSPACED}])(?![\s{re.escape(_UNSPACED + _CLOSERS)}])")
"""The same where sentences end without white space as well."""
_WORD = re.compile(r"\S+")
_ABBREVIATIONS = frozenset(
    {"Dr", "Mr", "Mrs", "Ms", "Prof", "St", "Sr", "Jr", "No", "Nr", "Fig", "Figs", "Eq", "Eqs", "Sec", "Vol", "pp",
     "vs", "cf", "al", "etc", "e.g", "i.e", "approx", "ca"}
)  # fmt: skip


@dataclass(frozen=True)
class Chunking:
    """How documents are cut."""

    words: int = 120
    """Of a chunk, at most."""
    overlap: int = 24
    """How many words of a chunk's end the next one may repeat, in whole units."""

    def __post_init__(self) -> None:
        if not 1 <= self.words <= MOST_WORDS:
            raise UsageError(f"A chunk may have from 1 to {MOST_WORDS:,} words, not {self.words:,}.")
        if not 0 <= self.overlap < self.words:
            raise UsageError(
                f"An overlap of {self.overlap} words does not fit into chunks of {self.words}.",
                remedy="Give one from 0 to less than a chunk's words.",
            )


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of a document."""

    start: int
    """Of its first character in the document, in characters."""
    end: int
    """Behind its last."""
    text: str


@dataclass(frozen=True, slots=True)
class _Unit:
    start: int
    text: str
    size: int
    gap: str = ""
    """The white space behind it, when the next unit may stand in the same chunk."""
    ends_paragraph: bool = False
    ends_chunk: bool = False


def chunks(parts: Iterable[str], chunking: Chunking) -> Iterator[Piece]:
    """The chunks of the document that `parts` add up to, in order; none for one of white space alone."""
    packer = _Packer(chunking)
    for unit in _units(parts, chunking):
        yield from packer.add(unit)
    yield from packer.rest()


def size(text: str) -> int:
    """How many words `text` counts as."""
    return max(len(text.split()), -(-len(text) // _CHARACTERS_A_WORD))


def _units(parts: Iterable[str], chunking: Chunking) -> Iterator[_Unit]:
    cutter = _Cutter(chunking)
    for part in parts:
        for start in range(0, len(part), _AT_ONCE):
            yield from cutter.feed(part[start : start + _AT_ONCE])
    yield from cutter.finish()


class _Cutter:
    """Finds the units. Holds the sentence that has not ended yet, or its last piece when it is too long."""

    def __init__(self, chunking: Chunking) -> None:
        self._most = chunking.words
        self._piece = chunking.overlap or chunking.words
        self._margin = _CHARACTERS_A_WORD * self._piece + _WIDE
        """A piece and the white space behind it are never longer."""
        self._buffer = ""
        self._start = 0
        """Of the buffer in the document."""
        self._too_long = False
        """Whether the buffer is the rest of a sentence of which pieces were cut off."""

    def feed(self, part: str) -> Iterator[_Unit]:
        self._buffer += part
        self._drop_space()
        done = 0
        unspaced = any(mark in self._buffer for mark in _UNSPACED)
        for boundary in (_BOUNDARY_UNSPACED if unspaced else _BOUNDARY).finditer(self._buffer):
            start, end = boundary.span()
            if end == len(self._buffer) and end - start < _WIDE:
                break  # what follows decides whether this is one
            if self._ends_sentence(done, start, end, boundary.group()):
                start = done + len(self._buffer[done:start].rstrip())
                yield from self._sentence(done, start, self._buffer[start:end])
                done = end
        self._forget(done)
        if len(self._buffer) > _CHARACTERS_A_WORD * self._most + 2 * self._margin:
            yield from self._pieces_so_far()

    def finish(self) -> Iterator[_Unit]:
        text = self._buffer.rstrip()
        if text:
            yield from self._sentence(0, len(text), "")
        self._forget(len(self._buffer))

    def _ends_sentence(self, begin: int, start: int, end: int, gap: str) -> bool:
        if not gap or gap.count("\n") > 1 or len(gap) >= _WIDE:
            return True
        before = self._buffer[max(begin, start - 24) : start].rstrip(_CLOSERS)
        if not before or before[-1] not in _TERMINALS or self._buffer[end].islower():
            return False
        if before[-1] != ".":
            return True
        word = (before[:-1].split() or [""])[-1].lstrip("(['\"")
        return word not in _ABBREVIATIONS and not (len(word) == 1 and word.isupper())

    def _sentence(self, start: int, end: int, gap: str) -> Iterator[_Unit]:
        done = start
        if self._too_long or size(self._buffer[start:end]) > self._most:
            while size(self._buffer[done : min(end, done + self._margin)]) > self._piece:
                unit = self._cut_off(done)
                yield unit
                done += len(unit.text) + len(unit.gap)
        self._too_long = False
        text, wide = self._buffer[done:end], len(gap) >= _WIDE
        yield _Unit(
            self._start + done, text, size(text), "" if wide else gap, wide or gap.count("\n") > 1, ends_chunk=wide
        )

    def _pieces_so_far(self) -> Iterator[_Unit]:
        """Pieces of a sentence that is too long already, as `_sentence` will cut it. So much of the buffer stays that
        what comes next can change none of them."""
        if not self._too_long and size(self._buffer[:-_WIDE].rstrip()) <= self._most:
            return
        self._too_long = True
        done = 0
        while len(self._buffer) - done > 2 * self._margin:
            unit = self._cut_off(done)
            yield unit
            done += len(unit.text) + len(unit.gap)
        self._forget(done)

    def _cut_off(self, at: int) -> _Unit:
        """The piece that begins at `at`, with the white space behind it."""
        window = self._buffer[at : at + self._margin]
        text = window[: _prefix(window, self._piece)]
        behind = window[len(text) :]
        return _Unit(self._start + at, text, size(text), behind[: len(behind) - len(behind.lstrip())])

    def _drop_space(self) -> None:
        self._forget(len(self._buffer) - len(self._buffer.lstrip()))

    def _forget(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._start += count


def _prefix(text: str, words: int) -> int:
    """Where the longest beginning of `text` that counts as at most `words` ends; inside a word that is too long."""
    most = words * _CHARACTERS_A_WORD
    end = 0
    for count, word in enumerate(_WORD.finditer(text, 0, most + 1), start=1):
        if count > words or word.end() > most:
            break
        end = word.end()
    return end or most


class _Packer:
    """Fills chunks with units."""

    def __init__(self, chunking: Chunking) -> None:
        self._chunking = chunking
        self._held: list[_Unit] = []
        self._given = 0
        """How many of the units held, from the first, were in a chunk already."""
        self._filled = 0
        """What the units held count as, with the white space behind each."""

    def add(self, unit: _Unit) -> Iterator[Piece]:
        while self._held and self._filled + unit.size > self._chunking.words:
            if len(self._held) == self._given:
                self._filled -= _filling(self._held.pop(0))
                self._given -= 1
            else:
                yield self._chunk(self._place_to_end())
        self._held.append(unit)
        self._filled += _filling(unit)
        if unit.ends_chunk:
            yield from self.rest()

    def rest(self) -> Iterator[Piece]:
        if len(self._held) > self._given:
            yield self._chunk(len(self._held))
        self._held, self._given, self._filled = [], 0, 0

    def _place_to_end(self) -> int:
        """The last end of a paragraph that leaves the chunk half full or more, and tells something new."""
        filled = 0
        best = len(self._held)
        for count, unit in enumerate(self._held, start=1):
            filled += unit.size
            if unit.ends_paragraph and count > self._given and 2 * filled >= self._chunking.words:
                best = count
        return best

    def _chunk(self, count: int) -> Piece:
        units = self._held[:count]
        text = "".join(unit.text + unit.gap for unit in units[:-1]) + units[-1].text
        repeated, filled = 0, 0
        for unit in reversed(units[1:]):
            if (filled := filled + unit.size) > self._chunking.overlap:
                break
            repeated += 1
        self._held = self._held[count - repeated :]
        self._given = repeated
        self._filled = sum(map(_filling, self._held))
        return Piece(units[0].start, units[0].start + len(text), text)


def _filling(unit: _Unit) -> int:
    return unit.size + len(unit.gap) // _CHARACTERS_A_WORD
