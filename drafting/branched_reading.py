"""Several texts that begin alike, read in one pass: what they have in common is read once.

The common part is committed to one row; the rest of each text hangs under its last token as a branch of a tree, and no
branch sees another. So a verifier that is to compare several answers to one question reads the question once, however
many answers there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.model import RowTokens, Wanted
from draftproof.drafting.rows import Reading, tap_of
from draftproof.drafting.session import Session
from draftproof.errors import UsageError

MOST_TOKENS = 512
"""Of branches in one pass: bounds the memory that attention needs. A branch is not cut in two."""


@dataclass(frozen=True)
class BranchedReading:
    """Texts that begin with the same tokens."""

    trunk: Sequence[int]
    """At least 2 tokens."""
    branches: Sequence[Sequence[int]]
    """What each goes on with, at least one token."""
    layers: tuple[int, ...]
    """Whose states are wanted, numbered as those of `Opening`."""


@dataclass(frozen=True)
class BranchedOutcome:
    hidden: list[dict[int, Tensor]]
    """For each branch, layer -> [n, H]: the states from which its tokens are predicted."""
    cached: int
    """Tokens of the trunk that were not read again."""


def read_branches(session: Session, row: int, reading: BranchedReading) -> BranchedOutcome:
    """`row` holds the trunk afterwards and is done, as behind `Session.read`.

    Raises as `Session.read` does, UsageError also for a branch without tokens, and ContextLengthError where the trunk
    and one branch do not fit the context.
    """
    if not all(reading.branches):
        raise UsageError("A branch has at least one token.")
    trunk, target = list(reading.trunk), session.target
    (outcome,) = session.read({row: Reading(trunk, len(trunk) - 1, ())})
    taps = tuple(dict.fromkeys(tap_of(layer, target.info) for layer in reading.layers))
    found: list[dict[int, Tensor]] = []
    held = target.length(row)
    try:
        for some in _passes(reading.branches, target.info.context_length - len(trunk)):
            tokens, parents, places = _tree(trunk[held:], some)
            result = target.forward([RowTokens(row, tokens, parents)], Wanted(logits="none", taps=taps))
            for place in places:
                found.append({layer: result.hidden[tap_of(layer, target.info)][place] for layer in reading.layers})
            target.truncate(row, held)
    except BaseException:
        target.truncate(row, held)
        raise
    return BranchedOutcome(found, outcome.cached)


def _passes(branches: Sequence[Sequence[int]], context: int) -> list[list[Sequence[int]]]:
    """In order, as many in a pass as it takes, and as the context has room for."""
    passes: list[list[Sequence[int]]] = []
    room = 0
    for branch in branches:
        if len(branch) > room:
            passes.append([])
            room = min(MOST_TOKENS, context)
        passes[-1].append(branch)
        room -= len(branch)
    return passes


def _tree(stem: Sequence[int], branches: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Tokens and parents of a pass: `stem`, a chain, and the branches under its end; and, for each branch, the slots
    whose states predict its tokens. The last token of a branch predicts none of it, and is left out."""
    tokens, parents = list(stem), list(range(-1, len(stem) - 1))
    end = len(stem) - 1
    places = []
    for branch in branches:
        above, mine = end, [end]
        for token in branch[:-1]:
            parents.append(above)
            above = len(tokens)
            tokens.append(token)
            mine.append(above)
        places.append(torch.tensor(mine, dtype=torch.int64))
    return torch.tensor(tokens, dtype=torch.int64), torch.tensor(parents, dtype=torch.int64), places
