"""A history from the target's own answers: what the drafter `suffix` copies from, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from draftproof.drafting.drafters.history import History, vocabulary_digest
from draftproof.drafting.drafters.suffix import Suffix
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training.features import Features
from draftproof.drafting.training.heads import held_out_texts
from draftproof.drafting.training.replay import replay
from draftproof.drafting.training.self_text import SelfText
from draftproof.drafting.vocabulary import Vocabulary

_NODES = 7
"""Drafted tokens a verification while measuring."""
_MOST_MEASURED = 64
"""Held-out answers that are decoded again."""


def history_of(texts: Sequence[SelfText], vocab_size: int, vocabulary: Vocabulary | None) -> History:
    """The answers, without their prompts, which every decoder sees anyway."""
    history = History(vocab_size, tokenizer="" if vocabulary is None else vocabulary_digest(vocabulary))
    for text in texts:
        history.add(text.ids[text.prompt_length :])
    return history


@dataclass(frozen=True)
class Worth:
    """Tokens a verification on answers to prompts that are held out."""

    without: float
    """`suffix` begins with nothing."""
    with_history: float
    """`suffix` begins with the answers to all other prompts."""


def worth_of_history(texts: Sequence[SelfText], model: CachedModel) -> Worth | None:
    """What a history of these answers would do for answers to other prompts; None where there is one prompt only.

    In both cases the held-out answers, which are decoded side by side, may copy from each other.
    """
    if len({text.ids[: text.prompt_length] for text in texts}) < 2:
        return None
    features = _without_states(texts)
    held = held_out_texts(features)
    rows = held.nonzero().flatten().tolist()[:_MOST_MEASURED]
    others = [text for text, is_held in zip(texts, held.tolist(), strict=True) if not is_held]

    def tokens_a_pass(known: Sequence[SelfText]) -> float:
        drafter = Suffix(history_of(known, model.info.vocab_size, None))
        return replay(drafter, model, features, rows, budget=_NODES).block_efficiency

    return Worth(without=tokens_a_pass(()), with_history=tokens_a_pass(others))


def _without_states(texts: Sequence[SelfText]) -> Features:
    """The texts for `replay`, to drafters that look at tokens only."""
    lengths = torch.tensor([len(text.ids) for text in texts])
    total = int(lengths.sum())
    return Features(
        ids=torch.tensor([token for text in texts for token in text.ids]),
        bounds=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        prompt_lengths=torch.tensor([text.prompt_length for text in texts]),
        temperatures=torch.tensor([text.temperature for text in texts]),
        hidden=torch.zeros(total, 0, dtype=torch.float16),
        top_ids=torch.zeros(total, 0, dtype=torch.int64),
        top_logprobs=torch.zeros(total, 0),
    )
