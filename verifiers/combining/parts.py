"""What every combination of verifiers needs of its parts: that they judge the same thing, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from draftproof.errors import UsageError
from draftproof.subject import Subject
from draftproof.verdict import Cost, Guarantee, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity, run_verifier

HARD = (Guarantee.PROOF, Guarantee.EXACT)
"""Verifiers that prove or compute: no soft score overrules their rejections."""


class Kept:
    """A verdict log that keeps what it is given, for a combination that tells of its part by itself."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts.extend(verdicts)


def hold_alike(what: str, verifiers: Sequence[Verifier]) -> Verifier:
    """The first of `verifiers`, all of which judge one proposition of one kind of subject.

    Raises UsageError otherwise: a probability that the target model would do better says nothing
    about whether a step is right, and an average of the two says nothing about anything.
    """
    if not verifiers:
        raise UsageError(f"{what} needs a verifier.")
    first = verifiers[0]
    for other in verifiers[1:]:
        for fact in ("proposition", "granularity"):
            mine, theirs = getattr(first, fact), getattr(other, fact)
            if mine is not theirs:
                raise UsageError(
                    f"{what}: {first.name} judges {mine.value!r} and {other.name} judges {theirs.value!r}.",
                    remedy=f"Combine verifiers of one {fact} only.",
                )
    names = [identity(verifier) for verifier in verifiers]
    if len(set(names)) < len(names):
        raise UsageError(f"{what} holds one verifier twice: its opinion would count double.")
    return first


def ask(verifier: Verifier, subjects: Sequence[Subject], log: VerdictLog | None) -> list[Verdict]:
    """What `verifier` says, logged before anyone decides by it; never raises because of a subject."""
    return run_verifier(verifier, subjects, log=Kept() if log is None else log)


def described(verifier: Verifier) -> dict[str, Any]:
    """Name and arguments of a part, which re-create it, and the identity that they must lead to."""
    return {"name": verifier.name, "arguments": dict(verifier.arguments), "identity": identity(verifier)}


def told(verdict: Verdict) -> dict[str, Any]:
    """What a part said, in short, for `raw`."""
    return {
        "verifier": verdict.verifier,
        "sample": verdict.sample,
        "outcome": verdict.outcome.value,
        "score": verdict.score,
        "reason": verdict.reason,
        "guarantee": verdict.guarantee.value,
    }


def spent(verdicts: Sequence[Verdict]) -> Cost:
    """What several verdicts about one subject cost together."""
    return Cost(
        wall_seconds=sum(verdict.cost.wall_seconds for verdict in verdicts),
        calls=sum(verdict.cost.calls for verdict in verdicts),
        prompt_tokens=sum(verdict.cost.prompt_tokens for verdict in verdicts),
        output_tokens=sum(verdict.cost.output_tokens for verdict in verdicts),
    )


def by_subject(verdicts: Sequence[Sequence[Verdict]]) -> list[tuple[Verdict, ...]]:
    """Verdicts given verifier by verifier, turned: for each subject what each verifier said."""
    return list(zip(*verdicts, strict=True))
