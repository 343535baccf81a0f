"""Rows that replace rows: the retry of an errored check, and the word of a human.

An error is a verdict like any other, so its pair is settled and a second run leaves it alone. A
retry that was asked for comes in one revision higher and points at the error; so does an override.
Both rows stay. Only an error can be replaced by a retry: what a verifier did say is final until a
human says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from draftproof.canonical import digest_bytes, short
from draftproof.errors import UnknownNameError, UsageError
from draftproof.store.inserts import Row, insert_new
from draftproof.store.leaf import salts
from draftproof.store.records import parse_verdict, utc_now
from draftproof.store.tables import is_current, verdicts
from draftproof.store.texts import searchable
from draftproof.store.traces import CHUNK
from draftproof.store.verdict_rows import COLUMNS, row_of
from draftproof.verdict import Cost, Guarantee, Outcome, Verdict

HUMAN = "human@1"
"""Name and version that override payloads are signed with; the author follows as a digest."""

_KEY = ("trace_digest", "verifier", "granularity", "position", "sample")
_KEY_AT = tuple(COLUMNS.index(name) for name in _KEY)
_REVISION = COLUMNS.index("revision")
_RUN = COLUMNS.index("run")
_OUTCOME = COLUMNS.index("outcome")
_SUPERSEDES = COLUMNS.index("supersedes")


def as_retries(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """`rows` with those whose pair ended in an error moved to that pair's next revision.

    An error that follows an error of the same run stays where it is, a duplicate: storing a batch
    again must not make a retry of it.
    """
    digests = sorted({row[_KEY_AT[0]] for row in rows})
    errored: dict[tuple[object, ...], tuple[int, int, int]] = {}
    for start in range(0, len(digests), CHUNK):
        query = select(*(verdicts.c[name] for name in _KEY), verdicts.c.revision, verdicts.c.id, verdicts.c.run).where(
            verdicts.c.trace_digest.in_(digests[start : start + CHUNK]),
            verdicts.c.outcome == Outcome.ERROR.value,
            is_current,
        )
        errored.update((tuple(found[:5]), (found[5], found[6], found[7])) for found in connection.execute(query))
    moved = []
    for row in rows:
        before = errored.get(tuple(row[at] for at in _KEY_AT))
        if before is not None and not (row[_OUTCOME] == Outcome.ERROR.value and row[_RUN] == before[2]):
            changed = list(row)
            changed[_REVISION], changed[_SUPERSEDES] = before[0] + 1, before[1]
            row = tuple(changed)
        moved.append(row)
    return moved


def insert_override(
    connection: Connection, verdict_id: int, *, run: int, outcome: Outcome, author: str, note: str, score: float | None
) -> int:
    """Replaces the current verdict `verdict_id`; returns the new row's id.

    Raises UsageError when that verdict is not current, so that nobody overrides what they have not seen.
    """
    if outcome is Outcome.ERROR:
        raise UsageError("an override decides: accept, reject or abstain, not error.")
    if not author.strip() or not note.strip():
        raise UsageError("an override names its author and gives a reason.")
    old = connection.execute(select(verdicts).where(verdicts.c.id == verdict_id)).one_or_none()
    if old is None:
        raise UnknownNameError(f"no verdict {verdict_id} in the store.")
    if old.payload is None:
        raise UsageError(f"the payload of verdict {verdict_id} was erased; there is nothing left to judge.")
    human = Verdict(
        subject=parse_verdict(old.payload).subject,
        verifier=f"{HUMAN}#{short(digest_bytes(searchable(author).encode()))}",
        sample=old.sample,
        proposition=old.proposition,
        outcome=outcome,
        score=score,
        guarantee=Guarantee.OPINION,
        reason="human_override",
        cost=Cost(),
        raw={"author": author, "note": note, "overrides": old.verifier, "superseded_leaf": old.leaf.hex()},
    )
    row = row_of(
        human,
        run,
        utc_now(),
        salt=salts(1)[0],
        verifier=old.verifier,
        revision=old.revision + 1,
        supersedes=old.id,
        author=searchable(author),
        note=searchable(note),
    )
    if not insert_new(connection, verdicts, COLUMNS, [row]):
        newer = connection.execute(select(verdicts.c.id).where(verdicts.c.supersedes == verdict_id)).scalar()
        raise UsageError(
            f"verdict {verdict_id} is no longer current: {newer} replaced it.",
            remedy=f"Look at {newer}, then override it.",
        )
    return int(connection.execute(select(verdicts.c.id).where(verdicts.c.supersedes == verdict_id)).scalar_one())
