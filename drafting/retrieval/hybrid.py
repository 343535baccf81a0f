"""Search by words and by meaning together: reciprocal rank fusion.

Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods":

    score(chunk) = Σ over retrievers of 1 / (k + rank of the chunk), ranks from 1, k = 60

A retriever that did not rank a chunk among its first `depth` adds nothing. Only ranks count, so scores of different
scales need no weighing.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.canonical import digest, short
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.retriever import MOST_HITS, Hit, Ranked, Retriever, as_hits, require_queries
from draftproof.errors import UsageError

RRF_K = 60
DEPTH = 100


class HybridRetriever:
    """Fuses retrievers of one corpus, each asked for at least the first 100."""

    name = "hybrid"

    def __init__(self, *retrievers: Retriever) -> None:
        if len(retrievers) < 2:
            raise UsageError("A fusion takes two retrievers or more.")
        digests = {retriever.corpus.manifest.digest for retriever in retrievers}
        if len(digests) > 1:
            raise UsageError("A fusion takes retrievers of the same corpus.")
        self.corpus: Corpus = retrievers[0].corpus
        self._retrievers = retrievers
        depends = {"k": RRF_K, "depth": DEPTH, "of": [retriever.identity for retriever in retrievers]}
        self.identity = f"hybrid@1#{short(digest(depends))}"

    def search(self, queries: Sequence[str], n: int = 10) -> list[list[Hit]]:
        return [as_hits(self.corpus, ranked) for ranked in self.rows(queries, n)]

    def rows(self, queries: Sequence[str], n: int) -> list[Ranked]:
        require_queries(queries, n)
        each = [retriever.rows(queries, min(MOST_HITS, max(n, DEPTH))) for retriever in self._retrievers]
        return [fused(rankings)[:n] for rankings in zip(*each, strict=True)]


def fused(rankings: Sequence[Ranked]) -> Ranked:
    """All rows that occur in any of `rankings` with their sums, the highest first, of equal ones the lower row."""
    sums: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, start=1):
            sums[row] = sums.get(row, 0.0) + 1.0 / (RRF_K + rank)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
