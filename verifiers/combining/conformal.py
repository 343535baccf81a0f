"""Thresholds with a finite-sample bound: of wrong subjects at most α are accepted, of right ones at most α rejected.

Split conformal prediction, once for each class. From n *wrong* calibration subjects, accept only
above the k-th smallest of their scores, k = ⌈(n+1)(1−α)⌉: a new wrong subject's score is equally
likely to fall into any of the n+1 gaps, so P(accept | wrong) ≤ α, for any verifier and any
distribution of scores. If k > n, nothing is accepted: so few examples bound nothing.

The bound rests on exchangeability and on nothing else, hence:

* one subject per trace and class, drawn by a seed: steps of one trace are right or wrong together;
* a threshold of its own for each (verifier identity, generator), and silence about any other;
* it is a bound over draws of calibration set *and* subject. It does not say that a given set of
  thresholds errs at most α of the time; `precision` bounds the mistakes among what was accepted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Numbers, probabilities
from draftproof.verdict import FeatureEvidence, Guarantee, Outcome, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity
from draftproof.verifiers.combining.labelled import UNKNOWN_GENERATOR, Labelled
from draftproof.verifiers.combining.of_one import OfOne
from draftproof.verifiers.combining.parts import told
from draftproof.verifiers.combining.stored import FittedFor, Stored

SEED = 20_240_501

Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Example = TypeVar("Example")


def accept_above(wrong: Numbers, alpha: float) -> float | None:
    """The score above which to accept (strictly), from scores of wrong subjects; None accepts nothing."""
    scores = np.sort(probabilities(wrong, "scores"))
    k = _rank(len(scores), alpha)
    return None if k > len(scores) else float(scores[k - 1])


def reject_below(right: Numbers, alpha: float) -> float | None:
    """The score below which to reject (strictly), from scores of right subjects; None rejects nothing."""
    scores = np.sort(probabilities(right, "scores"))
    k = _rank(len(scores), alpha)
    return None if k > len(scores) else float(scores[len(scores) - k])


def _rank(n: int, alpha: float) -> int:
    """⌈(n+1)(1−α)⌉, in exact arithmetic on α as it is written: 0.1 means a tenth."""
    if not 0.0 < alpha < 1.0:
        raise UsageError(f"An error rate lies in (0, 1), got {alpha}.")
    return ceil((n + 1) * (1 - Fraction(repr(float(alpha)))))


def one_per_trace(examples: Sequence[Example], trace: Callable[[Example], str], seed: int = SEED) -> list[Example]:
    """One example of each trace, drawn by seed and trace alone; in the order of the traces' names."""
    members: dict[str, list[Example]] = {}
    for example in examples:
        members.setdefault(trace(example), []).append(example)
    return [
        random.Random(f"{seed}:{name}").choice(members[name])  # noqa: S311 - a sample, not a secret
        for name in sorted(members)
    ]


