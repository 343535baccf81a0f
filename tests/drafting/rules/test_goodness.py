"""The chi-square test that laws are judged by: its size where cells are many and small, and its power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.drafting.rules.goodness import fits, p_value

CELLS = 400
DRAWS = 1000


def skewed() -> np.ndarray:
    """400 cells from a tenth of all mass down to 0.002 expected counts: most of them small, as those of pairs are."""
    law = np.exp(-0.45 * np.arange(CELLS) ** 0.6)
    return law / law.sum()


def samples(law: np.ndarray, count: int, total: int = DRAWS) -> np.ndarray:
    """[count, cells]"""
    return np.random.default_rng(5).multinomial(total, law, size=count).astype(float)


def of_every_cell(counts: np.ndarray, law: np.ndarray) -> float:
    """The same statistic with nothing merged."""
    expected = law * counts.sum()
    return float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), len(law) - 1))


def test_p_values_of_a_fair_law_are_uniform_though_most_cells_are_small() -> None:
    law = skewed()
    assert ((law * DRAWS) < 5).mean() > 0.8
    each = np.array([p_value(counts, law) for counts in samples(law, 3000)])
    assert stats.kstest(each, "uniform").pvalue > 1e-3
    for size in (0.05, 0.01):
        assert abs((each < size).mean() - size) < 4 * np.sqrt(size * (1 - size) / len(each))


def test_p_values_of_cells_that_were_not_merged_are_not_uniform() -> None:
    """The negative control: rare cells, each far above what it expects when it is hit at all, look like bias."""
    law = skewed()
    each = np.array([of_every_cell(counts, law) for counts in samples(law, 3000)])
    assert stats.kstest(each, "uniform").pvalue < 1e-9
    assert (each < 0.01).mean() > 0.03


def test_a_biased_law_has_small_p_values() -> None:
    """A twentieth of the mass is in the wrong place: among large cells, or from large ones to small ones."""
    law = skewed()
    for other in (np.roll(law, 1), law**0.8 / (law**0.8).sum()):
        biased = law + 0.05 / (0.5 * np.abs(other - law).sum()) * (other - law)
        assert 0.5 * np.abs(biased - law).sum() == pytest.approx(0.05)
        counts = samples(biased, 20, total=20_000)
        assert max(p_value(each, law) for each in counts) < 1e-4
        assert not any(fits(each, law) for each in counts)


def test_small_cells_together_are_a_cell() -> None:
    """20 cells of 0.5 expected counts each, against two of 45: hit twice as often as they should be, it shows."""
    law = np.array([0.45, 0.45, *[0.005] * 20])
    fair = np.array([45.0, 45.0, *[0.0, 1.0] * 10])
    assert p_value(fair, law) == pytest.approx(1.0)
    twice = np.array([40.0, 40.0, *[1.0] * 20])
    assert p_value(twice, law) == pytest.approx(stats.chi2.sf(25 / 45 + 25 / 45 + 100 / 10, 2))


def test_what_is_too_little_for_a_cell_takes_the_next_one_in() -> None:
    law = np.array([0.6, 0.3, 0.08, 0.01, 0.01])
    counts = np.array([50.0, 35.0, 12.0, 2.0, 1.0])
    merged = (50 - 60) ** 2 / 60 + (35 - 30) ** 2 / 30 + (15 - 10) ** 2 / 10
    assert p_value(counts, law) == pytest.approx(stats.chi2.sf(merged, 2))


def test_the_impossible_is_not_merged_away() -> None:
    law = np.array([0.5, 0.5, 0.0])
    assert p_value(np.array([500.0, 499.0, 1.0]), law) == 0.0
    assert p_value(np.array([500.0, 500.0, 0.0]), law) == pytest.approx(1.0)


def test_too_few_draws_say_nothing() -> None:
    assert p_value(np.array([4.0, 0.0]), np.array([0.5, 0.5])) == 1.0
