"""Block verification: the chain is judged as a whole, and never fewer tokens are accepted than token by token.

Sun et al., "Block Verification Accelerates Speculative Decoding" (arXiv 2403.10444, Algorithm 2). With d_i the drafted
tokens and p_i, q_i the laws of position i,

    P_0 = 1,   P_i = min(1, P_{i-1} p_i(d_i) / q_i(d_i))        what is left of the first i tokens' joint probability
    S_i = sum_v (P_i p_{i+1}(v) - q_{i+1}(v))+                  i < k
    h_i = S_i / (S_i + 1 - P_i)  for i < k,   h_k = P_k

and a is the LAST i with u_i < h_i, 0 if there is none: a failure on the way does not end the block. The correction is
drawn from norm((P_a p_{a+1} - q_{a+1})+). One drafted token makes this the token rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow
from draftproof.drafting.rules.follow import decide_rows


def prefix_weights(p_x: Sequence[float], q_x: Sequence[float]) -> list[float]:
    """P_0 … P_k from the probabilities of the drafted tokens; 0 from a token on that cannot have been drawn."""
    weights = [1.0]
    for p, q in zip(p_x, q_x, strict=True):
        weights.append(min(1.0, weights[-1] * p / q) if q > 0.0 else 0.0)
    return weights


def accept_probability(weight: float, p: Tensor, q: Tensor) -> float:
    """h_i for i < k: `weight` is P_i, `p` and `q` [V] are the laws of the position after it."""
    if weight <= 0.0 or weight >= 1.0:
        return weight
    left = float((weight * p - q).clamp_(min=0.0).sum())
    return left / (left + 1.0 - weight)


def residual(weight: float, p: Tensor, q: Tensor) -> Tensor:
    """norm((P p - q)+) [V]; p where rounding is all that is left."""
    left = (weight * p - q).clamp_(min=0.0)
    mass = left.sum()
    return p if float(mass) <= 4.0 * torch.finfo(p.dtype).eps else left / mass


@dataclass(frozen=True)
class BlockRule:
    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("block", lossless=True, laws=frozenset({"match", "reject"}))

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return decide_rows(verification, self.spec, decide_row)


def decide_row(row: DraftedRow) -> Decision:
    drafted = len(row.tokens)
    nodes = range(drafted)
    weights = prefix_weights([row.p_of(node) for node in nodes], [row.q_of(node) for node in nodes])
    if drafted == 0 or row.chance(drafted - 1, drafted - 1) < weights[drafted]:
        return Decision(tuple(nodes), row.draw_below(drafted - 1))
    accepted = drafted - 1  # from the end, because the last success counts
    while accepted and not row.chance(accepted - 1, accepted - 1) < accept_probability(
        weights[accepted], row.p(accepted - 1), row.q(accepted)
    ):
        accepted -= 1
    left = residual(weights[accepted], row.p(accepted - 1), row.q(accepted))
    token = row.draw_left(left, accepted - 1)
    return Decision(tuple(nodes[:accepted]), token)
