"""PRM800K: solutions that people rated step by step, in the nested form in which they were collected.

A step offers completions, each rated -1, 0 or 1. The solution is the path that was taken: the chosen completion,
or what the labeller wrote where none was chosen. Where neither exists the labelling stopped; a completion rated
-1 there is the first error and ends the trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from draftproof.errors import UsageError
from draftproof.importers.record import (
    Record,
    RecordError,
    content_id,
    make_trace,
    mapping,
    objects,
    optional_text,
    rest,
    text,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, StepLabel, Trace

_ANSWER_HEADING = "# Answer"
_UNLABELLED = ("bad_problem", "give_up")


def matches(record: Record) -> bool:
    return all(key in record for key in ("labeler", "question", "label"))


@dataclass(frozen=True)
class Prm800kImporter:
    """`neutral` says what a rating of 0 means; the published reward models disagree on it."""

    neutral: str = "correct"
    screening: str = "keep"

    def __post_init__(self) -> None:
        if self.neutral not in list(StepLabel):
            raise UsageError(f"prm800k:neutral must be correct, incorrect or unknown, not {self.neutral!r}.")
        if self.screening not in ("keep", "skip"):
            raise UsageError(f"prm800k:screening must be keep or skip, not {self.screening!r}.")

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        screened = record.get("is_initial_screening_question") or record.get("is_quality_control_question")
        if screened and self.screening == "skip":
            return
        question, label = mapping(record, "question"), mapping(record, "label")
        problem = text(question, "problem")
        path = list(self._path(label))
        steps = [step for step, _label in path]
        finish = optional_text(label, "finish_reason")
        labels = _until_first_error([step_label for _step, step_label in path])
        if finish in _UNLABELLED:
            labels = (StepLabel.UNKNOWN,) * len(steps)
        yield make_trace(
            source=source,
            id=content_id(*(optional_text(record, key) or "" for key in ("labeler", "timestamp")), problem, *steps),
            problem=problem,
            steps=steps,
            blank_steps=True,
            final_answer=answer_after_heading(steps),
            reference_answer=optional_text(question, "ground_truth_answer"),
            step_labels=labels,
            meta={
                **rest(record, "question", "label"),
                "question": rest(question, "problem", "ground_truth_answer"),
                "finish_reason": finish,
                "neutral": self.neutral,
                "siblings": _siblings(label),
            },
        )

    def _path(self, label: Record) -> Iterator[tuple[str, StepLabel]]:
        for step in objects(label, "steps"):
            completions = objects(step, "completions") if step.get("completions") is not None else []
            chosen, human = step.get("chosen_completion"), step.get("human_completion")
            if chosen is not None:
                if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < len(completions):
                    raise RecordError(
                        RejectCode.WRONG_VALUE,
                        f"`chosen_completion` must be an index below {len(completions)}, not {str(chosen)[:40]}",
                    )
                yield self._rated(completions[chosen])
            elif human is not None:
                written = step if isinstance(human, str) else mapping(step, "human_completion")
                yield text(written, "human_completion" if written is step else "text", blank=True), StepLabel.CORRECT
            else:
                wrong = next((completion for completion in completions if completion.get("rating") == -1), None)
                if wrong is not None:
                    yield self._rated(wrong)
                return

    def _rated(self, completion: Record) -> tuple[str, StepLabel]:
        known = {-1: StepLabel.INCORRECT, 0: StepLabel(self.neutral), 1: StepLabel.CORRECT, None: StepLabel.UNKNOWN}
        rating = completion.get("rating")
        if isinstance(rating, bool | list | dict) or rating not in known:
            raise RecordError(RejectCode.WRONG_VALUE, "`rating` must be -1, 0, 1 or null")
        return text(completion, "text", blank=True), known[rating]


def _until_first_error(labels: list[StepLabel]) -> tuple[StepLabel, ...]:
    """The labels up to the first error, and nothing claimed after it."""
    if StepLabel.INCORRECT not in labels:
        return tuple(labels)
    first = labels.index(StepLabel.INCORRECT)
    return (*labels[: first + 1], *(StepLabel.UNKNOWN for _ in labels[first + 1 :]))


def answer_after_heading(steps: list[str]) -> str | None:
    """The last step often ends with the answer under a heading."""
    if not steps or _ANSWER_HEADING not in steps[-1]:
        return None
    return steps[-1].rpartition(_ANSWER_HEADING)[2].strip() or None


def _siblings(label: Record) -> list[Record]:
    """The completions that were offered beside the path, as they were rated."""
    return [
        {"step": index, "text": completion.get("text"), "rating": completion.get("rating")}
        for index, step in enumerate(objects(label, "steps"))
        for position, completion in enumerate(step.get("completions") or [])
        if position != step.get("chosen_completion")
    ]
