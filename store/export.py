"""Verdicts as files: JSON lines to keep and check, CSV for spreadsheets, Parquet for data frames.

All three write a stream in memory that does not grow with its length. A file appears under its
name only once it is complete.

A JSON line is what the row says, then the payload byte for byte, so that `leaf` can be recomputed
from the line alone. In CSV, a text cell that a spreadsheet would run as a formula is preceded by an
apostrophe: what models write is not to be executed by whoever opens the file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from draftproof.errors import InputError, MissingExtraError, StoreUnreachableError
from draftproof.store.records import StoredVerdict, parse_verdict
from draftproof.verdict import Verdict

Format = Literal["jsonl", "csv", "parquet"]

COLUMNS = (
    "id",
    "run",
    "trace_digest",
    "trace_id",
    "granularity",
    "position",
    "verifier",
    "sample",
    "revision",
    "supersedes",
    "author",
    "note",
    "proposition",
    "outcome",
    "score",
    "calibrated",
    "guarantee",
    "lossless",
    "reason",
    "wall_seconds",
    "calls",
    "prompt_tokens",
    "output_tokens",
    "recorded_at",
    "generator",
    "source_file",
    "source_line",
    "tree_index",
    "leaf",
    "salt",
)
"""What every format says of a row, in this order; the payload comes after."""

_INTEGERS = {
    "id",
    "position",
    "sample",
    "revision",
    "supersedes",
    "calls",
    "prompt_tokens",
    "output_tokens",
    "source_line",
    "tree_index",
}
_FLOATS = {"score", "wall_seconds"}
_BOOLEANS = {"calibrated", "lossless"}

# Excel and LibreOffice run a cell that starts so; the wide forms are folded to the narrow ones
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_PAYLOAD = ',"verdict":'
_ROW_GROUP = 10_000


def export_verdicts(rows: Iterable[StoredVerdict], path: Path, format: Format) -> int:
    """Writes `rows` to `path`, over what was there; returns how many there were.

    Raises MissingExtraError for Parquet without pyarrow, StoreUnreachableError when the file cannot
    be written: then nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        if format == "parquet":
            written = write_parquet(rows, partial)
        else:
            # newline="": the csv module ends its own lines
            with partial.open("w", encoding="utf-8", newline="") as stream:
                written = _TEXT_WRITERS[format](rows, stream)
        partial.replace(path)
    except OSError as error:
        raise StoreUnreachableError(
            f"{path} cannot be written ({error.strerror or error}).", remedy="Check its folder and the space left."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return written


def write_jsonl(rows: Iterable[StoredVerdict], stream: TextIO) -> int:
    written = 0
    for row in rows:
        facts = json.dumps(_flat(row), separators=(",", ":"), ensure_ascii=False)
        stream.write(f"{facts[:-1]}{_PAYLOAD}{'null' if row.payload is None else row.payload}}}\n")
        written += 1
    return written


def read_jsonl(lines: Iterable[str]) -> Iterator[Verdict]:
    """The verdicts of an export, as they were given. Erased ones are left out.

    Raises InputError for a line that `write_jsonl` cannot have written.
    """
    for number, line in enumerate(lines, start=1):
        payload = payload_of_line(line, number)
        if payload is not None:
            try:
                yield parse_verdict(payload)
            except ValueError as error:
                raise InputError(f"line {number} holds no verdict: {error}") from error


def payload_of_line(line: str, number: int = 1) -> str | None:
    """The payload as it stands in an exported line, byte for byte; None where it was erased."""
    # a quote inside a JSON string is escaped, so that this text can only be the member's name
    facts, found, payload = line.rstrip("\n").partition(_PAYLOAD)
    if not found or not facts.startswith("{") or not payload.endswith("}"):
        raise InputError(f"line {number} is not a line of an export: it has no verdict.")
    return None if payload == "null}" else payload[:-1]


def write_csv(rows: Iterable[StoredVerdict], stream: TextIO) -> int:
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow((*COLUMNS, "payload"))
    written = 0
    for row in rows:
        writer.writerow([*map(_cell, _flat(row).values()), _cell(row.payload)])
        written += 1
    return written


def write_parquet(rows: Iterable[StoredVerdict], path: Path) -> int:
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs the package pyarrow.", remedy="Run `pip install 'draftproof[tables]'`."
        ) from error

    def kind(name: str) -> Any:
        if name in _INTEGERS:
            return pyarrow.int64()
        if name in _FLOATS:
            return pyarrow.float64()
        return pyarrow.bool_() if name in _BOOLEANS else pyarrow.string()

    schema = pyarrow.schema([(name, kind(name)) for name in (*COLUMNS, "payload")])
    written = 0
    with parquet.ParquetWriter(path, schema) as writer:
        stream = iter(rows)
        while group := [{**_flat(row), "payload": row.payload} for row in islice(stream, _ROW_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
            written += len(group)
    return written


def neutral(text: str) -> str:
    """`text` as a cell that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _cell(value: Any) -> Any:
    return neutral(value) if isinstance(value, str) else value


def _flat(row: StoredVerdict) -> dict[str, Any]:
    return {name: _value(row, name) for name in COLUMNS}


def _value(row: StoredVerdict, name: str) -> Any:
    if name == "trace_digest":
        return row.subject.trace_digest
    if name == "granularity":
        return row.subject.granularity.value
    if name == "position":
        return row.subject.position
    value = getattr(row, name)
    return value.hex() if isinstance(value, bytes) else value


_TEXT_WRITERS: dict[str, Callable[[Iterable[StoredVerdict], TextIO], int]] = {"jsonl": write_jsonl, "csv": write_csv}
