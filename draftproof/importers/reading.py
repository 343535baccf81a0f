"""Traces out of files: streaming, bounded in memory, and with every unreadable line accounted for.

    stored bytes ─> decompressed ─> records (lines, array elements, archive members) ─> JSON ─> importer ─> traces
                                       └────────── whatever fails on the way ──────────┴──────> rejects

A record gives all of its traces or none. `Progress` keeps the count: lines = read + skipped + blank + rejected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pydantic import ValidationError

from draftproof.errors import DraftproofError, InputError, UsageError
from draftproof.importers.archive import is_archive, samples
from draftproof.importers.document import peek, records
from draftproof.importers.lines import Raw, lines
from draftproof.importers.record import Importer, Record, RecordError
from draftproof.importers.registry import Format, detect, parse_format
from draftproof.importers.streams import Progress, check_file, decompressed, opened
from draftproof.importers.strict_json import StrictReader
from draftproof.rejects import Reject, RejectCode, RejectSink, excerpt
from draftproof.segment import segmentation_name
from draftproof.trace import Source, Trace

MAX_LINE_BYTES = 16 << 20
"""Of a line or array element. Larger ones are passed over without being held."""
MAX_MEMBER_BYTES = 64 << 20
"""Of a decompressed archive member: a log's sample carries all of its events."""


def read_traces(
    path: str | os.PathLike[str],
    format: str = "auto",
    *,
    limit: int | None = None,
    rejects: RejectSink | None = None,
    segmentation: str | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_member_bytes: int = MAX_MEMBER_BYTES,
    progress: Progress | None = None,
) -> Iterator[Trace]:
    """The traces of a file, or of standard input for `-`.

    Args:
        format: A name of `formats()`, with options as in `prmbench:process=both`; `auto` goes by the first
            record that any format recognises.
        limit: Stop after so many traces.
        rejects: Takes what cannot be read. Without it, the first unreadable line raises InputError.
        segmentation: Replaces the rule by which the format cuts free text into steps.
        progress: Is kept up to date, so that a caller can show it.

    Arguments and the existence of the file are checked at once; the file is opened with the first trace.
    """
    name = os.fspath(path)
    chosen, options = parse_format(format)
    if segmentation is not None:
        segmentation_name(segmentation)
        if chosen is not None and "segmentation" not in chosen.options:
            raise UsageError(
                f"Traces of the format {chosen.name} come split into steps already.", remedy="Leave segmentation out."
            )
    check_file(name)
    reading = _Reading(name, chosen, options, segmentation, rejects, progress or Progress())
    return reading.traces(limit, max_line_bytes, max_member_bytes)


class _Reading:
    """One file on its way."""

    def __init__(
        self,
        file: str,
        chosen: Format | None,
        options: dict[str, str],
        segmentation: str | None,
        rejects: RejectSink | None,
        progress: Progress,
    ) -> None:
        self._file = file
        self._format = chosen
        self._options = options
        self._segmentation = segmentation
        self._rejects = rejects
        self._progress = progress
        self._importer: Importer | None = None
        self._json = StrictReader()

    def traces(self, limit: int | None, max_line_bytes: int, max_member_bytes: int) -> Iterator[Trace]:
        if limit is not None and limit <= 0:
            return
        given = 0
        said_something = False
        for raw in self._raws(max_line_bytes, max_member_bytes):
            self._progress.lines += 1
            said_something = said_something or raw.problem is not None or bool(raw.data.strip())
            for trace in self._read(raw):
                self._progress.traces += 1
                given += 1
                yield trace
                if given == limit:
                    return
        if not said_something:
            self._progress.lines += 1
            self._reject(Raw(1, b""), RejectCode.EMPTY_FILE, "the file holds no records")

    def _raws(self, max_line_bytes: int, max_member_bytes: int) -> Iterator[Raw]:
        if is_archive(self._file):
            self._format = self._format or parse_format("inspect")[0]
            yield from samples(self._file, max_member_bytes, self._progress)
            return
        with opened(self._file, self._progress) as stored:
            plain = decompressed(stored, self._file)
            log = self._format is not None and self._format.name == "inspect"
            whole, document = peek(plain, self._file, log=log)
            if document:
                yield from records(whole, max_line_bytes, max_member_bytes)
            else:
                yield from lines(whole, max_line_bytes)

    def _read(self, raw: Raw) -> list[Trace]:
        """The traces of one record; none, and a reject, when it cannot be read."""
        if raw.problem is not None:
            return self._reject(raw, raw.problem, raw.message)
        if not raw.data.strip():
            self._progress.blank += 1
            return []
        try:
            decoded = self._json.decode(raw.data)
            if not isinstance(decoded.value, dict):
                raise RecordError(RejectCode.NOT_AN_OBJECT, "the record is no JSON object")
            importer, known = self._importer_for(decoded.value)
            if decoded.non_finite and not known.non_finite:
                raise RecordError(RejectCode.NOT_FINITE, "NaN and Infinity are no JSON")
            source = Source(format=known.name, file=self._file, line=raw.number)
            traces = list(importer.parse(decoded.value, source=source))
        except RecordError as error:
            return self._reject(raw, error.code, error.message)
        except ValidationError as error:
            return self._reject(raw, RejectCode.WRONG_TYPE, _first_message(error))
        except DraftproofError:
            raise
        except Exception as error:
            # One record must not end a run of millions; a fault of an importer is kept apart from those of the data.
            return self._reject(raw, RejectCode.IMPORTER_FAILED, f"{type(error).__name__}: {error}"[:300])
        if traces:
            self._progress.read += 1
        else:
            self._progress.skipped += 1
        return traces

    def _importer_for(self, record: Record) -> tuple[Importer, Format]:
        """Made at the first record that shows the file's format; every later record is held to that format."""
        if self._importer is None or self._format is None:
            self._format = self._format or detect(record)
            if self._format is None:
                raise RecordError(
                    RejectCode.UNKNOWN_FORMAT,
                    f"no format has the fields {', '.join(list(record)[:12])!r}; use --format",
                )
            options = dict(self._options)
            if self._segmentation is not None:
                if "segmentation" not in self._format.options:
                    raise UsageError(
                        f"{self._file}: traces of the format {self._format.name} come split into steps already.",
                        remedy="Leave segmentation out.",
                    )
                options["segmentation"] = self._segmentation
            self._importer = self._format.importer(options)
        return self._importer, self._format

    def _reject(self, raw: Raw, code: RejectCode, message: str) -> list[Trace]:
        if self._rejects is None:
            raise InputError(
                f"{self._file}, line {raw.number}: {message} ({code.value}).",
                remedy="Mend the line, or give a rejects file to go on without it.",
            )
        self._progress.rejected += 1
        self._rejects.add(
            Reject(file=self._file, line=raw.number, code=code, message=message, excerpt=excerpt(raw.data.lstrip()))
        )
        return []


def _first_message(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
