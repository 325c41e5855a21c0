"""What the control store hands out: frozen rows, ready for JSON. Read by the identity gate and the supervisor.

Times are unix seconds. `session` is the gateway's 64-bit session number, as in hoopfast.model.
"""

from __future__ import annotations

from typing import Any

from hoopfast.model import Frozen, Identity

WAITING, APPROVED, REJECTED = "waiting", "approved", "rejected"
WITHDRAWN, EXPIRED, USED = "withdrawn", "expired", "used"


class SecretRow(Frozen, frozen=True):
    """A gateway secret without its digest. Revoked and expired ones are handed out too: ask `state`."""

    id: str
    user: str
    groups: tuple[str, ...]
    label: str
    created_by: str
    created_at: float
    expires_at: float                   # 0: never
    revoked_at: float = 0.0             # 0: not revoked
    revoked_by: str = ""
    last_used_at: float = 0.0           # to the minute

    def state(self, now: float) -> str:
        """"active" | "revoked" | "expired"; only "active" may log in."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now else "active"


class ApprovalRow(Frozen, frozen=True):
    """One statement that was held back, as the approver saw it but for values of masked columns.

    `votes`: {"reviewer", "subject", "approve", "reason", "at"}, oldest first.
    `state`: waiting -> approved | rejected | withdrawn | expired; approved -> used | withdrawn | expired.
    """

    id: str
    session: int
    requester: str
    requester_subject: str
    requester_issuer: str
    connection: str
    peer: str
    application: str
    rule: str
    sql: str
    parameters: tuple[str | None, ...]
    approver_groups: tuple[str, ...]
    needed: int
    created_at: float
    expires_at: float
    role: str
    catalog_epoch: int
    state: str = WAITING
    votes: tuple[dict[str, Any], ...] = ()
    decided_at: float = 0.0             # when `state` changed last; 0: still waiting


class SessionRow(Frozen, frozen=True):
    """A session as the supervisor knows it; `ended_at` is 0 while it lives."""

    session: int
    worker: int
    identity: Identity
    connection: str
    database: str
    role: str
    peer: str
    application: str
    tls: bool
    started_at: float
    ended_at: float = 0.0
    reason: str = ""


class PolicyRow(Frozen, frozen=True):
    """One accepted policy: `digest` is the hex SHA-256 of `source`."""

    version: int
    accepted_at: float
    digest: str
    source: str
