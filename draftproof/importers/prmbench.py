"""PRMBench: right solutions into which errors were written, each beside its error-free twin.

`error_steps` counts from 1 and may name several steps; as everywhere, the first one decides the labels and the
list itself stays in `meta`. Some rows name a step beyond the last one. When that leaves no usable index, nothing
is claimed about any step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.errors import UsageError
from draftproof.importers.record import (
    Record,
    RecordError,
    content_id,
    labels_from_first_error,
    make_trace,
    optional_text,
    rest,
    text,
    texts,
    values,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, StepLabel, Trace

_PROCESSES = ("modified", "original", "both")
_SEVERAL = "multi_solutions"


def matches(record: Record) -> bool:
    return all(key in record for key in ("original_process", "modified_process", "error_steps"))


@dataclass(frozen=True)
class PrmBenchImporter:
    """Names are `<idx>/<classification>`, with `/original` after them for the twin."""

    process: str = "modified"

    def __post_init__(self) -> None:
        if self.process not in _PROCESSES:
            raise UsageError(f"prmbench:process must be one of {', '.join(_PROCESSES)}, not {self.process!r}.")

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        modified, original = texts(record, "modified_process"), texts(record, "original_process")
        name = _name(record, modified)
        meta = rest(record, "modified_process", "original_process", "modified_question", "original_question", "idx")
        if self.process != "original":
            yield make_trace(
                source=source,
                id=name,
                problem=text(record, "modified_question"),
                steps=modified,
                blank_steps=True,
                reference_answer=optional_text(record, "ground_truth"),
                step_labels=_labels(record, len(modified)),
                meta={**meta, "process": "modified"},
            )
        if self.process != "modified":
            yield make_trace(
                source=source,
                id=f"{name}/original",
                problem=text(record, "original_question"),
                steps=original,
                blank_steps=True,
                reference_answer=optional_text(record, "ground_truth"),
                step_labels=labels_from_first_error(len(original), None),
                meta={**meta, "process": "original"},
            )


def _name(record: Record, modified: list[str]) -> str:
    """`idx` names the question, not the row: each class of errors has one, and `multi_solutions` several."""
    content = content_id(text(record, "modified_question"), *modified)
    parts = [optional_text(record, "idx") or content, optional_text(record, "classification")]
    if parts[1] == _SEVERAL:
        parts.append(content[:8])
    return "/".join(part for part in parts if part)


def _labels(record: Record, steps: int) -> tuple[StepLabel, ...]:
    wrong = values(record, "error_steps")
    if not all(isinstance(step, int) and not isinstance(step, bool) for step in wrong):
        raise RecordError(RejectCode.WRONG_TYPE, "`error_steps` must be a list of integers")
    if any(step < 1 for step in wrong):
        raise RecordError(RejectCode.WRONG_VALUE, "`error_steps` counts from 1")
    if not wrong:
        return labels_from_first_error(steps, None)
    first = min(wrong) - 1
    return labels_from_first_error(steps, first) if first < steps else (StepLabel.UNKNOWN,) * steps
