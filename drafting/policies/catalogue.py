"""Length policies by name."""

from __future__ import annotations

from typing import Any

from draftproof.drafting.part_arguments import Listing, make_part
from draftproof.drafting.policy import Policy

_HERE = "draftproof.drafting.policies"

LISTINGS = (
    Listing("cost", "Most tokens per second, from measured costs and acceptance.", f"{_HERE}.cost:Cost"),
    Listing("fixed", "The same draft length every round.", f"{_HERE}.fixed:Fixed"),
    Listing("confidence", "Stop when the draft model is unsure of a token.", f"{_HERE}.confidence:Confidence"),
    Listing("specdec++", "Stop when a trained head expects a rejection (SpecDec++).", f"{_HERE}.specdecpp:SpecDecPP"),
    Listing("del", "Choose exit layer and draft length online (DEL).", f"{_HERE}.del_policy:DEL"),
)


def create_policy(name: str, /, **arguments: Any) -> Policy:
    """The policy called `name`. Raises UnknownNameError, and UsageError for arguments that it does not take."""
    made: Policy = make_part("length policy", LISTINGS, name, arguments)
    return made
