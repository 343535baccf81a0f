"""Ask a verifier about candidates for a step, and take no score for granted.

Every verdict is in the log before its score is looked at. A verifier that abstains, fails, or gives no score leaves the
candidate without one, and whoever decides has to treat that as a reason to ask the target model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.errors import UsageError
from draftproof.language_model import StopCause
from draftproof.pipelines.sampled_log import SampledLog
from draftproof.pipelines.step_features import StepSubject
from draftproof.pipelines.step_state import ModelRole, StepState, WrittenStep, WrittenText
from draftproof.subject import Granularity, SubjectKey
from draftproof.verdict import Outcome, Proposition, Verdict
from draftproof.verifier import VerdictLog, Verifier, abstention, run_verifier

SAMPLES: dict[ModelRole, int] = {"draft": 0, "target": 1}
"""Sample of the verdict about each role's candidate: both are about one position."""

CUT = "cut_at_limit"
"""Reason of a verdict about part of a step."""
_CUTTING = (StopCause.LENGTH, StopCause.CONTEXT)


@dataclass(frozen=True)
class Judgement:
    """What a verifier said of the candidates of one step."""

    verdicts: dict[ModelRole, Verdict]
    calls: int
    """Candidates that the verifier was asked about."""
    seconds: float

    def score(self, role: ModelRole) -> float | None:
        """None where there is none to rely on."""
        return score_of(self.verdicts[role])

    def why_not(self, role: ModelRole) -> str:
        """Why there is no score."""
        verdict = self.verdicts[role]
        return {Outcome.ABSTAIN: "abstained", Outcome.ERROR: "failed"}.get(verdict.outcome, "gave_no_score")


@dataclass(frozen=True)
class Judge:
    """A verifier of steps, for one pair of models."""

    verifier: Verifier
    pair: tuple[str, str]
    log: VerdictLog

    def judge(self, state: StepState, roles: Sequence[ModelRole]) -> Judgement:
        """One call of the verifier about the candidates of `roles`.

        It is not asked about part of a step, of which it might say what is not true of the whole: about one that was
        cut off at a limit, or that goes on from one that was, it abstains.
        """
        steps = state["steps"]
        key = SubjectKey(trace_digest=state["opening"], granularity=Granularity.STEP, position=len(steps))
        context, writers = tuple(step["text"] for step in steps), tuple(step["role"] for step in steps)
        subjects = {
            role: StepSubject(
                key=key,
                problem=state["problem"],
                text=state["candidates"][role]["text"],
                context=context,
                features=state["candidates"][role]["features"],
                writers=writers,
                pair=self.pair,
            )
            for role in roles
        }
        asked = [role for role in roles if is_whole(state["candidates"][role], steps)]
        cut = [role for role in roles if role not in asked]
        started = time.perf_counter()
        told = run_verifier(self.verifier, [subjects[role] for role in asked], log=self._log_of(asked))
        silent = [abstention(self.verifier, subjects[role], reason=CUT) for role in cut]
        self._log_of(cut).add(silent)
        verdicts = dict(zip([*asked, *cut], [*told, *silent], strict=True))
        return Judgement(verdicts, len(asked), time.perf_counter() - started)

    def _log_of(self, roles: Sequence[ModelRole]) -> VerdictLog:
        return SampledLog(self.log, lambda place, _own: SAMPLES[roles[place]])


def is_whole(text: WrittenText, steps: Sequence[WrittenStep]) -> bool:
    """Whether a text behind `steps` is a step, not a part of one that a limit cut in two."""
    return text["cause"] not in _CUTTING and not (steps and steps[-1]["cause"] in _CUTTING)


def score_of(verdict: Verdict) -> float | None:
    """The score of a verdict that settles something."""
    return verdict.score if verdict.outcome in (Outcome.ACCEPT, Outcome.REJECT) else None


def require_step_verifier(verifier: Verifier, propositions: Sequence[Proposition], purpose: str) -> None:
    """Raises UsageError for a verifier that judges other things than steps, or by another question."""
    if verifier.granularity is not Granularity.STEP:
        raise UsageError(f"{purpose} judges steps, and {verifier.name} judges a {verifier.granularity.value}.")
    if verifier.proposition not in propositions:
        wanted = " or ".join(proposition.value for proposition in propositions)
        raise UsageError(
            f"{purpose} compares how probable it is that a step is {wanted}, and {verifier.name} scores"
            f" {verifier.proposition.value}."
        )
