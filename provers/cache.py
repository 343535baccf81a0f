"""Claims that were settled before: in memory, and in one SQLite file per user.

An entry says that a statement was proved or refuted, by which theorem, over which library and kernel.
Time-outs and failures are never stored. The file is private, and each row carries a keyed digest, so a row
that this user's draftproof did not write is not believed; a file that cannot be read is thrown away. The
cache may lose anything at any time, but it never answers what the kernel did not.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from draftproof.provers.toolchain import is_private

_SCHEMA = "CREATE TABLE IF NOT EXISTS settled (key TEXT PRIMARY KEY, theorem TEXT NOT NULL, seal BLOB NOT NULL)"
_QUERY_AT_ONCE = 500
_OPENING_ATTEMPTS = 5
STORED = ("proved", "refuted", "undefined")
"""Theorems whose answers are kept."""


@dataclass(frozen=True, slots=True)
class Key:
    """What an answer depends on."""

    statement: str
    prelude_digest: str
    toolchain: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([self.statement, self.prelude_digest, self.toolchain]).encode()).hexdigest()


class ProofCache:
    """Safe for several threads and several processes at once."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` holds the file; None keeps answers in memory alone."""
        self._memory: dict[str, str] = {}
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._secret = b""
        if folder is not None:
            with contextlib.suppress(
                OSError, sqlite3.Error
            ):  # a folder that cannot be used costs the file, not the answers
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if is_private(folder):
                    self._secret = _secret(folder / "proofs.key")
                    self._file = _opened(folder / "proofs.sqlite")

    def get(self, keys: Sequence[Key]) -> dict[Key, str]:
        """The theorems that settled those of the keys that are known."""
        by_digest = {key.digest: key for key in keys}
        with self._lock:
            found = {digest: self._memory[digest] for digest in by_digest if digest in self._memory}
            found.update(self._read([digest for digest in by_digest if digest not in found]))
            self._memory.update(found)
        return {by_digest[digest]: theorem for digest, theorem in found.items()}

    def put(self, answers: Mapping[Key, str]) -> None:
        rows = [(key.digest, theorem) for key, theorem in answers.items() if theorem in STORED]
        with self._lock:
            self._memory.update(rows)
            if self._file is None or not rows:
                return
            with contextlib.suppress(sqlite3.Error), self._file:  # full disk, lock: the answer is not kept
                self._file.executemany(
                    "INSERT OR REPLACE INTO settled VALUES (?, ?, ?)",
                    [(digest, theorem, self._seal(digest, theorem)) for digest, theorem in rows],
                )

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _read(self, digests: list[str]) -> dict[str, str]:
        if self._file is None:
            return {}
        found: dict[str, str] = {}
        for start in range(0, len(digests), _QUERY_AT_ONCE):
            some = digests[start : start + _QUERY_AT_ONCE]
            marks = ",".join("?" * len(some))
            try:
                rows = self._file.execute(f"SELECT * FROM settled WHERE key IN ({marks})", some).fetchall()  # noqa: S608
            except sqlite3.Error:
                return found
            for key, theorem, seal in rows:
                if (
                    theorem in STORED
                    and isinstance(seal, bytes)
                    and hmac.compare_digest(seal, self._seal(key, theorem))
                ):
                    found[key] = theorem
        return found

    def _seal(self, digest: str, theorem: str) -> bytes:
        return hmac.digest(self._secret, f"{digest} {theorem}".encode(), "sha256")


def _secret(path: Path) -> bytes:
    """This user's key. Made once: of several processes that make it at a time, one wins and all read the winner's."""
    if path.exists() and path.stat().st_size != 32:
        path.unlink()
    if not path.exists():
        scratch = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(scratch)
        scratch.unlink()
    return path.read_bytes()


def _opened(path: Path) -> sqlite3.Connection | None:
    """The database; one that is not readable is removed and made anew."""
    for _ in range(_OPENING_ATTEMPTS):
        connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
        try:
            path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(_SCHEMA)
            connection.execute("SELECT key, theorem, seal FROM settled LIMIT 1").fetchall()
            connection.commit()
            return connection
        except sqlite3.OperationalError:
            # somebody else is making the file, or the disk refuses: wait a little, then do without
            connection.close()
            time.sleep(0.05)
        except sqlite3.DatabaseError:
            connection.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    return None
