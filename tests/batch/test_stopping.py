"""Ctrl-C, SIGTERM, a database that goes away, a full disk: the message says how to go on, and that goes on."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from draftproof.store.queries import VerdictFilter
from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import made_traces

pytestmark = pytest.mark.usefixtures("plugins")

TRACES, STEPS = 40, 5
PAIRS = TRACES * STEPS


@pytest.fixture
def file(trace_file: Callable[..., Path]) -> Path:
    traces = made_traces(TRACES, steps=STEPS)
    return trace_file(*([step.text for step in trace.steps] for trace in traces))


def stored(url: str) -> int:
    with VerdictStore.open(url, create=False, read_only=True) as store:
        return sum(store.count_verdicts(VerdictFilter(history=True)).values())


def await_verdicts(url: str, process: subprocess.Popen[str]) -> int:
    """Waits until a run has stored something."""
    deadline = time.monotonic() + 30
    while not (found := stored(url)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing was stored"
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("number", "status", "workers"),
    [
        pytest.param(signal.SIGINT, 130, "2", id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, "2", id="sigterm"),
        pytest.param(signal.SIGINT, 130, "0", id="ctrl-c-while-judging-in-this-process"),
    ],
)
def test_a_stopped_run_says_how_to_go_on_and_goes_on(
    number: signal.Signals,
    status: int,
    workers: str,
    draftproof: Any,
    file: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draftproof("db", "init", "--store", url)
    command = ("verify", file, "-v", "slow:seconds=0.03", "--store", url, "--workers", workers)
    process = draftproof.start(*command)
    await_verdicts(url, process)
    os.killpg(process.pid, number)  # as a terminal does: to everything in the foreground
    _, err = process.communicate(timeout=30)

    assert process.returncode == status
    assert "Traceback" not in err
    told = err.partition("To go on: ")[2].strip()
    assert shlex.split(told) == ["draftproof", *map(str, command)]
    with VerdictStore.open(url) as store:
        (run,) = store.runs()
    assert run.status is RunStatus.INTERRUPTED
    before = stored(url)
    assert 0 < before < PAIRS

    monkeypatch.setenv("POISON_HURRIES", "yes")
    ended = draftproof(*shlex.split(told)[1:], "--json")
    assert ended.status == 0
    assert (ended.json["known"], ended.json["judged"]) == (before, PAIRS - before)
    (total,) = ended.json["verifiers"]
    assert (total["subjects"], total["accepted"], total["missing"]) == (PAIRS, PAIRS, 0)
    assert stored(url) == PAIRS


def test_an_impatient_user_is_obeyed(
    draftproof: Any, file: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second and a third Ctrl-C while the first one is being handled."""
    draftproof("db", "init", "--store", sqlite_url)
    process = draftproof.start("verify", file, "-v", "slow:seconds=0.03", "--store", sqlite_url)
    await_verdicts(sqlite_url, process)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)
    monkeypatch.setenv("POISON_HURRIES", "yes")
    ended = draftproof("verify", file, "-v", "slow:seconds=0.03", "--store", sqlite_url, "--json")
    assert ended.status == 0
    assert all(total["settled"] for total in ended.json["verifiers"])


# Databases that fail


