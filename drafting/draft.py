"""Drafts: token chains and trees that a drafter proposes for a batch of rows, with the law they were drawn by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Law = Literal["match", "reject", "reject_wor", "reject_greedy"]
"""How a draft may be verified.

`match`: the tokens are any proposal; draw the target's token and follow the child that equals it.
`reject`: every node was drawn from the `q` row reported for it, and no node has a sibling.
`reject_wor`: siblings were drawn one after the other from `q` without replacement, in the order they stand in.
`reject_greedy`: of siblings, all but the last were chosen by looking at `q` alone (its most probable tokens), and the
last was drawn from `q` without them, renormalised. An only child was drawn from `q`: the law is then `reject`.
"""


@dataclass(frozen=True)
class QTable:
    """The distributions that drafted tokens were drawn from, after every processor and restriction."""

    probs: Tensor
    """[B, M, W] float32; each row sums to 1."""
    of: Tensor
    """[B, N] int64: the row of `probs` that node n was drawn from."""
    ids: Tensor | None = None
    """[W] int64, ascending: the target id of each column. None: W is the target's vocabulary size."""


@dataclass(frozen=True)
class Resume:
    """Hidden states from which verification can start, because the drafter ran the layers below."""

    layer: int
    hidden: Tensor
    """[B, N+1, H]: the pending token first, then the nodes. The cache below `layer` is already written for them."""


@dataclass(frozen=True)
class Draft:
    """A tree for each of B rows, padded to N nodes. The root, not listed, is the row's pending token."""

    tokens: Tensor
    """[B, N] int64 target ids; -1 pads on the right."""
    parent: Tensor
    """[B, N] int64: index of the parent node, -1 for the pending token; `parent[b, n] < n`."""
    n_nodes: Tensor
    """[B] int64; 0 is a plain step."""
    law: Law = "match"
    q: QTable | None = None
    score: Tensor | None = None
    """[B, N] float32: estimated probability that the path to the node is accepted, where the drafter has one."""
    resume: Resume | None = None
    source: tuple[str, ...] = ()
    """[B] which drafter made row b's draft, where a hybrid chose; empty: the one that was asked."""

    @property
    def rows(self) -> int:
        return self.tokens.shape[0]

    def tree(self, row: int) -> tuple[list[int], list[int]]:
        """Tokens and parents of one row's nodes as lists."""
        n = int(self.n_nodes[row]) if self.tokens.shape[1] else 0
        return (self.tokens[row, :n].tolist(), self.parent[row, :n].tolist()) if n else ([], [])


def empty_draft(rows: int) -> Draft:
    """A draft of nothing: plain decoding."""
    none = torch.zeros((rows, 0), dtype=torch.int64)
    return Draft(tokens=none, parent=none, n_nodes=torch.zeros(rows, dtype=torch.int64))


def pack(trees: list[tuple[list[int], list[int]]], scores: list[list[float]] | None = None) -> Draft:
    """A `match` draft from each row's (tokens, parents) and, where given, scores. Empty lists are plain steps."""
    width = max((len(tokens) for tokens, _ in trees), default=0)
    tokens = torch.full((len(trees), width), -1, dtype=torch.int64)
    parent = torch.full((len(trees), width), -1, dtype=torch.int64)
    for row, (ids, above) in enumerate(trees):
        tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        parent[row, : len(ids)] = torch.tensor(above, dtype=torch.int64)
    score = None
    if scores is not None:
        score = torch.zeros((len(trees), width), dtype=torch.float32)
        for row, values in enumerate(scores):
            score[row, : len(values)] = torch.tensor(values, dtype=torch.float32)
    counts = torch.tensor([len(ids) for ids, _ in trees], dtype=torch.int64)
    return Draft(tokens=tokens, parent=parent, n_nodes=counts, score=score)


def chain(ids: list[int]) -> tuple[list[int], list[int]]:
    """A chain as (tokens, parents)."""
    return ids, list(range(-1, len(ids) - 1))
