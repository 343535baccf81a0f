"""One text in two tokenizations: exact bytes, where tokens end, and which ends both sides have in common.

A text is a stream of *atoms*: its bytes, and control tokens as numbers from 256 on, which no bytes can be mistaken
for. Token boundaries are offsets in the stream, so two tokenizations of the same text are aligned by comparing
offsets; nothing is searched for, and a character that is split between tokens does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from draftproof.drafting.vocabulary import Vocabulary

CONTROL = 256
"""Atom of control token c of the target: CONTROL + c."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of a piece of a stream."""

    ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Where each token ends, in atoms from the beginning of the piece."""


class Tokenization:
    """How one side writes a stream."""

    def __init__(self, vocabulary: Vocabulary, controls: Mapping[int, int]) -> None:
        """`controls`: atom of each control token that both sides know -> its id on this side."""
        self._vocabulary = vocabulary
        self._control_ids = dict(controls)
        self._control_atoms = {token: atom for atom, token in controls.items()}
        self._byte_ids: dict[int, int] = {}
        for token in range(vocabulary.size):
            data = vocabulary.token_bytes(token)
            if data is not None and len(data) == 1:
                self._byte_ids.setdefault(data[0], token)

    def atoms(self, token: int) -> tuple[int, ...] | None:
        """What a token adds to the stream; None for control tokens that the other side does not know."""
        atom = self._control_atoms.get(token)
        if atom is not None:
            return (atom,)
        data = self._vocabulary.token_bytes(token)
        return None if data is None else tuple(data)

    def is_control(self, token: int) -> bool:
        return token in self._control_atoms or self._vocabulary.token_bytes(token) is None

    def encode(self, stream: Sequence[int]) -> Tokens:
        """The tokens of a piece of a stream. Bytes that this side cannot write are left out, which the ends show."""
        ids: list[int] = []
        ends: list[int] = []
        at = 0
        while at < len(stream):
            if stream[at] >= CONTROL:
                if stream[at] in self._control_ids:
                    ids.append(self._control_ids[stream[at]])
                    ends.append(at + 1)
                at += 1
                continue
            stop = next((i for i in range(at, len(stream)) if stream[i] >= CONTROL), len(stream))
            for token, end in self._written(bytes(stream[at:stop])):
                ids.append(token)
                ends.append(at + end)
            at = stop
        return Tokens(ids, ends)

    def _written(self, data: bytes) -> Iterable[tuple[int, int]]:
        """(token, end) of bytes, which need not be UTF-8."""
        start = 0
        for text, is_text in _pieces(data):
            raw = text.encode("utf-8", "surrogateescape")
            if is_text:
                yield from ((token, start + end) for token, end in self._written_text(text, raw))
            else:
                yield from ((self._byte_ids[b], start + i + 1) for i, b in enumerate(raw) if b in self._byte_ids)
            start += len(raw)

    def _written_text(self, text: str, raw: bytes) -> Iterable[tuple[int, int]]:
        ids = self._vocabulary.encode(text)
        written = [self._vocabulary.token_bytes(token) or b"" for token in ids]
        if b"".join(written) == raw:
            end = 0
            for token, data in zip(ids, written, strict=True):
                end += len(data)
                yield token, end
        elif len(text) > 1:  # something in it cannot be written, and the rest should not suffer
            end = 0
            for character in text:
                size = len(character.encode())
                yield from ((token, end + e) for token, e in self._written_text(character, character.encode()))
                end += size


def _pieces(data: bytes) -> list[tuple[str, bool]]:
    """Runs of characters and runs of bytes that are none; the latter as lone surrogates (PEP 383)."""
    runs: list[tuple[str, bool]] = []
    for character in data.decode("utf-8", "surrogateescape"):
        is_text = not "\udc80" <= character <= "\udcff"
        if runs and runs[-1][1] == is_text:
            runs[-1] = (runs[-1][0] + character, is_text)
        else:
            runs.append((character, is_text))
    return runs


def complete(stream: Sequence[int]) -> int:
    """How much of a stream is left without a UTF-8 character that has begun at its end and still lacks bytes."""
    for back in range(1, min(3, len(stream)) + 1):
        atom = stream[-back]
        if atom >= 0xC0 and atom < CONTROL:
            expected = 2 if atom < 0xE0 else 3 if atom < 0xF0 else 4 if atom < 0xF8 else 1
            return len(stream) - back if back < expected else len(stream)
        if not 0x80 <= atom < 0xC0:
            break
    return len(stream)


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Atoms that two streams begin with alike."""
    shorter = min(len(left), len(right))
    if list(left[:shorter]) == list(right[:shorter]):
        return shorter
    return next(index for index in range(shorter) if left[index] != right[index])


BLANKS = frozenset(b" \t\n\r")


def word_begin(tokens: Sequence[tuple[int, ...]], most: int) -> int:
    """How many of the last tokens, at most `most`, make up the word that a stream ends in, blanks before it included.

    Tokenizers split before white space and merge within what is between; text before that place keeps its tokens
    whatever follows.
    """
    for back in range(1, min(most, len(tokens)) + 1):
        here = tokens[-back]
        before = tokens[-back - 1] if back < len(tokens) else ()
        begins = bool(here) and (here[0] in BLANKS or here[0] >= CONTROL)
        if begins and not (before and before[-1] in BLANKS and here[0] in BLANKS):
            return back
    return min(most, len(tokens))
