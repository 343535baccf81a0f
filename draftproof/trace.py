"""Traces: a problem and the steps that claim to solve it.

A trace is what importers produce and what verdicts are about. Its digest covers what is judged
(problem, steps and how they were cut) and nothing that a later import could change, such as the
file it came from, so that importing the same solution twice judges it once.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from draftproof.canonical import digest, short


class StepLabel(StrEnum):
    """What a human (or a data set's program) says of one step."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"
    """After the first error nothing is claimed: later steps may be right or wrong."""


class Span(BaseModel):
    """Half-open range of characters, `[start, end)`, into a text that the field's owner names."""

    model_config = ConfigDict(frozen=True)

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]


class Step(BaseModel):
    """One step of a trace, verbatim. Separators between steps belong to the step before them."""

    model_config = ConfigDict(frozen=True)

    text: str


class Source(BaseModel):
    """Where a trace was read from."""

    model_config = ConfigDict(frozen=True)

    format: str
    file: str
    line: Annotated[int, Field(ge=1)]
    """1-based line of the file (after decompression), or the 1-based member of an archive."""


class Trace(BaseModel):
    """A solution, cut into steps, with what is known about it.

    `id` names the trace for people; `digest` identifies it. Two traces with equal digests are the
    same solution, whatever their ids.
    """

    model_config = ConfigDict(frozen=True)

    id: str = ""
    """A name for people; the first hex digits of the digest where none is given."""
    problem: str
    steps: tuple[Step, ...]
    segmentation: str = "given@1"
    """Name and version of the rule that cut the text into steps; a step index means nothing without it."""
    final_answer: str | None = None
    reference_answer: str | None = None
    answer_correct: bool | None = None
    step_labels: tuple[StepLabel, ...] | None = None
    generator: str | None = None
    source: Source | None = None
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_named(self) -> Trace:
        if not self.id:
            object.__setattr__(self, "id", short(self.digest))  # frozen from here on
        return self

    @model_validator(mode="after")
    def _labels_match_steps(self) -> Trace:
        if self.step_labels is not None and len(self.step_labels) != len(self.steps):
            raise ValueError(
                f"step_labels must have one label a step, got {len(self.step_labels)} for {len(self.steps)} steps"
            )
        return self

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of problem, segmentation and step texts."""
        return digest(
            {
                "problem": self.problem,
                "segmentation": self.segmentation,
                "steps": [step.text for step in self.steps],
            }
        )

    @property
    def first_error(self) -> int | None:
        """0-based index of the first step labelled incorrect; None when no label says so."""
        labels = self.step_labels or ()
        return next((i for i, label in enumerate(labels) if label is StepLabel.INCORRECT), None)
