"""Search by words: BM25 over bm25s's index, memory-mapped.

Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", in Lucene's variant; the weights
are in the index (`word_index` has the formula), so a chunk's score is their sum over the query's words. A word that a
query has twice counts twice. A query of which the corpus knows no word finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftproof.canonical import digest, short
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.manifest import check_files
from draftproof.drafting.retrieval.retriever import Hit, Ranked, as_hits, best, require_queries
from draftproof.drafting.retrieval.word_index import K1, WORD_INDEX_FILES, B
from draftproof.drafting.retrieval.words import WORD_RULE, words
from draftproof.errors import InputError, MissingExtraError


class BM25Retriever:
    """Raises InputError for an index that was changed, or made by another rule for words."""

    name = "bm25"

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        manifest = corpus.manifest
        if manifest.word_rule != WORD_RULE or not set(WORD_INDEX_FILES) <= set(manifest.files):
            raise InputError(
                f"The word index of {corpus.folder} was made by {manifest.word_rule}, and words are told by "
                f"{WORD_RULE} here.",
                remedy="Build the corpus again.",
            )
        check_files(corpus.folder, {name: manifest.files[name] for name in WORD_INDEX_FILES})
        self._index = _load(corpus)
        self.identity = f"bm25@1#{short(digest({'corpus': manifest.digest, 'words': WORD_RULE, 'k1': K1, 'b': B}))}"

    def search(self, queries: Sequence[str], n: int = 10) -> list[list[Hit]]:
        return [as_hits(self.corpus, ranked) for ranked in self.rows(queries, n)]

    def rows(self, queries: Sequence[str], n: int) -> list[Ranked]:
        require_queries(queries, n)
        return [self._ranked(self._scores(query), n) for query in queries]

    def _scores(self, query: str) -> NDArray[np.float32] | None:
        known = self._index.get_tokens_ids(words(query))
        if not known:
            return None
        scores: NDArray[np.float32] = self._index.get_scores_from_ids(known)
        return scores

    def _ranked(self, scores: NDArray[np.float32] | None, n: int) -> Ranked:
        if scores is None:
            return []
        found = np.flatnonzero(scores)
        weights = scores[found]
        return [(int(found[place]), float(weights[place])) for place in best(weights, n)]


def _load(corpus: Corpus) -> Any:
    try:
        import bm25s  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Searching by words needs the package {error.name}.", remedy="Install it: pip install 'draftproof[rag]'"
        ) from error
    folder = corpus.folder / "bm25"
    try:
        index = bm25s.BM25.load(folder, mmap=True, load_corpus=False, allow_pickle=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"The word index in {folder} cannot be read: {error}.", remedy="Build it again.") from error
    if index.scores["num_docs"] != len(corpus):
        raise InputError(f"The word index in {folder} is of {index.scores['num_docs']} chunks, not {len(corpus)}.")
    return index
