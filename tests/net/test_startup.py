"""A client's first bytes in three deliveries (whole, byte by byte, with trailing bytes), with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hoopfast._wire import TlsContext
from hoopfast.errors import ClientFault
from hoopfast.net.channel import Channel, PeerGone, TlsFailed
from hoopfast.net.startup import receive_startup
from hoopfast.protocol import messages
from hoopfast.protocol.startup import CancelRequest, StartupRequest, Unanswered
from tests.support.certs import Certificates

GSS_REQUEST = struct.pack("!II", 8, messages.GSSENC_REQUEST_CODE)
HELLO = messages.startup_message(messages.PROTOCOL_3_2, {"user": "ana", "database": "shop"})
SMUGGLED = "received unencrypted data"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def tls(files: Certificates) -> TlsContext:
    return TlsContext(server=True, certificate=str(files.cert), key=str(files.key))


def serve(
    client: Callable[[socket.socket], Awaitable[Any]], tls: TlsContext | None = None, deadline_s: float = 5.0
) -> tuple[Any, bytes, Any]:
    """(what receive_startup returned, bytes it left, what `client` returned)."""
    async def main() -> tuple[Any, bytes, Any]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        channel = Channel(ours.detach(), loop, deadline=loop.time() + deadline_s)
        task = asyncio.create_task(client(theirs))
        try:
            got = await receive_startup(channel, tls)
            said = await task
            rest = await channel.read_some() if await channel.has_more() else b""
            return got, rest, said
        finally:
            task.cancel()
            channel.close()
            theirs.close()

    return asyncio.run(main())


def sends(data: bytes) -> Callable[[socket.socket], Awaitable[None]]:
    async def client(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, data)

    return client


def drips(data: bytes) -> Callable[[socket.socket], Awaitable[None]]:
    async def client(sock: socket.socket) -> None:
        for byte in data:
            sock.send(bytes([byte]))
            await asyncio.sleep(0)

    return client


@pytest.mark.parametrize("trailing", [b"", b"p\0\0\0\x08abc\0"])
@pytest.mark.parametrize("deliver", [sends, drips])
def test_startup_in_three_deliveries(deliver: Any, trailing: bytes) -> None:
    got, rest, _ = serve(deliver(HELLO + trailing))
    assert got == StartupRequest("ana", "shop", {}, 2, False, ())
    assert rest == trailing


@pytest.mark.parametrize("at", range(1, len(HELLO), 7))
def test_startup_cut_anywhere(at: int) -> None:
    async def client(sock: socket.socket) -> None:
        sock.send(HELLO[:at])
        await asyncio.sleep(0.001)
        sock.send(HELLO[at:])

    assert serve(client)[0].user == "ana"


@pytest.mark.parametrize("deliver", [sends, drips])
def test_cancel_in_two_deliveries(deliver: Any) -> None:
    assert serve(deliver(messages.cancel_request(9, b"1234")))[0] == CancelRequest(9, b"1234")


def test_large_packet_up_to_the_limit() -> None:
    name = "x" * (10_000 - len(messages.startup_message(messages.PROTOCOL_3_0, {"user": "a", "k": ""})))
    packet = messages.startup_message(messages.PROTOCOL_3_0, {"user": "a", "k": name})
    assert len(packet) == 10_000
    assert serve(sends(packet))[0].parameters == {"k": name}
    with pytest.raises(ClientFault):
        serve(sends(messages.startup_message(messages.PROTOCOL_3_0, {"user": "a", "k": name + "x"})))


@pytest.mark.parametrize("requests", [
    [messages.SSL_REQUEST], [GSS_REQUEST], [GSS_REQUEST, messages.SSL_REQUEST], [messages.SSL_REQUEST, GSS_REQUEST],
])
def test_declined_encryption_goes_on_in_plaintext(requests: list[bytes]) -> None:
    async def client(sock: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        answers = b""
        for request in requests:
            await loop.sock_sendall(sock, request)
            answers += await loop.sock_recv(sock, 1)
        await loop.sock_sendall(sock, HELLO)
        return answers

    got, _, answers = serve(client)
    assert got.database == "shop"
    assert answers == b"N" * len(requests)


@pytest.mark.parametrize("request_", [messages.SSL_REQUEST, GSS_REQUEST])
@pytest.mark.parametrize("with_tls", [True, False])
def test_bytes_behind_an_encryption_request_are_fatal(request_: bytes, with_tls: bool, tls: TlsContext) -> None:
    with pytest.raises(ClientFault) as caught:
        serve(sends(request_ + HELLO), tls if with_tls else None)
    assert caught.value.sqlstate == "08P01"
    assert SMUGGLED in caught.value.message


@pytest.mark.parametrize("request_", [messages.SSL_REQUEST, GSS_REQUEST])
def test_the_same_request_twice(request_: bytes) -> None:
    async def client(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, request_)
        await loop.sock_recv(sock, 1)
        await loop.sock_sendall(sock, request_)

    with pytest.raises(ClientFault) as caught:
        serve(client)
    assert caught.value.sqlstate == "08P01"


def secured(files: Certificates, *, direct: bool, alpn: list[str], inside: bytes = HELLO) -> Any:
    """A client that goes under TLS (by request or directly) and sends `inside` there."""
    def blocking(sock: socket.socket) -> None:
        context = ssl.create_default_context(cafile=str(files.ca))
        if alpn:
            context.set_alpn_protocols(alpn)
        sock.settimeout(3)
        with sock, contextlib.suppress(OSError):
            if not direct:
                sock.sendall(messages.SSL_REQUEST)
                assert sock.recv(1) == b"S"
            with context.wrap_socket(sock.dup(), server_hostname="localhost") as session:
                session.sendall(inside)
                session.recv(1)

    async def client(sock: socket.socket) -> None:
        # In the background: it waits for an answer that only the end of the test gives.
        asyncio.get_running_loop().run_in_executor(None, blocking, sock.dup())

    return client


def test_tls_by_request_and_direct(files: Certificates, tls: TlsContext) -> None:
    assert serve(secured(files, direct=False, alpn=[]), tls)[0].user == "ana"
    assert serve(secured(files, direct=True, alpn=["postgresql"]), tls)[0].user == "ana"
    inside = secured(files, direct=False, alpn=[], inside=messages.cancel_request(5, b"abcd"))
    assert serve(inside, tls)[0] == CancelRequest(5, b"abcd")


@pytest.mark.parametrize("alpn", [[], ["http/1.1"]])
def test_direct_tls_needs_our_alpn(files: Certificates, tls: TlsContext, alpn: list[str]) -> None:
    with pytest.raises((ClientFault, TlsFailed)):
        serve(secured(files, direct=True, alpn=alpn), tls)


def test_direct_tls_without_tls_is_closed() -> None:
    with pytest.raises(Unanswered):
        serve(sends(b"\x16\x03\x01\x02\x00\x01"))


@pytest.mark.parametrize("inside", [messages.SSL_REQUEST, GSS_REQUEST])
def test_no_encryption_request_inside_tls(files: Certificates, tls: TlsContext, inside: bytes) -> None:
    with pytest.raises(ClientFault) as caught:
        serve(secured(files, direct=False, alpn=[], inside=inside), tls)
    assert caught.value.sqlstate == "08P01"


def test_connect_and_close_or_stay_silent() -> None:
    async def closes(sock: socket.socket) -> None:
        sock.close()

    async def silent(sock: socket.socket) -> None:
        return None

    with pytest.raises(Unanswered):
        serve(closes)
    with pytest.raises(TimeoutError):
        serve(silent, deadline_s=0.05)


def test_half_a_packet_then_gone() -> None:
    async def client(sock: socket.socket) -> None:
        sock.send(HELLO[:9])
        sock.close()

    with pytest.raises(PeerGone):
        serve(client)


def test_certificate_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.crt").write_text("nothing")
    with pytest.raises(ValueError):
        TlsContext(server=True, certificate=str(tmp_path / "x.crt"), key=str(tmp_path / "x.crt"))
