"""Routing: every measure by hand, and the areas between curves whose shape is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.metrics.routing import (
    FrontierPoint,
    TokensByWriter,
    acceptance_rate,
    area_between,
    deferral_rate,
    flops,
    frontier,
    gap_closed,
    spearman,
    tokens_by_writer,
    wasted_escalation_rate,
)


def test_acceptance_and_deferral() -> None:
    assert acceptance_rate([1, 1, 0, 1]) == 0.75
    assert deferral_rate([1, 1, 0, 1]) == 0.25
    with pytest.raises(UsageError):
        acceptance_rate([])


def test_tokens_by_writer() -> None:
    found = tokens_by_writer(["draft", "draft", "target", "draft", "target"], [10, 4, 7, 1, 2], [1, 0, 1, 1, 0])
    assert found == TokensByWriter(draft_kept=11, draft_discarded=4, target=9)


@pytest.mark.parametrize(
    ("roles", "tokens"),
    [
        pytest.param(["judge"], [1], id="another-writer"),
        pytest.param(["draft"], [1.5], id="half-a-token"),
        pytest.param(["draft"], [-1], id="negative"),
        pytest.param(["draft", "target"], [1], id="lengths"),
    ],
)
def test_tokens_that_cannot_be_counted_are_refused(roles: Any, tokens: Any) -> None:
    with pytest.raises(UsageError):
        tokens_by_writer(roles, tokens, [1])


def test_wasted_escalations_are_those_where_the_target_is_no_better() -> None:
    assert wasted_escalation_rate([1, 1, 1, 1, 0], [1, 0, 0, 0, 1]) == 0.75
    assert wasted_escalation_rate([0, 0], [1, 0]) is None


def test_spearman_by_hand_and_with_ties() -> None:
    assert spearman([1, 2, 3], [10, 20, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 1], [3, 2, 1]) is None
    # ranks 1.5 1.5 3 against 1 2 3: covariance 1.5, variances 1.5 and 2
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(1.5 * 2))
    with pytest.raises(UsageError, match="nan"):
        spearman([1, math.nan], [1, 2])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    ours = spearman(first, second)
    if ours is None:
        assert len(set(first)) == 1 or len(set(second)) == 1
    else:
        assert ours == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_gap_closed() -> None:
    assert gap_closed(0.7, 0.5, 0.9) == pytest.approx(0.5)
    assert gap_closed(0.4, 0.5, 0.9) == pytest.approx(-0.25)
    assert gap_closed(0.5, 0.5, 0.5) is None
    with pytest.raises(UsageError):
        gap_closed(math.nan, 0.5, 0.9)


def test_flops() -> None:
    assert flops(3_000_000, 100) == 600_000_000
    with pytest.raises(UsageError):
        flops(-1, 100)


def test_the_area_between_crossing_curves_by_hand() -> None:
    found = area_between([(0, 0), (1, 1)], [(0, 1), (1, 0)])
    assert found is not None
    assert found.area == pytest.approx(0)
    found = area_between([(0, 1), (1, 1)], [(0, 1), (0.5, 0), (1, 1)])
    assert found is not None
    assert found.area == pytest.approx(0.5)


def test_only_the_common_range_counts_and_nothing_is_extrapolated() -> None:
    found = area_between([(0.0, 0.8), (0.6, 0.8)], [(0.2, 0.5), (1.0, 0.5)])
    assert found is not None
    assert (found.low, found.high) == (0.2, 0.6)
    assert found.area == pytest.approx(0.4 * 0.3)
    assert found.mean == pytest.approx(0.3)
    assert area_between([(0.0, 0.8), (0.2, 0.8)], [(0.2, 0.5), (1.0, 0.5)]) is None


def test_points_of_one_acceptance_rate_are_averaged() -> None:
    found = area_between([(0, 0.2), (0, 0.6), (1, 0.4)], [(1, 0), (0, 0)])
    assert found is not None
    assert found.area == pytest.approx(0.4)


curve = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


@settings(deadline=None)
@given(curve, curve)
def test_swapping_the_curves_turns_the_sign(first: Any, second: Any) -> None:
    there, back = area_between(first, second), area_between(second, first)
    if there is None or back is None:
        assert there is back
    else:
        assert there.area == pytest.approx(-back.area, abs=1e-12)


def test_the_frontier_keeps_what_nothing_beats() -> None:
    draft = FrontierPoint("draft", 1.0, 0.4, 1.0, 0.0)
    target = FrontierPoint("target", 0.0, 0.8, 9.0, 100.0)
    good = FrontierPoint("router", 0.6, 0.75, 4.0, 40.0)
    bad = FrontierPoint("rsd", 0.5, 0.7, 5.0, 50.0)
    assert frontier([target, bad, good, draft]) == [draft, good, target]
    slow = FrontierPoint("slow router", 0.6, 0.75, 10.0, 40.0)
    assert frontier([target, slow, draft], "latency_seconds") == [draft, target]
    assert len(frontier([good, FrontierPoint("same", 0.6, 0.75, 4.0, 40.0)])) == 2
    with pytest.raises(UsageError):
        FrontierPoint("broken", 0.5, math.nan, 1.0, 1.0)
