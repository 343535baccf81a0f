"""One record: typed access to its fields, and the trace that is made of them.

Importers say which field means what; everything that must hold of every trace, whatever its format, is
checked here once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from draftproof.rejects import RejectCode
from draftproof.segment import pieces, segmentation_name
from draftproof.trace import Source, StepLabel, Trace

MAX_STEPS = 10_000

Record = dict[str, Any]


class RecordError(Exception):
    """A record cannot be read. Caught by the reader, which turns it into a `Reject`."""

    def __init__(self, code: RejectCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Importer(Protocol):
    """Turns records of one format into traces; made anew for each file, so it may remember what it has seen."""

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        """The traces of one record; none when the record repeats another or an option leaves it out."""
        ...


def text(record: Record, key: str, *, blank: bool = False) -> str:
    """A string that must be there and, unless `blank`, say something."""
    value = _present(record, key)
    if not isinstance(value, str):
        raise _wrong_type(key, "a string", value)
    if not blank and not value.strip():
        raise RecordError(RejectCode.EMPTY_TEXT, f"`{key}` is empty")
    return value


def optional_text(record: Record, key: str) -> str | None:
    """A string, or a number written as one; None when absent or null."""
    value = record.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise _wrong_type(key, "a string or a number", value)


def values(record: Record, key: str) -> list[Any]:
    """A list that must be there; it may be empty."""
    value = _present(record, key)
    if not isinstance(value, list):
        raise _wrong_type(key, "a list", value)
    return value


def texts(record: Record, key: str) -> list[str]:
    """A list of strings that must be there; it may be empty."""
    found = values(record, key)
    for index, item in enumerate(found):
        if not isinstance(item, str):
            raise _wrong_type(f"{key}[{index}]", "a string", item)
    return found


def objects(record: Record, key: str) -> list[Record]:
    """A list of objects that must be there; it may be empty."""
    found = values(record, key)
    for index, item in enumerate(found):
        if not isinstance(item, dict):
            raise _wrong_type(f"{key}[{index}]", "an object", item)
    return found


def mapping(record: Record, key: str) -> Record:
    """An object that must be there."""
    value = _present(record, key)
    if not isinstance(value, dict):
        raise _wrong_type(key, "an object", value)
    return value


def integer(record: Record, key: str) -> int:
    value = _present(record, key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(key, "an integer", value)
    return value


def optional_boolean(record: Record, key: str) -> bool | None:
    value = record.get(key)
    if value is not None and not isinstance(value, bool):
        raise _wrong_type(key, "true, false or null", value)
    return value


def rest(record: Record, *read: str) -> Record:
    """What the importer did not read, for `meta`."""
    return {key: value for key, value in record.items() if key not in read}


def content_id(*parts: str) -> str:
    """A name for what has none: the same content gets the same one on every import."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:16]


def labels_from_first_error(steps: int, first_error: int | None) -> tuple[StepLabel, ...]:
    """Right before the first error, wrong at it, and nothing claimed after it. `first_error` counts from 0."""
    if first_error is None:
        return (StepLabel.CORRECT,) * steps
    if not 0 <= first_error < steps:
        raise RecordError(
            RejectCode.WRONG_VALUE, f"the first error is said to be step {first_error} (from 0) of {steps} steps"
        )
    after = steps - first_error - 1
    return (StepLabel.CORRECT,) * first_error + (StepLabel.INCORRECT,) + (StepLabel.UNKNOWN,) * after


def make_trace(
    *,
    source: Source,
    problem: str,
    steps: Sequence[str],
    id: str | None = None,
    segmentation: str = "given@1",
    blank_steps: bool = False,
    **known: Any,
) -> Trace:
    """The trace, after the checks that every format shares.

    `blank_steps` is for published data sets whose labels count them: dropping one would shift the labels.
    """
    if len(steps) > MAX_STEPS:
        raise RecordError(RejectCode.TOO_MANY_STEPS, f"{len(steps)} steps; at most {MAX_STEPS} are read")
    if not steps:
        raise RecordError(RejectCode.EMPTY_STEPS, "there are no steps")
    blank = [index for index, step in enumerate(steps) if not step or step.isspace()]
    if len(blank) == len(steps):
        raise RecordError(RejectCode.EMPTY_STEPS, "every step is empty")
    if blank and not blank_steps:
        raise RecordError(RejectCode.EMPTY_STEP, f"step {blank[0]} (from 0) is empty")
    return Trace.model_validate(
        {
            "id": id or content_id(problem, *steps),
            "problem": problem,
            "steps": [{"text": step} for step in steps],
            "segmentation": segmentation,
            "source": source,
            **known,
        }
    )


def split(solution: str, strategy: str, field: str) -> tuple[list[str], str]:
    """The steps of a free text and the name of the rule that cut it."""
    if not solution.strip():
        raise RecordError(RejectCode.EMPTY_TEXT, f"`{field}` is empty")
    return pieces(solution, strategy), segmentation_name(strategy)


def _present(record: Record, key: str) -> Any:
    try:
        return record[key]
    except KeyError:
        raise RecordError(RejectCode.MISSING_FIELD, f"`{key}` is missing") from None


def _wrong_type(key: str, expected: str, value: Any) -> RecordError:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return RecordError(RejectCode.WRONG_TYPE, f"`{key}` must be {expected}, not {kinds.get(type(value), 'a number')}")
