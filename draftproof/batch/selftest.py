"""Steps whose truth is known: does a verifier that judges arithmetic judge them as it should?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.subject import Granularity, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import Verifier, run_verifier

OF_ARITHMETIC = ("arithmetic", "lean")
"""Verifiers that judge any step's arithmetic and need nothing else to be named."""
KNOWN = (
    ("She has 48 / 2 = 24 eggs left.", Outcome.ACCEPT),
    ("She has 48 / 2 = 25 eggs left.", Outcome.REJECT),
    ("16 - 3 - 4 = <<16-3-4=9>>9 eggs", Outcome.ACCEPT),
    ("So 5 - 7 = 0.", Outcome.REJECT),
    ("7 / 2 = 3", Outcome.REJECT),
    (r"\[ \frac{3}{4} + \frac{1}{4} = 1 \]", Outcome.ACCEPT),
    ("0.1 + 0.2 = 0.3", Outcome.ACCEPT),
    (r"10 / 3 \approx 3.33", Outcome.ACCEPT),
    ("5 / 0 = 0", Outcome.REJECT),
    ("3 * 4 > 10", Outcome.ACCEPT),
    ("The total is more than she had.", Outcome.ABSTAIN),
    ("x + 3 = 7", Outcome.ABSTAIN),
    ("9^9^9^9 = 1", Outcome.ABSTAIN),
)
"""Texts of steps, with what a sound checker of arithmetic must say of them."""


@dataclass(frozen=True)
class Case:
    text: str
    expected: Outcome
    outcome: Outcome
    reason: str

    @property
    def passed(self) -> bool:
        return self.outcome is self.expected


class _Log:
    """Verdicts of a self-test are looked at and dropped: they are about no user's trace."""

    def add(self, verdicts: Sequence[Verdict]) -> None:
        pass


def run_selftest(verifier: Verifier) -> list[Case]:
    """Judge the known steps. Empty for a verifier that does not prove or compute what steps state."""
    judges_arithmetic = (
        verifier.granularity is Granularity.STEP
        and verifier.proposition is Proposition.CORRECT
        and verifier.guarantee in (Guarantee.PROOF, Guarantee.EXACT)
    )
    if not judges_arithmetic:
        return []
    subjects = [
        subject
        for text, _ in KNOWN
        for subject in step_subjects(Trace(id="selftest", problem="", steps=(Step(text=text),)))
    ]
    verdicts = run_verifier(verifier, subjects, log=_Log())
    return [
        Case(text, expected, verdict.outcome, verdict.reason)
        for (text, expected), verdict in zip(KNOWN, verdicts, strict=True)
    ]
