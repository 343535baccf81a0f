"""Courses of pipelines told again from the store: who wrote what, what was compared, and what was discarded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from draftproof.batch.problems import Problem
from draftproof.batch.solved import MARK, Solved, recalled
from draftproof.errors import UsageError
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Run, StoredTrace, StoredVerdict
from draftproof.store.verdict_store import VerdictStore
from draftproof.trace import Trace


def opening_of(trace: Trace) -> str | None:
    """Digest of the opening that a trace is, or is the end of; None for a trace that no pipeline wrote."""
    if not trace.steps and "@" in trace.segmentation and "#" in trace.segmentation:
        return trace.digest
    named = trace.meta.get("opening")
    return named if isinstance(named, str) and trace.meta.get("pipeline") else None


def openings_of(stored: StoredTrace) -> dict[str, str]:
    """All openings that a stored trace is the end of, each with its pipeline, the latest last: several pipelines, or
    one with several settings, may write the same text."""
    found: dict[str, str] = {}
    for sighting in stored.sightings:
        opening = opening_of(sighting)
        if opening is not None:
            found.pop(opening, None)
            found[opening] = str(sighting.meta.get("pipeline") or sighting.segmentation)
    return found


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
    return replay([row.verdict for row in rows], given)  # type: ignore[arg-type]


def course_verdicts(store: VerdictStore, opening: str) -> list[StoredVerdict]:
    """What the graph itself said about an opening, in the order in which it did."""
    rows = store.iter_verdicts(VerdictFilter(trace=opening), order="oldest")
    return [row for row in rows if row.payload is not None and not row.verifier.startswith(MARK)]


def is_pipeline_run(run: Run) -> bool:
    return any(each.identity.startswith(MARK) for each in run.verifiers)


def solved_of_run(store: VerdictStore, run: Run) -> Iterator[Solved]:
    """What became of each problem of a pipeline run, in their order; those without an end are left out.

    As known count those whose end another run stored: their times are that run's.
    """
    mark = next(each.identity for each in run.verifiers if each.identity.startswith(MARK))
    rows = store.iter_verdicts(VerdictFilter(run=run.id, verifier=mark))
    ends = {row.subject.trace_digest: row for row in rows if row.payload is not None}
    for opening in store.run_traces(run.id):
        row = ends.get(opening.digest)
        if row is None:
            continue
        verdict = row.verdict
        finished = verdict.raw["trace"]
        trace = None if finished is None else store.get_trace(str(finished)).trace
        yield replace(recalled(problem_of(opening), verdict, trace), known=row.run != run.id)


def problem_of(opening: Trace) -> Problem:
    source = opening.source
    return Problem(
        text=opening.problem,
        id=str(opening.meta.get("problem_id") or opening.id),
        answer=opening.reference_answer,
        file=source.file if source else "",
        line=source.line if source else 0,
    )


def sweep_runs(store: VerdictStore, run: Run) -> list[Run]:
    """All runs of the sweep that `run` is one of, oldest first. Raises UsageError where it is of none."""
    sweep = run.settings.get("sweep")
    if sweep is None:
        raise UsageError(
            f"Run {run.id[:8]} is no part of a sweep.", remedy="draftproof run PIPELINE FILE --sweep makes one."
        )
    return [each for each in reversed(store.runs()) if each.settings.get("sweep") == sweep]
