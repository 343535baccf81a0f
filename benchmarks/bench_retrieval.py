"""Recall of word, meaning and fused search on nq_oracle, and a word index of a million chunks beside bm25s's own.

    python benchmarks/bench_retrieval.py [--chunks 1000000] [--peer-chunks 100000] > benchmarks/results/retrieval.jsonl

Recall@10: the share of questions with a chunk of their own passage among the first ten, all passages being searched;
intervals by resampling questions. all-minilm-l6-v2 was trained on questions of Natural Questions, which nq_oracle is
from, so its share, and that of the fusion, is more than it would be elsewhere.

The large index is of made-up documents: runs of 60 to 110 words of Shakespeare (public domain), a third of them
replaced by words of a vocabulary of 300,000 that is drawn from by Zipf's law. Each build runs in a process of its own,
which is watched: the peak of what it holds in memory of its own, and of that and the mapped files together. bm25s's
`index`, which holds all tokens, is measured on the smaller number, and so are we.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from bench_decode import machine
from decode_prompts import DATA

from draftproof.drafting.retrieval.build import build_corpus
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.dense_index import embed_corpus
from draftproof.drafting.retrieval.encoder import DEFAULT_ENCODER, SentenceEncoder
from draftproof.drafting.retrieval.open import open_retriever
from draftproof.drafting.retrieval.retriever import Retriever
from draftproof.metrics.bootstrap import bootstrap

Line = dict[str, Any]
NAMES = ("bm25", "dense", "hybrid")
FIRST = 10
VOCABULARY = 300_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=1_000_000, help="of the large index; 0 leaves it out")
    parser.add_argument("--peer-chunks", type=int, default=100_000, help="that bm25s indexes as well; 0 leaves it out")
    parser.add_argument("--queries", type=int, default=500, help="that the large index is asked")
    parser.add_argument("--questions", type=int, help="of nq_oracle, at most; 0 leaves recall out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scratch", type=Path, help="folder for some gigabytes that are deleted afterwards")
    parser.set_defaults(target=DEFAULT_ENCODER)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "retrieval", "not_run": "no data sets; DRAFTPROOF_DATA names their folder"}))
        return
    torch.set_num_threads(arguments.threads)
    origin = machine(arguments) | {"benchmark": "retrieval"}

    def tell(lines: Iterator[Line]) -> None:
        for line in lines:
            print(json.dumps(origin | line), flush=True)
            print(json.dumps(line), file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(dir=arguments.scratch) as place:
        scratch = Path(place)
        if arguments.questions != 0:
            tell(recall(scratch, arguments.questions))
        if arguments.peer_chunks:
            tell(scale(scratch, arguments.peer_chunks, arguments.queries, peer=True))
        if arguments.chunks:
            tell(scale(scratch, arguments.chunks, arguments.queries, peer=False))


def recall(scratch: Path, most: int | None) -> Iterator[Line]:
    with gzip.open(DATA / "nq_oracle" / "nq_open_oracle.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    passages = [(row["ctxs"][0]["title"], row["ctxs"][0]["text"]) for row in rows]
    ids = [hashlib.sha256("\n".join(each).encode()).hexdigest()[:16] for each in passages]
    source = scratch / "nq.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for id, (title, text) in zip(ids, passages, strict=True):
            file.write(json.dumps({"id": id, "title": title, "text": text}) + "\n")
    corpus = build_corpus([source], scratch / "nq")
    started = time.perf_counter()
    embed_corpus(corpus, SentenceEncoder())
    embedding = time.perf_counter() - started
    questions, gold = [row["question"] for row in rows][:most], ids[:most]
    answers = [[answer.lower() for answer in row["answers"]] for row in rows][:most]
    for name in NAMES:
        retriever = open_retriever(corpus, name)
        hits = retriever.search(questions, FIRST)
        own = [any(hit.document_id == id for hit in each) for each, id in zip(hits, gold, strict=True)]
        first = [bool(each) and each[0].document_id == id for each, id in zip(hits, gold, strict=True)]
        held = [
            any(answer in hit.text.lower() for hit in each for answer in wanted)
            for each, wanted in zip(hits, answers, strict=True)
        ]
        yield {
            "measurement": "recall",
            "retriever": name,
            "identity": retriever.identity,
            "questions": len(questions),
            "passages": corpus.manifest.counts.documents,
            "chunks": len(corpus),
            "recall_at_10": share(own),
            "recall_at_1": share(first),
            "answer_in_first_10": share(held),
            "milliseconds": milliseconds(retriever, questions[:100]),
            **({"embedding_seconds": embedding} if name == "dense" else {}),
        }


def share(found: Sequence[bool]) -> Line:
    interval = bootstrap(lambda each: float(np.mean(each)), list(range(len(found))), np.array(found, dtype=float))
    return {"value": interval.value, "interval": [interval.low, interval.high]}


def milliseconds(retriever: Retriever, queries: Sequence[str]) -> Line:
    """Of single queries, one after the other, hits with their texts included."""
    times = []
    for query in queries:
        started = time.perf_counter()
        retriever.search([query], FIRST)
        times.append(1000 * (time.perf_counter() - started))
    parts = statistics.quantiles(times, n=20)
    return {"p50": statistics.median(times), "p95": parts[18], "first": times[0], "queries": len(times)}


def scale(scratch: Path, chunks: int, queries: int, *, peer: bool) -> Iterator[Line]:
    source, folder = scratch / f"{chunks}.jsonl", scratch / f"corpus-{chunks}"
    asked = write_documents(source, chunks, queries)
    line = watched(_build, source, folder)
    corpus = Corpus.open(folder)
    held = {
        "chunks": len(corpus),
        "words": corpus.manifest.counts.words,
        "vocabulary": corpus.manifest.counts.vocabulary,
    }
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    yield (
        {"measurement": "build", "who": "draftproof"}
        | held
        | {"input_bytes": source.stat().st_size}
        | {"stored_bytes": stored}
        | line
    )
    if peer:
        yield {"measurement": "build", "who": "bm25s index"} | held | watched(_build_peer, folder)
    started = time.perf_counter()
    retriever = open_retriever(folder)
    opening = time.perf_counter() - started
    yield (
        {"measurement": "query", "who": "draftproof", "retriever": "bm25", "chunks": len(corpus)}
        | {"opening_seconds": opening}
        | {"milliseconds": milliseconds(retriever, asked)}
    )


def write_documents(path: Path, count: int, queries: int, seed: int = 5) -> list[str]:
    """Made-up documents, one line and one chunk each; returns queries of 3 to 8 words out of some of them."""
    drawn = np.random.default_rng(seed)
    with gzip.open(DATA / "tinyshakespeare" / "chunks.jsonl.gz", "rt", encoding="utf-8") as file:
        text = np.array(" ".join(json.loads(line)["text"] for line in file).split())
    others = np.array([f"{drawn.integers(26**4, 26**7):x}" for _ in range(VOCABULARY)])
    asked = []
    every = max(1, count // queries)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            begin, length = drawn.integers(0, len(text) - 110), drawn.integers(60, 111)
            words = text[begin : begin + length].astype(object)
            replaced = np.flatnonzero(drawn.random(length) < 1 / 3)
            words[replaced] = others[np.minimum(drawn.zipf(1.3, len(replaced)), VOCABULARY) - 1]
            file.write(json.dumps({"id": f"d{number}", "text": " ".join(words)}) + "\n")
            if number % every == 0 and len(asked) < queries:
                asked.append(" ".join(drawn.choice(words, size=drawn.integers(3, 9))))
    return asked


def watched(work: Callable[..., Line], *arguments: Path) -> Line:
    """What `work` says, run in a new process, with its wall time and the peaks of its memory, in mebibytes."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_report_to, args=(sending, work, arguments))
    started = time.perf_counter()
    process.start()
    own = both = 0
    while process.is_alive() and not receiving.poll(0.05):
        status = memory(process.pid or 0)
        own, both = max(own, status.get("RssAnon", 0)), max(both, status.get("VmHWM", 0))
    told: Line = receiving.recv()
    seconds = time.perf_counter() - started
    process.join()
    return {"seconds": seconds, "peak_own_mib": own / 1024, "peak_with_mapped_files_mib": both / 1024} | told


