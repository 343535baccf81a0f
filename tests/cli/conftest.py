"""Commands run in this process, where nothing about the process matters, and in their own, where it does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from draftproof.cli.main import run


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    """Runs a command line as `draftproof` does, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # what is compared is not wrapped

    def call(*arguments: str | Path) -> Ended:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["draftproof", *words])
        capfd.readouterr()
        status = run(words)
        captured = capfd.readouterr()
        return Ended(status, captured.out, captured.err)

    return call


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Ended]:
    """Runs a command line in a process of its own."""

    def call(*arguments: str | Path, input: str | None = None, **options: Any) -> Ended:
        command = [sys.executable, "-P", "-m", "draftproof", *map(str, arguments)]
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120, **stdin, **options
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


def write_traces(path: Path, traces: Sequence[Sequence[str]], **fields: Any) -> Path:
    lines = (
        json.dumps({"id": f"t{number}", "problem": f"problem {number}", "steps": list(steps), **fields})
        for number, steps in enumerate(traces)
    )
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def trace_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes traces, given as lists of step texts, to a file of our own format."""

    def write(*traces: Sequence[str], name: str = "traces.jsonl", **fields: Any) -> Path:
        return write_traces(tmp_path / name, traces, **fields)

    return write


@pytest.fixture
def judged(cli: Callable[..., Ended], trace_file: Callable[..., Path]) -> str:
    """URL of a store with one run: three traces, with one false equation."""
    file = trace_file(
        ["2 + 2 = 4", "So 3 * 3 = 10.", "The end."],
        ["1 + 1 = 2", "x + 3 = 7"],
        ["10 / 2 = 5"],
    )
    assert cli("verify", file, "-v", "arithmetic", "--workers", "0", "--store", "judged.db").status == 0
    return "judged.db"
