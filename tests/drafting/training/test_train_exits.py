"""`draftproof train exit-adapter` and `train kangaroo`: from a model's folder to a drafter that keeps the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from draftproof.cli.train import app
from draftproof.drafting.drafters.catalogue import create_drafter
from draftproof.drafting.models.load import load_model
from draftproof.errors import UsageError
from tests.drafting.drafters.decoding import decode, session_of

KINDS = {"exit-adapter": "early-exit", "kangaroo": "kangaroo"}
SHORT = ("--tokens", "900", "--max-new-tokens", "24", "--temperature", "0.5", "--batch", "16", "--vocab", "258")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"Say {a}{b}." for a in "abcdef" for b in "uvwxyz"))
    return file


def run(*arguments: object) -> None:
    app([str(each) for each in arguments], standalone_mode=False)


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    run(*arguments, "--json", "--quiet")
    shown = capsys.readouterr()
    assert shown.err == ""
    figures = json.loads(shown.out)
    assert isinstance(figures, dict)
    return figures


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_reported_and_drafts(
    kind: str, tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    command = [kind, "--target", tiny_chat_folder, "--text", prompts, "--out", out, *SHORT]
    figures = asked(capsys, *command, "--epochs", "4")
    assert figures["layer"] == 1
    assert figures["text_tokens"] >= 900
    assert figures["kept_accepted"] == max(figures["accepted"]) >= figures["accepted"][0]
    assert (figures["warning"] is None) == (figures["kept_accepted"] > figures["accepted"][0])
    loaded = load_model(tiny_chat_folder)
    text = {0: list(b"Say qz.")}
    drafter = create_drafter(KINDS[kind], adapter=str(out))
    plain = decode(session_of(loaded.model, None), text, 20)
    assert decode(session_of(loaded.model, drafter), text, 20) == plain


def test_text_is_shared_with_other_trainings(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shared = ["--target", tiny_chat_folder, "--text", prompts, "--data", data, *SHORT, "--epochs", "1"]
    first = asked(capsys, "exit-adapter", *shared, "--out", tmp_path / "exit")
    made = (data / "text.jsonl").stat().st_mtime_ns
    again = asked(capsys, "exit-adapter", *shared, "--out", tmp_path / "again")
    asked(capsys, "kangaroo", *shared, "--out", tmp_path / "kangaroo")
    assert (data / "text.jsonl").stat().st_mtime_ns == made
    assert again["accepted"] == first["accepted"]


def test_the_same_command_again_trains_nothing_anew_and_another_one_is_refused(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["kangaroo", "--target", tiny_chat_folder, "--text", prompts, "--out", tmp_path / "out", *SHORT]
    first = asked(capsys, *command, "--epochs", "2")
    state = tmp_path / "out" / "stages" / "checkpoint.safetensors"
    kept = load_file(state)
    again = asked(capsys, *command, "--epochs", "2")
    assert again["accepted"] == first["accepted"]
    assert {name: each.tolist() for name, each in load_file(state).items()} == {
        name: each.tolist() for name, each in kept.items()
    }
    with pytest.raises(UsageError, match="other settings or data"):
        run(*command, "--epochs", "3")


def test_a_person_is_told_what_it_is_worth(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    run("exit-adapter", "--target", tiny_chat_folder, "--text", prompts, "--out", out, *SHORT, "--epochs", "1")
    shown = capsys.readouterr()
    assert "accepted on held-out text" in shown.out
    assert "after 1 of 2 layers" in shown.out


def test_a_training_that_gains_nothing_says_so(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate that moves nothing leaves the bare exit."""
    shared = ["--target", tiny_chat_folder, "--text", prompts, *SHORT, "--epochs", "1", "--out", tmp_path / "adapter"]
    run("exit-adapter", *shared, "--learning-rate", "1e-30")
    assert "Warning: Training did not raise acceptance" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer", "2"], "left after 1 … 1 of them"),
        (["--vocab", "200"], "--vocab 200 is too few"),
        (["--tokens", "20"], "--tokens 20 may be a single answer"),
        (["--learning-rate", "0"], "learning rate is 0"),
        (["--max-new-tokens", "256"], "--max-new-tokens takes 256"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    kind: str, options: list[str], said: str, tiny_chat_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    command = [kind, "--target", tiny_chat_folder, "--text", prompts, "--out", tmp_path / "adapter", *SHORT]
    with pytest.raises(UsageError, match=said):
        run(*command, *options)
    assert not (tmp_path / "adapter").exists()
