"""What best-of-N comes to: pure functions, for replays as well as for the graph itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from draftproof.metrics.selection import majority, pass_at_k
from draftproof.pipelines.answers import final_answer, normal_answer
from draftproof.pipelines.candidate_state import BestOfNOutput, Candidate
from draftproof.pipelines.step_output import text_of, with_trace
from draftproof.pipelines.step_state import Finish, Opening, Undecided
from draftproof.pipelines.whole_texts import WholeText

SELECTION = "selection@2#"
"""Signs the verdicts about which candidate is the best."""


class Chosen(NamedTuple):
    """Who won, as the output tells it."""

    winner: int | None
    by: str
    reason: str


NOBODY = Chosen(None, "", "no_candidates")
"""Where there was nothing to choose from."""


def best_of_output(
    opening: Opening,
    candidates: Sequence[Candidate],
    chosen: Chosen,
    *,
    finish: Finish,
    error: str,
    judge_calls: int,
    judge_seconds: float,
) -> BestOfNOutput:
    """The output that follows from the candidates. `finish` says why there are none; else it is the winner's."""
    taken = chosen.winner or 0
    steps = candidates[taken]["steps"] if candidates else []
    others = [step for i, each in enumerate(candidates) if i != taken for step in each["steps"]]
    lost: Undecided = {"written": list(others), "route": None}
    text = text_of(opening, steps, lost, finish=candidates[taken]["finish"] if candidates else finish, error=error)
    output: BestOfNOutput = {
        **text,
        "counts": {**text["counts"], "target_calls": len(candidates), "judge_calls": judge_calls},
        "seconds": {**text["seconds"], "judge": judge_seconds},
        "candidates": list(candidates),
        "winner": chosen.winner,
        "by": chosen.by,
        "reason": chosen.reason,
        **measured(candidates),  # type: ignore[typeddict-item]  # its three keys
    }
    return with_trace(output)


def comparable(candidates: Sequence[Candidate]) -> list[float | None]:
    """The scores that a choice is made by: where any candidate ended by itself, only of such. A text that was cut off
    before its mistake must not win over one that was finished."""
    ended = any(each["finish"] == "end" for each in candidates)
    return [each["score"] if each["finish"] == "end" or not ended else None for each in candidates]


def measured(candidates: Sequence[Candidate]) -> dict[str, float | None]:
    """pass@1, majority and pass@N of one problem; all None without a reference answer."""
    right = [each["right"] for each in candidates if each["right"] is not None]
    if not right or len(right) < len(candidates):
        return {"pass_at_1": None, "majority": None, "pass_at_n": None}
    return {
        "pass_at_1": sum(right) / len(right),
        "majority": majority([each["answer"] for each in candidates], right),
        "pass_at_n": pass_at_k(len(right), sum(right), len(right)),
    }


def candidate_of(text: WholeText, reference: str | None) -> Candidate:
    """A candidate that nobody has scored; `reference` is the reference answer, in any form."""
    written = "".join(step["text"] for step in text.steps)
    answering = "".join(step["text"] for step in text.steps if step["phase"] == "answer")
    answer = final_answer(answering or written) if text.finish == "end" else None
    return {
        "steps": text.steps,
        "text": written,
        "finish": text.finish,
        "answer": answer,
        "score": None,
        "step_scores": [],
        "right": None if reference is None else answer == normal_answer(reference),
    }
