"""Search by meaning: the chunks whose vectors have the largest inner product with the query's.

Exact: every vector is looked at, in blocks of the memory-mapped file, for all queries of a batch at once. What is best
is computed again in double precision, row by row, so that texts with equal vectors have equal scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from draftproof.canonical import digest, short
from draftproof.drafting.retrieval.corpus import Corpus, mapped
from draftproof.drafting.retrieval.dense_index import VECTORS, dense_manifest, same_encoder
from draftproof.drafting.retrieval.encoder import Encoder, SentenceEncoder
from draftproof.drafting.retrieval.manifest import check_files
from draftproof.drafting.retrieval.retriever import Hit, Ranked, as_hits, best, require_queries
from draftproof.errors import InputError, UsageError

_BLOCK = 1 << 14
_SPARE = 32
"""How many more than asked for are computed again: rounding may have put them in another order."""


class DenseRetriever:
    """Raises UsageError for a corpus without vectors, InputError for vectors that were changed or are of another
    corpus or encoder. Without an encoder, the one that the vectors were made with is loaded by its name."""

    name = "dense"

    def __init__(self, corpus: Corpus, encoder: Encoder | None = None) -> None:
        self.corpus = corpus
        manifest = dense_manifest(corpus)
        if manifest is None:
            raise UsageError(
                f"The corpus {corpus.folder} has no vectors.",
                remedy="Build it with --dense: the same command adds them.",
            )
        if manifest.corpus != corpus.manifest.digest or manifest.rows != len(corpus):
            raise InputError(
                f"The vectors in {corpus.folder} are those of another corpus.",
                remedy="Delete the folder dense in it and build with --dense.",
            )
        self._encoder = encoder or SentenceEncoder(manifest.encoder)
        if not same_encoder(self._encoder.identity, manifest.encoder_identity):
            raise InputError(
                f"The vectors in {corpus.folder} were made by {manifest.encoder_identity}, and the encoder is "
                f"{self._encoder.identity}.",
                remedy="Search with the same model, or delete the folder dense and build with --dense.",
            )
        check_files(corpus.folder, manifest.files)
        self._vectors = mapped(corpus.folder, VECTORS, (manifest.rows, manifest.width), "float16")
        depends = {"corpus": corpus.manifest.digest, "encoder": manifest.encoder_identity.rpartition("#")[2]}
        self.identity = f"dense@1#{short(digest(depends))}"

    def search(self, queries: Sequence[str], n: int = 10) -> list[list[Hit]]:
        return [as_hits(self.corpus, ranked) for ranked in self.rows(queries, n)]

    def rows(self, queries: Sequence[str], n: int) -> list[Ranked]:
        require_queries(queries, n)
        if not queries:
            return []
        asked = self._encoder.encode(queries, "query")
        return [
            self._ranked(query, rows, n) for query, rows in zip(asked, self._nearest(asked, n + _SPARE), strict=True)
        ]

    def vectors(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """The stored vectors of some chunks [len(rows), width]."""
        found: NDArray[np.float32] = self._vectors[list(rows)].astype(np.float32)
        return found

    def _nearest(self, asked: NDArray[np.float32], n: int) -> list[NDArray[np.int64]]:
        """Rows of the `n` nearest of each query, of single precision, kept from block to block."""
        rows = [np.zeros(0, dtype=np.int64) for _ in asked]
        scores = [np.zeros(0, dtype=np.float32) for _ in asked]
        for begin in range(0, len(self._vectors), _BLOCK):
            found = asked @ self._vectors[begin : begin + _BLOCK].astype(np.float32).T
            for query in range(len(asked)):
                block = best(found[query], n)
                merged = np.concatenate([scores[query], found[query][block]])
                numbers = np.concatenate([rows[query], block + begin])
                kept = best(merged, n)
                rows[query], scores[query] = numbers[kept], merged[kept]
        return rows

    def _ranked(self, query: NDArray[np.float32], rows: NDArray[np.int64], n: int) -> Ranked:
        rows = np.sort(rows)
        scores = (self._vectors[rows].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        return [(int(rows[place]), float(scores[place])) for place in best(scores, n)]
