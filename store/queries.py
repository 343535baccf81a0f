"""Finding verdicts: a filter, and the rows that pass it as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select

from draftproof.errors import UnknownNameError
from draftproof.store.records import StoredVerdict
from draftproof.store.runs import find_run
from draftproof.store.tables import is_current, run_traces, run_verifiers, runs, sightings, verdicts
from draftproof.store.texts import name_text, searchable
from draftproof.store.traces import CHUNK, starts_with
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import StepLabel
from draftproof.verdict import Guarantee, Outcome, Proposition

Order = Literal["oldest", "newest", "subject"]

_AT_ONCE = 1000
"""Rows held in memory while streaming."""


@dataclass(frozen=True)
class VerdictFilter:
    """Which verdicts are meant; every field that is given must hold."""

    run: str | None = None
    """Id, or start of one: every verdict about the run's pairs, whichever run gave it."""
    recorded_by: str | None = None
    """Id of a run, or start of one: only what that run itself stored."""
    trace: str | None = None
    """Id of a trace, its digest, or the start of the digest's hex digits."""
    verifier: str | None = None
    """`name`, `name@version` or the whole identity."""
    granularity: Granularity | None = None
    position: int | None = None
    proposition: Proposition | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    guarantee: Guarantee | None = None
    since: datetime | None = None
    """Recorded at this time or later; a time without a zone is UTC."""
    until: datetime | None = None
    """Recorded before this time."""
    generator: str | None = None
    source_file: str | None = None
    label_mismatch: bool = False
    """Only steps labelled correct and rejected, or labelled incorrect and accepted."""
    author: str | None = None
    """Only overrides by this person."""
    history: bool = False
    """Also rows that a retry or an override has replaced."""


@dataclass(frozen=True)
class Resolved:
    """A filter whose names have become the numbers and digests that they stand for."""

    where: VerdictFilter
    run: int | None
    recorded_by: int | None
    trace: ColumnElement[bool] | None


def resolve(connection: Connection, where: VerdictFilter) -> Resolved:
    """Raises UnknownNameError or UsageError when a name stands for no run, or for several."""
    return Resolved(
        where=where,
        run=None if where.run is None else find_run(connection, where.run).number,
        recorded_by=None if where.recorded_by is None else find_run(connection, where.recorded_by).number,
        trace=None if where.trace is None else _of_trace(connection, where.trace),
    )


def stream_verdicts(
    connection: Connection, meant: Resolved, *, order: Order, limit: int | None, offset: int
) -> Iterator[StoredVerdict]:
    """The verdicts that are meant, in memory that does not grow with their number."""
    query = select(verdicts).where(*_conditions(meant)).order_by(*_ORDERS[order]).limit(limit).offset(offset or None)
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for part in rows.partitions():
            yield from _stored(connection, part)


def count_verdicts(connection: Connection, meant: Resolved) -> dict[Outcome, int]:
    """How many verdicts are meant, for each outcome."""
    query = select(verdicts.c.outcome, func.count()).where(*_conditions(meant)).group_by(verdicts.c.outcome)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {outcome: found.get(outcome.value, 0) for outcome in Outcome}


def one_verdict(connection: Connection, verdict_id: int) -> StoredVerdict:
    rows = connection.execute(select(verdicts).where(verdicts.c.id == verdict_id)).all()
    if not rows:
        raise UnknownNameError(f"no verdict {verdict_id} in the store.")
    return next(_stored(connection, rows))


_ORDERS: dict[Order, tuple[ColumnElement[Any], ...]] = {
    "oldest": (verdicts.c.id.asc(),),
    "newest": (verdicts.c.id.desc(),),
    "subject": tuple(
        verdicts.c[name] for name in ("trace_digest", "verifier", "granularity", "position", "sample", "revision")
    ),
}


def _conditions(meant: Resolved) -> Iterator[ColumnElement[bool]]:
    where = meant.where
    equal: list[tuple[ColumnElement[Any], Any]] = [
        (verdicts.c.granularity, where.granularity and where.granularity.value),
        (verdicts.c.position, where.position),
        (verdicts.c.proposition, where.proposition and where.proposition.value),
        (verdicts.c.outcome, where.outcome and where.outcome.value),
        (verdicts.c.guarantee, where.guarantee and where.guarantee.value),
        (verdicts.c.reason, where.reason and searchable(where.reason)),
        (verdicts.c.author, where.author and searchable(where.author)),
        (verdicts.c.run, meant.recorded_by),
    ]
    for column, value in equal:
        if value is not None:
            yield column == value
    if not where.history:
        yield is_current
    if meant.run is not None:
        yield _of_run(meant.run)
    if meant.trace is not None:
        yield meant.trace
    if where.verifier is not None:
        yield _by_verifier(searchable(where.verifier))
    if where.since is not None:
        yield verdicts.c.recorded_at >= _utc(where.since)
    if where.until is not None:
        yield verdicts.c.recorded_at < _utc(where.until)
    seen = exists().where(sightings.c.trace_digest == verdicts.c.trace_digest)
    if where.generator is not None:
        yield seen.where(sightings.c.generator == searchable(where.generator)).correlate(verdicts)
    if where.source_file is not None:
        yield seen.where(sightings.c.source_file == searchable(where.source_file)).correlate(verdicts)
    if where.label_mismatch:
        yield _contradicts_label()


