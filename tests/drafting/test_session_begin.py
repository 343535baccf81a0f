"""Open rows begin anew, and read texts that are given: as fresh rows would, without reading twice what they share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import CachedModel
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.rows import Opening, Reading, RowOutcome
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.errors import ContextLengthError, UsageError
from tests.drafting.drafters.factories import FACTORIES, Factory, Tiny
from tests.drafting.language_models.counted import Counted
from tests.drafting.scripted import OTHER, PROMPT, SAMPLED, Scripted, guesser, session_of

NONE: frozenset[int] = frozenset()


@pytest.fixture
def model(tiny_llama: PreTrainedModel) -> Counted:
    return Counted(TransformersModel(tiny_llama))


def opening(prompt: list[int], sampling: Sampling = GREEDY, count: int = 12, **more: Any) -> Opening:
    return Opening(prompt, sampling, count, NONE, **more)


def finish(session: Session, row: int = 0) -> list[RowOutcome]:
    outcomes = []
    while not session.rows[row].done:
        outcomes += session.round([row])
    return outcomes


def fresh(model: CachedModel, prompt: list[int], sampling: Sampling = GREEDY) -> list[int]:
    """The output of a row that was never anything else."""
    assert isinstance(model, Counted)
    session = session_of(TransformersModel(model.model._model))  # type: ignore[attr-defined]
    session.begin({0: opening(prompt, sampling)})
    finish(session)
    return session.rows[0].output


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_row_that_begins_anew_writes_what_a_fresh_one_does(model: Counted, sampling: Sampling) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT, sampling)})
    finish(session)
    written = list(session.rows[0].tokens)
    nexts = (
        *(written[:9], written, written[:3], [*written[:8], 60, 61], OTHER),
        *([*OTHER, 5], [*OTHER, 5], OTHER[:1], OTHER),
    )
    for prompt in nexts:
        session.begin({0: opening(list(prompt), sampling)})
        finish(session)
        assert session.rows[0].output == fresh(model, list(prompt), sampling)
        assert model.length(0) == len(session.rows[0].tokens) - 1


def test_only_what_is_new_is_read(model: Counted) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT)})
    finish(session)
    written = list(session.rows[0].tokens)
    for prompt, cached in (
        (written, len(written) - 1),
        ([*written[:10], 3, 4], 10),
        ([*written[:10], 3, 4], 11),
        (written[:2], 1),
        (OTHER, 0),
    ):
        model.passes.clear()
        (outcome,) = session.begin({0: opening(list(prompt))})
        assert outcome.cached == cached
        assert model.passes == [[len(prompt) - cached]]


def test_a_row_whose_basis_is_known_begins_behind_the_same_prompt_without_a_pass(model: Counted) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT, basis=True, count=1)})
    for sampling in (GREEDY, SAMPLED, Sampling(temperature=0.9, seed=3)):
        model.passes.clear()
        (outcome,) = session.begin({0: opening(PROMPT, sampling, basis=True)})
        assert outcome.cached == len(PROMPT)
        assert model.passes == []
        finish(session)
        assert session.rows[0].output == fresh(model, PROMPT, sampling)
    model.passes.clear()
    session.begin({0: opening(PROMPT, basis=True, hidden_layers=(1,))})
    assert model.passes == [[1]]  # the states were not kept
    model.passes.clear()
    session.begin({0: opening(PROMPT, basis=True, hidden_layers=(1,))})
    assert model.passes == []


def test_rows_that_are_open_and_rows_that_are_not_begin_together(model: Counted) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT, basis=True), 1: opening(OTHER)})
    model.passes.clear()
    outcomes = session.begin({2: opening(OTHER), 0: opening(PROMPT, SAMPLED, basis=True), 1: opening([*OTHER, 7])})
    assert model.passes == [[len(OTHER), 1]]
    assert [each.row for each in outcomes] == [2, 0, 1]
    for row in (0, 1, 2):
        finish(session, row)
    assert session.rows[0].output == fresh(model, PROMPT, SAMPLED)
    assert session.rows[1].output == fresh(model, [*OTHER, 7])
    assert session.rows[2].output == fresh(model, OTHER)


def test_the_basis_is_what_tokens_were_decided_from(model: Counted, tiny_llama: PreTrainedModel) -> None:
    for drafter in (None, guesser(3)):
        session = session_of(model, drafter)
        outcomes = session.begin({0: opening(PROMPT, count=30, basis=True, hidden_layers=(1, -1, 2))})
        outcomes += finish(session)
        tokens = session.rows[0].tokens
        whole = tiny_llama(torch.tensor([tokens]), output_hidden_states=True)
        at = slice(len(PROMPT) - 1, len(tokens) - 1)
        logits = torch.cat([each.basis.logits for each in outcomes if each.basis is not None])
        torch.testing.assert_close(logits, whole.logits[0, at], atol=1e-4, rtol=1e-4)
        one = torch.cat([each.basis.hidden[1] for each in outcomes if each.basis is not None])
        torch.testing.assert_close(one, whole.hidden_states[1][0, at], atol=1e-4, rtol=1e-4)
        last = torch.cat([each.basis.hidden[-1] for each in outcomes if each.basis is not None])
        torch.testing.assert_close(model.head(last), whole.logits[0, at], atol=1e-4, rtol=1e-4)
        session.close([0])


def test_given_texts_are_read_as_they_would_be_written(model: Counted, tiny_llama: PreTrainedModel) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT)})
    text, other = [*PROMPT, 3, 9, 27, 81], [*OTHER, 1, 2]
    model.passes.clear()
    mine, yours = session.read({0: Reading(text, len(PROMPT), (1, -1)), 1: Reading(other, 1, (-1,))})
    assert model.passes == [[4, len(other) - 1]]  # the last token is read by whoever goes on
    assert (mine.cached, yours.cached) == (len(PROMPT) - 1, 0)
    for got, tokens, begin in ((mine, text, len(PROMPT)), (yours, other, 1)):
        whole = tiny_llama(torch.tensor([tokens]), output_hidden_states=True)
        expected = whole.logits[0, begin - 1 : -1]
        torch.testing.assert_close(model.head(got.hidden[-1]), expected, atol=1e-4, rtol=1e-4)
    whole = tiny_llama(torch.tensor([text]), output_hidden_states=True)
    torch.testing.assert_close(mine.hidden[1], whole.hidden_states[1][0, len(PROMPT) - 1 : -1], atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match="is done"):
        session.round([0])
    session.begin({0: opening(text)})
    finish(session)
    assert session.rows[0].output == fresh(model, text)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.name)
def test_every_drafter_goes_along(
    factory: Factory, tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel
) -> None:
    """The text is that of fresh rows, whatever is begun and read before."""
    target = TransformersModel(tiny_llama)
    session = Session(target, factory.build(Tiny(target, tiny_draft_llama)), MatchRule(), Fixed(4))
    plain = Counted(target)
    session.begin({0: opening(PROMPT)})
    finish(session)
    written = list(session.rows[0].tokens)
    for step, prompt in enumerate((written[:9], written, [*written[:8], 60, 61], OTHER, [*OTHER, 5], PROMPT)):
        if step % 2:
            session.read({0: Reading([*prompt, 4, 4, 8], len(prompt), (-1,)), 1: Reading([*OTHER, 9], 2, (-1,))})
        session.begin({row: opening(list(prompt), SAMPLED) for row in (0, 1)})
        for row in (0, 1):
            finish(session, row)
            assert session.rows[row].output == fresh(plain, list(prompt), SAMPLED)


@pytest.mark.parametrize(
    "reading",
    [
        Reading([5], 1, ()),
        Reading([5, 6], 0, ()),
        Reading([5, 6], 2, ()),
        Reading([5, 97], 1, ()),
        Reading([5, 6], 1, (9,)),
    ],
    ids=["one token", "from the first", "from behind the last", "out of range", "no such layer"],
)
def test_what_cannot_be_read_changes_nothing(model: Counted, reading: Reading) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT)})
    with pytest.raises(UsageError):
        session.read({0: reading, 1: reading})
    assert set(session.rows) == model.rows == {0}
    finish(session)
    assert session.rows[0].output == fresh(model, PROMPT)


def test_a_prompt_without_room_changes_nothing(model: Counted) -> None:
    session = session_of(model)
    session.begin({0: opening(PROMPT)})
    with pytest.raises(ContextLengthError):
        session.begin({1: opening(OTHER), 0: opening([5] * model.info.context_length)})
    with pytest.raises(UsageError, match="layer"):
        session.begin({0: opening(PROMPT, hidden_layers=(3,))})
    assert set(session.rows) == model.rows == {0}
    finish(session)
    assert session.rows[0].output == fresh(model, PROMPT)


def test_an_error_on_the_way_closes_the_rows_and_no_others(model: Counted) -> None:
    session = session_of(model, Scripted(lambda tokens, budget: ([], [])))
    session.begin({row: opening(PROMPT) for row in (0, 1, 2)})

    def fail(batch: Any) -> None:
        raise KeyboardInterrupt

    model.before = fail
    with pytest.raises(KeyboardInterrupt):
        session.begin({0: opening(OTHER), 3: opening(OTHER)})
    with pytest.raises(KeyboardInterrupt):
        session.read({1: Reading([*PROMPT, 4], 3, (-1,)), 4: Reading([*PROMPT, 4], 3, (-1,))})
    model.before = None
    assert set(session.rows) == model.rows == {2}
    finish(session, 2)
    assert session.rows[2].output == fresh(model, PROMPT)
    session.begin({0: opening(OTHER), 3: opening(OTHER)})
