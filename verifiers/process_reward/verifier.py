"""Judge steps by a process reward model: a trained model's opinion of each.

Accepts a step whose score is at the threshold or above it, rejects one below, and abstains from a step that has no text
or stands beyond the model's context. What the score is the probability of depends on the model: whether the step is
right, or (Math-Shepherd) whether it still leads to the right answer. All steps of a trace that come in one call share
one forward pass.

Scores are not portable: a threshold that suits one model is arbitrary for another. Calibrate it on labelled traces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from draftproof.subject import Granularity, Subject
from draftproof.verdict import Cost, ErrorEvidence, FeatureEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity
from draftproof.verifiers.process_reward.aggregation import check_probability
from draftproof.verifiers.process_reward.model import ProcessRewardModel, Question, StepScore, Unscored


@dataclass(frozen=True)
class ProcessRewardVerifier:
    """Guarantee *opinion*. Raises UsageError and ModelError for a folder that is no process reward model."""

    model: str
    """Folder of a checkpoint, or a hub id."""
    layout: str = "auto"
    """One of `Layout`; `auto` takes it from the checkpoint."""
    threshold: float = 0.5
    """Steps whose score reaches it are accepted."""
    separator: str | None = None
    """What stands behind each step, for layouts with a separator; None for what the model was made with."""
    device: str = "cpu"
    name: str = "process-reward"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    guarantee: Guarantee = Guarantee.OPINION

    def __post_init__(self) -> None:
        check_probability(self.threshold, "The threshold")
        _ = self.scorer  # a wrong folder is an error now, not a thousand errored verdicts

    @cached_property
    def scorer(self) -> ProcessRewardModel:
        return ProcessRewardModel(self.model, layout=self.layout, separator=self.separator, device=self.device)

    @property
    def proposition(self) -> Proposition:
        return self.scorer.layout.proposition

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "layout": self.layout,
            "threshold": self.threshold,
            "separator": self.separator,
            "device": self.device,
        }

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return self.scorer.fingerprint

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        questions, askers = _questions(subjects)
        verdicts: list[Verdict | None] = [None] * len(subjects)
        for asking, results in zip(askers, self.scorer.score(questions), strict=True):
            if len(results) != len(asking):
                results = [Unscored("wrong_score_count", failed=True)] * len(asking)
            charged = False
            for place, result in zip(asking, results, strict=True):
                cost = Cost()
                if isinstance(result, StepScore) and not charged:  # the pass that all of them share
                    cost, charged = Cost(calls=1, prompt_tokens=result.fed), True
                verdicts[place] = self._verdict(subjects[place], result, signature, cost)
        return [verdict for verdict in verdicts if verdict is not None]

    def _verdict(self, subject: Subject, result: StepScore | Unscored, signature: str, cost: Cost) -> Verdict:
        common: dict[str, Any] = {
            "subject": subject.key,
            "verifier": signature,
            "proposition": self.proposition,
            "guarantee": self.guarantee,
            "cost": cost,
        }
        if isinstance(result, Unscored):
            outcome = Outcome.ERROR if result.failed else Outcome.ABSTAIN
            evidence = (ErrorEvidence(type="ProcessRewardModel", message=result.reason),) if result.failed else ()
            return Verdict(outcome=outcome, reason=result.reason, evidence=evidence, **common)
        accepted = result.score >= self.threshold
        return Verdict(
            outcome=Outcome.ACCEPT if accepted else Outcome.REJECT,
            score=result.score,
            reason="threshold_reached" if accepted else "below_threshold",
            evidence=(FeatureEvidence(values={"score": result.score, "threshold": self.threshold}),),
            raw={
                "logits": list(result.logits),
                "threshold": self.threshold,
                "layout": self.scorer.layout.value,
                "token": result.token,
            },
            **common,
        )


def _questions(subjects: Sequence[Subject]) -> tuple[list[Question], list[list[int]]]:
    """One question for all subjects whose steps are the beginning of one text; and which subjects each is for.

    Subjects of one trace are recognised by what they say, not by their keys alone: a key is only a claim.
    """
    longest_first = sorted(range(len(subjects)), key=lambda place: -len(subjects[place].context))
    questions: list[tuple[str, tuple[str, ...]]] = []
    askers: list[list[int]] = []
    of_trace: dict[tuple[str, str], list[int]] = {}
    for place in longest_first:
        subject = subjects[place]
        steps = (*subject.context, subject.text)
        known = of_trace.setdefault((subject.key.trace_digest, subject.problem), [])
        for index in known:
            if questions[index][1][: len(steps)] == steps:
                askers[index].append(place)
                break
        else:
            known.append(len(questions))
            questions.append((subject.problem, steps))
            askers.append([place])
    for asking in askers:
        asking.sort(key=lambda place: len(subjects[place].context))
    return (
        [
            Question(problem, steps, tuple(len(subjects[place].context) for place in asking))
            for (problem, steps), asking in zip(questions, askers, strict=True)
        ],
        askers,
    )
