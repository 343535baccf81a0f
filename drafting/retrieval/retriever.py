"""The question that every way of searching answers: which chunks of a corpus are best for a query?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from draftproof.drafting.retrieval.corpus import Corpus, Place
from draftproof.errors import UsageError

MOST_HITS = 10_000


class Hit(BaseModel):
    """One chunk that was found, with what is needed to show and to cite it."""

    model_config = ConfigDict(frozen=True)

    rank: int
    """From 1."""
    score: float
    """On the retriever's own scale: BM25's weights, a cosine, a sum of reciprocal ranks. Higher is better."""
    chunk_id: str
    """`sha256:<64 hex>` of the text."""
    text: str
    document_id: str
    title: str
    start: int
    """In characters, in the document: `document[start:end] == text`."""
    end: int
    also: tuple[Place, ...] = ()
    """Other places of the same text."""


@runtime_checkable
class Retriever(Protocol):
    """Searches one corpus. Equal scores are told apart by the chunk's id, so the same batch finds the same always."""

    @property
    def name(self) -> str:
        """bm25, dense or hybrid."""
        ...

    @property
    def identity(self) -> str:
        """`name@version#digest` of what its answers depend on: the corpus, the encoder, the formula's constants."""
        ...

    @property
    def corpus(self) -> Corpus: ...

    def search(self, queries: Sequence[str], n: int = 10) -> list[list[Hit]]:
        """At most `n` hits for each query, the best first; fewer, or none, where no more fit at all.

        Raises UsageError for a query that is empty and for an `n` below 1.
        """
        ...

    def rows(self, queries: Sequence[str], n: int) -> list[Ranked]:
        """The same as rows of the corpus."""
        ...


Ranked = list[tuple[int, float]]
"""Rows of the corpus with their scores, the best first."""


def as_hits(corpus: Corpus, ranked: Ranked) -> list[Hit]:
    hits = []
    for rank, (row, score) in enumerate(ranked, start=1):
        chunk = corpus.chunk(row)
        first = chunk.places[0]
        hits.append(
            Hit(
                rank=rank, score=score, chunk_id=chunk.id, text=chunk.text, document_id=first.document_id,
                title=first.title, start=first.start, end=first.end, also=chunk.places[1:],
            )
        )  # fmt: skip
    return hits


def require_queries(queries: Sequence[str], n: int) -> None:
    """Raises UsageError for what cannot be answered."""
    if not 1 <= n <= MOST_HITS:
        raise UsageError(f"From 1 to {MOST_HITS:,} hits can be asked for, not {n:,}.")
    for number, query in enumerate(queries, start=1):
        if not query.strip():
            which = f"Query {number} of {len(queries)}" if len(queries) > 1 else "The query"
            raise UsageError(f"{which} is empty.", remedy="Ask for something.")


def best(scores: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Indices of the `n` largest of `scores` [N], the largest first; of equal ones the lower index first."""
    if n < len(scores):
        cut = np.partition(scores, len(scores) - n)[len(scores) - n]
        above = np.flatnonzero(scores > cut)
        chosen = np.concatenate([above, np.flatnonzero(scores == cut)[: n - len(above)]])
    else:
        chosen = np.arange(len(scores))
    return chosen[np.lexsort((chosen, -scores[chosen]))]
