"""What a command exits with, from real processes, and what its errors say: file, line, cause and remedy."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., Any]
ARITHMETIC = ("-v", "arithmetic", "--workers", "1")


def test_0_all_steps_were_judged(program: Program, trace_file: Callable[..., Path]) -> None:
    """A rejected step is a result, not a failure."""
    ended = program("verify", trace_file(["1 + 1 = 3"]), *ARITHMETIC, "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json["verifiers"][0]["rejected"] == 1


def test_1_something_is_broken(program: Program, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    assert program("doctor", "--store", "text.db").status == 1


def test_1_a_bug_says_that_it_is_one(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from draftproof import registry

    def broken() -> dict[str, object]:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(registry, "listings", broken)
    ended = cli("verifiers", "list", "--json")
    assert ended.status == 1
    assert ended.json["error"]["code"] == "internal"
    assert "report" in ended.json["error"]["remedy"]
    assert "Traceback" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param((), None, "Usage: draftproof", id="nothing"),
        pytest.param(("verfy",), "usage", "verfy", id="no-such-command"),
        pytest.param(("verify",), "usage", "FILE", id="no-file"),
        pytest.param(("verify", "x", "--colour"), "usage", "--colour", id="no-such-option"),
        pytest.param(("verify", "x", "--limit", "0"), "usage", "--limit", id="a-limit-of-nothing"),
        pytest.param(("verify", "x", "--workers", "-1"), "usage", "--workers", id="fewer-than-no-workers"),
        pytest.param(("verify", "x", "--timeout", "inf"), "usage", "--timeout", id="an-endless-timeout"),
        pytest.param(("verify", "x", "--timeout", "nan"), "usage", "--timeout", id="a-timeout-that-is-no-number"),
        pytest.param(("verify", "x", "-v", "nope"), "unknown_name", "arithmetic", id="no-such-verifier"),
        pytest.param(("verify", "x", "-v", "arithmetic:a=1"), "usage", "arithmetic", id="no-such-argument"),
        pytest.param(("verifiers", "info", "nope"), "unknown_name", "nope", id="no-such-verifier-to-show"),
        pytest.param(("runs", "list", "--store", "mysql://h/d"), "usage", "mysql", id="no-such-kind-of-store"),
        pytest.param(("runs", "list", "--store", "sqlite://"), "usage", "memory", id="a-store-that-forgets"),
    ],
)
def test_2_the_command_line_is_wrong(
    arguments: tuple[str, ...], code: str | None, says: str, cli: Callable[..., Any]
) -> None:
    ended = cli(*arguments)
    assert ended.status == 2
    assert says in ended.out + ended.err
    assert "Traceback" not in ended.err
    if code is not None:
        machine = cli(*arguments, "--json")
        assert machine.status == 2
        assert machine.err == ""
        assert machine.json["error"]["code"] == code
        assert says in machine.json["error"]["message"] + str(machine.json["error"]["remedy"])


def test_2_from_a_real_process(program: Program, trace_file: Callable[..., Path]) -> None:
    ended = program("verify", trace_file(["a"]), "--format", "nope", *ARITHMETIC)
    assert ended.status == 2
    assert ended.err.startswith("error: There is no format 'nope'.\n       Known are auto, plain, ")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("missing.jsonl", None, "There is no file", id="missing"),
        pytest.param("empty.jsonl", b"", "empty_file", id="empty"),
        pytest.param("text.jsonl", b"once upon a time\n", "invalid_json", id="no-json"),
        pytest.param("binary.jsonl", bytes(range(256)), "", id="binary"),
        pytest.param("cut.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "cut_stream", id="half-a-gzip"),
    ],
)
def test_3_the_input_cannot_be_read(
    name: str, content: bytes | None, says: str, program: Program, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = program("verify", name, *ARITHMETIC)
    assert ended.status == 3
    assert "Traceback" not in ended.err
    if content is None:
        assert ended.err.startswith(f"error: There is no file {name}.\n       Check the name")
        assert not (tmp_path / "draftproof.db").exists()
    else:
        rejects = (tmp_path / f"{name}.rejects.jsonl").read_text()
        assert says in rejects
        assert json.loads(rejects.splitlines()[0])["line"] == 1


def test_3_a_missing_file_among_others_is_found_before_anything_is_judged(
    program: Program, trace_file: Callable[..., Path], tmp_path: Path
) -> None:
    ended = program("verify", trace_file(["a"]), "missing.jsonl", *ARITHMETIC, "--json")
    assert ended.status == 3
    assert ended.json["error"]["code"] == "file_missing"
    assert not (tmp_path / "draftproof.db").exists()


def test_4_a_gate_was_met(program: Program, trace_file: Callable[..., Path]) -> None:
    ended = program("verify", trace_file(["1 + 1 = 3"]), *ARITHMETIC, "--fail-on", "rejected>0")
    assert ended.status == 4
    assert "gate met: arithmetic: rejected is 1" in ended.out


def test_4_goes_before_3(program: Program, trace_file: Callable[..., Path]) -> None:
    file = trace_file(["1 + 1 = 3"])
    with file.open("a") as more:
        more.write("unreadable\n")
    assert program("verify", file, *ARITHMETIC, "--fail-on", "rejected>0").status == 4
    assert program("verify", file, *ARITHMETIC).status == 3


def test_5_verdicts_that_vanish_break_the_conservation_law(
    program: Program, trace_file: Callable[..., Path], tmp_path: Path
) -> None:
    """A database that takes a verdict, says so, and does not keep it."""
    assert program("db", "init").status == 0
    with closing(sqlite3.connect(tmp_path / "draftproof.db")) as connection:
        connection.execute(
            "CREATE TRIGGER forgetful BEFORE INSERT ON verdicts WHEN new.position = 1 BEGIN SELECT RAISE(IGNORE); END"
        )
        connection.commit()
    ended = program("verify", trace_file(["1 + 1 = 2", "1 + 2 = 3"]), *ARITHMETIC, "--json")
    assert ended.status == 5
    assert ended.json["error"]["code"] == "integrity"


def test_5_a_damaged_database(program: Program, trace_file: Callable[..., Path], tmp_path: Path) -> None:
    texts = [f"{number} + 1 = {number + 1}" for number in range(400)]
    assert program("verify", trace_file(texts), *ARITHMETIC).status == 0
    database = tmp_path / "draftproof.db"
    with database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * (database.stat().st_size - 6 * 4096))
    ended = program("verdicts", "query", "--json", "--limit", "1000")
    assert ended.status == 5
    last = json.loads(ended.out.splitlines()[-1])
    assert last["error"]["code"] == "integrity"
    assert "damaged" in last["error"]["message"]


@pytest.mark.parametrize(
    ("store", "says"),
    [
        pytest.param("sqlite:///no/such/folder/v.db", "cannot be opened", id="no-folder"),
        pytest.param("postgresql://nobody:hunter2@127.0.0.1:1/d", "cannot be reached", id="no-server"),
    ],
)
def test_6_the_store_cannot_be_used(store: str, says: str, program: Program, trace_file: Callable[..., Path]) -> None:
    if store.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="needs the `postgres` extra")
    ended = program("verify", trace_file(["a"]), *ARITHMETIC, "--store", store)
    assert ended.status == 6
    assert says in ended.err
    assert "\n       " in ended.err  # a remedy
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("runs", "list"), id="runs-list"),
        pytest.param(("runs", "show", "0"), id="runs-show"),
        pytest.param(("verdicts", "query"), id="verdicts-query"),
        pytest.param(("verdicts", "show", "t0"), id="verdicts-show"),
        pytest.param(("verdicts", "diff", "a", "b"), id="verdicts-diff"),
        pytest.param(("verdicts", "export", "-o", "out.csv"), id="verdicts-export"),
        pytest.param(("verdicts", "override", "1", "accept", "--author", "a", "--note", "n"), id="verdicts-override"),
    ],
)
def test_6_reading_makes_no_store(command: tuple[str, ...], cli: Callable[..., Any], tmp_path: Path) -> None:
    ended = cli(*command, "--store", "none.db")
    assert ended.status == 6
    assert "does not exist" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("runs", "show", "ffff"), id="no-such-run"),
        pytest.param(("verdicts", "show", "nobody"), id="no-such-trace"),
        pytest.param(("verdicts", "query", "--run", "ffff"), id="no-such-run-to-filter-by"),
        pytest.param(("verdicts", "diff", "ffff", "eeee"), id="no-such-runs-to-compare"),
        pytest.param(("verdicts", "override", "99", "accept", "--author", "a", "--note", "n"), id="no-such-verdict"),
    ],
)
def test_2_what_is_not_in_the_store(command: tuple[str, ...], cli: Callable[..., Any], judged: str) -> None:
    ended = cli(*command, "--store", judged)
    assert ended.status == 2
    assert ended.err.startswith("error: ")
    assert ended.out == ""


def test_130_and_143_while_nothing_is_stored_yet(tmp_path: Path) -> None:
    """A command that waits for its input is stopped as readily as one that judges."""
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "draftproof", "verify", "-", *ARITHMETIC],
            cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        wait_for_a_run(tmp_path / "draftproof.db")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == status, err
        assert out == ""
        assert "To go on: draftproof verify - -v arithmetic" in err
        (tmp_path / "draftproof.db").unlink()


def wait_for_a_run(database: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM runs").fetchone()[0]:
                    time.sleep(0.3)  # from the run's first row to the reading of its input
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.02)
    raise AssertionError("no run was begun")
