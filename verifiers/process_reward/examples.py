"""Batches of labelled solutions: step n's batch is a function of n and the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.pocket.problems import problem
from draftproof.errors import UsageError
from draftproof.verifiers.process_reward.mistakes import Drill, LabelledSolution, drill, right_solution, wrong_solution
from draftproof.verifiers.process_reward.reading import Reader

WRONG_SHARE = 0.7
"""Of solutions. They end at the mistake, anywhere, so that about one step in six is wrong."""
_TOGETHER = 4
"""Steps whose examples are drawn together and sorted by length, so that little is padding."""


@dataclass(frozen=True)
class Places:
    """Tokens whose truth is known."""

    rows: Tensor
    """[P] int64: which row each is in."""
    columns: Tensor
    """[P] int64: which token of it."""
    right: Tensor
    """[P] int64: 1 where all is right up to there, 0 where it is not."""


@dataclass(frozen=True)
class Batch:
    ids: Tensor
    """[B, N] int64, padded behind the text."""
    ends: Places
    """The ends of steps: where scores are read."""
    inner: Places
    """All tokens of steps for which it is known whether something wrong was said yet."""


def drawn(count: int, source: random.Random) -> list[LabelledSolution]:
    """Solutions of problems of their own, right ones and wrong ones."""
    made = []
    for _ in range(count):
        asked = problem(source)
        wrong = source.random() < WRONG_SHARE
        made.append(wrong_solution(asked, source) if wrong else right_solution(asked))
    return made


def batch_of(
    step: int, size: int, seed: int, reader: Reader, context: float, extra: Sequence[LabelledSolution] = ()
) -> Batch:
    """Training data of one step: solutions, and as many drills.

    Args:
        extra: solutions from elsewhere, such as those that a model wrote; one in four is taken from them.
        context: most tokens of a text; a solution that is longer is an error, as its labels would be lost.
    """
    block, within = divmod(step, _TOGETHER)
    source = random.Random(f"{seed}:{block}")  # noqa: S311 - nothing secret
    solutions = drawn(size // 2 * _TOGETHER, source)
    if extra:
        solutions = [source.choice(extra) if source.random() < 0.25 else each for each in solutions]
    drills = [drill(problem(source), source) for _ in range(size * _TOGETHER - len(solutions))]
    made: list[LabelledSolution | Drill] = [*solutions, *drills]
    readings = [reader.read(each.problem, each.steps) for each in made]
    order = sorted(range(len(made)), key=lambda index: len(readings[index].ids))
    mine = order[within * size : (within + 1) * size]
    longest = max(len(readings[index].ids) for index in mine)
    if longest > context:
        raise UsageError(
            f"A solution has {longest} tokens, and the base model's context holds {context:,.0f}.",
            remedy="Take a base model with a longer context.",
        )
    ids = torch.zeros((size, longest), dtype=torch.int64)
    ends: list[tuple[int, int, int]] = []
    inner: list[tuple[int, int, int]] = []
    for row, index in enumerate(mine):
        text = readings[index].ids
        ids[row, : len(text)] = torch.tensor(text)
        truths = token_truths(made[index], reader)
        ends += [(row, place, truth) for place, truth in truths.ends]
        inner += [(row, place, truth) for place, truth in truths.inner]
    return Batch(ids, _places(ends), _places(inner))


@dataclass(frozen=True)
class TokenTruths:
    """Index of a token, and 1 or 0 for what is true there."""

    ends: list[tuple[int, int]]
    inner: list[tuple[int, int]]


def token_truths(example: LabelledSolution | Drill, reader: Reader) -> TokenTruths:
    """What is known of the tokens of an example. Raises UsageError where a step's end has no token of its own.

    The tokens of right steps are right. In a step whose result alone is wrong, those before the first wrong one are
    right, and from there on they are wrong; of other wrong steps only the end is known.
    """
    reading = reader.read(example.problem, example.steps)
    start = len(reader.read(example.problem, ()).ids)
    ends: list[tuple[int, int]] = []
    inner: list[tuple[int, int]] = []
    for index, end in enumerate(reading.ends):
        if end is None:
            raise UsageError("The base model's tokenizer leaves no token at the end of a step.")
        if isinstance(example, Drill):
            instead, wrong = example.instead[index], example.instead[index] is not None
        else:
            wrong = example.fault is not None and index + 1 == len(example.steps)
            instead = example.instead if wrong else None
            ends.append((end, int(not wrong)))
        if not wrong:
            inner += [(place, 1) for place in range(start, end)]
        elif instead is not None:
            better = reader.read(example.problem, (*example.steps[:index], instead)).ids
            parts = next(at for at, both in enumerate(zip(reading.ids, better, strict=False)) if both[0] != both[1])
            inner += [(place, int(place < parts)) for place in range(start, end)]
        start = end + 1
    return TokenTruths(ends, inner)


def _places(found: Sequence[tuple[int, int, int]]) -> Places:
    rows, columns, right = torch.tensor(found, dtype=torch.int64).reshape(-1, 3).unbind(1)
    return Places(rows, columns, right)
