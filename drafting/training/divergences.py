"""How far a draft distribution is from the target's: losses for students that are to be accepted more often.

All work on outcomes: log-probabilities [..., K] that sum to 1 over K. Outcomes are either all V tokens, or a few
tokens and one bucket for the rest of the vocabulary (`on_outcomes`): without the bucket, a student could put what mass
it likes on tokens that are not listed.

Zhou et al., arXiv 2310.08461 (DistillSpec), section 4; the share of drafted tokens that is accepted is exactly
1 - total variation (Leviathan et al., arXiv 2211.17192, theorem 3.5).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from draftproof.errors import UsageError

Divergence = Literal["fkl", "rkl", "jsd", "tvd"]

TINY = 1e-20
"""Stands for probability 0 in logarithms."""


def divergence(kind: Divergence, target: Tensor, draft: Tensor, *, beta: float = 0.5) -> Tensor:
    """Divergence [...] of draft from target log-probabilities [..., K], in nats; never negative.

    fkl: Σ p log(p/q). rkl: Σ q log(q/p). tvd: ½ Σ |p - q|.
    jsd: β KL(p ‖ m) + (1-β) KL(q ‖ m) with m = βp + (1-β)q.
    """
    if kind == "fkl":
        return _kl(target, draft)
    if kind == "rkl":
        return _kl(draft, target)
    if kind == "tvd":
        return 0.5 * (target.exp() - draft.exp()).abs().sum(-1)
    if kind == "jsd":
        if not 0.0 < beta < 1.0:
            raise UsageError(f"beta of the Jensen-Shannon divergence is {beta}, it must lie between 0 and 1.")
        mixed = (beta * target.exp() + (1.0 - beta) * draft.exp()).clamp_min(TINY).log()
        return beta * _kl(target, mixed) + (1.0 - beta) * _kl(draft, mixed)
    raise UsageError(f"There is no divergence {kind!r}; there are {', '.join(get_args(Divergence))}.")


def _kl(first: Tensor, second: Tensor) -> Tensor:
    floor = torch.log(torch.tensor(TINY))
    weight = first.exp()
    return (weight * (first.clamp_min(floor) - second.clamp_min(floor))).sum(-1)


def acceptance(target: Tensor, draft: Tensor) -> Tensor:
    """Σ min(p, q) [...]: the probability that a token drawn from the draft is accepted."""
    return torch.minimum(target.exp(), draft.exp()).sum(-1)


def on_outcomes(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities [..., K + 1] of the tokens `ids` [..., K], distinct, and last of all other tokens together.

    `logits` [..., V]. The rest is summed over the other tokens themselves: 1 minus the listed ones would lose all
    digits where they carry nearly all mass.
    """
    total = logits.logsumexp(-1, keepdim=True)
    listed = logits.gather(-1, ids) - total
    others = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True) - total
    return torch.cat([listed, others], dim=-1)


def with_rest(logprobs: Tensor) -> Tensor:
    """Log-probabilities [..., K + 1]: the given ones and, last, what they leave of 1."""
    rest = (1.0 - logprobs.exp().sum(-1, keepdim=True)).clamp_min(TINY)
    return torch.cat([logprobs, rest.log()], dim=-1)
