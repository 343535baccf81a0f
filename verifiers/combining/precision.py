"""A threshold such that, of what it accepts, at most a share ε is wrong: with confidence 1 − δ.

Conformal thresholds bound P(accept | wrong); a reader of accepted steps asks for P(wrong | accept).
Thresholds are walked from strict to lax, each tested by the Clopper-Pearson upper bound on the error
rate of the calibration subjects that it accepts; the walk stops at the first that fails, which keeps
the chance of any wrong choice at δ without a correction for how many were tried (fixed-sequence
testing). That needs a grid fixed beforehand, not the scores themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, lgamma, log, log1p

import numpy as np

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Numbers, Truths, aligned, booleans, probabilities

GRID = tuple(step / 100 for step in range(100, -1, -1))


def clopper_pearson_upper(errors: int, accepted: int, delta: float) -> float:
    """The largest error rate p under which so few errors have a chance of δ: P(X ≤ errors; accepted, p) = δ.

    One-sided. Found by bisection of the binomial tail, which falls as p grows; 1 when all are errors.
    """
    if not 0 <= errors <= accepted or not 0.0 < delta < 1.0:
        raise UsageError(f"A bound needs errors among the accepted and δ in (0, 1), got {errors}, {accepted}, {delta}.")
    if errors == accepted:
        return 1.0
    low, high = errors / accepted, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _at_most(errors, accepted, middle) > delta else (low, middle)
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """P(X ≤ k) of a binomial, each term from logarithms; 0 < p < 1."""
    if p <= 0.0:
        return 1.0
    first = lgamma(n + 1)
    terms = (
        exp(first - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log1p(-p)) if p < 1.0 else 0.0
        for i in range(k + 1)
    )
    return min(1.0, sum(terms))


@dataclass(frozen=True)
class Precision:
    """The laxest threshold that passed, and what it rests on."""

    accept_at: float
    """Accept at a score of at least this."""
    accepted: int
    errors: int
    upper: float
    """Upper bound of the error rate among what is accepted."""


def precision_threshold(
    truths: Truths,
    scores: Numbers,
    *,
    epsilon: float,
    delta: float = 0.05,
    grid: Sequence[float] = GRID,
) -> Precision | None:
    """The last threshold of the walk whose upper bound is at most ε; None where the first tested one fails.

    Thresholds that accept too few subjects to pass even without an error (fewer than ln δ / ln(1−ε))
    cannot be tested and are passed over: how many a threshold accepts says nothing of their truth.
    One subject a trace, as for `conformal`: choose them with `one_per_trace`.
    """
    held, given = booleans(truths, "truths"), probabilities(scores, "scores")
    aligned(("truths", held), ("scores", given))
    if not 0.0 < epsilon < 1.0 or not 0.0 < delta < 1.0:
        raise UsageError(f"ε and δ lie in (0, 1), got {epsilon} and {delta}.")
    if not grid or any(b >= a for a, b in pairwise(grid)):
        raise UsageError("The thresholds to walk fall from strict to lax.")
    least = ceil(log(delta) / log1p(-epsilon) - 1e-9)
    best = None
    for threshold in grid:
        chosen = given >= threshold
        accepted, errors = int(chosen.sum()), int(np.sum(chosen & ~held))
        if accepted < least:
            continue
        upper = clopper_pearson_upper(errors, accepted, delta)
        if upper > epsilon:
            break
        best = Precision(threshold, accepted, errors, upper)
    return best
