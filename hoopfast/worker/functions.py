"""Names for functions that a FunctionCall message calls by number, so that the audit trail says what was called.

Asked of the session's own server, on a short connection of the gateway's, once for each function. Used by
`worker/verdicts.py` before it judges such a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from hoopfast.errors import UpstreamFault
from hoopfast.net import upstream
from hoopfast.worker.login import password_of
from hoopfast.worker.plan import Plan

log = logging.getLogger(__name__)

KNOWN_MAX: Final = 1024
PATIENCE_S: Final = 5.0
_QUERY: Final = (
    "SELECT pg_catalog.format("
    "'%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)), p.proargtypes "
    "FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace "
    "WHERE p.oid OPERATOR(pg_catalog.=) "
)


class Functions:
    """`plan` gives the configuration in force. `describe` never raises: a call without a name is recorded by number."""

    def __init__(self, plan: Callable[[], Plan | None]) -> None:
        self._plan = plan
        self._known: dict[tuple[str, int], dict[str, Any]] = {}

    async def describe(self, connection: str, call: bytes) -> dict[str, Any]:
        """For the label of a call ("function 4711"): {"function": "schema.name(types)", "arguments": [OIDs]}, or {}."""
        number = call.rpartition(b" ")[2]
        if not number.isdigit():
            return {}
        oid = int(number)
        key = (connection, oid)
        if key in self._known:
            return self._known[key]
        plan = self._plan()
        if plan is None or connection not in plan.upstream_tls:
            return {}
        target = plan.config.connections[connection].upstream
        try:
            rows = await upstream.ask(
                target, plan.upstream_tls[connection], lambda: password_of(target), f"{_QUERY}{oid:d}",
                deadline=asyncio.get_running_loop().time() + PATIENCE_S)
        except UpstreamFault as fault:
            log.warning("function %d of %s has no name: %s", oid, connection, fault)
            return {}
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        found: dict[str, Any] = {}
        if rows and rows[0][0] is not None:
            # Not kept when there is none: it may be made any time.
            found = {"function": rows[0][0], "arguments": [int(one) for one in (rows[0][1] or "").split()]}
            self._known[key] = found
        return found
