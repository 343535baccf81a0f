"""The Arbitrage router: would the target write this step better than the draft model did?

arXiv 2512.05033, Algorithm 1: after each step of the draft model, one cheap look decides whether the target writes it
anew. The score is the probability of the proposition `target_better`, and the outcome says whether that is held to be
so, as with every proposition: **accept means escalate**, above the threshold; reject means that the draft's step is as
good, and may stay. Accept says nothing against the step: the target would likely write one that the scorer of the
training rows likes better, no more. A pipeline that sweeps thresholds compares scores with its own, and keeps at
equality like this one.

Nothing unknown is ever judged: another pair of models, a feature that the backend did not tell, a
text too long to be read are abstentions, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from draftproof.errors import UsageError
from draftproof.language_model import Ability
from draftproof.subject import Granularity, Subject
from draftproof.verdict import FeatureEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity
from draftproof.verifiers.routers.rows import Pair
from draftproof.verifiers.routers.stored import RouterFile, load_router

_FROM_LOGPROBS = frozenset(["mean_logprob", "min_logprob", "first_entropy", "mean_entropy", "min_margin"])
"""Features that a draft model without log-probabilities never has."""


@runtime_checkable
class RoutedStep(Protocol):
    """What a pipeline's subjects have beside a subject's own fields. Read by its form: pipelines are above us."""

    @property
    def features(self) -> Mapping[str, float]: ...
    @property
    def writers(self) -> Sequence[str]: ...
    @property
    def pair(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class RouterVerifier:
    """A fitted router. `file` is what `draftproof train router` wrote."""

    file: str
    threshold: float = 0.5
    """Largest probability at which the draft's step is kept; equality keeps."""
    name: str = "router"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.TARGET_BETTER
    guarantee: Guarantee = Guarantee.OPINION

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, (int, float)) or not 0.0 <= self.threshold <= 1.0:
            raise UsageError(f"The threshold of a router is a probability, not {self.threshold!r}.")
        _ = self.router  # an unreadable file is found now, not at the first step

    @cached_property
    def router(self) -> RouterFile:
        return load_router(Path(self.file))

    @property
    def pair(self) -> Pair:
        """Identities of the draft model and the target that it was fitted for."""
        return self.router.pair

    @property
    def needs(self) -> frozenset[Ability]:
        """What the draft model must be able to tell for its features to be there."""
        return frozenset([Ability.LOGPROBS]) if _FROM_LOGPROBS & set(self.router.features) else frozenset()

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"file": self.file, "threshold": self.threshold}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"router": self.router.digest}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        return [self._verdict(subject, signature) for subject in subjects]

    def _verdict(self, subject: Subject, signature: str) -> Verdict:
        score, reason, values = self._looked_at(subject)
        if score is None:
            outcome = Outcome.ABSTAIN
        else:
            keeps = score <= self.threshold
            outcome = Outcome.REJECT if keeps else Outcome.ACCEPT
            reason = "advantage_unlikely" if keeps else "advantage_likely"
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            guarantee=self.guarantee,
            reason=reason,
            evidence=(FeatureEvidence(values=values),) if values else (),
            raw={"threshold": self.threshold, "base_rate": self.router.base_rate},
        )

    def _looked_at(self, subject: Subject) -> tuple[float | None, str, dict[str, float]]:
        """Score, why there is none, and the features that were read."""
        if not isinstance(subject, RoutedStep):
            return None, "missing_features", {}
        if not self.pair.is_of(subject.pair):
            return None, "unknown_pair", {}
        router = self.router
        read = {name: subject.features.get(name) for name in router.features}
        values = {name: float(value) for name, value in read.items() if value is not None and math.isfinite(value)}
        if len(values) < len(read) or not _is_told(subject.writers, subject.context):
            return None, "missing_features", values
        try:
            score = router.probability(subject.problem, subject.context, subject.writers, subject.text, values)
        except (ValueError, OverflowError):  # sums of numbers so large that there is none
            return None, "no_finite_score", values
        if score is None:
            return None, "too_long", values
        return (None, "no_finite_score", values) if math.isnan(score) else (score, "", values)


def _is_told(writers: Sequence[str], context: Sequence[str]) -> bool:
    return len(writers) == len(context) and set(writers) <= {"draft", "target", "pipeline"}
