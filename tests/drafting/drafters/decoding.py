"""Whole decodings through a real session, to compare drafted text with plain text and with the exact law."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.distributions import probabilities
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, RowTokens
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.policy import Policy
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.drafting.vocabulary import Vocabulary
from tests.drafting.rules.goodness import p_value

Wrap = Callable[[PreTrainedModel], CachedModel]
BACKENDS = [pytest.param(TransformersModel, id="transformers"), pytest.param(LeanLlama.from_transformers, id="lean")]
"""What makes a target of a Llama."""

IMPROBABLE = 1e-4
"""A lossless decoder fails a law test this rarely; seeds are fixed, so one that passes always passes."""

ROWS = 32
NARROW = Sampling(temperature=1.3, top_k=4)
"""Few enough next tokens to count pairs of them."""


def random_prompts(count: int, vocab_size: int = 97, seed: int = 0) -> dict[int, list[int]]:
    chance = random.Random(seed)
    return {row: [chance.randrange(3, vocab_size) for _ in range(chance.randrange(1, 12))] for row in range(count)}


def session_of(
    target: CachedModel,
    drafter: Drafter | None,
    *,
    length: int = 4,
    rule: str = "auto",
    vocabulary: Vocabulary | None = None,
    policy: Policy | None = None,
    costs: PassCosts | None = None,
) -> Session:
    policy = policy or Fixed(length)
    if drafter is not None:
        policy.bind(costs, drafter.spec)
    return Session(target, drafter, create_rule(rule), policy, vocabulary)


def decode(
    session: Session, prompts: Mapping[int, Sequence[int]], count: int, sampling: Sampling = GREEDY
) -> dict[int, list[int]]:
    """`count` tokens for each prompt, in one batch whose rows end at different times."""
    going = [each.row for each in session.open(prompts, sampling=sampling, max_new_tokens=count) if not each.done]
    while going:
        going = [each.row for each in session.round(going) if not each.done]
    outputs = {row: session.rows[row].output for row in prompts}
    session.close(list(prompts))
    return outputs


def pair_law_chance(session: Session, prompt: Sequence[int], samples: int, sampling: Sampling = NARROW) -> float:
    """How probable counts this far off are if the session's text follows the target's law (Pearson's test).

    Counts the two tokens after the first one, from rounds with other random numbers each time.
    """
    rows = list(range(ROWS))
    session.open(dict.fromkeys(rows, prompt), sampling=sampling, stop_ids=frozenset())
    base = len(prompt) + 1
    start = session.rows[0].tokens[:base]
    seen: dict[tuple[int, ...], int] = {}
    for seed in range(1, samples // ROWS + 1):
        for row in rows:
            session.rows[row].rng = KeyedRng(seed * ROWS + row)
        going = rows
        while going:
            session.round(going)
            going = [row for row in going if len(session.rows[row].tokens) < base + 2]
        for row in rows:
            pair = tuple(session.rows[row].tokens[base : base + 2])
            seen[pair] = seen.get(pair, 0) + 1
            session.rewind(row, base)
    session.close(rows)
    return pearson(seen, pair_law(session.target, start, sampling))


def pair_law(target: CachedModel, text: Sequence[int], sampling: Sampling) -> dict[tuple[int, ...], float]:
    """The exact probability of each pair of tokens after `text`."""
    law: dict[tuple[int, ...], float] = {}
    first = next_law(target, text, sampling)
    for token in first.nonzero().squeeze(-1).tolist():
        for other, share in enumerate(next_law(target, [*text, token], sampling).tolist()):
            if share > 0.0:
                law[token, other] = float(first[token]) * share
    return law


def next_law(target: CachedModel, text: Sequence[int], sampling: Sampling) -> torch.Tensor:
    row = 1 << 30
    target.add_row(row)
    logits = target.forward([RowTokens(row, torch.tensor(text))]).logits
    target.drop_row(row)
    assert logits is not None
    return probabilities(logits[-1], sampling)


def pearson(seen: Mapping[tuple[int, ...], int], law: Mapping[tuple[int, ...], float]) -> float:
    """Chance of a chi-square as large; rare outcomes are counted together, impossible ones make it 0."""
    if any(outcome not in law for outcome in seen):
        return 0.0
    return p_value(np.array([float(seen.get(outcome, 0)) for outcome in law]), np.array(list(law.values())))
