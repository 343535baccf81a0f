"""Drafters that break their contract or fail: an error that names them, and no row that goes on half-way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DraftRequest
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.errors import ContractError, UsageError
from tests.drafting.bigram import Bigram

LAWS = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1]]
PROMPT = [3, 3, 2, 2, 1, 0, 3, 2, 1]


class Answering(PromptLookup):
    """Its draft is made into another one."""

    def __init__(self, other: Callable[[Draft], Draft]) -> None:
        super().__init__()
        self._other = other

    def propose(self, request: DraftRequest) -> Draft:
        return self._other(super().propose(request))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda draft: replace(draft, score=torch.ones(1, 1)), "scores"),
        (lambda draft: replace(draft, source=("a", "b")), "2 sources for 1 rows"),
        (lambda draft: replace(draft, tokens=draft.tokens.float()), "int64"),
        (lambda draft: replace(draft, parent=draft.parent.int()), "int64"),
    ],
)
def test_a_draft_of_the_wrong_form_is_refused_by_name(other: Callable[[Draft], Draft], said: str) -> None:
    session = Session(Bigram(LAWS), Answering(other), create_rule("auto"), Fixed(draft_length=4))
    session.open({0: PROMPT}, max_new_tokens=20)
    with pytest.raises(ContractError, match=said) as caught:
        session.round([0])
    assert "prompt-lookup" in caught.value.message


class Forgetful(PromptLookup):
    def rewind(self, row: int, length: int) -> None:
        raise MemoryError


def test_a_rewind_that_fails_leaves_a_row_that_says_so() -> None:
    session = Session(Bigram(LAWS), Forgetful(), create_rule("auto"), Fixed(draft_length=4))
    session.open({0: PROMPT}, max_new_tokens=20)
    session.round([0])
    with pytest.raises(MemoryError):
        session.rewind(0, len(PROMPT) + 1)
    with pytest.raises(UsageError, match="half-way"):
        session.round([0])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sampled_row_without_room_does_not_disturb_a_greedy_one(order: tuple[int, int]) -> None:
    """The sampled row has one token left, so that only the greedy one drafts."""
    session = Session(Bigram(LAWS), SmallLM(Bigram(LAWS), max_depth=3), create_rule("auto"), Fixed(draft_length=3))
    session.open({0: PROMPT}, sampling=GREEDY, max_new_tokens=12)
    session.open({1: PROMPT}, sampling=Sampling(temperature=1.0, seed=1), max_new_tokens=2)
    outcomes = session.round(order)
    assert [outcome.row for outcome in outcomes] == list(order)
    drafted = {outcome.row: outcome.record.drafted for outcome in outcomes if outcome.record}
    assert drafted == {0: 3, 1: 0}
