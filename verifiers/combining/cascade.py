"""Verifiers in turn, the cheapest first: each settles what it is sure of and hands the rest on.

A stage accepts at a score of at least `hi`, rejects at one of at most `lo`, and is silent between.
What no stage settles ends as an abstention. The verdict says which stage settled it and which were
never asked; each stage's own verdict is logged before it decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from draftproof.errors import UsageError
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity
from draftproof.verifiers.combining.parts import ask, described, hold_alike, spent, told
from draftproof.verifiers.internals import PassesInternalsOn


@dataclass(frozen=True)
class Thresholds:
    """When a stage is sure. None is a side that it never settles, as arithmetic never makes a step right."""

    lo: float | None
    hi: float | None

    def __post_init__(self) -> None:
        for side in (self.lo, self.hi):
            if side is not None and not 0.0 <= side <= 1.0:
                raise UsageError(f"A threshold is a probability, got {side}.")
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise UsageError(f"A stage rejects below where it accepts, got lo {self.lo} above hi {self.hi}.")

    def settles(self, score: float) -> Outcome | None:
        """Accept, reject, or None for handing on. With lo = hi everything is settled, equality by accepting."""
        if self.hi is not None and score >= self.hi:
            return Outcome.ACCEPT
        if self.lo is not None and score <= self.lo:
            return Outcome.REJECT
        return None


@dataclass(frozen=True)
class Stage:
    verifier: Verifier
    thresholds: Thresholds


@dataclass(frozen=True)
class Cascade(PassesInternalsOn):
    """Raises UsageError for stages that judge different things, and for verifiers that compare candidates.

    Those need the whole group in one call, and a cascade would hand on a part of it.
    """

    stages: tuple[Stage, ...]
    log: VerdictLog = field(repr=False, compare=False)
    name: str = "cascade"
    version: int = 1
    guarantee: Guarantee = Guarantee.OPINION

    def __post_init__(self) -> None:
        first = hold_alike("A cascade", [stage.verifier for stage in self.stages])
        if first.proposition is Proposition.BEST_OF_GROUP:
            raise UsageError("A cascade cannot choose among candidates: it would hand on a part of the group.")

    @property
    def parts(self) -> Sequence[Verifier]:
        return [stage.verifier for stage in self.stages]

    @property
    def granularity(self) -> Granularity:
        return self.stages[0].verifier.granularity

    @property
    def proposition(self) -> Proposition:
        return self.stages[0].verifier.proposition

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {
            "stages": [
                {"of": described(stage.verifier), "lo": stage.thresholds.lo, "hi": stage.thresholds.hi}
                for stage in self.stages
            ]
        }

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        said: list[list[Verdict]] = [[] for _ in subjects]
        settled: list[Outcome | None] = [None] * len(subjects)
        for stage in self.stages:
            open_ = [index for index, outcome in enumerate(settled) if outcome is None]
            if not open_:
                break
            for index, part in zip(open_, ask(stage.verifier, [subjects[i] for i in open_], self.log), strict=True):
                said[index].append(part)
                if part.score is not None and part.outcome in (Outcome.ACCEPT, Outcome.REJECT):
                    settled[index] = stage.thresholds.settles(part.score)
        return [self._verdict(parts, outcome, signature) for parts, outcome in zip(said, settled, strict=True)]

    def _verdict(self, parts: Sequence[Verdict], outcome: Outcome | None, signature: str) -> Verdict:
        last = parts[-1]
        return Verdict(
            subject=last.subject,
            verifier=signature,
            proposition=self.proposition,
            outcome=Outcome.ABSTAIN if outcome is None else outcome,
            score=last.score,
            calibrated=last.calibrated and last.score is not None,
            guarantee=self.guarantee,
            reason="no_stage_settled" if outcome is None else f"settled_by_stage_{len(parts)}",
            evidence=() if outcome is None else last.evidence,
            cost=spent(parts),
            raw={
                "settled_by": None if outcome is None else last.verifier,
                "stages": [told(part) for part in parts],
                "skipped": [identity(stage.verifier) for stage in self.stages[len(parts) :]],
            },
        )
