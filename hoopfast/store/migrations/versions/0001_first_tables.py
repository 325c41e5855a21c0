"""Secrets, pins, approvals, sessions, policy history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, **kw: bool) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, **kw)  # type: ignore[arg-type]


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False)


def upgrade() -> None:
    op.create_table(
        "secrets", sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        _text("user"), _text("groups"), _text("label"), _text("created_by"), _time("created_at"), _time("expires_at"),
        _time("revoked_at"), _text("revoked_by"), _time("last_used_at"),
    )
    op.create_table(
        "pins", sa.Column("user", sa.Text, primary_key=True), _text("issuer"), _text("subject"), _time("pinned_at"),
    )
    op.create_table(
        "approvals", sa.Column("id", sa.Text, primary_key=True), _text("session"), _text("requester"),
        _text("requester_subject"), _text("requester_issuer"), _text("connection"), _text("peer"), _text("application"),
        _text("rule"), _text("sql"), _text("parameters"), _text("approver_groups"),
        sa.Column("needed", sa.Integer, nullable=False), _time("created_at"), _time("expires_at"), _text("role"),
        sa.Column("catalog_epoch", sa.BigInteger, nullable=False), _text("state"), _text("votes"), _time("decided_at"),
    )
    op.create_index("approvals_state", "approvals", ["state", "created_at"])
    op.create_table(
        "sessions", sa.Column("session", sa.Text, primary_key=True), sa.Column("worker", sa.Integer, nullable=False),
        _text("identity"), _text("connection"), _text("database"), _text("role"), _text("peer"), _text("application"),
        sa.Column("tls", sa.Boolean, nullable=False), _time("started_at"), _time("ended_at"), _text("reason"),
    )
    op.create_index("sessions_ended", "sessions", ["ended_at"])
    op.create_table(
        "policies", sa.Column("id", sa.Integer, primary_key=True), sa.Column("version", sa.BigInteger, nullable=False),
        _time("accepted_at"), _text("digest"), _text("source"),
    )


def downgrade() -> None:
    for name in ("policies", "sessions", "approvals", "pins", "secrets"):
        op.drop_table(name)
