"""Runs the migrations on the connection that ControlStore.migrate opened (and locked) for it."""

from __future__ import annotations

from alembic import context

from hoopfast.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
