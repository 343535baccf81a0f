"""Many threads ask one model: each gets its own answer and its own errors, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.model import RowTokens
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import OutOfMemoryError
from draftproof.language_model import Completion, Context, Decoding, Request
from tests.drafting.language_models.counted import Counted, counted
from tests.drafting.language_models.writing import joined, stepwise

TEXTS = ("a", "b2", "abc", "12 a", "S", "2", "What is 12?", "cab")
LENGTH = 24
POISON = ord("~")
"""A token that nobody writes by himself."""


def left_behind(local: LocalLanguageModel, model: Counted) -> set[int]:
    """Rows that are open and not kept for later."""
    rounds = local._rounds
    assert not rounds._active
    assert rounds._leader is None
    assert not rounds._callers
    assert set(rounds._session.rows) == set(rounds._pool._idle)
    return model.rows - set(rounds._pool._idle)


def written(local: LocalLanguageModel, text: str, seed: int = 0) -> tuple[int, ...]:
    decoding = Decoding(0.7, top_k=8, seed=seed) if seed else Decoding()
    ids: tuple[int, ...] = joined(stepwise(local, Context.of(text), LENGTH, decoding=decoding), "ids")
    return ids


@pytest.mark.parametrize("max_batch", [3, 32])
def test_threads_get_what_they_would_get_alone(stepper: LoadedModel, max_batch: int) -> None:
    expected = [written(LocalLanguageModel(stepper), text, seed) for text in TEXTS for seed in (0, 3)]
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded, max_batch=max_batch, max_cached_rows=5)
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda each: written(local, *each), [(t, s) for t in TEXTS for s in (0, 3)]))
    assert got == expected
    assert left_behind(local, model) == set()


def test_threads_share_passes(stepper: LoadedModel) -> None:
    """All wait for the leader's first pass, in which they have time to come."""
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    ready = threading.Event()
    model.before = lambda batch: ready.wait(10) and None

    def ask(text: str) -> Completion:
        return local.generate([Request(Context.of(text), 10)])[0]

    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(ask, "a")
        while not model.passes:
            pass
        others = [threads.submit(ask, text) for text in TEXTS[1:]]
        while len(local._rounds._waiting) < 7:
            pass
        ready.set()
        answers = [each.result() for each in (first, *others)]
    assert [a.ids for a in answers] == [
        LocalLanguageModel(stepper).generate([Request(Context.of(text), 10)])[0].ids for text in TEXTS
    ]
    assert max(map(len, model.passes)) >= 7
    assert len(model.passes) < 30


def poisoned(error: type[BaseException]) -> Callable[[Sequence[RowTokens]], None]:
    def before(batch: Sequence[RowTokens]) -> None:
        if any(POISON in each.tokens.tolist() for each in batch):
            raise error("poison")

    return before


@pytest.mark.parametrize("error", [RuntimeError, OutOfMemoryError])
def test_an_error_comes_to_the_one_who_causes_it(stepper: LoadedModel, error: type[Exception]) -> None:
    expected = {text: written(LocalLanguageModel(stepper), text) for text in TEXTS}
    model, loaded = counted(stepper)
    model.before = poisoned(error)
    local = LocalLanguageModel(loaded)

    def ask(text: str) -> Any:
        try:
            return written(local, text)
        except error as caught:
            return caught

    texts = [*TEXTS, "~", *TEXTS, "a~"]
    with ThreadPoolExecutor(len(texts)) as threads:
        got = list(threads.map(ask, texts))
    for text, answer in zip(texts, got, strict=True):
        if "~" in text:
            assert isinstance(answer, error)
        else:
            assert answer == expected[text]
    assert left_behind(local, model) == set()


def test_an_error_in_a_call_of_several_is_raised_and_leaves_the_model_usable(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    model.before = poisoned(RuntimeError)
    local = LocalLanguageModel(loaded)
    with pytest.raises(RuntimeError, match="poison"):
        local.generate([Request(Context.of(text), 5) for text in ("a", "~", "b2")])
    with pytest.raises(RuntimeError, match="poison"):
        local.score([Context.of("a"), Context.of("~")], ["b", "b"])
    assert left_behind(local, model) == set()
    assert written(local, "a") == written(LocalLanguageModel(stepper), "a")


@pytest.mark.parametrize("at", [1, 2, 5, 9])
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_leader_that_is_interrupted_hands_over(stepper: LoadedModel, at: int, where: str) -> None:
    """In the pass, or between the pass and what is made of it."""
    expected = [written(LocalLanguageModel(stepper), text) for text in TEXTS]
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    interrupted: list[int] = []

    def interrupt(*_: Any) -> None:
        if len(model.passes) >= at and not interrupted:
            interrupted.append(threading.get_ident())
            raise KeyboardInterrupt

    if where == "before":
        model.before = interrupt
    else:
        commit = model.commit

        def then(row: int, slots: Sequence[int]) -> None:
            commit(row, slots)
            interrupt()

        model.commit = then  # type: ignore[method-assign]
    came: list[int] = []

    def ask(text: str) -> Any:
        for _ in range(2):
            try:
                return written(local, text)
            except KeyboardInterrupt:
                came.append(threading.get_ident())
        raise AssertionError("interrupted twice")

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(ask, TEXTS))
    assert got == expected
    assert came == interrupted  # and to nobody else
    assert left_behind(local, model) == set()


def test_one_who_waits_and_is_interrupted_is_not_served(stepper: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    hold, held = threading.Event(), threading.Event()

    def before(batch: Sequence[RowTokens]) -> None:
        held.set()
        hold.wait(10)

    model.before = before
    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(written, local, "a")
        held.wait(10)

        class Interrupted(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("draftproof.drafting.language_models.floor.Condition", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                local.generate([Request(Context.of("S" * 50), 5)])
        model.passes.clear()
        hold.set()
        assert leader.result() == written(LocalLanguageModel(stepper), "a")
    assert max(max(each) for each in model.passes) < 50  # the other's question was never read
    assert left_behind(local, model) == set()


def test_on_the_lean_backend_rows_are_the_same_bits_alone_and_among_others(stepper: LoadedModel) -> None:
    requests = [Request(Context.of(text), 30, hidden_layers=(1, -1)) for text in TEXTS]
    together = LocalLanguageModel(stepper).generate(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = LocalLanguageModel(stepper).generate([request])
        assert (alone.ids, alone.logprobs, alone.entropies, alone.margins) == (
            *(answer.ids, answer.logprobs, answer.entropies),
            answer.margins,
        )
        assert all(bool((alone.hidden[layer] == answer.hidden[layer]).all()) for layer in (1, -1))


@pytest.mark.parametrize("grace", [0.0, 1e-5, 1e-3], ids=lambda grace: f"{grace} s")
def test_many_threads_with_any_grace_are_all_served(
    grace: float, stepper: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever loses the floor at any moment, and is answered before or after he looks."""
    monkeypatch.setattr("draftproof.drafting.language_models.floor.GRACE_S", grace)
    first, second = LocalLanguageModel(stepper), LocalLanguageModel(stepper)
    texts = [f"{text}{number}" for number in range(40) for text in TEXTS[:2]]

    def both(text: str) -> str:
        context = Context.of(text)
        first.first_token([context])
        return first.generate([Request(context, 3)])[0].text + second.generate([Request(context, 2)])[0].text

    threads = ThreadPoolExecutor(8)
    try:
        waiting = [threads.submit(both, text) for text in texts]
        together = [each.result(timeout=60) for each in waiting]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    assert together == [both(text) for text in texts]
