"""From rows to a stored router: what is found, what is refused, and that the held-out rows choose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from draftproof.errors import InputError, UsageError
from draftproof.verifiers.routers.boosted import BoostedModel
from draftproof.verifiers.routers.fitting import Kind, fit_router, split_by_problem
from draftproof.verifiers.routers.rows import RouterRow
from draftproof.verifiers.routers.stored import load_router, sigmoid
from tests.verifiers.routers.made_rows import PAIR, made_rows


def changed(row: RouterRow, **fields: Any) -> RouterRow:
    given = row.model_dump() | fields
    del given["advantage"]
    return RouterRow.model_validate(given)


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_what_there_is_to_learn_is_learned(tmp_path: Path, kind: str) -> None:
    router, report = fit_router(made_rows(), tmp_path / "router.json", kind=cast(Kind, kind))
    assert report.says_something
    assert report.spearman is not None
    assert report.spearman > 0.3
    assert report.brier < report.brier_of_base_rate
    assert min(report.accuracy_better or 0.0, report.accuracy_not_better or 0.0) > 0.55
    assert (report.rows, report.problems, report.held_out_problems) == (1500, 250, 50)
    assert sum(each.rows for each in report.reliability) == report.held_out_rows == 300
    assert router.features == ("constant", "useful", "useless")
    assert router.pair == PAIR


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_noise_is_told_as_noise(tmp_path: Path, kind: str) -> None:
    _, report = fit_router(made_rows(signal=0.0), tmp_path / "router.json", kind=cast(Kind, kind))
    assert not report.says_something
    assert report.brier == pytest.approx(report.brier_of_base_rate, abs=0.01)


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_balanced_classes_do_not_move_the_probabilities(tmp_path: Path, kind: str) -> None:
    """Half of the weight is on a class of a seventh: uncorrected, the mean probability would be about a half."""
    rows = made_rows(6000, bias=-2.5)
    router, report = fit_router(rows, tmp_path / "router.json", kind=cast(Kind, kind))
    assert report.base_rate < 0.17
    chances = [router.probability(r.problem, r.context, r.writers, r.draft, r.features) for r in rows]
    assert sum(chance for chance in chances if chance is not None) / len(rows) == pytest.approx(
        sum(row.label for row in rows) / len(rows), abs=0.02
    )
    assert report.ece < 0.05


def test_no_problem_is_split() -> None:
    rows = made_rows(300)
    split = split_by_problem([changed(row, id=f"name {n}") for n, row in enumerate(rows)], seed=3)
    parts = [{row.problem for row in part} for part in (split.fit, split.choose, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 50
    assert sum(map(len, (split.fit, split.choose, split.test))) == 300
    assert split_by_problem(rows, seed=4) != split_by_problem(rows, seed=5)


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_held_out_rows_choose_nothing(tmp_path: Path, kind: str) -> None:
    rows = made_rows(900)
    held = {row.problem for row in split_by_problem(rows, seed=0).test}
    turned = [
        changed(row, draft_score=row.target_score, target_score=row.draft_score) if row.problem in held else row
        for row in rows
    ]
    one, report = fit_router(rows, tmp_path / "one.json", kind=cast(Kind, kind))
    other, worse = fit_router(turned, tmp_path / "other.json", kind=cast(Kind, kind))
    assert one.model == other.model
    assert (report.spearman or 0.0) > 0.2 > 0.0 > (worse.spearman or 0.0)


def test_too_few_rows_of_a_class_are_refused_with_the_counts(tmp_path: Path) -> None:
    rows = made_rows(400, bias=-2.0)
    better = sum(row.label for row in rows)
    with pytest.raises(UsageError, match=rf"{better} rows in which the target was better and {400 - better}.*200"):
        fit_router(rows, tmp_path / "router.json")
    assert not (tmp_path / "router.json").exists()
    router, report = fit_router(rows, tmp_path / "router.json", minimum=30)
    assert report.rows == 400
    assert load_router(tmp_path / "router.json") == router


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param({"pair": (PAIR[0], "other#ccc")}, "two pairs of models: .*bbb, and .*other#ccc", id="pair"),
        pytest.param({"scorer": "judge@1#x"}, "two verifiers: pocket-step@1#abc .*judge@1#x", id="scorer"),
        pytest.param({"proposition": "leads_to_answer"}, "leads_to_answer", id="proposition"),
        pytest.param({"features": {}}, "No feature is in all rows", id="a-row-without-features"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(tmp_path: Path, spoil: dict[str, Any], said: str) -> None:
    rows = made_rows()
    rows[700] = changed(rows[700], **spoil)
    with pytest.raises(UsageError, match=said):
        fit_router(rows, tmp_path / "router.json")


def test_a_feature_that_is_not_in_every_row_is_left_out_and_named(tmp_path: Path) -> None:
    rows = made_rows()
    rows[3] = changed(rows[3], features={"useful": 0.0, "rare": 1.0})
    router, report = fit_router(rows, tmp_path / "router.json")
    assert router.features == ("useful",)
    assert report.features_left_out == ("constant", "rare", "useless")


def test_no_rows_and_rows_of_one_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no rows"):
        fit_router([], tmp_path / "router.json")
    with pytest.raises(UsageError, match="5 are needed"):
        fit_router(made_rows(20, bias=0.0), tmp_path / "router.json", minimum=2)
    with pytest.raises(UsageError, match="at the very least"):
        fit_router(made_rows(), tmp_path / "router.json", minimum=0)


def test_what_is_stored_is_what_was_fitted(tmp_path: Path) -> None:
    router, report = fit_router(made_rows(), tmp_path / "deep" / "router.json", kind="boosted")
    again = load_router(tmp_path / "deep" / "router.json", pair=("renamed#sha256:aaa", PAIR[1]))
    assert again == router
    assert again.digest == router.digest
    assert isinstance(again.model, BoostedModel)
    assert again.report == report.model_dump(mode="json")
    other, _ = fit_router(made_rows(seed=1), tmp_path / "other.json", kind="boosted")
    assert other.digest != router.digest


def test_a_router_is_refused_for_another_pair_with_both_names(tmp_path: Path) -> None:
    fit_router(made_rows(), tmp_path / "router.json")
    with pytest.raises(
        UsageError, match=r"fitted for draft .*aaa with target .*bbb, not for draft x#1 with target y#2"
    ):
        load_router(tmp_path / "router.json", pair=("x#1", "y#2"))
    with pytest.raises(UsageError, match="not for draft target-model#sha256:bbb with target draft-model"):
        load_router(tmp_path / "router.json", pair=(PAIR[1], PAIR[0]))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda stored: stored.update(format="other"), id="format"),
        pytest.param(lambda stored: stored.update(version=2), id="version"),
        pytest.param(lambda stored: stored.pop("pair"), id="no-pair"),
        pytest.param(lambda stored: stored["pair"].update(draft=""), id="empty-pair"),
        pytest.param(lambda stored: stored["features"].append("more"), id="one-feature-more"),
        pytest.param(lambda stored: stored.update(features=["a", "a", "b"]), id="feature-twice"),
        pytest.param(lambda stored: stored["model"].update(kind="pickle"), id="kind"),
        pytest.param(lambda stored: stored["model"].update(intercept=None), id="no-intercept"),
        pytest.param(lambda stored: stored.update(base_rate=float("nan")), id="nan"),
        pytest.param(lambda stored: stored.clear(), id="empty"),
    ],
)
def test_a_file_that_was_tampered_with_is_an_input_error(tmp_path: Path, spoil: Any) -> None:
    file = tmp_path / "router.json"
    fit_router(made_rows(), file)
    stored = json.loads(file.read_text(encoding="utf-8"))
    spoil(stored)
    file.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(InputError, match=r"router\.json"):
        load_router(file)


@pytest.mark.parametrize("text", ["", "[]", "{" * 10_000, "\x00"])
def test_a_file_of_anything_is_an_input_error_and_none_a_usage_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "router.json"
    with pytest.raises(UsageError, match="There is no router"):
        load_router(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        load_router(file)


def test_the_sigmoid_has_no_overflow() -> None:
    assert [sigmoid(x) for x in (-1e308, -700.0, 0.0, 700.0, 1e308)] == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
