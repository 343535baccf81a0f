"""GSM8K: worked answers, one step a line, and the file of model solutions that comes with them.

A worked answer ends with `#### 18`, a model solution with `A: 18`. That line is the answer, not a step. The
calculator annotations, `<<16-3=13>>`, stay where they are: they are what an arithmetic check reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.importers.record import (
    Record,
    RecordError,
    content_id,
    make_trace,
    mapping,
    optional_boolean,
    optional_text,
    rest,
    split,
    text,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace

_ANSWER_LINE = re.compile(r"(?:####|A:)[ \t]*(?P<answer>[^\n]*?)\s*\Z")


def matches(record: Record) -> bool:
    """`question` and an `answer` with its `####` line."""
    answer = record.get("answer")
    return isinstance(record.get("question"), str) and isinstance(answer, str) and "####" in answer


def matches_model_solutions(record: Record) -> bool:
    return "question" in record and "ground_truth" in record and bool(_models(record))


@dataclass(frozen=True)
class Gsm8kImporter:
    """A row is one trace: the reference answer itself."""

    segmentation: str = "line"

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        problem = text(record, "question")
        body, answer = split_answer(text(record, "answer"))
        if answer is None:
            raise RecordError(RejectCode.WRONG_VALUE, "`answer` does not end with a line `#### <answer>`")
        steps, segmentation = split(body, self.segmentation, "answer")
        yield make_trace(
            source=source,
            id=optional_text(record, "idx") or optional_text(record, "id"),
            problem=problem,
            steps=steps,
            segmentation=segmentation,
            final_answer=answer,
            reference_answer=answer,
            answer_correct=True,
            meta=rest(record, "question", "answer", "idx", "id"),
        )


@dataclass(frozen=True)
class Gsm8kModelSolutionsImporter:
    """A row is one trace for each model, named `<row>/<model>`, where the row's name is a hash of its question."""

    segmentation: str = "line"

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        problem = text(record, "question")
        _body, reference = split_answer(text(record, "ground_truth"))
        row = optional_text(record, "id") or content_id(problem)
        models = _models(record)
        if not models:
            raise RecordError(RejectCode.MISSING_FIELD, "no model's entry with a `solution` is in the row")
        meta = rest(record, "question", "ground_truth", "id", *models)
        for model in models:
            entry = mapping(record, model)
            body, answer = split_answer(text(entry, "solution"))
            steps, segmentation = split(body, self.segmentation, f"{model}.solution")
            yield make_trace(
                source=source,
                id=f"{row}/{model}",
                problem=problem,
                steps=steps,
                segmentation=segmentation,
                final_answer=answer,
                reference_answer=reference,
                answer_correct=optional_boolean(entry, "is_correct"),
                generator=model,
                meta={**meta, **rest(entry, "solution", "is_correct")},
            )


def split_answer(solution: str) -> tuple[str, str | None]:
    """The worked part and the answer of the last line; None where the last line is no answer line."""
    end = len(solution.rstrip())
    start = solution.rfind("\n", 0, end) + 1
    found = _ANSWER_LINE.match(solution, start)
    if found is None or not solution[:start].strip():
        return solution, None
    return solution[:start], found["answer"]


def _models(record: Record) -> list[str]:
    return [key for key, value in record.items() if isinstance(value, dict) and "solution" in value]
