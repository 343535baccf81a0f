"""Recompute every equation and inequality that a step states, in exact rational arithmetic.

Accepts a step whose claims all hold, rejects one with a false claim, abstains when the step states
none or when one of them cannot be decided: prose and algebra are other verifiers' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from draftproof.claims.evaluate import BY_BOUNDS, DIVISION_BY_ZERO, Decision, decide
from draftproof.claims.extract import Extraction, Undecided, extract_claims
from draftproof.claims.hypotheses import plain_hypothesis
from draftproof.claims.plain import plain, plain_number
from draftproof.claims.reader import reader_digest
from draftproof.claims.tree import Claim
from draftproof.subject import Granularity, Subject
from draftproof.verdict import EquationEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity

MAX_EVIDENCE = 200
"""Claims of one step that are stored as evidence; all of them are checked."""

MAX_VALUE_CHARACTERS = 200


@dataclass(frozen=True)
class ArithmeticVerifier:
    """Guarantee *exact*: the values are computed without rounding, by the evaluator and nothing else."""

    name: str = "arithmetic"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.EXACT

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"claims": reader_digest()}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        return [self._verdict(subject, signature) for subject in subjects]

    def _verdict(self, subject: Subject, signature: str) -> Verdict:
        extraction = extract_claims(subject.text, subject.context, subject.problem)
        decisions = [(claim, decide(claim)) for claim in extraction.claims]
        outcome, reason = judge(decisions, extraction)
        evidence = [_evidence(claim, decision) for claim, decision in decisions]
        evidence.sort(key=lambda item: item.holds is not False)  # what was wrong comes first
        evidence += [_unread(item) for item in extraction.undecided]
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score={Outcome.ACCEPT: 1.0, Outcome.REJECT: 0.0}.get(outcome),
            guarantee=self.guarantee,
            reason=reason,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            raw={
                "claims": len(decisions),
                "false": sum(decision.holds is False for _, decision in decisions),
                "undecided": sum(decision.holds is None for _, decision in decisions) + len(extraction.undecided),
            },
        )


def judge(decisions: Sequence[tuple[Claim, Decision]], extraction: Extraction) -> tuple[Outcome, str]:
    """Outcome and reason of a step from what was decided about its claims."""
    false = [decision for _, decision in decisions if decision.holds is False]
    if false:
        return Outcome.REJECT, DIVISION_BY_ZERO if false[0].reason == DIVISION_BY_ZERO else "false_equation"
    if not decisions and not extraction.undecided:
        return Outcome.ABSTAIN, "no_claims"
    if extraction.undecided or any(decision.holds is None for _, decision in decisions):
        return Outcome.ABSTAIN, "undecided_claims"
    return Outcome.ACCEPT, "all_claims_hold"


def _evidence(claim: Claim, decision: Decision) -> EquationEvidence:
    return EquationEvidence(
        span=claim.span,
        text=claim.text,
        relation=claim.relation.value,
        left=plain(claim.left),
        right=plain(claim.right),
        left_value=_value(decision, left=True),
        right_value=_value(decision, left=False),
        tolerance=None if claim.tolerance is None else plain_number(claim.tolerance),
        hypotheses=tuple(map(plain_hypothesis, claim.hypotheses)),
        holds=decision.holds,
        reason=decision.reason,
    )


def _value(decision: Decision, *, left: bool) -> str | None:
    value = decision.left if left else decision.right
    if value is None:
        return "undefined" if decision.reason == DIVISION_BY_ZERO else None
    if decision.reason == BY_BOUNDS and value.denominator.bit_length() > 64:
        return f"≈ {float(value):.12g}"
    text = plain_number(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}… ({len(text)} characters)"


def _unread(item: Undecided) -> EquationEvidence:
    return EquationEvidence(
        span=item.span,
        text=item.text,
        relation="",
        left="",
        right="",
        left_value=None,
        right_value=None,
        holds=None,
        reason=item.reason,
    )
