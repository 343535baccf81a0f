"""Whether a database has the schema that this version reads and writes."""

from __future__ import annotations

from sqlalchemy import Connection, column, inspect, select, table

from draftproof.errors import SchemaMismatchError
from draftproof.store.tables import SCHEMA_VERSION, VERSION_TABLE, metadata


def installed_version(connection: Connection) -> str | None:
    """The schema's version; None where there are no tables of ours.

    Raises SchemaMismatchError for a database that has tables of our names and no version.
    """
    present = set(inspect(connection).get_table_names())
    if VERSION_TABLE in present:
        found = connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
        return None if found is None else str(found)
    taken = sorted(present & set(metadata.tables))
    if taken:
        raise SchemaMismatchError(
            f"the database has a table {taken[0]!r} that draftproof did not make.", remedy="Name another database."
        )
    return None


def require_unicode(connection: Connection, name: str) -> None:
    """Raises SchemaMismatchError for a PostgreSQL database that cannot hold every text."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise SchemaMismatchError(
            f"{name} keeps text as {encoding}, and verdicts need UTF8.",
            remedy="Create it anew with `CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0`.",
        )


def require_compatible(installed: str | None, name: str) -> None:
    """Raises SchemaMismatchError unless `installed` is the schema of this version. `name` is for the message."""
    if installed == SCHEMA_VERSION:
        return
    if installed is None:
        raise SchemaMismatchError(
            f"{name} has no verdict store in it.", remedy=f"Run `draftproof db init --store {name}`."
        )
    if installed < SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"{name} has schema {installed}, this version of draftproof needs {SCHEMA_VERSION}.",
            remedy=f"Run `draftproof db upgrade --store {name}`; every row is kept.",
        )
    raise SchemaMismatchError(
        f"{name} has schema {installed}, this version of draftproof knows {SCHEMA_VERSION} at most.",
        remedy="Install the newer draftproof that wrote it: `pip install --upgrade draftproof`.",
    )
