"""Acceptance by depth: a row's own, beginning with that of all rows."""

from __future__ import annotations

import pytest

from draftproof.drafting.policies.depth_record import PRIOR_ACCEPTANCE, DepthRecord


def test_of_an_unknown_drafter_the_prior_is_expected() -> None:
    assert list(DepthRecord().paths(0, 3)) == pytest.approx([PRIOR_ACCEPTANCE**depth for depth in (1, 2, 3)])


def test_each_depth_has_its_own_acceptance_and_deeper_ones_that_of_the_deepest() -> None:
    record = DepthRecord()
    for _ in range(60):
        record.note(0, depth=2, accepted=1)
    first, second, third = record.paths(0, 3)
    assert first > 0.95
    assert second < 0.1
    assert third < second / 5


def test_what_was_not_tested_counts_neither_way() -> None:
    """After a rejection the tokens behind it tell nothing."""
    record = DepthRecord()
    for _ in range(60):
        record.note(0, depth=8, accepted=0)
    paths = list(record.paths(0, 2))
    assert paths[1] / paths[0] == pytest.approx(paths[0])


def test_a_new_row_begins_with_what_all_rows_have_shown_and_goes_its_own_way() -> None:
    record = DepthRecord()
    for _ in range(100):
        record.note(0, depth=1, accepted=1)
    assert next(record.paths(1, 1)) > 0.9
    for _ in range(12):
        record.note(1, depth=1, accepted=0)
    assert next(record.paths(1, 1)) < 0.3
    record.forget(1)
    assert next(record.paths(1, 1)) > 0.6
