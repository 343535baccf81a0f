"""What best-of-N carries beside the state of a step-level graph: its candidates, and who won."""

from __future__ import annotations

from typing import TypedDict

from draftproof.pipelines.step_state import Finish, StepOutput, WrittenStep


class Candidate(TypedDict):
    """One of the solutions."""

    steps: list[WrittenStep]
    text: str
    finish: Finish
    answer: str | None
    """Normal form of the answer that it states; None where it states none, or was cut off."""
    score: float | None
    """None where the verifier has none for it, or there is no verifier."""
    step_scores: list[float | None]
    """Of each step, where steps are judged."""
    right: bool | None
    """Whether it states the reference answer; None where there is none."""


class BestOfNOutput(StepOutput):
    """The winner as the text, and all candidates."""

    candidates: list[Candidate]
    winner: int | None
    """Index of the candidate that was chosen; None where none could be, and the text is the first candidate's."""
    by: str
    """What decided: vote, score, weighted-vote. Not always what was asked for; `reason` says why."""
    reason: str
    pass_at_1: float | None
    """Share of right candidates. None, as the two below, without a reference answer."""
    majority: float | None
    """Whether the majority is right; between 0 and 1 where right and wrong answers share the first place."""
    pass_at_n: float | None
    """Whether a candidate is right."""


class BestOfNState(BestOfNOutput):
    """What the graph carries from node to node."""

    judge_calls: int
    judge_seconds: float
