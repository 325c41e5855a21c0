"""What people may do through the admin API and the console, with the check of their role in front of each.

Both faces call these functions, so there is one place that says who may do what, and one that records it. Results are
plain dicts, lists and numbers, ready for JSON. Refusals are control.principal.Refused.
"""

from __future__ import annotations

import asyncio
import secrets as randomness
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from hoopfast import model
from hoopfast.audit.events import utc
from hoopfast.audit.finding import BadSearch
from hoopfast.config import Config
from hoopfast.control.approvals import Approvals
from hoopfast.control.principal import ADMIN, APPROVER, AUDITOR, LOCAL_ADMIN, Principal, Refused, principal_of
from hoopfast.errors import ConfigError, GatewayError
from hoopfast.identity import credentials
from hoopfast.store.rows import ApprovalRow, PolicyRow, SecretRow
from hoopfast.supervisor.own import Own
from hoopfast.supervisor.processes import Pool
from hoopfast.supervisor.reload import Reloader
from hoopfast.supervisor.sessions import Sessions
from hoopfast.supervisor.trail import Trail

APPROVAL_STATES = ("waiting", "approved", "rejected", "withdrawn", "expired", "used")
SECRET_TTL_MAX_S = 365 * 86400.0
TEXT_MAX = 200
TAIL_POLL_S = 0.5
EXPORT_BATCH = 500
REVOKED_MAX = 10_000

T = TypeVar("T")


class AdminStore(Protocol):
    """The part of store.control.ControlStore that is used here."""

    def add_secret(
        self, id: str, digest: bytes, user: str, groups: tuple[str, ...], label: str, created_by: str,  # noqa: A002
        created_at: float, expires_at: float,
    ) -> None: ...
    def list_secrets(self) -> list[SecretRow]: ...
    def revoke_secret(self, id: str, by: str, at: float) -> bool: ...  # noqa: A002
    def policy_history(self) -> list[PolicyRow]: ...


class AuditReading(Protocol):
    """The part of audit.search.AuditReader that is used here; every method blocks and returns plain data."""

    def sessions(self, filters: Mapping[str, Any] | None = None, limit: int = 100) -> list[dict[str, Any]]: ...
    def session(self, id: str) -> dict[str, Any] | None: ...  # noqa: A002  (the reader's name for it)
    @property
    def search(self) -> Callable[..., list[dict[str, Any]]]: ...
    @property
    def who_saw(self) -> Callable[..., list[dict[str, Any]]]: ...
    def export(self, **filters: Any) -> Iterator[bytes]: ...
    def tail(self, after_rowid: int, limit: int = 1000) -> list[dict[str, Any]]: ...
    def last_id(self) -> int: ...


