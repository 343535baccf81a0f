"""Plain greedy decoding of a model that writes by itself is that of rounds, token for token and bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.greedy_run import can_run, run
from draftproof.drafting.rows import Opening, RowOutcome
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.errors import NumericalError
from tests.drafting.scripted import OTHER, PROMPT, guesser, session_of

PROMPTS = {0: PROMPT, 1: OTHER, 2: [*OTHER, *PROMPT, *OTHER]}
LAYERS = {0: (1, -1), 1: (), 2: (0,)}
"""Whose states each row wants."""


@pytest.fixture
def model(tiny_llama: PreTrainedModel) -> LeanLlama:
    return LeanLlama.from_transformers(tiny_llama)


def opened(
    model: LeanLlama, count: int = 40, stops: Sequence[int] = (), sampling: Sampling = GREEDY
) -> tuple[Session, list[RowOutcome]]:
    session = session_of(model)
    openings = {
        row: Opening(ids, sampling, count, frozenset(stops), basis=True, hidden_layers=LAYERS[row])
        for row, ids in PROMPTS.items()
    }
    return session, session.begin(openings)


def nowhere(model: LeanLlama) -> torch.Tensor:
    return torch.zeros(model.info.vocab_size, dtype=torch.bool)


def gathered(outcomes: Sequence[RowOutcome], into: dict[int, list[RowOutcome]]) -> list[int]:
    """Keeps what came; rows that go on."""
    for outcome in outcomes:
        into.setdefault(outcome.row, []).append(outcome)
    return [outcome.row for outcome in outcomes if not outcome.done]


def logits_of(outcomes: Sequence[RowOutcome]) -> torch.Tensor:
    return torch.cat([outcome.basis.logits for outcome in outcomes if outcome.basis is not None])


def assert_alike(some: Sequence[RowOutcome], others: Sequence[RowOutcome], row: int) -> None:
    assert tokens_of(some) == tokens_of(others)
    assert torch.equal(logits_of(some), logits_of(others))
    for layer in LAYERS[row]:
        states, expected = (
            torch.cat([outcome.basis.hidden[layer] for outcome in each if outcome.basis is not None])
            for each in (some, others)
        )
        assert len(states) == len(tokens_of(some))
        assert torch.equal(states, expected), f"layer {layer} of row {row}"


def by_rounds(model: LeanLlama, stops: Sequence[int] = ()) -> dict[int, list[RowOutcome]]:
    session, first = opened(model, stops=stops)
    found: dict[int, list[RowOutcome]] = {}
    going = gathered(first, found)
    while going:
        going = gathered(session.round(going), found)
    return found


def by_runs(
    model: LeanLlama, stops: Sequence[int] = (), halts: Mapping[int, torch.Tensor] | None = None
) -> dict[int, list[RowOutcome]]:
    session, first = opened(model, stops=stops)
    found: dict[int, list[RowOutcome]] = {}
    going = gathered(first, found)
    while going:
        going = gathered(run(session, {row: (halts or {}).get(row, nowhere(model)) for row in going}), found)
        for row, state in session.rows.items():
            assert model.length(row) == len(state.tokens) - 1
    return found


def tokens_of(outcomes: Sequence[RowOutcome]) -> list[int]:
    return [token for outcome in outcomes for token in outcome.tokens]


def test_runs_give_what_rounds_give(model: LeanLlama, tiny_llama: PreTrainedModel) -> None:
    rounds, runs = by_rounds(LeanLlama.from_transformers(tiny_llama)), by_runs(model)
    for row in PROMPTS:
        assert_alike(runs[row], rounds[row], row)
        assert len(tokens_of(runs[row])) == 40
        assert len(runs[row]) < len(rounds[row])


def test_a_stop_token_ends_a_row_in_the_middle_of_a_run_and_a_halt_does_not(
    model: LeanLlama, tiny_llama: PreTrainedModel
) -> None:
    text = tokens_of(by_rounds(LeanLlama.from_transformers(tiny_llama))[0])
    stop = next(token for place, token in enumerate(text) if place > 5 and token not in text[:place])
    halts = nowhere(model)
    halts[text[3]] = True
    rounds = by_rounds(LeanLlama.from_transformers(tiny_llama), [stop])
    runs = by_runs(model, [stop], {0: halts})
    for row in PROMPTS:
        assert_alike(runs[row], rounds[row], row)
    assert tokens_of(runs[0])[-1] == stop
    assert runs[0][-1].done


def test_rows_that_are_not_plain_are_left_to_rounds(model: LeanLlama) -> None:
    for opening in (
        Opening(PROMPT, Sampling(temperature=0.7, seed=1)),
        Opening(PROMPT, Sampling(repetition_penalty=1.2)),
        Opening(PROMPT, logprobs=2),
    ):
        session = session_of(model)
        session.begin({0: opening})
        before = list(session.rows[0].tokens)
        assert run(session, {0: nowhere(model)}) == []
        assert session.rows[0].tokens == before
        session.close([0])


def test_only_models_that_write_by_themselves_run_and_only_without_a_drafter(
    model: LeanLlama, tiny_llama: PreTrainedModel
) -> None:
    assert can_run(session_of(model))
    assert not can_run(session_of(model, guesser(0)))
    assert not can_run(session_of(TransformersModel(tiny_llama)))


def test_logits_that_are_no_numbers_are_left_to_a_round_that_says_so(model: LeanLlama) -> None:
    session, _ = opened(model)
    model._rows[1]._stored[:] = float("nan")
    going = {row: nowhere(model) for row in PROMPTS}
    outcomes = run(session, going)
    assert {outcome.row for outcome in outcomes} == {0, 2}
    assert len(session.rows[1].output) == 1
    with pytest.raises(NumericalError):
        session.round([1])


def test_a_row_can_be_rewound_into_a_run(model: LeanLlama, tiny_llama: PreTrainedModel) -> None:
    session, _ = opened(model)
    (outcome,) = run(session, {0: nowhere(model)})
    session.rewind(0, len(PROMPT) + 3)
    (again,) = run(session, {0: nowhere(model)})
    assert again.tokens[: len(outcome.tokens) - 2] == outcome.tokens[2:]
