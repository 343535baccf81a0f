"""Traces in and out of the database.

A trace's content is stored once, under its digest. What an import said beside it (name, labels,
answers, generator, source) is a sighting, stored once for each different thing said: importing the
same file again adds nothing, and labels that a second file brings are not lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from draftproof.canonical import digest_bytes
from draftproof.errors import UnknownNameError, UsageError
from draftproof.store.inserts import columns_of, insert_new
from draftproof.store.records import StoredTrace, utc_now
from draftproof.store.tables import run_traces, sightings, traces
from draftproof.store.texts import json_text, name_text, searchable
from draftproof.trace import Trace

CHUNK = 500
"""Values in one IN list: far below every driver's limit on parameters."""

_CONTENT = {"problem", "segmentation", "steps"}
_SIGHTING_COLUMNS = columns_of(sightings, without=("id",))
_CANDIDATES_SHOWN = 5


def insert_traces(connection: Connection, run: int, given: Sequence[Trace]) -> int:
    """Stores what is new of `given` and appends it to the run's input; returns how many traces were new."""
    fresh, sighted = store_traces(connection, given)
    ids: dict[str, int] = {}
    for start in range(0, len(sighted), CHUNK):
        wanted = [digest for digest, _ in sighted[start : start + CHUNK]]
        found = connection.execute(select(sightings.c.digest, sightings.c.id).where(sightings.c.digest.in_(wanted)))
        ids.update((row.digest, row.id) for row in found)
    last = connection.execute(select(func.max(run_traces.c.ordinal)).where(run_traces.c.run == run)).scalar()
    first = 0 if last is None else last + 1
    insert_new(
        connection,
        run_traces,
        columns_of(run_traces),
        [(run, ids[digest], first + i, trace) for i, (digest, trace) in enumerate(sighted)],
    )
    return fresh


def store_traces(connection: Connection, given: Sequence[Trace]) -> tuple[int, list[tuple[str, str]]]:
    """Stores what is new of `given`; returns how many traces were new, and the digests of each sighting and trace."""
    now = utc_now()
    described = [_sighting(trace, now) for trace in given]
    fresh = insert_new(
        connection,
        traces,
        columns_of(traces),
        [(t.digest, len(t.steps), json_text(t, include=_CONTENT), now) for t in given],
    )
    insert_new(connection, sightings, _SIGHTING_COLUMNS, described)
    return fresh, [(row[0], row[1]) for row in described]


def _sighting(trace: Trace, now: str) -> tuple[Any, ...]:
    facts = json_text(trace, free=trace.meta, what=f"the `meta` of trace {trace.id!r}", exclude=_CONTENT)
    source = trace.source
    labels = trace.step_labels
    return (
        digest_bytes(f"{trace.digest}{facts}".encode()),
        trace.digest,
        name_text(trace.id),
        None if trace.generator is None else searchable(trace.generator),
        None if source is None else searchable(source.format),
        None if source is None else searchable(source.file),
        None if source is None else source.line,
        None if labels is None else "".join(label.value[0] for label in labels),
        facts,
        now,
    )


def stream_run_traces(connection: Connection, run: int) -> Iterator[Trace]:
    """The run's input in the order in which it came, each trace as that input described it."""
    query = (
        select(traces.c.content, sightings.c.facts)
        .select_from(run_traces)
        .join(sightings, sightings.c.id == run_traces.c.sighting)
        .join(traces, traces.c.digest == run_traces.c.trace_digest)
        .where(run_traces.c.run == run)
        .order_by(run_traces.c.ordinal)
    )
    for row in connection.execute(query.execution_options(yield_per=CHUNK)):
        yield _trace(row.content, row.facts)


def find_digests(connection: Connection, name: str, limit: int) -> list[str]:
    """Digests of stored traces that `name` may mean: an id, else a digest or the start of its hex digits."""
    exact = select(sightings.c.trace_digest).where(sightings.c.name == name_text(name)).distinct().limit(limit)
    found = list(connection.scalars(exact))
    if found:
        return sorted(found)
    query = select(traces.c.digest).where(starts_with(traces.c.digest, name)).order_by(traces.c.digest)
    return list(connection.scalars(query.limit(limit)))


def starts_with(digest: ColumnElement[str], start: str) -> ColumnElement[bool]:
    """Whether a digest starts so, with or without its tag: a range, which an index serves and LIKE may not."""
    first = searchable(start if start.startswith("sha256:") else f"sha256:{start}")
    return and_(digest >= first, digest < f"{first}g")  # g follows every hex digit


def get_trace(connection: Connection, name: str) -> StoredTrace:
    """The one trace that `name` means. Raises UnknownNameError for none, UsageError for several."""
    found = find_digests(connection, name, _CANDIDATES_SHOWN + 1)
    if not found:
        raise UnknownNameError(f"no trace {name!r} in the store.", remedy="Give its id, or the start of its digest.")
    if len(found) > 1:
        shown = ", ".join(_with_writer(connection, digest) for digest in found[:_CANDIDATES_SHOWN])
        more = " and more" if len(found) > _CANDIDATES_SHOWN else ""
        raise UsageError(f"{name!r} may be any of {shown}{more}.", remedy="Give a digest, or the start of one.")
    content = connection.execute(select(traces.c.content).where(traces.c.digest == found[0])).scalar_one()
    facts = connection.scalars(
        select(sightings.c.facts).where(sightings.c.trace_digest == found[0]).order_by(sightings.c.id)
    )
    seen = tuple(_trace(content, text) for text in facts)
    return StoredTrace(trace=seen[-1], sightings=seen)


def _with_writer(connection: Connection, digest: str) -> str:
    """A digest and who wrote that trace, as far as it was told."""
    written = select(sightings.c.generator).where(
        sightings.c.trace_digest == digest, sightings.c.generator.is_not(None)
    )
    writers = ", ".join(connection.scalars(written.distinct().order_by(sightings.c.generator).limit(_CANDIDATES_SHOWN)))
    return f"{digest} ({writers})" if writers else digest


def _trace(content: str, facts: str) -> Trace:
    return Trace.model_validate({**json.loads(content), **json.loads(facts)})
