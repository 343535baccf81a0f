"""MR-GSM8K: model solutions with the first wrong step, counted from 1, and the human reason for it.

The judges' files carry their outputs beside the ten fields of the benchmark; those go to `meta`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.importers.record import (
    Record,
    RecordError,
    labels_from_first_error,
    make_trace,
    optional_text,
    rest,
    text,
    texts,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, StepLabel, Trace

_FINAL = re.compile(r"####\s*(\S.*?)\s*\Z")


def matches(record: Record) -> bool:
    return "model_output_steps" in record and "model_output_solution_correctness" in record


@dataclass(frozen=True)
class MrGsm8kImporter:
    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        steps = texts(record, "model_output_steps")
        final = _FINAL.search(steps[-1][-200:]) if steps else None
        yield make_trace(
            source=source,
            id=optional_text(record, "uuid"),
            problem=text(record, "question"),
            steps=steps,
            blank_steps=True,
            final_answer=final[1] if final else None,
            reference_answer=optional_text(record, "ground_truth_answer"),
            answer_correct=_verdict(record, "model_output_answer_correctness"),
            step_labels=_labels(record, len(steps)),
            meta=rest(
                record,
                "uuid",
                "question",
                "model_output_steps",
                "ground_truth_answer",
                "model_output_answer_correctness",
                "model_output_solution_correctness",
                "model_output_solution_first_error_step",
            ),
        )


def _labels(record: Record, steps: int) -> tuple[StepLabel, ...]:
    if _verdict(record, "model_output_solution_correctness"):
        return labels_from_first_error(steps, None)
    first = optional_text(record, "model_output_solution_first_error_step") or ""
    if not first.isascii() or not first.isdigit():
        raise RecordError(
            RejectCode.WRONG_VALUE,
            f"`model_output_solution_first_error_step` of a wrong solution must count from 1, not be {first[:40]!r}",
        )
    return labels_from_first_error(steps, int(first[:9]) - 1)


def _verdict(record: Record, key: str) -> bool:
    said = text(record, key).strip().lower()
    if said not in ("correct", "wrong", "incorrect"):
        raise RecordError(RejectCode.WRONG_VALUE, f"`{key}` must be correct or wrong, not {said[:40]!r}")
    return said == "correct"
