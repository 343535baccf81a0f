"""Check a solution within a flexible budget: fast draws, a slow verifier where they disagree, and the first error.

FlexiVe's rule (arXiv 2505.11966), by `draftproof.verifiers.combining.agreement`. Verifiers may judge steps or whole
solutions. Of steps, the first that is rejected is the first error, and a solution is accepted only when every step is.
Of whole solutions, the first error is what the verdict's `raw["first_error"]` says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from draftproof.errors import UsageError
from draftproof.pipelines.sampled_log import shifted
from draftproof.pipelines.second_attempt import critique_of
from draftproof.pipelines.solve_state import SolveState
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Outcome, Proposition, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity, run_verifier
from draftproof.verifiers.combining.agreement import AgreementGate, first_error_of

_RIGHTNESS = (Proposition.CORRECT, Proposition.LEADS_TO_ANSWER, Proposition.SUPPORTED)


@dataclass(frozen=True)
class Checked:
    """What a check came to."""

    outcome: Outcome
    reason: str
    score: float | None
    first_error: int | None
    """0-based, among all steps."""
    critique: str
    """What speaks against the solution; empty unless it was rejected."""
    calls: int
    """Subjects that were judged."""
    seconds: float


@dataclass(frozen=True)
class SolutionCheck:
    """Raises UsageError for verifiers that do not judge the same thing, or not whether it is right."""

    fast: Verifier
    slow: Verifier | None
    k: int
    tau: float
    log: VerdictLog = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        verifier = self.verifier(self.log)  # the gate holds its two to each other
        if verifier.granularity not in (Granularity.STEP, Granularity.TRACE):
            raise UsageError(f"A solution is checked by its steps or as a whole, not by {verifier.granularity.value}s.")
        if verifier.proposition not in _RIGHTNESS:
            raise UsageError(
                f"A solution is checked for being right, and {verifier.name} says whether it is "
                f"{verifier.proposition.value}."
            )

    def verifier(self, log: VerdictLog) -> Verifier:
        """The gate over `log`, or the fast verifier where there is no other."""
        return self.fast if self.slow is None else AgreementGate(self.fast, self.slow, self.k, self.tau, log)

    @property
    def identity(self) -> str:
        return identity(self.verifier(self.log))

    def __call__(self, state: SolveState, number: int) -> Checked:
        """Checks the attempt that has this number."""
        log = shifted(self.log, number * max(1, self.k))
        verifier = self.verifier(log)
        subjects = self._subjects(state)
        started = time.perf_counter()
        verdicts = run_verifier(verifier, subjects, log=log)
        seconds = time.perf_counter() - started
        settling = _settling(verdicts)
        outcome = settling.outcome if settling else Outcome.ABSTAIN
        first_error, critique = None, ""
        if settling is not None and outcome is Outcome.REJECT:
            by_step = verifier.granularity is Granularity.STEP
            first_error = settling.subject.position if by_step else first_error_of(settling)
            if first_error is not None and not 0 <= first_error < len(state["steps"]):
                first_error = None
            about = [verdict for verdict in log.seen if verdict.subject == settling.subject]
            parts = [verdict for verdict in about if verdict.verifier != settling.verifier]  # of a gate
            critique = critique_of(parts or about)
        scores = [verdict.score for verdict in verdicts]
        known = [score for score in scores if score is not None]
        return Checked(
            outcome=outcome,
            reason=settling.reason if settling else "nothing_to_check",
            score=min(known) if known and len(known) == len(scores) else None,
            first_error=first_error,
            critique=critique,
            calls=len(subjects),
            seconds=seconds,
        )

    def _subjects(self, state: SolveState) -> list[Subject]:
        texts = tuple(step["text"] for step in state["steps"])
        if self.fast.granularity is Granularity.TRACE:
            return [Subject(key=_key(state, Granularity.TRACE, 0), problem=state["problem"], text="".join(texts))]
        return [
            Subject(
                key=_key(state, Granularity.STEP, position),
                problem=state["problem"],
                text=texts[position],
                context=texts[:position],
            )
            for position, step in enumerate(state["steps"])
            if step["role"] != "pipeline"  # a tag that no model wrote claims nothing
        ]


def _settling(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that the whole solution's outcome is: the first rejection, else what kept it from being accepted."""
    for outcome in (Outcome.REJECT, Outcome.ERROR, Outcome.ABSTAIN, Outcome.ACCEPT):
        for verdict in verdicts:
            if verdict.outcome is outcome:
                return verdict
    return None


def _key(state: SolveState, granularity: Granularity, position: int) -> SubjectKey:
    return SubjectKey(trace_digest=state["opening"], granularity=granularity, position=position)
