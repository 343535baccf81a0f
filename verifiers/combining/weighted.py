"""A weighted sum of evidence: logit P = b + Σ wᵢ · (logit pᵢ − logit π), over the verifiers that have a score.

π is the share of right subjects: a verifier that says π has said nothing. Weights are fitted on
labelled verdicts by L2-penalised logistic regression; with all weights 1 and b = logit π this is
naive Bayes, which takes correlated judges for independent ones and is over-confident.

Verifiers that prove or compute (guarantee proof or exact) are not in the sum: they have vetoes. A
rejection by one of them rejects, whatever the others feel. An acceptance decides only where it is a
proof: that a step's arithmetic is right does not make the step right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Truths, booleans
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity
from draftproof.verifiers.combining.logistic import fit, logit, sigmoid
from draftproof.verifiers.combining.parts import HARD, ask, by_subject, described, hold_alike, spent, told
from draftproof.verifiers.combining.stored import Stored
from draftproof.verifiers.internals import PassesInternalsOn

EPSILON = 1e-3
"""How far from 0 and 1 a soft verifier's score is read: its certainty is worth 6.9 nats and no more."""
LEAST_OF_A_CLASS = 10

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Weights(Stored):
    """How much each verifier's word counts. Stored as JSON, bound to the verifiers' identities."""

    format: Literal["draftproof-weights"] = "draftproof-weights"
    version: Literal[1] = 1
    weights: Annotated[dict[str, Finite], Field(min_length=1)]
    """By verifier identity."""
    intercept: Finite
    """b, in nats."""
    base_rate: Annotated[float, Field(gt=0.0, lt=1.0)]
    """π."""
    epsilon: Annotated[float, Field(gt=0.0, lt=0.5)] = EPSILON
    fitted_on: Annotated[int, Field(ge=0)] = 0
    """Labelled subjects; 0 for weights that were set and not fitted."""

    @model_validator(mode="after")
    def _leaves_room(self) -> Weights:
        if not self.epsilon <= self.base_rate <= 1.0 - self.epsilon:
            raise ValueError("the base rate lies within [epsilon, 1 - epsilon]")
        return self

    def probability(self, scores: Mapping[str, float]) -> float | None:
        """P from the scores that there are, by identity; None without any."""
        if strange := sorted(set(scores) - set(self.weights)):
            raise UsageError(f"There is no weight for {', '.join(strange)}.", remedy="Fit the weights again.")
        if not scores:
            return None
        names = sorted(scores)
        evidence = logit(np.array([scores[name] for name in names]), self.epsilon) - self._prior
        total = self.intercept + float(np.array([self.weights[name] for name in names]) @ evidence)
        return float(sigmoid(np.array([total]))[0])

    @property
    def _prior(self) -> float:
        return float(logit(np.array([self.base_rate]), self.epsilon)[0])


def naive_bayes(verifiers: Sequence[Verifier], base_rate: float) -> Weights:
    """Weights of 1: right if the verifiers' mistakes are independent, given the truth."""
    soft = _soft(verifiers)
    prior = float(np.log(base_rate) - np.log1p(-base_rate)) if 0.0 < base_rate < 1.0 else 0.0
    return Weights(weights={identity(v): 1.0 for v in soft}, intercept=prior, base_rate=base_rate)


def fit_weights(
    scores: Mapping[str, Sequence[float | None] | NDArray[Any]],
    truths: Truths,
    *,
    l2: float = 1.0,
    epsilon: float = EPSILON,
) -> Weights:
    """Weights and intercept of least log loss + ½·l2·Σ w².

    Args:
        scores: By verifier identity, a score for each labelled subject; None where the verifier abstained.
        truths: Whether the proposition holds of it.
        l2: Draws the weights towards 0, where a verifier is not heard. The intercept is free.

    Raises UsageError for scores outside [0, 1], for fewer than ten right or wrong subjects, and for a
    verifier without a score.
    """
    held = booleans(truths, "truths")
    if min(int(held.sum()), int((~held).sum())) < LEAST_OF_A_CLASS:
        raise UsageError(
            f"There are {int(held.sum())} right and {int((~held).sum())} wrong subjects.",
            remedy=f"Weights are fitted on {LEAST_OF_A_CLASS} of each and more.",
        )
    if not scores or not l2 > 0.0:
        raise UsageError(f"Weights need a verifier's scores and an l2 above 0, got {len(scores)} and {l2}.")
    base_rate = float(np.clip(held.mean(), epsilon, 1.0 - epsilon))
    prior = float(logit(np.array([base_rate]), epsilon)[0])
    names = sorted(scores)
    columns = [_evidence(name, scores[name], len(held), epsilon, prior) for name in names]
    design = np.column_stack([*columns, np.ones(len(held))])
    penalty = np.array([l2] * len(names) + [0.0])
    *weights, intercept = fit(design, held.astype(np.float64), l2=penalty, centre=np.zeros(len(penalty))).tolist()
    return Weights(
        weights=dict(zip(names, weights, strict=True)),
        intercept=intercept,
        base_rate=base_rate,
        epsilon=epsilon,
        fitted_on=len(held),
    )


