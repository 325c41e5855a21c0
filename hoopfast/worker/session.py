"""What the front knows of one live session, and the ids that sessions get.

The bytes are the relay's; this record is what verdicts, cancels, kills and policy changes need. Made by
`worker/login.py`, kept by `worker/front.py` until the relay's "closed" event.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from hoopfast.errors import ClientFault
from hoopfast.model import Client, SessionOpened
from hoopfast.net.cancel import Key
from hoopfast.net.upstream import Route
from hoopfast.policy.enforced import Entry, entry_for
from hoopfast.policy.snapshot import Snapshot
from hoopfast.worker.plan import Plan

COUNTER_BITS: Final = 24


class SessionIds:
    """unix seconds << 32 | worker << 24 | counter: unique over restarts, sorted by time, and the worker can be read."""

    def __init__(self, worker: int) -> None:
        if not 0 <= worker < 256:
            raise ValueError(f"worker number {worker} does not fit into a session id")
        self._worker = worker
        # A worker that dies and is back within the same second must not repeat its predecessor's ids.
        self._counter = secrets.randbelow(1 << COUNTER_BITS)

    def next(self, now: float) -> int:
        self._counter = (self._counter + 1) % (1 << COUNTER_BITS)
        return int(now) << 32 | self._worker << COUNTER_BITS | self._counter


class Session:
    """One adopted connection pair. `context` is what `worker/contexts.py` made of person, connection and policy."""

    __slots__ = (
        "context", "ending", "ends_at", "identity", "key", "masked", "opened", "route", "snapshot", "upstream_pid",
        "upstream_secret",
    )

    def __init__(
        self,
        opened: SessionOpened,
        *,
        context: Any,
        snapshot: Snapshot,
        masked: bool,
        key: Key,
        route: Route,
        upstream_pid: int,
        upstream_secret: bytes,
        ends_at: float,
    ) -> None:
        self.opened = opened
        self.identity = opened.identity
        self.context = context
        self.snapshot = snapshot
        self.masked = masked
        self.key = key
        self.route = route
        self.upstream_pid = upstream_pid
        self.upstream_secret = upstream_secret
        self.ends_at = ends_at                  # unix seconds
        self.ending = 0.0                       # when it was first told to end; 0: it was not

    @property
    def id(self) -> int:
        return self.opened.session

    @property
    def client(self) -> Client:
        return Client(peer=self.opened.peer, application=self.opened.application)

    @property
    def connection(self) -> str:
        return self.opened.connection


def entry_as(plan: Plan, session: Session) -> Entry | None:
    """How the session's person would enter now; None when that is with another role of the database than it did."""
    connection = plan.config.connections[session.connection]
    try:
        entry = entry_for(connection, plan.snapshot, session.identity, session.connection)
    except ClientFault:
        return None
    return entry if not connection.enforced or entry.target(connection).user == session.opened.role else None
