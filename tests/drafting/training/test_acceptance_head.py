"""The head learns whether drafted tokens are accepted, from the states after them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training.acceptance_head import (
    CONFIG_FILE,
    AcceptanceExamples,
    AcceptanceHead,
    AcceptanceTraining,
    collect,
    load_acceptance_head,
    save_acceptance_head,
    train_acceptance_head,
    weighted_loss,
)
from draftproof.errors import InputError, UsageError
from tests.drafting.training.conftest import Written, markov_llama

TRAINING = AcceptanceTraining(epochs=4, batch=64, learning_rate=3e-3, temperature=1.0)


@pytest.fixture(scope="module")
def half_right_draft() -> CachedModel:
    """The target, with other rows for half of its output: it agrees on some tokens and not on others."""
    model = markov_llama()
    with torch.no_grad():
        wrong = markov_llama(seed=1).lm_head.weight
        model.lm_head.weight[48:] = wrong[48:]
    return TransformersModel(model, name="half-right")


@pytest.fixture(scope="module")
def examples(half_right_draft: CachedModel, markov: CachedModel, written: Written) -> AcceptanceExamples:
    return collect(half_right_draft, markov, written.texts[:80], TRAINING)


def test_the_head_beats_the_best_constant(examples: AcceptanceExamples) -> None:
    _, figures = train_acceptance_head(examples, TRAINING)
    assert 0.1 < figures["mean_acceptance"] < 0.9
    assert figures["held_out_loss"] < 0.75 * figures["held_out_loss_of_a_constant"]


def test_labels_that_belong_to_other_states_teach_nothing(examples: AcceptanceExamples) -> None:
    order = torch.randperm(len(examples.accepted), generator=torch.Generator().manual_seed(0))
    mixed = dataclasses.replace(examples, accepted=examples.accepted[order])
    _, figures = train_acceptance_head(mixed, TRAINING)
    assert figures["held_out_loss"] > 0.95 * figures["held_out_loss_of_a_constant"]


def test_a_draft_model_that_is_the_target_is_always_accepted(
    markov: CachedModel, markov_model: PreTrainedModel, written: Written
) -> None:
    twin = TransformersModel(markov_model)
    assert float(collect(twin, markov, written.texts[:10]).accepted.min()) > 0.999


def test_states_and_labels_are_those_of_the_drawn_tokens(
    half_right_draft: CachedModel, markov: CachedModel, written: Written
) -> None:
    """Without mixing, each place after the prompt gives one example, whose state follows the token drawn there."""
    text = written.texts[0]
    got = collect(half_right_draft, markov, [text], dataclasses.replace(TRAINING, mixing=0.0))
    assert len(got.accepted) == text.generated
    random = torch.Generator().manual_seed(text.job)
    ids = torch.tensor(text.ids)
    model, target = half_right_draft._model, markov._model  # type: ignore[attr-defined]
    q = torch.softmax(model(ids[None, :-1]).logits[0], -1)
    p = torch.softmax(target(ids[None, :-1]).logits[0], -1)
    drawn = torch.multinomial(q, 1, generator=random).squeeze(1)
    place = torch.arange(len(drawn))
    ratio = (p[place, drawn] / q[place, drawn]).clamp_max(1)[text.prompt_length - 1 :]
    torch.testing.assert_close(got.accepted, ratio, rtol=1e-3, atol=1e-4)
    mixed = torch.cat([ids[: text.prompt_length], drawn[text.prompt_length - 1 :]])
    seen: list[torch.Tensor] = []
    hook = model.model.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(mixed[None])
    hook.remove()
    torch.testing.assert_close(got.states, seen[0][0, text.prompt_length :], rtol=1e-3, atol=1e-4)


def test_mixing_takes_target_tokens_for_no_examples(
    half_right_draft: CachedModel, markov: CachedModel, written: Written
) -> None:
    texts = written.texts[:40]
    got = collect(half_right_draft, markov, texts, dataclasses.replace(TRAINING, mixing=0.5))
    share = len(got.accepted) / sum(text.generated for text in texts)
    assert 0.45 < share < 0.55


def test_the_loss_weighs_rejections() -> None:
    logits, accepted = torch.randn(9), torch.rand(9)
    one = torch.nn.functional.binary_cross_entropy_with_logits(logits, accepted)
    torch.testing.assert_close(weighted_loss(logits, accepted, 1.0), one)
    six = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, accepted, weight=None, pos_weight=torch.tensor(1 / 6)
    )
    torch.testing.assert_close(weighted_loss(logits, accepted, 6.0), 6 * six)
    assert not torch.allclose(weighted_loss(logits, accepted, 6.0), one)


def test_shared_blocks_are_one_block() -> None:
    own, shared = AcceptanceHead(16, n_layers=3), AcceptanceHead(16, n_layers=3, shared=True)
    assert sum(p.numel() for p in own.parameters()) - sum(p.numel() for p in shared.parameters()) == 2 * (16 * 17)
    torch.nn.init.normal_(shared.blocks[0].weight)
    states = torch.randn(2, 16)
    once = AcceptanceHead(16, n_layers=1)
    once.load_state_dict(shared.state_dict())
    assert not torch.allclose(shared(states), once(states))


def test_a_head_comes_back_from_its_files(tmp_path: Path) -> None:
    head = AcceptanceHead(16, n_layers=2)
    torch.nn.init.normal_(head.blocks[1].weight)  # type: ignore[arg-type]
    save_acceptance_head(tmp_path, head, draft_digest="a" * 64, target_digest="b" * 64, figures={"loss": 1.0})
    loaded, described = load_acceptance_head(tmp_path, draft_digest="a" * 64)
    state = torch.randn(16)
    assert loaded.probability(state) == head.probability(state)
    assert described["figures"] == {"loss": 1.0}
    with pytest.raises(UsageError, match="another draft model"):
        load_acceptance_head(tmp_path, draft_digest="c" * 64)


def test_files_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="draftproof train acceptance-head"):
        load_acceptance_head(tmp_path)
    save_acceptance_head(tmp_path, AcceptanceHead(16), draft_digest="a", target_digest="b", figures={})
    described = json.loads((tmp_path / CONFIG_FILE).read_text())
    for change in ({"hidden_size": 17}, {"n_layers": 10**9}, {"n_layers": "x"}, {"format": "?"}, {"n_layers": 4}):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(described | change))
        with pytest.raises((InputError, UsageError)):
            load_acceptance_head(tmp_path)


def test_draft_models_of_another_vocabulary_are_refused(markov: CachedModel, written: Written) -> None:
    class Other:
        info = dataclasses.replace(markov.info, vocab_size=98)

    with pytest.raises(UsageError, match="98 tokens"):
        collect(Other(), markov, written.texts)  # type: ignore[arg-type]
