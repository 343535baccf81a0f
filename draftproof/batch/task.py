"""Units of work for the worker processes, and the frames that carry them.

A frame is four bytes of length and a JSON object. Tasks carry traces and positions rather than
subjects: a subject holds all steps before it, a trace holds each step once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from draftproof.subject import Subject, subjects_of
from draftproof.trace import Trace
from draftproof.verifier import Verifier

_LENGTH = struct.Struct(">I")
PIECES = 16
"""Into how many tasks one is cut that a worker was lost over. A subject that hangs costs one deadline a level:
with sixteen pieces a full task needs three levels, with two it would need nine."""


@dataclass(frozen=True)
class Item:
    """Subjects of one trace that one verifier has yet to judge."""

    trace: Trace
    positions: tuple[int, ...]

    def subjects(self, verifier: Verifier) -> Iterator[Subject]:
        wanted = set(self.positions)
        return (s for s in subjects_of(self.trace, verifier.granularity) if s.key.position in wanted)


@dataclass(frozen=True)
class Task:
    """What one worker does in one go."""

    verifier: int
    """Index of the verifier in the run's list."""
    items: tuple[Item, ...]
    attempt: int = 1
    """1, plus one for every time that a worker was lost over these items."""

    @property
    def size(self) -> int:
        return sum(len(item.positions) for item in self.items)

    def pieces(self) -> list[Task]:
        """The same subjects as up to `PIECES` smaller tasks, to find the one that a worker does not survive."""
        singles = [Item(item.trace, (position,)) for item in self.items for position in item.positions]
        length = -(-len(singles) // PIECES)
        return [
            replace(self, items=_joined(singles[start : start + length]), attempt=self.attempt + 1)
            for start in range(0, len(singles), length)
        ]

    def message(self) -> dict[str, Any]:
        """JSON form. Only what verifiers may look at travels: labels and metadata stay with the caller."""
        return {
            "verifier": self.verifier,
            "items": [{"trace": _judged(item.trace), "positions": item.positions} for item in self.items],
        }


def items_of(message: Mapping[str, Any]) -> list[Item]:
    """The items of a task's message."""
    return [Item(Trace.model_validate(item["trace"]), tuple(item["positions"])) for item in message["items"]]


def frame(message: Mapping[str, Any]) -> bytes:
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Puts frames together from the pieces that a pipe delivers."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        self._buffer += piece
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield json.loads(body)


def _joined(singles: Sequence[Item]) -> tuple[Item, ...]:
    by_trace: dict[str, tuple[Trace, list[int]]] = {}
    for single in singles:
        by_trace.setdefault(single.trace.digest, (single.trace, []))[1].extend(single.positions)
    return tuple(Item(trace, tuple(positions)) for trace, positions in by_trace.values())


def _judged(trace: Trace) -> dict[str, Any]:
    return {
        "id": trace.id,
        "problem": trace.problem,
        "segmentation": trace.segmentation,
        "steps": [{"text": step.text} for step in trace.steps],
        **({} if trace.reference_answer is None else {"reference_answer": trace.reference_answer}),
    }
