"""How the gateway is: ready or why not, a status for people, numbers for Prometheus. Called by supervisor/main.py."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from hoopfast import __version__
from hoopfast.config import Config
from hoopfast.control.approvals import Approvals
from hoopfast.control.webhook import Announcer, settings_of
from hoopfast.supervisor.dispatch import Dispatch
from hoopfast.supervisor.processes import Pool
from hoopfast.supervisor.reload import Reloader
from hoopfast.supervisor.sessions import Sessions
from hoopfast.supervisor.shipping import Shipping
from hoopfast.units import size_bytes

STORE_TIMEOUT_S = 3.0


class KeyAge(Protocol):
    @property
    def stale(self) -> bool: ...
    def age(self) -> float: ...


class Store(Protocol):
    def approval(self, id: str) -> Any: ...  # noqa: A002  (the store's name for it)


class Health:
    """Reads the parts; owns nothing but `draining`, which supervisor/main.py sets."""

    def __init__(
        self,
        *,
        pool: Pool,
        sessions: Sessions,
        reloader: Reloader,
        approvals: Approvals,
        store: Store,
        shipping: Shipping,
        keys: Iterable[Any],
        dispatch: Dispatch,
        announcer: Announcer,
    ) -> None:
        self.draining = False
        self._pool = pool
        self._sessions = sessions
        self._reloader = reloader
        self._approvals = approvals
        self._store = store
        self._shipping = shipping
        self._keys = keys
        self._dispatch = dispatch
        self._announcer = announcer
        self._started_at = time.time()

    @property
    def _config(self) -> Config:
        return self._reloader.current.config

    async def problems(self) -> list[str]:
        """Why no client should be sent here now; empty: ready."""
        found = []
        if self.draining:
            found.append("draining: the gateway is shutting down")
        if not any(worker.ready for worker in self._pool.workers.values()):
            found.append("workers: none is ready")
        if self._shipping.lag.bytes >= size_bytes(self._config.audit.max_bytes):
            found.append("journal: full, because the audit sinks do not keep up; sessions are paused")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await asyncio.to_thread(self._store.approval, "")
        except Exception as failure:  # noqa: BLE001  (whatever it is, the store does not answer)
            found.append(f"store: does not answer ({type(failure).__name__})")
        return found

    def status(self) -> dict[str, Any]:
        """For `GET /api/v1/status` and the console's first page."""
        now, lag = self._reloader.current, self._shipping.lag
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "draining": self.draining,
            "listen": self._config.listen.address,
            "connections": sorted(self._config.connections),
            "workers": {"wanted": self._pool.size, "ready": sum(w.ready for w in self._pool.workers.values()),
                        "restarts": self._pool.restarts},
            "sessions": {"open": len(self._sessions), "max": self._config.listen.max_sessions,
                         "by_connection": self._sessions.by_connection()},
            "policy": {"version": now.version, "digest": now.digest, "accepted_at": now.at,
                       "file": Path(now.config.policy).name, "problems": self._reloader.problems,
                       "reload_failures": self._reloader.failures},
            "audit": {"backlog_bytes": lag.bytes, "lag_s": round(lag.seconds, 3), "events": lag.events_total,
                      "errors": lag.errors, "failing": dict(lag.failing), "sinks": msgspec.to_builtins(lag.sinks)},
            "approvals": {"waiting": self._approvals.waiting, "webhooks": settings_of(self._announcer.webhooks),
                          "webhook_failures": self._announcer.failures},
            "issuers": [{"name": cache.issuer.name, "key_age_s": _finite(cache.age()), "stale": cache.stale}
                        for cache in self._keys],
            "auth_failures": dict(self._dispatch.auth_failures),
        }

    def numbers(self) -> dict[str, Any]:
        """For supervisor/metrics.py."""
        lag = self._shipping.lag
        by_connection = dict.fromkeys(self._config.connections, 0) | self._sessions.by_connection()
        return {
            "sessions_by_connection": by_connection,
            "auth_failures": self._dispatch.auth_failures,
            "approvals_waiting": self._approvals.waiting,
            "worker_restarts": self._pool.restarts,
            "policy_version": self._reloader.current.version,
            "reload_failures": self._reloader.failures,
            "webhook_failures": self._announcer.failures,
            "journal_backlog_bytes": lag.bytes,
            "shipping_lag_seconds": lag.seconds,
            "sinks": lag.sinks,
            "key_age_seconds": {cache.issuer.name: cache.age() for cache in self._keys if math.isfinite(cache.age())},
        }


def _finite(seconds: float) -> float | None:
    return round(seconds, 1) if math.isfinite(seconds) else None
