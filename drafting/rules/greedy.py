"""Greedy decoding, verified: the arg-max of every row, down a chain or a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.follow import ALL_LAWS, decide_rows, follow_arg_max
from draftproof.errors import UsageError


@dataclass(frozen=True)
class GreedyRule:
    """For rows of temperature 0 only. At most one child can be the arg-max, so that the walk never turns back."""

    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("greedy", lossless=True, laws=ALL_LAWS)

    def decide(self, verification: Verification) -> Sequence[Decision]:
        for index, sampling in enumerate(verification.sampling):
            if not sampling.greedy:
                raise UsageError(
                    f"The rule 'greedy' was handed row {index} with temperature {sampling.temperature}.",
                    remedy="Use the rule 'auto', or temperature 0.",
                )
        return decide_rows(verification, self.spec, follow_arg_max)
