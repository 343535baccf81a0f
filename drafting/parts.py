"""Drafter, rule and policy, each as an object or as text, `NAME[:key=value,…]`."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path

from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.catalogue import create_drafter
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.policy import Policy
from draftproof.drafting.rule import Rule
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.errors import UsageError
from draftproof.named import parse_named


def drafter_of(part: str | Drafter | None, models_folder: Path | None = None) -> Drafter | None:
    """None, as the name `none`, decodes plainly. `models_folder` is where fetched models are, as for `load_model`."""
    if part is not None and not isinstance(part, str | Drafter):
        raise _no_part(part, "drafter")
    if not isinstance(part, str):
        return part
    name, arguments = parse_named(part)
    return create_drafter(name, models_folder, **arguments)


def rule_of(part: str | Rule) -> Rule:
    if not isinstance(part, str | Rule):
        raise _no_part(part, "rule")
    if not isinstance(part, str):
        return part
    name, arguments = parse_named(part)
    return create_rule(name, **arguments)


def policy_of(part: str | Policy) -> Policy:
    if not isinstance(part, str | Policy):
        raise _no_part(part, "policy")
    if not isinstance(part, str):
        return part
    name, arguments = parse_named(part)
    return create_policy(name, **arguments)


def described(asked: object, made: object) -> str:
    """A part in text, for records: as it was asked for, or its class with the fields that it shows."""
    if isinstance(asked, str):
        return asked
    if made is None:
        return "none"
    kind = type(made)
    return repr(made) if is_dataclass(made) else f"{kind.__module__}.{kind.__qualname__}"


def _no_part(given: object, kind: str) -> UsageError:
    found = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    return UsageError(f"A {kind} was expected, as NAME[:key=value,…] or as an object; got {found}.")
