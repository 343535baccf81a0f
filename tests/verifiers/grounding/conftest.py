"""Subjects to ground, and a language model whose yes and no a function of the question gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from draftproof.errors import ContextLengthError, UsageError
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored
from draftproof.subject import Granularity, Subject, SubjectKey

Top = tuple[tuple[str, float], ...]
YES: Top = ((" yes", 0.9), ("no", 0.1))
NO: Top = (("No", 0.8), ("Yes", 0.2))


def subject(text: str, *documents: str, problem: str = "", position: int = 0) -> Subject:
    """Documents are called `c0`, `c1`, …; nothing is validated, so that any text can be asked about."""
    return Subject.model_construct(
        key=SubjectKey(trace_digest="sha256:00", granularity=Granularity.CLAIM, position=position),
        problem=problem,
        text=text,
        context=(),
        premises=None,
        documents={f"c{index}": document for index, document in enumerate(documents)},
        reference_answer=None,
        group=None,
    )


@dataclass
class Asked:
    """A language model that is asked for first tokens and nothing else."""

    answer: Callable[[str], Top]
    longest: int = 100_000
    abilities: frozenset[Ability] = frozenset(Ability)
    questions: list[str] = field(default_factory=list)
    calls: int = 0
    name: str = "stub"
    identity: str = "stub#0"
    deterministic: bool = True

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        self.calls += 1
        questions = [context.messages[-1].content for context in contexts]
        if any("\ud800" in question for question in questions):
            raise UsageError("no text")
        if any(len(question) > self.longest for question in questions):
            raise ContextLengthError("too long")
        self.questions += questions
        return [FirstToken(0.0, top, self.answer(question), prompt_tokens=7) for question in questions]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("nothing is to be written")

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        raise AssertionError("nothing is to be scored")


def asks_for_lacks(question: str) -> bool:
    return "that the documents do not support" in question


def fence_of(question: str) -> str:
    return str(re.findall(r"two lines (`+\S+) is", question)[0])


def sentence_of(question: str) -> str:
    """What stands in the fence behind the last title."""
    fence = fence_of(question)
    return question.split(f"Sentence:\n\n{fence}\n")[1].split(f"\n{fence}")[0]


def knowing(question: str) -> Top:
    """Sentences that are wrong say so."""
    return YES if ("wrong" in sentence_of(question)) == asks_for_lacks(question) else NO
