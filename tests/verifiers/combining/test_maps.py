"""Maps from scores to probabilities: what each fit finds, that orders are kept, and scikit-learn's answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from draftproof.errors import NumericalError, UsageError
from draftproof.metrics.classification import ece, log_loss, roc_auc
from draftproof.verifiers.combining.logistic import fit, logit, sigmoid
from draftproof.verifiers.combining.maps import (
    Isotonic,
    Platt,
    Table,
    Temperature,
    fit_isotonic,
    fit_platt,
    fit_table,
    fit_temperature,
)

pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def world(count: int = 4000, slope: float = 3.0, shift: float = 0.0, seed: int = 0) -> tuple[Any, Any, Any]:
    """Honest probabilities, what a judge makes of them, and truths."""
    draw = np.random.default_rng(seed)
    honest = draw.uniform(0.02, 0.98, count)
    return honest, sigmoid(slope * logit(honest, 1e-9) + shift), draw.uniform(size=count) < honest


def test_the_temperature_of_an_overconfident_judge_is_found() -> None:
    _, said, truths = world(slope=3.0)
    fitted = fit_temperature(said, truths)
    assert fitted.temperature == pytest.approx(3.0, rel=0.1)
    assert ece(truths, fitted.apply(said)) < 0.03 < 0.1 < ece(truths, said)


def test_platt_finds_slope_and_shift() -> None:
    _, said, truths = world(slope=2.0, shift=1.5)
    fitted = fit_platt(said, truths)
    assert (fitted.slope, fitted.shift) == (pytest.approx(0.5, rel=0.1), pytest.approx(-0.75, abs=0.1))


def test_what_temperature_cannot_mend_platt_can() -> None:
    _, said, truths = world(slope=1.0, shift=2.0)
    assert ece(truths, fit_temperature(said, truths).apply(said)) > 0.1  # the negative control
    assert ece(truths, fit_platt(said, truths).apply(said)) < 0.03


def test_what_platt_cannot_mend_isotonic_can() -> None:
    honest, _, truths = world(count=8000)
    said = np.where(honest < 0.5, honest * 0.2, 0.9 + 0.1 * honest)  # a jump in the middle, and no logistic curve
    assert ece(truths, fit_isotonic(said, truths).apply(said)) < ece(truths, fit_platt(said, truths).apply(said)) / 2


@pytest.mark.parametrize("fitting", [fit_temperature, fit_platt])
def test_scores_that_rank_backwards_are_refused(fitting: Any) -> None:
    _, said, truths = world(count=500)
    with pytest.raises(UsageError, match="no lower"):
        fitting(1 - said, truths)


@pytest.mark.parametrize("fitting", [fit_temperature, fit_platt, fit_isotonic])
def test_separable_labels_do_not_make_certainty(fitting: Any) -> None:
    fitted = fitting([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [0, 0, 0, 1, 1, 1])
    low, high = fitted.apply([0.1, 0.9])
    assert 0.0 < low < 0.5 < high < 1.0


@settings(deadline=None)
@given(pairs)
def test_isotonic_never_falls_and_keeps_the_mean(given_pairs: list[tuple[float, bool]]) -> None:
    scores, truths = [s for s, _ in given_pairs], [t for _, t in given_pairs]
    fitted = fit_isotonic(scores, truths)
    at = np.sort(np.concatenate([scores, np.linspace(0, 1, 51)]))
    assert (np.diff(fitted.apply(at)) >= -1e-12).all()
    least = 1 / (len(scores) + 2)
    assert ((fitted.apply(at) >= least) & (fitted.apply(at) <= 1 - least)).all()
    assert float(np.mean(fitted.apply(scores))) == pytest.approx(np.mean(truths), abs=least + 1e-9)


@settings(deadline=None, max_examples=50)
@given(pairs)
def test_isotonic_is_scikit_learns_away_from_certainty(given_pairs: list[tuple[float, bool]]) -> None:
    sk = pytest.importorskip("sklearn.isotonic")
    # scikit-learn takes scores closer than 1e-15 or so for equal; ours are rounded so that both see the same ties
    scores, truths = [round(s, 6) for s, _ in given_pairs], [t for _, t in given_pairs]
    least = 1 / (len(scores) + 2)
    theirs = sk.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, np.array(truths, float))
    expected = np.clip(theirs.predict(scores), least, 1 - least)
    assert fit_isotonic(scores, truths).apply(scores) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=20),
    st.sampled_from([Temperature(temperature=4.0), Temperature(temperature=0.2), Platt(slope=0.3, shift=2.0),
                     Isotonic(scores=(0.2, 0.5, 0.9), values=(0.1, 0.1, 0.7))]),
)  # fmt: skip
def test_no_map_turns_an_order_around(scores: list[float], fitted: Any) -> None:
    mapped = fitted.apply(scores)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(mapped[order]) >= 0).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()


def test_temperature_does_not_touch_the_ranking() -> None:
    _, said, truths = world(count=300)
    assert roc_auc(truths, Temperature(temperature=5.0).apply(said)) == pytest.approx(roc_auc(truths, said))


def test_a_table_smooths_and_knows_what_it_never_saw() -> None:
    fitted = fit_table(["proved"] * 8 + ["unknown"] * 2, [1] * 8 + [1, 0])
    assert fitted.value("proved") == pytest.approx(9 / 10)
    assert fitted.value("unknown") == 0.5
    assert fitted.value("refuted") is None
    with pytest.raises(UsageError, match="continuous"):
        fit_table([str(i) for i in range(100)], [0, 1] * 50)


@pytest.mark.parametrize("fitting", [fit_temperature, fit_platt, fit_isotonic])
@pytest.mark.parametrize("bad", [[math.nan, 0.5], [1.5, 0.5], [None, 0.5], [0.5]])
def test_bad_scores_are_refused(fitting: Any, bad: Any) -> None:
    with pytest.raises(UsageError):
        fitting(bad, [1, 0])


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: Temperature(temperature=0.0), id="zero-temperature"),
        pytest.param(lambda: Temperature(temperature=math.inf), id="infinite-temperature"),
        pytest.param(lambda: Platt(slope=-1.0, shift=0.0), id="a-falling-slope"),
        pytest.param(lambda: Isotonic(scores=(0.1, 0.2), values=(0.9, 0.1)), id="falling-values"),
        pytest.param(lambda: Isotonic(scores=(0.2, 0.1), values=(0.1, 0.9)), id="falling-points"),
        pytest.param(lambda: Isotonic(scores=(0.1,), values=(0.1, 0.9)), id="points-without-values"),
        pytest.param(lambda: Table(states={"a": (3, 2)}), id="more-right-than-seen"),
    ],
)
def test_no_file_can_hold_a_map_that_does_harm(build: Any) -> None:
    with pytest.raises(ValidationError):
        build()


def test_the_regression_is_scikit_learns() -> None:
    sk = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(3)
    features = draw.normal(size=(300, 3))
    truths = (features @ [1.0, -2.0, 0.3] + draw.normal(size=300) > 0.4).astype(float)
    for strength in (0.1, 1.0, 10.0):
        theirs = sk.LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000).fit(features, truths)
        ours = fit(
            np.column_stack([features, np.ones(300)]), truths,
            l2=np.array([strength] * 3 + [0.0]), centre=np.zeros(4),
        )  # fmt: skip
        assert ours == pytest.approx([*theirs.coef_[0], theirs.intercept_[0]], abs=1e-4)


def test_the_regressions_gradient_is_zero_and_its_penalty_may_point_elsewhere() -> None:
    draw = np.random.default_rng(5)
    design, truths = draw.normal(size=(80, 2)), (draw.uniform(size=80) < 0.5).astype(float)
    strong = fit(design, truths, l2=np.full(2, 1e6), centre=np.array([1.0, -3.0]))
    assert strong == pytest.approx([1.0, -3.0], abs=1e-3)
    weak = fit(design, truths, l2=np.full(2, 0.5), centre=np.ones(2))
    gradient = design.T @ (sigmoid(design @ weak) - truths) + 0.5 * (weak - 1)
    assert np.abs(gradient).max() < 1e-6


def test_a_regression_without_a_solution_says_so() -> None:
    for design in ([[np.nan], [1.0]], [[1e308], [-1e308]]):
        with pytest.raises(NumericalError, match="no solution"):
            fit(np.array(design), np.array([0.2, 0.9]), l2=np.zeros(1), centre=np.ones(1))


def test_extreme_logits_neither_overflow_nor_lie() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    assert logit(np.array([0.0, 1.0]), 1e-3).tolist() == pytest.approx([-math.log(999), math.log(999)])
    assert log_loss([1], [float(sigmoid(np.array([-1e4]))[0])]) < 40
