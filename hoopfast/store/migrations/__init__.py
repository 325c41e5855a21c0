"""Alembic's environment of the control store; run by ControlStore.migrate at every start."""
