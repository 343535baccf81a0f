"""Inserting many rows at once, never over one that is there.

    SQLite       one prepared INSERT ... ON CONFLICT DO NOTHING, run for all rows
    PostgreSQL   COPY into a temporary table, then one INSERT ... SELECT ... ON CONFLICT DO NOTHING;
                 where conflicts are rare, COPY into the table itself first, and the above if that fails

SQLAlchemy writes the statements, the driver gets plain tuples: at tens of thousands of rows a
second, a dictionary for each row would cost more than the database does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, column, exc, select, table
from sqlalchemy.dialects import postgresql, sqlite

Row = tuple[Any, ...]

_UNIQUE_VIOLATION = "23505"


def columns_of(into: Table, *, without: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the columns that rows for `into` must give, in order."""
    return tuple(column.name for column in into.columns if column.name not in without)


def insert_new(
    connection: Connection, into: Table, columns: tuple[str, ...], rows: Sequence[Row], *, likely_new: bool = False
) -> int:
    """Inserts the rows that break no UNIQUE constraint of `into`; returns how many those were.

    `likely_new` says that conflicts are rare. It changes the speed, never the outcome.
    """
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(_sqlite_insert(into, columns), list(rows)).rowcount
    if likely_new and _copied_straight(connection, into, columns, rows):
        return len(rows)
    create, move = _postgres_staging(into, columns)
    connection.exec_driver_sql(create)
    _copy(connection, _copy_statement(f"staged_{into.name}", columns), rows)
    return connection.exec_driver_sql(move).rowcount


def _copied_straight(connection: Connection, into: Table, columns: tuple[str, ...], rows: Sequence[Row]) -> bool:
    """Copies all rows into the table itself, which takes half the time; False when one was there already."""
    savepoint = connection.begin_nested()
    try:
        _copy(connection, _copy_statement(into.name, columns), rows)
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _UNIQUE_VIOLATION:
            raise
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _copy(connection: Connection, statement: str, rows: Sequence[Row]) -> None:
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as stream:
            for row in rows:
                stream.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        # SQLAlchemy has no COPY and sees none of its errors; this gives them the form of all others
        raise exc.DBAPIError(statement, None, error, connection_invalidated=driver.closed) from error


@cache
def _sqlite_insert(into: Table, columns: tuple[str, ...]) -> str:
    statement = sqlite.insert(into).on_conflict_do_nothing()
    return str(statement.compile(dialect=sqlite.dialect(), column_keys=list(columns)))


@cache
def _postgres_staging(into: Table, columns: tuple[str, ...]) -> tuple[str, str]:
    """The statements that make a temporary table for rows of `into`, and that move them from there."""
    staged = table(f"staged_{into.name}")
    move = postgresql.insert(into).from_select(
        list(columns), select(*(column(name) for name in columns)).select_from(staged)
    )
    return (
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged.name} ON COMMIT DELETE ROWS"  # noqa: S608  # our own names
        f" AS SELECT {_names(columns)} FROM {into.name} WITH NO DATA",
        str(move.on_conflict_do_nothing().compile(dialect=postgresql.dialect())),  # type: ignore[no-untyped-call]
    )


def _copy_statement(name: str, columns: tuple[str, ...]) -> str:
    return f"COPY {name} ({_names(columns)}) FROM STDIN"


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
