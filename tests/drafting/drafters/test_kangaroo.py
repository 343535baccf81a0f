"""Kangaroo: its own cache over the committed text, its second exit, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import Binding, DraftRequest, StepSignal
from draftproof.drafting.drafters.adapter_files import AdapterTarget
from draftproof.drafting.drafters.kangaroo import _ASIDE_ROW, Kangaroo
from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter, KangarooConfig
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.pass_costs import _PROBE_ROW
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.errors import UsageError
from tests.drafting.drafters.decoding import (
    BACKENDS,
    IMPROBABLE,
    Wrap,
    decode,
    pair_law_chance,
    random_prompts,
    session_of,
)

PROMPT = [5, 17, 44, 8, 9, 23]


@pytest.fixture
def target(tiny_llama: PreTrainedModel) -> TransformersModel:
    return TransformersModel(tiny_llama)


def adapter_for(target: CachedModel, kept: torch.Tensor | None = None) -> KangarooAdapter:
    """Of random weights: attention and both norms count."""
    trimmed = None if kept is None else TrimmedVocabulary(kept, target.info.vocab_size)
    adapter = KangarooAdapter(KangarooConfig(1, 4, 2, 16), AdapterTarget.of(target.info), trimmed)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            noise = torch.randn(parameter.shape, generator=random)
            parameter.copy_(0.2 * noise if parameter.dim() > 1 else 1.0 + 0.2 * noise)
    return adapter


def request(budget: int, sampling: Sampling = GREEDY, **more: object) -> DraftRequest:
    return DraftRequest((0,), (budget,), (sampling,), (KeyedRng(sampling.seed),), **more)  # type: ignore[arg-type]


def opened(target: TransformersModel, drafter: Kangaroo, text: Sequence[int] = PROMPT, length: int = 3) -> Session:
    session = session_of(target, drafter, length=length)
    session.open({0: text}, stop_ids=frozenset())
    return session


def expected_chain(target: TransformersModel, adapter: KangarooAdapter, text: Sequence[int], count: int) -> list[int]:
    """Arg-max drafts from the whole text computed at once, without any cache."""
    drafted: list[int] = []
    for _ in range(count):
        target.add_row(99)
        states = target.forward([RowTokens(99, torch.tensor([*text, *drafted]))], Wanted("none", (1,))).hidden[1]
        target.drop_row(99)
        with torch.no_grad():
            drafted.append(int(target.head(adapter(states)[-1:]).argmax()))
    return drafted


@pytest.mark.parametrize("wrap", BACKENDS)
def test_greedy_text_is_that_of_plain_decoding(tiny_llama: PreTrainedModel, wrap: Wrap) -> None:
    target = wrap(tiny_llama)
    prompts = random_prompts(20)
    plain = decode(session_of(target, None), prompts, 24)
    assert decode(session_of(target, Kangaroo(adapter_for(target), eta=0.1)), prompts, 24) == plain


def test_sampled_text_follows_the_targets_law(target: TransformersModel) -> None:
    drafter = Kangaroo(adapter_for(target, torch.arange(1, 97, 6)), eta=0.3)
    assert pair_law_chance(session_of(target, drafter), PROMPT, 320) > IMPROBABLE


def test_its_cache_gives_what_the_whole_text_gives(target: TransformersModel) -> None:
    """Through rounds, forced tokens and rewinds: the drafts are those of a computation that keeps nothing."""
    adapter = adapter_for(target)
    drafter = Kangaroo(adapter, eta=0.0, law="match")
    session = opened(target, drafter)
    for step in range(8):
        text = session.rows[0].tokens
        draft = drafter.propose(request(3))
        assert draft.tokens[0].tolist() == expected_chain(target, adapter, text, 3), f"step {step}"
        session.round([0])
        if step == 3:
            session.force(0, [7, 7, 61, 4])
        if step == 5:
            session.rewind(0, len(session.rows[0].tokens) - 2)
    without = drafter._rows[0]
    without.keys[: without.length] = 0.0
    assert drafter.propose(request(3)).tokens[0].tolist() != expected_chain(target, adapter, without.text, 3), (
        "what is in the cache counts"
    )


@pytest.mark.parametrize("taken", [-1, _PROBE_ROW])
def test_catching_up_leaves_rows_of_others_alone(target: TransformersModel, taken: int) -> None:
    """The text is read again in a row of its own, whose id nobody else has."""
    adapter = adapter_for(target)
    drafter = Kangaroo(adapter, eta=0.0, law="match")
    session = opened(target, drafter)
    target.add_row(taken)
    target.forward([RowTokens(taken, torch.tensor([5, 6]))])
    target.commit(taken, [0, 1])
    session.force(0, [7, 7, 61, 4])
    assert drafter.propose(request(3)).tokens[0].tolist() == expected_chain(target, adapter, session.rows[0].tokens, 3)
    assert target.length(taken) == 2
    target.add_row(_ASIDE_ROW)
    session.force(0, [9, 9])
    with pytest.raises(ValueError, match=str(_ASIDE_ROW)):
        drafter.propose(request(3))
    for row in (taken, _ASIDE_ROW):
        target.drop_row(row)


def test_a_wholly_accepted_draft_leaves_no_gap(target: TransformersModel) -> None:
    """The last drafted token never went through the adapter; its entry is made when it is committed."""
    adapter = adapter_for(target)
    drafter = Kangaroo(adapter, eta=0.0, law="match", max_depth=4)
    session = opened(target, drafter, length=4)

    class Agreeing:
        """A rule that accepts every draft."""

        spec = session.rule.spec

        def decide(self, verification: object) -> object:
            from draftproof.drafting.rule import Decision

            draft = verification.draft  # type: ignore[attr-defined]
            return [Decision(tuple(range(int(count))), 3) for count in draft.n_nodes]

    session.rule = Agreeing()  # type: ignore[assignment]
    for _ in range(3):
        (outcome,) = session.round([0])
        assert len(outcome.tokens) == 5
        row = drafter._rows[0]
        assert row.length == len(row.text) - 1
        assert drafter.propose(request(4)).tokens[0].tolist() == expected_chain(target, adapter, row.text, 4)


def test_it_stops_after_a_token_it_was_unsure_of_and_keeps_it(target: TransformersModel) -> None:
    drafter = Kangaroo(adapter_for(target), eta=0.0, law="match")
    session = opened(target, drafter)
    signals: list[StepSignal] = []

    def note(signal: StepSignal) -> bool:
        signals.append(signal)
        return True

    whole = drafter.propose(request(6, go_on=note)).tokens[0].tolist()
    sure = [signal.top_probability for signal in signals]
    for eta in (0.0, sorted(sure)[2] + 1e-6, 1.0):
        drafter._eta = eta
        kept = next((step + 1 for step, each in enumerate(sure) if each < eta), 6)
        assert drafter.propose(request(6)).tree(0)[0] == whole[:kept]
    drafter._eta = 0.0
    assert drafter.propose(request(6, go_on=lambda signal: signal.step < 2)).tree(0)[0] == whole[:2]
    session.close([0])


def test_an_untrained_adapter_is_an_early_exit(target: TransformersModel) -> None:
    states = torch.randn(7, 64)
    fresh = KangarooAdapter(KangarooConfig(1, 4, 2, 16), AdapterTarget.of(target.info))
    torch.testing.assert_close(target.head(fresh(states)), target.head(states), rtol=1e-4, atol=1e-4)


def test_attention_is_causal_and_knows_positions(target: TransformersModel) -> None:
    adapter = adapter_for(target)
    states = torch.randn(6, 64)
    whole = adapter(states)
    torch.testing.assert_close(adapter(states[:4]), whole[:4])
    swapped = adapter(states[[1, 0, 2, 3, 4, 5]])
    assert not torch.allclose(swapped[2:], whole[2:], atol=1e-3)


def test_a_stored_adapter_is_the_same_adapter(target: TransformersModel, tmp_path: Path) -> None:
    adapter = adapter_for(target, torch.arange(0, 97, 2))
    adapter.save(tmp_path)
    again = KangarooAdapter.load(tmp_path)
    states = torch.randn(4, 64)
    assert torch.equal(adapter(states), again(states))
    Kangaroo(again).bind(Binding(target, None))


def test_an_adapter_of_another_target_is_refused(target: TransformersModel, tiny_mistral: PreTrainedModel) -> None:
    with pytest.raises(UsageError, match="Kangaroo adapter was trained for"):
        Kangaroo(adapter_for(target)).bind(Binding(TransformersModel(tiny_mistral), None))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"exit_layer": 0, "n_heads": 4, "n_kv_heads": 2, "head_size": 16}, id="no-layer"),
        pytest.param({"exit_layer": 1, "n_heads": 4, "n_kv_heads": 3, "head_size": 16}, id="heads-do-not-divide"),
        pytest.param({"exit_layer": 1, "n_heads": 4, "n_kv_heads": 2, "head_size": 15}, id="odd-head"),
        pytest.param({"exit_layer": 1, "n_heads": 10**6, "n_kv_heads": 1, "head_size": 16}, id="too-many-heads"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(config: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        KangarooConfig(**config)
