"""Lines of a byte stream, each with its number, none ever held beyond a limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from draftproof.importers.streams import StreamError
from draftproof.rejects import RejectCode

KEPT_OF_A_LONG_ONE = 1024


@dataclass(frozen=True, slots=True)
class Raw:
    """The bytes of one record, or the reason why they are not to be had."""

    number: int
    """1-based line, array element or archive member."""
    data: bytes
    """All of the record, or its beginning when there is a `problem`."""
    problem: RejectCode | None = None
    message: str = ""


def lines(chunks: Iterator[bytes], limit: int) -> Iterator[Raw]:
    """Every line. A line longer than `limit` bytes comes as its beginning, and the stream goes on after it.

    When the stream breaks, the line that it broke in is reported in its place.
    """
    number = 1
    parts: list[bytes] = []
    length = 0
    try:
        for chunk in chunks:
            *ended, tail = chunk.split(b"\n")
            for line in ended:
                if parts or length:
                    length += len(line)
                    line = b"".join([*parts, line]) if length <= limit else parts[0][:KEPT_OF_A_LONG_ONE]
                    parts = []
                else:
                    length = len(line)
                yield _line(number, line, length, limit)
                number += 1
                length = 0
            length += len(tail)
            if length > limit:
                # Only the beginning is kept, for the excerpt.
                parts = [(parts[0] if parts else tail)[:KEPT_OF_A_LONG_ONE]]
            elif tail:
                parts.append(tail)
    except StreamError as error:
        yield Raw(number, b"".join(parts)[:KEPT_OF_A_LONG_ONE], error.code, error.message)
        return
    if length:
        yield _line(number, b"".join(parts), length, limit)


def _line(number: int, line: bytes, length: int, limit: int) -> Raw:
    if length > limit:
        return Raw(number, line[:KEPT_OF_A_LONG_ONE], RejectCode.TOO_LONG, too_long(length, limit))
    return Raw(number, line)


def too_long(length: int, limit: int) -> str:
    return f"{length:,} bytes; at most {limit:,} are read"
