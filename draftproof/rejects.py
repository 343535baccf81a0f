"""What could not be read, and why: one `Reject` for each line, kept beside the run.

An unreadable line never stops a run and never vanishes: it is counted, and written to a rejects file with its
line number, a stable code and an excerpt that is safe to print.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from draftproof.errors import UsageError

EXCERPT_CHARACTERS = 160


class RejectCode(StrEnum):
    """Why a line was not read. Codes are stable; messages may be reworded."""

    TOO_LONG = "too_long"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    DUPLICATE_KEY = "duplicate_key"
    NOT_FINITE = "not_finite"
    NUMBER_TOO_LARGE = "number_too_large"
    TOO_DEEP = "too_deep"
    TOO_COMPLEX = "too_complex"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_FORMAT = "unknown_format"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    WRONG_VALUE = "wrong_value"
    EMPTY_TEXT = "empty_text"
    EMPTY_STEPS = "empty_steps"
    EMPTY_STEP = "empty_step"
    TOO_MANY_STEPS = "too_many_steps"
    NO_SOLUTION = "no_solution"
    EMPTY_FILE = "empty_file"
    CUT_STREAM = "cut_stream"
    CORRUPT_STREAM = "corrupt_stream"
    IMPORTER_FAILED = "importer_failed"
    """A fault of ours, kept apart from faults of the data."""


class Reject(BaseModel):
    """One line that gave no trace."""

    model_config = ConfigDict(frozen=True)

    file: str
    line: Annotated[int, Field(ge=1)]
    """As in `Source.line`."""
    code: RejectCode
    message: str
    excerpt: str = ""


class RejectSink(Protocol):
    """Where rejects go."""

    def add(self, reject: Reject) -> None: ...


class RejectsList(list[Reject]):
    """Rejects kept in memory, for small inputs and for tests."""

    def add(self, reject: Reject) -> None:
        self.append(reject)


class RejectsFile:
    """Rejects as JSON Lines. The file appears with the first reject.

    Every reject is one `write` in append mode, so several processes may share the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0
        self._descriptor: int | None = None

    def add(self, reject: Reject) -> None:
        line = reject.model_dump_json().encode() + b"\n"
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._descriptor = os.open(self.path, flags, 0o644)
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise self._cannot_write(str(error)) from error
        if written != len(line):
            raise self._cannot_write("only a part of a line was written: is the disk full?")
        self.count += 1

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RejectsFile:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _cannot_write(self, cause: str) -> UsageError:
        return UsageError(
            f"Cannot write the rejects file {self.path}: {cause}.",
            remedy="Name a rejects file in a folder that can be written.",
        )


def excerpt(data: bytes | str, characters: int = EXCERPT_CHARACTERS) -> str:
    """The beginning of `data` as printable text: whatever a terminal might obey is shown as an escape."""
    if isinstance(data, bytes):
        head = data[: 4 * characters].decode("utf-8", errors="backslashreplace")
    else:
        head = data[:characters]
    shown = "".join(_shown(character) for character in head[:characters])
    return shown[:characters] + ("…" if len(head) > characters or len(data) > 4 * characters else "")


def _shown(character: str) -> str:
    if character == " " or character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
