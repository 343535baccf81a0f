"""A corpus and what was found in it, on a terminal and as JSON. Texts of documents are shown, never obeyed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from draftproof.cli.screen import one_line, visible

if TYPE_CHECKING:
    from draftproof.drafting.retrieval.corpus import Corpus
    from draftproof.drafting.retrieval.retriever import Hit, Retriever

_SHOWN = 10
"""Rejects and input files that are listed; JSON has all."""
_EXCERPT = 300


def print_built(corpus: Corpus, as_json: bool) -> None:
    """What a build gave, and what it rejected."""
    counts = corpus.manifest.counts
    if as_json:
        print(json.dumps(_facts(corpus) | {"rejects": str(_rejects_file(corpus)) if counts.rejected else None}))
        return
    print(f"{counts.documents:,} documents in {counts.chunks:,} chunks: {visible(str(corpus.folder))}")
    print(f"{_conservation(corpus)}")
    if counts.rejected:
        for reject in islice(_rejects(corpus), _SHOWN):
            place = f"{reject['file']}:{reject['line']}"
            print(visible(f"  {place}: {one_line(reject['message'], 200)} ({reject['code']})"))
        more = counts.rejected - _SHOWN
        print(visible(f"  {f'and {more:,} more; ' if more > 0 else ''}all are in {_rejects_file(corpus)}"))
    print(visible(f'Try: draftproof corpus search "…" --corpus {corpus.folder}'))


def print_hits(hits: Sequence[Hit], query: str, retriever: Retriever, as_json: bool) -> None:
    if as_json:
        told = {"query": query, "retriever": retriever.identity, "corpus": retriever.corpus.manifest.digest}
        print(json.dumps(told | {"hits": [hit.model_dump() for hit in hits]}))
        return
    if not hits:
        print("Nothing was found: the corpus has none of the query's words.")
    for hit in hits:
        place = f"{hit.document_id} [{hit.start}:{hit.end}]"
        others = f" and {len(hit.also)} more places" if hit.also else ""
        print(visible(f"{hit.rank:3}. {hit.score:.4f}  {one_line(hit.title, 80)}"))
        print(visible(f"     {one_line(place, 120)}{others}  {hit.chunk_id[:19]}"))
        print(visible(f"     {one_line(hit.text, _EXCERPT)}"))


def print_corpus(corpus: Corpus, as_json: bool) -> None:
    inputs = corpus.inputs()
    if as_json:
        print(json.dumps(_facts(corpus) | {"inputs": inputs}))
        return
    manifest, counts = corpus.manifest, corpus.manifest.counts
    lines = {
        "corpus": f"{corpus.folder}, {manifest.digest}",
        "documents": f"{counts.documents:,}, of {counts.characters:,} characters",
        "chunks": f"{counts.chunks:,} different ones at {counts.places:,} places",
        "cut by": f"{manifest.chunking}, up to {manifest.words} words, overlap up to {manifest.overlap}",
        "words": f"{counts.words:,}, {counts.vocabulary:,} different ones, by {manifest.word_rule}",
        "vectors": _vectors(corpus),
        "on the disk": f"{_bytes(corpus) / 2**20:,.1f} MiB",
        "accounts": _conservation(corpus),
    }
    for name, value in lines.items():
        print(visible(f"{name:>12}  {value}"))
    for each in inputs[:_SHOWN]:
        told = f"{each['documents']:,} documents, {each['repeated']:,} repeated, {each['rejected']:,} rejected"
        print(visible(f"{'built from':>12}  {each['file']}: {told}, {(each['sha256'] or 'unread')[:19]}"))
    if len(inputs) > _SHOWN:
        print(f"{'':12}  and {len(inputs) - _SHOWN:,} more files; --json lists all")


def _facts(corpus: Corpus) -> dict[str, Any]:
    from draftproof.drafting.retrieval.dense_index import dense_manifest

    manifest = corpus.manifest
    facts = manifest.model_dump(exclude={"files"})
    vectors = dense_manifest(corpus)
    return {
        "folder": str(corpus.folder),
        "identity": corpus.identity,
        **facts,
        "bytes": _bytes(corpus),
        "vectors": None if vectors is None else vectors.model_dump(exclude={"files"}),
    }


def _vectors(corpus: Corpus) -> str:
    from draftproof.drafting.retrieval.dense_index import dense_manifest

    vectors = dense_manifest(corpus)
    if vectors is None:
        return "none; build with --dense adds them"
    return f"{vectors.rows:,} of width {vectors.width}, by {vectors.encoder_identity}"


def _conservation(corpus: Corpus) -> str:
    counts = corpus.manifest.counts
    return (
        f"{counts.entries:,} entries = {counts.documents:,} documents + {counts.repeated:,} repeated + "
        f"{counts.rejected:,} rejected"
    )


def _bytes(corpus: Corpus) -> int:
    return sum(file.stat().st_size for file in corpus.folder.rglob("*") if file.is_file())


def _rejects_file(corpus: Corpus) -> Any:
    from draftproof.drafting.retrieval.corpus import REJECTS_FILE

    return corpus.folder / REJECTS_FILE


def _rejects(corpus: Corpus) -> Iterator[dict[str, Any]]:
    with _rejects_file(corpus).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
