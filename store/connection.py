"""How a store's database is opened, and how a transaction on it is begun.

SQLite runs in write-ahead mode with `synchronous=NORMAL`. A commit then writes its pages to the
log file before it returns, which hands them to the operating system: they survive the end of the
process, `kill -9` included, because the system and not the process holds them. What NORMAL leaves
out is the fsync of each commit, so that a power cut may take the last commits (each whole or not
at all; the file stays sound). Resuming repeats exactly what is missing, so that trade is safe here.
PostgreSQL keeps its own default and survives a power cut as well.

Writers begin with BEGIN IMMEDIATE: they queue for the one write lock before they read, and never
fail half way because another process wrote between their read and their write.
"""

from __future__ import annotations

import importlib.util
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from draftproof.errors import MissingExtraError, StoreUnreachableError, UsageError
from draftproof.store.failures import describe, is_transient, reported

DEFAULT_URL = "sqlite:///draftproof.db"
BUSY_TIMEOUT_MS = 15_000
WRITE_TRIES = 8
"""How often a transaction is begun before giving up; each waits up to BUSY_TIMEOUT_MS for the lock."""

_POOL: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 5, "max_overflow": 20}

T = TypeVar("T")


def parse_url(url: str) -> URL:
    """`url` with its driver settled. A plain path is a SQLite file."""
    if "://" not in url:
        if not url or url == ":memory:":
            raise UsageError("a store needs a file: one in memory would lose every verdict.")
        return URL.create("sqlite", database=url)
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # the text is not repeated: it may hold a password in a place that cannot be found
        raise UsageError(
            "the store's URL cannot be read.",
            remedy="Write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE, with special characters escaped.",
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise UsageError("a store needs a file: one in memory would lose every verdict.")
        return parsed.set(drivername="sqlite")
    if backend in {"postgresql", "postgres"}:
        if importlib.util.find_spec("psycopg") is None:
            raise MissingExtraError(
                "PostgreSQL needs the package psycopg.", remedy="Run `pip install 'draftproof[postgres]'`."
            )
        return parsed.set(drivername="postgresql+psycopg")
    raise UsageError(
        f"no store of the kind {backend!r}.", remedy="Use sqlite:///FILE or postgresql://USER@HOST/DATABASE."
    )


class Database:
    """An engine, and transactions on it whose errors are `StoreError`s."""

    def __init__(self, url: URL, *, create: bool = True, read_only: bool = False) -> None:
        self.url = url
        self.read_only = read_only
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.name = describe(url)
        self.engine = _sqlite(url, create, read_only) if self.is_sqlite else _postgres(url, read_only)
        # SQLite's transactions see one state anyway
        self._reader = (
            self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database from its first query to its last."""
        with reported(self.url), self._reader.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one transaction, again from the start when another writer was in the way."""
        if self.read_only:
            raise StoreUnreachableError(f"{self.name} was opened read-only.")
        writer = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        with reported(self.url):
            for tries_left in reversed(range(WRITE_TRIES)):
                try:
                    with writer.begin() as connection:
                        return work(connection)
                except exc.DBAPIError as error:
                    if not tries_left or not is_transient(error):
                        raise
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311  # apart, so that they do not meet again
        raise AssertionError("unreachable: the last try returns or raises")

    def close(self) -> None:
        self.engine.dispose()


def _sqlite(url: URL, create: bool, read_only: bool) -> Engine:
    path = Path(url.database or "")
    if not path.exists() and (read_only or not create):
        raise StoreUnreachableError(
            f"{describe(url)} does not exist.", remedy=f"Run `draftproof db init --store {describe(url)}`."
        )
    # `as_uri` escapes ?, # and %, which would otherwise end the file name
    file = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc' if create else 'rw'}"

    def connect() -> sqlite3.Connection:
        try:
            return _open_sqlite(file, read_only)
        except sqlite3.OperationalError as error:
            # A reader makes files beside the database unless writers left theirs. Where it may not, and
            # no writer has left any, nobody is writing: the file can be read as one that stays as it is.
            refused = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
            if not (read_only and refused) or path.with_name(f"{path.name}-wal").exists():
                raise
            return _open_sqlite(f"{file}&immutable=1", read_only)

    engine = create_engine("sqlite:///", creator=connect, hide_parameters=True, **_POOL)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(file: str, read_only: bool) -> sqlite3.Connection:
    # transactions are begun by an event of the engine, never by the driver's guess
    opened = sqlite3.connect(
        file, uri=True, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        opened.execute("PRAGMA foreign_keys=ON")
        opened.execute("PRAGMA synchronous=NORMAL")
        if read_only:
            opened.execute("PRAGMA query_only=ON")
            opened.execute("SELECT 1 FROM sqlite_master").close()  # whether it can be read shows only now
        else:
            _use_write_ahead_log(opened)
    except sqlite3.Error:
        opened.close()
        raise
    return opened


def _use_write_ahead_log(opened: sqlite3.Connection) -> None:
    # Changing the mode does not wait for locks as other statements do, and only the first process changes it.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            opened.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _postgres(url: URL, read_only: bool) -> Engine:
    # a server that was restarted since the last transaction is noticed before the next one begins
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, **_POOL)
    if read_only:
        return engine.execution_options(postgresql_readonly=True)
    return engine
