"""`draftproof generate`, with a tiny checkpoint: text on standard output, figures beside it, rounds in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
SHORT = ("--max-new-tokens", "24", "--policy", "fixed:draft_length=4", "--drafter", "prompt-lookup")


def test_text_goes_to_standard_output_and_figures_beside_it(cli: Cli, tiny_chat_folder: Path) -> None:
    ended = cli("generate", "the river, the river", "--target", tiny_chat_folder, *SHORT)
    assert ended.status == 0, ended.err
    assert ended.out.endswith("\n")
    assert "acceptance length" in ended.err
    assert "lossless" in ended.err
    again = cli("generate", "the river, the river", "--target", tiny_chat_folder, *SHORT[:2], "--drafter", "none")
    assert again.out == ended.out


def test_json_has_everything_and_nothing_else_is_printed(cli: Cli, tiny_chat_folder: Path) -> None:
    ended = cli("generate", "ab ab ab", "-t", tiny_chat_folder, *SHORT, "--raw", "--json", "--logprobs", "2")
    made = ended.json
    assert made["output_tokens"] == len(made["tokens"]) == len(made["logprobs"]) <= 24
    assert made["acceptance_length"] >= 1.0
    assert made["prompt_tokens"] == 8
    assert made["lossless"] is True
    assert made["model_digest"]
    assert ended.err == ""


def test_rounds_are_verdicts_of_a_run(cli: Cli, tiny_chat_folder: Path) -> None:
    made = cli("generate", "ab ab ab", "-t", tiny_chat_folder, *SHORT, "--store", "g.db", "--json").json
    shown = cli("runs", "show", made["run"], "--store", "g.db")
    assert shown.status == 0
    assert "speculative-" in shown.out
    rows = cli("verdicts", "query", "--run", made["run"], "--store", "g.db", "--json", "--limit", "100").json_lines
    assert len(rows) == made["rounds"] + 1
    assert {row["granularity"] for row in rows} == {"token_block"}
    assert all(row["lossless"] for row in rows)


def test_no_store_writes_none(cli: Cli, tiny_chat_folder: Path, tmp_path: Path) -> None:
    assert cli("generate", "ab", "-t", tiny_chat_folder, *SHORT, "--no-store").status == 0
    assert list(tmp_path.glob("*.db")) == []


def test_equal_seeds_give_equal_text_whatever_drafts(cli: Cli, tiny_chat_folder: Path) -> None:
    def text(*options: str) -> str:
        sampled = ("--temperature", "1.0", "--max-new-tokens", "24", "--json", "--no-store")
        made: str = cli("generate", "ab ab", "-t", tiny_chat_folder, *sampled, *options).json["text"]
        return made

    assert text("--seed", "5", "--drafter", "none") == text("--seed", "5", "--drafter", "prompt-lookup")
    assert text("--seed", "5") != text("--seed", "6")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("--drafter", "prompt-lookap"), "prompt-lookap", id="unknown-drafter"),
        pytest.param(("--drafter", "prompt-lookup:n=3"), "arguments", id="unknown-argument"),
        pytest.param(("--rule", "lenient"), "no rule 'lenient'", id="unknown-rule"),
        pytest.param(("--policy", "fixed:draft_length=-1"), "draft_length is -1", id="wrong-value"),
        pytest.param(("--target", "/no/such/folder"), "/no/such/folder", id="no-model"),
        pytest.param(("--top-p", "1.5"), "top_p is 1.5", id="top-p"),
        pytest.param(("--raw", "--system", "Be brief."), "--system", id="system-without-chat"),
        pytest.param(("--logprobs", "2"), "--json", id="logprobs-without-json"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    cli: Cli, tiny_chat_folder: Path, options: tuple[str, ...], said: str
) -> None:
    ended = cli("generate", "ab", "-t", tiny_chat_folder, "--no-store", *options)
    assert ended.status == 2
    assert said in ended.err
    assert ended.out == ""


def test_a_prompt_longer_than_the_context_is_an_error(cli: Cli, tiny_chat_folder: Path) -> None:
    ended = cli("generate", "x" * 500, "-t", tiny_chat_folder, "--no-store", "--drafter", "none")
    assert ended.status == 3
    assert "256" in ended.err
