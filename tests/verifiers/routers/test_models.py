"""The kinds of feature models: the optimum is one, trees see what a line cannot, hostile files are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from draftproof.errors import NumericalError
from draftproof.verifiers.routers.boosted import BoostedModel, Rows, fit_boosted
from draftproof.verifiers.routers.logistic import LogisticModel, fit_logistic


def drawn(count: int, seed: int, weights: list[float], bias: float) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    values = (
        draw.normal(size=(count, len(weights))) * [1.0, 30.0, 0.01][: len(weights)] + [5.0, 0.0, -2.0][: len(weights)]
    )
    standard = (values - values.mean(0)) / values.std(0)
    labels = (draw.random(count) < 1.0 / (1.0 + np.exp(-(standard @ weights + bias)))).astype(float)
    return values, labels


def test_the_fit_is_that_of_a_general_optimiser() -> None:
    values, labels = drawn(300, 1, [1.0, -2.0, 0.5], 0.3)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, size=300)
    model = fit_logistic(values, labels, weights, l2=0.7)
    standard = (values - values.mean(0)) / values.std(0)

    def loss(parameters: Any) -> float:
        logits = parameters[0] + standard @ parameters[1:]
        return float(weights @ (np.logaddexp(0, logits) - labels * logits) + 0.35 * parameters[1:] @ parameters[1:])

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    assert [model.intercept, *model.weights] == pytest.approx(expected, abs=1e-4)


def test_true_weights_are_found_again() -> None:
    values, labels = drawn(20_000, 3, [1.0, -2.0, 0.0], 0.5)
    model = fit_logistic(values, labels, np.ones(len(labels)))
    assert [model.intercept, *model.weights] == pytest.approx([0.5, 1.0, -2.0, 0.0], abs=0.1)


def test_a_row_of_weight_two_is_the_row_twice() -> None:
    values, labels = drawn(60, 4, [1.0], 0.0)
    twice = np.ones(60)
    twice[:10] = 2.0
    weighted = fit_logistic(values, labels, twice)
    again = fit_logistic(np.concatenate([values, values[:10]]), np.concatenate([labels, labels[:10]]), np.ones(70))
    # standardised by the rows given, not by their weights: the same function up to the penalty's unit
    assert weighted.logit([5.0]) == pytest.approx(again.logit([5.0]), abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_units_of_a_feature_change_nothing(scale: float, shift: float) -> None:
    values, labels = drawn(80, 5, [1.5, -0.5], 0.2)
    changed = values * [scale, 1.0] + [shift, 0.0]
    one, other = fit_logistic(values, labels, np.ones(80)), fit_logistic(changed, labels, np.ones(80))
    for before, after in zip(values.tolist(), changed.tolist(), strict=True):
        assert one.logit(before) == pytest.approx(other.logit(after), abs=1e-6)


def test_classes_that_a_line_parts_have_finite_weights() -> None:
    values = np.array([[float(i)] for i in range(20)])
    labels = np.array([float(i >= 10) for i in range(20)])
    model = fit_logistic(values, labels, np.ones(20))
    assert math.isfinite(model.weights[0])
    assert all((model.logit([value]) > 0) == (value >= 10) for value in range(20))


def test_a_feature_that_never_changes_has_no_weight_and_one_of_enormous_size_is_an_error() -> None:
    values, labels = drawn(50, 6, [1.0], 0.0)
    constant = np.concatenate([values, np.full((50, 1), 0.1)], axis=1)
    model = fit_logistic(constant, labels, np.ones(50))
    assert model.weights[1] == 0.0
    assert model.logit([5.0, 0.1]) == model.logit([5.0, 77.0])
    with pytest.raises(NumericalError):
        fit_logistic(values * 1e300 * 1e5, labels, np.ones(50))


def crossed(count: int, seed: int) -> Rows:
    """True where exactly one of two features is positive, with a tenth of the labels wrong: no line tells them."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(count, 3))
    labels = (values[:, 0] > 0) ^ (values[:, 1] > 0) ^ (draw.random(count) < 0.1)
    return Rows(values, labels.astype(float), np.ones(count))


def share_right(model: BoostedModel | LogisticModel, rows: Rows) -> float:
    said = np.array([model.logit(row) > 0 for row in rows.values.tolist()])
    return float((said == (rows.labels > 0.5)).mean())


