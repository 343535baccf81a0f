"""Tries that ended without a verdict about their subject, and pairs that were left out on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, select

from draftproof.store.inserts import columns_of, insert_new
from draftproof.store.records import Attempt, Pair, Skip, utc_now
from draftproof.store.tables import attempts, skips
from draftproof.store.texts import key_text, searchable
from draftproof.store.traces import CHUNK
from draftproof.subject import Granularity, SubjectKey
from draftproof.verdict import ErrorEvidence, Outcome, Verdict

_ATTEMPT_COLUMNS = columns_of(attempts, without=("id",))


def attempts_of(verdicts: Sequence[Verdict]) -> list[Attempt]:
    """The tries behind the error verdicts among `verdicts`."""
    found = []
    for verdict in verdicts:
        if verdict.outcome is not Outcome.ERROR:
            continue
        error = next((each for each in verdict.evidence if isinstance(each, ErrorEvidence)), None)
        found.append(
            Attempt(
                pair=Pair(verdict.subject, verdict.verifier, verdict.sample),
                attempt=error.attempts if error else 1,
                outcome=verdict.reason or "error",
                message=f"{error.type}: {error.message}" if error else "",
            )
        )
    return found


def insert_attempts(connection: Connection, run: int, given: Sequence[Attempt]) -> int:
    now = utc_now()
    rows = [
        (
            run,
            *_key(each.pair),
            each.attempt,
            each.started_at or now,
            searchable(each.outcome),
            searchable(each.message),
        )
        for each in given
    ]
    return insert_new(connection, attempts, _ATTEMPT_COLUMNS, rows)


def insert_skips(connection: Connection, run: int, given: Sequence[Skip]) -> int:
    now = utc_now()
    rows = [(run, *_key(each.pair), searchable(each.reason), now) for each in given]
    return insert_new(connection, skips, columns_of(skips), rows)


def stream_attempts(connection: Connection, run: int) -> Iterator[Attempt]:
    query = select(attempts).where(attempts.c.run == run).order_by(attempts.c.id)
    for row in connection.execute(query.execution_options(yield_per=CHUNK)):
        subject = SubjectKey.model_construct(
            trace_digest=row.trace_digest, granularity=Granularity(row.granularity), position=row.position
        )
        yield Attempt(
            pair=Pair(subject, row.verifier, row.sample),
            attempt=row.attempt,
            outcome=row.outcome,
            message=row.message,
            started_at=row.started_at,
        )


def _key(pair: Pair) -> tuple[str, str, int, str, int]:
    subject = pair.subject
    return (
        key_text(subject.trace_digest),
        subject.granularity.value,
        subject.position,
        key_text(pair.verifier),
        pair.sample,
    )
