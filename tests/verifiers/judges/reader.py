"""A language model made of a function of the question, and a reader that goes by the fences alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from draftproof.errors import ContextLengthError, UsageError
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, Scored, StopCause

Top = tuple[tuple[str, float], ...]
YES: Top = ((" yes", 0.9), ("no", 0.1))
NO: Top = (("No", 0.8), ("Yes", 0.2))

FENCE = re.compile(r"(`{3,})([0-9a-f]{16})")


@dataclass
class Asked:
    """A language model whose first tokens a function of the question gives."""

    answer: Callable[[str], Top]
    longest: int = 100_000
    abilities: frozenset[Ability] = frozenset(Ability)
    write: Callable[[Request], str] | None = None
    questions: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    calls: int = 0
    name: str = "stub"
    identity: str = "stub#0"
    deterministic: bool = True

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        self.calls += 1
        questions = [self._read(context) for context in contexts]
        self.questions += questions
        return [FirstToken(0.0, top, self.answer(question), prompt_tokens=7) for question in questions]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        assert self.write is not None, "nothing is to be written"
        self.calls += 1
        for request in requests:
            self._read(request.context)
        self.requests += requests
        texts = [self.write(request) for request in requests]
        return [Completion(text, StopCause.END, tokens=3, prompt_tokens=5) for text in texts]

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        raise AssertionError("nothing is to be scored")

    def _read(self, context: Context) -> str:
        question = context.messages[-1].content
        if any("\ud800" <= character <= "\udfff" for character in question):
            raise UsageError("no text")
        if len(question) > self.longest:
            raise ContextLengthError("too long")
        return question


@dataclass(frozen=True)
class Read:
    """A prompt, as one reads it who goes by the fences."""

    blocks: tuple[tuple[str, str], ...]
    """Titles and what stands between the fences."""
    outside: str
    """Everything else."""


def read(prompt: str) -> Read:
    """A line of backticks and a mark opens a block, and the next line like it closes that."""
    blocks, outside, lines, inside, fence = [], [], prompt.split("\n"), [], ""
    for line in lines:
        if fence and line == fence:
            blocks.append((next(title for title in reversed(outside) if title), "\n".join(inside)))
            fence, inside = "", []
        elif fence:
            inside.append(line)
        elif FENCE.fullmatch(line):
            fence = line
        else:
            outside.append(line)
    assert not fence, "a block is never closed"
    return Read(tuple(blocks), "\n".join(outside))


def last(prompt: str) -> str:
    """What the last block holds."""
    return read(prompt).blocks[-1][1]


def asks_for_mistakes(question: str) -> bool:
    return "Is there a mistake" in question


def knowing(question: str) -> Top:
    """Wrong steps say so."""
    return YES if ("wrong" in last(question)) == asks_for_mistakes(question) else NO
