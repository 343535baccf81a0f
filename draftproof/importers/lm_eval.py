"""lm-evaluation-harness samples: one line for each document and filter.

The harness writes every document once per answer filter, with the same responses. Only the lines of the first
filter become traces, unless the option `filter` names another or says `all`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from draftproof.importers.record import (
    Record,
    RecordError,
    content_id,
    make_trace,
    mapping,
    optional_text,
    rest,
    split,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace

_QUESTION_FIELDS = ("question", "problem", "query", "input", "prompt", "text")
_READ = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")


def matches(record: Record) -> bool:
    return "doc_id" in record and "resps" in record


@dataclass
class LmEvalImporter:
    """Remembers the first filter of its file."""

    segmentation: str = "blank_line"
    filter: str = ""
    _first: str | None = field(default=None, init=False, repr=False)

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        name = optional_text(record, "filter") or "none"
        wanted = self.filter or (self._first if self._first is not None else name)
        traces = list(self._traces(record, source, name)) if wanted in (name, "all") else []
        self._first = name if self._first is None else self._first
        return traces

    def _traces(self, record: Record, source: Source, filter_name: str) -> Iterator[Trace]:
        responses = _responses(record)
        problem = _problem(record)
        row = optional_text(record, "doc_id") or content_id(problem)
        if self.filter == "all":
            row = f"{row}/{filter_name}"
        filtered = _strings(record.get("filtered_resps"))
        correct = _correct(record) if len(responses) == 1 else None
        for index, response in enumerate(responses):
            steps, segmentation = split(response, self.segmentation, "resps")
            yield make_trace(
                source=source,
                id=row if len(responses) == 1 else f"{row}/{index}",
                problem=problem,
                steps=steps,
                segmentation=segmentation,
                final_answer=filtered[index] if len(filtered) == len(responses) else None,
                reference_answer=_target(record),
                answer_correct=correct,
                meta={**rest(record, *_READ), "doc": record.get("doc")},
            )


def _responses(record: Record) -> list[str]:
    """The generated texts; repeats of one request stand side by side in its list."""
    groups = record["resps"] if isinstance(record.get("resps"), list) else []
    if not groups or not all(isinstance(group, list) for group in groups):
        raise RecordError(RejectCode.WRONG_TYPE, "`resps` must be a list of lists")
    if len(groups) > 1 or any(not isinstance(response, str) for response in groups[0]):
        raise RecordError(RejectCode.NO_SOLUTION, "a multiple-choice line holds log-likelihoods, not a solution")
    if not groups[0]:
        raise RecordError(RejectCode.NO_SOLUTION, "`resps` holds no response")
    return list(groups[0])


def _problem(record: Record) -> str:
    doc = mapping(record, "doc") if record.get("doc") is not None else {}
    for key in _QUESTION_FIELDS:
        if isinstance(doc.get(key), str) and doc[key].strip():
            return str(doc[key])
    prompt = _prompt(record.get("arguments"))
    if prompt is None:
        raise RecordError(RejectCode.MISSING_FIELD, "neither `doc` nor `arguments` holds a question")
    return prompt


def _prompt(arguments: Any) -> str | None:
    """The prompt, few-shot examples and all: `gen_args_0.arg_0`, or the first of nested lists in older files."""
    while isinstance(arguments, dict | list) and arguments:
        arguments = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
    return arguments if isinstance(arguments, str) and arguments.strip() else None


def _strings(filtered: Any) -> list[str]:
    """The filters' answers: a string for each response, or a list of them for the repeats."""
    if isinstance(filtered, list) and len(filtered) == 1 and isinstance(filtered[0], list):
        filtered = filtered[0]
    if not isinstance(filtered, list) or not all(isinstance(answer, str) for answer in filtered):
        return []
    return filtered


def _target(record: Record) -> str | None:
    target = record.get("target")
    if isinstance(target, list) and target:
        target = target[0]
    return None if isinstance(target, dict | list) else optional_text({"target": target}, "target")


def _correct(record: Record) -> bool | None:
    """What the first metric that says right or wrong says."""
    metrics = record.get("metrics")
    names = [name for name in metrics if isinstance(name, str)] if isinstance(metrics, list) else []
    for name in [*names, "exact_match", "acc"]:
        value = record.get(name)
        if isinstance(value, bool | int | float) and value in (0, 1):
            return bool(value)
    return None
