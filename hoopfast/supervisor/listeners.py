"""The listening sockets: bind, accept, give each client to a worker; or refuse it when the gateway is full.

Owns the sockets and nothing of what comes after: `take(listener, peer, fd)` gets every accepted descriptor and says
whether it found a place. Called by supervisor/main.py.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from hoopfast import limits
from hoopfast.errors import ConfigError, Problem

log = logging.getLogger("hoopfast.supervisor.listeners")

BACKLOG = 4096
BACKOFF_S = 0.01                    # after EMFILE and its like: accepting again at once would only spin
COMPLAIN_EVERY_S = 10.0
FAREWELL_S = 1.0                    # a refused client gets that long to read why, before the descriptor is closed
DISCARD_BYTES = 65536
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# (listener, peer, fd) -> None when taken, else SQLSTATE and message of the refusal (the descriptor stays ours)
Take = Callable[[str, str, int], tuple[str, str] | None]


def bind(address: str) -> list[socket.socket]:
    """Bound, non-blocking sockets for `host:port`, `[v6]:port`, `*:port` or `unix:/path`. Raises ConfigError."""
    try:
        if address.startswith("unix:"):
            return [_bind_unix(Path(address.removeprefix("unix:")))]
        return _bind_tcp(address)
    except OSError as failure:
        said = f"cannot listen on {address}: {failure.strerror or failure}"
        if failure.errno == errno.EADDRINUSE:
            said += " (is another gateway running?)"
        raise ConfigError([Problem("hoopfast.yaml", "$.listen.address", said)]) from failure


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of host:port; the host is "" for `*` or nothing, and comes without brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise OSError(errno.EINVAL, "the address is not host:port")
    host = host.removeprefix("[").removesuffix("]")
    return ("" if host == "*" else host), int(port)


def _bind_tcp(address: str) -> list[socket.socket]:
    host, port = split_address(address)
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Otherwise the IPv4 socket of the same name would be taken already.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((where[0], port, *where[2:]))
            sock.listen(BACKLOG)
            # Port 0 means "any", but the same one for every family of the name.
            port = sock.getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_unix(path: Path) -> socket.socket:
    _remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_dead_socket(path: Path) -> None:
    """A socket file that nobody listens on is left over from a killed gateway; anything else is not ours to remove."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class Listener:
    """Accepts on one socket while `start`ed. Closes the socket on `close`, and removes its file if it has one."""

    def __init__(self, sock: socket.socket, take: Take) -> None:
        self._sock = sock
        self._take = take
        self._tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self.name = _name(sock.getsockname())
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._complained_at = -COMPLAIN_EVERY_S
        self._farewells_max = max(1, min(limits.FAREWELLS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
        self._farewells: dict[socket.socket, asyncio.TimerHandle] = {}

    @property
    def address(self) -> tuple[str, int] | str:
        """(host, port) as bound, or the path."""
        where = self._sock.getsockname()
        return (where[0], where[1]) if self._tcp else str(where)

    def start(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._acceptable)
        log.info("listening on %s", self.name)

    def close(self) -> None:
        """Stop accepting. Clients in the kernel's queue are reset; those accepted already are not ours any more."""
        if self._sock.fileno() < 0:
            return
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._sock.fileno())
        if not self._tcp:
            Path(str(self._sock.getsockname())).unlink(missing_ok=True)
        self._sock.close()
        for client in list(self._farewells):
            self._forget(client)

    def _acceptable(self) -> None:
        for _ in range(limits.ACCEPTS_PER_TURN_MAX):
            try:
                client, where = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as failure:
                if failure.errno in _EXHAUSTED:
                    self._complain(failure)
                    self._pause()
                    return
                # The client had gone before we came (ECONNABORTED, EPROTO, ...): the next one may be fine.
                continue
            self._accepted(client, where)

    def _accepted(self, client: socket.socket, where: object) -> None:
        try:
            client.setblocking(False)
            if self._tcp:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in KEEPALIVE:
                    client.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError:
            client.close()
            return
        peer = _name(where) if self._tcp else "unix"
        refusal = self._take(self.name, peer, client.fileno())
        if refusal is None:
            client.detach()
        else:
            self._refuse(client, *refusal)

    def _refuse(self, client: socket.socket, sqlstate: str, message: str) -> None:
        try:
            client.send(fatal(sqlstate, message))
            # Closing with its startup packet unread would reset the connection and lose the message.
            client.shutdown(socket.SHUT_WR)
        except OSError:
            client.close()
            return
        if len(self._farewells) >= self._farewells_max:
            self._forget(next(iter(self._farewells)))       # who has had the longest time to read
        self._farewells[client] = self._loop.call_later(FAREWELL_S, self._forget, client)
        self._loop.add_reader(client.fileno(), self._listen_no_more, client)

    def _listen_no_more(self, client: socket.socket) -> None:
        """Read away what a refused client still says; when it has hung up, its descriptor is free for others."""
        try:
            if client.recv(DISCARD_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._forget(client)

    def _forget(self, client: socket.socket) -> None:
        handle = self._farewells.pop(client, None)
        if handle is not None:
            handle.cancel()
            self._loop.remove_reader(client.fileno())
            client.close()

    def _complain(self, failure: OSError) -> None:
        now = self._loop.time()
        if now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            log.error("cannot accept on %s: %s; raise LimitNOFILE of the service", self.name, failure.strerror)

    def _pause(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._paused = self._loop.call_later(BACKOFF_S, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._sock.fileno(), self._acceptable)


def fatal(sqlstate: str, message: str) -> bytes:
    """An ErrorResponse of severity FATAL, for a client that has not said anything yet."""
    fields = (("S", "FATAL"), ("V", "FATAL"), ("C", sqlstate), ("M", message))
    body = b"".join(tag.encode() + text.encode() + b"\0" for tag, text in fields) + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


def _name(where: object) -> str:
    if isinstance(where, tuple):
        host = str(where[0])
        return f"[{host}]:{where[1]}" if ":" in host else f"{host}:{where[1]}"
    return f"unix:{where}" if where else "unix"
