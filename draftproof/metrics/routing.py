"""What routing between a draft and a target model saved, and what it cost in accuracy.

A step is *accepted* when the draft model's text is kept, else *escalated*: the target writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Floats, Numbers, Truths, aligned, booleans, floats
from draftproof.metrics.classification import mid_ranks


def acceptance_rate(accepted: Truths) -> float:
    """Share of steps whose draft was kept."""
    kept = booleans(accepted, "accepted")
    aligned(("steps", kept))
    return float(kept.mean())


def deferral_rate(accepted: Truths) -> float:
    """Share of steps that the target wrote."""
    return 1.0 - acceptance_rate(accepted)


@dataclass(frozen=True)
class TokensByWriter:
    draft_kept: int
    draft_discarded: int
    """Drafted, then rejected: paid for and not in the answer."""
    target: int
    """All that the target wrote, kept or not."""


def tokens_by_writer(roles: Sequence[str], tokens: Sequence[int], kept: Truths) -> TokensByWriter:
    """Sums over pieces of text, as `StepEvidence` tells them. Roles are `draft` and `target`."""
    stays, counts = booleans(kept, "kept"), floats(tokens, "tokens")
    aligned(("roles", roles), ("tokens", counts), ("kept", stays))
    if strange := set(roles) - {"draft", "target"}:
        raise UsageError(f"Pieces are written by draft or target, got {', '.join(sorted(strange))}.")
    if (counts < 0).any() or (counts != np.floor(counts)).any():
        raise UsageError("Tokens are counted in whole numbers from 0.")
    drafted = np.array([role == "draft" for role in roles])
    return TokensByWriter(
        draft_kept=int(counts[drafted & stays].sum()),
        draft_discarded=int(counts[drafted & ~stays].sum()),
        target=int(counts[~drafted].sum()),
    )


def wasted_escalation_rate(escalated: Truths, target_better: Truths) -> float | None:
    """P(target not better | escalated); None when nothing was escalated. An equal target is not better."""
    sent, better = booleans(escalated, "escalated"), booleans(target_better, "target_better")
    aligned(("escalated", sent), ("target_better", better))
    return float(np.mean(~better[sent])) if sent.any() else None


def spearman(first: Numbers, second: Numbers) -> float | None:
    """Rank correlation, equal values sharing the mean of their ranks; None where one side is constant."""
    left, right = floats(first, "first"), floats(second, "second")
    aligned(("first", left), ("second", right))
    a, b = mid_ranks(left) - (len(left) + 1) / 2, mid_ranks(right) - (len(right) + 1) / 2
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip((a @ b) / norm, -1.0, 1.0)) if norm else None


def gap_closed(accuracy: float, draft: float, oracle: float) -> float | None:
    """(accuracy − draft) / (oracle − draft): 0 is the draft alone, 1 the oracle. Below 0 where routing does harm.

    None where the oracle is no better than the draft: there is no gap to close.
    """
    floats([accuracy, draft, oracle], "accuracies")
    return (accuracy - draft) / (oracle - draft) if oracle > draft else None


def flops(parameters: int, tokens: int) -> int:
    """2 · parameters · tokens: one multiplication and addition a weight and token, forward only.

    An estimate: attention over the context and the vocabulary's share of small models are not in it.
    """
    if parameters < 0 or tokens < 0:
        raise UsageError(f"Parameters and tokens are counted from 0, got {parameters} and {tokens}.")
    return 2 * parameters * tokens


@dataclass(frozen=True)
class FrontierPoint:
    """One setting of a routed pipeline, measured."""

    name: str
    """Which: draft-only, target-only, rsd at 0.7, oracle …"""
    acceptance: float
    accuracy: float
    latency_seconds: float
    """Mean wall-clock time a problem."""
    target_tokens: float
    """Mean tokens that the target wrote, a problem."""

    def __post_init__(self) -> None:
        floats([self.acceptance, self.accuracy, self.latency_seconds, self.target_tokens], f"point {self.name!r}")


def frontier(
    points: Sequence[FrontierPoint], cost: Literal["latency_seconds", "target_tokens"] = "target_tokens"
) -> list[FrontierPoint]:
    """The points that no other beats: none is at least as accurate and as cheap, and better in one. By cost."""

    def beats(one: FrontierPoint, other: FrontierPoint) -> bool:
        pair, against = (one.accuracy, -getattr(one, cost)), (other.accuracy, -getattr(other, cost))
        return pair != against and pair[0] >= against[0] and pair[1] >= against[1]

    kept = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(kept, key=lambda point: (getattr(point, cost), point.accuracy, point.name))


@dataclass(frozen=True)
class AreaBetween:
    area: float
    """∫ (first − second) over acceptance rates from `low` to `high`; in accuracy × acceptance."""
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean lead of the first curve, in accuracy."""
        return self.area / (self.high - self.low)


def area_between(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> AreaBetween | None:
    """Signed area between two curves of (acceptance, accuracy), on the range of acceptance that both cover.

    Curves are linear between measured points and nothing is extrapolated; several points of one
    acceptance rate are averaged. Exact for such curves. None where the ranges share less than an interval.
    """
    (x_a, y_a), (x_b, y_b) = _curve(first, "first"), _curve(second, "second")
    low, high = max(x_a[0], x_b[0]), min(x_a[-1], x_b[-1])
    if low >= high:
        return None
    inner = np.union1d(x_a, x_b)
    x = np.concatenate([[low], inner[(inner > low) & (inner < high)], [high]])
    lead = np.interp(x, x_a, y_a) - np.interp(x, x_b, y_b)
    return AreaBetween(float(np.sum(np.diff(x) * (lead[1:] + lead[:-1]) / 2)), float(low), float(high))


def _curve(points: Sequence[tuple[float, float]], what: str) -> tuple[Floats, Floats]:
    if not points:
        raise UsageError(f"The {what} curve has no points.")
    x, y = floats([p[0] for p in points], f"{what} acceptance"), floats([p[1] for p in points], f"{what} accuracy")
    distinct, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return distinct, np.bincount(inverse, weights=y) / counts
