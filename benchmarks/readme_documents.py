"""Sections of benchmarks/README.md about documents: finding them, and holding answers to them."""

from __future__ import annotations

from collections.abc import Iterator

from readme_steps import within
from readme_table import Line, table

FORMS = {
    "all": "all",
    "sentence": "a sentence of the passage",
    "respelled": "the same, numbers and names spelled otherwise",
    "statement": "a short statement of the answer",
    "bare": "the bare answer",
    "supporting": "several supporting sentences",
    "conclusion": "a conclusion in its authors' words (PubMedQA)",
}


def retrieval(lines: list[Line]) -> Iterator[str]:
    yield "## Finding passages (`bench_retrieval.py`)\n"
    recalls = [line for line in lines if line["measurement"] == "recall"]
    if recalls:
        yield (
            f"{recalls[0]['questions']:,} questions of `nq_oracle` against all of their {recalls[0]['passages']:,} "
            "passages; brackets are 95 % intervals over questions. The sentence encoder was trained on Natural "
            "Questions, from which these come: expect less of `dense` and `hybrid` elsewhere.\n"
        )
        yield from table(
            ("by", "recall@10", "recall@1"),
            (
                (line["retriever"], *(_interval(line[name]) for name in ("recall_at_10", "recall_at_1")))
                for line in recalls
            ),
        )
        yield ""
    builds = [line for line in lines if line["measurement"] == "build"]
    queries = {(line["who"], line["chunks"]): line for line in lines if line["measurement"] == "query"}
    yield (
        "Word indexes of made-up text (runs of Shakespeare, a third of the words drawn by Zipf's law). Own memory "
        "leaves out files that are mapped, and holds "
        f"{builds[0]['own_before_mib']:.0f} MiB of imports. The peer indexes what was read and cut before.\n"
    )
    rows = []
    for line in builds:
        query = queries.get((line["who"], line["chunks"]))
        times = query["milliseconds"] if query else None
        rows.append(
            (
                line["who"],
                f"{line['chunks']:,}",
                f"{line['seconds']:.0f} s",
                f"{line['stages']['indexing']:.1f} s",
                f"{line['peak_own_mib']:,.0f} MiB",
                f"{times['p50']:.1f} / {times['p95']:.1f} ms" if times else "",
            )
        )
    yield from table(("by", "chunks", "whole build", "indexing", "own memory, peak", "query p50 / p95"), rows)


def grounding(lines: list[Line]) -> Iterator[str]:
    yield "## Answers held to their documents (`bench_grounding.py`)\n"
    mine = [line for line in lines if line["half"] == "reported"]
    yield (
        "The exact checks of the verifier `grounding`, without a model: answers of four data sets, right ones, and the "
        "same with a number, name or month planted that their passage does not hold. The rules were made on one half "
        "of the passages; this is the other. Rejected, with 95 % intervals over passages. Conclusions state what their "
        "authors computed or abbreviated: a number that no cited section spells out is rejected.\n"
    )
    by_form = {(line["form"], line["kind"]): line for line in mine if line["data"] == "all"}
    rows = []
    for form, words in FORMS.items():
        found = [by_form.get((form, kind)) for kind in ("planted", "right")]
        if any(found):
            cells = [cell for line in found for cell in _rejected(line)]
            rows.append((words, *cells))
    yield from table(("form of the answer", "planted", "rejected", "right", "rejected"), rows)


def _rejected(line: Line | None) -> tuple[str, str]:
    if line is None:
        return "", ""
    return f"{line['answers']:,}", f"{line['rejected']:.2%} [{line['low']:.2%}, {line['high']:.2%}]"


def _interval(figure: Line) -> str:
    return within(figure["value"], figure["interval"])
