"""What each message of a worker means: one handler per message type, and an answer to every question.

Knows the desks (gate, approvals, catalogs), the list of sessions and the store; owns none of them. A handler that fails
turns into a clear answer to the worker: silence would leave a person waiting for ever. Called by the pool.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from hoopfast import limits, model
from hoopfast.config import Config
from hoopfast.control.approvals import Approvals
from hoopfast.supervisor.doorway import Doorway
from hoopfast.supervisor.processes import Pool, Worker
from hoopfast.supervisor.sessions import Sessions
from hoopfast.supervisor.trail import Trail

log = logging.getLogger("hoopfast.supervisor.dispatch")


class Authenticator(Protocol):
    async def authenticate(self, wanted: model.AuthWanted) -> tuple[model.AuthReply, str]: ...


class Catalogs(Protocol):
    async def get(self, name: str) -> model.CatalogUpdate: ...
    def changed(self, name: str) -> None: ...


class SessionStore(Protocol):
    def session_opened(self, opened: model.SessionOpened, worker: int) -> None: ...
    def session_closed(self, id: int, at: float, reason: str) -> None: ...  # noqa: A002  (the store's name for it)


class Dispatch:
    """The pool's `events`. `pool` and `catalogs` are set right after construction: they need this object themselves."""

    pool: Pool
    catalogs: Catalogs

    def __init__(
        self,
        *,
        gate: Authenticator,
        approvals: Approvals,
        store: SessionStore,
        sessions: Sessions,
        trail: Trail,
        config: Callable[[], Config],
        update: Callable[[], model.ConfigUpdate],
        clock: Callable[[], float],
        doorway: Doorway | None = None,
    ) -> None:
        self._doorway = doorway if doorway is not None else Doorway()      # an empty one is false
        self.auth_failures: Counter[str] = Counter()
        self._gate = gate
        self._approvals = approvals
        self._store = store
        self._sessions = sessions
        self._trail = trail
        self._config = config
        self._update = update
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancels: dict[tuple[int, bytes], tuple[Worker, int]] = {}     # key -> who asked, answers still missing
        # One thread: "opened" must reach the store before "closed".
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sessions")
        self._handlers: dict[type[Any], Callable[[Worker, Any], None]] = {
            model.Hello: self._hello,
            model.Pong: self._pong,
            model.AuthWanted: self._auth_wanted,
            model.SessionOpened: self._session_opened,
            model.SessionClosed: self._session_closed,
            model.ConnectionDone: self._connection_done,
            model.LoginRefused: self._login_refused,
            model.ApprovalWanted: self._approval_wanted,
            model.ApprovalWithdrawn: self._approval_withdrawn,
            model.ApprovalUsed: self._approval_used,
            model.CatalogWanted: self._catalog_wanted,
            model.CancelKey: self._cancel_key,
        }

    async def close(self) -> None:
        """Wait for what is under way, and for the last writes about sessions."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._writer.shutdown)

    # ------------------------------------------------------------ from the pool

    def worker_started(self, worker: Worker) -> None:
        worker.send(self._update())

    def worker_message(self, worker: Worker, message: Any) -> None:
        self._handlers[type(message)](worker, message)

    def worker_died(self, worker: Worker, how: str) -> None:
        lost = self._sessions.worker_lost(worker.index)
        now = self._clock()
        for session in lost:
            self._write(self._store.session_closed, session.session, now, "gateway")
        self._trail.record("worker_ended", worker=worker.index, pid=worker.pid, how=how, sessions=len(lost))
        if lost:
            ids = {session.session for session in lost}
            self._do(self._approvals.sessions_lost(ids, "session ended"), "withdrawing approvals of a dead worker")

    # ------------------------------------------------------------ to the workers

    def decide(self, session: int, decision: model.Decision) -> None:
        """Tell the worker that holds the session; without one there is nobody to tell."""
        found = self._sessions.find(session)
        worker = self.pool.workers.get(found[0]) if found else None
        if worker is not None:
            worker.send(decision)

    def catalog_changed(self, update: model.CatalogUpdate) -> None:
        self.pool.broadcast(update)

    # ------------------------------------------------------------ handlers

    def _hello(self, _: Worker, hello: model.Hello) -> None:
        log.info("worker %d is ready", hello.worker)

    def _pong(self, _: Worker, _pong: model.Pong) -> None:
        """The pool has noted that it was heard."""

    def _auth_wanted(self, worker: Worker, wanted: model.AuthWanted) -> None:
        self._do(self._authenticate(worker, wanted), "a login")

    async def _authenticate(self, worker: Worker, wanted: model.AuthWanted) -> None:
        try:
            reply, reason = await self._gate.authenticate(wanted)
        except Exception:
            log.exception("the identity gate failed")
            message, hint = "the gateway could not check this credential", "Tell the gateway's operator."
            reply = model.AuthReply(request=wanted.request, sqlstate="XX000", message=message, hint=hint)
            reason = "internal"
        if reason:
            self.auth_failures[reason] += 1
            # The worker reports what the client asked for (LoginRefused); the true reason is known only here.
            self._trail.record(
                "credential_refused", client=wanted.peer, connection=wanted.database, asked_for=wanted.user,
                reason=reason,
            )
        worker.send(reply)

    def _session_opened(self, worker: Worker, opened: model.SessionOpened) -> None:
        self._doorway.left(worker, opened.peer)
        self._sessions.opened(worker.index, opened)
        self._write(self._store.session_opened, opened, worker.index)
        config = self._config()
        connection = config.connections.get(opened.connection)
        if self._sessions.is_revoked(opened.identity.credential):
            # Revoked between the check of the credential and now.
            self._end(worker, opened, "28P01", "this credential was revoked")
        elif len(self._sessions) > config.listen.max_sessions:
            self._end(worker, opened, "53300", "the gateway has no room for another session; try again later")
        elif connection is not None and 0 < connection.max_sessions < self._sessions.on_connection(opened.connection):
            self._end(worker, opened, "53300", f"too many sessions on {opened.connection}; try again later")

    def _end(self, worker: Worker, opened: model.SessionOpened, sqlstate: str, reason: str) -> None:
        worker.send(model.KillSessions(sessions=(opened.session,), sqlstate=sqlstate, reason=reason))
        self._trail.record(
            "kill", user=opened.identity.user, client=opened.peer, connection=opened.connection,
            session=f"{opened.session:016x}", reason=reason,
        )

    def _session_closed(self, worker: Worker, closed: model.SessionClosed) -> None:
        if self._sessions.closed(closed.session) is None:
            log.warning("worker %d closed session %x, which nobody knows", worker.index, closed.session)
            return
        worker.load = max(0, worker.load - 1)
        self._write(self._store.session_closed, closed.session, self._clock(), closed.reason)

    def _connection_done(self, worker: Worker, done: model.ConnectionDone) -> None:
        self._doorway.left(worker, done.peer)
        worker.load = max(0, worker.load - 1)

    def _login_refused(self, _: Worker, refused: model.LoginRefused) -> None:
        who = refused.identity
        self._trail.record(
            "login_refused", user=who.user if who else "", client=refused.peer, connection=refused.database,
            asked_for=refused.user, reason=refused.reason, issuer=who.issuer if who else "",
            subject=who.subject if who else "",
        )
        if who is not None:
            # The credential was good: these are policy's refusals, which the gate has not counted.
            self.auth_failures["not_allowed"] += 1

    def _approval_wanted(self, worker: Worker, wanted: model.ApprovalWanted) -> None:
        self._do(self._open_approval(worker, wanted), "opening an approval")

    async def _open_approval(self, worker: Worker, wanted: model.ApprovalWanted) -> None:
        try:
            opened = await self._approvals.open(wanted)
        except Exception:
            log.exception("an approval request failed")
            opened = model.ApprovalOpened(request=wanted.request, approval="", error="the request could not be opened")
        worker.send(opened)

    def _approval_withdrawn(self, _: Worker, withdrawn: model.ApprovalWithdrawn) -> None:
        self._do(self._approvals.withdraw(withdrawn), "withdrawing an approval")

    def _approval_used(self, _: Worker, used: model.ApprovalUsed) -> None:
        self._do(self._approvals.used(used), "closing an approval")

    def _catalog_wanted(self, worker: Worker, wanted: model.CatalogWanted) -> None:
        if wanted.changed:
            self.catalogs.changed(wanted.connection)
        else:
            self._do(self._send_catalog(worker, wanted.connection), "reading a catalog")

    async def _send_catalog(self, worker: Worker, connection: str) -> None:
        try:
            update = await self.catalogs.get(connection)
        except Exception as failure:
            log.exception("the catalog of %s cannot be had", connection)
            error = f"the catalog cannot be read ({type(failure).__name__})"
            update = model.CatalogUpdate(
                connection=connection, policy=self._update().version, epoch=0, catalog=None, error=error
            )
        worker.send(update)

    def _cancel_key(self, worker: Worker, key: model.CancelKey) -> None:
        """Ask all other workers; tell the asker when the last of them has answered."""
        name = (key.pid, key.secret)
        if key.done:
            asker, left = self._cancels.get(name, (None, 0))
            if asker is not None and left > 1:
                self._cancels[name] = (asker, left - 1)
            elif asker is not None:
                del self._cancels[name]
                asker.send(key)
            return
        others = [other for other in self.pool.workers.values() if other is not worker]
        if not others:
            worker.send(model.CancelKey(pid=key.pid, secret=key.secret, done=True))
            return
        if len(self._cancels) >= limits.CANCELS_ASKED_MAX:
            self._cancels.pop(next(iter(self._cancels)))     # its worker died, or its asker has long given up
        self._cancels[name] = (worker, len(others))
        for other in others:
            other.send(key)

    # ------------------------------------------------------------ in the background

    def _do(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, what))

    def _done(self, task: asyncio.Task[None], what: str) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("%s failed", what, exc_info=failure)

    def _write(self, call: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            try:
                call(*arguments)
            except Exception:
                # The list of past sessions has a hole; the journal, which is the record, has not.
                log.exception("a session could not be noted in the store")

        self._writer.submit(run)
