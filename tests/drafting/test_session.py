"""Rounds over rows: what is committed, rewound, forced and cut, whatever a drafter proposes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.draft import empty_draft
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import UsageError
from tests.drafting.scripted import OTHER, PROMPT, SAMPLED, Scripted, guesser, oracle, run, session_of


@pytest.fixture
def model(tiny_llama: PreTrainedModel) -> TransformersModel:
    return TransformersModel(tiny_llama)


def greedy_reference(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_plain_rounds_are_greedy_decoding(model: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    assert run(session_of(model), {0: PROMPT}, 40)[0] == greedy_reference(tiny_llama, PROMPT, 40)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_no_drafter_changes_the_text(model: TransformersModel, sampling: Sampling) -> None:
    plain = run(session_of(model), {0: PROMPT}, 60, sampling)[0]
    for seed in range(8):
        session = session_of(TransformersModel(model._model), guesser(seed))
        assert run(session, {0: PROMPT}, 60, sampling)[0] == plain
    session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
    assert run(session, {0: PROMPT}, 60, sampling)[0] == plain


def test_an_oracle_is_accepted_whole(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 43, SAMPLED)[0]
    session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
    run(session, {0: PROMPT}, 43, SAMPLED)
    assert session.rows[0].rounds == 6  # 42 tokens after prefill, seven a round


def test_a_rule_that_takes_every_draft_would_be_noticed(model: TransformersModel) -> None:
    """The negative control of the two tests above."""
    plain = run(session_of(model), {0: PROMPT}, 30)[0]
    session = session_of(TransformersModel(model._model), guesser(0))
    decide = session.rule.decide

    class Lax:
        spec = session.rule.spec

        def decide(self, verification: Any) -> Any:
            first = verification.draft.n_nodes[0] > 0
            return [dataclasses.replace(each, path=(0,)) if first else each for each in decide(verification)]

    session.rule = Lax()
    assert run(session, {0: PROMPT}, 30)[0] != plain


def test_rows_do_not_depend_on_the_batch(model: TransformersModel) -> None:
    alone = run(session_of(model, guesser(1)), {0: PROMPT}, 50, SAMPLED)[0]
    session = session_of(TransformersModel(model._model), guesser(2))
    together = run(session, {7: OTHER, 0: PROMPT, 3: PROMPT[:3]}, 50, SAMPLED)
    assert together[0] == alone


def test_rows_come_and_go(model: TransformersModel) -> None:
    session = session_of(model, guesser(3))
    alone = [run(session_of(TransformersModel(model._model)), {0: prompt}, 30)[0] for prompt in (PROMPT, OTHER)]
    run(session, {0: PROMPT}, 10)
    session.open({1: OTHER}, max_new_tokens=30, stop_ids=frozenset())
    session.close([0])
    while not session.rows[1].done:
        session.round([1])
    assert session.rows[1].output == alone[1]
    assert run(session, {0: PROMPT}, 30)[0] == alone[0]


@pytest.mark.parametrize("drafter", [None, 4], ids=["plain", "drafted"])
def test_what_is_rewound_is_written_again(model: TransformersModel, drafter: int | None) -> None:
    session = session_of(model, None if drafter is None else guesser(drafter))
    whole = run(session, {0: PROMPT}, 50, SAMPLED)[0]
    for kept in (49, 31, 7, 1):
        session.rewind(0, len(PROMPT) + kept)
        assert session.rows[0].output == whole[:kept]
        while not session.rows[0].done:
            session.round([0])
        assert session.rows[0].output == whole


def test_forced_tokens_are_as_if_the_model_had_said_them(model: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    session = session_of(model, guesser(5))
    session.open({0: PROMPT}, max_new_tokens=40, stop_ids=frozenset())
    session.round([0])
    session.force(0, OTHER)
    before = list(session.rows[0].tokens)
    while not session.rows[0].done:
        session.round([0])
    expected = greedy_reference(tiny_llama, before, len(PROMPT) + 40 - len(before))
    assert session.rows[0].tokens == before + expected


def test_a_stop_token_inside_an_accepted_draft_ends_the_row_there(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 30)[0]
    stop = next(token for token in plain[3:] if token not in plain[:3])
    at = plain.index(stop)
    session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
    session.open({0: PROMPT}, stop_ids=frozenset({stop}), max_new_tokens=30)
    while not session.rows[0].done:
        outcome = session.round([0])[0]
    assert session.rows[0].output == plain[: at + 1]
    assert outcome.done
    assert session.target.length(0) == len(PROMPT) + at


def test_the_limit_is_kept_to_the_token(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 60)[0]
    for count in range(1, 12):
        session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
        assert run(session, {0: PROMPT}, count)[0] == plain[:count]


def test_a_row_ends_where_the_context_does(model: TransformersModel) -> None:
    context = model.info.context_length
    session = session_of(model, guesser(6))
    session.open({0: [7] * (context - 20)}, stop_ids=frozenset())
    while not session.rows[0].done:
        session.round([0])
    assert len(session.rows[0].tokens) == context


def test_hidden_states_come_to_the_drafter_where_they_predicted_its_tokens(
    model: TransformersModel, tiny_llama: PreTrainedModel
) -> None:
    drafter = Scripted(guesser(7).answer, needs=frozenset({"hidden", "logits"}), hidden_layers=(1, -1))
    session = session_of(model, drafter)
    run(session, {0: PROMPT}, 30)
    tokens = session.rows[0].tokens
    whole = tiny_llama(torch.tensor([tokens]), output_hidden_states=True)
    layer_one, logits = whole.hidden_states[1][0], whole.logits[0]
    at = len(PROMPT)
    for event in drafter.events:
        if event.reason == "prefill":
            torch.testing.assert_close(event.hidden[1], layer_one[: len(PROMPT)], rtol=1e-3, atol=1e-3)
            at += 1
            continue
        count = len(event.tokens)
        torch.testing.assert_close(event.hidden[1], layer_one[at - 1 : at - 1 + count], rtol=1e-3, atol=1e-3)
        normed = tiny_llama.lm_head(tiny_llama.model.norm(event.hidden[-1]))
        torch.testing.assert_close(normed, logits[at - 1 : at - 1 + count], rtol=1e-3, atol=1e-2)
        assert event.logits is not None
        torch.testing.assert_close(event.logits, logits[at - 1 : at - 1 + count], rtol=1e-3, atol=1e-2)
        at += count


def test_logprobs_are_the_models_own(model: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    session = session_of(model, guesser(8))
    outcomes = session.open({0: PROMPT}, sampling=SAMPLED, max_new_tokens=20, stop_ids=frozenset(), logprobs=3)
    while not session.rows[0].done:
        outcomes += session.round([0])
    said = [each for outcome in outcomes for each in outcome.logprobs]
    tokens = session.rows[0].tokens
    reference = torch.log_softmax(tiny_llama(torch.tensor([tokens])).logits[0], -1)
    assert [each.token for each in said] == tokens[len(PROMPT) :]
    for at, each in enumerate(said, start=len(PROMPT) - 1):
        assert each.logprob == pytest.approx(float(reference[at, each.token]), abs=1e-3)
        assert [token for token, _ in each.top] == reference[at].topk(3).indices.tolist()


def test_forcing_up_to_the_limit_ends_the_row(model: TransformersModel) -> None:
    session = session_of(model, guesser(10))
    session.open({0: PROMPT}, max_new_tokens=5, stop_ids=frozenset())
    session.force(0, OTHER)
    assert session.rows[0].done
    with pytest.raises(UsageError, match="is done"):
        session.round([0])
    session.rewind(0, len(PROMPT) + 2)
    assert len(session.round([0])[0].tokens) >= 1


def test_a_rewound_row_can_be_drawn_anew(model: TransformersModel) -> None:
    session = session_of(model, guesser(11))
    first = run(session, {0: PROMPT}, 40, SAMPLED)[0]
    again = []
    for seed in (None, 1, 2):
        session.rewind(0, len(PROMPT) + 10, seed=seed)
        while not session.rows[0].done:
            session.round([0])
        again.append(session.rows[0].output)
        assert again[-1][:10] == first[:10]
    assert again[0] == first
    assert len({tuple(output) for output in again}) == 3


def test_empty_drafts_have_no_nodes() -> None:
    assert empty_draft(3).tokens.shape == (3, 0)
