"""Which pairs nobody has judged yet: what makes the repetition of a command its continuation."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from draftproof.errors import UsageError
from draftproof.store.records import Pair, PlannedVerifier
from draftproof.store.tables import is_current, verdicts
from draftproof.store.traces import CHUNK
from draftproof.subject import Granularity, SubjectKey
from draftproof.verdict import Outcome

_KEY = (
    verdicts.c.trace_digest,
    verdicts.c.verifier,
    verdicts.c.granularity,
    verdicts.c.position,
    verdicts.c.sample,
)


def missing_pairs(
    connection: Connection,
    traces: Sequence[tuple[str, int]],
    verifiers: Sequence[PlannedVerifier],
    *,
    retry_errors: bool,
) -> list[Pair]:
    """Pairs without a verdict, in the order of traces, verifiers, positions and samples.

    `traces` are digests with their step counts. With `retry_errors`, a pair whose current verdict
    is an error is missing too.
    """
    for verifier in verifiers:
        if verifier.granularity not in {Granularity.STEP, Granularity.TRACE}:
            raise UsageError(f"{verifier.identity} judges {verifier.granularity.value}s, which no plan can list ahead.")
    sizes = list(dict(traces).items())  # each trace once
    pairs: list[Pair] = []
    identities = [verifier.identity for verifier in verifiers]
    for start in range(0, len(sizes), CHUNK):
        chunk = sizes[start : start + CHUNK]
        done = _judged(connection, [digest for digest, _ in chunk], identities, without_errors=retry_errors)
        for digest, steps in chunk:
            for verifier in verifiers:
                granularity = verifier.granularity
                for position in range(steps if granularity is Granularity.STEP else 1):
                    for sample in range(verifier.samples):
                        if (digest, verifier.identity, granularity.value, position, sample) not in done:
                            subject = SubjectKey.model_construct(
                                trace_digest=digest, granularity=granularity, position=position
                            )
                            pairs.append(Pair(subject, verifier.identity, sample))
    return pairs


def _judged(
    connection: Connection, digests: list[str], identities: list[str], *, without_errors: bool
) -> set[tuple[str, str, str, int, int]]:
    """Keys of the pairs that have a verdict."""
    query = select(*_KEY).where(verdicts.c.trace_digest.in_(digests), verdicts.c.verifier.in_(identities))
    if without_errors:
        query = query.where(is_current, verdicts.c.outcome != Outcome.ERROR.value)
    else:
        query = query.where(verdicts.c.revision == 0)  # every pair that was ever judged has one of these
    return {(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)}
