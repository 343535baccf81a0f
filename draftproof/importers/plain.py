"""Our own JSON Lines: `problem`, and `steps` or a `response` to be cut into steps.

The line that `to_record` writes reads back as the same trace, with a new source.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from draftproof.importers.record import (
    Record,
    RecordError,
    make_trace,
    mapping,
    optional_boolean,
    optional_text,
    rest,
    split,
    text,
    texts,
)
from draftproof.rejects import RejectCode
from draftproof.segment import segmentation_name
from draftproof.trace import Source, StepLabel, Trace

_READ = (
    "id", "problem", "steps", "segmentation", "final_answer", "answer", "reference_answer", "answer_correct",
    "step_labels", "generator", "source", "meta",
)  # fmt: skip


def matches(record: Record) -> bool:
    return isinstance(record.get("problem"), str) and any(key in record for key in ("steps", "response", "solution"))


@dataclass(frozen=True)
class PlainImporter:
    """`steps` wins over `response`, and `response` over `solution`, which is a reference in many data sets."""

    segmentation: str = "blank_line"

    def __post_init__(self) -> None:
        segmentation_name(self.segmentation)

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        problem = text(record, "problem")
        field = next((key for key in ("steps", "response", "solution") if record.get(key) is not None), None)
        if field is None:
            raise RecordError(RejectCode.MISSING_FIELD, "`steps`, `response` and `solution` are all missing")
        if field == "steps":
            steps = _given(record)
            segmentation = optional_text(record, "segmentation") or "given@1"
        else:
            steps, segmentation = split(text(record, field), self.segmentation, field)
        meta = rest(record, *_READ, field)
        if "meta" in record and record["meta"] is not None:
            meta = {**mapping(record, "meta"), **meta}
        yield make_trace(
            source=source,
            id=optional_text(record, "id"),
            problem=problem,
            steps=steps,
            segmentation=segmentation,
            final_answer=_answer(record),
            reference_answer=optional_text(record, "reference_answer"),
            answer_correct=optional_boolean(record, "answer_correct"),
            step_labels=_labels(record, len(steps)),
            generator=optional_text(record, "generator"),
            meta=meta,
        )


def to_record(trace: Trace) -> dict[str, Any]:
    """The record of a trace, without what is unknown about it and without its source."""
    record: dict[str, Any] = {
        "id": trace.id,
        "problem": trace.problem,
        "steps": [step.text for step in trace.steps],
        "segmentation": trace.segmentation,
        "final_answer": trace.final_answer,
        "reference_answer": trace.reference_answer,
        "answer_correct": trace.answer_correct,
        "step_labels": None if trace.step_labels is None else [label.value for label in trace.step_labels],
        "generator": trace.generator,
        "meta": trace.meta or None,
    }
    return {key: value for key, value in record.items() if value is not None}


def _given(record: Record) -> list[str]:
    """Steps as strings, or as the objects that a dumped trace holds."""
    value = record["steps"]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [text(item, "text", blank=True) for item in value]
    return texts(record, "steps")


def _answer(record: Record) -> str | None:
    given = optional_text(record, "final_answer")
    return given if given is not None else optional_text(record, "answer")


def _labels(record: Record, steps: int) -> tuple[StepLabel, ...] | None:
    if record.get("step_labels") is None:
        return None
    try:
        labels = tuple(StepLabel(label) for label in texts(record, "step_labels"))
    except ValueError as error:
        raise RecordError(RejectCode.WRONG_VALUE, f"`step_labels`: {error}") from None
    if len(labels) != steps:
        raise RecordError(RejectCode.WRONG_VALUE, f"{len(labels)} `step_labels` for {steps} steps")
    return labels