class Operations:
    """One object per gateway; `status` is given by supervisor/main.py, which knows the health of every part."""

    def __init__(
        self,
        *,
        store: AdminStore,
        approvals: Approvals,
        sessions: Sessions,
        pool: Pool,
        reloader: Reloader,
        trail: Trail,
        audit: AuditReading | None,
        status: Callable[[], dict[str, Any]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._approvals = approvals
        self._sessions = sessions
        self._pool = pool
        self._reloader = reloader
        self._trail = trail
        self._audit = audit
        self._status = status
        self._clock = clock
        self.on_revoked: list[Callable[[str], None]] = []       # called with the id of a revoked secret
        self._revoked: dict[str, None] = {}                     # since the start, the latest last
        self.own = Own(store, lambda: self._reloader.current, self.note, self._end_secret, clock)

    @property
    def config(self) -> Config:
        return self._reloader.current.config

    def note(self, who: Principal, action: str, **fields: Any) -> None:
        """Record that somebody used the admin interface."""
        self._trail.record(
            "admin", user=who.identity.user, operation=action, subject=who.identity.subject, issuer=who.identity.issuer,
            local=who.local, **fields,
        )

    # ------------------------------------------------------------ overview

    def status(self, who: Principal) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR, APPROVER)
        return self._status()

    def workers(self, who: Principal) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR)
        now = asyncio.get_running_loop().time()
        listed = [
            {"worker": w.index, "pid": w.pid, "ready": w.ready, "load": w.load, "up_s": round(now - w.started_at, 1)}
            for _, w in sorted(self._pool.workers.items())
        ]
        return {"workers": listed, "restarts": self._pool.restarts}

    # ------------------------------------------------------------ sessions

    async def sessions(
        self, who: Principal, *, live: bool | None = None, limit: int = 100, **filters: Any
    ) -> dict[str, Any]:
        """Newest first: open ones as the workers report them, with their counts and ended ones from the audit store."""
        who.need(ADMIN, AUDITOR)
        self.note(who, "sessions", filters=filters)
        known: dict[str, dict[str, Any]] = {}
        if self._audit is not None:
            found = await _reading(self._audit.sessions, filters, limit)
            known = {item["session"]: item for item in found}
        wanted = {name: filters[name] for name in ("user", "connection") if filters.get(name)}
        running = [_live(worker, session) for worker, session in reversed(self._sessions.all())]
        running = [item for item in running if all(item[name] == value for name, value in wanted.items())]
        listed = [{**known.pop(item["session"], {}), **item} for item in running] if live is not False else []
        if not live:
            open_now = {f"{session.session:016x}" for _, session in self._sessions.all()}
            listed += [{**item, "live": False} for name, item in known.items() if name not in open_now]
        return {"sessions": listed[:limit]}

    async def session(self, who: Principal, name: str) -> dict[str, Any]:
        """One session and its events, oldest first."""
        who.need(ADMIN, AUDITOR)
        number = session_number(name)
        kept = await _reading(self._audit.session, f"{number:016x}") if self._audit is not None else None
        found = self._sessions.find(number)
        if found is None and kept is None:
            raise Refused(404, f"there is no session {name}", hint="`hoopfast sessions list` shows them.")
        self.note(who, "session", session_shown=f"{number:016x}")
        events = kept.pop("events") if kept is not None else []
        return {"session": {**(kept or {}), **(_live(*found) if found else {"live": False})}, "events": events}

    def kill(self, who: Principal, name: str, reason: str) -> dict[str, Any]:
        who.need(ADMIN)
        number = session_number(name)
        found = self._sessions.find(number)
        if found is None:
            raise Refused(404, f"no session {name} is open", hint="`hoopfast sessions list` shows those that are.")
        worker, session = found
        said = reason.strip()[:TEXT_MAX] or "ended by an administrator"
        at = self._pool.workers.get(worker)
        if at is not None:
            at.send(model.KillSessions(sessions=(number,), reason=said))
        self._trail.record(
            "kill", user=who.identity.user, connection=session.connection, client=session.peer,
            session=f"{number:016x}", session_user=session.identity.user, reason=said,
        )
        return {"killed": f"{number:016x}"}

    # ------------------------------------------------------------ audit

    async def search(self, who: Principal, **filters: Any) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR)
        audit = self._need_audit()
        self.note(who, "audit_search", filters=filters)
        return {"events": await _reading(audit.search, **filters)}

    async def who_saw(self, who: Principal, column: str, **filters: Any) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR)
        audit = self._need_audit()
        self.note(who, "audit_who_saw", column=column, filters=filters)
        return {"sessions": await _reading(audit.who_saw, column, **filters)}

    def export(self, who: Principal, **filters: Any) -> AsyncIterator[bytes]:
        """Every matching event as a line, oldest first; read in batches, so that an export of a year fits in memory."""
        # Not a generator itself: the refusal has to come before the first byte of the answer.
        who.need(ADMIN, AUDITOR)
        audit = self._need_audit()
        self.note(who, "audit_export", filters=filters)
        return _batched(audit, filters)

    def tail(self, who: Principal, after: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """Events from now on (or after the event with this `id`), as they reach the store. Ends with the credential."""
        who.need(ADMIN, AUDITOR)
        audit = self._need_audit()
        self.note(who, "audit_tail")
        return _followed(audit, after, lambda: self._still_good(who))

    def _still_good(self, who: Principal) -> bool:
        """What goes on for hours must not outlive the credential it began with, nor the role."""
        now = who.identity
        if now.credential in self._revoked or 0 < now.expires_at <= self._clock():
            return False
        return who.local or not principal_of(now, self.config.admin).roles.isdisjoint((ADMIN, AUDITOR))

    def _need_audit(self) -> AuditReading:
        if self._audit is None:
            raise Refused(
                501, "this gateway has no audit store that can be searched",
                hint="Add a sink of kind sqlite or postgres to audit.sinks, or search where your other sinks put them.",
            )
        return self._audit

    # ------------------------------------------------------------ approvals

    async def approvals(self, who: Principal, state: str | None) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR, APPROVER)
        if state is not None and state not in APPROVAL_STATES:
            raise Refused(400, f"there is no state {state!r}", hint=f"States are {', '.join(APPROVAL_STATES)}.")
        rows = await self._approvals.in_state(state)
        rows.sort(key=lambda row: (row.state != "waiting", -row.created_at))
        return {"approvals": [self._approval(who, row) for row in rows]}

    async def approval(self, who: Principal, name: str) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR, APPROVER)
        return {"approval": self._approval(who, await self._approvals.get(name))}

    async def vote(self, who: Principal, name: str, approve: bool, reason: str) -> dict[str, Any]:
        """The role opens the door; whether this person may decide this request is for control.approvals to say."""
        who.need(ADMIN, APPROVER)
        return {"approval": self._approval(who, await self._approvals.vote(name, who, approve, reason))}

    def _approval(self, who: Principal, row: ApprovalRow) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(row)
        shown["session"] = f"{row.session:016x}"
        may_vote = row.state == "waiting" and not who.roles.isdisjoint((ADMIN, APPROVER))
        shown["why_not"] = self._approvals.may_decide(who, row) if may_vote else "this request is not yours to decide"
        shown["can_decide"] = may_vote and not shown["why_not"]
        return shown

    # ------------------------------------------------------------ secrets

    async def secrets(self, who: Principal) -> dict[str, Any]:
        who.need(ADMIN)
        now = self._clock()
        rows = await asyncio.to_thread(self._store.list_secrets)
        return {"secrets": [{**msgspec.to_builtins(row), "state": row.state(now)} for row in rows]}

    async def create_secret(
        self, who: Principal, *, user: str, groups: tuple[str, ...], ttl_s: float, label: str
    ) -> dict[str, Any]:
        """The answer holds the secret: it is the only time that anybody sees it."""
        who.need(ADMIN)
        user, label = user.strip(), label.strip()
        if not user or any(len(text) > TEXT_MAX or not text.isprintable() for text in (user, label, *groups)):
            raise Refused(400, f"a secret needs a user; names are printable, of at most {TEXT_MAX} characters")
        if user.casefold() == LOCAL_ADMIN:
            raise Refused(400, f"{LOCAL_ADMIN} is the gateway's own user; nobody else can be called so")
        if not 0 < ttl_s <= SECRET_TTL_MAX_S:
            raise Refused(400, f"the lifetime must be between a second and {SECRET_TTL_MAX_S / 86400:.0f} days")
        demo = any(issuer.development for issuer in self.config.identity)
        secret, name, now = credentials.new_secret(demo=demo), "sec_" + randomness.token_hex(5), self._clock()
        try:
            await asyncio.to_thread(
                self._store.add_secret, name, credentials.digest(secret), user, groups, label, who.identity.user, now,
                now + ttl_s,
            )
        except GatewayError as failure:
            raise Refused(409, str(failure)) from failure
        self.note(who, "secret_create", secret=name, secret_user=user, groups=list(groups), ttl_s=ttl_s, label=label)
        return {"id": name, "secret": secret, "user": user, "groups": list(groups), "expires_at": now + ttl_s}

    async def revoke_secret(self, who: Principal, name: str) -> dict[str, Any]:
        """Ends the secret's sessions at once, in every worker. Revoking again ends what might still be open."""
        who.need(ADMIN)
        known = any(row.id == name for row in await asyncio.to_thread(self._store.list_secrets))
        if not known:
            raise Refused(404, f"there is no secret {name}", hint="`hoopfast secret list` shows them.")
        fresh, ended = await self._end_secret(name, who.identity.user)
        self.note(who, "secret_revoke", secret=name, sessions=ended)
        return {"revoked": name, "sessions": ended, "before": not fresh}

    async def _end_secret(self, name: str, by: str) -> tuple[bool, int]:
        """(whether it was still good, sessions that end now)"""
        fresh = await asyncio.to_thread(self._store.revoke_secret, name, by, self._clock())
        ended = self._sessions.revoke(name)
        self._revoked[name] = None
        while len(self._revoked) > REVOKED_MAX:
            del self._revoked[next(iter(self._revoked))]
        self._pool.broadcast(model.KillSessions(credential=name, reason="this credential was revoked"))
        for tell in self.on_revoked:
            tell(name)
        return fresh, ended

    # ------------------------------------------------------------ policy

    async def policy(self, who: Principal) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR)
        now = self._reloader.current
        return {
            "version": now.version, "digest": now.digest, "accepted_at": now.at, "source": now.text,
            "file": str(Path(now.config.policy).name), "problems": self._reloader.problems,
            "failures": self._reloader.failures,
        }

    async def policy_history(self, who: Principal) -> dict[str, Any]:
        who.need(ADMIN, AUDITOR)
        rows = await asyncio.to_thread(self._store.policy_history)
        return {"history": [msgspec.to_builtins(row) for row in rows]}

    async def reload(self, who: Principal) -> dict[str, Any]:
        """Read both files again. 422 with every problem when they are broken; then nothing has changed."""
        who.need(ADMIN)
        try:
            accepted = await self._reloader.reload(self._trail, who.identity.user)
        except ConfigError as broken:
            problems = "\n".join(str(problem) for problem in broken.problems)
            raise Refused(422, f"nothing was changed:\n{problems}") from broken
        return {"version": accepted.version, "digest": accepted.digest}


