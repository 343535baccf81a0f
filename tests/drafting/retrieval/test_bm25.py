"""The word index holds the formula's weights, in bm25s's own format, and finds the same as a direct computation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.drafting.retrieval import word_index
from draftproof.drafting.retrieval.bm25 import BM25Retriever
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.retriever import Hit, Retriever, best
from draftproof.drafting.retrieval.words import words
from draftproof.errors import InputError, UsageError

QUERIES = ("otter in the river", "bread and bread and water", "1984", "fish heron fish", "patient bakers sell numbers")


def direct(corpus: Corpus, query: str) -> dict[str, float]:
    """BM25 by its formula, chunk by chunk."""
    texts = {corpus.id_of(row): Counter(words(corpus.searched_text(row))) for row in range(len(corpus))}
    mean = sum(count.total() for count in texts.values()) / len(texts)
    scores: dict[str, float] = {}
    for word in words(query):
        df = sum(word in count for count in texts.values())
        idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
        for id, count in texts.items():
            if count[word]:
                tf = count[word] / (count[word] + 1.5 * (1 - 0.75 + 0.75 * count.total() / mean))
                scores[id] = scores.get(id, 0.0) + idf * tf
    return scores


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_those_of_the_formula(small: Corpus, query: str) -> None:
    (hits,) = BM25Retriever(small).search([query])
    wanted = direct(small, query)
    assert {hit.chunk_id: hit.score for hit in hits} == pytest.approx(wanted, rel=1e-5)
    assert [hit.chunk_id for hit in hits] == sorted(wanted, key=lambda id: -wanted[id])
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_a_formula_with_another_constant_would_be_seen(small: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    (hits,) = BM25Retriever(small).search(["otter in the river"])
    monkeypatch.setattr(math, "log", lambda value: np.log(value * 1.01))
    assert {hit.chunk_id: hit.score for hit in hits} != pytest.approx(direct(small, "otter in the river"), rel=1e-5)


def test_the_index_is_the_one_that_bm25s_makes_itself(
    make_corpus: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    import bm25s  # type: ignore[import-untyped]

    monkeypatch.setattr(word_index, "_BLOCK", 7)  # several blocks, the last one not full
    drawn = np.random.default_rng(3)
    letters = list("abcdefghij")
    corpus = make_corpus(*(" ".join(drawn.choice(letters, size=drawn.integers(1, 30))) for _ in range(60)))
    texts = [words(corpus.searched_text(row)) for row in range(len(corpus))]
    theirs = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    theirs.index(texts, show_progress=False)
    ours = bm25s.BM25.load(corpus.folder / "bm25", mmap=True)
    for query in (["b"], ["b", "c", "c"], sorted({word for text in texts for word in text})):
        expected = theirs.get_scores(query)
        assert ours.get_scores(query) == pytest.approx(expected, rel=1e-5)
        assert expected.max() > 0


def test_batches_find_what_single_queries_find(small: Corpus) -> None:
    retriever = BM25Retriever(small)
    assert isinstance(retriever, Retriever)
    assert retriever.search(QUERIES, 3) == [retriever.search([query], 3)[0] for query in QUERIES]
    assert retriever.search([]) == []


def test_equal_scores_are_ordered_by_chunk_id_and_the_cut_respects_it(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus(*(f"otter w{n}" for n in range(50)))
    (all_hits,) = BM25Retriever(corpus).search(["otter"], 50)
    ids = [hit.chunk_id for hit in all_hits]
    assert len({hit.score for hit in all_hits}) == 1
    assert ids == sorted(ids)
    assert [hit.chunk_id for hit in BM25Retriever(corpus).search(["otter"], 7)[0]] == ids[:7]


def test_a_query_without_a_known_word_finds_nothing(small: Corpus) -> None:
    retriever = BM25Retriever(small)
    assert retriever.search(["zyzzyva", "the and of", "?!", "otter"]) == [[], [], [], retriever.search(["otter"])[0]]


@pytest.mark.parametrize(
    ("queries", "n", "said"),
    [
        pytest.param([""], 5, "The query is empty", id="empty"),
        pytest.param(["fish", " \n"], 5, "Query 2 of 2 is empty", id="blank-in-a-batch"),
        pytest.param(["fish"], 0, "From 1 to", id="no-hits-wanted"),
    ],
)
def test_what_cannot_be_asked_is_refused(small: Corpus, queries: list[str], n: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BM25Retriever(small).search(queries, n)


def test_a_hit_says_where_it_stands(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus("Some otter.", "Some otter.")
    (hit,) = BM25Retriever(corpus).search(["otter"])[0]
    assert isinstance(hit, Hit)
    assert {(hit.document_id, hit.title), *((place.document_id, place.title) for place in hit.also)} == {
        ("0", "T0"),
        ("1", "T1"),
    }
    assert (hit.text, hit.start, hit.end) == ("Some otter.", 0, 11)


def test_titles_are_searched_too(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus("It sleeps.", "It eats.")
    assert [hit.document_id for hit in BM25Retriever(corpus).search(["T1"])[0]] == ["1"]


def test_an_index_by_another_rule_for_words_is_refused(small: Corpus) -> None:
    other = Corpus(small.folder, small.manifest.model_copy(update={"word_rule": "words@0"}))
    with pytest.raises(InputError, match="words@0"):
        BM25Retriever(other)


def test_the_identity_is_that_of_the_corpus(make_corpus: Callable[..., Corpus]) -> None:
    one, same, other = make_corpus("An otter."), make_corpus("An otter."), make_corpus("An otter!")
    assert BM25Retriever(one).identity == BM25Retriever(same).identity != BM25Retriever(other).identity


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 45))
def test_the_best_are_those_of_a_full_sort(values: list[int], n: int) -> None:
    wanted = sorted(range(len(values)), key=lambda index: (-values[index], index))[:n]
    assert best(np.array(values, dtype=np.float32), n).tolist() == wanted


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("The Otter's FISH", ["otter", "s", "fish"], id="case-and-stop-words"),
        pytest.param("Größe ﬁsh ５", ["größe", "fish", "5"], id="unicode-forms"),
        pytest.param("ＴＨＥ and", [], id="stop-words-in-other-forms"),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found
