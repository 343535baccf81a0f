"""Prompts for the decoding benchmark: six Spec-Bench categories and a set whose answers repeat their input.

Read from the folder that the variable DRAFTPROOF_DATA names, else from `data/` in the checkout:
`spec_bench/question.jsonl.gz` and `xquad_en/xquad_en.jsonl.gz`. Nothing of it comes with the code, since Spec-Bench's
news articles and XQuAD's passages have licences of their own.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DATA = Path(os.environ.get("DRAFTPROOF_DATA") or Path(__file__).resolve().parents[1] / "data")

CHAT = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""MT-Bench's kinds, one Spec-Bench category together."""

CATEGORIES = ("chat", "translation", "summarization", "qa", "math_reasoning", "rag", "copy")

COPYING = (
    "Rewrite the following text and correct any mistakes:\n\n{text}",
    "Repeat the following text, replacing nothing but American by British spelling:\n\n{text}",
    "Summarise this text by copying its most important sentences word for word:\n\n{text}",
)


@dataclass(frozen=True)
class BenchPrompt:
    category: str
    name: str
    text: str
    rank: int = 0
    """Place within the category."""


def prompts(per_category: int, categories: tuple[str, ...] = CATEGORIES) -> Iterator[BenchPrompt]:
    """The first `per_category` prompts of each category, categories in turn so that a part of a run is a fair part."""
    lists = [_of(category, per_category) for category in categories]
    for rank in range(per_category):
        for each in lists:
            if rank < len(each):
                yield replace(each[rank], rank=rank)


def _of(category: str, count: int) -> list[BenchPrompt]:
    if category == "copy":
        return _copying(count)
    kinds = CHAT if category == "chat" else (category,)
    found: list[BenchPrompt] = []
    for row in _rows(DATA / "spec_bench" / "question.jsonl.gz"):
        if row["category"] in kinds:
            found.append(BenchPrompt(category, f"spec-bench {row['question_id']}", row["turns"][0]))
    if category == "chat":  # the kinds stand one after the other: take from all of them
        found = found[:: max(1, len(found) // count)]
    return found[:count]


def _copying(count: int) -> list[BenchPrompt]:
    found = []
    for number, row in enumerate(_rows(DATA / "xquad_en" / "xquad_en.jsonl.gz")):
        passage = row["paragraphs"][0]["context"]
        words = passage.split()[:90]
        text = COPYING[number % len(COPYING)].format(text=" ".join(words))
        found.append(BenchPrompt("copy", f"xquad {number}", text))
    return found[:count]


def _rows(file: Path) -> Iterator[dict[str, object]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
