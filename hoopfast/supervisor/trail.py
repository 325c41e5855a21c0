"""The gateway's own events for the audit trail: refused logins, approvals, administration, reloads, dead workers.

One small door to the shipper, so that the rest of the supervisor need not know events. Never blocks and never raises:
what the sinks do with an event is the shipper's business, and a failure is loud in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from hoopfast.audit.events import Gateway, gateway_event

log = logging.getLogger("hoopfast.supervisor.trail")


class Trail:
    """`add` takes an event (Shipper.add)."""

    def __init__(self, add: Callable[[Gateway], None]) -> None:
        self._add = add
        self._last = 0

    def record(self, action: str, *, user: str = "", client: str = "", connection: str = "", **fields: Any) -> None:
        """One event, now. `fields` must be ready for JSON and hold no secrets."""
        now = time.time_ns()
        # Strictly rising, also across restarts: (session, seq) names an event for good.
        self._last = max(now, self._last + 1)
        try:
            self._add(gateway_event(action, now, self._last, user=user, client=client, connection=connection, **fields))
        except Exception:
            log.exception("the event %s could not be added to the audit trail", action)