def _evidence(
    name: str, scores: Sequence[float | None] | NDArray[Any], length: int, epsilon: float, prior: float
) -> NDArray[np.float64]:
    """logit p − logit π of one verifier; 0 where it abstained, which is what saying nothing means."""
    if len(scores) != length:
        raise UsageError(f"{name} has {len(scores)} scores for {length} labels.")
    spoke = np.array([score is not None for score in scores])
    if not spoke.any():
        raise UsageError(f"{name} has no score at all: there is no weight to find.")
    given = np.array([0.5 if score is None else score for score in scores], dtype=np.float64)
    if not ((given >= 0.0) & (given <= 1.0)).all():  # NaN is neither
        raise UsageError(f"{name} has scores that are no probabilities.", remedy="Give None where it abstained.")
    return np.where(spoke, logit(given, epsilon) - prior, 0.0)


@dataclass(frozen=True)
class Weighted(PassesInternalsOn):
    """The verifiers under `weights`, with the vetoes of those that prove or compute.

    Raises UsageError when the verifiers judge different things, and when `weights` were made for others.
    """

    verifiers: tuple[Verifier, ...]
    weights: Weights
    log: VerdictLog = field(repr=False, compare=False)
    """Gets every part's own verdict before anything is decided by it."""
    threshold: float = 0.5
    name: str = "weighted"
    version: int = 1
    guarantee: Guarantee = Guarantee.OPINION

    def __post_init__(self) -> None:
        hold_alike("A weighted combination", self.verifiers)
        soft = {identity(verifier) for verifier in _soft(self.verifiers)}
        if soft != set(self.weights.weights):
            raise UsageError(
                f"The weights are for {', '.join(sorted(self.weights.weights))}, the verifiers with scores to weigh "
                f"are {', '.join(sorted(soft)) or 'none'}.",
                remedy="Fit weights for these verifiers.",
            )
        if not 0.0 <= self.threshold <= 1.0:
            raise UsageError(f"A threshold is a probability, got {self.threshold}.")

    @property
    def parts(self) -> Sequence[Verifier]:
        return self.verifiers

    @property
    def granularity(self) -> Granularity:
        return self.verifiers[0].granularity

    @property
    def proposition(self) -> Proposition:
        return self.verifiers[0].proposition

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"of": [described(verifier) for verifier in self.verifiers], "threshold": self.threshold}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"weights": self.weights.digest}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        parts = by_subject([ask(verifier, subjects, self.log) for verifier in self.verifiers])
        return [self._verdict(said, signature) for said in parts]

    def _verdict(self, parts: Sequence[Verdict], signature: str) -> Verdict:
        outcome, reason, score = self._decided(parts)
        return Verdict(
            subject=parts[0].subject,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            calibrated=reason.endswith("threshold") and self.weights.fitted_on > 0,
            guarantee=self.guarantee,
            reason=reason,
            cost=spent(parts),
            raw={"parts": [told(part) for part in parts], "weights": dict(self.weights.weights)},
        )

    def _decided(self, parts: Sequence[Verdict]) -> tuple[Outcome, str, float | None]:
        hard = [part for part, verifier in zip(parts, self.verifiers, strict=True) if verifier.guarantee in HARD]
        if any(part.outcome is Outcome.REJECT for part in hard):
            return Outcome.REJECT, "vetoed", 0.0
        if any(part.outcome is Outcome.ACCEPT and part.guarantee is Guarantee.PROOF for part in hard):
            return Outcome.ACCEPT, "proved", 1.0
        spoke = {
            part.verifier: part.score
            for part, verifier in zip(parts, self.verifiers, strict=True)
            if verifier.guarantee not in HARD and part.outcome in (Outcome.ACCEPT, Outcome.REJECT)
            if part.score is not None
        }
        probability = self.weights.probability(spoke)
        if probability is None:
            return Outcome.ABSTAIN, "no_scores", None
        if probability >= self.threshold:
            return Outcome.ACCEPT, "at_or_above_threshold", probability
        return Outcome.REJECT, "below_threshold", probability


def _soft(verifiers: Sequence[Verifier]) -> list[Verifier]:
    return [verifier for verifier in verifiers if verifier.guarantee not in HARD]
