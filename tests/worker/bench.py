"""A front with everything around it faked: relay, supervisor (over a real IPC link), upstream server, clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, Self

from hoopfast import config as configuration
from hoopfast import model
from hoopfast.analysis import catalog as catalogs
from hoopfast.ipc import Link
from hoopfast.policy import source
from hoopfast.protocol import messages as m
from hoopfast.worker.front import Front
from hoopfast.worker.plan import Plan, make_plan

ANA = model.Identity(user="ana@example.com", subject="1", issuer="idp", groups=("eng",), credential="cred-1")
MASK_KEY = b"k" * 32
OPEN = {"access": [{"groups": ["eng"], "connections": ["shop"]}]}
MASKED = OPEN | {"masks": [{"columns": ["public.customers.ssn"], "with": "redact"}]}
READY = (
    m.authentication_ok() + m.parameter_status("client_encoding", "UTF8")
    + m.parameter_status("standard_conforming_strings", "on") + m.backend_key_data(4711, b"\1\2\3\4")
    + m.ready_for_query()
)


class FakeRelay:
    """Notes every call; owns adopted descriptors, as the real one does."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.adopted: dict[int, dict[str, Any]] = {}
        self.full = 0                               # the next so many calls find the queue full
        self._events: list[tuple[Any, ...]] = []

    def _note(self, *call: Any) -> None:
        if self.full:
            self.full -= 1
            raise BufferError("the relay's command queue is full")
        self.calls.append(call)

    def adopt(self, session: int, context: int, client_fd: int, _client_tls: Any, upstream_fd: int, _upstream_tls: Any,
              **more: Any) -> None:
        self._note("adopt", session, context)
        os.write(client_fd, more["to_client"])
        self.adopted[session] = {"client": client_fd, "upstream": upstream_fd, **more}

    def kill(self, session: int, frame: bytes, when_idle: bool = False) -> None:
        self._note("kill", session, m.parse_fields(frame[5:]), when_idle)

    def set_idle_timeout(self, seconds: float) -> None:
        self.idle_timeout = seconds

    def set_context(self, session: int, context: int) -> None:
        self._note("set_context", session, context)

    def decide(self, session: int, serial: int, action: int, flags: int, **more: Any) -> None:
        self._note("decide", session, serial, action, more)

    def cancel(self, session: int) -> None:
        self._note("cancel", session)

    def note(self, session: int, payload: bytes) -> None:
        self._note("note", session, payload)

    def cancel_done(self, session: int) -> None:
        self._note("cancel_done", session)

    def events(self) -> list[tuple[Any, ...]]:
        found, self._events = self._events, []
        return found

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == name]

    def close(self, session: int) -> None:
        legs = self.adopted.pop(session)
        os.close(legs["client"])
        os.close(legs["upstream"])

    def put(self, *event: Any) -> None:
        self._events.append(event)


class FakeContext:
    def __init__(self, number: int, version: int, masked: bool) -> None:
        self.number, self.version, self.masked = number, version, masked


class FakeContexts:
    def __init__(self) -> None:
        self.made: list[FakeContext] = []
        self.broken = False

    def obtain(
        self, identity: model.Identity, connection: str, snapshot: Any, catalog: Any, client: model.Client,
        entry: Any = None,
    ) -> FakeContext:
        if self.broken:
            raise RuntimeError("a bug")
        self.made.append(FakeContext(len(self.made) + 1, snapshot.version, catalog is not None))
        return self.made[-1]


class FakeDesk:
    """Verdicts: `verdict` runs what the test sets."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.waiting_approval = False
        self.on_verdict: Callable[..., Any] | None = None

    async def verdict(self, session: Any, *more: Any) -> None:
        self.seen.append(("verdict", session.id, *more))
        if self.on_verdict is not None:
            await self.on_verdict(session, *more)

    def probe_answered(self, session: Any, *more: Any) -> None:
        self.seen.append(("probe", session.id, *more))

    def withdrawn(self, session: Any, *more: Any) -> None:
        self.seen.append(("withdrawn", session.id, *more))

    def cancel(self, session: Any) -> bool:
        self.seen.append(("cancel", session.id))
        return self.waiting_approval

    def session_closed(self, session: Any) -> None:
        self.seen.append(("closed", session.id))


class FakeJournal:
    def __init__(self) -> None:
        self.wanted = 0

    def want(self) -> None:
        self.wanted += 1

    def unsynced(self, error: int) -> None:
        self.failed = error


class Client:
    """A client's socket with the few reads that logins need."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            part = await asyncio.wait_for(self._loop.sock_recv(self.sock, count - len(got)), 5)
            if not part:
                raise EOFError(got)
            got += part
        return got

    async def message(self) -> tuple[bytes, bytes]:
        head = await self.read(5)
        return head[:1], await self.read(int.from_bytes(head[1:], "big") - 4)

    async def messages_until(self, last: bytes) -> list[tuple[bytes, bytes]]:
        got = [await self.message()]
        while got[-1][0] != last:
            got.append(await self.message())
        return got

    async def error(self) -> dict[str, str]:
        """The ErrorResponse that ends the connection, whatever comes before it."""
        fields = m.parse_fields((await self.messages_until(b"E"))[-1][1])
        assert await self.at_end()
        return fields

    async def at_end(self) -> bool:
        try:
            return await asyncio.wait_for(self._loop.sock_recv(self.sock, 1), 5) == b""
        except ConnectionError:
            return True

    async def log_in(self, password: bytes = b"hush-hush", version: int = m.PROTOCOL_3_0, **parameters: str) -> None:
        """Startup and password, as far as the server lets us."""
        await self.send(m.startup_message(version, {"user": "ana", "database": "shop"} | parameters))
        kind, _ = await self.message()
        assert kind == b"R"
        await self.send(m.password_message(password))


