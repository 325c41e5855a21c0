"""Serves ASGI applications inside the supervisor's event loop: uvicorn without its own loop, signals and process.

What uvicorn leaves open is closed here: connections that ask for nothing or ask slowly, too many of them, and peers of
the admin socket that are somebody else.

Called by supervisor/main.py, once for the admin address and once for the admin socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hoopfast.config import ServerTls
from hoopfast.errors import ConfigError, Problem
from hoopfast.supervisor import listeners

log = logging.getLogger("hoopfast.supervisor.web")

CONNECTIONS_MAX = 1024
ADDRESS_SHARE = 2                   # one address may have 1/n of them: a reverse proxy has one too
REQUEST_S = 15.0                    # from its first byte (or the connection) to the last of its body
HEADERS_MAX_BYTES = 64 * 1024       # a token with many groups has more than 10 kB
SHUTDOWN_S = 2
KEEPALIVE_S = 30
CLIENT_CERT = {"require": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL}


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # SIGTERM means drain first; supervisor/main.py decides.
        yield


class Protocol(H11Protocol):
    """One connection. uvicorn's own time limit covers only the pause between two requests."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if self._is_too_many() or not _is_own_user(transport.get_extra_info("socket")):
            transport.abort()
        else:
            self._late = self.loop.call_later(REQUEST_S, self._on_late)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_receiving():
            self._cancel_late()
        elif self._late is None:
            self._late = self.loop.call_later(REQUEST_S, self._on_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_late()
        super().connection_lost(exc)

    def _is_receiving(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _on_late(self) -> None:
        self._late = None
        if self._is_receiving():
            self.transport.abort()

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_too_many(self) -> bool:
        if len(self.connections) > CONNECTIONS_MAX:
            return True
        if self.client is None:
            return False
        others = (connection.client for connection in self.connections if isinstance(connection, Protocol))
        same = sum(1 for other in others if other is not None and other[0] == self.client[0])
        return same > CONNECTIONS_MAX // ADDRESS_SHARE


def _is_own_user(sock: Any) -> bool:
    """Whether the peer of a Unix socket is root or the service's own user; true for every other socket.

    The socket's mode says the same; it is not the only thing that stands between a stranger and the local admin.
    """
    if sock is None or sock.family != socket.AF_UNIX:
        return True
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.geteuid())


class WebServer:
    """One application on bound sockets, from `start` to `stop`. Owns the sockets."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket], tls: ServerTls | None = None) -> None:
        # No forwarding headers: whoever reaches the port could claim any address.
        config = uvicorn.Config(
            app, loop="none", http=Protocol, ws="none", lifespan="off", interface="asgi3", log_config=None,
            access_log=False, proxy_headers=False, server_header=False,
            h11_max_incomplete_event_size=HEADERS_MAX_BYTES, timeout_keep_alive=KEEPALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S, **(_tls_options(tls) if tls else {}),
        )
        config.load()
        if tls is not None and config.ssl is not None and tls.min_version == "1.3":
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = _Server(config)
        self._sockets = list(sockets)
        self._files = [Path(sock.getsockname()) for sock in sockets if sock.family == socket.AF_UNIX]
        self._task: asyncio.Task[None] | None = None

    def renew(self, tls: ServerTls) -> None:
        """Show the certificate that is in these files now to whoever connects from here on."""
        if self._server.config.ssl is None:
            log.warning("admin.tls takes effect when the gateway is restarted")
            return
        try:
            self._server.config.ssl.load_cert_chain(tls.cert, tls.key)
        except (OSError, ValueError) as fault:
            log.error("the admin API's TLS files cannot be used: %s; the previous certificate stays", fault)

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=self._sockets), name="admin")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the admin server ended before it had started")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self._task is None:
            return
        self._server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for sock in self._sockets:
            sock.close()
        for path in self._files:
            path.unlink(missing_ok=True)


def _tls_options(tls: ServerTls) -> dict[str, Any]:
    options: dict[str, Any] = {"ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
    if tls.client_ca:
        options |= {"ssl_ca_certs": tls.client_ca, "ssl_cert_reqs": CLIENT_CERT[tls.client_cert]}
    return options


def bind_admin(address: str) -> list[socket.socket]:
    """Like listeners.bind; problems name the admin address."""
    try:
        return listeners.bind(address)
    except ConfigError as failure:
        problems = [Problem(p.file, "$.admin.address", p.what) for p in failure.problems]
        raise ConfigError(problems) from failure


def bind_private(path: Path) -> socket.socket:
    """The admin socket. Only the service's own user may connect: from the very first moment, hence the umask."""
    before = os.umask(0o177)
    try:
        sock = listeners.bind(f"unix:{path}")[0]
    except ConfigError as failure:
        raise ConfigError([Problem(p.file, "$.state_dir", p.what) for p in failure.problems]) from failure
    finally:
        os.umask(before)
    return sock
