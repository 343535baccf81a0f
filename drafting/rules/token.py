"""Token by token: accept with probability min(1, p/q), else draw from what q left of p.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (arXiv 2211.17192, Algorithm 1); Chen et
al., "Accelerating Large Language Model Decoding with Speculative Sampling" (arXiv 2302.01318, Algorithm 2). Accepted
tokens have the law min(p, q), replaced ones (p - q)+, and the two add up to p. Exact only if the token really was
drawn from the q that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow
from draftproof.drafting.rules.follow import decide_rows


def accept_probability(p_x: float, q_x: float) -> float:
    """For a token of probability p_x that was drawn with probability q_x; 0 for one that cannot have been drawn."""
    return min(1.0, p_x / q_x) if q_x > 0.0 else 0.0


def residual(p: Tensor, q: Tensor) -> Tensor:
    """norm((p - q)+) [V]. Where the two are equal up to rounding, a rejection was rounding too, and p is the answer."""
    left = (p - q).clamp_(min=0.0)
    mass = left.sum()
    return p if float(mass) <= 4.0 * torch.finfo(p.dtype).eps else left / mass


@dataclass(frozen=True)
class TokenRule:
    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("token", lossless=True, laws=frozenset({"match", "reject"}))

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return decide_rows(verification, self.spec, decide_row)


def decide_row(row: DraftedRow) -> Decision:
    nodes = range(len(row.tokens))
    for node in nodes:
        if not row.chance(node, node) < accept_probability(row.p_of(node), row.q_of(node)):
            left = residual(row.p(node - 1), row.q(node))
            token = row.draw_left(left, node - 1)
            return Decision(tuple(nodes[:node]), token)
    return Decision(tuple(nodes), row.draw_below(len(row.tokens) - 1))
