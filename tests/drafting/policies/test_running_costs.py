"""Estimates of what passes cost follow what passes take."""

from __future__ import annotations

import random

import pytest

from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.running_costs import RunningCosts

TABLE = PassCosts((1, 2, 4, 8, 16, 32), (20.0, 21.0, 22.0, 25.0, 31.0, 44.0))


def test_before_any_pass_the_table_holds() -> None:
    costs = RunningCosts(TABLE)
    assert [costs.pass_ms(count) for count in range(1, 50)] == [TABLE.pass_ms(count) for count in range(1, 50)]


def test_what_slows_one_size_is_expected_of_all() -> None:
    costs = RunningCosts(TABLE)
    for _ in range(20):
        costs.observe(5, 1.4 * TABLE.pass_ms(5))
    for count in (1, 5, 32, 64):
        assert costs.pass_ms(count) == pytest.approx(1.4 * TABLE.pass_ms(count), rel=0.06)


def test_a_machine_twice_as_slow_is_known_after_a_few_passes() -> None:
    costs = RunningCosts(TABLE)
    for _ in range(15):
        costs.observe(1, 40.0)
    assert costs.pass_ms(1) == pytest.approx(40.0, rel=0.1)


def test_one_interrupted_pass_changes_little() -> None:
    costs = RunningCosts(TABLE)
    costs.observe(4, 5000.0)
    assert costs.pass_ms(4) < 1.08 * TABLE.pass_ms(4)


def test_a_wrong_shape_is_put_right() -> None:
    """The table says that 8 tokens cost as much as one; they cost half as much again."""
    luck = random.Random(0)
    costs = RunningCosts(PassCosts((1, 8), (20.0, 20.0)))
    for _ in range(300):
        count, took = luck.choice([(1, 20.0), (8, 30.0)])
        costs.observe(count, took * luck.uniform(0.95, 1.05))
    assert costs.pass_ms(8) / costs.pass_ms(1) == pytest.approx(1.5, rel=0.08)


def test_a_table_of_one_size_will_do() -> None:
    costs = RunningCosts(PassCosts((1,), (20.0,)))
    for _ in range(40):
        costs.observe(9, 30.0)
    assert costs.pass_ms(1) == pytest.approx(30.0, rel=0.01)


def test_a_clock_that_stood_still_says_nothing() -> None:
    costs = RunningCosts(TABLE)
    costs.observe(1, 0.0)
    assert costs.pass_ms(1) == 20.0


def test_another_kind_of_pass_is_known_after_the_first() -> None:
    plain = RunningCosts(TABLE)
    upper = RunningCosts(TABLE, beside=plain)
    upper.observe(4, 8.0)
    assert upper.pass_ms(4) == pytest.approx(8.0)
    assert plain.pass_ms(1) == TABLE.pass_ms(1)


def test_what_one_kind_shows_of_the_machine_holds_for_the_other() -> None:
    plain = RunningCosts(TABLE)
    upper = RunningCosts(TABLE, beside=plain)
    for _ in range(40):
        plain.observe(1, 20.0)
        upper.observe(4, 8.0)
    for _ in range(30):
        upper.observe(4, 16.0)
    assert plain.pass_ms(1) > 1.5 * TABLE.pass_ms(1)
    for _ in range(30):
        plain.observe(1, 20.0)
    assert upper.pass_ms(4) < 11.0
