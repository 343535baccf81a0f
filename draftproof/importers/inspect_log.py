"""Samples of inspect_ai logs (`.eval` archives and `.json` logs): one trace for each sample and epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from draftproof.importers.messages import Message, SolutionCutter, read_message, read_messages
from draftproof.importers.record import (
    Record,
    RecordError,
    make_trace,
    mapping,
    optional_text,
    rest,
    text,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace

_GRADES = {"C": True, "I": False}
_READ = (
    "id",
    "epoch",
    "input",
    "target",
    "messages",
    "output",
    "scores",
    "attachments",
    "events",
    "events_data",
    "store",
)


def matches(record: Record) -> bool:
    return all(key in record for key in ("id", "epoch", "input", "output"))


@dataclass(frozen=True)
class InspectImporter:
    """`scorer` says whose score decides `answer_correct`; without it, all scorers must agree."""

    segmentation: str = "blank_line"
    reasoning: str = "include"
    scorer: str = ""

    def __post_init__(self) -> None:
        SolutionCutter(self.segmentation, self.reasoning)

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        attachments = record.get("attachments")
        attachments = attachments if isinstance(attachments, dict) else {}
        output = mapping(record, "output") if record.get("output") is not None else {}
        cutter = SolutionCutter(self.segmentation, self.reasoning)
        steps, about = cutter.cut(_solution(record, output, attachments))
        scores = mapping(record, "scores") if record.get("scores") is not None else {}
        if self.scorer:
            scores = {name: score for name, score in scores.items() if name == self.scorer}
        yield make_trace(
            source=source,
            id=f"{optional_text(record, 'id')}_epoch_{optional_text(record, 'epoch')}",
            problem=_problem(record, attachments),
            steps=steps,
            segmentation=cutter.name,
            final_answer=_agreed([_field(score, "answer") for score in scores.values()], str),
            reference_answer=_target(record),
            answer_correct=_agreed([_grade(_field(score, "value")) for score in scores.values()], bool),
            generator=optional_text(output, "model"),
            meta={**rest(record, *_READ), "scores": scores, **about},
        )


def _solution(record: Record, output: Record, attachments: Record) -> Message:
    choices = output.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and "message" in choices[0]:
        return read_message({"role": "assistant", **mapping(choices[0], "message")}, attachments)
    messages = read_messages(record, "messages", attachments) if record.get("messages") is not None else []
    said = [message for message in messages if message.role == "assistant"]
    if said:
        return said[-1]
    if isinstance(output.get("completion"), str):
        return read_message({"role": "assistant", "content": output["completion"]}, attachments)
    raise RecordError(RejectCode.NO_SOLUTION, "the sample has no assistant message: it may have failed")


def _problem(record: Record, attachments: Record) -> str:
    if isinstance(record.get("input"), list):
        asked = [message.content for message in read_messages(record, "input", attachments) if message.role == "user"]
        if not asked:
            raise RecordError(RejectCode.MISSING_FIELD, "`input` has no user message")
        return asked[-1]
    problem = text(record, "input")
    return read_message({"role": "user", "content": problem}, attachments).content or problem


def _target(record: Record) -> str | None:
    target = record.get("target")
    if isinstance(target, list):
        target = target[0] if target else None
    return optional_text({"target": target}, "target") or None


def _field(score: Any, key: str) -> Any:
    return score.get(key) if isinstance(score, dict) else None


def _grade(value: Any) -> bool | None:
    """Right, wrong, or neither: a part of the points, no answer, or (from NaN) not scored."""
    if isinstance(value, str):
        return _GRADES.get(value)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    return None


def _agreed(said: list[Any], kind: type) -> Any:
    """The one value that all scorers give; None when they differ or one gives none."""
    return said[0] if said and isinstance(said[0], kind) and all(other == said[0] for other in said) else None
