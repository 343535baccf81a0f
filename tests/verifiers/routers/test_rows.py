"""Collected rows: what is written is read again, and what is no row is told with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from draftproof.errors import InputError, UsageError
from draftproof.verifiers.routers.rows import Pair, RouterRow, append_rows, read_rows
from tests.verifiers.routers.made_rows import PAIR, one_row

scores = st.floats(0.0, 1.0)
texts = st.text(st.characters(codec="utf-8"), max_size=30)


@given(scores, scores, texts, st.lists(texts, max_size=3), st.dictionaries(texts, st.floats(-1e9, 1e9), max_size=3))
def test_a_row_is_what_its_line_says(
    draft_score: float, target_score: float, text: str, context: list[str], features: dict[str, float]
) -> None:
    given = one_row(
        draft_score=draft_score, target_score=target_score, problem=text, draft=text, context=context,
        position=len(context), writers=["target"] * len(context), features=features,
        advantage=target_score - draft_score,
    )  # fmt: skip
    row = RouterRow.model_validate(given)
    assert "\n" not in row.line
    assert RouterRow.model_validate_json(row.line) == row
    assert row.label == int(target_score > draft_score)


def test_what_a_pipeline_collects_is_a_row_and_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "rows.jsonl"
    assert append_rows(file, [one_row()]) == 1
    assert append_rows(file, [one_row(id="p2", draft="Other.\n\n"), RouterRow.model_validate(one_row(id="p3"))]) == 2
    rows = read_rows([file])
    assert [row.id for row in rows] == ["p1", "p2", "p3"]
    assert rows[0].pair == Pair(*PAIR)
    assert (rows[0].advantage, rows[0].label, rows[0].features["tokens"]) == (0.5, 1, 7.0)


def test_what_a_pipeline_makes_is_read_without_a_version(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(one_row(opening="sha256:0")) + "\n", encoding="utf-8")
    (row,) = read_rows([file])
    assert (row.version, row.opening, row.id) == (1, "sha256:0", "p1")


def test_the_same_row_twice_is_one(tmp_path: Path) -> None:
    file, other = tmp_path / "rows.jsonl", tmp_path / "again.jsonl"
    append_rows(file, [one_row(), one_row()])
    append_rows(other, [one_row(), one_row(draft="Another draft.\n\n")])
    assert len(read_rows([file, other])) == 2


def test_the_advantage_is_worked_out_and_an_equal_score_is_no_reason_to_escalate() -> None:
    given = one_row(target_score=0.25)
    del given["advantage"]
    row = RouterRow.model_validate(given)
    assert (row.advantage, row.label) == (0.0, 0)


def test_a_writer_that_was_killed_spoils_its_own_line_only(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_rows(file, [one_row()])
    with file.open("a", encoding="utf-8") as opened:
        opened.write('{"version": 1, "pro')
    append_rows(file, [one_row(id="after")])
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert json.loads(lines[2])["id"] == "after"
    with pytest.raises(InputError, match=rf"{file.name}:2 is no row of a router: no JSON"):
        read_rows([file])


def test_nothing_is_written_when_one_of_the_rows_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        append_rows(tmp_path / "rows.jsonl", [one_row(), one_row(draft_score=float("nan"))])
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"version": 2}, "version 1 is expected, this one says 2", id="another-version"),
        pytest.param({"draft_score": 1.5}, "draft_score", id="score-above-1"),
        pytest.param({"draft_score": None}, "draft_score", id="no-score"),
        pytest.param({"features": {"tokens": float("nan")}}, "features.tokens", id="feature-not-a-number"),
        pytest.param({"position": 0}, "as many steps before it", id="wrong-position"),
        pytest.param({"advantage": 0.4}, "the advantage is 0.4, and its scores give 0.5", id="advantage-of-others"),
        pytest.param({"writers": []}, "1 and 0 writers", id="a-writer-missing"),
        pytest.param({"writers": ["judge"]}, "writers.0", id="unknown-writer"),
        pytest.param({"pair": ["only-one#a"]}, "pair", id="half-a-pair"),
        pytest.param({"more": 1}, "more", id="unknown-field"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    file = tmp_path / "rows.jsonl"
    good = RouterRow.model_validate(one_row()).line
    bad = json.dumps({"version": 1, **one_row()} | changed)
    file.write_text(f"{good}\n\n{bad}\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"rows\.jsonl:3 is no row of a router.*({said})"):
        read_rows([file])


@pytest.mark.parametrize("line", ["[1]", "null", "not json", "{" * 5000, '"text"', "\xff"])
def test_other_lines_are_named_too(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:1 is no row"):
        read_rows([file])


def test_a_file_that_is_not_there_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.jsonl cannot be read"):
        read_rows([tmp_path / "nowhere.jsonl"])


def test_pairs_are_compared_by_what_stands_behind_the_hash() -> None:
    assert Pair("a#1", "b#2").is_of(("renamed#1", "b#2"))
    assert not Pair("a#1", "b#2").is_of(("a#2", "b#1"))
    assert not Pair("a#1", "b#2").is_of(("a#1",))


def test_a_row_says_nothing_of_several_samples_because_none_are_drawn() -> None:
    assert "target_samples" not in RouterRow.model_fields
    guide = Path(__file__).parents[3] / "docs/how-to/train-a-router.md"
    assert not guide.is_file() or "several times" not in guide.read_text(encoding="utf-8")
