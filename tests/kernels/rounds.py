"""Rounds of verification to test with: drafted chains and trees, their draft rows, and comparisons of decisions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from draftproof.kernels.drafted import Decided, Drafted, DraftRows
from draftproof.kernels.row_stats import RowStats, row_stats_torch


@dataclass(frozen=True)
class Chain:
    """One request: k+1 rows of the target, k rows of the drafter, k tokens."""

    logits: Tensor
    q: Tensor
    tokens: list[int]
    inv_temp: float = 1.0
    parent: list[int] | None = None
    of: list[int] | None = None
    """Rows of `q`; one for each token unless said otherwise."""


@dataclass(frozen=True)
class Round:
    logits: Tensor
    stats: RowStats
    drafted: Drafted
    q: DraftRows

    def on(self, device: torch.device) -> Round:
        return _moved(self, device)


def packed(chains: list[Chain], *, seed: int = 0, top_k: int = 0) -> Round:
    """A ragged batch. Every request has its own seed, beyond 32 bits, and its own position."""
    width = max(max(len(c.tokens) for c in chains), 1)
    logits = torch.cat([c.logits for c in chains])
    inv_temp = torch.cat([torch.full((len(c.logits),), c.inv_temp) for c in chains])
    tokens, of, parent = (torch.full((len(chains), width), -1) for _ in range(3))
    rows = 0
    for b, c in enumerate(chains):
        k = len(c.tokens)
        tokens[b, :k] = torch.tensor(c.tokens, dtype=torch.int64)
        parent[b, :k] = torch.tensor(c.parent if c.parent is not None else list(range(-1, k - 1)), dtype=torch.int64)
        of[b, :k] = rows + torch.tensor(c.of if c.of is not None else list(range(k)), dtype=torch.int64)
        rows += len(c.q)
    bounds = [0]
    for c in chains:
        bounds.append(bounds[-1] + len(c.logits))
    trees = any(c.parent is not None for c in chains)
    drafted = Drafted(
        tokens=tokens,
        cu_rows=torch.tensor(bounds),
        seeds=torch.arange(len(chains)) * 12_345_678_901 + seed,
        positions=torch.arange(len(chains)) * 1000 + 7,
        parent=parent if trees else None,
    )
    limit = torch.full((len(logits),), top_k) if top_k else None
    return Round(
        logits, row_stats_torch(logits, inv_temp, top_k=limit), drafted, DraftRows(torch.cat([c.q for c in chains]), of)
    )


def random_chains(lengths: list[int], vocab: int, *, seed: int, noise: float = 1.0) -> list[Chain]:
    """Chains drawn from rows that resemble the target's; the lower the noise, the more is accepted."""
    g = torch.Generator().manual_seed(seed)
    chains = []
    for k in lengths:
        logits = 2.0 * torch.randn(k + 1, vocab, generator=g)
        q = (logits[:k] + noise * torch.randn(k, vocab, generator=g)).softmax(-1)
        tokens = [int(torch.multinomial(row, 1, generator=g)) for row in q]
        chains.append(Chain(logits, q, tokens))
    return chains


def random_trees(vocab: int, *, seed: int, noise: float = 1.0) -> list[Chain]:
    """Trees whose siblings were drawn without replacement from one row."""
    g = torch.Generator().manual_seed(seed)
    trees = []
    for parent in ([-1, -1, -1, 0, 0, 3], [-1, 0, 0, 0, 1], [-1, -1], []):
        n = len(parent)
        logits = 2.0 * torch.randn(n + 1, vocab, generator=g)
        q = (logits + noise * torch.randn(n + 1, vocab, generator=g)).softmax(-1)
        tokens = [0] * n
        for above in sorted(set(parent)):
            siblings = [i for i in range(n) if parent[i] == above]
            drawn = torch.multinomial(q[above + 1], len(siblings), generator=g).tolist()
            for node, token in zip(siblings, drawn, strict=True):
                tokens[node] = token
        trees.append(Chain(logits, q, tokens, parent=parent, of=[above + 1 for above in parent]))
    return trees


def assert_same(one: Decided, other: Decided) -> None:
    for field in fields(Decided):
        first, second = getattr(one, field.name), getattr(other, field.name).to(getattr(one, field.name).device)
        assert first.dtype == second.dtype, field.name
        assert torch.equal(first, second), (field.name, first, second)


def assert_well_formed(decided: Decided, vocab: int) -> None:
    """Ids in range, -1 exactly after `num`, a path that fits."""
    out, num = decided.out.cpu(), decided.num.cpu().long()
    column = torch.arange(out.shape[1])
    emitted = column < num.unsqueeze(1)
    assert ((out >= 0) == emitted).all()
    assert (out < vocab).all()
    accepted = num - (decided.bad.cpu() < 0).long()
    assert ((decided.path.cpu() >= 0).sum(1) <= accepted.clamp(min=0)).all()


def _moved(value: object, device: torch.device):
    if isinstance(value, Tensor):
        return value.to(device)
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    return value
