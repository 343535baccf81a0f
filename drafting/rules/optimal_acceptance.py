"""How much of k drafts for one position could be accepted at best, and how much each rule accepts.

Hu et al., "Towards Optimal Multi-draft Speculative Decoding" (arXiv 2502.18779): coupling a token of law p with k
drafts so that it is among them as often as possible is a transport problem, and by duality

    alpha* = min over sets H of [ 1 + p(H) - Q(H) ],    Q(H) = P(all k drafts lie in H).

The best H holds the tokens of smallest p/q, so V + 1 sets need a look. For analysis, not for the decoding loop: without
replacement, a vocabulary of 50,000 takes seconds.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draftproof.drafting.rules.multi_draft import law_of_last
from draftproof.drafting.rules.recursive import after_rejection
from draftproof.drafting.rules.token import accept_probability
from draftproof.errors import UsageError

Array = NDArray[np.float64]

_STEP = 0.25
"""Of the integral over log t; the trapezium's error falls as exp(-pi^2 / step)."""
_MOST_PATHS = 1_000_000


def optimal_acceptance(p: Tensor, q: Tensor, k: int, replacement: bool = False) -> float:
    """The most that any rule can accept of `k` drafts from q [V], drawn with or without replacement."""
    target, draft = _laws(p, q, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(np.where(draft > 0, target / draft, np.inf), kind="stable")
    target, draft = target[order], draft[order]
    inside = np.concatenate([[0.0], np.cumsum(target)])
    outside = np.concatenate([np.cumsum(draft[::-1])[::-1], [0.0]])  # summed from the end: small ones stay exact
    if replacement or k <= 1:
        all_inside = np.maximum(1.0 - outside, 0.0) ** k
    else:
        all_inside = _first_inside(draft, outside, min(k, int((draft > 0).sum())))
    return float(np.clip(np.min(1.0 + inside - all_inside), 0.0, 1.0))


def acceptance(p: Tensor, q: Tensor, k: int, rule: str) -> float:
    """What `rule` accepts of `k` siblings that are drafted from q [V] as the rule wants them.

    `match`: the k most probable ones; `token` and `block`: one that is drawn; `recursive`: k drawn without
    replacement; `multi-draft`: the k - 1 most probable ones and one that is drawn from the rest.
    """
    target, draft = (torch.from_numpy(law) for law in _laws(p, q, k))
    if k == 0:
        return 0.0
    if rule in ("token", "block"):
        if k > 1:
            raise UsageError(f"The rule {rule!r} verifies one draft for a position, not {k}.")
        return float(torch.minimum(target, draft).sum())
    if rule == "match":
        return float(target[draft.topk(min(k, len(draft))).indices].sum())
    if rule == "multi-draft":
        top = draft.topk(min(k, len(draft)) - 1).indices
        last = law_of_last(draft, top.tolist())
        rest = torch.ones_like(target, dtype=torch.bool)
        rest[top] = False
        return float(target[top].sum() + torch.minimum(target, last)[rest].sum())
    if rule == "recursive":
        if len(draft) ** (k - 1) > _MOST_PATHS:
            raise UsageError(
                f"The rule 'recursive' has {len(draft)}^{k - 1} ways to reject here, too many to go through.",
                remedy="Keep the most probable tokens only, renormalised.",
            )
        return _recursive(target, draft, k)
    raise UsageError(
        f"There is no formula for the rule {rule!r}.", remedy="There are: match, token, block, recursive, multi-draft."
    )


def _recursive(p: Tensor, q: Tensor, k: int) -> float:
    total = float(torch.minimum(p, q).sum())
    if k == 1:
        return total
    for token in q.nonzero().squeeze(-1).tolist():
        drawn = float(q[token])
        rejected = drawn * (1.0 - accept_probability(float(p[token]), drawn))
        if rejected > 0.0:
            total += rejected * _recursive(*after_rejection(p, q, token), k - 1)
    return total


def _laws(p: Tensor, q: Tensor, k: int) -> tuple[Array, Array]:
    if p.dim() != 1 or p.shape != q.shape:
        raise UsageError(f"p and q must be rows of one length, got {tuple(p.shape)} and {tuple(q.shape)}.")
    if k < 0:
        raise UsageError(f"k is {k}, it must be 0 or positive.")
    rows = [row.to(torch.float64).cpu() for row in (p, q)]
    for name, row in zip("pq", rows, strict=True):
        if not abs(float(row.sum()) - 1.0) <= 1e-3 or float(row.min()) < 0.0:
            raise UsageError(f"{name} is no distribution: it sums to {float(row.sum()):.6g}.")
    target, draft = ((row / row.sum()).numpy() for row in rows)
    return target, draft


def _first_inside(draft: Array, outside: Array, k: int) -> Array:
    """P(the first k of a race all lie among the first n tokens), for n = 0 … V.

    Token i arrives at a time of law Exp(q_i), and the first from outside at a time of law Exp(outside). So the wanted
    probability is that k have arrived inside by then: the integral of outside exp(-outside t) P(k arrived by t).
    """
    smallest = max(float(outside[outside > 0].min()), 1e-18)
    log_t = np.arange(math.log(1e-9), math.log(50.0 / smallest), _STEP)
    t = np.exp(log_t)
    arrived = np.zeros((k, len(t)))  # probability that exactly j < k have arrived by t
    arrived[0] = 1.0
    result = np.zeros(len(draft) + 1)
    support = 0
    for n in range(1, len(draft) + 1):
        chance = -np.expm1(-draft[n - 1] * t)
        arrived[1:] = arrived[1:] * (1.0 - chance) + arrived[:-1] * chance
        arrived[0] *= 1.0 - chance
        support += int(draft[n - 1] > 0)
        if outside[n] <= 1e-18:
            result[n] = 1.0
        elif support >= k:
            weight = outside[n] * np.exp(-outside[n] * t) * t * _STEP
            result[n] = float((weight * (1.0 - arrived.sum(axis=0))).sum())
    return result
