"""Choosing among candidates: formulas against counting every subset."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.metrics.selection import Candidates, best_of, majority, pass_at_k, selection


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_counts_all_subsets(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    subsets = list(combinations(right, k))
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=7), st.data())
def test_best_of_n_counts_all_subsets_with_ties_at_random(pairs: list[tuple[int, bool]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pairs)))

    def chosen(subset: tuple[tuple[int, bool], ...]) -> float:
        best = [right for score, right in subset if score == max(s for s, _ in subset)]
        return sum(best) / len(best)

    subsets = list(combinations(pairs, n))
    expected = sum(map(chosen, subsets)) / len(subsets)
    assert best_of([s for s, _ in pairs], [r for _, r in pairs], n) == pytest.approx(expected)


def test_best_of_one_is_the_floor_and_a_constant_score_never_helps() -> None:
    assert best_of([0.9, 0.1, 0.5], [1, 0, 0], 1) == pytest.approx(1 / 3)
    assert best_of([0.5, 0.5, 0.5], [1, 0, 0]) == pytest.approx(1 / 3)


def test_the_majority_by_hand() -> None:
    assert majority(["4", "4", "5"], [1, 1, 0]) == 1.0
    assert majority(["4", "5", None, None, None], [1, 0, 0, 0, 0]) == 0.5  # unread answers do not win
    assert majority([None, None], [0, 0]) == 0.0
    with pytest.raises(UsageError, match="once and"):
        majority(["4", "4"], [1, 0])


def test_selection_has_floor_reference_and_ceiling() -> None:
    found = selection(
        [
            Candidates(scores=[0.9, 0.1, 0.2], answers=["7", "8", "8"], right=[True, False, False]),
            Candidates(scores=[0.1, 0.2, 0.9], answers=["1", "1", "2"], right=[False, False, False]),
        ]
    )
    assert (found.problems, found.floor, found.reference, found.best_of_n, found.ceiling) == (
        2, pytest.approx(1 / 6), 0.0, 0.5, 0.5,
    )  # fmt: skip


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(UsageError):
        pass_at_k(n, c, k)


def test_nan_scores_choose_nothing() -> None:
    with pytest.raises(UsageError, match="nan"):
        best_of([float("nan"), 0.5], [1, 0])
