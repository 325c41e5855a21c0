"""The supervisor process: puts the parts together, keeps them going, and takes them apart in the right order.

`serve` is the whole life of a gateway. What the parts do is in their own modules; which worker runs and which pages the
console has is given by the caller (cli/serve.py), because this level may not import its neighbours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.routing import BaseRoute

from hoopfast import config as configuration
from hoopfast import limits, logs, model, secrets
from hoopfast.analysis.catalog import Catalog, hide
from hoopfast.audit.database import PostgresStore
from hoopfast.audit.search import AuditReader
from hoopfast.config import Config
from hoopfast.config_sinks import STORES
from hoopfast.control.approvals import Approvals
from hoopfast.control.catalog import CatalogKeeper
from hoopfast.control.gate import Gate
from hoopfast.control.keys import KeyCaches
from hoopfast.control.principal import Principal
from hoopfast.control.webhook import Announcer
from hoopfast.errors import AuditUnavailable, ConfigError, Problem
from hoopfast.model import Identity
from hoopfast.policy import source
from hoopfast.policy.snapshot import compile_policy
from hoopfast.store.control import ControlStore, store_url
from hoopfast.store.rows import ApprovalRow
from hoopfast.supervisor import web
from hoopfast.supervisor.api import Api
from hoopfast.supervisor.dispatch import Dispatch
from hoopfast.supervisor.doorway import Doorway
from hoopfast.supervisor.health import Health
from hoopfast.supervisor.listeners import Listener, bind
from hoopfast.supervisor.metrics import registry_of
from hoopfast.supervisor.operations import Operations
from hoopfast.supervisor.processes import Entry, Pool
from hoopfast.supervisor.reload import Accepted, Reloader
from hoopfast.supervisor.sessions import Sessions
from hoopfast.supervisor.shipping import Shipping
from hoopfast.supervisor.state_dir import StateDir
from hoopfast.supervisor.trail import Trail

log = logging.getLogger("hoopfast.supervisor")

TICK_S = 1.0
CATALOG_POLL_S = 30.0
# A worker that has said "draining" still closes its sessions and its journal.
AFTER_DRAIN_S = 5.0
HEADROOM = 64                       # connections above max_sessions, so that cancel requests always get through


class Console(Protocol):
    """What cli/serve.py brings from the console package."""

    @property
    def routes(self) -> Sequence[BaseRoute]: ...
    def principal(self, request: Request) -> Principal | None: ...
    def forget(self, credential: str) -> None: ...


Verify = Callable[[str, str], Awaitable[Identity]]
ConsoleFactory = Callable[[Operations, Verify, Callable[[], Config]], Console]


async def serve(config_path: Path, *, worker: Entry, console: ConsoleFactory | None = None) -> None:
    """Run a gateway until a signal ends it. Raises ConfigError (with every problem) when it cannot start."""
    config = configuration.load(config_path)
    logs.setup(config.log_level, process="supervisor")
    _raise_descriptor_limit()
    state = StateDir(Path(config.state_dir))
    gateway = Gateway(config_path, config, state)
    try:
        await gateway.start(worker, console)
        await gateway.run()
    finally:
        await gateway.stop()
        state.close()


class Gateway:
    """The composition of one gateway. `start`, `run` and `stop` once each, in this order."""

    def __init__(self, config_path: Path, config: Config, state: StateDir) -> None:
        self._config_path = config_path
        self._first = config
        self._state = state
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[Listener] = []
        self._servers: list[web.WebServer] = []
        self._closing: list[Callable[[], Awaitable[Any]]] = []      # undone in reverse
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    # ------------------------------------------------------------ start

    async def start(self, entry: Entry, console: ConsoleFactory | None) -> None:
        config, state = self._first, self._state
        sockets = bind(config.listen.address)       # first: the likeliest thing to fail
        admin = web.bind_admin(config.admin.address) if config.admin.address else []
        await self._open_stores()
        await self._open_policy()
        self._open_desks()
        self.pool = Pool(_workers(config), entry, self.dispatch, state_dir=state.path)
        self.dispatch.pool = self.pool
        await self._open_shipping()
        self.pool.start()
        self._closing.append(self.pool.stop)
        self.health = Health(
            pool=self.pool, sessions=self.sessions, reloader=self.reloader, approvals=self.approvals, store=self.store,
            shipping=self.shipping, keys=self.keys, dispatch=self.dispatch, announcer=self.announcer,
        )
        self._signals()         # before anybody can be told that the gateway is ready
        await self._open_admin(admin, console)
        self._room = _room_of_a_worker()
        wanted, possible = config.listen.max_sessions, self._room * self.pool.size
        if possible < wanted:
            log.warning("listen.max_sessions is %d, descriptors are enough for %d: raise LimitNOFILE", wanted, possible)
        self._listeners = [Listener(sock, self._take) for sock in sockets]
        for listener in self._listeners:
            listener.start()
        self._every(TICK_S, self.approvals.expire, "expiring approvals")
        self._every(TICK_S, lambda: self.reloader.watch(self.trail), "watching the policy file")
        self._every(CATALOG_POLL_S, self.catalogs.poll, "polling catalogs")
        self._tasks.append(asyncio.create_task(self._announce_readiness()))

    async def _open_stores(self) -> None:
        config = self._first
        try:
            url = config.store
            if secrets.looks_like_reference(url):
                url = await asyncio.to_thread(secrets.resolve, url)
            self.store = ControlStore(store_url(url, str(self._state.path)))
            await asyncio.to_thread(self.store.migrate)
            orphans = await asyncio.to_thread(self.store.close_orphans, time.time())
        except Exception as failure:
            raise ConfigError([Problem(str(self._config_path), "$.store", f"cannot be used: {failure}")]) from failure
        self._closing.append(lambda: asyncio.to_thread(self.store.close))
        if orphans:
            log.warning("%d sessions of an earlier run were still noted as open", orphans)

    async def _open_policy(self) -> None:
        self.reloader = Reloader(
            self._config_path, load=configuration.load, parse_policy=source.parse_policy, compile_policy=compile_policy,
            policy_builtins=source.to_builtins, mask_key=self._state.mask_key, store=self.store, clock=time.time,
        )
        await self.reloader.start(self._first)
        self.reloader.on_accept.append(self._on_accept)

    def _open_desks(self) -> None:
        config = self._first
        self.sessions = Sessions()
        self.keys = KeyCaches(config)
        self.gate = Gate(config, self.store, self.keys, time.time)
        self.reloader.before_accept.append(self.gate.reload)
        self._closing += [self.keys.close, self.gate.close]
        self._shipping: Shipping | None = None
        self.trail = Trail(lambda event: self._shipping.add(event) if self._shipping is not None else None)
        self.announcer = Announcer(
            config.approvals.webhooks, resolve_secret=secrets.resolve, url=self._approval_url, clock=time.time
        )
        self._closing.append(self.announcer.close)
        self.approvals = Approvals(
            self.store, decide=self._decide, announce=self.announcer.announce, record=self._record_approval,
            clock=time.time, url=self._approval_url,
        )
        self.doorway = Doorway()
        self.dispatch = Dispatch(
            gate=self.gate, approvals=self.approvals, store=self.store, sessions=self.sessions, trail=self.trail,
            config=lambda: self.reloader.current.config, update=self.reloader.update, clock=time.time,
            doorway=self.doorway,
        )
        self._closing.append(self.dispatch.close)
        now = self.reloader.current
        self.catalogs = CatalogKeeper(
            config, now.version, _masked(now), secrets.resolve, self.dispatch.catalog_changed, _misfits(now)
        )
        self.reloader.before_policy.append(self._insist_on_masks)
        self.dispatch.catalogs = self.catalogs
        self._closing.append(self.catalogs.close)

    async def _open_shipping(self) -> None:
        try:
            shipping = Shipping(self._first, self._state.path, is_live=self.pool.is_live)
            await shipping.start()
        except (OSError, AuditUnavailable, ValueError) as failure:
            problem = Problem(str(self._config_path), "$.audit.sinks", f"cannot be opened: {failure}")
            raise ConfigError([problem]) from failure
        self._shipping = self.shipping = shipping
        self._closing.append(self.shipping.close)
        task = asyncio.create_task(self.shipping.run())
        self._tasks.append(task)

    async def _open_admin(self, sockets: list[socket.socket], console: ConsoleFactory | None) -> None:
        operations = Operations(
            store=self.store, approvals=self.approvals, sessions=self.sessions, pool=self.pool, reloader=self.reloader,
            trail=self.trail, audit=_audit_reader(self._first, self._state.path), status=self.health.status,
            clock=time.time,
        )
        pages = console(operations, self.gate.verify_bearer, lambda: self.reloader.current.config) if console else None
        if pages is not None:
            operations.on_revoked.append(pages.forget)
        api = Api(
            operations, verify=self.gate.verify_bearer, registry=registry_of(self.pool, self.health.numbers),
            ready=self.health.problems, cookies=pages, pages=pages.routes if pages else (),
        )
        private = web.bind_private(self._state.admin_socket)
        self._servers = [web.WebServer(api.app(local=True), [private])]
        if sockets:
            self._servers.append(web.WebServer(api.app(local=False), sockets, self._first.admin.tls))
        for server in self._servers:
            await server.start()
            self._closing.append(server.stop)
        await self.approvals.adopt()

    # ------------------------------------------------------------ what happens meanwhile

    def _take(self, listener: str, peer: str, fd: int) -> tuple[str, str] | None:
        """A place for a new client, in the least loaded worker."""
        taken = sum(worker.load for worker in self.pool.workers.values())
        places = self.reloader.current.config.listen.max_sessions
        if taken >= places + HEADROOM:
            return "53300", "the gateway has no room for another session; try again later"
        if not self.doorway.may_enter(peer, places):
            return "53300", "too many connections from this address are not logged in yet; try again later"
        worker = self.pool.least_loaded()
        if worker is None:
            return "57P03", "the gateway is starting up; try again in a moment"
        if worker.load >= self._room:
            # It could not receive the descriptor, and the client would never hear why.
            return "53300", "the gateway has no descriptors for another session; try again later"
        worker.load += 1
        self.doorway.entered(worker, peer)
        # The link closes the descriptor as soon as it is on its way; the listener forgets it.
        worker.send(model.Accept(listener=listener, peer=peer), fd)
        return None

    def _on_accept(self, accepted: Accepted) -> None:
        self.announcer.webhooks = accepted.config.approvals.webhooks
        logging.getLogger().setLevel(accepted.config.log_level.upper())
        # The policy goes ahead of the catalogs that are read for it; workers drop those of any other version.
        self.pool.broadcast(self.reloader.update())
        if accepted.config.admin.tls is not None and len(self._servers) > 1:
            self._servers[1].renew(accepted.config.admin.tls)
        self.catalogs.reload(accepted.config, accepted.version, _masked(accepted), _misfits(accepted))

    def _insist_on_masks(self, new: Accepted) -> None:
        """A mask that cannot be made for its column's type is a mistake of the policy, where the type is known."""
        if wrong := self.catalogs.judged(_misfits(new)):
            raise ConfigError([Problem(new.config.policy, "$.masks", text) for text in wrong])

    def _decide(self, session: int, decision: model.Decision) -> None:
        # Approvals and dispatch need each other; this is the edge that closes the circle.
        self.dispatch.decide(session, decision)

    def _record_approval(self, event: str, row: ApprovalRow, actor: str, detail: dict[str, Any]) -> None:
        self.trail.record(
            event, user=actor, client=row.peer, connection=row.connection, approval=row.id, rule=row.rule,
            requester=row.requester, approval_session=f"{row.session:016x}", sql=row.sql, **detail,
        )

    def _approval_url(self, approval: str) -> str:
        admin = self.reloader.current.config.admin
        scheme = "https" if admin.tls else "http"
        base = admin.public_url.rstrip("/") or (f"{scheme}://{admin.address}" if admin.address else "")
        return f"{base}/approvals/{approval}" if base and not base.startswith("http://unix:") else ""

    async def _announce_readiness(self) -> None:
        # Several causes, of which only one could set an event.
        while await self.health.problems():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        log.info("ready: %d workers, policy version %d", self.pool.size, self.reloader.current.version)
        _notify("READY=1")

    def _every(self, seconds: float, work: Callable[[], Awaitable[Any]], what: str) -> None:
        async def repeat() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await work()
                except Exception:
                    log.exception("%s failed", what)

        self._tasks.append(asyncio.create_task(repeat(), name=what))

    def _signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _end(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    def _reload(self) -> None:
        async def reload() -> None:
            try:
                await self.reloader.reload(self.trail, "SIGHUP")
            except ConfigError:
                return      # the reloader has said so, loudly

        task = asyncio.create_task(reload(), name="reload")
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    # ------------------------------------------------------------ the end

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then drain, unless a second signal says now."""
        await self._stop.wait()
        self.health.draining = True
        _notify("STOPPING=1")
        seconds = self.reloader.current.config.sessions.drain
        log.info("draining %d sessions for at most %.0f s; a second signal ends them now", len(self.sessions), seconds)
        for listener in self._listeners:
            listener.close()
        self.trail.record("gateway_stopping", sessions=len(self.sessions))
        self.pool.expect_exits()
        self.pool.broadcast(model.Drain(seconds=seconds, reason="the gateway is shutting down"))
        gone = asyncio.create_task(self.pool.wait_gone(seconds + AFTER_DRAIN_S))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({gone, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, hurry):
            task.cancel()

    async def stop(self) -> None:
        """Workers first, so that the shipper sees everything they wrote; then the rest, last opened first."""
        for listener in self._listeners:
            listener.close()
        if hasattr(self, "pool"):
            await self.pool.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in reversed(self._closing):
            try:
                await close()
            except Exception:
                log.exception("a part could not be closed")
        log.info("stopped")


def _masked(accepted: Accepted) -> Callable[[str], list[tuple[str, str, str]]]:
    """By connection, every column that is masked for somebody: whoever has no name and no group is exempt from none."""
    nobody = Identity(user="", subject="", issuer="")

    def of(connection: str) -> list[tuple[str, str, str]]:
        if connection not in accepted.config.connections:
            return []
        return [(m.schema, m.table, m.column) for m in accepted.snapshot.masks_for(nobody, connection)]

    return of


def _misfits(accepted: Accepted) -> Callable[[str, Catalog], list[str]]:
    """By connection and its catalog, the masks that cannot be made for the types of their columns."""
    nobody = Identity(user="", subject="", issuer="")

    def of(connection: str, catalog: Catalog) -> list[str]:
        if connection not in accepted.config.connections:
            return []
        masks = accepted.snapshot.masks_for(nobody, connection)
        return [*hide(catalog, {(m.schema, m.table, m.column): m.spec for m in masks}).unfit.values()]

    return of


def _audit_reader(config: Config, state_dir: Path) -> AuditReader | None:
    """The store that can be asked questions: the first sink that is one; None without one. Raises SecretError."""
    sink = next((sink for sink in config.audit.sinks if sink.kind in STORES), None)
    if sink is None:
        return None
    if sink.kind == "postgres":
        return AuditReader(PostgresStore(secrets.resolve(sink.dsn)))
    return AuditReader(state_dir / (sink.path or "audit.db"))


def _workers(config: Config) -> int:
    return config.listen.workers if isinstance(config.listen.workers, int) else len(os.sched_getaffinity(0))


def _raise_descriptor_limit() -> None:
    """Two descriptors per session: the soft limit is a default for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _room_of_a_worker() -> int:
    """Sessions (and clients on their way in) that one worker has descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, soft - limits.WORKER_DESCRIPTORS) // limits.SESSION_DESCRIPTORS


def _notify(state: str) -> None:
    """Tell systemd (Type=notify), where it asks for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            log.warning("systemd could not be notified of %s", state)
