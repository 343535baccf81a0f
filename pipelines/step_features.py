"""Cheap facts about a draft's step, for routers that decide by them, and the rows that routers are fitted to.

They come from the completion itself and from who wrote what so far: no model is asked. What a backend does not tell is
absent, never 0. A name keeps its meaning for ever; another meaning gets another name, because fitted routers are stored
with the names they read.

Verifiers may not import pipelines. A router reads the attributes of `StepSubject` off the subject it is handed, and
abstains where they are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, isfinite
from typing import Any

from draftproof.language_model import Completion
from draftproof.pipelines.step_state import StepOutput, WrittenStep, WrittenText
from draftproof.subject import Subject

FEATURES = (
    "mean_logprob",
    "min_logprob",
    "first_entropy",
    "mean_entropy",
    "min_margin",
    "tokens",
    "position",
    "escalated_share",
)
"""Log-probabilities and entropies in nats at temperature 1, of the step's tokens; margins between the two largest
logits; tokens of the step; 0-based index of the step; share of the earlier steps that the target wrote."""


class StepSubject(Subject):
    """A step that somebody wrote while a pipeline runs, with what is known of how it was written."""

    features: dict[str, float]
    writers: tuple[str, ...]
    """Role of who wrote each step of `context`."""
    pair: tuple[str, str]
    """Identities of the draft and of the target model."""


def step_features(completion: Completion, earlier: Sequence[WrittenStep]) -> dict[str, float]:
    """The features of what `completion` says, as the step behind `earlier`. Finite numbers only."""
    found: dict[str, float] = {"tokens": float(completion.tokens), "position": float(len(earlier))}
    if completion.logprobs:
        found["mean_logprob"] = _mean(completion.logprobs)
        found["min_logprob"] = min(completion.logprobs)
    if completion.entropies:
        found["first_entropy"] = completion.entropies[0]
        found["mean_entropy"] = _mean(completion.entropies)
    if completion.margins:
        found["min_margin"] = min(completion.margins)
    by_models = [step["role"] for step in earlier if step["role"] != "pipeline"]
    found["escalated_share"] = by_models.count("target") / len(by_models) if by_models else 0.0
    return {name: float(found[name]) for name in FEATURES if name in found and isfinite(found[name])}


def collected_rows(output: StepOutput) -> list[dict[str, Any]]:
    """What a router learns from: one row for each step of `output` that both models wrote and a scorer scored.

    Steps that the scorer had no score for are left out. Rows of one problem depend on each other: split by problem.
    """
    rows = []
    for position, step in enumerate(output["steps"]):
        pair = _both(step)
        if pair is None:
            continue
        draft, target = pair
        draft_score, target_score = draft["score"], target["score"]
        if draft_score is None or target_score is None:
            continue
        earlier = output["steps"][:position]
        rows.append(
            {
                "id": output["id"],
                "problem": output["problem"],
                "opening": output["opening"],
                "position": position,
                "context": [other["text"] for other in earlier],
                "writers": [other["role"] for other in earlier],
                "draft": draft["text"],
                "target": target["text"],
                "draft_score": draft_score,
                "target_score": target_score,
                "advantage": target_score - draft_score,
                "features": dict(draft["features"]),
                "pair": [draft["model"], target["model"]],
                "scorer": output["verifier"],
                "proposition": output["proposition"],
            }
        )
    return rows


def _both(step: WrittenStep) -> tuple[WrittenText, WrittenText] | None:
    """What the draft and the target wrote for a step."""
    other = step["discarded"]
    if other is None:
        return None
    return (step, other) if step["role"] == "draft" else (other, step)


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)
