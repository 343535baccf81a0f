"""How well a model solves pocket problems, and what it gets wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.models.load import LoadedModel
from draftproof.drafting.pocket.problems import SEPARATOR, PocketProblem, problem
from draftproof.drafting.pocket.truth import Fault, answers, fault_of

LONGEST = 256
"""Tokens of a solution; the longest right ones have about 170."""
HELD_OUT = "held-out"
"""Seed of problems that no training draws: those have seeds made of numbers."""


@dataclass
class Solved:
    """What became of some problems."""

    problems: int = 0
    right: int = 0
    steps: int = 0
    """Up to the first wrong one of each problem, that one included."""
    hard_steps: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    """Of the first wrong step of each problem."""
    hard_faults: int = 0
    """How many of them are in steps that are hard."""

    @property
    def accuracy(self) -> float:
        """Share of the problems whose final answer is right."""
        return self.right / self.problems if self.problems else 0.0

    def add(self, asked: PocketProblem, solution: str) -> None:
        self.problems += 1
        self.right += answers(asked, solution)
        texts = steps_of(solution)
        for place, text in enumerate(texts):
            hard = place < len(asked.steps) and asked.steps[place].calculation.hard
            fault = fault_of(asked, texts[:place], text)
            self.steps += 1
            self.hard_steps += hard
            if fault is not None:
                self.faults[fault] += 1
                self.hard_faults += hard
                return


def held_out_problems(count: int) -> list[PocketProblem]:
    """Always the same ones; a larger `count` begins with those of a smaller."""
    source = random.Random(HELD_OUT)  # noqa: S311 - nothing secret
    return [problem(source) for _ in range(count)]


def steps_of(solution: str) -> list[str]:
    """The steps of a solution as it was written, without separators."""
    return [text for text in solution.split(SEPARATOR) if text.strip()]


def solve(loaded: LoadedModel, asked: Sequence[PocketProblem], max_batch: int = 32) -> list[str]:
    """The model's own solutions, written at once and greedily."""
    decoder = SpeculativeDecoder(loaded, None)
    made = decoder.generate([each.text + SEPARATOR for each in asked], max_new_tokens=LONGEST, max_batch=max_batch)
    return [generation.text for generation in made]


def evaluate(loaded: LoadedModel, asked: Sequence[PocketProblem]) -> Solved:
    """What becomes of `asked`."""
    solved = Solved()
    for each, solution in zip(asked, solve(loaded, asked), strict=True):
        solved.add(each, solution)
    return solved
