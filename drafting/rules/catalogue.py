"""Names of rules, and how a name with arguments becomes one."""

from __future__ import annotations

from typing import Any

from draftproof.drafting.part_arguments import Listing, make_part
from draftproof.drafting.rule import Rule
from draftproof.drafting.rules.auto import AutoRule
from draftproof.drafting.rules.block import BlockRule
from draftproof.drafting.rules.greedy import GreedyRule
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.rules.multi_draft import MultiDraftRule
from draftproof.drafting.rules.recursive import RecursiveRule
from draftproof.drafting.rules.token import TokenRule
from draftproof.drafting.rules.typical import TypicalRule

LISTINGS = (
    Listing("auto", "The lossless rule that accepts most, by the law of the draft.", AutoRule),
    Listing("greedy", "Arg-max decoding; temperature 0 only.", GreedyRule),
    Listing("match", "The target's own seeded draw decides: text does not depend on the drafter at all.", MatchRule),
    Listing("token", "Chains with a q, token by token: min(1, p/q), else the residual.", TokenRule),
    Listing("block", "Chains with a q, judged as a whole: accepts at least as much as token.", BlockRule),
    Listing("recursive", "Trees whose siblings were drawn from q without replacement.", RecursiveRule),
    Listing("multi-draft", "Trees of the most probable siblings and one that was drawn.", MultiDraftRule),
    Listing("typical", "LOSSY: keeps what the target finds likely enough (Medusa).", TypicalRule),
)


def create_rule(name: str, /, **arguments: Any) -> Rule:
    """The rule called `name`. Raises UnknownNameError, and UsageError for arguments it does not take."""
    made: Rule = make_part("rule", LISTINGS, name, arguments)
    return made
