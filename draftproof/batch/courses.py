"""Courses of pipelines told again from the store: who wrote what, what was compared, and what was discarded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftproof.batch.solved import MARK
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import StoredVerdict
from draftproof.store.verdict_store import VerdictStore
from draftproof.trace import Trace


def opening_of(trace: Trace) -> str | None:
    """Digest of the opening that a trace is, or is the end of; None for a trace that no pipeline wrote."""
    if not trace.steps and "@" in trace.segmentation and "#" in trace.segmentation:
        return trace.digest
    named = trace.meta.get("opening")
    return named if isinstance(named, str) and trace.meta.get("pipeline") else None


def course_of(store: VerdictStore, opening: str) -> Mapping[str, Any]:
    """The `draftproof.pipelines.step_state.StepOutput` that the verdicts about an opening tell of.

    Raises UnknownNameError for an opening that is not stored, InputError where its verdicts tell of no course.
    """
    from draftproof.pipelines.replay import replay

    trace = store.get_trace(opening).trace
    given: dict[str, Any] = {
        "problem": trace.problem,
        "id": str(trace.meta.get("problem_id", "")),
        "attempt": int(trace.meta.get("attempt", 0)),
    }
    if trace.reference_answer is not None:
        given["reference_answer"] = trace.reference_answer
    rows = course_verdicts(store, opening)
    return replay([row.verdict for row in rows], given)  # type: ignore[arg-type, return-value]


def course_verdicts(store: VerdictStore, opening: str) -> list[StoredVerdict]:
    """What the graph itself said about an opening, in the order in which it did."""
    rows = store.iter_verdicts(VerdictFilter(trace=opening), order="oldest")
    return [row for row in rows if row.payload is not None and not row.verifier.startswith(MARK)]
