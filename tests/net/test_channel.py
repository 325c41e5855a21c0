"""Channels over socket pairs: exactness, limits, deadlines, TLS in place, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hoopfast._wire import TlsContext
from hoopfast.errors import ClientFault
from hoopfast.net.channel import Channel, PeerGone, TlsFailed
from tests.support.certs import Certificates


def with_pair(body: Callable[[Channel, socket.socket], Awaitable[None]], *, deadline_s: float = 5.0) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        channel = Channel(ours.detach(), loop, deadline=loop.time() + deadline_s)
        try:
            await body(channel, theirs)
        finally:
            channel.close()
            theirs.close()

    asyncio.run(main())


def test_reads_exactly_and_leaves_the_rest_in_the_socket() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        peer.send(b"abcdef")
        assert await channel.read_exactly(4) == b"abcd"
        assert channel.buffered == 0
        fd, tls, leftover = channel.detach()
        assert (tls, leftover) == (None, b"")
        assert os.read(fd, 10) == b"ef"
        os.close(fd)

    with_pair(body)


def test_read_ahead_gives_what_it_took_to_the_next_owner() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        channel.read_ahead = True
        peer.send(b"abcdef")
        assert await channel.read_exactly(2) == b"ab"
        assert await channel.has_more()
        fd, _, leftover = channel.detach()
        assert leftover == b"cdef"
        os.close(fd)

    with_pair(body)


def test_message_byte_by_byte() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        async def drip() -> None:
            for byte in b"p\0\0\0\x07abc":
                peer.send(bytes([byte]))
                await asyncio.sleep(0)

        task = asyncio.create_task(drip())
        assert await channel.read_message(100) == (b"p", b"abc")
        await task

    with_pair(body)


@pytest.mark.parametrize("length", [0, 3, 101, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_message_length_is_checked_before_the_body(length: int) -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        peer.send(b"p" + length.to_bytes(4, "big"))
        with pytest.raises(ClientFault) as caught:
            await channel.read_message(100)
        assert caught.value.sqlstate == "08P01"

    with_pair(body)


def test_end_of_stream() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        peer.send(b"ab")
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerGone):
            await channel.read_exactly(3)
        assert await channel.read_some() == b"ab"
        assert await channel.read_some() == b""

    with_pair(body)


def test_deadline_ends_a_silent_peer_and_a_peer_that_does_not_read() -> None:
    async def silent(channel: Channel, peer: socket.socket) -> None:
        with pytest.raises(TimeoutError):
            await channel.read_exactly(1)
        with pytest.raises(TimeoutError):
            await channel.write(b"x" * 4_000_000)

    with_pair(silent, deadline_s=0.05)


def test_large_write_arrives_whole() -> None:
    data = os.urandom(1_000_000)

    async def body(channel: Channel, peer: socket.socket) -> None:
        async def collect() -> bytes:
            got = b""
            while len(got) < len(data):
                got += await asyncio.get_running_loop().sock_recv(peer, 65536)
            return got

        reader = asyncio.create_task(collect())
        await channel.write(data)
        assert await reader == data

    with_pair(body)


def test_close_wakes_who_waits_and_frees_the_descriptor() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        waiting = asyncio.create_task(channel.read_some())
        await asyncio.sleep(0)
        channel.close()
        with pytest.raises(PeerGone):
            await waiting
        with pytest.raises(PeerGone):
            await channel.read_some()
        assert peer.recv(1) == b""
        channel.close()

    with_pair(body)


def test_cancelled_read_leaves_no_registration() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        waiting = asyncio.create_task(channel.read_some())
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        peer.send(b"x")
        await asyncio.sleep(0.01)
        assert await channel.read_some() == b"x"

    with_pair(body)


def test_write_to_a_closed_peer() -> None:
    async def body(channel: Channel, peer: socket.socket) -> None:
        peer.close()
        with pytest.raises(PeerGone):
            for _ in range(10):
                await channel.write(b"x" * 100_000)

    with_pair(body)


def client_session(sock: socket.socket, ca: Path) -> ssl.SSLSocket:
    """A blocking TLS client on a socket; run in a thread."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["postgresql"])
    sock.setblocking(True)
    sock.settimeout(5)
    return context.wrap_socket(sock, server_hostname="localhost")


def test_tls_in_place_both_ways(tmp_path: Path) -> None:
    files = Certificates(tmp_path)
    context = TlsContext(server=True, certificate=str(files.cert), key=str(files.key))
    big = os.urandom(300_000)

    async def body(channel: Channel, peer: socket.socket) -> None:
        peer.send(b"plain")
        assert await channel.read_exactly(5) == b"plain"

        def client() -> bytes:
            with client_session(peer.dup(), files.ca) as session:
                session.sendall(b"hello")
                got = b""
                while len(got) < len(big):
                    got += session.recv(65536)
                return got

        task = asyncio.create_task(asyncio.to_thread(client))
        await channel.start_tls(context)
        assert channel.tls is not None
        assert channel.tls.alpn() == b"postgresql"
        assert await channel.read_exactly(5) == b"hello"
        await channel.write(big)
        assert await task == big

    with_pair(body)


def test_plaintext_read_ahead_of_tls_is_refused(tmp_path: Path) -> None:
    files = Certificates(tmp_path)
    context = TlsContext(server=True, certificate=str(files.cert), key=str(files.key))

    async def body(channel: Channel, peer: socket.socket) -> None:
        channel.read_ahead = True
        peer.send(b"12345678Q\0\0\0\x0dselect 1\0")
        await channel.read_exactly(8)
        with pytest.raises(TlsFailed):
            await channel.start_tls(context)
        assert channel.tls is None

    with_pair(body)


def test_handshake_with_nonsense_and_a_stalled_one(tmp_path: Path) -> None:
    files = Certificates(tmp_path)
    context = TlsContext(server=True, certificate=str(files.cert), key=str(files.key))

    async def nonsense(channel: Channel, peer: socket.socket) -> None:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TlsFailed):
            await channel.start_tls(context)

    async def stalled(channel: Channel, peer: socket.socket) -> None:
        peer.send(b"\x16\x03\x01")
        with pytest.raises(TimeoutError):
            await channel.start_tls(context)

    with_pair(nonsense)
    with_pair(stalled, deadline_s=0.05)


def test_linger_lets_the_peer_read_the_last_words() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
        channel = Channel(accepted.detach(), asyncio.get_running_loop())
        peer.send(b"unread" * 1000)
        await channel.read_exactly(1)
        await channel.write(b"last words")
        closing = asyncio.create_task(channel.linger(2.0))
        await asyncio.sleep(0.01)
        peer.settimeout(2)
        assert peer.recv(100) == b"last words"
        assert peer.recv(100) == b""
        peer.close()
        await closing
        assert channel.closed

    asyncio.run(main())
