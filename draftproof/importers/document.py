"""Records of a JSON document: the elements of a top-level array, of an object's `samples`, or whole objects.

The document is never held: a scanner that knows strings and brackets, and nothing else of JSON, finds where each
record begins and ends; only that record is kept, up to a limit. Numbers count records from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from draftproof.importers.lines import KEPT_OF_A_LONG_ONE, Raw, too_long
from draftproof.importers.record import RecordError
from draftproof.importers.streams import StreamError, prepended
from draftproof.importers.strict_json import StrictReader
from draftproof.rejects import RejectCode

_STRUCTURE = re.compile(rb'["\[\]{},]')
_STRING_END = re.compile(rb'["\\]')
_SAMPLES_KEY = re.compile(rb'"samples"\s*:\s*\Z')

_COMPRESSION = re.compile(r"\.(?:gz|gzip|zst|zstd)\Z")
_PEEK = 1 << 20
_KEY_LENGTH = 64

_WHOLE, _ELEMENTS, _SAMPLES, _SKIPPING = 0, 1, 2, -1
"""Where records are: at the top, in a top-level array, in `samples` of a log; or nowhere until the log ends."""


def peek(chunks: Iterator[bytes], path: str, *, log: bool) -> tuple[Iterator[bytes], bool]:
    """The stream, and whether it is a document rather than JSON Lines.

    A name in `.jsonl` settles it, and so does a first line that is an object of its own: many data sets keep JSON
    Lines in files called `.json`. A stream that breaks already here breaks for the reader of what is returned.
    """
    head = b""
    rest = chunks
    try:
        for chunk in chunks:
            head += chunk
            if len(head) >= _PEEK or b"\n" in head.lstrip():
                break
    except StreamError as error:
        rest = _broken(error)
    return prepended(head, rest), _looks_like_document(head.lstrip(), path.lower(), log)


def _looks_like_document(head: bytes, path: str, log: bool) -> bool:
    name = _COMPRESSION.sub("", path)
    if name.endswith((".jsonl", ".ndjson")):
        return False
    if log or head.startswith(b"["):
        return True
    return head.startswith(b"{") and name.endswith(".json") and not _is_record(head.partition(b"\n")[0])


def _broken(error: StreamError) -> Iterator[bytes]:
    yield b""
    raise error


def _is_record(line: bytes) -> bool:
    try:
        value = StrictReader().decode(line).value
    except RecordError:
        return False
    return isinstance(value, dict) and not ("eval" in value and "samples" in value)


def records(chunks: Iterator[bytes], limit: int, sample_limit: int) -> Iterator[Raw]:
    """Every record; `sample_limit` is for those of a log, each of which holds all events of a sample.

    Text between records that is no JSON becomes a part of the next one, which then fails to parse.
    """
    scanner = _Scanner(limit, sample_limit)
    try:
        for chunk in chunks:
            yield from scanner.feed(chunk)
    except StreamError as error:
        yield Raw(scanner.number, scanner.head(), error.code, error.message)
        return
    yield from scanner.finish()


class _Scanner:
    def __init__(self, limit: int, sample_limit: int) -> None:
        self.number = 1
        self._limit = limit
        self._sample_limit = sample_limit
        self._where = _WHOLE
        self._depth = 0
        self._in_string = False
        self._skip_one = False
        self._parts: list[bytes] = []
        self._length = 0
        self._asked = False

    def head(self) -> bytes:
        return b"".join(self._parts)[:KEPT_OF_A_LONG_ONE].strip()

    def feed(self, chunk: bytes) -> Iterator[Raw]:
        kept = position = 0
        if self._skip_one and chunk:
            self._skip_one, position = False, 1
        while position < len(chunk):
            found = (_STRING_END if self._in_string else _STRUCTURE).search(chunk, position)
            if found is None:
                break
            position = found.end()
            character = found[0]
            if character == b"\\":
                position += 1
                self._skip_one = position > len(chunk)
            elif character == b'"':
                self._in_string = not self._in_string
            elif character in b"[{":
                self._depth += 1
                if character == b"[" and self._enters(chunk, kept, found.start()):
                    self._forget()
                    kept = position
            elif character == b",":
                if self._where > 0 and self._depth == self._where:
                    yield from self._ended(chunk[kept : found.start()])
                    kept = position
            elif self._depth > 0:
                self._depth -= 1
                if self._where > 0 and self._depth == self._where - 1:
                    yield from self._ended(chunk[kept : found.start()])
                    if character == b"}":
                        yield Raw(self.number, b"}", RejectCode.INVALID_JSON, "an array is closed like an object")
                        self.number += 1
                    self._where = _SKIPPING if self._depth else _WHOLE
                    kept = position
                elif self._depth == 0 and self._where == _SKIPPING:
                    self._forget()
                    self._where, kept = _WHOLE, position
                elif self._depth == 0 and self._where == _WHOLE:
                    yield from self._ended(chunk[kept:position])
                    kept = position
        self._keep(chunk[kept:])

    def finish(self) -> Iterator[Raw]:
        if self._depth or self._in_string:
            yield Raw(self.number, self.head(), RejectCode.CUT_STREAM, "the JSON document ends early")
        else:
            yield from self._ended(b"")

    def _enters(self, chunk: bytes, kept: int, bracket: int) -> bool:
        """Whether the array just opened holds the records. Copies no more of the chunk than it must look at."""
        if self._where != _WHOLE or self._depth > 2:
            return False
        if self._depth == 1 and not b"".join([*self._parts, chunk[kept:bracket]]).strip():
            self._where = _ELEMENTS
        elif self._depth == 2 and not self._asked and _SAMPLES_KEY.search(self._last_bytes(chunk, kept, bracket)):
            # Asked once a record: joining the record's parts at each of its arrays would cost quadratic time.
            self._asked = True
            if b'"eval"' in b"".join([*self._parts, chunk[kept:bracket]]):
                self._where, self._limit = _SAMPLES, self._sample_limit
        return self._where != _WHOLE

    def _last_bytes(self, chunk: bytes, kept: int, bracket: int) -> bytes:
        if bracket - kept >= _KEY_LENGTH:
            return chunk[bracket - _KEY_LENGTH : bracket]
        return b"".join([*(part[-_KEY_LENGTH:] for part in self._parts[-_KEY_LENGTH:]), chunk[kept:bracket]])

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        if self._where == _SKIPPING:
            self._forget()
        elif self._length > self._limit:
            self._parts = [b"".join([*self._parts, part])[:KEPT_OF_A_LONG_ONE]]
        elif part:
            self._parts.append(part)

    def _forget(self) -> None:
        self._parts, self._length, self._asked = [], 0, False

    def _ended(self, part: bytes) -> Iterator[Raw]:
        self._keep(part)
        data, length = b"".join(self._parts), self._length
        self._forget()
        if length > self._limit:
            yield Raw(self.number, data, RejectCode.TOO_LONG, too_long(length, self._limit))
        elif data.strip():
            yield Raw(self.number, data)
        else:
            return
        self.number += 1
