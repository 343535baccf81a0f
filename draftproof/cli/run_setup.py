"""From the words of a command line to a pipeline with its models: what `draftproof run` is about to run."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from draftproof.errors import MissingExtraError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from draftproof.batch.pipeline_run import Graph
    from draftproof.language_model import LanguageModel
    from draftproof.verifier import VerdictLog, Verifier

POCKET = ("pocket-draft", "pocket-target")
"""The pair that comes along: without any option, a pipeline runs with it."""
POCKET_VERIFIER = "pocket-step"
"""Which steps of pocket problems are right; what rewards are read from where the pocket pair writes."""


@dataclass(frozen=True)
class Listing:
    """A pipeline that can be asked for by name."""

    name: str
    module: str
    function: str
    summary: str
    policies: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()
    """Policies that need a verifier that says how right something is."""
    policy_option: str = "policy"
    """What the pipeline calls its policy."""
    verifier_option: str = "verifier"
    """What it calls the verifier that it decides by; empty where it takes none."""
    has_threshold: bool = True
    one_model: bool = False
    """Whether the target works alone, and --draft is not looked at."""

    def policy_of(self, named: str | None) -> str | None:
        return named or (self.policies[0] if self.policies else None)


LISTINGS = {
    each.name: each
    for each in (
        Listing(
            "arbitrage",
            "draftproof.pipelines.arbitrage",
            "arbitrage",
            "The draft model writes each step; a verifier or a router says which the target writes anew.",
            ("rsd", "router", "oracle", "collect", "draft-only", "target-only"),
            ("rsd", "oracle", "collect"),
        ),
        Listing(
            "glimp-router",
            "draftproof.pipelines.glimp_router",
            "glimp_router",
            "The entropy of the draft model's first token says who writes the step.",
            verifier_option="",
        ),
        Listing(
            "spec-reason",
            "draftproof.pipelines.spec_reason",
            "spec_reason",
            "The target rates each step of the draft model with one digit, and rewrites those it rates low. It has to "
            "follow instructions, which the pocket target does not.",
            verifier_option="",
        ),
        Listing(
            "solve-detect-verify",
            "draftproof.pipelines.solve_detect_verify",
            "solve_detect_verify",
            "The target solves, a verifier checks, and what was found wrong is tried again with the critique in view.",
            verifier_option="fast",
            has_threshold=False,
            one_model=True,
        ),
        Listing(
            "best-of-n",
            "draftproof.pipelines.best_of_n",
            "best_of_n",
            "The target writes several solutions; the majority, a verifier, or both together choose one.",
            ("vote", "score", "weighted-vote"),
            ("score", "weighted-vote"),
            policy_option="by",
            has_threshold=False,
            one_model=True,
        ),
    )
}


def listing_of(name: str) -> Listing:
    if name not in LISTINGS:
        raise UnknownNameError(f"There is no pipeline {name!r}.", remedy=f"There are: {', '.join(LISTINGS)}.")
    return LISTINGS[name]


@dataclass(frozen=True)
class Setup:
    """A pipeline, its models and its options; `create` makes the graph."""

    listing: Listing
    draft: LanguageModel
    target: LanguageModel
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the pipeline, less the log."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What the command line said, as JSON, for the run's record."""

    @property
    def deterministic(self) -> bool:
        return self.draft.deterministic and self.target.deterministic

    def create(self, log: VerdictLog) -> Graph:
        make = getattr(_module(self.listing), f"create_{self.listing.function}")
        models = (self.target,) if self.listing.one_model else (self.draft, self.target)
        graph: Graph = make(*models, log=log, **self.options)
        return graph

    def check(self) -> None:
        """Raises UsageError where the parts do not fit, before anything is begun."""
        self.create(_Nowhere())

    @property
    def record(self) -> dict[str, Any]:
        from draftproof.verifier import identity

        verifier: Verifier | None = self.options.get(self.listing.verifier_option)
        return {
            **self.asked,
            "pipeline": self.listing.name,
            "draft": None if self.listing.one_model else self.draft.identity,
            "target": self.target.identity,
            "policy": self.options.get(self.listing.policy_option),
            "threshold": _told(self.options.get("threshold")),
            "verifier": identity(verifier) if verifier is not None else None,
        }

    def varied(self, listing: Listing, **options: Any) -> Setup:
        """The same models, settings and decoding under another pipeline or policy."""
        kept = {name: value for name, value in self.options.items() if name in ("settings", "decoding")}
        if listing == self.listing:
            own = {name: value for name, value in self.options.items() if name not in _DECIDING}
            kept = {**own, **kept}
        return replace(self, listing=listing, options={**kept, **options})


