"""Batches of problems with their solutions, as ids: step n's batch is a function of n and the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from draftproof.drafting.pocket.problems import SEPARATOR, problem
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


def batch_of(step: int, size: int, seed: int, tokenizer: Tokenizer) -> Batch:
    """Training data of one step. `seed` names the whole stream: held-out problems need another one."""
    block, within = divmod(step, _TOGETHER)
    source = random.Random(f"{seed}:{block}")  # noqa: S311 - nothing secret
    made = [problem(source) for _ in range(size * _TOGETHER)]
    end = tokenizer.token_to_id(END)
    assert end is not None
    starts = [each.ids for each in tokenizer.encode_batch([each.text + SEPARATOR for each in made])]
    rests = [[*each.ids, end] for each in tokenizer.encode_batch([each.solution for each in made])]
    order = sorted(range(len(made)), key=lambda index: len(starts[index]) + len(rests[index]))
    mine = order[within * size : (within + 1) * size]
    longest = -(-max(len(starts[index]) + len(rests[index]) for index in mine) // _MULTIPLE) * _MULTIPLE
    ids = torch.full((size, longest), end, dtype=torch.int64)
    targets = torch.full((size, longest), IGNORED, dtype=torch.int64)
    for row, index in enumerate(mine):
        text = torch.tensor(starts[index] + rests[index])
        ids[row, : len(text)] = text
        targets[row, len(starts[index]) - 1 : len(text) - 1] = text[len(starts[index]) :]
    return Batch(ids, targets)