@pytest.mark.postgres
def test_a_database_that_dies_mid_run_ends_the_command_with_6_and_loses_nothing(
    draftproof: Any, file: Path, mortal_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = mortal_server.get_uri().replace("postgresql+psycopg", "postgresql")
    assert draftproof("db", "init", "--store", url).status == 0
    command = ("verify", file, "-v", "slow:seconds=0.03", "-v", "arithmetic", "--store", url)
    process = draftproof.start(*command)
    await_verdicts(url, process)
    os.kill(mortal_server.get_pid(), signal.SIGQUIT)  # immediate shutdown: no goodbye, recovery at the next start
    _, err = process.communicate(timeout=60)

    assert process.returncode == 6
    assert "cannot be reached" in err
    assert "Run the same command again" in err
    assert "Traceback" not in err

    deadline = time.monotonic() + 30
    while Path(f"/proc/{mortal_server.get_postmaster_info().pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    mortal_server.ensure_postgres_running()
    before = stored(url)
    assert 0 < before < 2 * PAIRS
    with VerdictStore.open(url) as store:
        assert all(row.intact for row in store.iter_verdicts())
    monkeypatch.setenv("POISON_HURRIES", "yes")
    ended = draftproof(*command, "--json")
    assert ended.status == 0
    assert ended.json["known"] == before
    assert [total["accepted"] for total in ended.json["verifiers"]] == [PAIRS, PAIRS]
    assert stored(url) == 2 * PAIRS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_command_with_6_and_it_resumes_with_more_room(
    draftproof: Any, trace_file: Callable[..., Path], small_disk: Path
) -> None:
    traces = made_traces(400, steps=8)
    file = trace_file(*([step.text for step in trace.steps] for trace in traces))
    url = f"sqlite:///{small_disk / 'verdicts.db'}"
    command = ("verify", file, "-v", "arithmetic", "--store", url, "--json")
    ended = draftproof(*command)

    assert ended.status == 6
    assert ended.json["error"]["code"] == "store_unreachable"
    assert "disk is full" in ended.json["error"]["message"]
    before = stored_on_full_disk(small_disk)
    assert before < 3200

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    ended = draftproof(*command)
    assert ended.status == 0
    assert ended.json["known"] == before
    (total,) = ended.json["verifiers"]
    assert (total["accepted"], total["settled"]) == (3200, True)
    assert stored(url) == 3200


def stored_on_full_disk(folder: Path) -> int:
    """Counted in a copy: opening the file itself may need room."""
    copy = folder.with_name("copy")
    copy.mkdir()
    for part in folder.iterdir():
        (copy / part.name).write_bytes(part.read_bytes())
    return stored(f"sqlite:///{copy / 'verdicts.db'}")


def test_a_store_that_cannot_be_written_ends_the_command_with_6(
    draftproof: Any, file: Path, tmp_path: Path, sqlite_url: str
) -> None:
    """As another user, since root may write anywhere: a folder where SQLite cannot make its files."""
    missing = tmp_path / "not" / "there" / "verdicts.db"
    ended = draftproof("verify", file, "-v", "arithmetic", "--store", f"sqlite:///{missing}", "--json")
    assert ended.status == 6
    assert ended.json["error"]["code"] == "store_unreachable"
    assert str(missing) in ended.json["error"]["message"]

    if os.geteuid():
        draftproof("db", "init", "--store", sqlite_url)
        database = tmp_path / "verdicts.db"
        database.chmod(stat.S_IRUSR)
        ended = draftproof("verify", file, "-v", "arithmetic", "--store", sqlite_url, "--json")
        assert ended.status == 6
        assert "read-only" in ended.json["error"]["message"]


def test_a_read_only_file_system_ends_the_command_with_6(draftproof: Any, file: Path, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'verdicts.db'}"
    assert draftproof("db", "init", "--store", url).status == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = draftproof("verify", file, "-v", "arithmetic", "--store", url, "--json")
    assert ended.status == 6
    assert ended.json["error"]["code"] == "store_unreachable"
    assert ended.json["error"]["remedy"]


def test_a_file_that_is_no_database_is_left_as_it_was(draftproof: Any, file: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary.txt"
    diary.write_text("Dear diary, this is not a database. " * 50)
    before = diary.read_bytes()
    ended = draftproof("verify", file, "-v", "arithmetic", "--store", f"sqlite:///{diary}")
    assert ended.status == 6
    assert "is not a SQLite database" in ended.err
    assert diary.read_bytes() == before


def test_a_disagreement_ends_the_command_with_1_and_says_so(
    draftproof: Any, trace_file: Callable[..., Path], sqlite_url: str
) -> None:
    file = trace_file(["a", "b"], ["disagree"])
    ended = draftproof("verify", file, "-v", "poison", "--store", sqlite_url, "--json")
    assert ended.status == 1
    assert ended.json["error"] == {
        "code": "disagreement",
        "message": "proved by one and refuted by the other",
        "remedy": None,
    }
    plain = draftproof("verify", file, "-v", "poison", "--store", sqlite_url)
    assert plain.status == 1
    assert "proved by one and refuted by the other" in plain.err
