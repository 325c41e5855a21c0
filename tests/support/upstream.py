"""A server that only looks like PostgreSQL, for tests with more sessions than a real one would hold.

It trusts everybody, answers every Query with one row, and `rows N SIZE` in its text with N rows of SIZE bytes. It runs
in a thread of the test's process, so the test can see and cut its connections.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from types import TracebackType
from typing import Any, Self

from tests.support.relay import READY, complete, row, row_description
from tests.support.wire import frame

WELCOME = b"".join((
    frame("R", b"\0\0\0\0"), frame("S", b"server_version\x0018.0\0"), frame("S", b"client_encoding\0UTF8\0"),
    frame("S", b"standard_conforming_strings\0on\0"), frame("K", struct.pack("!I", 1) + b"0123"), READY,
))
ONE = row_description(("n", 0, 0, 23, 0)) + row(b"1") + complete("SELECT 1") + READY
WANTED = re.compile(rb"rows (\d+) (\d+)")
CANCEL, TLS = 80877102, 80877103


class _Session(asyncio.Protocol):
    def __init__(self, server: LightServer) -> None:
        self._server = server
        self._data = bytearray()
        self._started = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._server.sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.sessions.discard(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            head = 1 if self._started else 0
            if len(self._data) < head + 4:
                return
            size = head + struct.unpack_from("!I", self._data, head)[0]
            if len(self._data) < size:
                return
            message = bytes(self._data[:size])
            del self._data[:size]
            self._message(message) if self._started else self._startup(message)

    def _startup(self, message: bytes) -> None:
        code = struct.unpack_from("!I", message, 4)[0]
        if code == CANCEL:
            self.transport.close()
        elif code == TLS:
            self.transport.write(b"N")
        else:
            self._started = True
            self._server.logins += 1
            self.transport.write(WELCOME)

    def _message(self, message: bytes) -> None:
        if message[:1] == b"X":
            self.transport.close()
        elif message[:1] == b"Q":
            wanted = WANTED.search(message)
            if wanted is None:
                self.transport.write(ONE)
            else:
                count, size = (int(number) for number in wanted.groups())
                self._task = asyncio.get_running_loop().create_task(self._rows(count, size))

    async def _rows(self, count: int, size: int) -> None:
        self.transport.write(row_description(("filler", 0, 0, 25, 0)))
        one = row(b"x" * size)
        for _ in range(count):
            await self._writable.wait()
            self.transport.write(one)
            self._server.rows += 1
        self.transport.write(complete(f"SELECT {count}") + READY)


class LightServer:
    """Listens on a loopback port. `logins` and `rows` count since the start; `sessions` are those that are open now."""

    def __init__(self) -> None:
        self.sessions: set[_Session] = set()
        self.logins = 0
        self.rows = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.create_server(lambda: _Session(self), sock=self._listener, backlog=4096)
        server = self._loop.run_until_complete(listening)
        self._loop.run_forever()
        server.close()
        for session in list(self.sessions):
            session.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def drop(self, *, reset: bool) -> None:
        """End every connection: with RST, or as a server that shuts down does."""

        def end() -> None:
            for session in list(self.sessions):
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    session.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                session.transport.abort()

        self._loop.call_soon_threadsafe(end)

    def connection(self, **changes: Any) -> dict[str, Any]:
        """An item of `connections:` for this server."""
        upstream = {"host": "127.0.0.1", "port": self.port, "database": "light", "user": "app",
                    "password": "env:TEST_UPSTREAM_PASSWORD", "tls": "disable"}
        return {"upstream": upstream | changes}
