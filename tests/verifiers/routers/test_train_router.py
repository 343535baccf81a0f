"""`draftproof train router`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftproof.cli.main import run
from draftproof.errors import ExitStatus
from draftproof.verifiers.routers.rows import append_rows
from draftproof.verifiers.routers.stored import load_router
from tests.verifiers.routers.made_rows import PAIR, made_rows


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    append_rows(file, made_rows(1200))
    return file


def call(*words: str | Path) -> int:
    return run(["train", "router", *map(str, words)])


def test_figures_are_json_on_standard_output(
    rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "router.json"
    assert call(rows_file, "--out", out, "--kind", "boosted", "--json") == ExitStatus.SETTLED
    said = json.loads(capsys.readouterr().out)
    router = load_router(out, pair=PAIR)
    assert (said["digest"], said["kind"], said["rows"]) == (router.digest, "boosted", 1200)
    assert said["spearman_low"] > 0.0


def test_people_see_how_good_it_is(rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(rows_file, "--out", tmp_path / "router.json") == ExitStatus.SETTLED
    shown = capsys.readouterr()
    assert "draft draft-model#sha256:aaa with target target-model#sha256:bbb" in shown.out
    assert "rank correlation with the advantage +0." in shown.out
    assert "no better than chance" not in shown.err


def test_a_router_of_noise_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_rows(tmp_path / "rows.jsonl", made_rows(1200, signal=0.0))
    assert call(tmp_path / "rows.jsonl", "--out", tmp_path / "router.json", "--quiet") == ExitStatus.SETTLED
    assert "no better than chance" in capsys.readouterr().err


def test_mistakes_are_told(rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "router.json"
    assert call(rows_file, "--out", out, "--kind", "forest") == ExitStatus.USAGE
    assert call(rows_file, "--out", out, "--kind", "text") == ExitStatus.USAGE
    assert call(rows_file, "--out", out, "--checkpoint", tmp_path) == ExitStatus.USAGE
    assert call(rows_file, "--out", tmp_path) == ExitStatus.USAGE
    assert call(rows_file, "--out", rows_file, "--kind", "text", "--checkpoint", tmp_path) == ExitStatus.USAGE
    assert call(tmp_path / "none.jsonl", "--out", out) == ExitStatus.USAGE
    assert call(rows_file, "--out", out, "--min-rows", "1000") == ExitStatus.USAGE
    assert "rows in which the target was better" in capsys.readouterr().err
    with rows_file.open("a", encoding="utf-8") as opened:
        opened.write("{}\n")
    assert call(rows_file, "--out", out) == ExitStatus.ITEMS_FAILED
    assert "rows.jsonl:1201" in capsys.readouterr().err
    assert not out.exists()
