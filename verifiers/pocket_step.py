"""Steps of pocket problems, checked against the plan that the problem's own text gives.

Says what no general verifier can: not only whether a step's calculation comes out right, but whether it is the one that
was to be done next. It is the truth that the pocket models' routers, heads and reward models are measured by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from draftproof.drafting.pocket.reading import read_problem
from draftproof.drafting.pocket.truth import fault_of
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity


@dataclass(frozen=True)
class PocketStepVerifier:
    """Guarantee *exact*: accepts the right step, rejects any other, and abstains on what is no pocket problem."""

    name: str = "pocket-step"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.EXACT

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        return [self._verdict(subject, signature) for subject in subjects]

    def _verdict(self, subject: Subject, signature: str) -> Verdict:
        problem = read_problem(subject.problem)
        if problem is None:
            outcome, score, reason = Outcome.ABSTAIN, None, "no_pocket_problem"
        else:
            earlier = [text for text in subject.context if text.strip()]
            fault = fault_of(problem, earlier, subject.text)
            outcome, score = (Outcome.ACCEPT, 1.0) if fault is None else (Outcome.REJECT, 0.0)
            reason = "as_planned" if fault is None else fault.value
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            calibrated=score is not None,
            guarantee=self.guarantee,
            reason=reason,
        )
