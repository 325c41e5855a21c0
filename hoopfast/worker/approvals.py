"""Statements that wait for somebody's approval: asks the supervisor, tells the client, waits for the decision.

The verdict desk calls `hold` and goes on when it returns; the supervisor's answers arrive by `on_message`. Whatever
way a wait ends, the supervisor hears of it exactly once: used, withdrawn, or (rejected, expired) it knows by
itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from hoopfast.model import (
    ApprovalOpened,
    ApprovalUsed,
    ApprovalWanted,
    ApprovalWithdrawn,
    Decision,
    Ruling,
)
from hoopfast.protocol.messages import notice_response

log = logging.getLogger(__name__)

CANCELLED = "cancelled"
DISCONNECTED = "disconnected"
FAILED = "failed"
OPEN_TIMEOUT_S = 30.0

Parameters = tuple[str | None, ...]


class Outcome(msgspec.Struct, frozen=True):
    """How a wait ended: "approved", "rejected", "expired", "cancelled" (by the client), "disconnected" or "failed"."""

    how: str
    approval: str = ""
    reviewer: str = ""
    reason: str = ""


class _Waiting:
    """One statement that is held."""

    def __init__(self, session: int, serial: int) -> None:
        loop = asyncio.get_running_loop()
        self.session = session
        self.serial = serial
        self.opened: asyncio.Future[ApprovalOpened] = loop.create_future()
        self.ended: asyncio.Future[Outcome] = loop.create_future()
        self.approval = ""

    def end(self, outcome: Outcome) -> None:
        if not self.ended.done():
            self.ended.set_result(outcome)


class ApprovalDesk:
    """`send` queues a struct for the supervisor."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self.send = send
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Waiting] = {}            # by number, until the wait is over
        self._given_up: set[int] = set()                    # ended before the supervisor answered

    async def hold(
        self, relay: Any, session: Any, serial: int, ruling: Ruling, sql: str, parameters: Parameters, epoch: int,
        recorded: tuple[str, Parameters] | None = None,
    ) -> Outcome:
        """Ask for approval and wait. The caller releases the statement and then calls `used`, or refuses it."""
        number = next(self._numbers)
        waiting = self._requests[number] = _Waiting(session.id, serial)
        opened = session.opened
        self.send(ApprovalWanted(
            request=number, session=session.id, identity=session.identity, connection=session.connection,
            peer=opened.peer, application=opened.application, rule=ruling.rule, sql=sql, parameters=parameters,
            approver_groups=ruling.approver_groups, approvals_needed=ruling.approvals_needed,
            expires_s=ruling.expires_s, role=opened.role, catalog_epoch=epoch, recorded=recorded,
        ))
        outcome = Outcome(DISCONNECTED)
        try:
            outcome = await self._wait(relay, waiting, ruling)
        finally:
            # Also on cancellation of this task, which means that the session is gone.
            del self._requests[number]
            self._finish(number, waiting, outcome)
        relay.note(session.id, orjson.dumps({
            "kind": "approval_decided", "approval": outcome.approval, "outcome": outcome.how,
            "reviewer": outcome.reviewer, "reason": outcome.reason,
        }))
        return outcome

    async def _wait(self, relay: Any, waiting: _Waiting, ruling: Ruling) -> Outcome:
        done, _ = await asyncio.wait(
            (waiting.opened, waiting.ended), timeout=OPEN_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return Outcome(FAILED, reason="the gateway could not store the request in time")
        if waiting.ended.done():
            return waiting.ended.result()
        opened = waiting.opened.result()
        if not opened.approval:
            return Outcome(FAILED, reason=opened.error or "the gateway could not store the request")
        waiting.approval = opened.approval
        relay.notice(waiting.session, _notice(ruling, opened))
        relay.note(waiting.session, orjson.dumps({
            "kind": "approval_opened", "approval": opened.approval, "rule": ruling.rule, "url": opened.url,
            "groups": list(ruling.approver_groups), "expires_at": opened.expires_at,
        }))
        return await waiting.ended

    def _finish(self, number: int, waiting: _Waiting, outcome: Outcome) -> None:
        if outcome.how not in (CANCELLED, DISCONNECTED, FAILED):
            return
        if waiting.approval:
            self.send(ApprovalWithdrawn(approval=waiting.approval, reason=outcome.how))
        elif waiting.opened.done():
            self._withdraw_unseen(waiting.opened.result(), outcome.how)
        else:
            self._given_up.add(number)

    def used(self, outcome: Outcome) -> None:
        """The approved statement was released."""
        self.send(ApprovalUsed(approval=outcome.approval))

    def dropped(self, outcome: Outcome) -> None:
        """Approved, but it will not run after all."""
        self.send(ApprovalWithdrawn(approval=outcome.approval, reason="session ended"))

    # ------------------------------------------------------------ what arrives

    def on_message(self, message: ApprovalOpened | Decision) -> None:
        """An answer of the supervisor. A request that nobody waits for any more is withdrawn."""
        if isinstance(message, ApprovalOpened):
            waiting = self._requests.get(message.request)
            if waiting is not None and not waiting.opened.done():
                waiting.opened.set_result(message)
            elif message.request in self._given_up:
                self._given_up.discard(message.request)
                self._withdraw_unseen(message, CANCELLED)
            return
        for waiting in self._requests.values():
            opened = waiting.opened.result().approval if waiting.opened.done() else waiting.approval
            if opened == message.approval:
                waiting.end(Outcome(message.outcome, message.approval, message.reviewer, message.reason))

    def cancel(self, session: int) -> bool:
        """The client pressed Ctrl-C; False when nothing of this session waits."""
        return self._end(session, None, CANCELLED)

    def withdrawn(self, session: int, serial: int) -> bool:
        """The client of a parked statement went away."""
        return self._end(session, serial, DISCONNECTED)

    def _end(self, session: int, serial: int | None, how: str) -> bool:
        found = [w for w in self._requests.values() if w.session == session and serial in (None, w.serial)]
        for waiting in found:
            waiting.end(Outcome(how, waiting.approval))
        return bool(found)

    def _withdraw_unseen(self, opened: ApprovalOpened, reason: str) -> None:
        if opened.approval:
            self.send(ApprovalWithdrawn(approval=opened.approval, reason=reason))


def _notice(ruling: Ruling, opened: ApprovalOpened) -> bytes:
    groups = ", ".join(ruling.approver_groups) or "the approvers"
    needed = f"{ruling.approvals_needed} people" if ruling.approvals_needed > 1 else "someone"
    where = f" at {opened.url}" if opened.url else ""
    return notice_response(
        "NOTICE", "00000",
        f'rule "{ruling.rule}" holds this statement until it is approved (request {opened.approval})',
        detail=f"{ruling.reason + '. ' if ruling.reason else ''}It waits for {needed} of: {groups}; "
               f"it expires in {duration(ruling.expires_s)}.",
        hint=f"It can be approved{where} or by: hoopfast approvals approve {opened.approval}. Ctrl-C withdraws it.",
    )


def duration(seconds: float) -> str:
    """ "15m", "90s", "2h": as people write it in policy.yaml."""
    whole = round(seconds)
    for size, unit in ((3600, "h"), (60, "m")):
        if whole >= size and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"
