"""Every drafter that can be built on the tiny models, for the contract tests. A new drafter adds its line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.model import CachedModel


@dataclass(frozen=True)
class Tiny:
    """What a drafter may be built from."""

    target: CachedModel
    """Over `tiny_llama`: two layers, 64 wide, 97 tokens."""
    draft_llama: PreTrainedModel
    """One layer, other weights, the same vocabulary."""


@dataclass(frozen=True)
class Factory:
    name: str
    build: Callable[[Tiny], Drafter]
    """A new drafter at each call, not bound."""
    temperature: float = 0.0
    """What its drafts are asked for with; above 0, `check_law` runs too."""
    prompt_matters: bool = False
    learns: bool = False
    """See `contract.Subject`."""


FACTORIES: tuple[Factory, ...] = (
    Factory("prompt-lookup", lambda tiny: PromptLookup()),
    Factory("prompt-lookup-pairs", lambda tiny: PromptLookup(n_min=2, n_max=2, max_nodes=4, max_depth=3)),
)
