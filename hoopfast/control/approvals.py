"""Held statements: opened, announced, voted on, withdrawn, expired; the outcome goes to the worker that holds them.

Owns the rules of who may decide. The store counts votes atomically, the webhook announces, the worker releases the
statement; all three are injected. Called by supervisor/dispatch.py (worker messages) and supervisor/operations.py
(votes). Everything is told to the store first: a decision that is not on disk is not sent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from hoopfast.control.principal import Principal, Refused
from hoopfast.errors import GatewayError
from hoopfast.model import ApprovalOpened, ApprovalUsed, ApprovalWanted, ApprovalWithdrawn, Decision
from hoopfast.store.rows import APPROVED, REJECTED, USED, WAITING, WITHDRAWN, ApprovalRow

log = logging.getLogger("hoopfast.control.approvals")

ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"        # nothing that is mistaken for something else when read aloud
ID_LENGTH = 8
REASON_MAX = 2000
EXPIRY_MAX_S = 7 * 86400.0

T = TypeVar("T")


class ApprovalStore(Protocol):
    """The part of store.control.ControlStore that is used here; its methods block."""

    def open_approval(self, row: ApprovalRow) -> None: ...
    def approval(self, id: str) -> ApprovalRow | None: ...  # noqa: A002  (the store's name for it)
    def list_approvals(self, state: str | None) -> list[ApprovalRow]: ...
    def vote(
        self, id: str, reviewer: str, subject: str, approve: bool, reason: str, at: float  # noqa: A002
    ) -> ApprovalRow: ...
    def close_approval(self, id: str, state: str, at: float) -> bool: ...  # noqa: A002
    def expire_approvals(self, now: float) -> list[ApprovalRow]: ...


class Approvals:
    """The approval desk of one gateway.

    `decide(session, decision)` reaches the worker that holds the session. `announce(event, row)` must not block.
    `record(event, row, actor, detail)` writes to the audit trail. `clock` is unix seconds.
    """

    def __init__(
        self,
        store: ApprovalStore,
        *,
        decide: Callable[[int, Decision], None],
        announce: Callable[[str, ApprovalRow], None],
        record: Callable[[str, ApprovalRow, str, dict[str, Any]], None],
        clock: Callable[[], float],
        url: Callable[[str], str],
    ) -> None:
        self._store = store
        self._decide = decide
        self._announce = announce
        self._record = record
        self._clock = clock
        self._url = url
        # Known here so that nobody asks the disk every second; the store stays the judge.
        self._waiting: dict[str, tuple[int, float]] = {}
        self._sessions: dict[str, int] = {}
        # What may not be kept, for whoever decides, while a request waits: SQL and parameters.
        self._clear: dict[str, tuple[str, tuple[str | None, ...]]] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def adopt(self) -> int:
        """At start: requests of an earlier process have lost their sessions, so nobody can be answered any more."""
        lost = 0
        for state in (WAITING, APPROVED):
            for row in await _off_loop(self._store.list_approvals, state):
                if await _off_loop(self._store.close_approval, row.id, WITHDRAWN, self._clock()):
                    lost += 1
                    self._record("approval_withdrawn", row, "", {"reason": "the gateway was restarted"})
        return lost

    # ------------------------------------------------------------ from workers

    async def open(self, wanted: ApprovalWanted) -> ApprovalOpened:
        """Store and announce a request. A failure is an answer too: the statement is then refused, not forgotten."""
        now = self._clock()
        sql, parameters = wanted.recorded or (wanted.sql, wanted.parameters)
        row = ApprovalRow(
            id="apr_" + "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH)),
            session=wanted.session, requester=wanted.identity.user, requester_subject=wanted.identity.subject,
            requester_issuer=wanted.identity.issuer, connection=wanted.connection, peer=wanted.peer,
            application=wanted.application, rule=wanted.rule, sql=sql, parameters=parameters,
            approver_groups=wanted.approver_groups, needed=max(1, wanted.approvals_needed), created_at=now,
            expires_at=now + min(max(wanted.expires_s, 1.0), EXPIRY_MAX_S), role=wanted.role,
            catalog_epoch=wanted.catalog_epoch,
        )
        try:
            await _off_loop(self._store.open_approval, row)
        except Exception:
            # Whatever is wrong with the store, the person at the other end waits for an answer.
            log.exception("the approval request of session %x could not be stored", wanted.session)
            return ApprovalOpened(
                request=wanted.request, approval="",
                error="the request for approval could not be stored; try again or tell the gateway's operator",
            )
        self._waiting[row.id] = (row.session, row.expires_at)
        self._sessions[row.id] = row.session
        if wanted.recorded is not None:
            self._clear[row.id] = (wanted.sql, wanted.parameters)
        self._record("approval_requested", row, row.requester, {})
        self._announce("approval.requested", row)
        return ApprovalOpened(request=wanted.request, approval=row.id, url=self._url(row.id), expires_at=row.expires_at)

    async def withdraw(self, withdrawn: ApprovalWithdrawn) -> None:
        """The requester gave up, or is gone."""
        self._over(withdrawn.approval)
        self._sessions.pop(withdrawn.approval, None)
        if await _off_loop(self._store.close_approval, withdrawn.approval, WITHDRAWN, self._clock()):
            row = await _off_loop(self._store.approval, withdrawn.approval)
            if row is not None:
                self._record("approval_withdrawn", row, row.requester, {"reason": withdrawn.reason})
                self._announce("approval.withdrawn", row)

    async def used(self, used: ApprovalUsed) -> None:
        """The statement has run; nothing can be decided or run again under this request."""
        self._sessions.pop(used.approval, None)
        if not await _off_loop(self._store.close_approval, used.approval, USED, self._clock()):
            log.error("the approval %s was used although it was not in the state approved", used.approval)
            return
        row = await _off_loop(self._store.approval, used.approval)
        if row is not None:
            self._record("approval_used", row, row.requester, {})

    async def sessions_lost(self, sessions: set[int], reason: str) -> None:
        """A worker died with these sessions: their requests have nobody left to answer."""
        lost = [approval for approval, session in self._sessions.items() if session in sessions]
        for approval in lost:
            await self.withdraw(ApprovalWithdrawn(approval=approval, reason=reason))

    async def expire(self) -> None:
        """Close what is over; called about once a second."""
        now = self._clock()
        if not any(expires_at <= now for _, expires_at in self._waiting.values()):
            return
        for row in await _off_loop(self._store.expire_approvals, now):
            self._over(row.id)
            self._sessions.pop(row.id, None)
            self._record("approval_expired", row, "", {})
            self._announce("approval.expired", row)
            self._decide(row.session, Decision(approval=row.id, outcome="expired"))

    # ------------------------------------------------------------ from people

    async def in_state(self, state: str | None) -> list[ApprovalRow]:
        """Newest first; None: all."""
        return [self._shown(row) for row in await _off_loop(self._store.list_approvals, state)]

    async def get(self, approval: str) -> ApprovalRow:
        """Raises Refused(404)."""
        return self._shown(await self._stored(approval))

    def _shown(self, row: ApprovalRow) -> ApprovalRow:
        """As whoever decides has to see it: nobody can judge a value that is hidden."""
        sql, parameters = self._clear.get(row.id, (row.sql, row.parameters))
        return msgspec.structs.replace(row, sql=sql, parameters=parameters)

    def _over(self, approval: str) -> None:
        self._waiting.pop(approval, None)
        self._clear.pop(approval, None)

    async def _stored(self, approval: str) -> ApprovalRow:
        row = await _off_loop(self._store.approval, approval)
        if row is None:
            raise Refused(404, f"there is no approval request {approval}", hint="`hoopfast approvals list` shows them.")
        return row

    def may_decide(self, voter: Principal, row: ApprovalRow) -> str:
        """Why this person cannot decide on the request, as a sentence; "" if they can. The store checks votes again."""
        me = voter.identity
        if me.method == "secret":
            # Whoever makes secrets chooses their user and groups: an admin could approve in anybody's name.
            return f"{me.user} came with a gateway secret, which proves no person: approve with your own sign-in"
        if me.user.casefold() == row.requester.casefold() or (
            (me.issuer, me.subject) == (row.requester_issuer, row.requester_subject)
        ):
            return f"{me.user} asked for {row.id} and cannot decide it; somebody else has to"
        if not voter.local and frozenset(me.groups).isdisjoint(row.approver_groups):
            groups = ", ".join(row.approver_groups) or "nobody (the rule names no group)"
            return f"{me.user} is not among the approvers of {row.id}: the rule {row.rule!r} names {groups}"
        return ""

    async def vote(self, approval: str, voter: Principal, approve: bool, reason: str) -> ApprovalRow:
        """Count a vote; when it decides, the statement's session is told. Raises Refused (403, 404, 409)."""
        row = await self._stored(approval)
        if refusal := self.may_decide(voter, row):
            self._record("approval_vote_refused", row, voter.identity.user, {"reason": refusal})
            raise Refused(403, refusal)
        reason = reason.strip()[:REASON_MAX]
        me = voter.identity
        try:
            row = await _off_loop(self._store.vote, approval, me.user, me.subject, approve, reason, self._clock())
        except GatewayError as refused:
            self._record("approval_vote_refused", row, me.user, {"reason": str(refused)})
            raise Refused(409, str(refused)) from refused
        self._record("approval_vote", row, me.user, {"approve": approve, "reason": reason, "local": voter.local})
        if row.state in (APPROVED, REJECTED):
            self._decided(row, reason)
        return row

    def _decided(self, row: ApprovalRow, reason: str) -> None:
        self._over(row.id)
        if row.state == REJECTED:
            self._sessions.pop(row.id, None)
        reviewers = ", ".join(vote["reviewer"] for vote in row.votes if vote["approve"] == (row.state == APPROVED))
        self._decide(row.session, Decision(approval=row.id, outcome=row.state, reviewer=reviewers, reason=reason))
        self._announce(f"approval.{row.state}", row)


async def _off_loop(call: Callable[..., T], *arguments: Any) -> T:
    # Every commit may wait for the disk.
    return await asyncio.to_thread(call, *arguments)
