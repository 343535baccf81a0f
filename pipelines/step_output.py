"""What every pipeline that writes step by step comes to: pure functions, for replays as well as for the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from draftproof.pipelines.step_audit import finished_trace
from draftproof.pipelines.step_counts import counts_of, seconds_of
from draftproof.pipelines.step_state import Finish, Opening, StepOutput, Undecided, WrittenStep

_Output = TypeVar("_Output", bound=StepOutput)


def output_of(
    opening: Opening, steps: Sequence[WrittenStep], undecided: Undecided | None, *, finish: Finish, error: str
) -> StepOutput:
    """What follows from an opening and the steps that were written."""
    output = text_of(opening, steps, undecided, finish=finish, error=error)
    output["undecided"] = undecided
    return with_trace(output)


def text_of(
    opening: Opening, steps: Sequence[WrittenStep], lost: Undecided | None, *, finish: Finish, error: str
) -> StepOutput:
    """The same before it has a trace; `lost` is counted, and not told as undecided."""
    return {
        "problem": opening["problem"],
        "id": opening["id"],
        "reference_answer": opening["reference_answer"],
        "attempt": opening["attempt"],
        "pipeline": opening["pipeline"],
        "verifier": opening["verifier"],
        "proposition": opening["proposition"],
        "opening": opening["opening"],
        "steps": list(steps),
        "undecided": None,
        "text": "".join(step["text"] for step in steps),
        "answer": "".join(step["text"] for step in steps if step["phase"] == "answer"),
        "finish": finish,
        "error": error,
        "trace": "",
        "counts": counts_of(steps, lost),
        "seconds": seconds_of(steps, lost),
    }


def with_trace(output: _Output) -> _Output:
    """Complete, with the digest of its trace, which depends on its text and its counts."""
    output["trace"] = finished_trace(output).digest
    return output
