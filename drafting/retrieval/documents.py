"""Documents out of files, read in parts: a text is never held whole, and one that is no text is a reject.

Plain text and Markdown are one document a file; its id is the file's name in the corpus, its title the first Markdown
heading or the file's name. JSON Lines (or a JSON array) hold one document a line, with an optional id and title; a
document without an id is named by the digest of its content. Files may be compressed with gzip or zstd.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from draftproof.drafting.retrieval.inputs import Input, is_regular
from draftproof.errors import UsageError
from draftproof.importers.document import peek, records
from draftproof.importers.lines import Raw, lines
from draftproof.importers.record import RecordError, content_id, optional_text, text
from draftproof.importers.streams import FileRefusedError, Progress, StreamError, decompressed, opened
from draftproof.importers.strict_json import StrictReader
from draftproof.rejects import Reject, RejectCode, excerpt

MAX_RECORD_BYTES = 64 << 20
"""Of one line of JSON. A longer document belongs into a text file, which is read in parts."""
MAX_TITLE = 400
"""Characters of a title that are kept."""
_CONTROLS = dict.fromkeys((*range(9), *range(14, 32), 0x7F, 0xFFFD))
_MOST_CONTROLS = 0.02
_HEADING = re.compile(r"^\ufeff?#{1,6}[ \t]+(\S.*?)[ \t]*#*[ \t]*$", re.MULTILINE)

_REMEDIES = {
    RejectCode.TOO_LONG: "put it into a text file of its own, which is read in parts",
    RejectCode.INVALID_UTF8: "convert it first (iconv -t UTF-8), or take it out",
    RejectCode.MISSING_FIELD: "name the field with --fields text=NAME",
    RejectCode.WRONG_TYPE: "name the right fields with --fields, or mend the line",
    RejectCode.CUT_STREAM: "get the file again",
    RejectCode.CORRUPT_STREAM: "get the file again",
}


@dataclass(frozen=True)
class Fields:
    """What the fields of a JSON document are called."""

    id: str = "id"
    title: str = "title"
    text: str = "text"

    @classmethod
    def parse(cls, given: str) -> Fields:
        """From `id=_id,text=body`: what is not named keeps its name."""
        names: dict[str, str] = {}
        for part in given.split(","):
            field, equals, name = part.strip().partition("=")
            if field not in ("id", "title", "text") or not equals or not name or field in names:
                raise UsageError(
                    f"The fields {given!r} cannot be read at {part.strip()!r}.",
                    remedy="Write them like id=_id,title=name,text=body; each may be left out.",
                )
            names[field] = name
        return cls(**names)

    def __str__(self) -> str:
        return f"id={self.id},title={self.title},text={self.text}"


@dataclass
class Document:
    """One document on its way into a corpus."""

    id: str | None
    """None for one that its content will name."""
    title: str
    parts: Iterator[str]
    """Its text. Raises RecordError where the rest cannot be read: then nothing of it counts."""
    line: int
    head: bytes = b""
    """Its beginning, for a reject."""

    def name(self, digest: str) -> str:
        """Its id; for one without, made from `digest`, that of its text."""
        return self.id or content_id(self.title, digest)


def read_documents(
    given: Input, fields: Fields, reject: Callable[[Reject], None], count: Callable[[], None], progress: Progress
) -> Iterator[Document]:
    """The documents of one file. `count` is called for every line that says something, or once for a text file;
    each becomes a document or a reject."""
    name = str(given.path)
    try:
        if not is_regular(given.path):
            raise FileRefusedError(
                f"{name} cannot be read as a file", code="file_unreadable", remedy="It may be a broken link or a pipe."
            )
        with opened(name, progress) as stored:
            plain = decompressed(stored, name)
            if given.kind == "records":
                yield from _records(plain, given, fields, reject, count)
            else:
                yield from _text(plain, given, count)
    except FileRefusedError as error:
        count()
        reject(Reject(file=name, line=1, code=RejectCode.UNKNOWN_FORMAT, message=f"{error.message} {error.remedy}"))


def as_reject(given: Input, line: int, error: RecordError, head: bytes) -> Reject:
    """What could not be read, with what to do about it."""
    message = f"{error.message}; {_REMEDIES.get(error.code, 'mend it, or take it out')}"
    return Reject(file=str(given.path), line=line, code=error.code, message=message, excerpt=excerpt(head))


def _records(
    plain: Iterator[bytes],
    given: Input,
    fields: Fields,
    reject: Callable[[Reject], None],
    count: Callable[[], None],
) -> Iterator[Document]:
    whole, listed = peek(plain, str(given.path), log=False)
    reader = StrictReader()
    seen = False
    for raw in records(whole, MAX_RECORD_BYTES, MAX_RECORD_BYTES) if listed else lines(whole, MAX_RECORD_BYTES):
        if raw.problem is None and not raw.data.strip():
            continue
        seen = True
        count()
        try:
            yield _record(raw, reader, fields)
        except RecordError as error:
            reject(as_reject(given, raw.number, error, raw.data.lstrip()))
    if not seen:
        count()
        reject(as_reject(given, 1, RecordError(RejectCode.EMPTY_FILE, "the file holds no documents"), b""))


def _record(raw: Raw, reader: StrictReader, fields: Fields) -> Document:
    if raw.problem is not None:
        raise RecordError(raw.problem, raw.message)
    value = reader.decode(raw.data).value
    if not isinstance(value, dict):
        raise RecordError(RejectCode.NOT_AN_OBJECT, "a document must be a JSON object")
    if fields.text not in value:
        raise RecordError(
            RejectCode.MISSING_FIELD,
            f"there is no field {fields.text!r} among {', '.join(list(value)[:12])!r}",
        )
    content = text(value, fields.text)
    title = " ".join((optional_text(value, fields.title) or "").split())[:MAX_TITLE]
    named = (optional_text(value, fields.id) or "").strip() or None
    return Document(named, title, _sound(iter([content])), raw.number, raw.data.lstrip()[:1024])


def _text(plain: Iterator[bytes], given: Input, count: Callable[[], None]) -> Iterator[Document]:
    document = Document(given.name, Path(given.name).name, iter(()), 1)
    head = b""
    try:
        for chunk in plain:
            head += chunk
            if len(head) >= 1 << 16:
                break
    except StreamError as error:
        count()
        document.parts = _broken(RecordError(error.code, error.message))
        yield document
        return
    count()
    document.head = head[:1024]
    if given.kind == "markdown":
        heading = _HEADING.search(head[: 1 << 16].decode("utf-8", errors="ignore").replace("\r\n", "\n"))
        document.title = heading[1][:MAX_TITLE] if heading else document.title
    document.parts = _sound(_decoded(head, plain))
    yield document


def _broken(error: RecordError) -> Iterator[str]:
    yield from ()
    raise error


def _decoded(head: bytes, plain: Iterator[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    try:
        yield decoder.decode(head)
        read = len(head)
        for chunk in plain:
            yield decoder.decode(chunk)
            read += len(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise RecordError(
            RejectCode.INVALID_UTF8,
            f"no text in UTF-8: {error.reason} near byte {read + error.start:,}",
        ) from error
    except StreamError as error:
        raise RecordError(error.code, error.message) from error


def _sound(parts: Iterator[str]) -> Iterator[str]:
    """The parts, as long as they are text: no NUL, and few other control characters."""
    length = controls = 0
    for part in parts:
        if "\x00" in part:
            raise RecordError(RejectCode.NUL_CHARACTER, "no text: it holds NUL characters, as binary files do")
        length += len(part)
        controls += len(part) - len(part.translate(_CONTROLS))
        if controls > 8 and controls > _MOST_CONTROLS * length:
            raise RecordError(
                RejectCode.WRONG_VALUE, f"no text: {controls:,} of {length:,} characters are control characters"
            )
        yield part


class TextDigest:
    """SHA-256 of a text that comes in parts, and how many characters it has."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.characters = 0

    def over(self, parts: Iterator[str]) -> Iterator[str]:
        for part in parts:
            self._hash.update(part.encode())
            self.characters += len(part)
            yield part

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
