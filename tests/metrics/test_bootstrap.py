"""Intervals over problems: as wide as the problems differ, and no narrower for more steps of the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from draftproof.errors import UsageError
from draftproof.metrics.bootstrap import bootstrap, paired, paired_difference
from draftproof.metrics.classification import roc_auc


def mean(values: Any) -> float:
    return float(np.mean(values))


def width(interval: Any) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return float(interval.high - interval.low)


def test_more_steps_of_the_same_problems_make_no_interval_narrower() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    problems = [f"p{i}" for i in range(8)]
    few = bootstrap(mean, problems, values)
    many = bootstrap(mean, problems * 50, values * 50)
    assert (many.low, many.high) == (few.low, few.high)
    as_if_independent = bootstrap(mean, range(400), values * 50)
    assert width(as_if_independent) < width(few) / 4  # the mistake that this guards against


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        rate = draw.beta(2, 2, size=60)  # problems differ; 5 steps of each share a rate
        steps = (draw.uniform(size=(60, 5)) < rate[:, None]).astype(float)
        found = bootstrap(mean, np.repeat(np.arange(60), 5).tolist(), steps.ravel(), resamples=200, seed=seed)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 175 <= hits <= 199  # 190 expected; binomial error and the percentile method's shortfall


def test_pairing_takes_out_what_both_have_in_common() -> None:
    draw = np.random.default_rng(1)
    hard = draw.uniform(size=100)
    problems = list(range(100))
    paired = paired_difference(mean, problems, [hard], [hard + 0.01])
    assert paired.value == pytest.approx(0.01)
    assert width(paired) < 1e-9
    one, other = bootstrap(mean, problems, hard), bootstrap(mean, problems, hard + 0.01, seed=7)
    assert one.high is not None
    assert other.low is not None
    assert other.low < one.high  # unpaired, nothing could be said


def test_each_side_of_a_pair_is_its_own_bootstrap() -> None:
    draw = np.random.default_rng(2)
    before, after = draw.uniform(size=40), draw.uniform(size=40)
    problems = [i // 2 for i in range(40)]
    found = paired(mean, problems, [before], [after])
    assert (found.first, found.second) == (bootstrap(mean, problems, before), bootstrap(mean, problems, after))
    assert found.difference == paired_difference(mean, problems, [before], [after])
    assert found.difference.value == pytest.approx(mean(after) - mean(before))


def test_a_measure_undefined_in_some_resamples_says_in_how_many() -> None:
    found = bootstrap(roc_auc, [0, 1, 2, 3], [1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3])
    assert found.value == 1.0
    assert 200 < found.undefined < 450  # (3/4)⁴ of the draws have no true example, (1/4)⁴ nothing else
    assert bootstrap(roc_auc, [0, 1], [1, 1], [0.9, 0.1]).low is None


def test_one_problem_gives_no_interval() -> None:
    found = bootstrap(mean, ["p", "p", "p"], [0.0, 1.0, 1.0])
    assert (found.value, found.low, found.high, found.problems) == (pytest.approx(2 / 3), None, None, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, problems = list(np.random.default_rng(0).uniform(size=30)), list(range(30))
    assert bootstrap(mean, problems, values) == bootstrap(mean, problems, values)
    assert bootstrap(mean, problems, values, seed=1) != bootstrap(mean, problems, values)


def test_columns_must_match_problems() -> None:
    with pytest.raises(UsageError, match="One of each"):
        bootstrap(mean, [1, 2], [0.5])
    with pytest.raises(UsageError, match="level"):
        bootstrap(mean, [1, 2], [0.5, 0.1], level=95)
    with pytest.raises(UsageError):
        bootstrap(mean, [], [])