_DECIDING = ("policy", "verifier", "threshold")


def set_up(
    pipeline: str,
    *,
    models: tuple[str, str],
    policy: str | None = None,
    verifier: str | None = None,
    threshold: float | None = None,
    given: Sequence[str] = (),
    seed: int = 0,
    api_key_env: str | None = None,
) -> Setup:
    """Raises UsageError and its kind for whatever of it cannot be, before a model is loaded where that can be told."""
    listing = listing_of(pipeline)
    if policy is not None and policy not in listing.policies:
        known = f"There are: {', '.join(listing.policies)}." if listing.policies else f"{pipeline} has no policies."
        raise UnknownNameError(f"There is no policy {policy!r} of {pipeline}.", remedy=known)
    if threshold is not None and not listing.has_threshold:
        raise UsageError(f"{pipeline} has no threshold.")
    values = parse_settings(given)
    options = _options(listing, values, seed)
    chosen = listing.policy_of(policy)
    if "aggregation" in values and chosen == "vote":
        raise UsageError("--set aggregation is of scores, and the policy vote has none.")
    if listing.one_model and models[0] != POCKET[0]:
        raise UsageError(f"{listing.name} works with the target alone; --draft would not be asked.")
    if chosen is not None:
        options[listing.policy_option] = chosen
    if threshold is not None:
        options["threshold"] = threshold
    made = verifier_for(listing, chosen, verifier, models)
    if made is not None:
        options[listing.verifier_option] = made
    target = load_language_model(models[1], api_key_env)
    alone = listing.one_model or models[0] == models[1]
    draft = target if alone else load_language_model(models[0], api_key_env)
    if options.pop("detect", False):
        options["detector"] = _completeness(target)
    asked = {"models": list(models), "set": values, "seed": str(seed), "verifier_asked": verifier}
    setup = Setup(listing, draft, target, options, asked)
    setup.check()
    return setup


