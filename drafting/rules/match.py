"""Accept what equals the target's own draw: seeded sampling, token for token, whatever was drafted.

The token of each position is drawn from the numbers of the stream `TARGET` at that position, exactly as plain decoding
draws it; a drafted node that equals it is accepted, and the first draw without such a node is the correction. So the
text is a function of logits and seed alone, and a draft changes nothing but the time it takes. The probability that a
node's children are accepted is their mass under p, the most that is possible for children chosen without a q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.follow import ALL_LAWS, decide_rows, follow_draws


@dataclass(frozen=True)
class MatchRule:
    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("match", lossless=True, laws=ALL_LAWS)

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return decide_rows(verification, self.spec, follow_draws)
