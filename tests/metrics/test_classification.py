"""Scores against truths: by hand, against scikit-learn where it is installed, and by what must hold of any input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.metrics.classification import (
    aurc,
    brier,
    decision_rates,
    ece,
    fpr_at_tpr,
    log_loss,
    mid_ranks,
    pr_auc,
    reliability,
    risk_coverage,
    roc_auc,
    wrong_fpr_at_tpr,
    wrong_pr_auc,
)
from draftproof.verdict import Outcome

A, R, N, E = Outcome.ACCEPT, Outcome.REJECT, Outcome.ABSTAIN, Outcome.ERROR

examples = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])), min_size=1, max_size=40
)
"""Few distinct scores, so that ties are everywhere."""


def test_average_precision_by_hand() -> None:
    # precision at the true ones, from the top: 1/1, 2/3
    assert pr_auc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == pytest.approx((1 + 2 / 3) / 2)


def test_tied_scores_are_one_threshold() -> None:
    # all four pass together: recall 1 at precision 1/2, whatever the order of the input
    assert pr_auc([1, 1, 0, 0], [0.5] * 4) == 0.5
    assert pr_auc([0, 0, 1, 1], [0.5] * 4) == 0.5
    assert roc_auc([0, 0, 1, 1], [0.5] * 4) == 0.5
    assert fpr_at_tpr([0, 0, 1, 1], [0.5] * 4) == 1.0


def test_the_wrong_class_is_found_by_low_scores() -> None:
    area, base_rate = wrong_pr_auc([True, True, True, False], [0.9, 0.8, 0.7, 0.1])
    assert (area, base_rate) == (1.0, 0.25)
    backwards, _ = wrong_pr_auc([True, True, True, False], [0.1, 0.2, 0.3, 0.9])
    assert backwards == 0.25  # a verifier that is wrong way round does no better than the base rate
    assert wrong_fpr_at_tpr([True, True, True, False], [0.9, 0.8, 0.7, 0.1]) == 0.0


def test_fpr_at_95_tpr_by_hand() -> None:
    truths = [1] * 20 + [0] * 4
    scores = [1.0] * 18 + [0.4, 0.2] + [0.5, 0.3, 0.3, 0.1]
    assert fpr_at_tpr(truths, scores) == 0.25  # 19 of 20 need the score 0.4, which one of four false ones passes
    assert fpr_at_tpr(truths, scores, 1.0) == 0.75
    assert fpr_at_tpr(truths, scores, 0.9) == 0.0


def test_brier_and_log_loss_by_hand() -> None:
    assert brier([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)
    assert log_loss([1, 0], [0.8, 0.4]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert log_loss([1], [0.0]) == pytest.approx(-math.log(1e-15))  # finite, and dear


def test_ece_by_hand() -> None:
    # two bins of two: |0.15 − 0.5| and |0.85 − 1|
    assert ece([1, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], bins=2) == pytest.approx((0.35 + 0.15) / 2)


def test_bins_have_equal_mass_and_not_equal_width() -> None:
    scores = np.concatenate([np.linspace(0.98, 0.99, 90), np.linspace(0.0, 0.1, 10)])
    assert [each.count for each in reliability([True] * 100, scores, bins=10)] == [10] * 10


def test_overconfidence_shows_in_ece_and_not_in_auc() -> None:
    draw = np.random.default_rng(0)
    honest = draw.uniform(0.05, 0.95, 4000)
    truths = draw.uniform(size=4000) < honest
    sharper = 1 / (1 + ((1 - honest) / honest) ** 3)
    assert ece(truths, honest) < 0.03
    assert ece(truths, sharper) > 0.1
    assert roc_auc(truths, sharper) == pytest.approx(roc_auc(truths, honest))


@pytest.mark.parametrize("measure", [pr_auc, roc_auc, fpr_at_tpr])
def test_a_measure_without_its_class_is_none(measure: Callable[..., Any]) -> None:
    assert measure([0, 0], [0.1, 0.9]) is None


@pytest.mark.parametrize("measure", [pr_auc, roc_auc, fpr_at_tpr, brier, log_loss, ece, aurc, wrong_pr_auc])
@pytest.mark.parametrize(
    ("truths", "scores"),
    [
        pytest.param([1, 0], [0.5, math.nan], id="nan"),
        pytest.param([1, 0], [0.5, math.inf], id="infinity"),
        pytest.param([1, 0], [0.5, None], id="a-missing-score"),
        pytest.param([1, 0], ["0.5", "0.1"], id="scores-as-text"),
        pytest.param(["1", "0"], [0.5, 0.1], id="labels-as-text"),
        pytest.param([1, -1], [0.5, 0.1], id="labels-of-another-kind"),
        pytest.param([1.0, math.nan], [0.5, 0.1], id="labels-as-floats"),
        pytest.param([1], [0.5, 0.1], id="one-too-many"),
        pytest.param([], [], id="nothing"),
        pytest.param([[1, 0]], [[0.5, 0.1]], id="a-matrix"),
    ],
)
def test_bad_input_is_refused(measure: Callable[..., Any], truths: Any, scores: Any) -> None:
    with pytest.raises(UsageError):
        measure(truths, scores)


@pytest.mark.parametrize("measure", [brier, log_loss, ece])
def test_what_is_no_probability_has_no_calibration(measure: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="probabilities"):
        measure([1, 0], [0.5, 1.2])


def test_rates_by_hand() -> None:
    found = decision_rates([1, 1, 1, 0, 0, 0], [A, A, R, R, A, N])
    assert (found.tpr, found.tnr, found.coverage) == (pytest.approx(2 / 3), 0.5, pytest.approx(5 / 6))
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    halved = decision_rates([1, 1, 1, 0, 0, 0], [A, A, R, R, A, N], undecided="half")
    assert (halved.tpr, halved.tnr) == (pytest.approx(2 / 3), 0.5)
    assert decision_rates([1, 0], [A, E], undecided="half").tnr == 0.5
    assert decision_rates([1, 0], [A, E]).balanced_accuracy is None


def test_an_error_is_never_an_accept() -> None:
    assert decision_rates([1, 1], [E, N]).tpr is None
    assert decision_rates([1, 1], [E, N]).coverage == 0.0


def test_risk_and_coverage_by_hand() -> None:
    coverage, risk = risk_coverage([0, 1, 0], [0.9, 0.5, 0.7])
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3])
    assert aurc([0, 1, 0], [0.9, 0.5, 0.7]) == pytest.approx(1 / 9)
    assert aurc([1, 0], [0.5, 0.5]) == 0.5 == aurc([0, 1], [0.5, 0.5])


@settings(deadline=None)
@given(examples, st.randoms())
def test_no_measure_depends_on_the_order_of_its_input(pairs: list[tuple[bool, float]], shuffler: Any) -> None:
    shuffled = list(pairs)
    shuffler.shuffle(shuffled)
    for measure in (pr_auc, roc_auc, fpr_at_tpr, brier, log_loss, ece, aurc):
        once = measure([t for t, _ in pairs], [s for _, s in pairs])
        again = measure([t for t, _ in shuffled], [s for _, s in shuffled])
        assert again is None if once is None else again == pytest.approx(once, rel=1e-12, abs=1e-12)


@settings(deadline=None)
@given(examples)
def test_rankings_mirror(pairs: list[tuple[bool, float]]) -> None:
    truths, scores = [t for t, _ in pairs], [s for _, s in pairs]
    area = roc_auc(truths, scores)
    if area is None:
        assert len(set(truths)) == 1
    else:
        assert roc_auc([not t for t in truths], scores) == pytest.approx(1 - area)
        assert roc_auc(truths, [s**3 for s in scores]) == pytest.approx(area)
        above = [(a > b) + 0.5 * (a == b) for t, a in pairs if t for u, b in pairs if not u]
        assert area == pytest.approx(sum(above) / len(above))  # the definition


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=1, max_size=20))
def test_mid_ranks_add_up(values: list[float]) -> None:
    ranks = mid_ranks(np.array(values))
    assert ranks.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)
    assert all(
        (a < b) == (x < y) for a, x in zip(values, ranks, strict=True) for b, y in zip(values, ranks, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(examples)
def test_same_as_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    truths, scores = [t for t, _ in pairs], [s for _, s in pairs]
    if len(set(truths)) < 2:
        return
    assert pr_auc(truths, scores) == pytest.approx(sk.average_precision_score(truths, scores))
    assert wrong_pr_auc(truths, scores)[0] == pytest.approx(
        sk.average_precision_score([not t for t in truths], [-s for s in scores])
    )
    assert roc_auc(truths, scores) == pytest.approx(sk.roc_auc_score(truths, scores))
    assert brier(truths, scores) == pytest.approx(sk.brier_score_loss(truths, scores))
    inside = [min(max(s, 0.01), 0.99) for s in scores]
    assert log_loss(truths, inside) == pytest.approx(sk.log_loss(truths, inside))
    fpr, tpr, _ = sk.roc_curve(truths, scores, drop_intermediate=False)
    assert fpr_at_tpr(truths, scores) == pytest.approx(min(fpr[tpr >= 0.95 - 1e-12]))
    outcomes = [A if s >= 0.5 else R for s in scores]
    assert decision_rates(truths, outcomes).balanced_accuracy == pytest.approx(
        sk.balanced_accuracy_score(truths, [s >= 0.5 for s in scores])
    )
