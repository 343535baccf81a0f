"""Heads learn what the target will say, and do not where there is nothing to learn or the data are out of step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DraftRequest
from draftproof.drafting.drafters.head_models import DraftHeads, HeadsRecord
from draftproof.drafting.drafters.heads import HeadsDrafter
from draftproof.drafting.model import CachedModel
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.training.features import Features, extract
from draftproof.drafting.training.heads import (
    HeadsTraining,
    accuracy,
    cross_entropy,
    held_out_texts,
    train_heads,
)
from draftproof.drafting.training.replay import replay
from draftproof.drafting.training.self_text import SelfText, TextPlan, generate
from draftproof.errors import UsageError
from tests.drafting.training.conftest import TRAINING, VOCAB, Written, decode, some_prompts

Trained = Callable[[str], tuple[DraftHeads, HeadsRecord]]


def test_hydra_heads_learn_the_target_and_beat_medusa_heads(trained: Trained) -> None:
    hydra, medusa = trained("hydra")[1], trained("medusa")[1]
    assert all(row[0] > 0.4 for row in hydra.accuracies), hydra.accuracies
    assert all(h[0] > m[0] + 0.1 for h, m in zip(hydra.accuracies, medusa.accuracies, strict=True))


def test_heads_that_were_taught_another_text_do_not_beat_chance(markov: CachedModel, written: Written) -> None:
    features = written.features
    order = torch.randperm(len(features.ids), generator=torch.Generator().manual_seed(0))
    shuffled = dataclasses.replace(features, top_ids=features.top_ids[order], top_logprobs=features.top_logprobs[order])
    heads, _ = train_heads(markov, shuffled, written.trimmed, dataclasses.replace(TRAINING, n_heads=1))
    measured = accuracy(heads, markov, shuffled, held_out_texts(shuffled))
    commonest = features.top_ids[:, 0].bincount().max() / len(features.ids)
    assert all(row[0] < commonest + 0.04 for row in measured.ranks)


def test_states_that_are_one_place_off_are_noticed(markov: CachedModel, written: Written, trained: Trained) -> None:
    heads, record = trained("hydra")
    late = dataclasses.replace(written.features, hidden=written.features.hidden.roll(1, 0))
    early = dataclasses.replace(written.features, ids=written.features.ids.roll(1, 0))
    held_out = held_out_texts(written.features)
    right = accuracy(heads, markov, written.features, held_out)
    assert right.ranks == record.accuracies
    # Head 1 reads the pending token more than the state; from the second on, embeddings in the wrong place hurt most.
    assert accuracy(heads, markov, late, held_out).ranks[0][0] < right.ranks[0][0]
    assert accuracy(heads, markov, early, held_out).ranks[0][0] < 0.5 * right.ranks[0][0]


def test_medusa_heads_need_the_right_state(markov: CachedModel, written: Written, trained: Trained) -> None:
    heads, record = trained("medusa")
    late = dataclasses.replace(written.features, hidden=written.features.hidden.roll(1, 0))
    wrong = accuracy(heads, markov, late, held_out_texts(written.features))
    assert wrong.ranks[0][0] < 0.7 * record.accuracies[0][0]


def test_the_loss_is_the_cross_entropy_to_the_target_with_the_rest_as_one_outcome() -> None:
    logits = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))  # seven kept tokens and the rest
    classes = torch.tensor([[0, 3, 7]]).expand(5, 3)  # the third listed token is not kept
    mass = torch.tensor([[0.5, 0.2, 0.0, 0.3]]).expand(5, 4)
    q = torch.softmax(logits, dim=1)
    other = q[:, [1, 2, 4, 5, 6, 7]].sum(1)
    expected = -(0.5 * q[:, 0].log() + 0.2 * q[:, 3].log() + 0.3 * other.log()).mean()
    torch.testing.assert_close(cross_entropy(logits, classes, mass), expected)


def test_a_loss_without_the_rest_would_leave_the_tail_free() -> None:
    """The control: two students that differ in the tail only are told apart by the rest and by nothing else."""
    tame = torch.log(torch.tensor([[0.5, 0.2, 0.1, 0.2]]))
    classes, whole = torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.2, 0.3]])
    wild = tame + torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    assert cross_entropy(wild, classes, whole) > cross_entropy(tame, classes, whole) + 0.3
    nothing = torch.tensor([[0.5, 0.2, 0.0]])
    shifted = torch.cat([tame[:, :2] - 5.0, tame[:, 2:]], dim=1)
    assert cross_entropy(shifted, classes, nothing) > cross_entropy(tame, classes, nothing)


def test_training_that_is_stopped_and_gone_on_with_ends_with_the_same_weights(
    markov: CachedModel, written: Written, tmp_path: Path
) -> None:
    training = HeadsTraining(n_heads=2, epochs=1, batch=256)
    whole, _ = train_heads(markov, written.features, written.trimmed, training)
    file = tmp_path / "checkpoint.safetensors"

    def stop(stage: str, done: int, total: int, detail: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    from draftproof.drafting.training import optimisation

    saving, optimisation._SAVE_SECONDS = optimisation._SAVE_SECONDS, 0.0
    try:
        with pytest.raises(KeyboardInterrupt):
            train_heads(markov, written.features, written.trimmed, training, checkpoint=file, report=stop)
    finally:
        optimisation._SAVE_SECONDS = saving
    resumed, _ = train_heads(markov, written.features, written.trimmed, training, checkpoint=file)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(UsageError, match="other settings"):
        train_heads(markov, written.features, written.trimmed, HeadsTraining(n_heads=2, seed=1), checkpoint=file)


def test_hard_targets_teach_too(markov: CachedModel, written: Written) -> None:
    training = dataclasses.replace(TRAINING, n_heads=1, targets="hard")
    _, record = train_heads(markov, written.features, written.trimmed, training)
    assert record.accuracies[0][0] > 0.3


def test_sharpness_makes_probabilities_those_of_acceptance(
    markov: CachedModel, written: Written, trained: Trained
) -> None:
    """Of tokens drafted with probabilities around one half, about half are right; not so without the factor."""
    heads, record = trained("hydra")
    held_out = held_out_texts(written.features).nonzero().flatten().tolist()
    promised, kept = promises(HeadsDrafter(heads, record, floor=0.0), markov, written.features, held_out)
    assert abs(promised - kept) < 0.1 * kept
    boastful = dataclasses.replace(record, sharpness=((4.0, 4.0),) * 3)
    promised, kept = promises(HeadsDrafter(heads, boastful, floor=0.0), markov, written.features, held_out)
    assert promised > 1.2 * kept


def promises(drafter: HeadsDrafter, model: CachedModel, features: Features, texts: list[int]) -> tuple[float, float]:
    """Accepted tokens that the scores of the drafts of a replay add up to, and those that were accepted."""
    promised = []
    propose = drafter.propose

    def noted(request: DraftRequest) -> Draft:
        draft = propose(request)
        assert draft.score is not None
        promised.append(float(draft.score.sum()))
        return draft

    drafter.propose = noted  # type: ignore[method-assign]
    done = replay(drafter, model, features, texts, budget=8)
    return sum(promised), done.tokens - done.rounds


def test_prompts_are_held_out_whole(written: Written) -> None:
    features = written.features
    doubled = Features(
        ids=features.ids.repeat(2),
        bounds=torch.cat([features.bounds, features.bounds[1:] + features.bounds[-1]]),
        prompt_lengths=features.prompt_lengths.repeat(2),
        temperatures=features.temperatures.repeat(2),
        hidden=features.hidden.repeat(2, 1),
        top_ids=features.top_ids.repeat(2, 1),
        top_logprobs=features.top_logprobs.repeat(2, 1),
    )
    held = held_out_texts(doubled)
    assert torch.equal(held[: features.n_texts], held[features.n_texts :])
    assert 0.05 < float(held.float().mean()) < 0.15


def test_one_prompt_alone_cannot_be_held_out(markov: CachedModel, tmp_path: Path) -> None:
    plan = TextPlan(some_prompts(1), tokens=40, temperatures=(0.6,), max_new_tokens=20)
    features = extract(markov, generate(markov, plan, tmp_path / "text.jsonl"), tmp_path / "features")
    with pytest.raises(UsageError, match="same prompt"):
        held_out_texts(features)


@pytest.mark.parametrize("kind", ["hydra", "medusa"])
@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_a_replay_makes_the_rounds_that_the_engine_makes(
    kind: str, temperature: float, markov: CachedModel, trained: Trained, tmp_path: Path
) -> None:
    """Decode with the engine; then replay the very text from its features: as many rounds."""
    heads, record = trained(kind)
    prompts = some_prompts(6, seed=5)
    samplings = [Sampling(temperature=temperature, seed=i) for i in range(len(prompts))]
    done = decode(markov, HeadsDrafter(heads, record), prompts, samplings, new=24, draft_length=6)
    texts = [SelfText(i, temperature, 6, (*prompts[i], *tokens)) for i, (tokens, _) in enumerate(done)]
    features = extract(markov, texts, tmp_path / "features")
    again = replay(HeadsDrafter(heads, record), markov, features, range(len(texts)), budget=6)
    assert again.rounds == sum(each.rounds for _, each in done)
    assert again.tokens == sum(each.emitted for _, each in done)
    assert again.block_efficiency > 1.05


def test_decoding_with_trained_heads_says_what_plain_decoding_says(markov: CachedModel, trained: Trained) -> None:
    heads, record = trained("hydra")
    prompts = some_prompts(5, seed=9)
    samplings = [Sampling(temperature=t, seed=i) for i, t in enumerate((0.0, 0.0, 0.6, 0.6, 1.0))]
    plain = decode(markov, None, prompts, samplings, new=40)
    drafted = decode(markov, HeadsDrafter(heads, record), prompts, samplings, new=40, draft_length=8)
    assert [tokens for tokens, _ in drafted] == [tokens for tokens, _ in plain]
    assert sum(each.accepted for _, each in drafted) > 20


def test_every_token_that_can_be_right_is_in_the_vocabulary_of_97(written: Written) -> None:
    assert written.trimmed.full_size == VOCAB
    assert written.trimmed.coverage([text.ids for text in written.texts]) > 0.9


def test_bfloat16_products_teach_as_well(markov: CachedModel, written: Written) -> None:
    training = dataclasses.replace(TRAINING, n_heads=1)
    exact = train_heads(markov, written.features, written.trimmed, training)[1]
    rough = train_heads(markov, written.features, written.trimmed, training, dtype=torch.bfloat16)[1]
    assert abs(exact.accuracies[0][0] - rough.accuracies[0][0]) < 0.03
