"""From a folder and a word to a retriever."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from draftproof.drafting.retrieval.bm25 import BM25Retriever
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.retriever import Retriever
from draftproof.errors import MissingExtraError, UnknownNameError

By = Literal["bm25", "dense", "hybrid"]


def open_retriever(corpus: Corpus | str | Path, by: str = "bm25") -> Retriever:
    """What searches the corpus: `bm25` by words, `dense` by meaning, `hybrid` by both.

    Raises InputError for a damaged corpus, UsageError for `dense` without vectors, MissingExtraError for packages.
    """
    if by not in get_args(By):
        raise UnknownNameError(f"A corpus is searched by {', '.join(get_args(By))}, not by {by!r}.")
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    if by == "bm25":
        return BM25Retriever(opened)
    try:
        from draftproof.drafting.retrieval.dense import DenseRetriever
        from draftproof.drafting.retrieval.hybrid import HybridRetriever
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("draftproof"):
            raise
        raise MissingExtraError(
            f"Searching by meaning needs the package {error.name}.", remedy="Install it: pip install 'draftproof[rag]'"
        ) from error
    dense = DenseRetriever(opened)
    return dense if by == "dense" else HybridRetriever(BM25Retriever(opened), dense)
