"""What a router learns from: one row a step, with the step that either model wrote and what each was worth.

A pipeline that collects writes both steps from the same opening, has both scored, and appends a row to a file of JSON
lines (Arbitrage, arXiv 2512.05033, "data generation"). Rows are whole: problem and earlier steps stand in them, so that
a router that reads text needs nothing else, and so does whoever wants to score the steps anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from draftproof.errors import DraftproofError, InputError, UsageError
from draftproof.verdict import Probability, Proposition

VERSION = 1
MAX_LINE = 4_000_000
"""Bytes: a longer line is no row."""

Writer = Literal["draft", "target", "pipeline"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
_ROUNDING = 1e-9


class Pair(NamedTuple):
    """The two models between which a router decides, by their identities. A router is good for no other pair."""

    draft: str
    target: str

    def is_of(self, other: Sequence[str]) -> bool:
        """Whether `other` are the same two models. A name is what a user chose; what stands behind the `#` is not."""
        return [each.rpartition("#")[2] for each in self] == [each.rpartition("#")[2] for each in other]

    def __str__(self) -> str:
        return f"draft {self.draft} with target {self.target}"


class RouterRow(BaseModel):
    """One step, as the draft model and as the target wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    pair: Pair
    id: str = ""
    """Names the problem for people; rows are of one problem where `problem` is the same."""
    problem: str
    context: tuple[str, ...] = ()
    """The steps that stood before, verbatim, separators included."""
    writers: tuple[Writer, ...] = ()
    """Who wrote each of them; `pipeline` is text that no model wrote."""
    opening: str = ""
    """Digest that the pipeline stored the verdicts of this problem under, where it says so."""
    position: Annotated[int, Field(ge=0)]
    """0-based index of the step."""
    draft: str
    """The step as the draft model wrote it, verbatim."""
    target: str
    """As the target did."""
    draft_score: Probability
    target_score: Probability
    advantage: Finite
    """`target_score - draft_score`. Worked out where it is not given."""
    scorer: Annotated[str, Field(min_length=1)]
    """`name@version#digest` of the verifier that gave the scores."""
    proposition: Proposition
    """What the scores are probabilities of."""
    features: dict[str, Finite]
    """What a router may look at, known before the target is asked."""

    @model_validator(mode="before")
    @classmethod
    def _work_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        try:
            return {"advantage": given["target_score"] - given["draft_score"]} | given
        except (KeyError, TypeError):
            return given  # the fields' own checks say what is wrong

    @model_validator(mode="after")
    def _holds_together(self) -> RouterRow:
        expected = self.target_score - self.draft_score
        if abs(self.advantage - expected) > _ROUNDING:
            raise ValueError(f"the advantage is {self.advantage}, and its scores give {expected}")
        if not len(self.context) == len(self.writers) == self.position:
            raise ValueError(
                f"step {self.position} has as many steps before it, got {len(self.context)} and {len(self.writers)} "
                "writers"
            )
        return self

    @property
    def label(self) -> int:
        """1 where the target's step scored higher. An equal score is no reason to ask the target."""
        return int(self.advantage > 0.0)

    @property
    def line(self) -> str:
        """The row as one line of JSON, without its end."""
        return self.model_dump_json()


def append_rows(file: Path, rows: Iterable[RouterRow | Mapping[str, Any]]) -> int:
    """Write rows at the file's end, each as one whole line; returns how many.

    Rows may be the plain mappings that a pipeline makes. All are checked before the first is written: raises
    pydantic's ValidationError, which is a ValueError, for one that is no row.

    A line that an earlier writer was killed in the middle of is closed first, so that it spoils no row but its own.
    """
    checked = [row if isinstance(row, RouterRow) else RouterRow.model_validate(dict(row)) for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as opened:
        if opened.tell():
            opened.seek(-1, 2)
            if opened.read(1) != b"\n":
                opened.write(b"\n")
        opened.write(b"".join(row.line.encode() + b"\n" for row in checked))
    return len(checked)


def read_rows(files: Sequence[Path]) -> list[RouterRow]:
    """All rows of all files, in order; a row that stands there twice is taken once.

    Raises UsageError for a file that is not there, InputError with file and line for one that cannot be read. A file
    of rows is our own product: a line that is no row means that something went wrong, and is never passed over.
    """
    rows: dict[str, RouterRow] = {}
    for file in files:
        for row in _of_file(file):
            rows.setdefault(row.line, row)
    return list(rows.values())


def _of_file(file: Path) -> Iterator[RouterRow]:
    try:
        with file.open("rb") as opened:
            number = 0
            while data := opened.readline(MAX_LINE + 1):
                number += 1
                if data.strip():
                    yield _row(file, number, data)
    except DraftproofError:
        raise
    except OSError as error:
        raise UsageError(
            f"The rows in {file} cannot be read: {error.strerror or error}.",
            remedy="Name a file that the policy `collect` of the pipeline arbitrage wrote.",
        ) from error


def _row(file: Path, number: int, data: bytes) -> RouterRow:
    if len(data) > MAX_LINE:
        raise _unreadable(file, number, f"it is longer than {MAX_LINE:,} bytes")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, number, f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise _unreadable(file, number, f"an object is expected, got a {type(value).__name__}")
    if value.get("version", VERSION) != VERSION:  # what pipelines make says none
        raise _unreadable(
            file, number, f"a row of version {VERSION} is expected, this one says {value.get('version')!r}"
        )
    try:
        return RouterRow.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _unreadable(file, number, f"{place}: {first['msg']}" if place else str(first["msg"])) from error


def _unreadable(file: Path, number: int, why: str) -> InputError:
    return InputError(f"{file}:{number} is no row of a router: {why}.", remedy="Remove the line, or collect again.")
