"""How well scores separate true from false, and how honest they are as probabilities.

`truths` says of each example whether the proposition holds; `scores` are higher where it is thought
to hold. Verifiers are there to find what is *wrong*, so the measures of ranking that depend on the
class (`wrong_pr_auc`, `wrong_fpr_at_tpr`) take the wrong examples as the positive class, as
CodeCircuit and the step-level literature do. Examples with equal scores are never ordered by
accident: each function says what it does with ties, and none depends on the order of its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Booleans, Floats, Numbers, Truths, aligned, booleans, floats, probabilities
from draftproof.verdict import Outcome

BINS = 15
SMALLEST = 1e-15
"""Log loss reads probabilities at least this far from 0 and 1, so that one confident mistake costs 34.5 nats."""


def pr_auc(truths: Truths, scores: Numbers) -> float | None:
    """Average precision of the true class: Σ (recall gained) · (precision there), over distinct scores.

    No interpolation, which would flatter. None without a true example. A random ranking gets the base rate.
    """
    held, ranked = _pair(truths, scores)
    positives = int(held.sum())
    if not positives:
        return None
    true_found, found = _found_above(held, ranked)
    gained = np.diff(true_found, prepend=0.0)
    return float(np.sum(gained * true_found / found) / positives)


def wrong_pr_auc(truths: Truths, scores: Numbers) -> tuple[float | None, float]:
    """Average precision of finding what is *wrong* by low scores, and the share of wrong ones (its base rate)."""
    held, ranked = _pair(truths, scores)
    return pr_auc(~held, -ranked), float(np.mean(~held))


def roc_auc(truths: Truths, scores: Numbers) -> float | None:
    """P(a true example scores above a false one), equal scores counting one half. None where a class is empty."""
    held, ranked = _pair(truths, scores)
    positives, negatives = int(held.sum()), int((~held).sum())
    if not positives or not negatives:
        return None
    rank_sum = float(mid_ranks(ranked)[held].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def fpr_at_tpr(truths: Truths, scores: Numbers, tpr: float = 0.95) -> float | None:
    """The smallest false-positive rate of a threshold whose true-positive rate is at least `tpr`.

    Examples with equal scores pass a threshold together. None where a class is empty.
    """
    if not 0.0 < tpr <= 1.0:
        raise UsageError(f"A true-positive rate lies in (0, 1], got {tpr}.")
    held, ranked = _pair(truths, scores)
    positives, negatives = int(held.sum()), int((~held).sum())
    if not positives or not negatives:
        return None
    true_found, found = _found_above(held, ranked)
    enough = int(np.argmax(true_found >= math.ceil(tpr * positives - 1e-9)))
    return float(found[enough] - true_found[enough]) / negatives


def wrong_fpr_at_tpr(truths: Truths, scores: Numbers, tpr: float = 0.95) -> float | None:
    """Share of right examples that are suspected when low scores catch at least `tpr` of the wrong ones."""
    held, ranked = _pair(truths, scores)
    return fpr_at_tpr(~held, -ranked, tpr)


def brier(truths: Truths, scores: Numbers) -> float:
    """Mean squared distance of probabilities from what is true: 0 is best, 0.25 is always saying ½."""
    held, given = _probable(truths, scores)
    return float(np.mean((given - held) ** 2))


def log_loss(truths: Truths, scores: Numbers) -> float:
    """Mean −ln of the probability given to what is true, in nats; probabilities are kept `SMALLEST` from 0 and 1."""
    held, given = _probable(truths, scores)
    kept = np.clip(given, SMALLEST, 1 - SMALLEST)
    return float(-np.mean(np.where(held, np.log(kept), np.log1p(-kept))))


@dataclass(frozen=True)
class Bin:
    """Examples of similar score: what was promised and what came true."""

    count: int
    mean_score: float
    share_true: float


def reliability(truths: Truths, scores: Numbers, bins: int = BINS) -> list[Bin]:
    """At most `bins` bins of equal mass, by ascending score.

    An example belongs to the bin that the middle of its rank falls into, so that equal scores share
    one bin; with many of them, bins are fewer and unequal rather than cut by accident.
    """
    if bins < 1:
        raise UsageError(f"There must be a bin at least, got {bins}.")
    held, given = _probable(truths, scores)
    place = np.floor((mid_ranks(given) - 0.5) / len(given) * bins).astype(np.int64)
    return [
        Bin(int(chosen.sum()), float(given[chosen].mean()), float(held[chosen].mean()))
        for chosen in (place == index for index in np.unique(place))
    ]


def ece(truths: Truths, scores: Numbers, bins: int = BINS) -> float:
    """Expected calibration error: mean over examples of |mean score − share true| of their bin (equal mass)."""
    found = reliability(truths, scores, bins)
    return sum(each.count * abs(each.mean_score - each.share_true) for each in found) / sum(b.count for b in found)


@dataclass(frozen=True)
class DecisionRates:
    """What became of right and wrong subjects. A rate is None where its class is empty or wholly undecided."""

    tpr: float | None
    """P(accept | right)."""
    tnr: float | None
    """P(reject | wrong)."""
    balanced_accuracy: float | None
    """Mean of the two."""
    coverage: float
    """Share decided: neither abstained nor errored."""


def decision_rates(
    truths: Truths, outcomes: Sequence[Outcome], *, undecided: Literal["left_out", "half"] = "left_out"
) -> DecisionRates:
    """TPR, TNR, balanced accuracy and coverage of outcomes.

    `undecided` says what abstentions and errors do to the rates: they are left out of them (coverage
    tells how many), or count as half right, the convention of "Variation in Verification" (arXiv
    2509.17995), which compares verifiers that abstain differently. Neither convention takes them for accepts.
    """
    held = booleans(truths, "truths")
    aligned(("truths", held), ("outcomes", outcomes))
    named = [Outcome(outcome) for outcome in outcomes]
    decided = np.array([each in (Outcome.ACCEPT, Outcome.REJECT) for each in named])
    accepted = np.array([each is Outcome.ACCEPT for each in named])
    credit = np.where(decided, (accepted == held).astype(np.float64), 0.5)
    counted = decided if undecided == "left_out" else np.ones_like(decided)
    rates = [
        float(credit[chosen].mean()) if (chosen := counted & (held == side)).any() else None for side in (True, False)
    ]
    tpr, tnr = rates
    balanced = None if tpr is None or tnr is None else (tpr + tnr) / 2
    return DecisionRates(tpr, tnr, balanced, float(decided.mean()))


def risk_coverage(mistakes: Truths, confidences: Numbers) -> tuple[Floats, Floats]:
    """Coverage and risk when the k most confident of N decisions are kept, for k = 1 … N.

    `mistakes` says which decisions are wrong. Among equal confidences the risk is that of a random
    order, in expectation: no order of the input can make the curve better. Both arrays have shape [N].
    """
    wrong, confident = _pair(mistakes, confidences)
    order = np.argsort(-confident, kind="stable")
    values = -confident[order]
    _, block, sizes = np.unique(values, return_inverse=True, return_counts=True)
    share = np.bincount(block, weights=wrong[order].astype(np.float64)) / sizes
    kept: Floats = np.arange(1, len(values) + 1, dtype=np.float64)
    risk: Floats = np.cumsum(share[block]) / kept
    return kept / len(values), risk


def aurc(mistakes: Truths, confidences: Numbers) -> float:
    """Area under the risk-coverage curve: the mean of its N risks. Lower is better; always answering is its end."""
    return float(np.mean(risk_coverage(mistakes, confidences)[1]))


def mid_ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs. Shape [N]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def _found_above(held: Booleans, ranked: Floats) -> tuple[Floats, Floats]:
    """At each distinct score, from the highest: true examples at or above it, and all examples there."""
    distinct, inverse = np.unique(-ranked, return_inverse=True)
    trues: Floats = np.bincount(inverse[held], minlength=len(distinct)).astype(np.float64)
    sizes: Floats = np.bincount(inverse, minlength=len(distinct)).astype(np.float64)
    return trues.cumsum(), sizes.cumsum()


def _pair(truths: Truths, scores: Numbers) -> tuple[Booleans, Floats]:
    held, given = booleans(truths, "truths"), floats(scores, "scores")
    aligned(("truths", held), ("scores", given))
    return held, given


def _probable(truths: Truths, scores: Numbers) -> tuple[Booleans, Floats]:
    held, given = booleans(truths, "truths"), probabilities(scores, "scores")
    aligned(("truths", held), ("scores", given))
    return held, given
