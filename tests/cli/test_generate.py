"""`draftproof generate`, with a tiny checkpoint: text on standard output, figures beside it, rounds in the store."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
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


def test_a_seed_of_63_bits_is_stored_like_any(cli: Cli, tiny_chat_folder: Path) -> None:
    hot = ("--temperature", "1.0", "--seed", str(2**63 - 1), "--store", "s.db", "--json")
    made = cli("generate", "ab", "-t", tiny_chat_folder, *SHORT, *hot).json
    assert made["sampling"]["seed"] == 2**63 - 1
    shown = cli("runs", "show", made["run"], "--store", "s.db", "--json").json
    assert int(shown["settings"]["sampling"]["seed"]) == 2**63 - 1


def test_json_says_all_that_it_takes_to_make_the_text_again(cli: Cli, tiny_chat_folder: Path) -> None:
    from draftproof.drafting.decoder import SpeculativeDecoder
    from draftproof.drafting.models.load import load_model
    from draftproof.drafting.sampling import Sampling

    hot = ("--temperature", "1.2", "--top-k", "40", "--repetition-penalty", "1.1", "--seed", "11")
    made = cli("generate", "ab ab ab", "-t", tiny_chat_folder, *SHORT, *hot, "--raw", "--json", "--no-store").json
    parts = made["configuration"]
    assert (parts["drafter"], parts["rule"], parts["policy"]) == ("prompt-lookup", "auto", "fixed:draft_length=4")
    asked = {"temperature": 1.2, "top_k": 40, "top_p": 1.0, "repetition_penalty": 1.1, "seed": 11}
    assert made["sampling"] == asked
    loaded = load_model(tiny_chat_folder)
    decoder = SpeculativeDecoder(loaded, parts["drafter"], rule=parts["rule"], policy=parts["policy"])
    (again,) = decoder.generate("ab ab ab", sampling=Sampling(**made["sampling"]), max_new_tokens=24)
    assert list(again.tokens) == made["tokens"]
    sampling = Sampling(**made["sampling"] | {"seed": 12})
    (other,) = decoder.generate("ab ab ab", sampling=sampling, max_new_tokens=24)
    assert list(other.tokens) != made["tokens"]


def test_rounds_are_verdicts_of_a_run(cli: Cli, tiny_chat_folder: Path) -> None:
    made = cli("generate", "ab ab ab", "-t", tiny_chat_folder, *SHORT, "--store", "g.db", "--json").json
    shown = cli("runs", "show", made["run"], "--store", "g.db")
    assert shown.status == 0
    assert "speculative-" in shown.out
    rows = cli("verdicts", "query", "--run", made["run"], "--store", "g.db", "--json", "--limit", "100").json_lines
    assert len(rows) == made["rounds"] + 1
    assert {row["granularity"] for row in rows} == {"token_block"}
    assert all(row["lossless"] for row in rows)


def test_blocks_and_steps_of_one_store_are_told_apart(cli: Cli, tiny_chat_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": "t", "problem": "p", "steps": ["1 + 1 = 2", "1 + 1 = 3"]}\n')
    assert cli("verify", "t.jsonl", "-v", "arithmetic", "-w", "0", "--store", "b.db").status == 0
    assert cli("generate", "ab ab ab", "-t", tiny_chat_folder, *SHORT, "--store", "b.db").status == 0
    for granularity, verifier in (("step", "arithmetic"), ("token_block", "speculative")):
        only = ("--granularity", granularity, "--store", "b.db")
        rows = cli("verdicts", "query", *only, "--json", "--limit", "100").json_lines
        assert {row["granularity"] for row in rows} == {granularity}
        assert {row["verifier"].partition("@")[0].partition("-")[0] for row in rows} == {verifier}
        written = cli("verdicts", "export", "-o", "-", "--format", "jsonl", *only)
        assert len(written.out.splitlines()) == len(rows)
    refused = cli("verdicts", "query", "--granularity", "sentence", "--store", "b.db")
    assert refused.status == 2
    assert "token_block" in refused.err


def test_runs_say_how_many_texts_were_generated(cli: Cli, tiny_chat_folder: Path) -> None:
    made = cli("generate", "ab ab ab", "-t", tiny_chat_folder, *SHORT, "--store", "c.db", "--json").json
    (run,) = cli("runs", "list", "--store", "c.db", "--json").json_lines
    assert run["counts"] == {"traces": 1, "rounds": made["rounds"], "output_tokens": made["output_tokens"]}
    heading, row = cli("runs", "list", "--store", "c.db").out.splitlines()
    at = heading.index("traces")
    assert row[at : at + len("traces")].split() == ["1"]


def test_a_run_without_a_text_counts_none(cli: Cli, tiny_chat_folder: Path, tmp_path: Path) -> None:
    from draftproof.cli.generation_log import GenerationLog

    GenerationLog(f"sqlite:///{tmp_path}/n.db", "p", "draftproof generate", {}).finish(KeyboardInterrupt())
    (run,) = cli("runs", "list", "--store", "n.db", "--json").json_lines
    assert (run["status"], run["counts"]["traces"]) == ("interrupted", 0)


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
        pytest.param(("--store", "s.db"), "--store names a store", id="store-and-no-store"),
        pytest.param(("--stop", ""), "--stop", id="empty-stop"),
        pytest.param(("--dtype", "float8"), "--dtype is 'float8'", id="dtype"),
        pytest.param(("--backend", "llama"), "'llama'", id="backend"),
        pytest.param(("--backend", "lean", "--dtype", "bfloat16"), "float32", id="lean-in-bfloat16"),
        pytest.param(("--device", "toaster"), "toaster", id="device"),
        pytest.param(("--drafter", "suffix:max_nodes=many"), "a whole number is expected", id="wrong-type"),
        pytest.param(("--drafter", "hydra"), "draftproof train heads", id="missing-heads"),
        pytest.param(("--policy", "del"), "candidates=6+10+14", id="del-without-exits"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    cli: Cli, tiny_chat_folder: Path, options: tuple[str, ...], said: str
) -> None:
    ended = cli("generate", "ab", "-t", tiny_chat_folder, "--no-store", *options)
    assert ended.status == 2
    assert said in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("options", [(), ("--raw",)])
@pytest.mark.parametrize("given", ["", "-"])
def test_an_empty_prompt_is_a_usage_error(
    cli: Cli, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    ended = cli("generate", given, "-t", tiny_chat_folder, "--no-store", *options)
    assert (ended.status, ended.out) == (2, "")
    assert "The prompt is empty" in ended.err


def test_standard_input_must_be_utf_8(cli: Cli, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("gr\u00fcn".encode("latin1"))))
    ended = cli("generate", "-", "-t", tiny_chat_folder, "--no-store")
    assert ended.status == 3
    assert "byte 2 is 0xfc" in ended.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("gr\u00fcn".encode())))
    assert cli("generate", "-", "-t", tiny_chat_folder, "--no-store", *SHORT).status == 0


def test_an_argument_that_is_no_utf_8_is_a_usage_error(cli: Cli, tiny_chat_folder: Path) -> None:
    ended = cli("generate", os.fsdecode(b"gr\xfcn"), "-t", tiny_chat_folder, "--no-store")
    assert ended.status == 2
    assert "not UTF-8" in ended.err


def test_exits_to_choose_from_are_written_on_the_command_line(cli: Cli, tiny_chat_folder: Path) -> None:
    early = ("--drafter", "early-exit:exit_layer=1,candidates=1", "--policy", "del", "-n", "12")
    made = cli("generate", "x", "-t", tiny_chat_folder, "--no-store", "--json", *early).json
    plain = cli("generate", "x", "-t", tiny_chat_folder, "--no-store", "--json", "-d", "none", "-n", "12").json
    assert (made["drafter"], made["policy"]) == ("early-exit", "del")
    assert made["tokens"] == plain["tokens"]


def test_the_command_that_is_named_at_the_end_works(cli: Cli, tiny_chat_folder: Path) -> None:
    ended = cli("generate", "ab ab", "-t", tiny_chat_folder, *SHORT, "--store", "elsewhere.db")
    words = ended.err.partition("draftproof runs show ")[2].split()
    assert words[1:] == ["--store", "elsewhere.db"]
    shown = cli("runs", "show", *words, "--json")
    assert shown.status == 0, shown.err
    settings = shown.json["settings"]
    assert settings["drafter"] == "prompt-lookup"
    assert settings["policy"] == "fixed:draft_length=4"
    assert (settings["max_new_tokens"], settings["stop"], settings["sampling"]["seed"]) == (24, [], 0)
    assert settings["backend"] == "lean-llama"
    assert settings["model_digest"]
    assert shown.json["status"] == "finished"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_there_is_of_a_stopped_generation_is_stored(
    cli: Cli, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, as_json: bool
) -> None:
    from draftproof.cli.acceptance_view import GenerationStatus

    seen: list[int] = []

    def count(self: GenerationStatus, chunk: Any, *, printed: bool) -> None:
        seen.extend(chunk.tokens)
        if len(seen) > 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(GenerationStatus, "count", count)
    options = ("--json",) if as_json else ()
    ended = cli("generate", "x", "-t", tiny_chat_folder, "-d", "none", "-n", "200", "--store", "s.db", *options)
    assert ended.status == status, ended.err
    assert len(seen) == 5
    if as_json:
        assert (ended.json["tokens"], ended.json["finish_reason"]) == (seen, "cancelled")
        run = ended.json["run"]
    else:
        assert "Stopped after 5 tokens; stored as run" in ended.err
        run = ended.err.partition("runs show ")[2].split()[0]
    shown = cli("runs", "show", run, "--store", "s.db", "--json").json
    assert shown["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_run_that_breaks_is_noted_as_failed(
    cli: Cli, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from draftproof.cli.acceptance_view import AcceptanceView
    from draftproof.errors import NumericalError

    def show(self: AcceptanceView, chunk: Any) -> None:
        raise NumericalError("logits are not finite")

    monkeypatch.setattr(AcceptanceView, "show", show)
    assert cli("generate", "ab", "-t", tiny_chat_folder, *SHORT, "--store", "s.db").status == 3
    (run,) = cli("runs", "list", "--store", "s.db", "--json").json_lines
    assert run["status"] == "failed"


def test_nothing_is_begun_for_a_prompt_that_cannot_be_read(cli: Cli, tiny_chat_folder: Path) -> None:
    assert cli("generate", "x" * 500, "-t", tiny_chat_folder, "--store", "s.db").status == 3
    assert not Path("s.db").exists()


def test_parts_are_listed_for_machines_with_their_arguments(cli: Cli) -> None:
    for words in (("--list-parts", "--json"), ("--json", "--list-parts")):
        parts = {(each["kind"], each["name"]): each for each in cli("generate", *words).json}
        assert {"name": "heads", "required": True, "default": None} in parts["drafter", "hydra"]["arguments"]
        assert {"name": "draft_length", "required": False, "default": 5} in parts["policy", "fixed"]["arguments"]
    assert "Matches of any length" in cli("generate", "--list-parts").out


@pytest.mark.parametrize(("options", "backend"), [((), "lean-llama"), (("--backend", "transformers"), "transformers")])
def test_the_backend_can_be_chosen(cli: Cli, tiny_chat_folder: Path, options: tuple[str, ...], backend: str) -> None:
    made = cli("generate", "ab", "-t", tiny_chat_folder, *SHORT, "--no-store", "--json", *options).json
    assert made["backend"] == backend


def test_the_dtype_can_be_chosen(cli: Cli, tiny_chat_folder: Path) -> None:
    chosen = ("--dtype", "bfloat16", "--device", "cpu", "--store", "s.db")
    made = cli("generate", "ab", "-t", tiny_chat_folder, *SHORT, "--json", *chosen).json
    shown = cli("runs", "show", made["run"], "--store", "s.db", "--json").json
    assert (shown["settings"]["dtype"], shown["settings"]["device"]) == ("bfloat16", "cpu")


def test_plain_decodings_time_is_told_whatever_the_policy_but_no_ratio_of_few_rounds(
    cli: Cli, tiny_chat_folder: Path
) -> None:
    def said(tokens: int, policy: str) -> str:
        options = ("-n", str(tokens), "--policy", policy, "-d", "ngram", "--no-store")
        err: str = cli("generate", "x", "-t", tiny_chat_folder, *options).err
        return err.partition("plain decoding would have taken about")[2].partition("\n")[0]

    assert "x), estimated" in said(120, "fixed:draft_length=1")
    assert "x), estimated" in said(120, "cost")
    short = said(6, "fixed:draft_length=1")
    assert short.endswith("s, estimated.")
    assert "x)" not in short


def test_a_full_context_is_told(cli: Cli, tiny_chat_folder: Path) -> None:
    long = ("x" * 240, "-t", tiny_chat_folder, "--raw", "--no-store", "-d", "none")
    assert "ended because the context of 256 tokens is full" in cli("generate", *long, "-n", "100").err
    assert cli("generate", *long, "-n", "100", "--json").json["context_full"] is True
    assert "ended by length" in cli("generate", *long, "-n", "3").err


def test_log_probabilities_come_with_text(cli: Cli, tiny_chat_folder: Path) -> None:
    made = cli("generate", "ab", "-t", tiny_chat_folder, *SHORT, "--no-store", "--json", "--logprobs", "3").json
    first = made["logprobs"][0]
    assert first["token"] == made["tokens"][0]
    assert [set(each) for each in first["top"]] == [{"token", "text", "logprob"}] * 3
    words = [each["text"] for each in made["logprobs"]]
    assert all(words)
    assert json.dumps(made["text"][:1]).strip('"') in json.dumps("".join(words))


def test_a_prompt_longer_than_the_context_is_an_error(cli: Cli, tiny_chat_folder: Path) -> None:
    ended = cli("generate", "x" * 500, "-t", tiny_chat_folder, "--no-store", "--drafter", "none")
    assert ended.status == 3
    assert "256" in ended.err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text_on_terminal", [False, True])
def test_a_terminal_sees_what_is_done_until_text_comes(
    cli: Cli, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch, text_on_terminal: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown, text = _Terminal(), _Terminal() if text_on_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", text)
    assert cli("generate", "x", "-t", tiny_chat_folder, "-n", "40", "--no-store").status == 0
    assert "Loading" in shown.getvalue()
    running = "tokens · acceptance length"
    assert (running in shown.getvalue()) is not text_on_terminal
    assert (running in text.getvalue()) is text_on_terminal
    assert "tokens/s" in (text if text_on_terminal else shown).getvalue()
    assert "Loading" not in text.getvalue()
    plain = text.getvalue() if not text_on_terminal else ""
    monkeypatch.undo()
    assert plain in ("", cli("generate", "x", "-t", tiny_chat_folder, "-n", "40", "--no-store").out)


def test_no_terminal_sees_no_status(cli: Cli, tiny_chat_folder: Path) -> None:
    assert "Loading" not in cli("generate", "x", "-t", tiny_chat_folder, *SHORT, "--no-store").err


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_a_terminal_is_left_with_the_text_and_nothing_else(
    cli: Cli, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch, terminal: str
) -> None:
    from draftproof.cli.screen import visible

    hot = ("-n", "120", "--no-store", "--temperature", "1.0", "--seed", "2", "-d", "ngram", "--policy", "fixed")
    plain = cli("generate", "x\n\nx", "-t", tiny_chat_folder, *hot).out
    monkeypatch.setenv("TERM", terminal)
    text = _Terminal()
    monkeypatch.setattr(sys, "stdout", text)
    assert cli("generate", "x\n\nx", "-t", tiny_chat_folder, *hot).status == 0
    monkeypatch.undo()
    assert ("acceptance length" in text.getvalue()) is (terminal == "xterm")
    assert left_on_screen(text.getvalue()) == visible(plain).rstrip("\n")
    assert len(plain) > 60


def left_on_screen(written: str) -> str:
    """What a terminal shows in the end, by the few sequences that are used; it fails at any other."""
    lines, row, column = [""], 0, 0
    for control, character in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|(\x1b|[^\x1b])", written):
        if character == "\n":
            row, column = row + 1, 0
            lines += [""] * (row - len(lines) + 1)
        elif character == "\r":
            column = 0
        elif character:
            assert character != "\x1b"
            lines[row] = lines[row][:column] + character + lines[row][column + 1 :]
            column += 1
        elif control.endswith("A"):
            row -= int(control[:-1] or 1)
            assert row >= 0
        elif control == "2K":
            lines[row] = ""
        else:
            assert control.endswith("m") or control in ("?25l", "?25h"), control
    return "\n".join(lines).rstrip("\n")
