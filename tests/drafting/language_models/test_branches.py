"""Several continuations of one context: read together, and as if each had been read alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from draftproof.drafting import branched_reading
from draftproof.drafting.language_models import jobs
from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import ContextLengthError
from draftproof.language_model import Context
from tests.drafting.language_models.counted import counted

QUESTION, OTHER = Context.of("What is 12 and 30?"), Context.of("abc")
TEXTS = ["42.", "So 12+30=42.\n\nThe answer is 42.", "a", "abc abc abc", "So 12+30=43."]


def one_by_one(loaded: LoadedModel, contexts: Sequence[Context], texts: Sequence[str]) -> list[tuple[float, ...]]:
    return [
        LocalLanguageModel(loaded).score([context], [text])[0].logprobs
        for context, text in zip(contexts, texts, strict=True)
    ]


def assert_alike(found: Sequence[Any], expected: Sequence[tuple[float, ...]]) -> None:
    assert len(found) == len(expected)
    for each, alone in zip(found, expected, strict=True):
        assert each.logprobs == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("kind", ["stepper", "other_stepper", "chatter"])
def test_continuations_of_one_context_are_scored_as_alone(kind: str, request: pytest.FixtureRequest) -> None:
    loaded = request.getfixturevalue(kind)
    contexts = [QUESTION, OTHER, QUESTION, QUESTION, OTHER]
    assert_alike(LocalLanguageModel(loaded).score(contexts, TEXTS), one_by_one(loaded, contexts, TEXTS))


def test_the_context_is_read_once_and_all_that_follows_in_one_pass(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    scored = LocalLanguageModel(loaded).score([QUESTION] * len(TEXTS), TEXTS)
    common = scored[1].cached_tokens
    following = sum(each.prompt_tokens - common + len(each.logprobs) - 1 for each in scored)
    assert common > 10
    assert len(model.passes) == 2
    assert sum(map(sum, model.passes)) == common + following
    assert [each.cached_tokens for each in scored] == [0, *[common] * (len(TEXTS) - 1)]


def test_contexts_with_little_in_common_are_read_apart(stepper: LoadedModel) -> None:
    _, loaded = counted(stepper)
    contexts = [Context.of("What is it?"), Context.of("Where are the keys of the house that was sold?")]
    scored = LocalLanguageModel(loaded).score(contexts, TEXTS[:2])
    assert [each.cached_tokens for each in scored] == [0, 0]
    assert_alike(scored, one_by_one(stepper, contexts, TEXTS[:2]))


def test_a_long_continuation_is_read_by_itself_in_pieces(stepper: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_TOKENS", 25)
    texts = ["42.", "abc" * 30, "a"]
    model, loaded = counted(stepper)
    scored = LocalLanguageModel(loaded).score([QUESTION] * 3, texts)
    assert_alike(scored, one_by_one(stepper, [QUESTION] * 3, texts))
    assert scored[2].cached_tokens > scored[0].cached_tokens
    assert max(tokens for each in model.passes for tokens in each) > 25
    assert not any(sum(each) > 25 + 90 + 20 for each in model.passes)


def test_states_are_those_of_each_text_alone(stepper: LoadedModel) -> None:
    together = LocalLanguageModel(stepper).read([QUESTION] * 3, TEXTS[:3], hidden_layers=(0, 2))
    for text, read in zip(TEXTS, together, strict=False):
        (alone,) = LocalLanguageModel(stepper).read([QUESTION], [text], hidden_layers=(0, 2))
        assert read.ids == alone.ids
        for layer in (0, 2):
            torch.testing.assert_close(read.hidden[layer], alone.hidden[layer], atol=1e-3, rtol=1e-3)


def test_more_than_fits_one_pass_is_read_in_several(stepper: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branched_reading, "MOST_TOKENS", 20)
    model, loaded = counted(stepper)
    assert_alike(LocalLanguageModel(loaded).score([QUESTION] * 5, TEXTS), one_by_one(stepper, [QUESTION] * 5, TEXTS))
    assert len(model.passes) > 2


def test_texts_go_on_behind_what_was_scored(stepper: LoadedModel) -> None:
    """The row that held the branches holds none of them any more."""
    local = LocalLanguageModel(stepper)
    local.score([QUESTION] * 3, TEXTS[:3])
    assert_alike(local.score([QUESTION] * 5, TEXTS), one_by_one(stepper, [QUESTION] * 5, TEXTS))
    (behind,), (anew,) = (each.first_token([QUESTION]) for each in (local, LocalLanguageModel(stepper)))
    assert [share for _, share in behind.top] == pytest.approx([share for _, share in anew.top], abs=1e-4)
    assert behind.cached_tokens > 10


def test_branches_that_see_each_other_are_found(stepper: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = branched_reading._tree

    def chained(stem: Sequence[int], branches: Sequence[Sequence[int]]) -> Any:
        tokens, parents, places = kept(stem, branches)
        return tokens, torch.arange(len(parents)) - 1, places

    monkeypatch.setattr(branched_reading, "_tree", chained)
    expected = one_by_one(stepper, [QUESTION] * 5, TEXTS)
    with pytest.raises(AssertionError):
        assert_alike(LocalLanguageModel(stepper).score([QUESTION] * 5, TEXTS), expected)


def test_a_continuation_that_does_not_fit_is_an_error_as_ever(stepper: LoadedModel) -> None:
    local = LocalLanguageModel(stepper)
    with pytest.raises(ContextLengthError):
        local.score([QUESTION, QUESTION], ["a", "a" * 10 * stepper.model.info.context_length])
    assert_alike(local.score([QUESTION] * 5, TEXTS), one_by_one(stepper, [QUESTION] * 5, TEXTS))
