"""Problems out of a file: JSON Lines, one problem a line, streamed; what cannot be read is accounted for.

A line is an object with the problem's text (`problem`, `question` or `prompt`), and perhaps a name (`id`) and the
answer that is right (`answer` or `reference_answer`; of a GSM8K answer only what stands behind `####`). Compressed
files and `-` for standard input are read like those of `draftproof verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from draftproof.errors import InputError
from draftproof.importers.gsm8k import split_answer
from draftproof.importers.lines import Raw, lines
from draftproof.importers.reading import MAX_LINE_BYTES
from draftproof.importers.record import Record, RecordError, content_id, optional_text, text
from draftproof.importers.streams import Progress, check_file, decompressed, opened
from draftproof.importers.strict_json import StrictReader
from draftproof.rejects import Reject, RejectCode, RejectSink, excerpt

TEXT_FIELDS = ("problem", "question", "prompt")
ANSWER_FIELDS = ("answer", "reference_answer")


@dataclass(frozen=True)
class Problem:
    """What a pipeline is to solve."""

    text: str
    id: str
    """A name for people; made from the text where none is given."""
    answer: str | None = None
    """The right one, where it is known. No model sees it."""
    file: str = ""
    line: int = 0
    """1-based line of `file`; 0 for a problem from elsewhere."""


def read_problems(
    path: str, *, limit: int | None = None, rejects: RejectSink | None = None, progress: Progress | None = None
) -> Iterator[Problem]:
    """The problems of a file, in order, in memory that does not grow with it.

    Without `rejects`, the first unreadable line raises InputError. The file's existence is checked at once; it is
    opened with the first problem.
    """
    check_file(path)
    return _problems(path, limit, rejects, progress or Progress())


def _problems(path: str, limit: int | None, rejects: RejectSink | None, progress: Progress) -> Iterator[Problem]:
    reader = StrictReader()
    said_something = False
    with opened(path, progress) as stored:
        for raw in lines(decompressed(stored, path), MAX_LINE_BYTES):
            progress.lines += 1
            said_something = said_something or raw.problem is not None or bool(raw.data.strip())
            if raw.problem is None and not raw.data.strip():
                progress.blank += 1
                continue
            try:
                if raw.problem is not None:
                    raise RecordError(raw.problem, raw.message)
                problem = _problem(reader.decode(raw.data).value, path, raw.number)
            except RecordError as error:
                _reject(raw, error, path, rejects)
                progress.rejected += 1
                continue
            progress.read += 1
            progress.traces += 1
            yield problem
            if progress.traces == limit:
                return
    if not said_something:
        progress.lines += 1
        progress.rejected += 1
        _reject(Raw(1, b""), RecordError(RejectCode.EMPTY_FILE, "the file holds no records"), path, rejects)


def _problem(record: object, file: str, line: int) -> Problem:
    if not isinstance(record, dict):
        raise RecordError(RejectCode.NOT_AN_OBJECT, "the record is no JSON object")
    named = next((name for name in TEXT_FIELDS if name in record), None)
    if named is None:
        raise RecordError(
            RejectCode.MISSING_FIELD,
            f"`problem` is missing (or `question`, or `prompt`); the fields are {', '.join(list(record)[:12])!r}",
        )
    wording = text(record, named)
    return Problem(
        text=wording,
        id=optional_text(record, "id") or content_id(wording),
        answer=_answer(record),
        file=file,
        line=line,
    )


def _answer(record: Record) -> str | None:
    for name in ANSWER_FIELDS:
        given = optional_text(record, name)
        if given is not None and given.strip():
            return split_answer(given)[1] or given.strip()
    return None


def _reject(raw: Raw, error: RecordError, file: str, rejects: RejectSink | None) -> None:
    if rejects is None:
        raise InputError(
            f"{file}, line {raw.number}: {error.message} ({error.code.value}).",
            remedy="Mend the line, or give a rejects file to go on without it.",
        )
    rejects.add(
        Reject(file=file, line=raw.number, code=error.code, message=error.message, excerpt=excerpt(raw.data.lstrip()))
    )