def _of_run(run: int) -> ColumnElement[bool]:
    given = select(verdicts.c.id).where(verdicts.c.run == run).correlate(None)
    covered = (
        select(verdicts.c.id)
        .select_from(run_traces)
        .join(run_verifiers, run_verifiers.c.run == run_traces.c.run)
        .join(
            verdicts,
            and_(
                verdicts.c.trace_digest == run_traces.c.trace_digest,
                verdicts.c.verifier == run_verifiers.c.verifier,
                verdicts.c.granularity == run_verifiers.c.granularity,
                verdicts.c.sample < run_verifiers.c.samples,
            ),
        )
        .where(run_traces.c.run == run)
        .correlate(None)
    )
    return verdicts.c.id.in_(given.union(covered))


def _of_trace(connection: Connection, name: str) -> ColumnElement[bool]:
    """By id where a trace has it, else by digest, which finds drafts too that no import brought."""
    named = select(sightings.c.trace_digest).where(sightings.c.name == name_text(name))
    if connection.execute(named.limit(1)).first() is not None:
        return verdicts.c.trace_digest.in_(named)
    return starts_with(verdicts.c.trace_digest, name)


def _by_verifier(name: str) -> ColumnElement[bool]:
    if "#" in name:
        return verdicts.c.verifier == name
    end = "#" if "@" in name else "@"
    return and_(verdicts.c.verifier >= name + end, verdicts.c.verifier < name + chr(ord(end) + 1))


def _contradicts_label() -> ColumnElement[bool]:
    label = func.substr(sightings.c.labels, verdicts.c.position + 1, 1)
    wrong = or_(
        and_(verdicts.c.outcome == Outcome.REJECT.value, label == StepLabel.CORRECT.value[0]),
        and_(verdicts.c.outcome == Outcome.ACCEPT.value, label == StepLabel.INCORRECT.value[0]),
    )
    contradicted = exists().where(sightings.c.trace_digest == verdicts.c.trace_digest, wrong).correlate(verdicts)
    return and_(verdicts.c.granularity == Granularity.STEP.value, contradicted)


def _utc(moment: datetime) -> str:
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return zoned.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _stored(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[StoredVerdict]:
    """The rows with the names of their runs and traces, asked for all rows at once."""
    numbers = {row.run for row in rows}
    named = connection.execute(select(runs.c.number, runs.c.id).where(runs.c.number.in_(numbers)))
    run_ids = {run.number: run.id for run in named}
    first = _first_sightings(connection, sorted({row.trace_digest for row in rows}))
    for row in rows:
        name, generator, file, line = first.get(row.trace_digest, (None, None, None, None))
        yield StoredVerdict(
            id=row.id,
            run=run_ids[row.run],
            subject=SubjectKey.model_construct(
                trace_digest=row.trace_digest, granularity=Granularity(row.granularity), position=row.position
            ),
            verifier=row.verifier,
            sample=row.sample,
            revision=row.revision,
            supersedes=row.supersedes,
            author=row.author,
            note=row.note,
            proposition=Proposition(row.proposition),
            outcome=Outcome(row.outcome),
            score=row.score,
            calibrated=row.calibrated,
            guarantee=Guarantee(row.guarantee),
            lossless=row.lossless,
            reason=row.reason,
            wall_seconds=row.wall_seconds,
            calls=row.calls,
            prompt_tokens=row.prompt_tokens,
            output_tokens=row.output_tokens,
            recorded_at=row.recorded_at,
            payload=row.payload,
            salt=row.salt,
            leaf=row.leaf,
            tree_index=row.tree_index,
            trace_id=name,
            generator=generator,
            source_file=file,
            source_line=line,
        )


_Sighting = tuple[str, str | None, str | None, int | None]


def _first_sightings(connection: Connection, digests: Sequence[str]) -> dict[str, _Sighting]:
    """What the first import said of each trace. The newest come first here, so that the oldest stay."""
    seen = sightings.c
    query = select(seen.trace_digest, seen.name, seen.generator, seen.source_file, seen.source_line)
    found: dict[str, _Sighting] = {}
    for start in range(0, len(digests), CHUNK):
        part = query.where(seen.trace_digest.in_(digests[start : start + CHUNK])).order_by(seen.id.desc())
        found.update((row[0], (row[1], row[2], row[3], row[4])) for row in connection.execute(part))
    return found
