"""Features are the target's states and probabilities at each place, bound to target and text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafters.vocab_trim import normalised
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training import features as feature_store
from draftproof.drafting.training.features import TOP, extract, load
from draftproof.drafting.training.self_text import SelfText, TextPlan, generate
from draftproof.errors import UsageError
from tests.drafting.training.conftest import some_prompts


@pytest.fixture
def texts(markov: CachedModel, tmp_path: Path) -> list[SelfText]:
    return generate(markov, TextPlan(some_prompts(9), tokens=200, max_new_tokens=30), tmp_path / "text.jsonl")


def test_states_and_probabilities_are_those_of_the_model(
    markov: CachedModel,
    markov_model: PreTrainedModel,
    texts: list[SelfText],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feature_store, "_CHUNK", 7)  # so that texts take several passes
    features = extract(markov, texts, tmp_path / "features")
    for index, text in enumerate(texts):
        at = slice(int(features.bounds[index]), int(features.bounds[index + 1]))
        seen: list[torch.Tensor] = []
        hook = markov_model.model.norm.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        logits = markov_model(torch.tensor([text.ids])).logits[0]
        hook.remove()
        assert features.ids[at].tolist() == list(text.ids)
        torch.testing.assert_close(features.hidden[at].float(), normalised(seen[0][0]), rtol=2e-3, atol=2e-3)
        logprobs = torch.log_softmax(logits, dim=-1)
        torch.testing.assert_close(
            features.top_logprobs[at], logprobs.gather(1, features.top_ids[at]), rtol=2e-3, atol=2e-3
        )
        assert torch.equal(features.top_ids[at, 0], logits.argmax(1))
        # The control: a state one place later is another one.
        assert not torch.allclose(features.hidden[at][1:].float(), normalised(seen[0][0])[:-1], atol=0.1)
    assert features.top_ids.shape[1] == TOP
    assert features.prompt_lengths.tolist() == [text.prompt_length for text in texts]


def test_finished_shards_are_kept_and_a_missing_or_broken_one_is_made_again(
    markov: CachedModel, texts: list[SelfText], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "SHARD_TOKENS", 80)
    whole = extract(markov, texts, tmp_path)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    before = shards[0].stat().st_mtime_ns
    shards[1].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:100])
    again = extract(markov, texts, tmp_path)
    assert shards[0].stat().st_mtime_ns == before
    assert torch.equal(whole.hidden, again.hidden)
    assert torch.equal(whole.top_ids, again.top_ids)
    loaded = load(tmp_path, target_digest=markov.info.digest)
    assert torch.equal(loaded.hidden, whole.hidden)


def test_features_of_another_target_or_text_are_not_used(
    markov: CachedModel, texts: list[SelfText], tmp_path: Path, tiny_llama: PreTrainedModel
) -> None:
    first = extract(markov, texts, tmp_path)
    with pytest.raises(UsageError, match="of the target"):
        load(tmp_path, target_digest="0" * 64)
    other = extract(TransformersModel(tiny_llama), texts, tmp_path)
    assert not torch.equal(first.hidden, other.hidden)
    shorter = extract(markov, texts[:2], tmp_path)
    assert shorter.n_texts == 2


def test_unfinished_features_are_refused(markov: CachedModel, texts: list[SelfText], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished features"):
        load(tmp_path / "none", target_digest=markov.info.digest)
    extract(markov, texts, tmp_path)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(UsageError, match="missing"):
        load(tmp_path, target_digest=markov.info.digest)


def test_no_text_is_an_error(markov: CachedModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no text"):
        extract(markov, [], tmp_path)
