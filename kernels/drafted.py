"""What the decision kernels take and give: drafted chains or trees of B requests, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.kernels.row_law import RowLaw, inside, probs

DRAFT, ACCEPT, RESIDUAL, TARGET, LENGTH = range(5)
"""Purposes of random numbers, part of their addresses; the same values as `draftproof.drafting.keyed_rng.Purpose`."""


@dataclass(frozen=True)
class Drafted:
    """Drafted tokens of B requests, and where the target's rows for them lie.

    Row `cu_rows[b]` of the logits is that of request b's pending token, row `cu_rows[b] + 1 + n` that of its node n:
    the distribution of what follows. A request has `cu_rows[b + 1] - cu_rows[b] - 1` nodes; none is a plain step.
    """

    tokens: Tensor
    """[B, K] int64; -1, like any id outside the vocabulary, is never accepted and never used as an index."""
    cu_rows: Tensor
    """[B+1] int64."""
    seeds: Tensor
    """[B] int64: key of each request's random streams."""
    positions: Tensor
    """[B] int64: absolute position of the token that follows the pending one."""
    parent: Tensor | None = None
    """[B, K] int64: index of each node's parent, below its own, -1 for the pending token. None: chains."""


@dataclass(frozen=True)
class DraftRows:
    """The rows that drafted tokens were drawn from: probabilities, or logits with their three numbers."""

    values: Tensor
    """[Q, W]: float32 probabilities; or raw logits in any floating type where `law` is given."""
    of: Tensor
    """[B, K] int64: the row of `values` that a node was drawn from, -1 where there is none."""
    law: RowLaw | None = None
    """Three numbers for each of the Q rows; its rows are not greedy."""
    columns: Tensor | None = None
    """[V] int64: the column of each target id, -1 for ids that cannot be drafted. None: columns are target ids."""

    def row(self, of: int, vocab: int) -> Tensor:
        """[V] float32: probabilities over the target's vocabulary. Zero everywhere when there is no such row."""
        if not 0 <= of < self.values.shape[0]:
            return torch.zeros(vocab, device=self.values.device)
        values = self.values[of : of + 1]
        row = (values.to(torch.float32) if self.law is None else probs(values, self.law.row(of)))[0]
        if self.columns is not None:
            column, known = inside(self.columns, row.shape[0])
            return torch.where(known, row[column], 0.0)
        if row.shape[0] < vocab:
            return torch.nn.functional.pad(row, (0, vocab - row.shape[0]))
        return row[:vocab]


def columns_of(ids: Tensor, vocab: int) -> Tensor:
    """[vocab] int64: the place of each target id among `ids` [W], -1 for those that are not there."""
    columns = torch.full((vocab,), -1, dtype=torch.int64, device=ids.device)
    return columns.scatter(0, ids, torch.arange(ids.shape[0], device=ids.device))


@dataclass(frozen=True)
class Decided:
    """What each request emits: its accepted tokens and the correction or bonus token after them."""

    out: Tensor
    """[B, K+1] int64; -1 pads on the right."""
    num: Tensor
    """[B] int32: tokens emitted, 1 … K+1; where a bad row was met, those accepted before it."""
    path: Tensor
    """[B, K] int64: the accepted nodes from the top down; -1 pads."""
    bad: Tensor
    """[B] int32: which of the request's rows was looked at and held NaN, +inf or no finite value; -1 is none.
    The caller raises: from such a row nothing is drawn."""


def unwritten(drafted: Drafted) -> Decided:
    """What kernels write all of: allocated, and holding anything."""
    requests, width = drafted.tokens.shape
    device = drafted.tokens.device
    return Decided(
        out=torch.empty((requests, width + 1), dtype=torch.int64, device=device),
        num=torch.empty((requests,), dtype=torch.int32, device=device),
        path=torch.empty((requests, width), dtype=torch.int64, device=device),
        bad=torch.empty((requests,), dtype=torch.int32, device=device),
    )


def as_decided(paths: list[list[int]], last: list[int], bad: list[int], tokens: Tensor) -> Decided:
    """Packs the lists that the torch definitions walk with. `last` is -1 where nothing was drawn."""
    width = tokens.shape[1]
    emitted = [[int(tokens[b, n]) for n in path] + ([last[b]] if last[b] >= 0 else []) for b, path in enumerate(paths)]
    return Decided(
        out=_padded(emitted, width + 1, tokens),
        num=torch.tensor([len(ids) for ids in emitted], dtype=torch.int32, device=tokens.device),
        path=_padded(paths, width, tokens),
        bad=torch.tensor(bad, dtype=torch.int32, device=tokens.device),
    )


def _padded(rows: list[list[int]], width: int, like: Tensor) -> Tensor:
    full = [row + [-1] * (width - len(row)) for row in rows]
    return torch.tensor(full, dtype=torch.int64, device=like.device).reshape(len(rows), width)
