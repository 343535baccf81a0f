"""What solve-detect-verify comes to: which attempt is the text, and what all of them cost. Pure functions, for replays
as well as for the graph itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from draftproof.pipelines.solve_state import SolveAttempt, SolveOutput, Spent, Stop
from draftproof.pipelines.step_output import text_of, with_trace
from draftproof.pipelines.step_state import Counts, Finish, Opening, Undecided, WrittenStep

_ENDED: tuple[Stop, ...] = ("end", "complete")


def kept_attempt(attempts: Sequence[SolveAttempt]) -> int:
    """Index of the attempt that is the text: the last that ended by itself, for a retry that ran out of room or went in
    circles is worse than the mistake that it was to mend. The last of all where none did, or where the solver failed.
    """
    last = len(attempts) - 1
    if attempts[last]["stop"] == "error":
        return last
    return max((number for number, each in enumerate(attempts) if each["stop"] in _ENDED), default=last)


def solve_output(
    opening: Opening,
    attempts: Sequence[SolveAttempt],
    dropped: Sequence[WrittenStep],
    spent: Spent,
    *,
    error: str,
    whole: bool,
    finish: Finish | None = None,
) -> SolveOutput:
    """The output that follows from the attempts, of which there is one at least.

    Args:
        dropped: Steps that were cut off whole, of all attempts.
        whole: Each attempt was written in one request.
        finish: Why the text ended, where its attempt does not tell: of a course that was cut off.
    """
    number = kept_attempt(attempts)
    kept = attempts[number]
    steps = kept["steps"]
    others = [step for i, each in enumerate(attempts) if i != number for step in each["steps"]]
    lost: Undecided = {"written": [*others, *dropped], "route": None}
    text = text_of(opening, steps, lost, finish=finish or finish_of(kept["stop"]), error=error)
    counts: Counts = {**text["counts"], "probe_calls": spent["probe_calls"], "judge_calls": spent["judge_calls"]}
    if whole:
        counts["target_calls"] = sum(bool(each["steps"]) for each in attempts)
    output: SolveOutput = {
        **text,
        "counts": counts,
        "seconds": {**text["seconds"], "probe": spent["probe_seconds"], "judge": spent["judge_seconds"]},
        "attempts": list(attempts),
        "kept": number,
        "outcome": kept["outcome"],
    }
    return with_trace(output)


def finish_of(stop: Stop) -> Finish:
    """A solution that was found complete, and cut, has ended."""
    return "end" if stop == "complete" else stop


def unchecked(steps: Sequence[WrittenStep], stop: Stop | None) -> SolveAttempt:
    """An attempt that nobody has said anything about."""
    return {
        "steps": list(steps),
        "text": "".join(step["text"] for step in steps),
        "stop": stop or "error",
        "outcome": "",
        "reason": "",
        "score": None,
        "first_error": None,
        "critique": "",
    }


def attempt_facts(attempt: SolveAttempt, spent: Spent, *, whole: bool) -> Mapping[str, Any]:
    """What the verdict about an attempt says of it beside the outcome, for whoever tells the course again."""
    steps = attempt["steps"]
    return {
        "stop": attempt["stop"],
        "reason": attempt["reason"],
        "first_error": attempt["first_error"],
        "critique": attempt["critique"],
        "steps": len(steps),
        "last_characters": len(steps[-1]["text"]) if steps else 0,
        "whole": whole,
        "probe_calls": spent["probe_calls"],
        "probe_seconds": spent["probe_seconds"],
    }
