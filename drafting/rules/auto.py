"""The rule that fits the draft: block verification for chains with a q, a tree rule for siblings with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.drafting.draft import Law
from draftproof.drafting.rule import Decision, Rule, RuleSpec, Verification
from draftproof.drafting.rules.block import BlockRule
from draftproof.drafting.rules.follow import ALL_LAWS
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.rules.multi_draft import MultiDraftRule
from draftproof.drafting.rules.recursive import RecursiveRule

_BEST: dict[Law, Rule] = {
    "match": MatchRule(),
    "reject": BlockRule(),
    "reject_wor": RecursiveRule(),
    "reject_greedy": MultiDraftRule(),
}


def rule_for(law: Law) -> Rule:
    """The lossless rule that accepts most of drafts of `law`."""
    return _BEST[law]


@dataclass(frozen=True)
class AutoRule:
    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("auto", lossless=True, laws=ALL_LAWS)

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return rule_for(verification.draft.law).decide(verification)