def session_number(name: str) -> int:
    """The number of a session from its 16 hex digits. Raises Refused(404)."""
    try:
        if not 1 <= len(name) <= 16:
            raise ValueError(name)
        return int(name, 16)
    except ValueError:
        raise Refused(404, f"{name[:40]!r} is not the name of a session", hint="It has 16 hex digits.") from None


def _live(worker: int, session: model.SessionOpened) -> dict[str, Any]:
    who = session.identity
    return {
        "session": f"{session.session:016x}", "live": True, "worker": worker, "user": who.user, "issuer": who.issuer,
        "groups": list(who.groups), "method": who.method, "credential": who.credential,
        "connection": session.connection, "database": session.database, "role": session.role, "client": session.peer,
        "application": session.application, "tls": session.tls, "started_at": utc(int(session.started_at * 1e9)),
        "ended_at": None,
    }


async def _reading(read: Callable[..., T], *arguments: Any, **filters: Any) -> T:
    try:
        return await asyncio.to_thread(read, *arguments, **filters)
    except BadSearch as bad:
        raise Refused(400, str(bad)) from bad
    except GatewayError as failure:
        raise Refused(503, str(failure), hint="The journal keeps everything meanwhile.") from failure


async def _batched(audit: AuditReading, filters: dict[str, Any]) -> AsyncIterator[bytes]:
    events = audit.export(**filters)
    while batch := await asyncio.to_thread(lambda: list(islice(events, EXPORT_BATCH))):
        for event in batch:
            yield event


async def _followed(
    audit: AuditReading, after: int | None, may_go_on: Callable[[], bool]
) -> AsyncIterator[dict[str, Any]]:
    position = await asyncio.to_thread(audit.last_id) if after is None else after
    while may_go_on():
        events = await asyncio.to_thread(audit.tail, position)
        for event in events:
            position = event["id"]
            yield event
        if not events:
            await asyncio.sleep(TAIL_POLL_S)
