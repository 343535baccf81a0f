"""What a database's error means for the person who ran the command.

Drivers raise dozens of classes; a reader needs the cause, the database's name without its
password, and what to do. Everything that the machine did wrong becomes a `StoreError`; errors that
only a bug of ours can cause (wrong SQL) pass through as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc
from sqlalchemy.engine import URL

from draftproof.errors import IntegrityError, SchemaMismatchError, StoreError, StoreUnreachableError

RESUME = "Run the same command again once it is back: finished work is kept and is not repeated."

_SQLITE_BUSY = {"SQLITE_BUSY", "SQLITE_LOCKED"}
# serialization_failure, deadlock_detected, lock_not_available: the same transaction may succeed next time
_POSTGRES_RETRY = {"40001", "40P01", "55P03"}


def describe(url: URL) -> str:
    """The database for messages: never with a password, whether it stands before the host or in the query."""
    url = url.difference_update_query(["password", "sslpassword"])
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def is_transient(error: exc.DBAPIError) -> bool:
    """Whether another process was in the way, so that the transaction is worth repeating."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _sqlite_code(cause) in _SQLITE_BUSY
    return _sqlstate(cause) in _POSTGRES_RETRY


@contextmanager
def reported(url: URL) -> Iterator[None]:
    """Turns the driver's errors inside the block into `StoreError`s about `url`."""
    try:
        yield
    except exc.DBAPIError as error:
        raise translate(error, url) from error


def translate(error: exc.DBAPIError, url: URL) -> Exception:
    """The error to raise in place of `error`: a `StoreError`, or `error` where the fault is our own."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _translate_sqlite(cause, url) or error
    found = _translate_postgres(cause, url)
    if found is None and error.connection_invalidated:
        found = _gone(url, str(cause))
    return found or error


def _translate_sqlite(cause: sqlite3.Error, url: URL) -> StoreError | None:
    code = _sqlite_code(cause)
    where = describe(url)
    if code in _SQLITE_BUSY:
        return StoreUnreachableError(
            f"{where} stayed locked by another process.",
            remedy="Wait for the other command to end, or use PostgreSQL for many writers.",
        )
    if code == "SQLITE_FULL":
        return StoreUnreachableError(
            f"{where}: the disk is full.", remedy="Free some space and run the same command again: it resumes."
        )
    if code == "SQLITE_READONLY":
        return StoreUnreachableError(
            f"{where} is read-only.", remedy="Give write permission to the file and its folder, or name another store."
        )
    if code in {"SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"}:
        return StoreUnreachableError(
            f"{where} cannot be opened ({cause}).",
            remedy="Check that its folder exists and that you may write there.",
        )
    if code == "SQLITE_NOTADB":
        return StoreUnreachableError(
            f"{where} is not a SQLite database.", remedy="Name another file; this one was not touched."
        )
    if code == "SQLITE_CORRUPT":
        return IntegrityError(
            f"{where} is damaged ({cause}).", remedy="Restore it from a copy; `sqlite3 FILE .recover` may save rows."
        )
    if code == "SQLITE_IOERR":
        return StoreUnreachableError(f"{where} cannot be read or written ({cause}).", remedy=RESUME)
    if "no such table" in str(cause) or "no such column" in str(cause):
        return _schema_gone(where, cause)
    return None


def _translate_postgres(cause: BaseException | None, url: URL) -> StoreError | None:
    state = _sqlstate(cause)
    where = describe(url)
    text = _without_password(str(cause).strip().partition("\n")[0], url)  # the rest repeats the statement
    if state in {"42P01", "42703"}:  # undefined table, undefined column
        return _schema_gone(where, text)
    if state in {"42501", "25006", "28000", "28P01"}:  # privilege, read-only transaction, authorization
        return StoreUnreachableError(
            f"{where} refuses this user ({text}).", remedy="Check the user's password and its rights."
        )
    if state == "3D000":
        return StoreUnreachableError(f"{where} does not exist ({text}).", remedy="Create the database first.")
    if state is not None and state.startswith("53"):  # disk full, out of memory, too many connections
        return StoreUnreachableError(
            f"{where} is out of resources ({text}).", remedy="Free some and run the same command again: it resumes."
        )
    if state in _POSTGRES_RETRY:
        return StoreUnreachableError(f"{where} stayed locked by other writers ({text}).", remedy=RESUME)
    if state is not None and (state.startswith(("08", "57")) or state == "XX000"):
        return _gone(url, text)
    if state is None and type(cause).__name__ in {"OperationalError", "ConnectionTimeout"}:
        return _gone(url, text)
    return None


def _gone(url: URL, text: str) -> StoreUnreachableError:
    return StoreUnreachableError(f"{describe(url)} cannot be reached ({_without_password(text, url)}).", remedy=RESUME)


def _schema_gone(where: str, cause: object) -> SchemaMismatchError:
    return SchemaMismatchError(
        f"{where} lacks a part of the schema that this version needs ({cause}).",
        remedy=f"Run `draftproof db upgrade --store {where}`.",
    )


def _sqlite_code(cause: sqlite3.Error) -> str:
    """The primary result code: SQLITE_BUSY_SNAPSHOT and the like are told by their first two words."""
    name: str = getattr(cause, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])


def _sqlstate(cause: BaseException | None) -> str | None:
    state: str | None = getattr(cause, "sqlstate", None)
    return state


def _without_password(text: str, url: URL) -> str:
    for secret in (url.password, url.query.get("password")):
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "***")
    return text
