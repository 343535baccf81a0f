"""Models, verifiers and logs that say what a test wants, and count what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from draftproof.errors import ContextLengthError
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored, StopCause
from draftproof.pipelines.step_features import StepSubject
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity

SEPARATOR = "\n\n"


@dataclass
class ScriptedModel:
    """Says its plan, one character a token, and then ends. Behind somebody else's steps it goes on with the plan at the
    same step."""

    plan: Sequence[str]
    name: str = "scripted"
    context_length: int = 100_000
    entropies: Sequence[float] = ()
    """Of the first token of each step; 0 behind the last."""
    fails_at: int | None = None
    """Which call of `generate` raises, from 0."""
    probe_fails: bool = False
    abilities: frozenset[Ability] = frozenset(Ability)
    answer: Callable[[Completion], Completion] = lambda completion: completion
    """Changes what is said last."""
    top: tuple[tuple[str, float], ...] = (("S", 0.75), ("T", 0.25))
    requests: list[Request] = field(default_factory=list)
    probes: list[Context] = field(default_factory=list)
    tops: list[int] = field(default_factory=list)
    deterministic: bool = True

    @property
    def identity(self) -> str:
        return f"{self.name}#{self.name}-weights"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self.answer(self._one(request)) for request in requests]

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        self.probes += contexts
        self.tops.append(top)
        if self.probe_fails:
            raise ConnectionError("no probe today")
        return [FirstToken(self._entropy(len(context.written)), top, self.top, 5, 0, 0.25) for context in contexts]

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        raise NotImplementedError

    def _entropy(self, position: int) -> float:
        return self.entropies[position] if position < len(self.entropies) else 0.0

    def _one(self, request: Request) -> Completion:
        self.requests.append(request)
        if self.fails_at == len(self.requests) - 1:
            raise ConnectionError("the server hung up")
        said = request.context.text
        room = self.context_length - len(said)
        if room < 1:
            raise ContextLengthError("The context is full.")
        whole = "".join(self.plan)
        rest = whole[len(said) :] if whole.startswith(said) else "".join(self.plan[len(request.context.written) :])
        ends = [(rest.index(stop) + len(stop), stop) for stop in request.stop if stop in rest]
        end, stop = min(ends, default=(len(rest) + 1, ""))
        limit = min(request.max_new_tokens, room)
        if end <= limit:
            cause = StopCause.STOP if stop else StopCause.END
        else:
            end, stop, cause = limit, "", StopCause.LENGTH if limit == request.max_new_tokens else StopCause.CONTEXT
        text = rest[:end]
        return Completion(
            text=text,
            cause=cause,
            stopped_by=stop,
            tokens=end,
            ids=tuple(map(ord, text)),
            logprobs=tuple(-0.5 - index for index in range(end)),
            entropies=tuple(0.25 * (1 + index) for index in range(end)),
            margins=tuple(4.0 - 0.001 * index for index in range(end)),
            prompt_tokens=7 + len(said),
            seconds=0.5,
        )


def steps(*texts: str) -> list[str]:
    """A plan: all but the last end with the separator."""
    return [*(text + SEPARATOR for text in texts[:-1]), texts[-1]]


Scores = Callable[[StepSubject], float | None]


@dataclass
class ScriptedJudge:
    """Gives the scores that `scores` says; None abstains."""

    scores: Scores
    proposition: Proposition = Proposition.CORRECT
    granularity: Granularity = Granularity.STEP
    name: str = "scripted-judge"
    version: int = 1
    guarantee: Guarantee = Guarantee.OPINION
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    seen: list[StepSubject] = field(default_factory=list)

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        verdicts = []
        for subject in subjects:
            assert isinstance(subject, StepSubject)
            self.seen.append(subject)
            score = self.scores(subject)
            verdict = Verdict(
                subject=subject.key,
                verifier=identity(self),
                proposition=self.proposition,
                outcome=Outcome.ABSTAIN if score is None else Outcome.ACCEPT,
                guarantee=self.guarantee,
            )
            # As a verifier does that nobody checks: the type itself would refuse NaN.
            verdicts.append(verdict if score is None else verdict.model_copy(update={"score": score}))
        return verdicts


def by_text(scores: Mapping[str, float | None]) -> Scores:
    """A score for each text that holds one of the keys."""
    return lambda subject: next(score for part, score in scores.items() if part in subject.text)


class Log(list[Verdict]):
    """A verdict log that is a list."""

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.extend(verdicts)

    def of(self, granularity: Granularity) -> list[Verdict]:
        return [verdict for verdict in self if verdict.subject.granularity is granularity]
