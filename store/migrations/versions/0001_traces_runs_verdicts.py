"""Traces, runs and the verdicts about them.

The first schema. What a trace's digest covers (`traces`) is kept apart from what an import said of
it (`sightings`), and a verdict is found again by trace, verifier, granularity, position, sample and
revision, whichever run gave it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# ordered by code point in both databases
CODE = sa.String().with_variant(sa.String(collation="C"), "postgresql")
# the only integer type that SQLite counts up by itself
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "traces",
        sa.Column("digest", CODE, nullable=False),
        sa.Column("step_count", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_traces"),
    )
    op.create_table(
        "sightings",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("digest", CODE, nullable=False),
        sa.Column("trace_digest", CODE, nullable=False),
        sa.Column("name", CODE, nullable=False),
        sa.Column("generator", sa.String),
        sa.Column("source_format", sa.String),
        sa.Column("source_file", sa.String),
        sa.Column("source_line", sa.Integer),
        sa.Column("labels", sa.Text),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sightings"),
        sa.UniqueConstraint("digest", name="uq_sightings_digest"),
        sa.ForeignKeyConstraint(["trace_digest"], ["traces.digest"], name="fk_sightings_trace_digest"),
    )
    op.create_index("ix_sightings_trace_digest", "sightings", ["trace_digest"])
    op.create_index("ix_sightings_name", "sightings", ["name"])

    op.create_table(
        "runs",
        sa.Column("number", ROW_ID, nullable=False),
        sa.Column("id", CODE, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("started_at", sa.String, nullable=False),
        sa.Column("finished_at", sa.String),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("platform", sa.String, nullable=False),
        sa.Column("python_version", sa.String, nullable=False),
        sa.Column("draftproof_version", sa.String, nullable=False),
        sa.Column("git_commit", sa.String),
        sa.Column("packages", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("config_digest", sa.String, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
    )
    op.create_table(
        "run_verifiers",
        sa.Column("run", ROW_ID, nullable=False),
        sa.Column("verifier", CODE, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("granularity", sa.String, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("proposition", sa.String, nullable=False),
        sa.Column("guarantee", sa.String, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", "verifier", name="pk_run_verifiers"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_run_verifiers_run"),
    )
    op.create_table(
        "run_traces",
        sa.Column("run", ROW_ID, nullable=False),
        sa.Column("sighting", ROW_ID, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("trace_digest", CODE, nullable=False),
        sa.PrimaryKeyConstraint("run", "sighting", name="pk_run_traces"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_run_traces_run"),
        sa.ForeignKeyConstraint(["sighting"], ["sightings.id"], name="fk_run_traces_sighting"),
        sa.ForeignKeyConstraint(["trace_digest"], ["traces.digest"], name="fk_run_traces_trace_digest"),
    )
    op.create_index("ix_run_traces_trace_digest", "run_traces", ["run", "trace_digest", "sighting"])

    op.create_table(
        "verdicts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("run", ROW_ID, nullable=False),
        sa.Column("trace_digest", CODE, nullable=False),
        sa.Column("granularity", CODE, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("verifier", CODE, nullable=False),
        sa.Column("sample", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("supersedes", ROW_ID),
        sa.Column("author", sa.String),
        sa.Column("note", sa.Text),
        sa.Column("proposition", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("calibrated", sa.Boolean, nullable=False),
        sa.Column("guarantee", sa.String, nullable=False),
        sa.Column("lossless", sa.Boolean),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("wall_seconds", sa.Double, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.Text),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("tree_index", sa.BigInteger),
        sa.Column("recorded_at", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_verdicts"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_verdicts_run"),
        sa.ForeignKeyConstraint(["supersedes"], ["verdicts.id"], name="fk_verdicts_supersedes"),
        sa.UniqueConstraint(
            "trace_digest",
            "verifier",
            "granularity",
            "position",
            "sample",
            "revision",
            name="uq_verdicts_natural_key",
        ),
    )
    op.create_index("ix_verdicts_run", "verdicts", ["run"])
    for column in ("supersedes", "tree_index"):
        filled = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"uq_verdicts_{column}", "verdicts", [column], unique=True, sqlite_where=filled, postgresql_where=filled
        )

    op.create_table(
        "attempts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("run", ROW_ID, nullable=False),
        sa.Column("trace_digest", CODE, nullable=False),
        sa.Column("granularity", CODE, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("verifier", CODE, nullable=False),
        sa.Column("sample", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("started_at", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_attempts_run"),
        sa.UniqueConstraint(
            "run",
            "trace_digest",
            "verifier",
            "granularity",
            "position",
            "sample",
            "attempt",
            name="uq_attempts_try",
        ),
    )
    op.create_table(
        "skips",
        sa.Column("run", ROW_ID, nullable=False),
        sa.Column("trace_digest", CODE, nullable=False),
        sa.Column("granularity", CODE, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("verifier", CODE, nullable=False),
        sa.Column("sample", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("recorded_at", sa.String, nullable=False),
        sa.PrimaryKeyConstraint(
            "run", "trace_digest", "granularity", "position", "verifier", "sample", name="pk_skips"
        ),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_skips_run"),
    )
