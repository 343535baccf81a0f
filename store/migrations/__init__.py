"""The schema's history, and how a database is brought to its newest state.

`versions/` reads from `0001` onwards as the story of the schema. A migration holds its own SQL and
imports none of today's tables, so that it still does tomorrow what it did on the day it was written.
There is no way down: it would delete verdicts. An older copy of the database is the way back.

All pending migrations run in one transaction: a database is at one version or at another, never
between them, and of two processes that start at once the second finds the work done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from draftproof.store.connection import DEFAULT_URL, Database, parse_url
from draftproof.store.schema import installed_version, require_compatible, require_unicode
from draftproof.store.tables import SCHEMA_VERSION, VERSION_TABLE

# any constant will do, as long as every version of draftproof takes the same lock
_ADVISORY_LOCK = 0x64726166


@dataclass(frozen=True)
class SchemaStatus:
    """Which schema a database has, and which one this version of draftproof needs."""

    installed: str | None
    """None for a database without our tables."""
    required: str = SCHEMA_VERSION

    @property
    def current(self) -> bool:
        return self.installed == self.required


def status(url: str = DEFAULT_URL) -> SchemaStatus:
    """The schema of the database at `url`. Creates and changes nothing."""
    database = Database(parse_url(url), read_only=True)
    try:
        with database.reading() as connection:
            return SchemaStatus(installed_version(connection))
    finally:
        database.close()


def upgrade(url: str = DEFAULT_URL, *, revision: str = SCHEMA_VERSION) -> SchemaStatus:
    """Creates the schema, or brings an older one to `revision`. Does nothing where it is already there.

    Raises SchemaMismatchError when the database is newer than this version of draftproof.
    """
    database = Database(parse_url(url))
    try:
        return upgrade_database(database, revision=revision)
    finally:
        database.close()


def upgrade_database(database: Database, *, revision: str = SCHEMA_VERSION) -> SchemaStatus:
    """`upgrade`, for a database that is open."""

    def work(connection: Connection) -> SchemaStatus:
        if not database.is_sqlite:
            require_unicode(connection, database.name)
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
        installed = installed_version(connection)
        if installed is not None and installed >= revision:
            if revision == SCHEMA_VERSION:
                require_compatible(installed, database.name)
            return SchemaStatus(installed)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, revision)
        return SchemaStatus(installed_version(connection))

    return database.write(work)
