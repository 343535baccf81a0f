"""Where nothing can be written, nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from draftproof.cli.train_options import writable_folder
from draftproof.errors import UsageError
from tests.cli.conftest import Ended

COMMANDS = [
    ("pocket", "--fast"),
    ("process-reward", "--base", "pocket-target", "--fast"),
    ("uncertainty-head", "--model", "pocket-target", "--generate", "4"),
    ("heads", "--target", "pocket-target"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_a_file_in_the_place_of_the_folder_is_told_before_anything_is_done(
    cli: Callable[..., Ended], tmp_path: Path, command: tuple[str, ...]
) -> None:
    place = tmp_path / "taken"
    place.write_text("mine")
    ended = cli("train", *command, "--out", place)
    assert ended.status == 2
    assert "Nothing can be written to a folder" in ended.err
    assert "--out" in ended.err
    assert "Traceback" not in ended.err
    assert place.read_text() == "mine"


def test_what_is_tried_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for place in (tmp_path / "there", tmp_path / "new", tmp_path / "new" / "deep" / "down"):
        assert writable_folder(place) == place
        with pytest.raises(UsageError):
            writable_folder(Path("/proc/nowhere/at/all"))
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_a_router_has_a_folder_to_lie_in(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    ended = cli("train", "router", tmp_path / "rows.jsonl", "--out", tmp_path / "taken" / "router.json")
    assert ended.status == 2
    assert "Nothing can be written to a folder" in ended.err
