"""Serves ASGI applications inside the supervisor's event loop: uvicorn without its own loop, signals and process.

Called by supervisor/main.py, once for the admin address and once for the admin socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from hoopfast.config import ServerTls
from hoopfast.errors import ConfigError, Problem
from hoopfast.supervisor import listeners

log = logging.getLogger("hoopfast.supervisor.web")

CONCURRENCY_MAX = 512
HEADERS_MAX_BYTES = 64 * 1024       # a token with many groups has more than 10 kB
SHUTDOWN_S = 2
KEEPALIVE_S = 30


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # SIGTERM means drain first; supervisor/main.py decides.
        yield


class WebServer:
    """One application on bound sockets, from `start` to `stop`. Owns the sockets."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket], tls: ServerTls | None = None) -> None:
        # No forwarding headers: whoever reaches the port could claim any address.
        config = uvicorn.Config(
            app, loop="none", http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None,
            access_log=False, proxy_headers=False, server_header=False, limit_concurrency=CONCURRENCY_MAX,
            h11_max_incomplete_event_size=HEADERS_MAX_BYTES, timeout_keep_alive=KEEPALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S, **(_tls_options(tls) if tls else {}),
        )
        self._server = _Server(config)
        self._sockets = list(sockets)
        self._files = [Path(sock.getsockname()) for sock in sockets if sock.family == socket.AF_UNIX]
        self._task: asyncio.Task[None] | None = None

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
        options |= {"ssl_ca_certs": tls.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
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
