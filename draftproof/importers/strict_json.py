"""JSON as RFC 8259 means it, less what no two programs read alike.

Python's own reader accepts repeated keys, NaN and lone surrogates; each of them would make a record mean one
thing here and another elsewhere. Integers beyond 2^53 - 1, which have no canonical form (RFC 8785), come back
as their decimal digits in a string.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from draftproof.importers.record import RecordError
from draftproof.rejects import RejectCode

MAX_DEPTH = 128
MAX_BRACKETS = 1_000_000
"""In one record. An empty list takes three bytes of a file and some sixty of memory."""
MAX_DIGITS = 4300
_LARGEST_SAFE = 2**53 - 1
_RISKY_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Decoded(NamedTuple):
    value: Any
    non_finite: bool
    """Whether a NaN or an infinity was read; each became None."""


class StrictReader:
    """A reader for one file. Made once: building a `json.JSONDecoder` for each line would double the cost."""

    def __init__(self) -> None:
        self._non_finite = False
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_object, parse_int=_integer, parse_float=_finite, parse_constant=self._constant
        )

    def decode(self, data: bytes) -> Decoded:
        """The value in `data`. Raises RecordError, which says what is wrong with it, and nothing else."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(RejectCode.INVALID_UTF8, f"not UTF-8: {error.reason} at byte {error.start}") from error
        brackets = data.count(b"[") + data.count(b"{")
        if brackets > MAX_BRACKETS:
            raise RecordError(RejectCode.TOO_COMPLEX, f"{brackets:,} brackets; at most {MAX_BRACKETS:,} are read")
        self._non_finite = False
        try:
            value = self._decoder.decode(text)
        except RecursionError as error:
            raise _too_deep() from error
        except json.JSONDecodeError as error:
            if "\x00" in text:
                raise RecordError(RejectCode.NUL_CHARACTER, "the line holds a NUL byte") from error
            raise RecordError(RejectCode.INVALID_JSON, f"{error.msg} at character {error.pos}") from error
        if brackets > MAX_DEPTH:
            _check_depth(value)
        if _RISKY_ESCAPE.search(data):
            _check_characters(value)
        return Decoded(value, self._non_finite)

    def _constant(self, _name: str) -> None:
        self._non_finite = True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RecordError(RejectCode.DUPLICATE_KEY, f"the key {twice[:80]!r} occurs twice in one object")
    return made


def _integer(digits: str) -> int | str:
    if len(digits) < 16:
        return int(digits)
    if len(digits) > MAX_DIGITS:
        raise RecordError(RejectCode.NUMBER_TOO_LARGE, f"an integer of {len(digits)} digits")
    value = int(digits)
    return value if -_LARGEST_SAFE <= value <= _LARGEST_SAFE else digits


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RecordError(RejectCode.NUMBER_TOO_LARGE, f"the number {digits[:40]} does not fit into a double")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    raise _too_deep()


def _check_characters(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "\x00" in item:
                raise RecordError(RejectCode.NUL_CHARACTER, "a string holds the character U+0000")
            if _SURROGATE.search(item):
                raise RecordError(RejectCode.LONE_SURROGATE, "a string holds half of a surrogate pair")
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _too_deep() -> RecordError:
    return RecordError(RejectCode.TOO_DEEP, f"nested more than {MAX_DEPTH} levels deep")
