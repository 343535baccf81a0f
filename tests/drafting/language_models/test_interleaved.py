"""Whatever was asked before, the answer is that of a model that was asked nothing before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.language_models.row_pool import RowPool
from draftproof.drafting.models.load import LoadedModel
from draftproof.drafting.rows import common_length
from draftproof.drafting.turns import new_row
from draftproof.language_model import Context, Decoding, Piece, Request
from tests.drafting.language_models.counted import counted

QUESTIONS = ("a", "abc", "abc 12", "What is 12?", "")
FOREIGN = ("b2.\n\n", "S", "12 a\n", "\n")


@dataclass(frozen=True)
class Ask:
    """One thing that is asked: of which question, after which foreign pieces, and what."""

    question: str
    pieces: tuple[str, ...]
    own_steps: int
    kind: str
    stop: bool
    seed: int
    """0 is greedy."""


ASKS = st.builds(
    Ask,
    question=st.sampled_from(QUESTIONS),
    pieces=st.lists(st.sampled_from(FOREIGN), max_size=2).map(tuple),
    own_steps=st.integers(0, 2),
    kind=st.sampled_from(["generate", "generate", "first", "score", "hidden"]),
    stop=st.booleans(),
    seed=st.integers(0, 2),
)


def answered(model: LocalLanguageModel, asks: list[Ask]) -> list[Any]:
    """The answers of requests that are asked in one call for each kind."""
    answers: dict[int, Any] = {}
    contexts = [context_of(model, ask) for ask in asks]
    of = {kind: [i for i, ask in enumerate(asks) if ask.kind == kind] for kind in {ask.kind for ask in asks}}
    for kind, at in of.items():
        if kind in ("generate", "hidden"):
            requests = [
                Request(
                    contexts[i],
                    9,
                    ("\n\n",) if asks[i].stop else (),
                    Decoding(0.8, top_k=8, seed=asks[i].seed) if asks[i].seed else Decoding(),
                    (1, -1) if kind == "hidden" else (),
                )
                for i in at
            ]
            for i, answer in zip(at, model.generate(requests), strict=True):
                shown = {layer: states.mean().item() for layer, states in answer.hidden.items()}
                answers[i] = (answer.text, answer.ids, answer.cause, answer.tokens, answer.logprobs, shown)
        elif kind == "first":
            for i, first in zip(at, model.first_token([contexts[i] for i in at], 3), strict=True):
                answers[i] = (first.entropy, [p for _, p in first.top])
        else:
            for i, scored in zip(at, model.score([contexts[i] for i in at], ["abc.\n\n"] * len(at)), strict=True):
                answers[i] = scored.logprobs
    return [answers[i] for i in range(len(asks))]


def context_of(model: LocalLanguageModel, ask: Ask) -> Context:
    """Foreign pieces, and steps that this model wrote after them, if any: each asked for as it would be."""
    context = Context.of(ask.question, [Piece(text) for text in ask.pieces])
    for _ in range(ask.own_steps):
        (step,) = model.generate([Request(context, 6, ("\n\n",))])
        context = Context(context.messages, (*context.written, Piece(step.text, model.identity, step.ids)))
    return context


@pytest.fixture(scope="module")
def fresh_answer(stepper: LoadedModel) -> Any:
    """Of a model that keeps nothing."""
    model = LocalLanguageModel(stepper, max_cached_rows=0)
    return cache(lambda ask: answered(model, [ask])[0])


def close(left: Any, right: Any) -> None:
    """Equal, and figures but for rounding."""
    if isinstance(left, tuple | list):
        assert len(left) == len(right)
        for each, other in zip(left, right, strict=True):
            close(each, other)
    elif isinstance(left, dict):
        close(sorted(left.items()), sorted(right.items()))
    else:
        assert left == (pytest.approx(right, abs=2e-4) if isinstance(left, float) else right)


@settings(max_examples=20, deadline=None)
@given(calls=st.lists(st.lists(ASKS, min_size=1, max_size=3), min_size=1, max_size=6), rows=st.integers(1, 4))
def test_what_was_asked_before_changes_no_answer(
    stepper: LoadedModel, fresh_answer: Any, calls: list[list[Ask]], rows: int
) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded, max_cached_rows=rows, max_batch=2)
    for asks in calls:
        for answer, ask in zip(answered(local, asks), asks, strict=True):
            close(answer, fresh_answer(ask))
        assert len(model.rows) <= rows
    local.forget()
    assert model.rows == set()


def test_a_cache_that_keeps_too_much_would_be_noticed(
    stepper: LoadedModel, fresh_answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: one more token is taken for read than the two texts have in common."""
    monkeypatch.setattr(
        "draftproof.drafting.session.common_length",
        lambda text, other: min(common_length(text, other) + 1, len(text), len(other)),
    )
    local = LocalLanguageModel(stepper)
    asks = [Ask("abc 12" * 9, (piece,), 0, "generate", False, 0) for piece in ("S", "12 a\n", "b2.\n\n")]
    got = [answered(local, [ask])[0] for ask in asks]
    with pytest.raises(AssertionError):
        close(got, [fresh_answer(ask) for ask in asks])


@given(
    texts=st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=6),
    pair=st.tuples(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40)),
)
def test_common_length_is_that_of_the_longest_common_beginning(
    texts: list[list[int]], pair: tuple[list[int], list[int]]
) -> None:
    for left, right in [(a, b) for a in texts for b in texts] + [pair, (pair[0], pair[0] + pair[1])]:
        expected = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
        assert common_length(left, right) == (min(len(left), len(right)) if expected is None else expected)


def test_rows_in_use_are_taken_by_nobody_else(stepper: LoadedModel) -> None:
    local = LocalLanguageModel(stepper)
    local.generate([Request(Context.of("abc 12"), 3)])
    pool: RowPool = local._rounds._pool
    ids = local._reader.ids(Context.of("abc 12"))
    first = pool.take(list(ids))
    assert first in local._rounds._session.rows
    second = pool.take(list(ids))
    assert second not in local._rounds._session.rows
    assert second < new_row()
    pool.give(first)
    assert pool.take(list(ids)) == first
    pool.give(first)
