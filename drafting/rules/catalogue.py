"""Names of rules, and how a name with arguments becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from draftproof.drafting.rule import Rule
from draftproof.drafting.rules.auto import AutoRule
from draftproof.drafting.rules.block import BlockRule
from draftproof.drafting.rules.greedy import GreedyRule
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.rules.multi_draft import MultiDraftRule
from draftproof.drafting.rules.recursive import RecursiveRule
from draftproof.drafting.rules.token import TokenRule
from draftproof.drafting.rules.typical import TypicalRule
from draftproof.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Listing:
    """A rule that can be asked for by name."""

    name: str
    make: Callable[..., Rule]
    summary: str


LISTINGS = (
    Listing("auto", AutoRule, "The lossless rule that accepts most, by the law of the draft."),
    Listing("greedy", GreedyRule, "Arg-max decoding; temperature 0 only."),
    Listing("match", MatchRule, "The target's own seeded draw decides: text does not depend on the drafter at all."),
    Listing("token", TokenRule, "Chains with a q, token by token: min(1, p/q), else the residual."),
    Listing("block", BlockRule, "Chains with a q, judged as a whole: accepts at least as much as token."),
    Listing("recursive", RecursiveRule, "Trees whose siblings were drawn from q without replacement."),
    Listing("multi-draft", MultiDraftRule, "Trees of the most probable siblings and one that was drawn."),
    Listing("typical", TypicalRule, "LOSSY: keeps what the target finds likely enough (Medusa)."),
)


def create_rule(name: str, **arguments: Any) -> Rule:
    """The rule called `name`. Raises UnknownNameError, and UsageError for arguments it does not take."""
    listing = next((each for each in LISTINGS if each.name == name), None)
    if listing is None:
        raise UnknownNameError(
            f"There is no rule {name!r}.", remedy=f"There are: {', '.join(each.name for each in LISTINGS)}."
        )
    try:
        inspect.signature(listing.make).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(listing.make).parameters) or "none"
        raise UsageError(f"Rule {name!r}: {error}.", remedy=f"Its arguments: {takes}.") from error
    return listing.make(**arguments)
