"""Typical acceptance: a drafted token stays when the target finds it likely enough. LOSSY: not the target's law.

Cai et al., "Medusa" (arXiv 2401.10774, section 2.3.1). A node is accepted when its parent is and

    p(x) > min(epsilon, delta exp(-H(p)))        H in nats, p after temperature, top-k and top-p;

of the accepted paths the longest is kept, of equally long ones the most probable. The token after it is the target's
own draw. The paper states a hard floor epsilon and delta = sqrt(epsilon); with the values of its public code (0.3 and
0.09) the floor never binds. Ours are 0.09 and 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow, drafted_rows
from draftproof.drafting.rules.follow import ALL_LAWS, follow_arg_max
from draftproof.errors import UsageError


def floor(p: Tensor, epsilon: float, delta: float) -> float:
    """What a token's probability must exceed under the law p [V]."""
    entropy = float(torch.special.entr(p).sum())
    return min(epsilon, delta * math.exp(-entropy))


@dataclass(frozen=True)
class TypicalRule:
    epsilon: float = 0.09
    delta: float = 0.3

    def __post_init__(self) -> None:
        for name, value in (("epsilon", self.epsilon), ("delta", self.delta)):
            if not 0.0 < value <= 1.0:
                raise UsageError(f"{name} is {value}, it must be above 0 and at most 1.")

    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("typical", lossless=False, laws=ALL_LAWS)

    def decide(self, verification: Verification) -> Sequence[Decision]:
        rows, _ = drafted_rows(verification)
        return [follow_arg_max(row) if row.sampling.greedy else self._decide(row) for row in rows]

    def _decide(self, row: DraftedRow) -> Decision:
        path = self._longest(row, -1)[2]
        return Decision(tuple(path), row.draw_below(path[-1] if path else -1))

    def _longest(self, row: DraftedRow, node: int) -> tuple[int, float, list[int]]:
        """Length, log-probability and nodes of the best accepted path below `node`."""
        best: tuple[int, float, list[int]] = (0, 0.0, [])
        children = row.children(node)
        if not children:
            return best
        least = floor(row.p(node), self.epsilon, self.delta)
        for child in children:
            probability = row.p_of(child)
            if probability > least:
                length, log_probability, path = self._longest(row, child)
                found = (length + 1, log_probability + math.log(probability), [child, *path])
                if not best[2] or found[:2] > best[:2]:
                    best = found
        return best
