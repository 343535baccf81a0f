"""Ask a fast verifier several times and a slow one only where it contradicts itself (FlexiVe, arXiv 2505.11966).

k draws of the fast verifier; the share of the most frequent reading is the agreement. At τ or above
that reading stands, below it the slow verifier decides. An unread draw (an abstention, an error)
counts against agreement and never as a vote. Every draw is logged under its sample index, the slow
verdict too. A fast verifier that is always sure and often wrong is never corrected: unanimity is not truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from draftproof.errors import ContractError, UsageError
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict, VotesEvidence
from draftproof.verifier import VerdictLog, Verifier, identity
from draftproof.verifiers.combining.parts import Kept, ask, by_subject, described, hold_alike, spent, told
from draftproof.verifiers.internals import PassesInternalsOn


@runtime_checkable
class Drawn(Protocol):
    """A verifier that says where its randomness comes from, so that its draws can be given again."""

    def drawn(self, sample: int) -> Verifier:
        """The same verifier, of the same identity, with the randomness of draw `sample`."""
        ...


@dataclass(frozen=True)
class AgreementGate(PassesInternalsOn):
    """Raises UsageError where `fast` and `slow` judge different things.

    A fast verifier with a method `drawn(sample)` is asked for each draw by its index; any other is
    asked k times and must be random by itself: draws of a deterministic one agree always.
    """

    fast: Verifier
    slow: Verifier
    k: int
    """Draws of the fast verifier; 0 asks the slow one always."""
    tau: float
    """Agreement, as a share of k, from which on the slow verifier is not asked; at least ½."""
    log: VerdictLog = field(repr=False, compare=False)
    name: str = "agreement-gate"
    version: int = 1
    guarantee: Guarantee = Guarantee.OPINION

    def __post_init__(self) -> None:
        hold_alike("An agreement gate", [self.fast, self.slow])
        if self.k < 0:
            raise UsageError(f"There cannot be {self.k} draws.")
        if not 0.5 <= self.tau <= 1.0:
            raise UsageError(f"Agreement is asked for from ½ to 1, got {self.tau}.", remedy="Below ½ two readings win.")

    @property
    def parts(self) -> Sequence[Verifier]:
        return (self.fast, self.slow)

    @property
    def granularity(self) -> Granularity:
        return self.fast.granularity

    @property
    def proposition(self) -> Proposition:
        return self.fast.proposition

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"fast": described(self.fast), "slow": described(self.slow), "k": self.k, "tau": self.tau}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        draws: Sequence[tuple[Verdict, ...]] = [()] * len(subjects)
        if self.k:
            draws = by_subject([self._draw(sample, subjects) for sample in range(self.k)])
        votes = [votes_of(drawn) for drawn in draws]
        doubtful = [i for i, vote in enumerate(votes) if vote.winner is None or vote.agreement < self.tau]
        asked = ask(self.slow, [subjects[i] for i in doubtful], self.log)
        slow = dict(zip(doubtful, asked, strict=True))
        return [
            self._verdict(subject, drawn, vote, slow.get(index), signature)
            for index, (subject, drawn, vote) in enumerate(zip(subjects, draws, votes, strict=True))
        ]

    def _draw(self, sample: int, subjects: Sequence[Subject]) -> list[Verdict]:
        """One draw about every subject, logged under its sample index."""
        fast = self.fast.drawn(sample) if isinstance(self.fast, Drawn) else self.fast
        if identity(fast) != identity(self.fast):
            raise ContractError(f"Draw {sample} of {identity(self.fast)} is by another verifier, {identity(fast)}.")
        kept = Kept()
        ask(fast, subjects, kept)
        verdicts = [verdict.model_copy(update={"sample": sample}) for verdict in kept.verdicts]
        self.log.add(verdicts)
        return verdicts

    def _verdict(
        self, subject: Subject, drawn: Sequence[Verdict], vote: VotesEvidence, slow: Verdict | None, signature: str
    ) -> Verdict:
        outcome: Outcome
        if slow is not None:
            outcome = Outcome.ABSTAIN if slow.outcome is Outcome.ERROR else slow.outcome
            reason, score, first_error = f"slow_{slow.outcome.value}", slow.score, first_error_of(slow)
        else:
            winner = next(verdict for verdict in drawn if reading(verdict) == vote.winner)
            outcome, reason, first_error = winner.outcome, "fast_agreement", first_error_of(winner)
            accepting = sum(verdict.outcome is Outcome.ACCEPT for verdict in drawn)
            score = (accepting + 1) / (len(drawn) + 2)
        raw: dict[str, Any] = {
            "k": self.k,
            "tau": self.tau,
            "fast": [told(verdict) for verdict in drawn],
            "slow": None if slow is None else told(slow),
        }
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            calibrated=slow is not None and slow.calibrated,
            guarantee=self.guarantee,
            reason=reason,
            evidence=(vote, *(slow.evidence if slow is not None else ())),
            cost=spent([*drawn, *([slow] if slow is not None else [])]),
            raw=raw if first_error is None else raw | {"first_error": first_error},
        )


def agreement_gate(fast: Verifier, slow: Verifier, k: int, tau: float, *, log: VerdictLog) -> AgreementGate:
    """`fast` k times, and `slow` where fewer than a share τ of the draws agree."""
    return AgreementGate(fast, slow, k, tau, log)


def reading(verdict: Verdict) -> str:
    """What a draw said, as a vote: its outcome, with the first error's index where it names one; empty if unread."""
    if verdict.outcome not in (Outcome.ACCEPT, Outcome.REJECT):
        return ""
    first = first_error_of(verdict)
    return verdict.outcome.value if first is None else f"{verdict.outcome.value}, first error {first}"


def first_error_of(verdict: Verdict) -> int | None:
    """Index of the first wrong step, where `raw` tells one."""
    first = verdict.raw.get("first_error")
    return first if isinstance(first, int) and not isinstance(first, bool) else None


def votes_of(draws: Sequence[Verdict]) -> VotesEvidence:
    """The vote. Two readings that share the first place leave it without a winner."""
    votes = tuple(map(reading, draws))
    counted = Counter(filter(None, votes)).most_common(2)
    tied = len(counted) == 2 and counted[0][1] == counted[1][1]
    if not counted or tied:
        share = counted[0][1] / len(votes) if counted else 0.0
        return VotesEvidence(votes=votes, winner=None, agreement=share)
    winner, count = counted[0]
    return VotesEvidence(votes=votes, winner=winner, agreement=count / len(votes))
