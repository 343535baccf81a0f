"""`draftproof train history`: the target's answers become a file that `suffix` copies from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from draftproof.cli.train import app
from draftproof.drafting.drafters.catalogue import create_drafter
from draftproof.drafting.drafters.history import History, vocabulary_digest
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.training.history import history_of, worth_of_history
from draftproof.drafting.training.self_text import SelfText, read
from draftproof.errors import InputError, UsageError
from tests.drafting.drafters.decoding import session_of

SHORT = ("--tokens", "400", "--max-new-tokens", "24", "--temperature", "0", "--batch", "16")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"Say {a}{b}." for a in "abcdef" for b in "uvwxyz"))
    return file


def run(*arguments: object) -> None:
    app([str(each) for each in arguments], standalone_mode=False)


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    run("history", *arguments, "--json", "--quiet")
    shown = capsys.readouterr()
    assert shown.err == ""
    figures = json.loads(shown.out)
    assert isinstance(figures, dict)
    return figures


def test_answers_become_a_history_that_suffix_drafts_from(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "answers.history"
    figures = asked(capsys, "--target", tiny_chat_folder, "--text", prompts, "--out", file, *SHORT)
    texts = read(file.with_name("answers.history.stages") / "text.jsonl", 400)
    held = History.load(file)
    assert held.sequences == tuple(text.ids[text.prompt_length :] for text in texts)
    assert figures["tokens"] == len(held) >= 400
    assert figures["answers"] == len(texts)
    loaded = load_model(tiny_chat_folder)
    assert loaded.vocabulary is not None
    assert held.tokenizer == vocabulary_digest(loaded.vocabulary)
    assert set(figures["tokens_per_pass"]) == {"without", "with"}

    # An answer that is in the history takes fewer passes, and is the same.
    text = next(each for each in texts if each.temperature == 0.0)
    rounds = {}
    for name, arguments in (("with", {"history": str(file)}), ("without", {})):
        drafter = create_drafter("suffix", **arguments)
        session = session_of(loaded.model, drafter, length=4, vocabulary=loaded.vocabulary)
        session.open({0: text.ids[: text.prompt_length]}, max_new_tokens=text.generated, stop_ids=frozenset())
        rounds[name] = 0
        while not session.rows[0].done:
            session.round([0])
            rounds[name] += 1
        assert tuple(session.rows[0].output) == text.ids[text.prompt_length :]
        session.close([0])
    assert rounds["with"] < 0.5 * rounds["without"]


def test_the_same_command_again_writes_the_same_and_asks_nothing_again(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, file = tmp_path / "data", tmp_path / "a.history"
    command = ["--target", tiny_chat_folder, "--text", prompts, "--out", file, "--data", data, *SHORT]
    asked(capsys, *command)
    before, made = History.load(file).sequences, (data / "text.jsonl").stat().st_mtime_ns
    lines = (data / "text.jsonl").read_bytes().splitlines(keepends=True)
    asked(capsys, *command)
    assert History.load(file).sequences == before
    assert (data / "text.jsonl").stat().st_mtime_ns == made
    (data / "text.jsonl").write_bytes(b"".join(lines[:5]))  # as a kill leaves it
    asked(capsys, *command)
    assert History.load(file).sequences == before
    assert not (tmp_path / "a.history.stages").exists()


def test_a_person_is_told_what_it_is_worth(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("history", "--target", tiny_chat_folder, "--text", prompts, "--out", tmp_path / "a.history", *SHORT)
    shown = capsys.readouterr().out
    assert "tokens a verification on held-out answers" in shown
    assert "a.history" in shown


def test_answers_that_resemble_each_other_are_worth_keeping_and_others_are_not(tiny_chat: LoadedModel) -> None:
    alike = [SelfText(n, 0.0, 1, (n, *range(100, 140), 10 + n)) for n in range(40)]
    unlike = [SelfText(n, 0.0, 1, (n, *((n * 37 + k * (n + 1)) % 251 for k in range(40)))) for n in range(40)]
    good, none = (worth_of_history(texts, tiny_chat.model) for texts in (alike, unlike))
    assert good is not None
    assert none is not None
    assert good.with_history > 1.5 * good.without
    assert none.with_history < 1.2 * none.without
    assert worth_of_history([alike[0], alike[0]], tiny_chat.model) is None


def test_prompts_are_no_part_of_a_history(tiny_chat: LoadedModel) -> None:
    history = history_of([SelfText(0, 0.0, 3, (1, 2, 3, 4, 5))], 258, tiny_chat.vocabulary)
    assert history.sequences == ((4, 5),)


def test_what_cannot_work_is_refused_before_anything_is_written(
    tiny_chat_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["history", "--target", tiny_chat_folder, "--text", prompts]
    with pytest.raises(UsageError, match="is a folder"):
        run(*command, "--out", tmp_path, *SHORT)
    with pytest.raises(UsageError, match="--max-new-tokens takes 256"):
        run(*command, "--out", tmp_path / "a.history")
    with pytest.raises(InputError, match="--max-new-tokens takes 254 of them"):
        run(*command, "--out", tmp_path / "a.history", "--max-new-tokens", "254")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["prompts.txt"]
