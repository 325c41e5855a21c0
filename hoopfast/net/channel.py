"""Channel: exact, bounded reads and writes on one raw descriptor, with TLS switched on in place.

The front speaks startup and login over channels, to clients and to servers; then `detach` gives descriptor, TLS
session and unread bytes to the relay. Raw descriptors instead of asyncio transports, because TLS must live in the
core's OpenSSL object from its first byte, and because no byte may be read ahead of what is asked for while encryption
is open: what stands behind an SSLRequest belongs to TLS.

One task at a time uses a channel. Failures: PeerGone (closed, reset), TlsFailed, ClientFault 08P01 (a message over its
limit), TimeoutError (the channel's deadline).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Literal

from hoopfast._wire import TlsConnection, TlsContext
from hoopfast.errors import ClientFault, GatewayError
from hoopfast.protocol import sqlstate

READ_BYTES = 8192
CONNECT_RETRY_S = 0.05
BUFFER_MAX_BYTES = 256 * 1024       # unread bytes a peer may push ahead of us; never reached by a sane login


class PeerGone(GatewayError):
    """The other side closed or reset the connection."""


class TlsFailed(GatewayError):
    """The TLS handshake or session failed, with OpenSSL's reason."""


class Channel:
    """Owns `fd` until `close` or `detach`. `deadline` is loop time; every wait ends there with TimeoutError.

    `read_ahead` lets reads take more from the socket than was asked for: off until encryption is settled.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop, *, deadline: float | None = None) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        tune(self._sock)
        self._loop = loop
        self._fd = fd
        self._buffer = bytearray()
        self._waiting: asyncio.Future[None] | None = None
        self.deadline = deadline
        self.read_ahead = False
        self.tls: TlsConnection | None = None

    @property
    def closed(self) -> bool:
        return self._fd < 0

    @property
    def buffered(self) -> int:
        """Bytes read from the socket and not yet taken."""
        return len(self._buffer)

    # ------------------------------------------------------------ waiting

    async def _ready(self, want: Literal["read", "write"]) -> None:
        """Wait until the socket is readable or writable. Leaves no registration behind, whatever ends the wait."""
        if self._fd < 0:
            raise PeerGone("the connection is closed")
        ready = self._waiting = self._loop.create_future()
        add, remove = (
            (self._loop.add_reader, self._loop.remove_reader) if want == "read"
            else (self._loop.add_writer, self._loop.remove_writer)
        )
        fd = self._fd
        add(fd, _wake, ready)
        try:
            async with asyncio.timeout_at(self.deadline):
                await ready
        finally:
            self._waiting = None
            if self._fd == fd:
                remove(fd)

    async def _turn(self, want: Literal["read", "write", "again"]) -> None:
        """Until TLS can go on: when the socket is ready, or when everybody else has had their turn."""
        if want == "again":
            await asyncio.sleep(0)
        else:
            await self._ready(want)

    async def connect(self, address: object) -> None:
        """Connect the socket. OSError with the system's reason; TimeoutError at the deadline."""
        while True:
            code = self._sock.connect_ex(address)  # type: ignore[arg-type]  # its shape depends on the family
            if code == errno.EAGAIN and self._sock.family == socket.AF_UNIX:
                # The listener's queue is full, and a Unix socket offers nothing to wait on.
                async with asyncio.timeout_at(self.deadline):
                    await asyncio.sleep(CONNECT_RETRY_S)
                continue
            if code == errno.EINPROGRESS:
                await self._ready("write")
                code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            return

    # ------------------------------------------------------------ reading

    async def peek(self) -> bytes:
        """The next plaintext byte, left where it is; b"" at end of stream. Only as the first read."""
        assert self.tls is None
        assert not self._buffer
        while True:
            try:
                return self._sock.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                await self._ready("read")
            except OSError as failure:
                raise PeerGone(failure.strerror or "connection lost") from None

    async def _receive(self, limit: int) -> bytes:
        """At least one byte of the stream, at most `limit`; b"" at its end."""
        while True:
            if self.tls is not None:
                try:
                    got = self.tls.read(limit)
                except ConnectionError as failure:
                    raise PeerGone(str(failure)) from None
                if isinstance(got, bytes):
                    return got
                await self._turn(got)
                continue
            try:
                return self._sock.recv(limit)
            except (BlockingIOError, InterruptedError):
                await self._ready("read")
            except OSError as failure:
                raise PeerGone(failure.strerror or "connection lost") from None

    async def read_some(self, limit: int = READ_BYTES) -> bytes:
        """What is there, up to `limit` bytes, waiting for the first of them; b"" at end of stream."""
        if self._buffer:
            taken = bytes(self._buffer[:limit])
            del self._buffer[:limit]
            return taken
        return await self._receive(limit)

    async def read_exactly(self, count: int) -> bytes:
        """Exactly `count` bytes and not one more from the socket. PeerGone if the stream ends before."""
        assert count <= BUFFER_MAX_BYTES
        while len(self._buffer) < count:
            missing = count - len(self._buffer)
            got = await self._receive(max(missing, READ_BYTES) if self.read_ahead else missing)
            if not got:
                raise PeerGone("the peer closed the connection")
            self._buffer += got
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def read_message(self, limit: int) -> tuple[bytes, bytes]:
        """One message as (type byte, body). `limit` bounds the length it claims, checked before anything is kept."""
        head = await self.read_exactly(5)
        length = int.from_bytes(head[1:], "big")
        if not 4 <= length <= limit:
            raise ClientFault(sqlstate.PROTOCOL_VIOLATION, "invalid message length")
        return head[:1], await self.read_exactly(length - 4)

    async def has_more(self) -> bool:
        """Whether plaintext bytes wait to be read right now, in the buffer or in the socket."""
        if self._buffer:
            return True
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    # ------------------------------------------------------------ writing

    async def write(self, data: bytes) -> None:
        """All of `data`, however slowly the peer takes it."""
        rest = memoryview(data)
        while rest:
            if self.tls is not None:
                try:
                    done = self.tls.write(bytes(rest))
                except ConnectionError as failure:
                    raise PeerGone(str(failure)) from None
                if isinstance(done, int):
                    rest = rest[done:]
                else:
                    await self._turn(done)
                continue
            try:
                rest = rest[self._sock.send(rest, socket.MSG_NOSIGNAL):]
            except (BlockingIOError, InterruptedError):
                await self._ready("write")
            except OSError as failure:
                raise PeerGone(failure.strerror or "connection lost") from None

    # ------------------------------------------------------------ TLS

    async def start_tls(self, context: TlsContext, hostname: str | None = None) -> None:
        """Hand the stream to TLS. TlsFailed with OpenSSL's reason; also when plaintext was already read behind it."""
        if self._buffer:
            raise TlsFailed("unencrypted bytes arrived ahead of the TLS handshake")
        try:
            connection = TlsConnection(context, self._fd, hostname)
            while True:
                state = connection.handshake()
                if state == "done":
                    break
                await self._turn(state)
        except (ConnectionError, ValueError) as failure:
            raise TlsFailed(str(failure)) from None
        self.tls = connection

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Close the descriptor, with TLS's close_notify where it can be sent at once. May be called twice."""
        if self._fd < 0:
            return
        self._forget()
        if self.tls is not None:
            self.tls.shutdown()
            self.tls = None
        self._sock.close()

    async def linger(self, seconds: float) -> None:
        """Close so that the peer can read what was written last: a close with unread input would reset it away."""
        if self._fd < 0:
            return
        try:
            if self.tls is not None:
                self.tls.shutdown()
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(seconds):
                for _ in range(64):
                    await self._drain()
        except (TimeoutError, PeerGone, OSError):
            pass
        finally:
            self.close()

    async def _drain(self) -> None:
        try:
            if not self._sock.recv(READ_BYTES):
                raise PeerGone("end of stream")
        except (BlockingIOError, InterruptedError):
            await self._ready("read")

    def detach(self) -> tuple[int, TlsConnection | None, bytes]:
        """(descriptor, TLS session, bytes read and not taken): the caller owns them now."""
        if self._fd < 0:
            raise PeerGone("the connection is closed")
        self._forget()
        tls, self.tls = self.tls, None
        leftover = bytes(self._buffer)
        self._buffer.clear()
        return self._sock.detach(), tls, leftover

    def _forget(self) -> None:
        # Before the number can be reused: a registration that outlived its descriptor would watch a stranger's.
        fd, self._fd = self._fd, -1
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(PeerGone("the connection was closed here"))


def tune(sock: socket.socket) -> None:
    """No Nagle on either leg, and notice a peer whose machine has gone within half a minute. Nothing to do for Unix."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
