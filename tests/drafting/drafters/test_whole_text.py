"""Text that drafters wrote with the engine is the text of plain decoding, or follows its law."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DraftRequest
from draftproof.drafting.drafters.hybrid import Hybrid
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.drafters.suffix import Suffix
from draftproof.drafting.sampling import Sampling
from tests.drafting.drafters.contract_life import prompt_of
from tests.drafting.drafters.decoding import IMPROBABLE, decode, pair_law_chance, session_of
from tests.drafting.drafters.factories import FACTORIES, Factory, Tiny

PROMPTS = {row: prompt_of(row) for row in (4, 1)}
WARM = Sampling(temperature=0.7, seed=3)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.name)
def test_greedy_text_is_that_of_plain_decoding(factory: Factory, tiny: Tiny) -> None:
    plain = decode(session_of(tiny.target, None), PROMPTS, 14)
    assert decode(session_of(tiny.target, factory.build(tiny), length=6), PROMPTS, 14) == plain


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.name)
def test_seeded_text_of_match_drafts_is_that_of_plain_decoding(factory: Factory, tiny: Tiny) -> None:
    plain = decode(session_of(tiny.target, None), PROMPTS, 14, WARM)
    session = session_of(tiny.target, factory.build(tiny), length=6, rule="match")
    assert decode(session, PROMPTS, 14, WARM) == plain


def test_a_step_taken_back_leaves_every_child_of_a_hybrid_in_step(tiny: Tiny, tiny_llama: PreTrainedModel) -> None:
    """Rewound and decoded again, the greedy text comes again, with drafts accepted on the way."""
    twin = SmallLM(TransformersModel(tiny_llama), max_depth=3)
    session = session_of(tiny.target, Hybrid([Suffix(learn=False), twin], mode="arbitrate"), length=4)
    session.open({5: prompt_of(5)})
    for _ in range(4):
        session.round([5])
    once = list(session.rows[5].output)
    session.rewind(5, len(prompt_of(5)) + 2)
    accepted = 0
    while len(session.rows[5].output) < len(once):
        (outcome,) = session.round([5])
        assert outcome.record is not None
        accepted += outcome.record.accepted
    assert session.rows[5].output[: len(once)] == once
    assert accepted > 0
    session.close([5])


class Guessing(SmallLM):
    """The target's own most probable tokens, which promise a great deal for some seeds and nothing for others."""

    def __init__(self, twin: TransformersModel) -> None:
        super().__init__(twin, law="match", max_depth=2, name="guessing")

    def propose(self, request: DraftRequest) -> Draft:
        draft = super().propose(request)
        sure = torch.tensor([[float(rng.seed % 2)] for rng in request.rng])
        return replace(draft, score=sure.expand(draft.tokens.shape))


class Misreporting(Hybrid):
    """Says of every draft, certain or drawn, that any token might have come."""

    def propose(self, request: DraftRequest) -> Draft:
        draft = super().propose(request)
        assert draft.q is not None
        return replace(draft, q=replace(draft.q, probs=torch.full_like(draft.q.probs, 1 / 97)))


def mixed(kind: type[Hybrid], tiny: Tiny, twin: PreTrainedModel) -> Hybrid:
    drawing = SmallLM(TransformersModel(tiny.draft_llama), max_depth=2)
    return kind([Guessing(TransformersModel(twin)), drawing], mode="arbitrate")


def test_sampled_text_of_certain_and_of_drawn_drafts_follows_the_law(tiny: Tiny, tiny_llama: PreTrainedModel) -> None:
    hybrid = mixed(Hybrid, tiny, tiny_llama)
    assert hybrid.spec.law == "reject"
    session = session_of(tiny.target, hybrid, length=2)
    assert pair_law_chance(session, prompt_of(2), 640) > IMPROBABLE


def test_a_q_that_is_not_theirs_is_found(tiny: Tiny, tiny_llama: PreTrainedModel) -> None:
    session = session_of(tiny.target, mixed(Misreporting, tiny, tiny_llama), length=2)
    assert pair_law_chance(session, prompt_of(2), 480) < IMPROBABLE
