"""Adaptive n-grams: frequencies, orders, and looking up again after each drafted token."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.drafters.ngram import NGram, NgramCounts
from draftproof.errors import UsageError
from tests.drafting.drafters.asking import asked, started
from tests.drafting.drafters.factories import Tiny


def test_the_most_frequent_successor_is_drafted_and_the_newest_of_equals(tiny: Tiny) -> None:
    text = [10, 60, 3, 10, 60, 4, 10, 70, 5, 10]
    assert asked(started(NGram(), tiny, text), 1).tree(0)[0] == [60]
    assert asked(started(NGram(), tiny, text[3:]), 1).tree(0)[0] == [70]


def test_the_highest_order_that_knows_the_context_decides(tiny: Tiny) -> None:
    text = [10, 11, 60, 3, 11, 70, 4, 11, 70, 5, 10, 11]
    assert asked(started(NGram(order=3), tiny, text), 1).tree(0)[0] == [60]
    assert asked(started(NGram(order=2), tiny, text), 1).tree(0)[0] == [70]


def test_each_drafted_token_is_looked_up_anew(tiny: Tiny) -> None:
    """After 10 came 11, once; after 11 mostly 70, though not where 10 stood before it."""
    text = [10, 11, 60, 3, 11, 70, 4, 11, 70, 5, 10]
    assert asked(started(NGram(order=2), tiny, text), 2).tree(0) == ([11, 70], [-1, 0])


def test_drafting_ends_with_the_end_of_sequence_or_where_nothing_is_known(tiny: Tiny) -> None:
    (end,) = tiny.target.info.eos_ids
    assert asked(started(NGram(), tiny, [10, 11, end, 40, 10]), 8).tree(0)[0] == [11, end]
    assert int(asked(started(NGram(), tiny, [10, 11, 12]), 8).n_nodes[0]) == 0


def test_counts_that_are_truncated_are_as_if_the_tokens_had_never_come() -> None:
    chance = random.Random(1)
    text = [chance.randrange(5) for _ in range(150)]
    index, fresh = NgramCounts(4), NgramCounts(4)
    for token in text:
        index.append(token)
    index.truncate(60)
    for token in text[:60]:
        fresh.append(token)
    assert index._followed == fresh._followed
    assert index.trust.chances == fresh.trust.chances


def test_an_order_that_predicts_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="order is 1"):
        NGram(order=1)
