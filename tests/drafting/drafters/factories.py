"""Every drafter that can be built on the tiny models, for the contract tests. A new drafter adds its line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.adapter_files import AdapterTarget
from draftproof.drafting.drafters.early_exit import EarlyExit
from draftproof.drafting.drafters.exit_adapter import ExitAdapter, ExitAdapterConfig
from draftproof.drafting.drafters.head_models import DraftHeads, HeadsConfig, HeadsRecord
from draftproof.drafting.drafters.heads import HeadsDrafter
from draftproof.drafting.drafters.history import History
from draftproof.drafting.drafters.hybrid import Hybrid
from draftproof.drafting.drafters.input_copy import InputCopy
from draftproof.drafting.drafters.kangaroo import Kangaroo
from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter, KangarooConfig
from draftproof.drafting.drafters.ngram import NGram
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.drafters.suffix import Suffix
from draftproof.drafting.drafters.trigram import Trigram
from draftproof.drafting.drafters.trigram_table import TrigramTable
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, output_rows
from draftproof.drafting.model import CachedModel
from tests.drafting.drafters.contract_life import prompt_of


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
    """See `contract_life.Subject`."""


def random_heads(tiny: Tiny, kind: Literal["hydra", "medusa"], tree: Literal["dynamic", "static"]) -> HeadsDrafter:
    """Draft heads of random weights over 80 of the 97 tokens."""
    info = tiny.target.info
    trimmed = TrimmedVocabulary(torch.arange(10, 90), info.vocab_size)
    config = HeadsConfig(kind, 3, info.hidden_size, info.vocab_size)
    heads = DraftHeads(config, trimmed, output_rows(tiny.target, trimmed.ids))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in heads.first.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
    accuracies = ((0.5, 0.2, 0.1), (0.4, 0.2), (0.4, 0.1))
    record = HeadsRecord(info.name, info.digest, accuracies=accuracies, sharpness=((0.5, 0.4),) * 3)
    return HeadsDrafter(heads, record, tree=tree, floor=0.0)


def small_lm(tiny: Tiny, **options: Any) -> SmallLM:
    return SmallLM(TransformersModel(tiny.draft_llama), **options)


def early_exit(tiny: Tiny) -> EarlyExit:
    """Half of the vocabulary, read through an adapter of random weights; its exit is kept score of."""
    info = tiny.target.info
    adapter = ExitAdapter(
        ExitAdapterConfig(exit_layer=1, rank=4),
        AdapterTarget.of(info),
        TrimmedVocabulary(torch.arange(0, info.vocab_size, 2), info.vocab_size),
    )
    _randomise(adapter)
    return EarlyExit(1, adapters=[adapter], candidates=[1], max_depth=4)


def kangaroo(tiny: Tiny) -> Kangaroo:
    adapter = KangarooAdapter(KangarooConfig(1, 4, 2, 16), AdapterTarget.of(tiny.target.info))
    _randomise(adapter)
    return Kangaroo(adapter, eta=0.1)


def _randomise(module: nn.Module) -> None:
    """Weights that make every part of an adapter count."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=random))


def outputs() -> list[list[int]]:
    """Earlier outputs that share phrases with the prompts of the checks."""
    return [[*prompt_of(row)[5:30], 2] for row in (7, 3, 40)]


def old_history() -> History:
    history = History(97)
    for output in outputs():
        history.add(output)
    return history


def arbitrating(tiny: Tiny) -> Hybrid:
    return Hybrid([Suffix(learn=False), small_lm(tiny, max_depth=4)], mode="arbitrate")


FACTORIES: tuple[Factory, ...] = (
    Factory("prompt-lookup", lambda tiny: PromptLookup()),
    Factory("prompt-lookup-pairs", lambda tiny: PromptLookup(n_min=2, n_max=2, max_nodes=4, max_depth=3)),
    Factory("ngram", lambda tiny: NGram()),
    Factory("trigram", lambda tiny: Trigram(TrigramTable.build(outputs(), 97))),
    Factory("trigram-puct", lambda tiny: Trigram(TrigramTable.build(outputs(), 97), search="puct")),
    Factory("suffix", lambda tiny: Suffix(learn=False)),
    Factory("suffix-history", lambda tiny: Suffix(old_history(), learn=False)),
    Factory("suffix-learning", lambda tiny: Suffix(old_history()), learns=True),
    Factory("input-copy", lambda tiny: InputCopy(), prompt_matters=True),
    Factory("input-copy-span", lambda tiny: InputCopy(span=(-9, -1), max_depth=6), prompt_matters=True),
    Factory("hybrid-merge", lambda tiny: Hybrid([Suffix(learn=False), NGram(), InputCopy()]), 0.0, True, True),
    Factory("hybrid-arbitrate", arbitrating, learns=True),
    Factory("hybrid-arbitrate-sampled", arbitrating, temperature=0.9, learns=True),
    Factory("hydra", lambda tiny: random_heads(tiny, "hydra", "dynamic")),
    Factory("hydra-sampled", lambda tiny: random_heads(tiny, "hydra", "dynamic"), temperature=0.8),
    Factory("medusa-static", lambda tiny: random_heads(tiny, "medusa", "static")),
    Factory("small-lm", lambda tiny: small_lm(tiny, max_depth=5)),
    Factory("small-lm-sampled", lambda tiny: small_lm(tiny, max_depth=5), temperature=0.9),
    Factory("small-lm-tree", lambda tiny: small_lm(tiny, max_depth=3, width=3, beam=2), temperature=0.9),
    Factory("early-exit", early_exit, temperature=0.9),
    Factory("kangaroo", kangaroo, temperature=0.9),
)
