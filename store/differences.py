"""Where two runs, or two verifiers, disagree.

Both sides are read in the order of subjects and merged, so that memory stays flat however large
they are. A run's verdict about a pair is the one that held when the run ended: a retry or an
override that came later does not rewrite what the run reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, select

from draftproof.store.records import Difference, Judgement, PlannedVerifier, Run
from draftproof.store.tables import is_current, run_traces, verdicts
from draftproof.subject import Granularity, SubjectKey
from draftproof.verdict import Outcome

_AT_ONCE = 1000
_ORDER = tuple(verdicts.c[name] for name in ("trace_digest", "granularity", "position", "sample"))
_COLUMNS = (*_ORDER, *(verdicts.c[name] for name in ("id", "verifier", "outcome", "score", "reason")))

_Key = tuple[str, str, int, int]


def between_runs(a: Connection, b: Connection, run_a: Run, run_b: Run) -> Iterator[Difference]:
    """Pairs whose outcomes differ, or that only one run covers.

    Verifiers of one identity are compared; those left over are compared by name, so that a run with
    the next version shows what the version changed.
    """
    for verifier_a, verifier_b in _matched(run_a.verifiers, run_b.verifiers):
        rows_a = a.execute(_judged_by(run_a, verifier_a)) if verifier_a else ()
        rows_b = b.execute(_judged_by(run_b, verifier_b)) if verifier_b else ()
        yield from _merge(iter(rows_a), iter(rows_b))


def between_verifiers(a: Connection, b: Connection, verifier_a: str, verifier_b: str) -> Iterator[Difference]:
    """Subjects that two verifier identities judged differently, over the whole store."""

    def judged(verifier: str) -> Select[Any]:
        return _in_order(select(*_COLUMNS).where(verdicts.c.verifier == verifier, is_current))

    yield from _merge(iter(a.execute(judged(verifier_a))), iter(b.execute(judged(verifier_b))))


def _matched(
    a: Sequence[PlannedVerifier], b: Sequence[PlannedVerifier]
) -> list[tuple[PlannedVerifier | None, PlannedVerifier | None]]:
    same = {verifier.identity for verifier in a} & {verifier.identity for verifier in b}
    matched: list[tuple[PlannedVerifier | None, PlannedVerifier | None]] = [
        (left, right) for left in a for right in b if left.identity == right.identity
    ]
    rest_b = [verifier for verifier in b if verifier.identity not in same]
    for left in a:
        if left.identity in same:
            continue
        right = next((v for v in rest_b if _slot(v) == _slot(left)), None)
        if right is not None:
            rest_b.remove(right)
        matched.append((left, right))
    matched.extend((None, right) for right in rest_b)
    return matched


def _slot(verifier: PlannedVerifier) -> tuple[str, Granularity]:
    return verifier.identity.partition("@")[0], verifier.granularity


def _judged_by(run: Run, verifier: PlannedVerifier) -> Select[Any]:
    covered = exists().where(run_traces.c.run == run.number, run_traces.c.trace_digest == verdicts.c.trace_digest)
    query = select(*_COLUMNS).where(
        verdicts.c.verifier == verifier.identity,
        verdicts.c.granularity == verifier.granularity.value,
        verdicts.c.sample < verifier.samples,
        covered.correlate(verdicts),
    )
    if run.finished_at is None:
        query = query.where(is_current)
    else:
        later = verdicts.alias("later")
        replaced = exists().where(and_(later.c.supersedes == verdicts.c.id, later.c.recorded_at <= run.finished_at))
        query = query.where(verdicts.c.recorded_at <= run.finished_at, ~replaced.correlate(verdicts))
    return _in_order(query)


def _in_order(query: Select[Any]) -> Select[Any]:
    return query.order_by(*_ORDER).execution_options(yield_per=_AT_ONCE)


def _merge(a: Iterator[Row[Any]], b: Iterator[Row[Any]]) -> Iterator[Difference]:
    left, right = next(a, None), next(b, None)
    while left is not None or right is not None:
        key_a, key_b = _key(left), _key(right)
        if right is None or (key_a is not None and key_b is not None and key_a < key_b):
            yield _difference(left, None)
            left = next(a, None)
        elif left is None or (key_a is not None and key_b is not None and key_b < key_a):
            yield _difference(None, right)
            right = next(b, None)
        else:
            if left.outcome != right.outcome:
                yield _difference(left, right)
            left, right = next(a, None), next(b, None)


def _key(row: Row[Any] | None) -> _Key | None:
    return None if row is None else (row.trace_digest, row.granularity, row.position, row.sample)


def _difference(a: Row[Any] | None, b: Row[Any] | None) -> Difference:
    row = a if a is not None else b
    assert row is not None  # for the type checker: `_merge` gives at least one
    subject = SubjectKey.model_construct(
        trace_digest=row.trace_digest, granularity=Granularity(row.granularity), position=row.position
    )
    return Difference(subject=subject, sample=row.sample, a=_judgement(a), b=_judgement(b))


def _judgement(row: Row[Any] | None) -> Judgement | None:
    if row is None:
        return None
    return Judgement(id=row.id, verifier=row.verifier, outcome=Outcome(row.outcome), score=row.score, reason=row.reason)
