"""Announces approvals to other systems: signed JSON by POST, retried a few times, never in anybody's way.

Body: {"event", "delivery", "sent_at", "approval": {...}, "url"}. `X-Hoopfast-Signature: sha256=<hex>` is the body's
HMAC-SHA-256 under the webhook's secret, so the receiver can prove who wrote it, and refuse old ones by `sent_at`.
Parameters are left out and SQL is cut: who may decide sees them in full behind `url`. Called by supervisor/main.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import orjson

from hoopfast.config import Webhook
from hoopfast.errors import GatewayError
from hoopfast.store.rows import ApprovalRow

log = logging.getLogger("hoopfast.control.webhook")

TRIES = 5
FIRST_DELAY_S = 1.0                 # doubles
TIMEOUT_S = 10.0
PENDING_MAX = 1000
SQL_MAX = 4000
SIGNATURE = "X-Hoopfast-Signature"


def sign(body: bytes, secret: str) -> str:
    """The value of the signature header."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def body_of(event: str, row: ApprovalRow, url: str, delivery: str, sent_at: float) -> bytes:
    approval = {
        "id": row.id, "state": row.state, "requester": row.requester, "connection": row.connection, "peer": row.peer,
        "application": row.application, "rule": row.rule, "sql": row.sql[:SQL_MAX], "sql_cut": len(row.sql) > SQL_MAX,
        "parameters": len(row.parameters), "approver_groups": row.approver_groups, "needed": row.needed,
        "votes": [{"reviewer": v["reviewer"], "approve": v["approve"], "reason": v["reason"]} for v in row.votes],
        "created_at": row.created_at, "expires_at": row.expires_at,
    }
    message = {"event": event, "delivery": delivery, "sent_at": sent_at, "approval": approval, "url": url}
    return orjson.dumps(message)


class Announcer:
    """Delivers to every configured webhook, each on its own. `announce` returns at once; `close` gives up the rest."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        *,
        resolve_secret: Callable[[str], str],
        url: Callable[[str], str],
        clock: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
        first_delay_s: float = FIRST_DELAY_S,
    ) -> None:
        self.webhooks = tuple(webhooks)         # replaced on reload
        self.failures = 0
        self._resolve_secret = resolve_secret
        self._url = url
        self._clock = clock
        self._first_delay_s = first_delay_s
        self._tasks: set[asyncio.Task[None]] = set()
        # No redirects: what is signed for one receiver is not for another.
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, transport=transport, follow_redirects=False)

    def announce(self, event: str, row: ApprovalRow) -> None:
        body = body_of(event, row, self._url(row.id), secrets.token_hex(8), self._clock())
        for webhook in self.webhooks:
            if len(self._tasks) >= PENDING_MAX:
                self.failures += 1
                log.error("%d webhook deliveries are waiting, %s of %s is not announced", PENDING_MAX, event, row.id)
                return
            task = asyncio.create_task(self._deliver(webhook, event, row.id, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def _deliver(self, webhook: Webhook, event: str, approval: str, body: bytes) -> None:
        # The path and query of a webhook often are its credential: only the host is logged.
        host = httpx.URL(webhook.url).host
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self._first_delay_s * 2 ** (attempt - 1))
            problem, again = await self._try(webhook, event, body)
            if not problem:
                return
            log.warning("webhook %s did not take %s of %s: %s", host, event, approval, problem)
            if not again:
                break
        self.failures += 1
        log.error("webhook %s never took %s of %s: %s", host, event, approval, problem)

    async def _try(self, webhook: Webhook, event: str, body: bytes) -> tuple[str, bool]:
        """("", _) when delivered; else what is wrong, and whether another try makes sense."""
        try:
            secret = await asyncio.to_thread(self._resolve_secret, webhook.secret)
        except GatewayError as failure:
            return str(failure), True
        if not secret:
            return "its secret is empty, and nothing leaves unsigned", False
        headers = {"Content-Type": "application/json", SIGNATURE: sign(body, secret), "X-Hoopfast-Event": event}
        try:
            # The status is all that counts: a receiver's answer of any size is left where it is.
            async with self._http.stream("POST", webhook.url, content=body, headers=headers) as response:
                pass
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            return type(failure).__name__, True
        if response.is_success:
            return "", False
        # 408 and 429 are the receiver asking for patience; any other 4xx will not change its mind.
        again = response.status_code >= 500 or response.status_code in (408, 429)
        return f"HTTP {response.status_code}", again


def settings_of(webhooks: Sequence[Webhook]) -> list[dict[str, Any]]:
    """For the status page: where announcements go, without what could let anybody else send there."""
    return [{"host": httpx.URL(webhook.url).host} for webhook in webhooks]
