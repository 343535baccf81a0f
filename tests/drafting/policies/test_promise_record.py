"""Scores are believed as far as they were kept, by row and by depth."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.policies.promise_record import PromiseRecord

CHAIN = list(range(-1, 7))


def chain(chance: float) -> list[float]:
    return [chance**depth for depth in range(1, len(CHAIN) + 1)]


def after(promised: float, true: float, rounds: int = 300) -> list[float]:
    """What a chain's scores are worth after verifying many."""
    luck = random.Random(0)
    record = PromiseRecord()
    for _ in range(rounds):
        record.give(0, chain(promised), CHAIN)
        record.note(0, next((at for at in range(len(CHAIN)) if luck.random() >= true), len(CHAIN)), verified=True)
    return record.worth(0, chain(promised), CHAIN)


def test_scores_are_believed_before_anything_is_known() -> None:
    assert PromiseRecord().worth(0, chain(0.8), CHAIN) == pytest.approx(chain(0.8))


def test_true_scores_stay_what_they_are() -> None:
    assert after(0.8, 0.8) == pytest.approx(chain(0.8), rel=0.35)


def test_a_model_that_is_too_sure_of_each_token_is_believed_ever_less_with_depth() -> None:
    worth = after(0.95, 0.4)
    assert worth[0] == pytest.approx(0.4, rel=0.5)
    assert worth[7] / 0.95**8 < 0.35 * worth[0] / 0.95


def test_a_node_is_never_worth_more_than_its_parent() -> None:
    record = PromiseRecord()
    for _ in range(100):
        record.give(0, chain(0.5), CHAIN)
        record.note(0, 8, verified=True)
    worth = record.worth(0, [0.6, 0.5, 0.3, 0.25], [-1, 0, 1, 1])
    assert worth[0] <= 1.0
    assert worth[1] <= worth[0]
    assert max(worth[2:]) <= worth[1]


def test_a_row_that_was_not_verified_regains_trust() -> None:
    record = PromiseRecord()
    for _ in range(40):
        record.give(0, chain(0.6), CHAIN)
        record.note(0, 0, verified=True)
    low = record.worth(0, [0.6], [-1])[0]
    for _ in range(100):
        record.give(0, chain(0.6), CHAIN)
        record.note(0, 0, verified=False)
    assert low < 0.15
    assert record.worth(0, [0.6], [-1])[0] > 2 * low


def test_rows_differ_and_a_new_one_begins_with_what_all_have_shown() -> None:
    record = PromiseRecord()
    for _ in range(40):
        for row, accepted in ((0, 0), (1, 2)):
            record.give(row, chain(0.6), CHAIN)
            record.note(row, accepted, verified=True)
    bad, good, new = (record.worth(row, [0.6], [-1])[0] for row in (0, 1, 2))
    assert bad < new < good
    record.forget(1)
    assert record.worth(1, [0.6], [-1])[0] == new


def test_a_promise_of_which_nothing_was_verified_is_not_held_against_a_later_round() -> None:
    record = PromiseRecord()
    record.give(0, [0.9, 0.8], [-1, 0])
    record.note(0, 0, verified=False)
    record.note(0, 0, verified=True)
    assert record.worth(0, [0.9], [-1]) == PromiseRecord().worth(0, [0.9], [-1])