def verifier_for(listing: Listing, policy: str | None, named: str | None, models: tuple[str, str]) -> Verifier | None:
    """The verifier that a policy decides by. The pocket pair has one that is taken where none is named."""
    from draftproof.registry import parse_verifier

    needed = policy in listing.judged or listing.name == "solve-detect-verify"
    if named is not None:
        if policy in ("draft-only", "target-only"):
            raise UsageError(f"The policy {policy} judges nothing, and needs no --verifier.")
        if not listing.verifier_option:
            raise UsageError(f"{listing.name} takes no --verifier.")
        return parse_verifier(named)
    if needed and set(models[listing.one_model :]) <= set(POCKET):
        return parse_verifier(POCKET_VERIFIER)
    if needed:
        asking = f"The policy {policy} of {listing.name}" if policy else listing.name
        raise UsageError(
            f"{asking} needs to know what is right.",
            remedy="Name a verifier with --verifier; draftproof verifiers list shows them.",
        )
    if policy == "router":
        raise UsageError(
            "The policy router needs a fitted router.",
            remedy="Fit one: draftproof run arbitrage FILE --policy collect --out ROWS, then draftproof train router; "
            "and name it: --verifier router:file=FILE.",
        )
    return None


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs; values are JSON, or else text."""
    values: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair!r} is not key=value.")
        if key in values:
            raise UsageError(f"--set {key} is given twice.")
        try:
            values[key] = json.loads(value)
        except (ValueError, RecursionError):
            values[key] = value
    return values


def setting_names(listing: Listing) -> dict[str, tuple[str, ...]]:
    """What --set takes for this pipeline, by what it belongs to."""
    from draftproof.language_model import Decoding
    from draftproof.pipelines.step_state import StepSettings

    build = getattr(_module(listing), f"build_{listing.function}")
    taken = {"log", "threshold", "settings", "decoding", "on_trace", listing.policy_option, listing.verifier_option}
    renamed = {"detector": "detect"}  # whether the target is asked if a solution is complete
    own = tuple(
        renamed.get(name, name)
        for name, parameter in inspect.signature(build).parameters.items()
        if name not in taken and parameter.kind is parameter.KEYWORD_ONLY
    )
    return {
        "pipeline": own,
        "settings": tuple(each.name for each in fields(StepSettings)),
        "decoding": tuple(each.name for each in fields(Decoding) if each.name != "seed"),
    }


def _options(listing: Listing, values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    from draftproof.language_model import Decoding
    from draftproof.pipelines.step_state import StepSettings
    from draftproof.registry import parse_verifier

    names = setting_names(listing)
    known = {name for each in names.values() for name in each}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"{listing.name} has no setting {unknown[0]!r}.", remedy=f"It has: {', '.join(sorted(known))}."
        )
    parts = {part: {name: values[name] for name in names[part] if name in values} for part in names}
    try:
        if listing.name == "best-of-n":  # whose solutions would all be one without
            parts["decoding"].setdefault("temperature", 0.7)
        decoding = Decoding(**parts["decoding"], seed=seed)
        _hold_decoding(decoding)
        own = dict(parts["pipeline"])
        _hold_own(listing, own)
        if "slow" in own:
            own["slow"] = parse_verifier(str(own["slow"]))
        return {**own, "settings": StepSettings(**parts["settings"]), "decoding": decoding}
    except TypeError as error:
        raise UsageError(f"A setting of {listing.name} has a wrong value: {error}.") from error


def _hold_own(listing: Listing, own: Mapping[str, Any]) -> None:
    """Raises UsageError for what would be taken and then not be looked at, or be read as something else."""
    if not isinstance(own.get("detect", False), bool):
        raise UsageError(f"--set detect is true or false, not {own['detect']!r}.")
    unread = [name for name in ("k", "tau") if name in own and "slow" not in own]
    if unread:
        raise UsageError(
            f"--set {unread[0]} says when a slow verifier is asked, and there is none.",
            remedy="Name it: --set slow=VERIFIER.",
        )


def _hold_decoding(decoding: Any) -> None:
    for name, low, high in (("temperature", 0.0, 1e3), ("top_k", 0, 1e9), ("top_p", 0.0, 1.0)):
        value = getattr(decoding, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"--set {name} takes a number from {low:g} to {high:g}, not {value!r}.")
    if decoding.top_p == 0 or not isinstance(decoding.top_k, int):
        raise UsageError("--set top_p is above 0, and top_k a whole number.")


def load_language_model(name: str, api_key_env: str | None = None) -> LanguageModel:
    """A model of this machine, by name, folder, .gguf file or hub id, or one behind a server, by its address."""
    try:
        from draftproof.drafting.language_models.open import open_language_model
    except ImportError as error:
        raise MissingExtraError(
            f"Running a pipeline needs the package {error.name!r}.",
            remedy="Install it: pip install 'draftproof[engine,pipelines]'.",
        ) from error
    from draftproof.settings import settings

    served = name.startswith(("http://", "https://"))
    key = api_key_env if served else None
    return open_language_model(name, models_folder=settings().models_folder, api_key_env=key)


def _completeness(model: LanguageModel) -> Verifier:
    from draftproof.pipelines.completeness import CompletenessProbe

    return CompletenessProbe(model)


def _module(listing: Listing) -> Any:
    try:
        return importlib.import_module(listing.module)
    except ImportError as error:
        raise MissingExtraError(
            f"Running {listing.name} needs the package {error.name!r}.",
            remedy="Install it: pip install 'draftproof[engine,pipelines]'.",
        ) from error


def _told(threshold: float | None) -> float | str | None:
    """A threshold as JSON can hold it."""
    if threshold is None or abs(threshold) != float("inf"):
        return threshold
    return str(threshold)


class _Nowhere:
    """A log for a graph that is made to see whether it can be, and never run."""

    def add(self, verdicts: Sequence[Any]) -> None:
        raise AssertionError("nothing is run yet")
