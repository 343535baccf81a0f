"""A node's most probable children and one that is drawn: the best use of several drafts that takes one chain's work.

Hu et al., "Towards Optimal Multi-draft Speculative Decoding" (arXiv 2502.18779), greedy drafts. All children but the
last are chosen by looking at q; the last is drawn from q', which is q without them. It is verified as the only child of
an ordinary chain with q' for its law; where it is rejected, a token is drawn from the residual, and if that token is
one of the other children, the walk goes on from there. The children's share of the target's law that is accepted,
p(Top) + sum over the rest of min(p, q'), is the most that any rule can do with such drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow
from draftproof.drafting.rules.follow import decide_rows
from draftproof.drafting.rules.recursive import without
from draftproof.drafting.rules.token import accept_probability, residual


def law_of_last(q: Tensor, elder: Sequence[int]) -> Tensor:
    """q' [V]: what the last sibling was drawn from, its `elder` siblings being taken."""
    return without(q, elder)


@dataclass(frozen=True)
class MultiDraftRule:
    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("multi-draft", lossless=True, laws=frozenset({"match", "reject", "reject_greedy"}))

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return decide_rows(verification, self.spec, decide_row)


def decide_row(row: DraftedRow) -> Decision:
    path: list[int] = []
    node = -1
    while children := row.children(node):
        *elder, last = children
        p = row.p(node)
        q = law_of_last(row.q_of_children(node), [row.tokens[child] for child in elder])
        drawn = row.tokens[last]
        if row.chance(last, len(elder)) < accept_probability(float(p[drawn]), float(q[drawn])):
            node = last
        else:
            token = row.draw_left(residual(p, q), node)
            hit = next((child for child in elder if row.tokens[child] == token), None)
            if hit is None:
                return Decision(tuple(path), token)
            node = hit
        path.append(node)
    return Decision(tuple(path), row.draw_below(node))
