"""A distilled draft model agrees more with its target, and does not where there is nothing to learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.model import CachedModel
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.training.distill import (
    Distillation,
    _is_on_policy,
    distill,
    save_draft,
    small_draft_config,
    small_draft_model,
    target_outcomes,
)
from draftproof.drafting.training.divergences import Divergence
from draftproof.errors import UsageError
from tests.drafting.training.conftest import Written, decode, markov_llama, some_prompts

TRAINING = Distillation(epochs=2, batch=8, piece=48, learning_rate=5e-3, on_policy=0.0)


@pytest.fixture(scope="module")
def beginner(markov: CachedModel) -> PreTrainedModel:
    return small_draft_model(markov, small_draft_config(markov.info, layers=1, hidden=64, head_size=32))


@pytest.mark.parametrize("kind", ["fkl", "rkl", "jsd", "tvd"])
def test_more_is_accepted_after_training(
    kind: Divergence, beginner: PreTrainedModel, markov: CachedModel, written: Written
) -> None:
    result = distill(beginner, markov, written.features, dataclasses.replace(TRAINING, divergence=kind))
    assert result.acceptance[-1] > result.acceptance[0] + 0.1, result.acceptance


def test_distributions_of_other_places_teach_nothing(
    beginner: PreTrainedModel, markov: CachedModel, written: Written
) -> None:
    order = torch.randperm(len(written.features.ids), generator=torch.Generator().manual_seed(0))
    mixed = dataclasses.replace(
        written.features,
        top_ids=written.features.top_ids[order],
        top_logprobs=written.features.top_logprobs[order],
    )
    learnt = distill(beginner, markov, written.features, TRAINING).acceptance[-1]
    assert distill(beginner, markov, mixed, TRAINING).acceptance[-1] < 0.6 * learnt


def test_training_on_its_own_text_goes_on_improving(
    beginner: PreTrainedModel, markov: CachedModel, written: Written
) -> None:
    training = dataclasses.replace(TRAINING, on_policy=0.2, piece=24, epochs=1)
    stages: list[str] = []
    result = distill(beginner, markov, written.features, training, report=lambda stage, *_: stages.append(stage))
    assert result.acceptance[-1] > result.acceptance[0] + 0.1
    assert set(stages) == {"distilling"}


@pytest.mark.parametrize(("steps", "share"), [(100, 0.2), (101, 0.5), (40, 0.05), (7, 0.3)])
def test_steps_on_its_own_text_are_as_many_as_asked_and_late(steps: int, share: float) -> None:
    which = [step for step in range(steps) if _is_on_policy(step, steps, share)]
    assert abs(len(which) - share * steps) <= 1.0
    assert all(step >= steps // 2 for step in which)
    assert not any(_is_on_policy(step, steps, 0.0) for step in range(steps))


def test_the_model_that_was_handed_in_is_not_changed(
    beginner: PreTrainedModel, markov: CachedModel, written: Written
) -> None:
    before = {name: value.clone() for name, value in beginner.state_dict().items()}
    distill(beginner, markov, written.features, dataclasses.replace(TRAINING, epochs=1))
    assert all(torch.equal(value, before[name]) for name, value in beginner.state_dict().items())


def test_a_stopped_run_ends_with_the_same_weights(
    beginner: PreTrainedModel, markov: CachedModel, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = dataclasses.replace(TRAINING, epochs=1, on_policy=0.3, piece=24)
    whole = distill(beginner, markov, written.features, training).model
    file = tmp_path / "checkpoint.safetensors"

    def stop(stage: str, done: int, total: int, detail: str) -> None:
        if done == total - 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("draftproof.drafting.training.optimisation._SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        distill(beginner, markov, written.features, training, checkpoint=file, report=stop)
    resumed = distill(beginner, markov, written.features, training, checkpoint=file).model
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_result_is_an_ordinary_folder_that_drafts(
    beginner: PreTrainedModel, markov: CachedModel, written: Written, tmp_path: Path
) -> None:
    trained = distill(beginner, markov, written.features, TRAINING).model
    save_draft(tmp_path, trained)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    prompts = some_prompts(4, seed=3)
    samplings = [Sampling(seed=i) for i in range(4)]
    plain = decode(markov, None, prompts, samplings, new=30)
    accepted = {}
    for name, model in (("before", beginner), ("after", loaded)):
        drafter = SmallLM(TransformersModel(model))
        drafted = decode(markov, drafter, prompts, samplings, new=30, draft_length=4)
        assert [tokens for tokens, _ in drafted] == [tokens for tokens, _ in plain]
        accepted[name] = sum(figures.accepted for _, figures in drafted)
    assert accepted["after"] > accepted["before"]


def test_a_new_draft_model_begins_with_the_targets_embeddings(markov: CachedModel) -> None:
    """Tokens whose output rows are alike in the target are alike in the draft model."""
    model = small_draft_model(markov, small_draft_config(markov.info, layers=1, hidden=32, head_size=16))
    rows = markov_llama().lm_head.weight * markov_llama().model.norm.weight
    rows = rows - rows.mean(0)
    table = model.get_input_embeddings().weight.detach()
    mine, theirs = torch.corrcoef(table).flatten(), torch.corrcoef(rows).flatten()
    assert float(torch.corrcoef(torch.stack([mine, theirs]))[0, 1]) > 0.8
    assert model.config.tie_word_embeddings
    assert model.config.vocab_size == markov.info.vocab_size


def test_outcomes_of_the_target_are_its_most_probable_tokens(
    markov: CachedModel, markov_model: PreTrainedModel
) -> None:
    ids = torch.tensor(some_prompts(1)[0])
    best = target_outcomes(markov, ids)
    expected = torch.log_softmax(markov_model(ids[None]).logits[0], -1)
    torch.testing.assert_close(best.values, expected.gather(1, best.indices), rtol=1e-4, atol=1e-4)
    assert torch.equal(best.indices[:, 0], expected.argmax(1))


def test_draft_models_that_cannot_be_are_refused(markov: CachedModel, written: Written) -> None:
    with pytest.raises(UsageError):
        small_draft_config(markov.info, hidden=100)
    other = small_draft_model(
        markov, small_draft_config(dataclasses.replace(markov.info, vocab_size=97), layers=1, hidden=64)
    )
    other.config.vocab_size = 98
    with pytest.raises(UsageError, match="98 tokens"):
        distill(other, markov, written.features)
    with pytest.raises(UsageError, match="on_policy"):
        Distillation(on_policy=0.9)