class Bounds(BaseModel):
    """Thresholds for the traces of one generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept_above: Score | None
    reject_below: Score | None
    wrong: Annotated[int, Field(ge=0)]
    """Wrong subjects, one per trace, that `accept_above` comes from."""
    right: Annotated[int, Field(ge=0)]

    def decide(self, score: float) -> tuple[Outcome, str]:
        """Outcome and reason. A score that both bounds would allow to settle is unlike either class: an abstention."""
        accepts = self.accept_above is not None and score > self.accept_above
        rejects = self.reject_below is not None and score < self.reject_below
        if accepts and rejects:
            return Outcome.ABSTAIN, "unlike_both_classes"
        if accepts:
            return Outcome.ACCEPT, "above_conformal_threshold"
        if rejects:
            return Outcome.REJECT, "below_conformal_threshold"
        return Outcome.ABSTAIN, "between_conformal_thresholds"


class ConformalThresholds(Stored):
    """Thresholds of one verifier at one level, for each generator. Stored as JSON."""

    format: Literal["draftproof-conformal"] = "draftproof-conformal"
    version: Literal[1] = 1
    verifier: FittedFor
    alpha_accept: Rate
    """Bound of P(accept | wrong)."""
    alpha_reject: Rate
    """Bound of P(reject | right)."""
    seed: int
    generators: Annotated[dict[str, Bounds], Field(min_length=1)]


def fit_conformal(
    verifier: Verifier,
    examples: Sequence[Labelled],
    *,
    alpha_accept: float = 0.05,
    alpha_reject: float | None = None,
    seed: int = SEED,
) -> ConformalThresholds:
    """Thresholds from labelled verdicts of `verifier`; `alpha_reject` is `alpha_accept` when None.

    Verdicts without a score are left out: the verifier, and so the combination, abstains from such
    subjects, which is no false accept. Raises UsageError for other verifiers' verdicts, and where
    no generator has labels enough for any threshold.
    """
    expected = identity(verifier)
    if strangers := {example.verdict.verifier for example in examples} - {expected}:
        raise UsageError(f"Verdicts of {', '.join(sorted(strangers))} give no thresholds for {expected}.")
    beta = alpha_accept if alpha_reject is None else alpha_reject
    scored = [example for example in examples if decisive_score(example.verdict) is not None]
    generators = {}
    for generator in sorted({example.generator for example in scored}):
        drawn = {
            truth: one_per_trace(
                [e for e in scored if e.generator == generator and e.truth is truth], lambda e: e.trace, seed
            )
            for truth in (True, False)
        }
        scores = {truth: [s for e in chosen if (s := e.verdict.score) is not None] for truth, chosen in drawn.items()}
        generators[generator] = Bounds(
            accept_above=accept_above(scores[False], alpha_accept),
            reject_below=reject_below(scores[True], beta),
            wrong=len(scores[False]),
            right=len(scores[True]),
        )
    least = ceil(1 / max(alpha_accept, beta)) - 1
    if all(bounds.accept_above is None and bounds.reject_below is None for bounds in generators.values()):
        raise UsageError(
            f"No generator has traces enough for a bound of {alpha_accept} or {beta}.",
            remedy=f"It takes {least} traces of one generator with a wrong subject, or with a right one.",
        )
    return ConformalThresholds(
        verifier=FittedFor.of(verifier),
        alpha_accept=alpha_accept,
        alpha_reject=beta,
        seed=seed,
        generators=generators,
    )


def decisive_score(verdict: Verdict) -> float | None:
    """The score of a verdict that decided; an estimate beside an abstention does not count."""
    return verdict.score if verdict.outcome in (Outcome.ACCEPT, Outcome.REJECT) else None


@dataclass(frozen=True)
class Conformal(OfOne):
    """`verifier` under conformal thresholds: accept, reject, or an abstention between them.

    About traces of a generator without thresholds it abstains always. Raises UsageError for
    thresholds of any other verifier or version.
    """

    verifier: Verifier
    thresholds: ConformalThresholds
    generator: str = UNKNOWN_GENERATOR
    file: str = ""
    log: VerdictLog | None = field(default=None, repr=False, compare=False)
    name: str = "conformal"
    version: int = 1
    guarantee: Guarantee = Guarantee.STATISTICAL

    def __post_init__(self) -> None:
        self.thresholds.verifier.hold(self.verifier, "The thresholds")

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._made_by

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"of": identity(self.verifier), "thresholds": self.thresholds.digest}

    def _verdict(self, part: Verdict, signature: str) -> Verdict:
        bounds = self.thresholds.generators.get(self.generator)
        score = decisive_score(part)
        outcome: Outcome
        if part.outcome in (Outcome.ERROR, Outcome.ABSTAIN):
            outcome, reason = part.outcome, part.reason
        elif bounds is None:
            outcome, reason = Outcome.ABSTAIN, "generator_not_in_calibration"
        elif score is None:
            outcome, reason = Outcome.ABSTAIN, "no_score"
        else:
            outcome, reason = bounds.decide(score)
        return Verdict(
            subject=part.subject,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            calibrated=part.calibrated and score is not None,
            # without thresholds there is no bound, and nothing statistical about saying nothing
            guarantee=Guarantee.OPINION if bounds is None else self.guarantee,
            reason=reason,
            evidence=(*part.evidence, self._evidence(bounds, score)) if bounds and score is not None else part.evidence,
            cost=part.cost,
            raw={"of": told(part), "generator": self.generator, "thresholds": self.thresholds.digest},
        )

    def _evidence(self, bounds: Bounds, score: float) -> FeatureEvidence:
        """The numbers that the decision and its bound come from."""
        values = {
            "score": score,
            "accept_above": bounds.accept_above,
            "reject_below": bounds.reject_below,
            "alpha_accept": self.thresholds.alpha_accept,
            "alpha_reject": self.thresholds.alpha_reject,
            "wrong": float(bounds.wrong),
            "right": float(bounds.right),
        }
        return FeatureEvidence(values={name: value for name, value in values.items() if value is not None})


def conformal(file: str, generator: str = UNKNOWN_GENERATOR) -> Conformal:
    """The verifier that the thresholds in `file` were fitted for, under them. The file says which one that is."""
    thresholds = ConformalThresholds.load(file)
    return Conformal(thresholds.verifier.make(f"The thresholds {file}"), thresholds, generator, file)
