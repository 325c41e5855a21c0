"""The front of one worker: what the supervisor says, what the relay reports, and the clients on their way in.

Everything here runs on one event loop. The front owns the table of live sessions, the cancel keys, the catalogs and the
timers; it sees no byte of a session after `adopt`. Made by `worker/main.py`, which owns loop, link and relay thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from hoopfast import limits, model
from hoopfast.analysis import catalog as catalogs
from hoopfast.errors import UpstreamFault
from hoopfast.net.cancel import CancelKeys, Key
from hoopfast.policy.enforced import Entry
from hoopfast.policy.snapshot import Snapshot
from hoopfast.protocol import messages, sqlstate
from hoopfast.worker.cancels import Cancels
from hoopfast.worker.labels import UNREAD
from hoopfast.worker.login import Login
from hoopfast.worker.plan import Plan
from hoopfast.worker.refusals import unjudged
from hoopfast.worker.session import Session, SessionIds, entry_as

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
GRACE_S: Final = 60.0                   # how long a transaction may outlive its session's end
CATALOG_TIMEOUT_S: Final = 30.0
RETRY_S: Final = 0.05
REPLANS_MAX: Final = 8                  # policy changes during one wait for a catalog
EVENT_ROUNDS_MAX: Final = 64
OTHER_COLUMNS: Final = "the gateway now hides other columns from you here; connect again"


class Contexts(Protocol):
    def obtain(
        self, identity: model.Identity, connection: str, snapshot: Snapshot, catalog: Any, client: model.Client,
        entry: Entry | None = None,
    ) -> Any: ...


class VerdictDesk(Protocol):
    async def verdict(
        self, session: Any, serial: int, kind: str, text: bytes, types: bytes, bind: bytes, status: bytes
    ) -> None: ...
    def probe_answered(self, session: Any, serial: int, frames: bytes) -> None: ...
    def withdrawn(self, session: Any, serial: int) -> None: ...
    def cancel(self, session: Any) -> bool: ...
    def session_closed(self, session: Any) -> None: ...


class SegmentSupply(Protocol):
    def want(self) -> None: ...
    def unsynced(self, error: int) -> None: ...


class Front:
    """`relay` is the core's Relay (or a fake of it); `send` queues a message for the supervisor."""

    def __init__(
        self,
        worker: int,
        relay: Any,
        send: Callable[[Any], None],
        plan: Plan,
        *,
        contexts: Contexts,
        desk: VerdictDesk,
        journal: SegmentSupply,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plan: Plan | None = plan
        self.draining = ""
        self.sessions: dict[int, Session] = {}
        self._relay = relay
        self._send = send
        self._contexts = contexts
        self._desk = desk
        self._journal = journal
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ids = SessionIds(worker)
        self._keys = CancelKeys()
        self._cancels = Cancels(self._keys, self.sessions, relay, desk, send)
        self._requests = itertools.count(1)
        self._auth: dict[int, asyncio.Future[model.AuthReply]] = {}
        self._catalogs: dict[str, Any] = {}
        self._catalog_waiters: dict[str, asyncio.Future[None]] = {}
        # Who has proved nothing takes no place, or a few silent clients could keep everybody out.
        self.places = asyncio.Semaphore(limits.LOGINS_IN_FLIGHT_MAX)
        self._logins: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._verdicts: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        self._emptied = asyncio.Event()
        relay.set_idle_timeout(plan.config.sessions.idle)
        self._limits = plan.snapshot.limits             # whether any policy so far has had some

    def close(self) -> None:
        """Stop timers and tasks; sessions are the relay's to end."""
        self._tick.cancel()
        for task in (*self._logins, *self._tasks):
            task.cancel()

    # ------------------------------------------------------------ clients

    def accept(self, fd: int, peer: str) -> None:
        """Take an accepted client's descriptor."""
        plan = self.plan
        if plan is None or self.draining:
            os.close(fd)
            self.tell(model.ConnectionDone(reason="refused", peer=peer))
            return
        login = Login(self, plan, fd, peer, self._loop.time() + plan.config.listen.login_timeout)
        task = self._loop.create_task(self._log_in(login))
        self._logins.add(task)
        task.add_done_callback(self._logins.discard)

    async def _log_in(self, login: Login) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await login.run()

    # ------------------------------------------------------------ what a login needs

    def tell(self, message: Any) -> None:
        self._send(message)

    def next_request(self) -> int:
        return next(self._requests)

    def next_session(self) -> int:
        return self._ids.next(self._clock())

    def issue_key(self, session: int, minor: int, pid: int) -> Key:
        return self._keys.issue(session, minor, pid)

    def release_key(self, key: Key) -> None:
        self._keys.release(key)

    async def cancel_key(self, pid: int, secret: bytes) -> None:
        await self._cancels.asked(pid, secret)

    async def authenticate(self, wanted: model.AuthWanted) -> model.AuthReply:
        answer: asyncio.Future[model.AuthReply] = self._loop.create_future()
        self._auth[wanted.request] = answer
        try:
            self.tell(wanted)
            return await answer
        finally:
            del self._auth[wanted.request]

    async def catalog(self, connection: str) -> Any:
        """The connection's catalog, fetched once for all who wait. UpstreamFault 57P03 when there is none."""
        for _ in range(REPLANS_MAX):
            if connection in self._catalogs:
                return self._catalogs[connection]
            waiter = self._catalog_waiters.get(connection)
            if waiter is None:
                waiter = self._catalog_waiters[connection] = self._loop.create_future()
                self.tell(model.CatalogWanted(connection=connection))
            try:
                async with asyncio.timeout(CATALOG_TIMEOUT_S):
                    # Shielded: one login that gives up must not take the answer from the others.
                    await asyncio.shield(waiter)
            except TimeoutError:
                if self._catalog_waiters.get(connection) is waiter:
                    del self._catalog_waiters[connection]
                raise _no_catalog("no answer in time") from None
        raise _no_catalog("the policy keeps changing")

    def known_catalog(self, connection: str, plan: Plan) -> Any:
        """For people without masks, if others have some here; None when it has yet to be fetched, which begins."""
        if plan.snapshot.masked_columns(connection) and connection not in {**self._catalogs, **self._catalog_waiters}:
            self._catalog_waiters[connection] = self._loop.create_future()
            self.tell(model.CatalogWanted(connection=connection))
        return self._catalogs.get(connection)

    def context_for(self, *who: Any) -> Any:
        return self._contexts.obtain(*who)

    def adopt(self, session: Session, **legs: Any) -> None:
        """Hand both legs to the relay; raises BufferError when its queue is full (then nothing has happened)."""
        self._relay.adopt(session.id, session.context.number, legs.pop("client_fd"), legs.pop("client_tls"),
                          legs.pop("upstream_fd"), legs.pop("upstream_tls"), **legs)
        self.sessions[session.id] = session
        self._emptied.clear()

    # ------------------------------------------------------------ from the supervisor

    def on_message(self, message: Any, fd: int | None) -> None:
        """One message of `model.ToWorker`, except ConfigUpdate and Drain, which `worker/main.py` translates."""
        match message:
            case model.Accept():
                if fd is None:
                    self.tell(model.ConnectionDone(reason="error", peer=message.peer))
                else:
                    self.accept(fd, message.peer)
            case model.AuthReply():
                answer = self._auth.get(message.request)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case model.CatalogUpdate():
                self._catalog_arrived(message)
            case model.KillSessions():
                self._kill_matching(message)
            case model.CancelKey():
                if message.done:
                    self._cancels.handled_elsewhere(message)
                else:
                    self._spawn(self._cancels.asked_elsewhere(message), "a cancel")
            case model.Ping():
                self.tell(model.Pong(number=message.number, sessions=len(self.sessions)))
            case _:
                log.error("a message that no worker expects: %s", type(message).__name__)

    def _kill_matching(self, kill: model.KillSessions) -> None:
        everything = not kill.sessions and not kill.credential
        for session in list(self.sessions.values()):
            theirs = kill.credential and session.identity.credential == kill.credential
            if everything or theirs or session.id in kill.sessions:
                self.end(session, kill.sqlstate, kill.reason or "the session was ended by an administrator")
        if everything:
            for task in list(self._logins):
                task.cancel()

    def end(self, session: Session, code: str, reason: str, *, when_idle: bool = False) -> None:
        """End a session with a FATAL error: now, or `when_idle` after its transaction."""
        session.ending = session.ending or self._clock()
        self._kill(session.id, messages.error_response("FATAL", code, reason), when_idle)

    def _kill(self, session: int, frame: bytes, when_idle: bool) -> None:
        if session not in self.sessions:
            return
        try:
            self._relay.kill(session, frame, when_idle=when_idle)
        except BufferError:
            # Somebody's access ends here: it is tried until the queue has room.
            self._loop.call_later(RETRY_S, self._kill, session, frame, when_idle)

    # ------------------------------------------------------------ policy and catalogs

    def replan(self, plan: Plan) -> None:
        """A new configuration and policy are in force: live sessions follow, or end where they may not be any more."""
        self.plan = plan
        self._limits = self._limits or plan.snapshot.limits
        self._relay.set_idle_timeout(plan.config.sessions.idle)
        # Catalogs describe the tables that the policy masks: another policy needs others.
        self._catalogs.clear()
        for waiter in self._catalog_waiters.values():
            _wake(waiter)                                   # who waits finds no catalog and asks again
        self._catalog_waiters.clear()
        for session in list(self.sessions.values()):
            if session.connection not in plan.config.connections:
                self.end(session, sqlstate.ADMIN_SHUTDOWN, "this connection was removed from the gateway")
            elif not plan.snapshot.may_enter(session.identity, session.connection):
                self.end(session, sqlstate.ADMIN_SHUTDOWN, "the gateway's policy no longer lets you in here")
        for connection in {session.connection for session in self.sessions.values() if not session.ending}:
            self._spawn(self._follow(plan, connection), "applying a policy")

    async def _follow(self, plan: Plan, connection: str) -> None:
        """Give the sessions of one connection their contexts under `plan`; they keep the old ones until then."""
        masked = {
            session.id for session in self._on(connection)
            if plan.snapshot.masks_for(session.identity, connection)
        }
        catalog = None
        if masked:
            try:
                catalog = await self.catalog(connection)
            except UpstreamFault as fault:
                log.error("the new policy cannot be applied to %s: %s", connection, fault)
        if self.plan is not plan:
            return                                          # a newer plan has its own task
        for session in self._on(connection):
            if entry_as(plan, session) is None:
                self.end(session, sqlstate.ADMIN_SHUTDOWN, OTHER_COLUMNS, when_idle=True)
            elif session.id not in masked:
                self._set_context(session, plan.snapshot, self.known_catalog(connection, plan), masked=False)
            elif catalog is None:
                self.end(session, sqlstate.ADMIN_SHUTDOWN, "the gateway's policy changed and cannot be applied here")
            elif not session.masked:
                # Its encoding and string syntax were never pinned, so its statements cannot be trusted to be readable.
                self.end(session, sqlstate.ADMIN_SHUTDOWN, "the gateway now masks columns for you here; connect again",
                         when_idle=True)
            else:
                self._set_context(session, plan.snapshot, catalog, masked=True)

    def _on(self, connection: str) -> list[Session]:
        return [s for s in self.sessions.values() if s.connection == connection and not s.ending]

    def _set_context(self, session: Session, snapshot: Snapshot, catalog: Any, *, masked: bool) -> None:
        entry = entry_as(self.plan, session) if self.plan is not None else None
        context = self._contexts.obtain(session.identity, session.connection, snapshot, catalog, session.client, entry)
        session.snapshot, session.context, session.masked = snapshot, context, masked
        try:
            self._relay.set_context(session.id, context.number)
        except BufferError:
            self.end(session, sqlstate.ADMIN_SHUTDOWN, "the gateway could not apply its policy; connect again")

    def _catalog_arrived(self, update: model.CatalogUpdate) -> None:
        version = self.plan.snapshot.version if self.plan is not None else 0
        if update.policy < version:
            return                          # read for a policy that is gone: it says nothing of newly masked columns
        if update.policy > version:
            # Only where the newest policy could not be used here: there is no catalog for the one that is in force.
            update = model.CatalogUpdate(
                connection=update.connection, policy=version, epoch=0, catalog=None,
                error=f"this worker could not apply version {update.policy} of the policy")
        waiter = self._catalog_waiters.pop(update.connection, None)
        if update.catalog is None:
            log.warning("no catalog of %s: %s", update.connection, update.error)
            if waiter is not None and not waiter.done():
                waiter.set_exception(_no_catalog(update.error))
                waiter.exception()          # read here: when nobody waits any more, nobody complains
            return
        catalog = catalogs.from_builtins(update.catalog)
        self._catalogs[update.connection] = catalog
        if waiter is not None:
            _wake(waiter)
        plan = self.plan
        if plan is None:
            return
        for session in self._on(update.connection):
            # One that still waits for the new policy's catalog gets its context from `_follow`, which runs after this.
            if session.snapshot is plan.snapshot:
                self._set_context(session, plan.snapshot, catalog, masked=session.masked)

    # ------------------------------------------------------------ from the relay

    def on_events(self) -> None:
        """Reader of the relay's event descriptor."""
        for _ in range(EVENT_ROUNDS_MAX):
            events = self._relay.events()
            if not events:
                return
            for event in events:
                try:
                    self._on_event(event)
                except Exception:
                    log.exception("an event of the relay could not be handled: %s", event[0])
        self._loop.call_soon(self.on_events)

    def _on_event(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("segment",):
                self._journal.want()
            case ("unsynced", error):
                self._journal.unsynced(error)
            case ("sealed", _): ...     # the shipper finds it
            case ("closed", number, reason):
                self._closed(number, reason)
            case (name, number, *rest):
                session = self.sessions.get(number)
                if session is not None:
                    self._session_event(name, session, rest)
            case _:
                log.error("an event that no front expects: %r", event[:1])

    def _session_event(self, name: str, session: Session, rest: list[Any]) -> None:
        if name == "verdict":
            self._verdict(session, *rest)
        elif name == "probe":
            self._desk.probe_answered(session, *rest)
        elif name == "withdrawn":
            self._desk.withdrawn(session, *rest)
        elif name == "cancel":
            self._spawn(self._cancels.upstream(session), "a cancel upstream")
        elif name == "catalog":
            self.tell(model.CatalogWanted(connection=session.connection, changed=True))
        else:
            log.error("an event that no front expects: %s", name)

    def _verdict(
        self, session: Session, serial: int, kind: str, _context: int, text: bytes, types: bytes, bind: bytes,
        status: bytes,
    ) -> None:
        work = self._desk.verdict(session, serial, kind, text, types, bind, status)
        task = self._spawn(work, "a verdict", lambda: self._deny(session.id, serial))
        self._verdicts[session.id, serial] = task
        task.add_done_callback(lambda _: self._verdicts.pop((session.id, serial), None))

    def _deny(self, session: int, serial: int) -> None:
        """The verdict failed for a reason of ours: the statement is refused, never passed, and not remembered."""
        if session in self.sessions:
            self._relay.decide(session, serial, model.ACTION_DENY, model.FLAG_PRIVATE, label=UNREAD, cache=False,
                               error=unjudged())

    def _closed(self, number: int, reason: str) -> None:
        session = self.sessions.pop(number, None)
        if session is None:
            return
        self._keys.release(session.key)
        for key in [key for key in self._verdicts if key[0] == number]:
            self._verdicts.pop(key).cancel()
        self._desk.session_closed(session)
        self.tell(model.SessionClosed(session=number, reason=reason))
        if not self.sessions:
            self._emptied.set()

    # ------------------------------------------------------------ the end

    async def drain(self, seconds: float, reason: str) -> None:
        """Let sessions finish their transactions, for `seconds` at most; returns when none is left, or soon after."""
        self.draining = reason or "the gateway is shutting down"
        for task in list(self._logins):
            task.cancel()
        for session in list(self.sessions.values()):
            self.end(session, sqlstate.ADMIN_SHUTDOWN, self.draining, when_idle=True)
        if await self._empty(seconds):
            return
        for session in list(self.sessions.values()):
            self.end(session, sqlstate.ADMIN_SHUTDOWN, self.draining)
        await self._empty(2.0)

    async def _empty(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            if self.sessions:
                await asyncio.wait_for(self._emptied.wait(), seconds)
        return not self.sessions

    def _on_tick(self) -> None:
        """Ends sessions whose time is over: after their transaction at first, then without mercy."""
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        if self._limits:
            with contextlib.suppress(BufferError):      # the next tick is soon
                self._relay.enforce_limits()
        now = self._clock()
        for session in list(self.sessions.values()):
            if now < session.ends_at:
                continue
            if not session.ending:
                self.end(session, sqlstate.ADMIN_SHUTDOWN, _end_reason(session), when_idle=True)
            elif now > max(session.ending, session.ends_at) + GRACE_S:
                self.end(session, sqlstate.ADMIN_SHUTDOWN, _end_reason(session))

    # ------------------------------------------------------------ tasks

    def _spawn(
        self, work: Coroutine[Any, Any, None], what: str, on_failure: Callable[[], None] | None = None
    ) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled() and (failure := ended.exception()) is not None:
                log.error("%s failed", what, exc_info=failure)
                if on_failure is not None:
                    on_failure()

        task.add_done_callback(done)
        return task


def _end_reason(session: Session) -> str:
    expires = session.identity.expires_at
    if expires and session.ends_at >= expires:
        return "your credential has expired; connect again with a fresh one"
    return "the session has reached the gateway's maximum duration; connect again"


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _no_catalog(reason: str) -> UpstreamFault:
    log.warning("a login needs a catalog that cannot be had: %s", reason)
    return UpstreamFault(
        sqlstate.CANNOT_CONNECT_NOW, "columns are masked for you here, and the database's catalog cannot be read",
        hint="Try again in a minute; if it stays, tell the operators of the gateway.",
    )
