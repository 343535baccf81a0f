"""LateBench: PRM800K solutions, re-shaped, whose first error comes late.

Each step says whether it is an error; `step_number` counts from 1 and must agree with the order. The solution's
`final_answer` is the right one, not the one that its wrong steps arrive at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.importers.prm800k import answer_after_heading
from draftproof.importers.record import (
    Record,
    RecordError,
    integer,
    labels_from_first_error,
    make_trace,
    mapping,
    objects,
    optional_text,
    rest,
    text,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace


def matches(record: Record) -> bool:
    problem, solution = record.get("problem"), record.get("solution")
    return isinstance(problem, dict) and "statement" in problem and isinstance(solution, dict) and "steps" in solution


@dataclass(frozen=True)
class LateBenchImporter:
    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        problem, solution = mapping(record, "problem"), mapping(record, "solution")
        entries = objects(solution, "steps")
        for position, entry in enumerate(entries, start=1):
            if integer(entry, "step_number") != position:
                raise RecordError(
                    RejectCode.WRONG_VALUE, f"step {position} (from 1) has the `step_number` {entry['step_number']}"
                )
            if not isinstance(entry.get("is_error"), bool):
                raise RecordError(RejectCode.WRONG_TYPE, f"`is_error` of step {position} (from 1) must be a boolean")
        first_error = next((index for index, entry in enumerate(entries) if entry["is_error"]), None)
        steps = [text(entry, "content", blank=True) for entry in entries]
        yield make_trace(
            source=source,
            id=optional_text(record, "id"),
            problem=text(problem, "statement"),
            steps=steps,
            blank_steps=True,
            final_answer=answer_after_heading(steps),
            reference_answer=optional_text(solution, "final_answer"),
            step_labels=labels_from_first_error(len(entries), first_error),
            meta={
                **rest(record, "id", "problem", "solution"),
                "problem": rest(problem, "statement"),
                "solution": rest(solution, "steps", "final_answer"),
                "steps": [rest(entry, "content", "is_error", "step_number") for entry in entries],
            },
        )
