"""Drafter, rule and policy, each as an object or as text, `NAME[:key=value,…]`."""

from __future__ import annotations

from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.catalogue import create_drafter
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.policy import Policy
from draftproof.drafting.rule import Rule
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.named import parse_named


def drafter_of(part: str | Drafter | None) -> Drafter | None:
    """None, as the name `none`, decodes plainly."""
    if not isinstance(part, str):
        return part
    name, arguments = parse_named(part)
    return create_drafter(name, **arguments)


def rule_of(part: str | Rule) -> Rule:
    if not isinstance(part, str):
        return part
    name, arguments = parse_named(part)
    return create_rule(name, **arguments)


def policy_of(part: str | Policy) -> Policy:
    if not isinstance(part, str):
        return part
    name, arguments = parse_named(part)
    return create_policy(name, **arguments)
