"""TRL stepwise supervision: `prompt`, `completions` (the steps) and one boolean label for each.

Labels may be floats, as some converters write them; at least one half counts as right. Rows made from PRM800K share
prefixes: each is a trace of its own here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from draftproof.importers.messages import read_messages
from draftproof.importers.record import (
    Record,
    RecordError,
    labels_from_first_error,
    make_trace,
    optional_text,
    rest,
    text,
    texts,
    values,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace


def matches(record: Record) -> bool:
    return isinstance(record.get("completions"), list) and isinstance(record.get("labels"), list)


@dataclass(frozen=True)
class TrlImporter:
    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        steps = texts(record, "completions")
        right = [_right(label) for label in values(record, "labels")]
        if len(right) != len(steps):
            raise RecordError(RejectCode.WRONG_VALUE, f"{len(right)} `labels` for {len(steps)} `completions`")
        yield make_trace(
            source=source,
            id=optional_text(record, "id"),
            problem=_prompt(record),
            steps=steps,
            blank_steps=True,
            step_labels=labels_from_first_error(len(steps), right.index(False) if False in right else None),
            meta=rest(record, "id", "prompt", "completions"),
        )


def _right(label: object) -> bool:
    if isinstance(label, bool):
        return label
    if isinstance(label, int | float) and 0 <= label <= 1:
        return label >= 0.5
    raise RecordError(RejectCode.WRONG_VALUE, "`labels` must be booleans, or numbers from 0 to 1")


def _prompt(record: Record) -> str:
    if isinstance(record.get("prompt"), list):
        asked = [message.content for message in read_messages(record, "prompt") if message.role == "user"]
        if asked:
            return asked[-1]
    return text(record, "prompt")
