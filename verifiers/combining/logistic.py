"""Logistic regression with an L2 penalty, by Newton's method: the fit behind Platt scaling, weights of verifiers and
logistic routers.

Nothing is standardised here: scores are on one scale already, log-odds, where a weight of 1 means "as it says" and the
penalty may draw towards that as well as towards 0; routers standardise their features before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draftproof.errors import NumericalError, UsageError

Floats = NDArray[np.float64]

MOST_STEPS = 200


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^−x) without overflow."""
    small = np.exp(-np.abs(logits))
    found: Floats = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return found


def logit(scores: Floats, epsilon: float) -> Floats:
    """ln(p / (1 − p)) of probabilities kept within [ε, 1 − ε]: certainty would outweigh everything else."""
    if not 0.0 < epsilon < 0.5:
        raise UsageError(f"Probabilities are kept ε from 0 and 1 with ε in (0, ½), got {epsilon}.")
    kept = np.clip(scores, epsilon, 1.0 - epsilon)
    found: Floats = np.log(kept) - np.log1p(-kept)
    return found


def fit(design: Floats, targets: Floats, *, l2: Floats, centre: Floats, weights: Floats | None = None) -> Floats:
    """The coefficients β that minimise Σ weights · log-loss(targets, σ(design β)) + ½ Σ l2·(β − centre)².

    Args:
        design: [N, D]; a column of ones is the intercept.
        targets: [N] in [0, 1]; they may be soft.
        l2: [D], 0 leaves a coefficient free.
        centre: [D].
        weights: [N], above 0: how much each row counts; None counts each once.

    Newton's method with halved steps on a convex objective. Perfectly separable classes have no minimum
    without a penalty: β is then merely large, so callers smooth their targets or set `l2`. Raises
    NumericalError where the method does not arrive.
    """
    beta = centre.astype(np.float64).copy()
    counts = np.ones(len(targets)) if weights is None else weights
    with np.errstate(all="ignore"):
        current = _objective(design, targets, counts, l2, centre, beta)
        for _ in range(MOST_STEPS):
            mean = sigmoid(design @ beta)
            gradient = design.T @ (counts * (mean - targets)) + l2 * (beta - centre)
            if np.abs(gradient).max() < 1e-9 * max(1.0, float(counts.sum())):
                return beta
            # far out, where every row is certain, a free coefficient has no curvature left of its own
            curvature = (design * (counts * mean * (1.0 - mean))[:, None]).T @ design + np.diag(l2 + 1e-12)
            try:
                step = np.linalg.solve(curvature, gradient)
            except np.linalg.LinAlgError:
                break
            size = 1.0
            while not (moved := _objective(design, targets, counts, l2, centre, beta - size * step)) <= current:
                size /= 2
                if size < 1e-10:
                    break
            if size < 1e-10:
                break
            beta, current = beta - size * step, moved
    raise NumericalError(
        "The logistic regression found no solution for these labels.",
        remedy="Give more labels or a stronger l2, and look for values of enormous size.",
    )


def _objective(design: Floats, targets: Floats, counts: Floats, l2: Floats, centre: Floats, beta: Floats) -> float:
    logits = design @ beta
    return float(counts @ (np.logaddexp(0.0, logits) - targets * logits) + 0.5 * np.sum(l2 * (beta - centre) ** 2))
