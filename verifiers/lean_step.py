"""Prove or refute, with the Lean 4 kernel, every claim that a step states.

Accepts a step whose claims are all proved, rejects one with a refuted claim, abstains when there is
nothing to prove or when something could not be stated or settled. The exact evaluator has no part in the
answer: it only says which theorem to try first, and a contradiction between the two is raised as the bug
that it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from draftproof.claims.evaluate import Decision, decide
from draftproof.claims.extract import Extraction, Undecided, extract_claims
from draftproof.claims.hypotheses import plain_hypothesis
from draftproof.claims.plain import plain_claim, plain_number
from draftproof.claims.reader import reader_digest
from draftproof.claims.tree import Claim
from draftproof.errors import DisagreementError
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import CheckResult, LeanClaim, Limits, ProofEnvironment, Status
from draftproof.provers.statement import Statement, Unformalised, formalise
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, LeanEvidence, Outcome, Proposition, Verdict
from draftproof.verifier import identity

ClaimStatus = Literal["proved", "refuted", "unknown", "unformalised", "vacuous", "error"]

MAX_EVIDENCE = 200
"""Claims of one step that are stored as evidence; all of them are checked."""


@dataclass(frozen=True)
class LeanVerifier:
    """Guarantee *proof*: a verdict rests on theorems that the kernel checked, without any axiom.

    The kernel's process starts with the first check. It is one: a batch runs a verifier on every processor
    already. Hand over an `environment` to have more of them, or none of the proof cache.
    """

    seconds: float = 10.0
    """Wall clock for one claim; a claim that needs longer stays open."""
    environment: ProofEnvironment | None = field(default=None, repr=False, compare=False)
    """Where claims are checked; None for the embedded kernel."""
    extract: Callable[[str, tuple[str, ...], str], Extraction] = field(
        default=extract_claims, repr=False, compare=False
    )
    name: str = "lean"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.PROOF

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"seconds": self.seconds}

    @cached_property
    def fingerprint(self) -> Mapping[str, Any]:
        facts = {
            "toolchain": self._environment.toolchain,
            "prelude": self._environment.prelude_digest,
            "claims": reader_digest(),
        }
        if self.extract is not extract_claims:  # what is read decides what is judged
            facts["extract"] = f"{self.extract.__module__}.{self.extract.__qualname__}"
        return facts

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        """All claims of all subjects go to the kernel in one call."""
        signature = identity(self)
        extractions = [self.extract(subject.text, subject.context, subject.problem) for subject in subjects]
        attempts = [[_attempt(claim) for claim in extraction.claims] for extraction in extractions]
        stated = [a.lean_claim for step in attempts for a in step if a.lean_claim is not None]
        results = iter(self._environment.check(stated, Limits(seconds=self.seconds)))
        return [
            self._verdict(
                subject,
                signature,
                [self._finding(a, None if a.lean_claim is None else next(results)) for a in step],
                extraction.undecided,
            )
            for subject, step, extraction in zip(subjects, attempts, extractions, strict=True)
        ]

    def close(self) -> None:
        """End the kernel's processes; a later check starts them again."""
        self._environment.close()

    @cached_property
    def _environment(self) -> ProofEnvironment:
        return self.environment or EmbeddedEnvironment(workers=1)

    def _finding(self, attempt: _Attempt, result: CheckResult | None) -> _Finding:
        claim = attempt.claim
        if result is not None:
            _agree(claim, attempt.decision, result)
        status: ClaimStatus = "unformalised" if result is None else _STATUS[result.status]
        evidence = LeanEvidence(
            span=claim.span,
            text=claim.text,
            status=status,
            statement=attempt.statement.text if attempt.statement else None,
            proof=result.proof if result else None,
            axioms=result.axioms if result else None,
            toolchain=self._environment.toolchain if result else None,
            prelude_digest=self._environment.prelude_digest if result else None,
            hypotheses=tuple(map(plain_hypothesis, claim.hypotheses)),
            tolerance=None if claim.tolerance is None else plain_number(claim.tolerance),
            message=attempt.reason or (result.reason if result else ""),
            cached=bool(result and result.cached),
        )
        return _Finding(status, evidence.message, evidence)

    def _verdict(
        self, subject: Subject, signature: str, findings: list[_Finding], undecided: Sequence[Undecided]
    ) -> Verdict:
        findings = [*findings, *map(_unread, undecided)]
        outcome, reason = judge([(finding.status, finding.reason) for finding in findings])
        evidence = [finding.evidence for finding in findings]
        evidence.sort(key=lambda item: item.status != "refuted")  # what was wrong comes first
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score={Outcome.ACCEPT: 1.0, Outcome.REJECT: 0.0}.get(outcome),
            guarantee=self.guarantee,
            reason=reason,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            raw={"claims": len(findings)}
            | {status: sum(f.status == status for f in findings) for status in ("proved", "refuted")},
        )


_STATUS: Mapping[Status, ClaimStatus] = {
    Status.PROVED: "proved",
    Status.REFUTED: "refuted",
    Status.VACUOUS: "vacuous",
    Status.UNKNOWN: "unknown",
    Status.ERROR: "error",
}


@dataclass(frozen=True)
class _Attempt:
    """A claim on its way to the kernel, or the reason why it does not get there."""

    claim: Claim
    decision: Decision
    statement: Statement | None
    reason: str = ""

    @property
    def lean_claim(self) -> LeanClaim | None:
        return None if self.statement is None else LeanClaim(self.statement, expected=self.decision.holds)


@dataclass(frozen=True)
class _Finding:
    status: str
    reason: str
    evidence: LeanEvidence


_LIMITS = frozenset(["timeout", "out_of_memory", "recursion_too_deep", "interrupted", "kernel_crashed"])
"""Reasons that speak of this machine and this moment: another try may settle the claim."""


def judge(findings: Sequence[tuple[str, str]]) -> tuple[Outcome, str]:
    """Outcome and reason of a step from status and reason of each of its claims."""
    statuses = {status for status, _ in findings}
    if "refuted" in statuses:
        first = next(reason for status, reason in findings if status == "refuted")
        return Outcome.REJECT, first or "claim_refuted"
    failed = [reason for status, reason in findings if status == "error" or reason in _LIMITS]
    if failed:
        return Outcome.ERROR, failed[0] or "error"
    if statuses == {"proved"}:
        return Outcome.ACCEPT, "all_claims_proved"
    if not statuses:
        return Outcome.ABSTAIN, "no_claims"
    if "vacuous" in statuses:
        return Outcome.ABSTAIN, "vacuous_hypotheses"
    return Outcome.ABSTAIN, "unknown" if "unknown" in statuses else "unformalised"


def _attempt(claim: Claim) -> _Attempt:
    decision = decide(claim)
    try:
        return _Attempt(claim, decision, formalise(claim))
    except Unformalised as refusal:
        return _Attempt(claim, decision, None, refusal.reason)


def _agree(claim: Claim, decision: Decision, result: CheckResult) -> None:
    """Two exact procedures must not contradict each other."""
    kernel = {Status.PROVED: True, Status.REFUTED: False}.get(result.status)
    contradicted = kernel is not None and decision.holds is not None and decision.holds is not kernel
    if contradicted or (result.status is Status.VACUOUS and decision.holds is not None):
        raise DisagreementError(
            f"the exact evaluator finds {plain_claim(claim)!r} {decision.holds}, the Lean kernel {result.status.value}"
        )


def _unread(item: Undecided) -> _Finding:
    evidence = LeanEvidence(span=item.span, text=item.text, status="unformalised", message=item.reason)
    return _Finding("unformalised", item.reason, evidence)
