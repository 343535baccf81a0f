"""Tell the course of a solve-detect-verify run again: each attempt with its own steps and what its check said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from draftproof.errors import InputError
from draftproof.pipelines.replay_rows import closing_of, ended, hold_finished, opening_told, written_by_sample
from draftproof.pipelines.solve_output import solve_output, unchecked
from draftproof.pipelines.solve_state import SolveAttempt, SolveOutput, Spent
from draftproof.pipelines.step_state import StepInput, WrittenStep
from draftproof.subject import Granularity
from draftproof.verdict import RouteEvidence, Verdict


def solve_told(rows: Sequence[Verdict], signature: str, given: StepInput) -> SolveOutput:
    """The output of the graph that gave `rows`, all about one opening. Raises InputError where they contradict
    themselves, or one of them is missing."""
    closing = closing_of(rows, signature)
    written = written_by_sample(rows)
    fates = {
        row.subject.position: row
        for row in rows
        if row.subject.granularity is Granularity.ROUTE and row.verifier == signature
    }
    numbers = sorted(written.keys() | fates.keys())
    if numbers != list(range(len(numbers))):
        raise InputError(f"The verdicts tell of the attempts {numbers}: some are missing.")
    open_ended = [number for number in numbers if number not in fates]
    if open_ended and (closing is not None or open_ended != numbers[-1:]):
        raise InputError(f"Nothing is said about what became of attempt {open_ended[0]}.")
    attempts: list[SolveAttempt] = []
    dropped: list[WrittenStep] = []
    for number in numbers:
        steps = written.get(number, [])
        if number in fates:
            kept = _kept(fates[number], steps)
            dropped += steps[len(kept) :]
            attempts.append(_attempt(fates[number], kept))
        else:
            attempts.append(unchecked(steps, None))
    finish, error = ended(closing)
    output = solve_output(
        opening_told(given, signature, closing),
        attempts or [unchecked([], None)],
        dropped,
        _spent([fates[number] for number in sorted(fates)]),
        error=error,
        whole=any(row.raw["whole"] for row in fates.values()),
        finish=None if closing is not None else finish,
    )
    hold_finished(output, closing)
    return output


def _kept(fate: Verdict, written: Sequence[WrittenStep]) -> list[WrittenStep]:
    """An attempt's steps, cut where it was found complete."""
    count, characters = fate.raw["steps"], fate.raw["last_characters"]
    if count > len(written):
        raise InputError(f"Attempt {fate.subject.position} has {count} steps, and {len(written)} are told of.")
    steps = list(written[:count])
    if steps and characters != len(steps[-1]["text"]):
        steps[-1] = {**steps[-1], "text": steps[-1]["text"][:characters], "ids": []}
    return steps


def _attempt(fate: Verdict, steps: Sequence[WrittenStep]) -> SolveAttempt:
    raw: Mapping[str, object] = fate.raw
    attempt = unchecked(steps, raw["stop"])  # type: ignore[arg-type]
    evidence = fate.evidence[0] if fate.evidence else None
    if not isinstance(evidence, RouteEvidence):
        raise InputError(f"The verdict about attempt {fate.subject.position} does not say what was compared.")
    if not raw["reason"]:  # of a check: there was none
        return attempt
    return {
        **attempt,
        "outcome": fate.outcome.value,
        "reason": str(raw["reason"]),
        "score": evidence.score,
        "first_error": raw["first_error"],  # type: ignore[typeddict-item]
        "critique": str(raw["critique"]),
    }


def _spent(fates: Sequence[Verdict]) -> Spent:
    """Probes are told as sums so far, checks one by one."""
    last: Mapping[str, Any] = fates[-1].raw if fates else {"probe_calls": 0, "probe_seconds": 0.0}
    return {
        "probe_calls": last["probe_calls"],
        "probe_seconds": last["probe_seconds"],
        "judge_calls": sum(fate.cost.calls for fate in fates),
        "judge_seconds": sum((fate.cost.wall_seconds for fate in fates), 0.0),
    }
