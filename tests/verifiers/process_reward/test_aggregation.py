"""From scores of steps to one of the trace: each name's value, and what an empty or unscored trace gets."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.verifiers.process_reward.aggregation import AGGREGATIONS, Aggregated, Aggregation, aggregate

SCORES = [0.9, 0.5, 0.25, 0.8]
PROBABILITIES = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("how", "score"),
    [
        ("min", 0.25),
        ("product", 0.9 * 0.5 * 0.25 * 0.8),
        ("mean", 2.45 / 4),
        ("last", 0.8),
        ("first_error", 2 / 4),
    ],
)
def test_each_by_hand(how: Aggregation, score: float) -> None:
    assert aggregate(SCORES, how) == Aggregated(pytest.approx(score), 2, True)


def test_a_step_at_the_threshold_is_no_error() -> None:
    assert aggregate([0.5, 0.5], "first_error", threshold=0.5) == Aggregated(1.0, None, True)
    assert aggregate([0.5, 0.5], "first_error", threshold=math.nextafter(0.5, 1)) == Aggregated(0.0, 0, True)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_nothing_to_go_by_is_zero_and_undecided(how: Aggregation) -> None:
    assert aggregate([], how) == Aggregated(0.0, None, False)
    assert aggregate([None], how) == Aggregated(0.0, None, False)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_a_step_without_a_score_is_never_skipped_over(how: Aggregation) -> None:
    """Leaving it out would rate a trace by the steps that the model could read."""
    assert aggregate([0.9, None, 0.3, 0.9], how) == Aggregated(0.0, 2, False)


@pytest.mark.parametrize("how", AGGREGATIONS)
@pytest.mark.parametrize("score", [math.nan, -0.1, 1.1, math.inf])
def test_what_is_no_probability_is_refused(how: Aggregation, score: float) -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        aggregate([0.5, score], how)
    with pytest.raises(UsageError, match="The threshold"):
        aggregate([0.5], how, threshold=score)


def test_a_name_there_is_not() -> None:
    with pytest.raises(UsageError, match="no aggregation 'median'"):
        aggregate([0.5], "median")  # type: ignore[arg-type]  # what is tested


@given(st.lists(PROBABILITIES, min_size=1, max_size=30), PROBABILITIES, st.sampled_from(get_args(Aggregation)))
def test_a_score_is_a_probability_and_the_first_error_is_where_a_loop_finds_it(
    scores: list[float], threshold: float, how: Aggregation
) -> None:
    found = aggregate(scores, how, threshold=threshold)
    assert 0.0 <= found.score <= 1.0
    assert found.decided
    below = [index for index, score in enumerate(scores) if score < threshold]
    assert found.first_error == (below[0] if below else None)


@given(st.lists(PROBABILITIES, min_size=1, max_size=30))
def test_product_min_mean_are_ordered(scores: list[float]) -> None:
    product, least, mean = (aggregate(scores, how).score for how in ("product", "min", "mean"))
    assert product <= least + 1e-12
    assert least <= mean + 1e-12


@given(st.lists(PROBABILITIES, min_size=1, max_size=10), st.integers(0, 9), st.sampled_from(get_args(Aggregation)))
def test_a_better_step_never_makes_a_trace_worse(scores: list[float], index: int, how: Aggregation) -> None:
    better = list(scores)
    better[index % len(scores)] = 1.0
    assert aggregate(better, how).score >= aggregate(scores, how).score - 1e-12
