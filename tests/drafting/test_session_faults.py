"""What goes wrong in a round: it is refused or survived, the error says what it was, and no other row is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import Commit
from draftproof.drafting.model import Pass, RowTokens, Wanted
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import ContextLengthError, ContractError, NumericalError, OutOfMemoryError, UsageError
from tests.drafting.scripted import OTHER, PROMPT, SAMPLED, Scripted, guesser, oracle, run, session_of


@pytest.fixture
def model(tiny_llama: PreTrainedModel) -> TransformersModel:
    return TransformersModel(tiny_llama)


def test_the_prompt_cannot_be_rewound(model: TransformersModel) -> None:
    session = session_of(model)
    run(session, {0: PROMPT}, 5)
    with pytest.raises(UsageError, match="the prompt"):
        session.rewind(0, len(PROMPT))


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        pytest.param([], UsageError, id="empty"),
        pytest.param([3, 97], UsageError, id="id-out-of-range"),
        pytest.param([3, -1], UsageError, id="negative-id"),
        pytest.param([3] * 512, ContextLengthError, id="longer-than-the-context"),
    ],
)
def test_a_prompt_that_cannot_be_read_opens_no_row(model: TransformersModel, prompt: list[int], error: type) -> None:
    session = session_of(model)
    with pytest.raises(error):
        session.open({0: PROMPT, 1: prompt})
    assert session.rows == {}
    assert run(session, {0: PROMPT}, 3)[0]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        pytest.param(([97], [-1]), "token 97", id="id-out-of-range"),
        pytest.param(([-2], [-1]), "token -2", id="negative-id"),
        pytest.param(([4, 5], [1, -1]), "hangs under 1", id="parent-after-child"),
        pytest.param(([4], [-2]), "hangs under -2", id="no-such-parent"),
        pytest.param(([4, 4], [-1, -1]), "sibling", id="equal-siblings"),
        pytest.param((list(range(9)), list(range(-1, 8))), "budget", id="too-many-nodes"),
    ],
)
def test_a_broken_draft_is_refused_and_changes_nothing(
    model: TransformersModel, tree: tuple[list[int], list[int]], said: str
) -> None:
    plain = run(session_of(model), {0: PROMPT}, 20)[0]
    drafter = Scripted(lambda tokens, budget: tree)
    session = session_of(TransformersModel(model._model), drafter)
    session.open({0: PROMPT}, max_new_tokens=20, stop_ids=frozenset())
    with pytest.raises(ContractError, match=said):
        session.round([0])
    drafter.answer = lambda tokens, budget: ([], [])
    while not session.rows[0].done:
        session.round([0])
    assert session.rows[0].output == plain


class Narrow(TransformersModel):
    """Runs out of memory on any pass over more than one token after prefill."""

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        if any(each.row >= 0 and self.length(each.row) and len(each.tokens) > 1 for each in batch):
            raise OutOfMemoryError("no room")
        return super().forward(batch, wanted)


def test_a_draft_that_does_not_fit_becomes_a_plain_step(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 20)[0]
    assert run(session_of(Narrow(model._model), oracle([*PROMPT, *plain])), {0: PROMPT}, 20)[0] == plain


class Broken(TransformersModel):
    """Its logits hold NaN from some length on."""

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        result = super().forward(batch, wanted)
        if result.logits is not None and self.length(batch[0].row) > 10:
            result.logits[:, 40] = float("nan")
        return result


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_logits_that_are_not_numbers_raise(model: TransformersModel, sampling: Sampling) -> None:
    session = session_of(Broken(model._model))
    with pytest.raises(NumericalError):
        run(session, {0: PROMPT}, 30, sampling)


@pytest.mark.parametrize("forced", [[97], [3, -1], [5] * 600 + [97]], ids=["too-large", "negative", "late"])
def test_what_cannot_be_forced_changes_nothing(model: TransformersModel, forced: list[int]) -> None:
    plain = run(session_of(model), {0: PROMPT}, 20)[0]
    session = session_of(TransformersModel(model._model), guesser(9))
    session.open({0: PROMPT}, max_new_tokens=20, stop_ids=frozenset())
    with pytest.raises((UsageError, ContextLengthError)):
        session.force(0, forced)
    while not session.rows[0].done:
        session.round([0])
    assert session.rows[0].output == plain


class Interrupted(Scripted):
    """Stopped by the user while it is told what became of a round."""

    def commit(self, events: Sequence[Commit]) -> None:
        raise KeyboardInterrupt


def test_a_row_that_was_left_half_way_is_not_gone_on_with(model: TransformersModel) -> None:
    session = session_of(model, Interrupted(lambda tokens, budget: ([], [])))
    session.open({0: PROMPT}, max_new_tokens=20, stop_ids=frozenset())
    with pytest.raises(KeyboardInterrupt):
        session.round([0])
    for use in (lambda: session.round([0]), lambda: session.force(0, OTHER), lambda: session.rewind(0, 7)):
        with pytest.raises(UsageError, match="half-way"):
            use()
    session.close([0])
    session.open({0: PROMPT})


class Forgetful(Scripted):
    """Cannot begin a second row."""

    def start(self, event: Commit) -> None:
        if self.tokens:
            raise RuntimeError("one is enough")
        super().start(event)


def test_rows_that_could_not_all_be_opened_leave_nothing(model: TransformersModel) -> None:
    drafter = Forgetful(lambda tokens, budget: ([], []))
    session = session_of(model, drafter)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="one is enough"):
            session.open({0: PROMPT, 1: OTHER})
        assert session.rows == {}
        assert drafter.tokens == {}
    session.open({0: PROMPT})


class Clinging(Forgetful):
    """Nor lets go of the first."""

    def stop(self, rows: Sequence[int]) -> None:
        raise OSError(f"rows {list(rows)} stay")


def test_a_drafter_that_fails_while_it_cleans_up_hides_no_error_and_loses_none(model: TransformersModel) -> None:
    session = session_of(model, Clinging(lambda tokens, budget: ([], [])))
    with pytest.raises(RuntimeError, match="one is enough") as caught:
        session.open({0: PROMPT, 1: OTHER})
    assert caught.value.__notes__ == [
        f"The drafter 'scripted' could not forget row {row}: OSError: rows [{row}] stay" for row in (0, 1)
    ]
    assert session.rows == {}


def test_a_drafter_that_cleans_up_leaves_no_note(model: TransformersModel) -> None:
    class Late(Scripted):
        def start(self, event: Commit) -> None:
            super().start(event)
            if event.row:
                raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late") as caught:
        session_of(model, Late(lambda tokens, budget: ([], []))).open({0: PROMPT, 1: OTHER})
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("logprobs", [-1, 98])
def test_more_alternatives_than_tokens_are_refused(model: TransformersModel, logprobs: int) -> None:
    with pytest.raises(UsageError, match="logprobs"):
        session_of(model).open({0: PROMPT}, logprobs=logprobs)


def test_rows_that_are_not_open_are_told(model: TransformersModel) -> None:
    session = session_of(model)
    for use in (lambda: session.round([7]), lambda: session.close([7]), lambda: session.rewind(7, 2)):
        with pytest.raises(UsageError, match="Row 7 is not open"):
            use()
    assert session.round([]) == []
    assert session.open({}) == []


@pytest.mark.parametrize("scores", [[float("nan"), 0.1], [0.2, 0.9]], ids=["nan", "child-above-parent"])
def test_scores_that_are_no_probabilities_of_paths_are_refused(model: TransformersModel, scores: list[float]) -> None:
    drafter = Scripted(lambda tokens, budget: ([4, 5], [-1, 0]))
    propose = drafter.propose
    drafter.propose = lambda request: dataclasses.replace(propose(request), score=torch.tensor([scores]))  # type: ignore[method-assign]
    session = session_of(model, drafter)
    session.open({0: PROMPT}, max_new_tokens=9, stop_ids=frozenset())
    with pytest.raises(ContractError, match="score"):
        session.round([0])


def test_a_drafter_out_of_memory_costs_a_plain_step(model: TransformersModel) -> None:
    def starved(tokens: list[int], budget: int) -> tuple[list[int], list[int]]:
        raise MemoryError

    plain = run(session_of(model), {0: PROMPT}, 10)[0]
    assert run(session_of(TransformersModel(model._model), Scripted(starved)), {0: PROMPT}, 10)[0] == plain


def test_a_drafter_that_a_rule_cannot_verify_is_refused(model: TransformersModel) -> None:
    drafter = Scripted(lambda tokens, budget: ([], []), law="reject_wor")
    with pytest.raises(UsageError, match="cannot verify"):
        session_of(model, drafter, rule="token")
