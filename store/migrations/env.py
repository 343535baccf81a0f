"""Alembic's entry point: runs the migrations on the connection, and in the transaction, it is handed."""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    transactional_ddl=True,  # SQLite can undo DDL too; Alembic does not assume so
)
with context.begin_transaction():
    context.run_migrations()
