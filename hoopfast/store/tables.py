"""The control store's tables, for SQLite and PostgreSQL alike. Migrations create them; `control` queries them.

Lists and structs are JSON text, 64-bit session numbers are 16 hex digits (both databases' integers are signed).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

secrets = Table(
    "secrets", metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("user", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("revoked_at", Float, nullable=False),
    Column("revoked_by", Text, nullable=False),
    Column("last_used_at", Float, nullable=False),
)

pins = Table(
    "pins", metadata,
    Column("user", Text, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("pinned_at", Float, nullable=False),
)

approvals = Table(
    "approvals", metadata,
    Column("id", Text, primary_key=True),
    Column("session", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("requester_subject", Text, nullable=False),
    Column("requester_issuer", Text, nullable=False),
    Column("connection", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("sql", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("approver_groups", Text, nullable=False),
    Column("needed", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("role", Text, nullable=False),
    Column("catalog_epoch", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("votes", Text, nullable=False),
    Column("decided_at", Float, nullable=False),
    Index("approvals_state", "state", "created_at"),
)

sessions = Table(
    "sessions", metadata,
    Column("session", Text, primary_key=True),
    Column("worker", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("connection", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("tls", Boolean, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Index("sessions_ended", "ended_at"),
)

policies = Table(
    "policies", metadata,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("digest", Text, nullable=False),
    Column("source", Text, nullable=False),
)
