"""Trees whose siblings were drawn without replacement: recursive rejection sampling (SpecInfer, arXiv 2305.09781;
without replacement as in Sequoia, arXiv 2402.12374, algorithm 2).

At a node, children are tried in the order they were drawn. A rejected child x changes both laws:
`r <- norm((r - q)+)` and `q <- norm(q without x)`. Nothing of that is stored per token: both are computed anew from the
ids rejected so far and the normalisers met on the way, a handful of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from draftproof.kernels.decide_token import bonus, coin
from draftproof.kernels.drafted import Decided, Drafted, DraftRows, as_decided
from draftproof.kernels.residual import NO_MASS, accepts, positive_part, residual_draw
from draftproof.kernels.row_law import probs
from draftproof.kernels.row_stats import RowStats


@dataclass
class Rejected:
    """Siblings rejected at one node: what the residual law is computed from."""

    ids: list[int] = field(default_factory=list)
    masses: list[Tensor] = field(default_factory=list)
    """Normaliser of the residual after each."""
    left: list[Tensor] = field(default_factory=lambda: [torch.ones(())])
    """Mass that q had left before each sibling, and now."""


def tree_residual(p: Tensor, q: Tensor, rejected: Rejected) -> tuple[Tensor, Tensor]:
    """The laws, rows [V], that remain of p and q after the rejected siblings."""
    r, rest = p, q / rejected.left[0]
    for token, mass, left in zip(rejected.ids, rejected.masses, rejected.left[1:], strict=True):
        r = positive_part(r, rest) / mass
        q = q.index_fill(0, torch.tensor([token], device=q.device), 0.0)
        rest = q / left
    return r, rest


def decide_siblings(logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    """What each request emits; `drafted` are trees, and siblings were drawn from one row of `q` in their order."""
    if logits.is_cuda:
        from draftproof.kernels.decide_siblings_triton import decide_siblings_triton

        with torch.cuda.device(logits.device):
            return decide_siblings_triton(logits, stats, drafted, q)
    return decide_siblings_torch(logits, stats, drafted, q)


def decide_siblings_torch(logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    """The definition; reads only rows that are reached."""
    cu_rows = drafted.cu_rows.tolist()
    paths: list[list[int]] = []
    last: list[int] = []
    bad: list[int] = []
    for request in range(drafted.tokens.shape[0]):
        path, token = _descend(logits, stats, drafted, q, request, cu_rows[request], cu_rows[request + 1])
        paths.append(path)
        last.append(token)
        bad.append(-1 if token >= 0 else path[-1] + 1 if path else 0)
    return as_decided(paths, last, bad, drafted.tokens)


def _descend(
    logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows, request: int, start: int, end: int
) -> tuple[list[int], int]:
    """(accepted nodes, token that follows or -1) of one tree."""
    seed, position = int(drafted.seeds[request]), int(drafted.positions[request])
    nodes = end - start - 1
    parent = range(-1, nodes - 1) if drafted.parent is None else drafted.parent[request, :nodes].tolist()
    tokens = drafted.tokens[request, :nodes].tolist()
    path: list[int] = []
    node = -1
    while True:
        row, here = start + 1 + node, position + len(path)
        children = [n for n in range(node + 1, nodes) if parent[n] == node]
        if stats.bad[row]:
            return path, -1
        if stats.inv_temp[row] == 0:
            best = int(stats.argmax[row])
            child = next((n for n in children if tokens[n] == best), None)
            if child is None:
                return path, best
        elif not children:
            return path, bonus(logits, stats, row, seed, here)
        else:
            p = probs(logits[row : row + 1], stats.law.row(row))[0]
            q_row = q.row(int(q.of[request, children[0]]), logits.shape[1])
            tried, rejected = _try(p, q_row, [tokens[n] for n in children], seed, here)
            if tried < 0:
                return path, residual_draw(tree_residual(p, q_row, rejected)[0], seed, here)
            child = children[tried]
        node = child
        path.append(node)


def _try(p: Tensor, q: Tensor, siblings: list[int], seed: int, position: int) -> tuple[int, Rejected]:
    """(which sibling is accepted or -1, those rejected before it). The coin of sibling j lies in lane j."""
    rejected = Rejected()
    for lane, token in enumerate(siblings):
        r, rest = tree_residual(p, q, rejected)
        if not (0 <= token < p.shape[0] and rest[token] > 0):
            continue  # q cannot have drawn it: it says nothing about what remains
        if accepts(coin(seed, position, lane), r[token], rest[token]):
            return lane, rejected
        mass = positive_part(r, rest).sum()
        left = rejected.left[-1] - q[token]
        if not (mass > NO_MASS):
            break  # r and q are the same but for rounding: draw from r
        rejected.ids.append(token)
        rejected.masses.append(mass)
        rejected.left.append(left)
        if not (left > NO_MASS):
            break  # q has nothing left that a further sibling could have been drawn from
    return -1, rejected
