"""Names of verifiers, and how a name with arguments becomes one.

Built-in verifiers are listed here by their import path, so that asking what there is imports none
of them. Other packages add theirs through the entry-point group `draftproof.verifiers`; an entry
point names a class or function that takes the arguments as keywords and returns a `Verifier`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from draftproof.errors import ContractError, DraftproofError, MissingExtraError, UnknownNameError, UsageError
from draftproof.named import parse_named
from draftproof.verifier import Verifier, identity

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
    Listing(
        "pocket-step",
        "draftproof.verifiers.pocket_step:PocketStepVerifier",
        "Check steps of pocket problems against the problem's own plan (guarantee: exact).",
    ),
    Listing(
        "router",
        "draftproof.verifiers.routers.router:RouterVerifier",
        "Probability that the target would write a draft's step better, from a fitted router (guarantee: opinion).",
    ),
    Listing(
        "uncertainty-head",
        "draftproof.verifiers.uncertainty_head.verifier:UncertaintyHeadVerifier",
        "Probability that a step is correct, from a trained head on its model's internals (guarantee: opinion).",
    ),
    Listing(
        "mean-logprob",
        "draftproof.verifiers.uncertainty_head.baselines:MeanLogprobVerifier",
        "How probable a model finds a step's tokens: their geometric mean (guarantee: opinion).",
    ),
    Listing(
        "perplexity",
        "draftproof.verifiers.uncertainty_head.baselines:PerplexityVerifier",
        "One over a model's perplexity on a step (guarantee: opinion).",
    ),
    Listing(
        "token-entropy",
        "draftproof.verifiers.uncertainty_head.baselines:TokenEntropyVerifier",
        "How decided a model was at a step's tokens (guarantee: opinion).",
    ),
    Listing(
        "p-true",
        "draftproof.verifiers.uncertainty_head.p_true:PTrueVerifier",
        "Ask a model whether a step is right, and read the probability of yes (guarantee: opinion).",
    ),
    Listing(
        "judge",
        "draftproof.verifiers.judges.judge:JudgeVerifier",
        "Ask any language model whether a step is right, by votes that can contradict each other (guarantee: opinion).",
    ),
    Listing(
        "judge-group",
        "draftproof.verifiers.judges.judge_group:GroupJudgeVerifier",
        "Ask any language model which candidate is best, in shuffled and opposite orders (guarantee: opinion).",
    ),
    Listing(
        "grounding",
        "draftproof.verifiers.grounding.verifier:GroundingVerifier",
        "Look for a text's numbers and names in its documents, then ask a model (guarantee: exact, then opinion).",
    ),
    Listing(
        "quote",
        "draftproof.verifiers.grounding.quote_verifier:QuoteVerifier",
        "Look for a text's quotations in its documents, character by character (guarantee: exact).",
    ),
    Listing(
        "process-reward",
        "draftproof.verifiers.process_reward.verifier:ProcessRewardVerifier",
        "Score every step by a process reward model (guarantee: opinion).",
    ),
    Listing(
        "calibrated",
        "draftproof.verifiers.combining.calibrated:calibrated",
        "Another verifier with calibrated scores, from a file of `verifiers calibrate` (guarantee: opinion).",
    ),
    Listing(
        "conformal",
        "draftproof.verifiers.combining.conformal:conformal",
        "Another verifier under thresholds that bound its error rates, from such a file (guarantee: statistical).",
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
    listing = known[name]
    factory = _loaded(listing)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        takes = ", ".join(parameters(factory)) or "none"
        raise UsageError(f"Verifier {name!r}: {error}.", remedy=f"Its arguments: {takes}.") from error
    try:
        verifier = factory(**given)
    except DraftproofError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"Verifier {name!r} needs the package {error.name!r}.", remedy=_install(listing)
        ) from error
    except Exception as error:  # as with checks: what another package raises is not ours to crash with
        raise UsageError(f"Verifier {name!r} cannot be made: {type(error).__name__}: {error}.") from error
    _hold_protocol(listing, verifier)
    return verifier


def _loaded(listing: Listing) -> Callable[..., Verifier]:
    try:
        return listing.load()
    except DraftproofError:
        raise
    except Exception as error:  # whatever another package does when it is imported
        raise MissingExtraError(
            f"Verifier {listing.name!r} cannot be loaded: {type(error).__name__}: {error}.", remedy=_install(listing)
        ) from error


def _install(listing: Listing) -> str:
    if listing.source == "draftproof":
        return "Install it: pip install 'draftproof[all]'."
    return f"It comes with the package {listing.source}: install that again, or tell its authors."


def _hold_protocol(listing: Listing, verifier: object) -> None:
    """A verifier of another package is what it was asked for, or the error says what is wrong with it."""
    if not isinstance(verifier, Verifier):
        raise ContractError(f"{listing.target} made a {type(verifier).__name__}, which is no verifier.")
    if verifier.name != listing.name:
        raise ContractError(
            f"{listing.target} is registered as {listing.name!r} and calls itself {verifier.name!r}: "
            "a stored verdict could not be given again."
        )
    try:
        identity(verifier)
    except DraftproofError:
        raise
    except ValueError as error:
        raise UsageError(
            f"Verifier {listing.name!r}: its arguments have no canonical form ({error}).",
            remedy="Use text, finite numbers and integers below 2^53.",
        ) from error


def parameters(factory: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a factory takes, less what identifies the verifier itself."""
    fixed = {"name", "version", "granularity", "proposition", "guarantee", "environment", "extract"}
    return [name for name in inspect.signature(factory).parameters if name not in fixed]


def parse_verifier(text: str) -> Verifier:
    """A verifier from `NAME[:key=value,…]`, as the command line writes it."""
    return create_verifier(*parse_named(text))