class Bench:
    """`async with Bench() as bench`. `bench.told` is what the supervisor heard; its answers can be replaced."""

    def __init__(self, policy: dict[str, Any] = OPEN, **listen: Any) -> None:
        self.policy = policy
        self.listen = listen
        self.told: list[Any] = []
        self.relay = FakeRelay()
        self.contexts = FakeContexts()
        self.desk = FakeDesk()
        self.journal = FakeJournal()
        self.now = 1_000_000.0
        self.identity: model.Identity | None = ANA
        self.reply: dict[str, Any] = {}
        self.catalog: Any = catalogs.to_builtins(catalogs.Catalog(epoch=1))
        self.silent_catalog = False
        self.greeting = READY
        self.greetings = 0
        self.cancels: list[bytes] = []
        self.accepted = 0
        self.settings: dict[str, str] = {}

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._upstream, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        ours, theirs = socket.socketpair()
        self.supervisor = Link(theirs, model.ToSupervisor, self._on_told, lambda: None)
        self.worker = Link(ours, model.ToWorker, self._on_asked, lambda: None)
        self.front = Front(
            1, self.relay, self.worker.send, self.plan(1), contexts=self.contexts, desk=self.desk, journal=self.journal,
            clock=lambda: self.now,
        )
        self._clients: list[socket.socket] = []
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.front.close()
        for session in list(self.relay.adopted):
            self.relay.close(session)
        for sock in self._clients:
            sock.close()
        self._server.close()
        await asyncio.sleep(0.01)
        self.worker.close()
        self.supervisor.close()
        if failure[0] is None:
            opened = sum(isinstance(message, model.SessionOpened) for message in self.told)
            done = sum(isinstance(message, model.ConnectionDone) for message in self.told)
            assert opened + done == self.accepted, "every client must be accounted for exactly once"

    def plan(
        self, version: int, policy: dict[str, Any] | None = None, connections: tuple[str, ...] = ("shop", "closed")
    ) -> Plan:
        config = {
            "listen": self.listen,
            "connections": {
                name: {"upstream": {"host": "127.0.0.1", "port": self.port, "database": "orders", "user": "svc",
                                    "tls": "disable", "connect_timeout": 1.0}}
                for name in connections
            },
        }
        # As they travel: defaults filled in by the supervisor.
        update = model.ConfigUpdate(
            version=version,
            config=configuration.to_builtins(configuration.from_builtins(config)),
            policy=source.to_builtins(source.from_builtins(self.policy if policy is None else policy)),
        )
        return make_plan(update, MASK_KEY, None)

    # ------------------------------------------------------------ the others

    def _on_asked(self, message: Any, fd: int | None) -> None:
        self.front.on_message(message, fd)

    def _on_told(self, message: Any, _fd: int | None) -> None:
        self.told.append(message)
        if isinstance(message, model.AuthWanted):
            self.supervisor.send(model.AuthReply(request=message.request, identity=self.identity, **self.reply))
        elif isinstance(message, model.CatalogWanted) and not message.changed and not self.silent_catalog:
            self.send_catalog(message.connection)

    def send_catalog(self, connection: str = "shop", version: int | None = None) -> None:
        error = "" if self.catalog is not None else "no"
        known = self.front.plan.snapshot.version if self.front.plan is not None else 0
        self.supervisor.send(model.CatalogUpdate(
            connection=connection, policy=known if version is None else version, epoch=1, catalog=self.catalog,
            error=error,
        ))

    async def _upstream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            length = int.from_bytes(await reader.readexactly(4), "big")
            body = await reader.readexactly(length - 4)
            if int.from_bytes(body[:4], "big") == m.CANCEL_REQUEST_CODE:
                self.cancels.append(body[4:])
            else:
                parts = body[4:-2].decode().split("\0")
                self.settings = dict(zip(parts[::2], parts[1::2], strict=True))
                self.greetings += 1
                writer.write(self.greeting)
                await writer.drain()
                await reader.read()
        writer.close()

    # ------------------------------------------------------------ what tests do

    def connect(self, peer: str = "127.0.0.1:5000") -> Client:
        ours, theirs = socket.socketpair()
        self._clients.append(ours)
        self.accepted += 1
        self.supervisor.send(model.Accept(listener="main", peer=peer), theirs.detach())
        return Client(ours)

    async def session(self, **parameters: str) -> tuple[Client, int]:
        """A client that is logged in, and its session's id."""
        client = self.connect()
        await client.log_in(**parameters)
        await client.messages_until(b"Z")
        opened = await self.heard(model.SessionOpened)
        return client, opened.session

    async def heard(self, kind: type[Any], count: int = 1) -> Any:
        """The latest message of this kind, once there are `count`."""
        for _ in range(500):
            found = [message for message in self.told if isinstance(message, kind)]
            if len(found) >= count:
                return found[-1]
            await asyncio.sleep(0.005)
        raise AssertionError(f"the supervisor heard {self.told}, not {count} of {kind.__name__}")

    async def closed(self, session: int, reason: str = "client") -> None:
        """What the relay does when a session ends."""
        self.relay.close(session)
        self.event("closed", session, reason)
        await self.heard(model.SessionClosed)

    def event(self, *event: Any) -> None:
        self.relay.put(*event)
        self.front.on_events()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
