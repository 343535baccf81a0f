"""Prompt lookup: what it copies, how it votes, branches and stops."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Commit
from draftproof.drafting.drafters.prompt_lookup import NgramIndex, PromptLookup
from draftproof.errors import ContractError, UsageError
from tests.drafting.drafters.asking import asked, paths, started
from tests.drafting.drafters.factories import Tiny


def drafted(tiny: Tiny, text: list[int], budget: int = 8, **settings: int) -> Draft:
    return asked(started(PromptLookup(**settings), tiny, text), budget)


def test_it_copies_what_followed_the_longest_match(tiny: Tiny) -> None:
    text = [10, 11, 12, 20, 21, 22, 11, 12, 30, 31, 32, 10, 11, 12]
    tokens, parents = drafted(tiny, text, 3, n_min=3).tree(0)
    assert (tokens, parents) == ([20, 21, 22], [-1, 0, 1])


def test_a_loop_goes_on_past_the_end_of_the_text(tiny: Tiny) -> None:
    tokens, parents = drafted(tiny, [4, 50, 51, 52, 50, 51, 52, 50], 8, n_min=2).tree(0)
    assert tokens == [51, 52, 50, 51, 52, 50, 51, 52]
    assert parents == [-1, 0, 1, 2, 3, 4, 5, 6]


def test_the_more_frequent_continuation_wins_and_ties_go_to_the_newest(tiny: Tiny) -> None:
    text = [10, 11, 60, 3, 10, 11, 60, 4, 10, 11, 70, 5, 10, 11]
    assert drafted(tiny, text, 1).tree(0)[0] == [60]
    assert drafted(tiny, [*text[4:12], 10, 11], 1).tree(0)[0] == [70]


def test_different_continuations_become_branches_with_shares_of_the_score(tiny: Tiny) -> None:
    text = [10, 11, 60, 61, 10, 11, 60, 62, 10, 11, 70, 71, 10, 11]
    draft = drafted(tiny, text, 8, n_min=2)
    assert {(60,), (70,), (60, 61), (60, 62), (70, 71)} <= set(paths(draft))
    tokens, parents = draft.tree(0)
    assert draft.score is not None
    top = {
        token: float(draft.score[0, n])
        for n, (token, above) in enumerate(zip(tokens, parents, strict=True))
        if above < 0
    }
    assert top[60] > top[70]
    assert sum(top.values()) <= 1.0


def test_shorter_matches_add_branches_where_the_longer_one_leaves_doubt(tiny: Tiny) -> None:
    text = [10, 11, 12, 20, 3, 13, 12, 30, 4, 10, 11, 12]
    assert {(20,), (30,)} <= set(paths(drafted(tiny, text, 16, n_min=1)))
    assert (30,) not in paths(drafted(tiny, text, 16, n_min=2))


def test_nothing_follows_the_end_of_sequence(tiny: Tiny) -> None:
    (end,) = tiny.target.info.eos_ids
    text = [10, 11, 20, end, 40, 41, 10, 11]
    assert drafted(tiny, text, 8, n_min=2).tree(0)[0] == [20, end]


def test_new_text_is_not_drafted_for(tiny: Tiny) -> None:
    assert int(drafted(tiny, list(range(3, 40))).n_nodes[0]) == 0


def test_a_longer_match_is_trusted_more(tiny: Tiny) -> None:
    long = drafted(tiny, [10, 11, 12, 13, 14, 20, 3, 10, 11, 12, 13, 14], 1)
    short = drafted(tiny, [10, 11, 12, 13, 14, 20, 3, 6, 7, 8, 9, 14], 1)
    assert long.score is not None
    assert short.score is not None
    assert float(long.score[0, 0]) > float(short.score[0, 0])


def test_an_index_that_is_truncated_is_as_if_the_tokens_had_never_come() -> None:
    chance = random.Random(5)
    text = [chance.randrange(6) for _ in range(200)]
    index, fresh = NgramIndex(1, 4), NgramIndex(1, 4)
    for token in text:
        index.append(token)
    index.truncate(120)
    for token in text[:120]:
        fresh.append(token)
    assert index.tokens == fresh.tokens
    assert index._ends == fresh._ends
    assert index.trust.chances == fresh.trust.chances


def test_a_commit_that_was_missed_is_an_error(tiny: Tiny) -> None:
    drafter = started(PromptLookup(), tiny, [4, 5, 6])
    with pytest.raises(ContractError, match="holds 4 tokens after a commit to 6"):
        drafter.commit([Commit(0, (7,), (), 6)])


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="n_min is 3 and n_max 2"):
        PromptLookup(n_min=3, n_max=2)
    with pytest.raises(UsageError, match="max_nodes is 0"):
        PromptLookup(max_nodes=0)
