"""The migrations build what `tables.py` says, from any older schema, and lose no row."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, make_url

import draftproof.store.migrations as migrations
from draftproof.errors import SchemaMismatchError, StoreUnreachableError
from draftproof.store.connection import Database, parse_url
from draftproof.store.migrations import SchemaStatus, status, upgrade
from draftproof.store.records import Skip
from draftproof.store.tables import SCHEMA_VERSION, VERSION_TABLE, metadata
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdict, step_pair

TRACES = made_traces(3, steps=2)
OLDEST = "0001"


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return ScriptDirectory.from_config(config)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    if url.startswith("sqlite"):
        upgrade(url, revision=OLDEST)  # a file to connect to
    database = Database(parse_url(url))
    yield database.engine
    database.close()


def test_the_newest_migration_is_what_the_code_needs() -> None:
    assert script().get_heads() == [SCHEMA_VERSION]
    assert script().get_bases() == [OLDEST]


def test_migrations_build_what_the_tables_say(url: str, engine: Engine) -> None:
    upgrade(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        inspector = inspect(connection)
        assert set(inspector.get_view_names()) == {"accounting", "conservation", "current_verdicts", "run_slots"}
        for table in metadata.tables.values():
            unique = {
                frozenset(each["column_names"])
                for each in [*inspector.get_unique_constraints(table.name), *inspector.get_indexes(table.name)]
                if each.get("unique", True)
            }
            named = {frozenset(c.name for c in each.columns) for each in table.constraints if "uq" in str(each.name)}
            assert named <= unique
            assert inspector.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]


def test_the_comparison_sees_a_difference(url: str, engine: Engine) -> None:
    """Negative control: a dropped index and an added column are found."""
    upgrade(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX uq_verdicts_supersedes")
        connection.exec_driver_sql("ALTER TABLE traces ADD COLUMN extra INTEGER")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        kinds = {change[0] for change in compare_metadata(context, metadata)}
    assert kinds == {"add_index", "remove_column"}


def test_an_empty_database_of_the_oldest_schema_is_upgraded(url: str) -> None:
    assert upgrade(url, revision=OLDEST) == SchemaStatus(OLDEST)
    assert status(url) == SchemaStatus(OLDEST)
    assert not status(url).current
    assert upgrade(url).current
    with VerdictStore.open(url, create=False) as store:
        assert store.runs() == []


def test_rows_of_the_oldest_schema_are_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(url, revision=OLDEST)
    with monkeypatch.context() as patch:  # the tables are the same, only the views came later
        patch.setattr("draftproof.store.schema.SCHEMA_VERSION", OLDEST)
        with VerdictStore.open(url) as old:
            run = old.begin_run("old", verifiers=[ARITHMETIC])
            old.add_traces(run.id, TRACES)
            old.add([made_verdict(pair) for pair in old.missing(TRACES, [ARITHMETIC])], run.id)
            rows = list(old.iter_verdicts())
    upgrade(url)
    with VerdictStore.open(url) as new:
        assert list(new.iter_verdicts()) == rows
        assert [total.accepted for total in new.finish_run(run.id)] == [6]


def test_upgrading_twice_changes_nothing(url: str) -> None:
    assert upgrade(url) == upgrade(url) == SchemaStatus(SCHEMA_VERSION)


def test_an_older_schema_is_refused_with_the_command_that_helps(url: str) -> None:
    upgrade(url, revision=OLDEST)
    with pytest.raises(SchemaMismatchError, match=r"has schema 0001.*draftproof db upgrade --store "):
        VerdictStore.open(url)
    assert status(url).installed == OLDEST  # opening it changed nothing


def test_a_newer_schema_is_refused(url: str) -> None:
    upgrade(url)
    database = Database(parse_url(url))
    database.write(lambda c: c.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    database.close()
    for opening in (lambda: VerdictStore.open(url).close(), lambda: upgrade(url)):
        with pytest.raises(SchemaMismatchError, match=r"has schema 9999.*newer draftproof"):
            opening()


def test_a_database_of_somebody_else_is_left_alone(url: str) -> None:
    database = Database(parse_url(url))
    database.write(lambda c: c.exec_driver_sql("CREATE TABLE runs (kilometres INTEGER)"))
    database.close()
    for opening in (lambda: VerdictStore.open(url).close(), lambda: upgrade(url)):
        with pytest.raises(SchemaMismatchError, match="a table 'runs' that draftproof did not make"):
            opening()


def test_a_part_of_the_schema_that_is_gone_is_named(store: VerdictStore) -> None:
    run = store.begin_run("test")
    store._database.write(lambda c: c.exec_driver_sql("ALTER TABLE skips RENAME TO misplaced"))
    with pytest.raises(SchemaMismatchError, match=r"lacks a part of the schema.*draftproof db upgrade"):
        store.record_skips(run.id, [Skip(step_pair(TRACES[0]), "x")])


def test_a_database_without_tables_is_made_only_when_asked(url: str) -> None:
    kind = StoreUnreachableError if url.startswith("sqlite") else SchemaMismatchError
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(kind, match="draftproof db init --store"):
            VerdictStore.open(url, **options)
    if not url.startswith("sqlite"):
        assert status(url) == SchemaStatus(None)
    with VerdictStore.open(url) as store:
        assert store.runs() == []


def test_an_empty_sqlite_file_is_an_empty_database(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    assert status(str(path)) == SchemaStatus(None)
    with pytest.raises(SchemaMismatchError, match="no verdict store in it"):
        VerdictStore.open(str(path), create=False)
    with VerdictStore.open(str(path)) as store:
        assert store.runs() == []


def test_processes_that_start_at_once_make_one_schema(url: str) -> None:
    code = "import sys; from draftproof.store.verdict_store import VerdictStore; VerdictStore.open(sys.argv[1]).close()"
    processes = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert status(url).current


@pytest.mark.postgres
def test_a_database_that_cannot_hold_every_text_is_refused(postgres_url: str) -> None:
    server = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        with pytest.raises(SchemaMismatchError, match="keeps text as LATIN1"):
            VerdictStore.open(make_url(postgres_url).set(database="latin").render_as_string(hide_password=False))
        connection.exec_driver_sql("DROP DATABASE latin WITH (FORCE)")
    server.dispose()
