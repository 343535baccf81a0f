"""Chunks are the document's own text, lose nothing but white space, and do not depend on how it was read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.drafting.retrieval.chunking import Chunking, Piece, chunks
from draftproof.errors import UsageError

WORDS = st.sampled_from(
    ["a", "Tree", "fell", "Dr.", "J.", "end.", "Why?", "e.g.", '"So!"', "木。", "x" * 37, "3.14", "…"]
)
GAPS = st.sampled_from([" ", " ", " ", "\n", "\n\n", "\r\n\r\n", "\t", " \n \n ", " " * 199, "\n" * 200, "\u00a0"])
DOCUMENTS = st.lists(st.tuples(WORDS, GAPS), max_size=80).map(lambda pairs: "".join(w + g for w, g in pairs))
CHUNKINGS = st.tuples(st.integers(1, 30), st.integers(0, 29)).map(
    lambda both: Chunking(both[0], min(both[1], both[0] - 1))
)


def cut(text: str, chunking: Chunking) -> list[Piece]:
    return list(chunks([text], chunking))


def lost(text: str, pieces: list[Piece]) -> str:
    """What lies outside all chunks, less white space."""
    reached, outside = 0, ""
    for piece in pieces:
        outside += text[reached : max(reached, piece.start)]
        reached = max(reached, piece.end)
    return re.sub(r"\s+", "", outside + text[reached:])


@given(text=DOCUMENTS, chunking=CHUNKINGS)
def test_every_chunk_is_the_documents_own_text_and_none_is_lost(text: str, chunking: Chunking) -> None:
    pieces = cut(text, chunking)
    for piece in pieces:
        assert text[piece.start : piece.end] == piece.text
        assert piece.text == piece.text.strip() != ""
        assert len(piece.text.split()) <= chunking.words
        assert len(piece.text) <= 20 * chunking.words
    assert lost(text, pieces) == ""
    starts = [piece.start for piece in pieces]
    assert starts == sorted(set(starts))


@given(text=st.text(max_size=400), chunking=CHUNKINGS)
def test_any_text_at_all_is_kept(text: str, chunking: Chunking) -> None:
    pieces = cut(text, chunking)
    assert all(text[piece.start : piece.end] == piece.text for piece in pieces)
    assert lost(text, pieces) == ""


@settings(max_examples=300)
@given(text=DOCUMENTS, chunking=CHUNKINGS, sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_the_chunks_do_not_depend_on_the_parts_that_a_document_is_read_in(
    text: str, chunking: Chunking, sizes: list[int]
) -> None:
    parts, at, turn = [], 0, 0
    while at < len(text):
        parts.append(text[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    assert list(chunks(parts, chunking)) == cut(text, chunking)


def test_a_long_sentence_read_in_parts_is_cut_as_if_read_at_once() -> None:
    text = "word " * 3000 + "end. " + "x" * 9000 + " Done."
    whole = cut(text, Chunking(20, 5))
    assert list(chunks(list(text), Chunking(20, 5))) == whole
    assert lost(text, whole) == ""
    assert max(len(piece.text) for piece in whole) <= 400


def test_what_loses_text_would_be_seen() -> None:
    text = "One two. Three four. Five six."
    pieces = cut(text, Chunking(2, 0))
    assert [piece.text for piece in pieces] == ["One two.", "Three four.", "Five six."]
    assert lost(text, pieces[:1] + pieces[2:]) == "Threefour."


def test_sentences_stay_whole_and_the_next_chunk_repeats_the_last_ones() -> None:
    text = "First one here. Second one here. Third one here. Fourth one here."
    assert [piece.text for piece in cut(text, Chunking(6, 3))] == [
        "First one here. Second one here.",
        "Second one here. Third one here.",
        "Third one here. Fourth one here.",
    ]
    assert [piece.text for piece in cut(text, Chunking(6, 2))] == [
        "First one here. Second one here.",
        "Third one here. Fourth one here.",
    ]


def test_a_chunk_ends_with_a_paragraph_when_it_is_half_full() -> None:
    text = "One two three. Four five.\n\nSix seven eight. Nine ten eleven."
    assert [piece.text for piece in cut(text, Chunking(10, 0))] == [
        "One two three. Four five.",
        "Six seven eight. Nine ten eleven.",
    ]
    assert cut(text, Chunking(11, 0)) == [Piece(0, len(text), text)]


def test_initials_abbreviations_and_numbers_end_no_sentence() -> None:
    text = "Dr. J. Smith paid 3.5 million, e.g. in May. Then he left."
    assert [piece.text for piece in cut(text, Chunking(10, 0))] == [
        "Dr. J. Smith paid 3.5 million, e.g. in May.",
        "Then he left.",
    ]


def test_text_without_spaces_is_cut_by_characters() -> None:
    pieces = cut("水" * 1000, Chunking(12, 2))
    assert all(len(piece.text) <= 120 for piece in pieces)
    assert lost("水" * 1000, pieces) == ""
    assert pieces[1].start < pieces[0].end  # the overlap


def test_a_desert_of_white_space_is_in_no_chunk() -> None:
    text = "Before." + " " * 100_000 + "After."
    assert [piece.text for piece in cut(text, Chunking(50, 10))] == ["Before.", "After."]
    assert cut(" \n\t " * 1000, Chunking()) == []


@pytest.mark.parametrize(
    ("words", "overlap"),
    [
        pytest.param(0, 0, id="no-words"),
        pytest.param(10, 10, id="an-overlap-that-never-advances"),
        pytest.param(10, -1, id="negative"),
        pytest.param(10**6, 0, id="beyond-any-context"),
    ],
)
def test_an_impossible_chunking_is_refused(words: int, overlap: int) -> None:
    with pytest.raises(UsageError):
        Chunking(words, overlap)
