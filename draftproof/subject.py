"""Subjects: what a verifier is asked about, and the key that a verdict about it is stored under."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from draftproof.trace import Trace


class Granularity(StrEnum):
    TOKEN_BLOCK = "token_block"  # noqa: S105 - a name, not a secret
    STEP = "step"
    CLAIM = "claim"
    DOCUMENT = "document"
    TRACE = "trace"
    ROUTE = "route"


class SubjectKey(BaseModel):
    """Identifies a subject: the trace, the kind of thing in it, and which one."""

    model_config = ConfigDict(frozen=True)

    trace_digest: str
    granularity: Granularity
    position: Annotated[int, Field(ge=0)]
    """0-based index of the step, block, document or decision; 0 for the trace itself."""


class Subject(BaseModel):
    """What is judged, with everything a verifier may look at. Verifiers never change it."""

    model_config = ConfigDict(frozen=True)

    key: SubjectKey
    problem: str
    text: str
    """The thing judged, verbatim."""
    context: tuple[str, ...] = ()
    """Earlier steps, in order."""
    premises: tuple[int, ...] | None = None
    """Indices into `context` that the text is said to rest on; None when nobody said."""
    documents: dict[str, str] = Field(default_factory=dict)
    reference_answer: str | None = None
    """The problem's answer, where the trace brings it: for verifiers that are told to look at it. A pipeline that
    solves the problem does not know it."""
    group: str | None = None
    """Candidates with equal `group` compete with each other and are judged in one call."""


def step_subjects(trace: Trace) -> Iterator[Subject]:
    """One subject a step, lazily: a long trace's contexts never exist all at once."""
    texts = tuple(step.text for step in trace.steps)
    for position, text in enumerate(texts):
        yield Subject.model_construct(
            key=SubjectKey(trace_digest=trace.digest, granularity=Granularity.STEP, position=position),
            problem=trace.problem,
            text=text,
            context=texts[:position],
            premises=None,
            documents={},
            reference_answer=trace.reference_answer,
            group=None,
        )


def trace_subject(trace: Trace) -> Subject:
    """The whole trace as one subject."""
    return Subject(
        key=SubjectKey(trace_digest=trace.digest, granularity=Granularity.TRACE, position=0),
        problem=trace.problem,
        text="".join(step.text for step in trace.steps),
        reference_answer=trace.reference_answer,
    )


def subjects_of(trace: Trace, granularity: Granularity) -> Iterator[Subject]:
    """The subjects of `trace` that a verifier of this granularity judges.

    Raises ValueError for granularities that are made while a pipeline runs and not by a trace.
    """
    if granularity is Granularity.STEP:
        return step_subjects(trace)
    if granularity is Granularity.TRACE:
        return iter((trace_subject(trace),))
    raise ValueError(f"a stored trace has steps and itself to judge, not {granularity.value}s")
