"""Language models for tests of runs: what they write is a function of the question, and takes no time.

A problem is "n …": both models count up to n, a step a number, and then answer. They are wrong where a hash says
so, and the verifier knows. Imported by tests and, as a module of its own, by the processes that they kill.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from draftproof.batch.problems import Problem
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored, StopCause
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.store.queries import VerdictFilter
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import VerdictLog, identity


def share(*parts: object) -> float:
    """A number in [0, 1) that the parts alone decide."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


@dataclass
class CountingModel:
    """Counts, in steps, to the number that the problem begins with; wrong in a share of the steps."""

    name: str
    wrong: float = 0.0
    seconds: float = 0.0
    deterministic: bool = True
    salt: str = ""
    fails_on: str = ""
    """Problems with this in them break the model."""
    asked: list[Request] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"{self.name}#stub"

    @property
    def abilities(self) -> frozenset[Ability]:
        return frozenset({Ability.FIRST_TOKEN, Ability.LOGPROBS, Ability.SCORE})

    def generate(self, requests: Sequence[Request]) -> Sequence[Completion]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion:
        self.asked.append(request)
        if self.seconds:
            time.sleep(self.seconds)
        problem = request.context.messages[-1].content
        if self.fails_on and self.fails_on in problem:
            raise ConnectionError("the server hung up")
        last, place = int(problem.split()[0]), len(request.context.written)
        said = request.context.written[-1].text if request.context.written else "0"
        steps = [self._step(problem, each) for each in range(place, last if not request.stop else min(last, place + 1))]
        text, cause, stop = "".join(steps), StopCause.STOP, "\n\n"
        if not request.stop or place >= last:
            text += f"The answer is {(steps or [said])[-1].split('=')[-1].strip().rstrip('.') or 0}."
            cause, stop = StopCause.END, ""
        tokens = max(1, len(text.split()))
        return Completion(
            text=text,
            cause=cause,
            stopped_by=stop,
            tokens=tokens,
            logprobs=(-0.1,) * tokens,
            entropies=(0.5,) * tokens,
            margins=(1.0,) * tokens,
            prompt_tokens=10 + place,
            seconds=self.seconds,
        )

    def _step(self, problem: str, place: int) -> str:
        slip = share(self.name, self.salt, problem, place) < self.wrong
        return f"So {place}+1={place + 1 + slip}.\n\n"

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> Sequence[FirstToken]:
        if self.seconds:
            time.sleep(self.seconds)
        entropies = [math.log(20) * share("first", c.messages[-1].content, len(c.written)) for c in contexts]
        return [FirstToken(entropy=each, of=20, top=(("So", 0.5), ("Then", 0.5))) for each in entropies]

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> Sequence[Scored]:
        return [Scored(logprobs=(-1.0,)) for _ in contexts]


@dataclass(frozen=True)
class CountingJudge:
    """Scores a step high where its sum is right."""

    name: str = "counting"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        return [self._one(subject) for subject in subjects]

    def _one(self, subject: Subject) -> Verdict:
        right = subject.text.startswith("The") or subject.text.startswith(
            f"So {len(subject.context)}+1={len(subject.context) + 1}."
        )
        score = 0.5 + (0.5 if right else -0.5) * (1 - 0.5 * share("score", subject.problem, len(subject.context)))
        return Verdict(
            subject=subject.key,
            verifier=identity(self),
            proposition=self.proposition,
            outcome=Outcome.ACCEPT if score >= 0.5 else Outcome.REJECT,
            score=score,
            guarantee=self.guarantee,
        )


def counted(count: int) -> list[Problem]:
    """Problems of one to three steps."""
    return [
        Problem(f"{1 + i % 3} steps, problem {i}", f"p{i}", str(1 + i % 3), "problems", i + 1) for i in range(count)
    ]


def create(seconds: float = 0.0, **options: Any) -> Callable[[VerdictLog], Any]:
    """RSD over two counting models, each call of which takes `seconds`."""
    draft, target = CountingModel("draft", wrong=0.3, seconds=seconds), CountingModel("target", wrong=0.1)
    given = {"policy": "rsd", "verifier": CountingJudge()} | options
    return lambda log: create_arbitrage(draft, target, log=log, **given)


def rows_of(store: VerdictStore) -> dict[tuple[str, str, int, str, int], Any]:
    """Every verdict of the store by its key, less what it cost. No key may be there twice."""
    found: dict[tuple[str, str, int, str, int], Any] = {}
    for row in store.iter_verdicts(VerdictFilter(history=True)):
        key = (row.subject.trace_digest, row.subject.granularity, row.subject.position, row.verifier, row.sample)
        assert key not in found
        found[key] = row.verdict.model_dump(mode="json", exclude={"cost"})
    return found
