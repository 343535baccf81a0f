"""ProcessBench: split solutions with the human-labelled first wrong step, counted from 0; -1 means none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.importers.record import (
    Record,
    RecordError,
    integer,
    labels_from_first_error,
    make_trace,
    optional_boolean,
    optional_text,
    rest,
    text,
    texts,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace


def matches(record: Record) -> bool:
    return all(key in record for key in ("steps", "label", "final_answer_correct"))


@dataclass(frozen=True)
class ProcessBenchImporter:
    """A right final answer may come with a wrong step: the two fields are independent."""

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        steps = texts(record, "steps")
        label = integer(record, "label")
        if label < -1:
            raise RecordError(RejectCode.WRONG_VALUE, f"`label` is {label}; -1 means no error, steps count from 0")
        yield make_trace(
            source=source,
            id=optional_text(record, "id"),
            problem=text(record, "problem"),
            steps=steps,
            blank_steps=True,
            answer_correct=optional_boolean(record, "final_answer_correct"),
            step_labels=labels_from_first_error(len(steps), None if label == -1 else label),
            generator=optional_text(record, "generator"),
            meta=rest(record, "id", "problem", "steps", "label", "final_answer_correct", "generator"),
        )
