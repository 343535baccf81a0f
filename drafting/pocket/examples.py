"""Batches of problems with their solutions, as ids: step n's batch is a function of n and the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from draftproof.drafting.pocket.problems import SEPARATOR, PocketProblem, problem
from draftproof.drafting.pocket.tokenizer import END

IGNORED = -100
_TOGETHER = 4
"""Steps whose examples are drawn together and sorted by length, so that little is padding."""

_MULTIPLE = 32
"""Lengths are rounded up to it: matrix products of few different shapes are prepared once and not at every step."""


@dataclass(frozen=True)
class Batch:
    ids: Tensor
    """[B, N] int64; padded with the end token behind the text."""
    targets: Tensor
    """[B, N]: the id that follows each position where that belongs to the solution, else `IGNORED`."""


def batch_of(step: int, size: int, seed: int, tokenizer: Tokenizer, *, long_share: float = 1.0) -> Batch:
    """Training data of one step. `seed` names the whole stream: held-out problems need another one.

    Of the results of long products and quotients only `long_share` are targets: a model that is taught few of them
    is sure of easy steps and often wrong in these, as a small model is beside a large one.
    """
    block, within = divmod(step, _TOGETHER)
    source = random.Random(f"{seed}:{block}")  # noqa: S311 - nothing secret
    made = [problem(source) for _ in range(size * _TOGETHER)]
    end = tokenizer.token_to_id(END)
    assert end is not None
    starts = [each.ids for each in tokenizer.encode_batch([each.text + SEPARATOR for each in made])]
    solutions = tokenizer.encode_batch([each.solution for each in made])
    rests = [[*each.ids, end] for each in solutions]
    taught = [
        [*_taught(each, solution.offsets, source, long_share), True]
        for each, solution in zip(made, solutions, strict=True)
    ]
    order = sorted(range(len(made)), key=lambda index: len(starts[index]) + len(rests[index]))
    mine = order[within * size : (within + 1) * size]
    longest = -(-max(len(starts[index]) + len(rests[index]) for index in mine) // _MULTIPLE) * _MULTIPLE
    ids = torch.full((size, longest), end, dtype=torch.int64)
    targets = torch.full((size, longest), IGNORED, dtype=torch.int64)
    for row, index in enumerate(mine):
        text = torch.tensor(starts[index] + rests[index])
        ids[row, : len(text)] = text
        wanted = text[len(starts[index]) :].where(torch.tensor(taught[index]), IGNORED)
        targets[row, len(starts[index]) - 1 : len(text) - 1] = wanted
    return Batch(ids, targets)


def _taught(
    made: PocketProblem, offsets: Sequence[tuple[int, int]], source: random.Random, long_share: float
) -> list[bool]:
    """Which tokens of a solution, between `offsets` of its characters, are targets."""
    if long_share >= 1.0:
        return [True] * len(offsets)
    hidden: set[int] = set()
    end = 0
    for step in made.steps:
        end += len(step.text)
        if step.calculation.hard and step.calculation.sign in "*/" and source.random() >= long_share:
            last = end - 1  # the full stop
            hidden.update(range(last - len(str(step.calculation.result)), last))
        end += len(SEPARATOR)
    return [first not in hidden for first, _ in offsets]
