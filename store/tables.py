"""The tables of the verdict log, as they are at the newest schema.

How a database came to have them is told by `migrations/versions`, and a test compares the two.
Three rules shape every table:

*   What a person wrote or a model generated is kept as JSON text, exactly. JSON escapes U+0000,
    which PostgreSQL text cannot hold, and text is what both databases give back byte for byte.
    Columns beside it repeat single fields for searching; the JSON is what counts.
*   Times are UTC in ISO 8601 text of one width, so that they sort as text and read the same in
    both databases.
*   Nothing is overwritten. A retry of an errored check and a human override are new rows of
    `verdicts`, one `revision` higher, that point at the row they replace. `supersedes` is UNIQUE,
    so the rows about one pair form a chain, and the row that nothing points at is current.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    column,
    exists,
    table,
)

SCHEMA_VERSION = "0002"
"""The newest migration: what this version of draftproof reads and writes."""

VERSION_TABLE = "draftproof_schema"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

# Compared by code point in both databases: prefix ranges and ordered merges rest on that order.
_Code = String().with_variant(String(collation="C"), "postgresql")
# SQLite numbers rows by itself only where the key is declared INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")

traces = Table(
    "traces",
    metadata,
    Column("digest", _Code, primary_key=True),
    Column("step_count", Integer, nullable=False),
    Column("content", Text, nullable=False),  # JSON: problem, segmentation, steps
    Column("recorded_at", String, nullable=False),
)

# What an import said about a trace, which its digest does not cover. The same trace from another
# file, or with labels that it lacked before, is another sighting.
sightings = Table(
    "sightings",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("digest", _Code, nullable=False, unique=True),  # of `facts` and the trace's digest
    Column("trace_digest", _Code, ForeignKey("traces.digest"), nullable=False, index=True),
    Column("name", _Code, nullable=False, index=True),  # Trace.id
    Column("generator", String),
    Column("source_format", String),
    Column("source_file", String),
    Column("source_line", Integer),
    Column("labels", Text),  # one letter a step: correct, incorrect, unknown
    Column("facts", Text, nullable=False),  # JSON: Trace without problem, segmentation and steps
    Column("recorded_at", String, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("number", _RowId, primary_key=True),
    Column("id", _Code, nullable=False, unique=True),
    Column("command", Text, nullable=False),
    Column("status", String, nullable=False),  # running | finished | interrupted | failed
    Column("started_at", String, nullable=False),
    Column("finished_at", String),
    Column("host", String, nullable=False),
    Column("platform", String, nullable=False),
    Column("python_version", String, nullable=False),
    Column("draftproof_version", String, nullable=False),
    Column("git_commit", String),
    Column("packages", Text, nullable=False),  # JSON: name to version
    Column("settings", Text, nullable=False),  # JSON
    Column("config_digest", String, nullable=False),  # of verifiers and settings
    Column("inputs", Text, nullable=False),  # JSON: the files that were read
    Column("counts", Text, nullable=False),  # JSON: what the caller counted
)

run_verifiers = Table(
    "run_verifiers",
    metadata,
    Column("run", _RowId, ForeignKey("runs.number"), primary_key=True),
    Column("verifier", _Code, primary_key=True),
    Column("ordinal", Integer, nullable=False),
    Column("granularity", String, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("proposition", String, nullable=False),
    Column("guarantee", String, nullable=False),
    Column("arguments", Text, nullable=False),  # JSON
    Column("fingerprint", Text, nullable=False),  # JSON
)

# With `run_verifiers` this says which pairs a run covers, without a row for each pair.
run_traces = Table(
    "run_traces",
    metadata,
    Column("run", _RowId, ForeignKey("runs.number"), primary_key=True),
    Column("sighting", _RowId, ForeignKey("sightings.id"), primary_key=True),
    Column("ordinal", Integer, nullable=False),
    Column("trace_digest", _Code, ForeignKey("traces.digest"), nullable=False),
    Index("ix_run_traces_trace_digest", "run", "trace_digest", "sighting"),
)

# No foreign key to `traces`: a pipeline logs verdicts about a draft before anyone decides whether
# the draft becomes part of a trace that is kept.
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("run", _RowId, ForeignKey("runs.number"), nullable=False, index=True),
    Column("trace_digest", _Code, nullable=False),
    Column("granularity", _Code, nullable=False),
    Column("position", Integer, nullable=False),
    Column("verifier", _Code, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("supersedes", _RowId, ForeignKey("verdicts.id")),
    Column("author", String),  # of a human override
    Column("note", Text),  # why it was overridden
    Column("proposition", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("score", Double),
    Column("calibrated", Boolean, nullable=False),
    Column("guarantee", String, nullable=False),
    Column("lossless", Boolean),
    Column("reason", String, nullable=False),
    Column("wall_seconds", Double, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("payload", Text),  # the verdict as JSON; NULL once erased
    Column("salt", LargeBinary),  # 16 random bytes; NULL once erased
    Column("leaf", LargeBinary, nullable=False),  # see `leaf.py`
    Column("tree_index", BigInteger),  # position in the Merkle log; NULL until sealed
    Column("recorded_at", String, nullable=False),
    UniqueConstraint(
        "trace_digest", "verifier", "granularity", "position", "sample", "revision", name="uq_verdicts_natural_key"
    ),
)
_replaced = verdicts.c.supersedes.isnot(None)
Index(
    "uq_verdicts_supersedes",
    verdicts.c.supersedes,
    unique=True,
    sqlite_where=_replaced,
    postgresql_where=_replaced,
)
_sealed = verdicts.c.tree_index.isnot(None)
Index("uq_verdicts_tree_index", verdicts.c.tree_index, unique=True, sqlite_where=_sealed, postgresql_where=_sealed)

# Every try that ended in an error verdict or in no verdict at all.
attempts = Table(
    "attempts",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("run", _RowId, ForeignKey("runs.number"), nullable=False),
    Column("trace_digest", _Code, nullable=False),
    Column("granularity", _Code, nullable=False),
    Column("position", Integer, nullable=False),
    Column("verifier", _Code, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started_at", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("message", Text, nullable=False),
    UniqueConstraint(
        "run", "trace_digest", "verifier", "granularity", "position", "sample", "attempt", name="uq_attempts_try"
    ),
)

# Pairs that a run left unjudged on purpose.
skips = Table(
    "skips",
    metadata,
    Column("run", _RowId, ForeignKey("runs.number"), primary_key=True),
    Column("trace_digest", _Code, primary_key=True),
    Column("granularity", _Code, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("verifier", _Code, primary_key=True),
    Column("sample", Integer, primary_key=True),
    Column("reason", String, nullable=False),
    Column("recorded_at", String, nullable=False),
)

_newer = verdicts.alias("newer")
is_current = ~exists().where(_newer.c.supersedes == verdicts.c.id)
"""Whether a row of `verdicts` is the one that counts: no retry and no override replaced it."""

# The view is made by the migrations, which define it; this names its columns for reading.
accounting = table(
    "accounting",
    column("run"),
    column("verifier"),
    column("granularity"),
    column("planned"),
    column("ordinal"),
    column("subjects"),
    column("outcome"),
)
