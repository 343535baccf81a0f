"""What solve-detect-verify carries beside the state of a step-level graph: its attempts."""

from __future__ import annotations

from typing import Literal, TypedDict

from draftproof.pipelines.step_state import Finish, Phase, StepOutput, WrittenStep

Stop = Literal[Finish, "complete"]
"""Why an attempt's writing ended; `complete`: it was found finished, and cut."""


class SolveAttempt(TypedDict):
    """One solution, and what the check said of it."""

    steps: list[WrittenStep]
    text: str
    stop: Stop
    outcome: str
    """accept, reject, abstain, error; empty where it was never checked."""
    reason: str
    """Of the check: which verdict settled it."""
    score: float | None
    first_error: int | None
    """0-based index of the first wrong step, where the check names one."""
    critique: str
    """What the next attempt is told."""


class Spent(TypedDict):
    """What detecting and checking took."""

    probe_calls: int
    judge_calls: int
    probe_seconds: float
    judge_seconds: float


class SolveOutput(StepOutput):
    """One attempt as the text, and all of them."""

    attempts: list[SolveAttempt]
    kept: int
    """Index of the attempt that is the text: the last that ended by itself, or the last where none did."""
    outcome: str
    """What the check said of that attempt; empty where it was never checked. Only `accept` is a solution that was found
    right."""


class SolveState(SolveOutput):
    """What the graph carries from node to node."""

    phase: Phase
    stop: Stop | None
    """Why to stop writing this attempt, as soon as that is known."""
    dropped: list[WrittenStep]
    """Steps that were written and cut off whole, of all attempts."""
    spent: Spent
