"""A solver that writes one solution a seed or an attempt, and verifiers that judge by what a text holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from draftproof.errors import ContextLengthError
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored, StopCause
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity

AGAIN = "An earlier solution of this problem was checked."


@dataclass
class Solver:
    """Writes `solutions[seed]`, or, by attempt, as many on as the prompt tells of checks; a character is a token."""

    solutions: Sequence[str]
    by: str = "attempt"
    """attempt or seed."""
    yes: float = 0.0
    """Probability that a probe says yes; no has the rest."""
    context_length: int = 100_000
    fails_at: int | None = None
    """Which call of `generate` raises, from 0."""
    name: str = "solver"
    abilities: frozenset[Ability] = frozenset(Ability)
    deterministic: bool = True
    requests: list[Request] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    probes: list[Context] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"{self.name}#weights"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(len(requests))
        if self.fails_at == len(self.batches) - 1:
            raise ConnectionError("the server hung up")
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion:
        self.requests.append(request)
        said = request.context.text
        asked = request.context.messages[-1].content
        if len(asked) + len(said) >= self.context_length:
            raise ContextLengthError("The context is full.")
        number = asked.count(AGAIN) + self._checked(asked) if self.by == "attempt" else request.decoding.seed
        whole = self.solutions[min(number, len(self.solutions) - 1)]
        rest = whole[len(said) :]
        ends = [(rest.index(stop) + len(stop), stop) for stop in request.stop if stop in rest]
        end, stop = min(ends, default=(len(rest) + 1, ""))
        cause = StopCause.STOP if stop else StopCause.END
        if end > request.max_new_tokens:
            end, stop, cause = request.max_new_tokens, "", StopCause.LENGTH
        return Completion(rest[:end], cause, stop, end, tuple(map(ord, rest[:end])), seconds=0.5, prompt_tokens=7)

    def _checked(self, asked: str) -> int:
        """Later attempts tell of one check only, the last: which solution it quotes says how many there were."""
        quoted = [i for i, text in enumerate(self.solutions) if AGAIN in asked and text[:12] in asked]
        return max(quoted, default=0)

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        self.probes += contexts
        shares = ((" Yes", self.yes), ("No", 1.0 - self.yes))
        return [FirstToken(0.5, top, tuple(sorted(shares, key=lambda each: -each[1])), 5, 0, 0.25) for _ in contexts]

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        raise NotImplementedError


Says = Callable[[Subject], float | None]


@dataclass
class Checker:
    """Accepts at ½ what `says` scores; None abstains. `draws` make it random: draw n asks the n-th of them."""

    says: Says
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    name: str = "checker"
    draws: Sequence[Says] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    guarantee: Guarantee = Guarantee.OPINION
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    seen: list[Subject] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    def drawn(self, sample: int) -> Checker:
        if not self.draws:
            return self
        return Checker(
            self.draws[sample], self.granularity, self.proposition, self.name, raw=self.raw, seen=self.seen,
            calls=self.calls,
        )  # fmt: skip

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        self.calls.append(len(subjects))
        self.seen += subjects
        return [self._verdict(subject) for subject in subjects]

    def _verdict(self, subject: Subject) -> Verdict:
        score = self.says(subject)
        outcome = Outcome.ABSTAIN if score is None else Outcome.ACCEPT if score >= 0.5 else Outcome.REJECT
        return Verdict(
            subject=subject.key,
            verifier=identity(self),
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            guarantee=self.guarantee,
            reason="said_so",
            raw=dict(self.raw) if outcome is Outcome.REJECT else {},
        )


def holding(scores: Mapping[str, float | None], otherwise: float | None = 0.9) -> Says:
    """The score of the first key that the text holds."""
    return lambda subject: next((score for part, score in scores.items() if part in subject.text), otherwise)
