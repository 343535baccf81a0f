"""BIG-Bench-Mistake: split solutions with the first logical mistake, counted from 0; null means none.

The mistake is about the reasoning; a right answer may come with one, and a wrong answer without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.importers.record import (
    Record,
    integer,
    labels_from_first_error,
    make_trace,
    optional_text,
    rest,
    text,
    texts,
)
from draftproof.trace import Source, Trace


def matches(record: Record) -> bool:
    return all(key in record for key in ("input", "steps", "mistake_index"))


@dataclass(frozen=True)
class BigBenchMistakeImporter:
    """`answer_correct` stays open: comparing the answers of these tasks (whole word lists) is a verifier's business."""

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        steps = texts(record, "steps")
        mistake = None if record.get("mistake_index", 0) is None else integer(record, "mistake_index")
        yield make_trace(
            source=source,
            id=optional_text(record, "id"),
            problem=text(record, "input"),
            steps=steps,
            blank_steps=True,
            final_answer=optional_text(record, "answer"),
            reference_answer=optional_text(record, "target"),
            step_labels=labels_from_first_error(len(steps), mistake),
            meta=rest(record, "id", "input", "steps", "answer", "target", "mistake_index"),
        )
