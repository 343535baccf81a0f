"""Adapters learn to read an exit: more is accepted, the target stays as it is, and labels are what teaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.adapter_files import AdapterTarget
from draftproof.drafting.drafters.early_exit import EarlyExit
from draftproof.drafting.drafters.exit_adapter import ExitAdapter, ExitAdapterConfig
from draftproof.drafting.drafters.kangaroo import Kangaroo
from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter, KangarooConfig
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.model import RowTokens, Wanted
from draftproof.drafting.rounds import totals
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.training import optimisation
from draftproof.drafting.training.exit_adapter import train_exit_adapter
from draftproof.drafting.training.exit_states import ExitStates, read_exit
from draftproof.drafting.training.exit_training import Epoch, ExitTraining, train_readout
from draftproof.drafting.training.kangaroo import train_kangaroo
from draftproof.errors import UsageError
from tests.drafting.drafters.decoding import random_prompts, session_of

TRAINING = ExitTraining(epochs=12, batch=8, learning_rate=1e-2, seed=1)
SHAPE = KangarooConfig(1, 4, 2, 16)
Train = Callable[..., tuple[nn.Module, tuple[Epoch, ...]]]


@pytest.fixture(scope="module")
def target() -> TransformersModel:
    """Three layers, the upper two of which add a fixed linear map of what a token and its context already are."""
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
        pad_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)  # a token looks at itself most
            layer.mlp.down_proj.weight.zero_()
    return TransformersModel(model.requires_grad_(False))


@pytest.fixture(scope="module")
def texts(target: TransformersModel) -> list[list[int]]:
    """What the target says to random prompts."""
    session = session_of(target, None)
    prompts = random_prompts(96, seed=5)
    session.open(prompts, sampling=Sampling(temperature=1.0, seed=9), max_new_tokens=24, stop_ids=frozenset())
    going = list(prompts)
    while going:
        going = [each.row for each in session.round(going) if not each.done]
    written = [list(session.rows[row].tokens) for row in prompts]
    session.close(list(prompts))
    return written


def exit_adapter(
    target: TransformersModel, texts: Sequence[Sequence[int]], **more: object
) -> tuple[ExitAdapter, tuple[Epoch, ...]]:
    return train_exit_adapter(target, texts, 1, rank=16, **({"training": TRAINING} | more))  # type: ignore[arg-type]


def kangaroo(
    target: TransformersModel, texts: Sequence[Sequence[int]], **more: object
) -> tuple[KangarooAdapter, tuple[Epoch, ...]]:
    return train_kangaroo(target, texts, SHAPE, **({"training": TRAINING} | more))  # type: ignore[arg-type]


BOTH = [pytest.param(exit_adapter, id="exit-adapter"), pytest.param(kangaroo, id="kangaroo")]


@pytest.mark.parametrize("train", BOTH)
def test_training_raises_acceptance(target: TransformersModel, texts: list[list[int]], train: Train) -> None:
    weights = [parameter.clone() for parameter in target._model.parameters()]
    shown: list[tuple[str, int, int, str]] = []
    _, history = train(target, texts, report=lambda *facts: shown.append(facts))
    assert max(epoch.acceptance for epoch in history) > history[0].acceptance + 0.1
    assert history[-1].loss < 0.7 * history[0].loss
    assert all(torch.equal(*pair) for pair in zip(weights, target._model.parameters(), strict=True))
    assert [facts[1] for facts in shown if facts[0] == "training"] == [epoch.number for epoch in history[1:]]


def shuffled_labels(data: ExitStates) -> ExitStates:
    order = torch.randperm(len(data.shape), generator=torch.Generator().manual_seed(0))
    return replace(data, top_ids=data.top_ids[order], top_logprobs=data.top_logprobs[order])


@pytest.mark.parametrize("kind", ["exit-adapter", "kangaroo"])
def test_shuffled_labels_teach_nothing(target: TransformersModel, texts: list[list[int]], kind: str) -> None:
    """Taught what the target said elsewhere, and measured on what it says here."""
    about = AdapterTarget.of(target.info)
    data = read_exit(target, texts, 1)
    order = torch.randperm(data.n_texts, generator=torch.Generator().manual_seed(TRAINING.seed)).tolist()
    held = order[: round(TRAINING.held_out * data.n_texts)]
    wrong = shuffled_labels(data)
    for text in held:
        wrong.top_ids[data.span(text)] = data.top_ids[data.span(text)]
        wrong.top_logprobs[data.span(text)] = data.top_logprobs[data.span(text)]
    torch.manual_seed(1)
    module: nn.Module = (
        ExitAdapter(ExitAdapterConfig(1, 16), about) if kind == "exit-adapter" else KangarooAdapter(SHAPE, about)
    )
    history = train_readout(module, target, wrong, None, TRAINING)
    assert max(epoch.acceptance for epoch in history) < history[0].acceptance + 0.05


def accepted(target: TransformersModel, drafter: Drafter) -> float:
    """Share of drafted tokens that the target accepts, sampling at temperature 1."""
    session = session_of(target, drafter, length=3, rule="token")
    prompts = random_prompts(16, seed=77)
    session.open(prompts, sampling=Sampling(temperature=1.0, seed=4), max_new_tokens=24, stop_ids=frozenset())
    records, going = [], list(prompts)
    while going:
        outcomes = session.round(going)
        records += [outcome.record for outcome in outcomes if outcome.record is not None]
        going = [outcome.row for outcome in outcomes if not outcome.done]
    session.close(list(prompts))
    return totals(records).acceptance_rate


def test_what_is_measured_is_what_is_accepted_when_decoding(target: TransformersModel, texts: list[list[int]]) -> None:
    adapter, history = exit_adapter(target, texts)
    plain, trained = accepted(target, EarlyExit(1)), accepted(target, EarlyExit(1, adapters=[adapter]))
    assert trained > plain + 0.1
    assert trained == pytest.approx(max(epoch.acceptance for epoch in history), abs=0.15)
    hopper, _ = kangaroo(target, texts)
    assert accepted(target, Kangaroo(hopper, eta=0.0)) > plain + 0.1


def test_trimmed_vocabularies_are_trained_and_kept(
    target: TransformersModel, texts: list[list[int]], tmp_path: Path
) -> None:
    trimmed = TrimmedVocabulary(torch.arange(0, 97, 2), 97)
    adapter, history = exit_adapter(target, texts, trimmed=trimmed)
    assert max(epoch.acceptance for epoch in history) > history[0].acceptance + 0.05
    assert history[0].loss < 2.0, "nothing is charged for tokens that cannot be drafted"
    assert all(torch.isfinite(parameter).all() for parameter in adapter.parameters())
    adapter.save(tmp_path)
    kept = ExitAdapter.load(tmp_path).trimmed
    assert kept is not None
    assert torch.equal(kept.ids, trimmed.ids)


def test_the_same_seed_gives_the_same_weights(target: TransformersModel, texts: list[list[int]]) -> None:
    short = {"training": replace(TRAINING, epochs=2)}
    first, _ = exit_adapter(target, texts, **short)
    again, _ = exit_adapter(target, texts, **short)
    other, _ = exit_adapter(target, texts, training=replace(TRAINING, epochs=2, seed=2))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.up, other.up)


class Killed(Exception):
    pass


@contextmanager
def steps_done(*, until: int | None = None) -> Iterator[list[int]]:
    """Numbers of the steps that are done, each stored at once; before one more than `until`, the run dies."""
    done: list[int] = []
    step = optimisation.Optimisation.step

    def noted(self: optimisation.Optimisation, loss: torch.Tensor) -> None:
        if len(done) == until:
            raise Killed
        done.append(self.done)
        step(self, loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimisation, "_SAVE_SECONDS", -1.0)
        patch.setattr(optimisation.Optimisation, "step", noted)
        yield done


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("train", BOTH)
@pytest.mark.parametrize("after", [1, 3, 7])  # within an epoch, and at its end
def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    target: TransformersModel, texts: list[list[int]], train: Train, after: int, tmp_path: Path
) -> None:
    texts, short = texts[:24], replace(TRAINING, epochs=3)
    whole, history = train(target, texts, training=short)
    file = tmp_path / "state.safetensors"
    with steps_done(until=after) as before, pytest.raises(Killed):
        train(target, texts, training=short, checkpoint=file)
    with steps_done() as afterwards:
        resumed, again = train(target, texts, training=short, checkpoint=file)
    assert [*before, *afterwards] == list(range(9)), "each step once"
    assert again == history
    assert same_weights(whole, resumed)
    with steps_done() as none:
        ended, once_more = train(target, texts, training=short, checkpoint=file)
    assert none == []
    assert once_more == history
    assert same_weights(whole, ended)


def test_a_run_whose_state_is_lost_begins_again_and_is_noticed(
    target: TransformersModel, texts: list[list[int]], tmp_path: Path
) -> None:
    """What the test above compares does differ, where nothing or only half of the state comes back."""
    texts, short = texts[:24], replace(TRAINING, epochs=2)
    whole, history = exit_adapter(target, texts, training=short)
    file = tmp_path / "state.safetensors"
    with steps_done(until=4), pytest.raises(Killed):
        exit_adapter(target, texts, training=short, checkpoint=file)
    with safe_open(str(file), framework="pt") as opened:
        said, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    forgotten = {name: each for name, each in tensors.items() if not name.startswith("carried.")}
    save_file(forgotten, file, metadata=said)
    _, without_its_course = exit_adapter(target, texts, training=short, checkpoint=file)
    assert without_its_course != history
    moments = {name: torch.zeros_like(each) if "exp_avg" in name else each for name, each in tensors.items()}
    save_file(moments, file, metadata=said)
    without_moments, _ = exit_adapter(target, texts, training=short, checkpoint=file)
    assert not same_weights(without_moments, whole)
    file.unlink()
    with steps_done() as done:
        exit_adapter(target, texts, training=short, checkpoint=file)
    assert done == list(range(6))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda target, texts: {"training": replace(TRAINING, epochs=1, seed=2)}, id="seed"),
        pytest.param(lambda target, texts: {"training": replace(TRAINING, epochs=1, learning_rate=0.5)}, id="rate"),
        pytest.param(lambda target, texts: {"texts": [*texts[:-1], texts[0]]}, id="data"),
        pytest.param(lambda target, texts: {"exit_layer": 2}, id="exit"),
        pytest.param(lambda target, texts: {"rank": 8}, id="shape"),
        pytest.param(lambda target, texts: {"trimmed": TrimmedVocabulary(torch.arange(60), 97)}, id="vocabulary"),
    ],
)
def test_the_state_of_another_run_is_refused(
    target: TransformersModel, texts: list[list[int]], other: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    texts = texts[:8]
    run: dict[str, Any] = {"texts": texts, "exit_layer": 1, "rank": 16, "training": replace(TRAINING, epochs=1)}
    file = tmp_path / "state.safetensors"
    train_exit_adapter(target, checkpoint=file, **run)
    train_exit_adapter(target, checkpoint=file, **run)
    with pytest.raises(UsageError, match="other settings or data"):
        train_exit_adapter(target, checkpoint=file, **(run | other(target, texts)))


def test_it_ends_when_acceptance_no_longer_rises_and_keeps_the_best(
    target: TransformersModel, texts: list[list[int]], tmp_path: Path
) -> None:
    wild = ExitTraining(epochs=30, batch=8, learning_rate=3.0, patience=2, seed=1)
    adapter, history = exit_adapter(target, texts, training=wild)
    assert len(history) < 31
    best = max(history, key=lambda epoch: epoch.acceptance)
    assert history[-1].number - best.number >= 2
    assert history[-1].acceptance < best.acceptance
    stopped, told = exit_adapter(target, texts, training=wild, checkpoint=tmp_path / "state")
    with steps_done() as done:
        gone_on, told_again = exit_adapter(target, texts, training=wild, checkpoint=tmp_path / "state")
    assert (done, told_again) == ([], told)
    assert same_weights(gone_on, stopped)
    data = read_exit(target, texts, 1)
    again = train_readout(adapter.requires_grad_(True), target, data, None, replace(wild, epochs=1))
    assert again[0].acceptance == pytest.approx(best.acceptance), "before any step, with the weights that came back"


def test_states_come_back_as_they_were(target: TransformersModel, texts: list[list[int]]) -> None:
    data = read_exit(target, texts[:3], 1)
    target.add_row(500)
    result = target.forward([RowTokens(500, torch.tensor(texts[1]))], Wanted(taps=(1,)))
    target.drop_row(500)
    torch.testing.assert_close(data.states(1), result.hidden[1], rtol=2e-3, atol=2e-3)
    assert result.logits is not None
    assert torch.equal(data.top_ids[data.span(1), 0], result.logits.argmax(-1))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda target, texts: exit_adapter(target, []), id="no-texts"),
        pytest.param(lambda target, texts: exit_adapter(target, texts[:1]), id="one-text"),
        pytest.param(lambda target, texts: exit_adapter(target, [[], [1, 2]]), id="empty-text"),
        pytest.param(lambda target, texts: train_exit_adapter(target, texts, 3), id="no-such-exit"),
        pytest.param(
            lambda target, texts: exit_adapter(target, texts, trimmed=TrimmedVocabulary(torch.arange(20), 97)),
            id="too-few-tokens",
        ),
        pytest.param(lambda target, texts: ExitTraining(held_out=0.0), id="nothing-held-out"),
    ],
)
def test_training_that_cannot_work_is_refused(
    target: TransformersModel, texts: list[list[int]], broken: Callable[..., object]
) -> None:
    with pytest.raises(UsageError):
        broken(target, texts)
