"""Exact intervals of shares, against closed forms, another library, and their own promise."""

from __future__ import annotations

from math import comb

import pytest

from draftproof.errors import UsageError
from draftproof.metrics.binomial import exact_interval


@pytest.mark.parametrize("of", [1, 3, 20, 300])
def test_of_none_or_all_there_is_a_closed_form(of: int) -> None:
    assert exact_interval(0, of) == (0.0, pytest.approx(1 - 0.025 ** (1 / of)))
    assert exact_interval(of, of) == (pytest.approx(0.025 ** (1 / of)), 1.0)


@pytest.mark.parametrize(("hits", "of", "level"), [(3, 40, 0.95), (1, 2, 0.95), (50, 100, 0.9), (7, 2000, 0.99)])
def test_it_is_that_of_another_library(hits: int, of: int, level: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    known = stats.binomtest(hits, of).proportion_ci(level, method="exact")
    assert exact_interval(hits, of, level) == (pytest.approx(known.low, abs=1e-9), pytest.approx(known.high, abs=1e-9))


@pytest.mark.parametrize("truth", [0.02, 0.3, 0.5])
def test_it_covers_the_truth_as_often_as_it_says(truth: float) -> None:
    of = 25
    covered = sum(
        comb(of, hits) * truth**hits * (1 - truth) ** (of - hits)
        for hits in range(of + 1)
        if exact_interval(hits, of)[0] <= truth <= exact_interval(hits, of)[1]
    )
    assert covered >= 0.95


def test_of_nothing_nothing_is_known() -> None:
    assert exact_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("wrong", [(-1, 3), (4, 3), (1, 3, 1.0), (1, 3, float("nan"))])
def test_what_is_no_share_is_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        exact_interval(*wrong)  # type: ignore[arg-type]