def memory(process: int) -> dict[str, int]:
    """In KiB, as the kernel tells it."""
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.endswith(" kB")}


def _report_to(sending: Any, work: Callable[..., Line], arguments: tuple[Path, ...]) -> None:
    before = memory(os.getpid()).get("RssAnon", 0) / 1024
    sending.send({"own_before_mib": before} | work(*arguments))


def _build(source: Path, folder: Path) -> Line:
    begun: dict[str, float] = {}

    def note(stage: str, *_: object) -> None:
        begun.setdefault(stage, time.perf_counter())

    build_corpus([source], folder, report=note)
    ends = [*list(begun.values())[1:], time.perf_counter()]
    return {"stages": {name: end - start for (name, start), end in zip(begun.items(), ends, strict=True)}}


def _build_peer(folder: Path) -> Line:
    """bm25s's own `index` of the same words, given as one list, and its own way to save it."""
    import bm25s

    from draftproof.drafting.retrieval.words import words

    corpus = Corpus.open(folder)
    started = time.perf_counter()
    index = bm25s.BM25(method="lucene")
    index.index([words(corpus.searched_text(row)) for row in range(len(corpus))], show_progress=False)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        index.save(place, show_progress=False)
    return {"stages": {"indexing": time.perf_counter() - started}}


if __name__ == "__main__":
    main()
