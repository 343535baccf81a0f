"""Records can say what drafted: every drafter with weights of its own names them by digest."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafters.adapter_files import AdapterTarget
from draftproof.drafting.drafters.cross_vocab_text import StringMatch
from draftproof.drafting.drafters.cross_vocab_tokens import TokenIntersection
from draftproof.drafting.drafters.early_exit import EarlyExit
from draftproof.drafting.drafters.exit_adapter import ExitAdapter, ExitAdapterConfig
from draftproof.drafting.drafters.head_models import DraftHeads, HeadsConfig, HeadsRecord, load_heads, save_heads
from draftproof.drafting.drafters.heads import HeadsDrafter
from draftproof.drafting.drafters.hybrid import Hybrid
from draftproof.drafting.drafters.kangaroo import Kangaroo
from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter, KangarooConfig
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.drafters.suffix import Suffix
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from tests.drafting.drafters.two_vocabularies import draft_vocabulary, random_llama


def some_heads(kept: int = 20, weight: float = 0.25) -> HeadsDrafter:
    heads = DraftHeads(HeadsConfig("medusa", 1, 8, 97), TrimmedVocabulary(torch.arange(kept), 97))
    with torch.no_grad():
        heads.rest.fill_(weight)
    return HeadsDrafter(heads, HeadsRecord("some", "digest"))


def test_drafters_with_a_model_give_its_digest(tiny_draft_llama: PreTrainedModel) -> None:
    model = TransformersModel(tiny_draft_llama)
    expected = {"draft_model": model.info.digest}
    assert SmallLM(model).fingerprint == expected
    assert SmallLM(model).spec.draft_model == model.info.digest
    words = draft_vocabulary()
    other = TransformersModel(random_llama(words.size, seed=1))
    assert other.info.digest != model.info.digest
    for drafter in (TokenIntersection(other, words), StringMatch(other, words)):
        assert drafter.fingerprint == {"draft_model": other.info.digest}
        assert drafter.spec.draft_model == other.info.digest


def test_heads_are_told_apart_by_weights_and_by_tokens_and_are_the_same_from_a_file(tmp_path: Path) -> None:
    drafter = some_heads()
    assert list(drafter.fingerprint) == ["heads"]
    assert drafter.fingerprint == some_heads().fingerprint
    assert drafter.fingerprint != some_heads(weight=0.5).fingerprint
    assert drafter.fingerprint != some_heads(kept=21).fingerprint
    save_heads(tmp_path, drafter._heads, drafter._record)
    assert HeadsDrafter(*load_heads(tmp_path)).fingerprint == drafter.fingerprint


def test_adapters_are_told_apart_by_weights(tiny_llama: PreTrainedModel) -> None:
    about = AdapterTarget.of(TransformersModel(tiny_llama).info)
    one, other = (ExitAdapter(ExitAdapterConfig(1, 4), about) for _ in range(2))
    assert EarlyExit(1).fingerprint == {}
    assert list(EarlyExit(1, adapters=[one]).fingerprint) == ["adapter.1"]
    assert EarlyExit(1, adapters=[one]).fingerprint != EarlyExit(1, adapters=[other]).fingerprint
    kangaroos = [KangarooAdapter(KangarooConfig(1, 4, 2, 16), about) for _ in range(2)]
    assert list(Kangaroo(kangaroos[0]).fingerprint) == ["adapter"]
    assert Kangaroo(kangaroos[0]).fingerprint != Kangaroo(kangaroos[1]).fingerprint


def test_adapters_of_equal_weights_and_other_angles_or_heads_are_told_apart(tiny_llama: PreTrainedModel) -> None:
    about = AdapterTarget.of(TransformersModel(tiny_llama).info)
    one = KangarooAdapter(KangarooConfig(1, 4, 2, 16), about)
    for config in (KangarooConfig(1, 4, 2, 16, rope_base=500.0), KangarooConfig(1, 2, 1, 32)):
        other = KangarooAdapter(config, about)
        other.load_state_dict(one.state_dict())
        assert Kangaroo(other).fingerprint != Kangaroo(one).fingerprint
    same = KangarooAdapter(one.config, about)
    same.load_state_dict(one.state_dict())
    assert Kangaroo(same).fingerprint == Kangaroo(one).fingerprint


def test_a_hybrid_gives_its_childrens_by_name(tiny_draft_llama: PreTrainedModel) -> None:
    model = TransformersModel(tiny_draft_llama)
    heads = some_heads()
    hybrid = Hybrid([Suffix(), heads, SmallLM(model)])
    assert hybrid.fingerprint == {
        "medusa.heads": heads.fingerprint["heads"],
        "small-lm.draft_model": model.info.digest,
    }
    assert hybrid.spec.draft_model == model.info.digest
    assert Hybrid([Suffix(), heads]).spec.draft_model == ""
    assert Hybrid([SmallLM(model), EarlyExit(1)]).spec.draft_model == "", "states of two models"