def test_trees_see_what_a_line_cannot() -> None:
    rows, held = crossed(1500, 7), crossed(600, 8)
    trees = fit_boosted(rows, crossed(300, 9))
    assert share_right(trees, held) > 0.85
    assert share_right(fit_logistic(rows.values, rows.labels, rows.weights), held) < 0.6


def test_trees_are_chosen_by_rows_held_out_so_noise_grows_few() -> None:
    draw = np.random.default_rng(10)
    noise = [Rows(draw.normal(size=(n, 5)), draw.integers(0, 2, n).astype(float), np.ones(n)) for n in (800, 400)]
    assert len(fit_boosted(*noise).trees) <= 10
    assert len(fit_boosted(crossed(800, 7), crossed(400, 9)).trees) > 20


def test_the_same_rows_grow_the_same_trees_and_thresholds_are_what_the_rows_were_binned_by() -> None:
    rows = crossed(400, 11)
    model = fit_boosted(rows, crossed(200, 12))
    assert model == fit_boosted(rows, crossed(200, 12))
    # a value that lies on a threshold goes left, and no value of the rows lies on one by accident of rounding
    thresholds = {(node.feature, node.threshold) for tree in model.trees for node in tree if node.feature >= 0}
    assert all(node_threshold not in set(rows.values[:, feature]) for feature, node_threshold in thresholds)


def test_boosting_on_one_feature_of_two_values_gives_each_its_log_odds() -> None:
    values = np.array([[0.0]] * 400 + [[1.0]] * 400)
    labels = np.array([1.0] * 100 + [0.0] * 300 + [1.0] * 300 + [0.0] * 100)
    rows = Rows(values, labels, np.ones(800))
    model = fit_boosted(rows, rows)
    assert model.logit([0.0]) == pytest.approx(-math.log(3), abs=0.05)
    assert model.logit([1.0]) == pytest.approx(math.log(3), abs=0.05)


@pytest.mark.parametrize("kind", [LogisticModel, BoostedModel])
def test_a_model_is_the_same_after_json(kind: type[LogisticModel] | type[BoostedModel]) -> None:
    rows = crossed(300, 13)
    model = (
        fit_logistic(rows.values, rows.labels, rows.weights) if kind is LogisticModel else fit_boosted(rows, rows)
    ).shifted(-0.7)
    again = kind.restored(json.loads(json.dumps(model.stored())), 3)
    assert again == model
    assert [again.logit(row) for row in rows.values.tolist()] == [model.logit(row) for row in rows.values.tolist()]


_LEAF = {"feature": -1, "threshold": 0.0, "left": -1, "right": -1, "value": 1.0}


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param([], id="empty"),
        pytest.param([_LEAF | {"feature": 0, "left": 0, "right": 0}], id="walks-in-a-circle"),
        pytest.param([_LEAF | {"feature": 0, "left": 1, "right": 2}, _LEAF], id="a-child-missing"),
        pytest.param([_LEAF | {"feature": 3, "left": 1, "right": 2}, _LEAF, _LEAF], id="no-such-feature"),
        pytest.param([_LEAF | {"value": float("nan")}], id="nan"),
        pytest.param([_LEAF | {"left": True}], id="no-number"),
        pytest.param([_LEAF] * 2000, id="too-many-nodes"),
    ],
)
def test_a_tree_that_cannot_be_walked_is_refused(tree: list[Any]) -> None:
    with pytest.raises(ValueError):
        BoostedModel.restored({"base": 0.0, "trees": [tree]}, 3)


@pytest.mark.parametrize(
    "changed",
    [{"means": [0.0]}, {"scales": [1.0, 0.0]}, {"weights": [1.0, float("inf")]}, {"intercept": "0"}, {"means": "ab"}],
)
def test_a_logistic_model_of_other_shape_is_refused(changed: dict[str, Any]) -> None:
    good = {"means": [0.0, 0.0], "scales": [1.0, 1.0], "weights": [1.0, 2.0], "intercept": 0.0}
    assert LogisticModel.restored(good, 2).logit([1.0, 1.0]) == 3.0
    with pytest.raises(ValueError):
        LogisticModel.restored(good | changed, 2)
