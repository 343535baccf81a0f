"""Inserting many rows at once, never over one that is there.

    SQLite       one prepared INSERT ... ON CONFLICT DO NOTHING, run for all rows
    PostgreSQL   COPY into a temporary table, then one INSERT ... SELECT ... ON CONFLICT DO NOTHING

SQLAlchemy writes the statements, the driver gets plain tuples: at tens of thousands of rows a
second, a dictionary for each row would cost more than the database does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, column, select, table
from sqlalchemy.dialects import postgresql, sqlite

Row = tuple[Any, ...]


def columns_of(into: Table, *, without: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the columns that rows for `into` must give, in order."""
    return tuple(column.name for column in into.columns if column.name not in without)


def insert_new(connection: Connection, into: Table, columns: tuple[str, ...], rows: Sequence[Row]) -> int:
    """Inserts the rows that break no UNIQUE constraint of `into`; returns how many those were."""
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(_sqlite_insert(into, columns), list(rows)).rowcount
    create, copy, move = _postgres_statements(into, columns)
    driver = connection.connection.driver_connection
    if driver is None:  # pragma: no cover  # only after the connection was detached, which nothing here does
        raise RuntimeError("the connection has no driver behind it")
    connection.exec_driver_sql(create)
    with driver.cursor() as cursor, cursor.copy(copy) as stream:
        for row in rows:
            stream.write_row(row)
    return connection.exec_driver_sql(move).rowcount


@cache
def _sqlite_insert(into: Table, columns: tuple[str, ...]) -> str:
    statement = sqlite.insert(into).on_conflict_do_nothing()
    return str(statement.compile(dialect=sqlite.dialect(), column_keys=list(columns)))


@cache
def _postgres_statements(into: Table, columns: tuple[str, ...]) -> tuple[str, str, str]:
    names = ", ".join(f'"{name}"' for name in columns)
    staged = f"staged_{into.name}"
    move = postgresql.insert(into).from_select(
        list(columns), select(*(column(name) for name in columns)).select_from(table(staged))
    )
    return (
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ON COMMIT DELETE ROWS"  # noqa: S608  # names of our own tables
        f" AS SELECT {names} FROM {into.name} WITH NO DATA",
        f"COPY {staged} ({names}) FROM STDIN",
        str(move.on_conflict_do_nothing().compile(dialect=postgresql.dialect())),  # type: ignore[no-untyped-call]
    )
