"""Texts in two tokenizations: bytes are exact, boundaries agree, and no broken character gets through."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.drafters.text_align import CONTROL, Tokenization, common_length, complete, word_begin
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from tests.drafting.drafters.two_vocabularies import TEXT, draft_vocabulary, target_vocabulary


@pytest.fixture(scope="module")
def target() -> ByteVocabulary:
    return target_vocabulary()


@pytest.fixture(scope="module")
def side(target: ByteVocabulary) -> Tokenization:
    return Tokenization(target, {CONTROL + 1: 1})


def spelled(side: Tokenization, ids: list[int]) -> list[int]:
    return [atom for token in ids for atom in side.atoms(token) or ()]


@pytest.mark.parametrize("seed", range(10))
def test_every_stream_comes_back_and_ends_are_where_tokens_end(side: Tokenization, seed: int) -> None:
    """Pieces of text cut anywhere, stray bytes and control tokens."""
    chance = random.Random(seed)
    data = TEXT.encode()
    stream: list[int] = []
    for _ in range(8):
        begin = chance.randrange(len(data))
        stream += data[begin : begin + chance.randrange(30)]
        stream += chance.choice([[], [CONTROL + 1], [0xFF], [0x80, 0xBF]])
    written = side.encode(stream)
    assert spelled(side, written.ids) == stream
    assert written.ends == [len(spelled(side, written.ids[: n + 1])) for n in range(len(written.ids))]


def test_text_is_cut_as_the_tokenizer_cuts_it(side: Tokenization, target: ByteVocabulary) -> None:
    assert side.encode(list(TEXT.encode())).ids == target.encode(TEXT)


def test_unknown_control_tokens_are_neither_read_nor_written(side: Tokenization) -> None:
    assert side.atoms(1) == (CONTROL + 1,)
    assert side.atoms(0) is None, "no pair was given for it"
    assert side.is_control(0)
    assert not side.is_control(50)
    assert side.encode([CONTROL + 77, *b"a", CONTROL + 1]).ends == [2, 3], "the ends show what was left out"


def test_what_looks_like_a_control_token_is_text(side: Tokenization) -> None:
    written = side.encode(list(b"a <|end|> b"))
    assert 1 not in written.ids
    assert bytes(spelled(side, written.ids)) == b"a <|end|> b"


class Lossy:
    """A vocabulary of three letters, which drops everything else."""

    size = 3
    special_ids: frozenset[int] = frozenset()

    def token_bytes(self, token: int) -> bytes | None:
        return (b"ab", b"a", "ß".encode())[token] if 0 <= token < 3 else None

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            token = next((t for t in range(3) if text.encode().startswith(self.token_bytes(t) or b"-")), None)
            text = text[len((self.token_bytes(token) or b"-").decode()) :] if token is not None else text[1:]
            ids += [] if token is None else [token]
        return ids

    def decode(self, ids: list[int]) -> str:
        return ""


def test_characters_that_cannot_be_written_are_left_out_in_place() -> None:
    written = Tokenization(Lossy(), {}).encode(list("axßé".encode()))  # type: ignore[arg-type]
    assert (written.ids, written.ends) == ([1, 2], [1, 4])


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"abc", 3, id="ascii"),
        pytest.param("né".encode(), 3, id="complete"),
        pytest.param("né".encode()[:-1], 1, id="half-of-two"),
        pytest.param("a語".encode()[:-1], 1, id="two-thirds"),
        pytest.param("a🙂".encode()[:-2], 1, id="half-of-four"),
        pytest.param("a🙂".encode()[:-1], 1, id="three-of-four"),
        pytest.param("🙂".encode(), 4, id="four-of-four"),
        pytest.param(b"a\x80\x80", 3, id="stray-continuation"),
        pytest.param(b"a\xff", 2, id="never-a-character"),
    ],
)
def test_a_character_that_lacks_bytes_is_held_back(data: bytes, whole: int) -> None:
    assert complete(list(data)) == whole


def test_a_control_token_ends_whatever_had_begun() -> None:
    stream = [*"é".encode()[:1], CONTROL + 1]
    assert complete(stream) == 2


def test_common_beginnings() -> None:
    assert common_length([1, 2, 3], [1, 2, 4]) == 2
    assert common_length([1, 2], (1, 2, 4)) == 2
    assert common_length([], [1]) == 0


@pytest.mark.parametrize(
    ("words", "most", "back"),
    [
        pytest.param([b"The", b" tre", b"asu", b"rer"], 8, 3, id="word-of-three"),
        pytest.param([b"The", b" tre", b"asu", b"rer"], 2, 2, id="no-further-than-most"),
        pytest.param([b"x", b"\n", b"\n"], 8, 2, id="run-of-blanks"),
        pytest.param([b"no", b"blank"], 8, 2, id="first-word"),
        pytest.param([], 8, 0, id="nothing"),
    ],
)
def test_where_the_last_word_begins(words: list[bytes], most: int, back: int) -> None:
    assert word_begin([tuple(word) for word in words], most) == back


def test_the_two_vocabularies_really_cut_differently(target: ByteVocabulary) -> None:
    draft = draft_vocabulary()
    ends = [set(Tokenization(vocabulary, {}).encode(list(TEXT.encode())).ends) for vocabulary in (target, draft)]
    assert ends[0] - ends[1]
    assert ends[1] - ends[0]
