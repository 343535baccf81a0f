"""Length policies by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from draftproof.drafting.policy import Policy
from draftproof.errors import UnknownNameError, UsageError

POLICIES = {
    "cost": ("draftproof.drafting.policies.cost:Cost", "Most tokens per second, from measured costs and acceptance."),
    "fixed": ("draftproof.drafting.policies.fixed:Fixed", "The same draft length every round."),
    "confidence": (
        "draftproof.drafting.policies.confidence:Confidence",
        "Stop when the draft model is unsure of a token.",
    ),
    "specdec++": (
        "draftproof.drafting.policies.specdecpp:SpecDecPP",
        "Stop when a trained head expects a rejection (SpecDec++).",
    ),
    "del": ("draftproof.drafting.policies.del_policy:DEL", "Choose exit layer and draft length online (DEL)."),
}
"""Name to (import path, what it does)."""


def create_policy(name: str, **arguments: Any) -> Policy:
    """The policy called `name`. Raises UnknownNameError, and UsageError for arguments that it does not take."""
    if name not in POLICIES:
        raise UnknownNameError(f"There is no length policy {name!r}.", remedy=f"There are: {', '.join(POLICIES)}.")
    module, _, attribute = POLICIES[name][0].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(factory).parameters) or "none"
        raise UsageError(f"Policy {name!r}: {error}.", remedy=f"Its arguments: {takes}.") from error
    policy: Policy = factory(**arguments)
    return policy
