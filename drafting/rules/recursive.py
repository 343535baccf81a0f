"""Siblings tried one after the other, each against what its rejected elder siblings left of the target's law.

Recursive rejection sampling without replacement: Chen et al., "Sequoia" (arXiv 2402.12374, Algorithm 2), Jeon et al.,
"Recursive Speculative Decoding" (arXiv 2402.14160). The siblings of a node were drawn from q in their order, none
twice. One is accepted with probability min(1, p'(x) / q'(x)); after a rejection p' becomes norm((p' - q')+) and q'
loses x. Trying siblings against the p and q of the first, as if nothing had been rejected, is biased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow
from draftproof.drafting.rules.follow import decide_rows
from draftproof.drafting.rules.token import accept_probability, residual


def without(q: Tensor, tokens: Sequence[int]) -> Tensor:
    """q [V] with `tokens` taken out, renormalised; all 0 when nothing is left."""
    rest = q.clone()
    rest[list(tokens)] = 0.0
    mass = rest.sum()
    return rest / mass if float(mass) > 0.0 else rest


def after_rejection(p: Tensor, q: Tensor, token: int) -> tuple[Tensor, Tensor]:
    """p' and q' [V] for the next sibling. A q' that is all 0 rejects it, as it cannot have been drawn."""
    return residual(p, q), without(q, [token])


@dataclass(frozen=True)
class RecursiveRule:
    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("recursive", lossless=True, laws=frozenset({"match", "reject", "reject_wor"}))

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return decide_rows(verification, self.spec, decide_row)


def decide_row(row: DraftedRow) -> Decision:
    path: list[int] = []
    node = -1
    while row.children(node):
        accepted, left = _first_accepted(row, node)
        if accepted is None:
            token = row.draw_left(left, node)
            return Decision(tuple(path), token)
        path.append(accepted)
        node = accepted
    return Decision(tuple(path), row.draw_below(node))


def _first_accepted(row: DraftedRow, node: int) -> tuple[int | None, Tensor]:
    """The child that is accepted, and what the rejected ones left of the target's law."""
    p, q = row.p(node), row.q_of_children(node)
    for lane, child in enumerate(row.children(node)):
        token = row.tokens[child]
        if row.chance(child, lane) < accept_probability(float(p[token]), float(q[token])):
            return child, p
        p, q = after_rejection(p, q, token)
    return None, p
