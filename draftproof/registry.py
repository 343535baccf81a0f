"""Names of verifiers, and how a name with arguments becomes one.

Built-in verifiers are listed here by their import path, so that asking what there is imports none
of them. Other packages add theirs through the entry-point group `draftproof.verifiers`; an entry
point names a class or function that takes the arguments as keywords and returns a `Verifier`.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from draftproof.errors import MissingExtraError, UnknownNameError, UsageError
from draftproof.verifier import Verifier

ENTRY_POINTS = "draftproof.verifiers"


@dataclass(frozen=True)
class Listing:
    """A verifier that can be asked for by name."""

    name: str
    target: str
    """`package.module:attribute` of the class or function that makes it."""
    summary: str
    source: str = "draftproof"
    """The distribution that brings it."""

    def load(self) -> Callable[..., Verifier]:
        module, _, attribute = self.target.partition(":")
        factory: Callable[..., Verifier] = getattr(importlib.import_module(module), attribute)
        return factory


_BUILT_IN = (
    Listing(
        "arithmetic",
        "draftproof.verifiers.arithmetic:ArithmeticVerifier",
        "Recompute every equation and inequality of a step exactly (guarantee: exact).",
    ),
    Listing(
        "lean",
        "draftproof.verifiers.lean_step:LeanVerifier",
        "Prove or refute the same claims with the Lean 4 kernel (guarantee: proof).",
    ),
)


def listings() -> dict[str, Listing]:
    """All verifiers by name. A plug-in cannot take a built-in name."""
    found = {
        point.name: Listing(point.name, point.value, "", point.dist.name if point.dist else "unknown")
        for point in entry_points(group=ENTRY_POINTS)
    }
    return found | {listing.name: listing for listing in _BUILT_IN}


def create_verifier(name: str, arguments: Mapping[str, Any] | None = None) -> Verifier:
    """The verifier called `name`, made with `arguments`.

    Raises UnknownNameError, UsageError for arguments it does not take, and MissingExtraError when
    it needs a package that is not installed.
    """
    known = listings()
    if name not in known:
        raise UnknownNameError(f"There is no verifier {name!r}.", remedy=f"There are: {', '.join(sorted(known))}.")
    given = dict(arguments or {})
    try:
        factory = known[name].load()
    except ImportError as error:
        raise MissingExtraError(
            f"Verifier {name!r} cannot be loaded: {error}.", remedy="Install it: pip install 'draftproof[all]'."
        ) from error
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        takes = ", ".join(parameters(factory)) or "none"
        raise UsageError(f"Verifier {name!r}: {error}.", remedy=f"Its arguments: {takes}.") from error
    try:
        return factory(**given)
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError(
            f"Verifier {name!r} needs the package {error.name!r}.", remedy="Install it: pip install 'draftproof[all]'."
        ) from error


def parameters(factory: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a factory takes, less what identifies the verifier itself."""
    fixed = {"name", "version", "granularity", "proposition", "guarantee"}
    return [name for name in inspect.signature(factory).parameters if name not in fixed]


def parse_verifier(text: str) -> Verifier:
    """A verifier from `NAME[:key=value,…]`, as the command line writes it. Values are JSON, or else text."""
    name, _, rest = text.partition(":")
    arguments: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{pair!r} in {text!r} is not key=value.")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    return create_verifier(name, arguments)
