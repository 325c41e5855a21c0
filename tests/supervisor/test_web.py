"""The HTTP server of the admin interface: silent and slow peers, too many of them, strangers on the admin socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hoopfast.supervisor import web

Scenario = Callable[[tuple[str, int]], Awaitable[None]]


async def echo(request: Request) -> Response:
    return Response(str(len(await request.body())))


def serve(scenario: Scenario) -> None:
    async def main() -> None:
        sock = web.bind_admin("127.0.0.1:0")[0]
        server = web.WebServer(Starlette(routes=[Route("/", echo, methods=["GET", "POST"])]), [sock])
        await server.start()
        try:
            await asyncio.wait_for(scenario(sock.getsockname()), 20)
        finally:
            await server.stop()

    asyncio.run(main())


async def ask(where: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*where)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
                                   b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"])
def test_who_says_nothing_more_is_let_go(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(web, "REQUEST_S", 0.2)

    async def scenario(where: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*where)
        writer.write(begun)
        assert await ended(reader)
        writer.close()

    serve(scenario)


def test_dripping_bytes_buy_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_S", 0.3)

    async def scenario(where: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        end = asyncio.create_task(ended(reader))
        for _ in range(50):
            if end.done():
                break
            writer.write(b"a")
            await asyncio.sleep(0.05)
        assert end.done()
        assert await end
        writer.close()

    serve(scenario)


def test_a_second_request_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_S", 0.3)

    async def scenario(where: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*where)
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
            await asyncio.sleep(0.15)
            writer.write(b"bc")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(1) == b"3"
            await asyncio.sleep(0.2)            # a pause between requests is keep-alive's to judge
        writer.write(b"GET")
        assert await ended(reader)
        writer.close()

    serve(scenario)


def test_one_address_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CONNECTIONS_MAX", 8)

    async def scenario(where: tuple[str, int]) -> None:
        held = [await asyncio.open_connection(*where) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert await ask(where) == b""
        other = socket.socket()
        other.bind(("127.0.0.2", 0))
        other.setblocking(False)
        await asyncio.get_running_loop().sock_connect(other, where)
        reader, writer = await asyncio.open_connection(sock=other)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        for _, mine in held:
            mine.close()
        await asyncio.sleep(0.05)
        assert (await ask(where)).startswith(b"HTTP/1.1 200")

    serve(scenario)


def test_strangers_on_the_admin_socket_are_shown_the_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    async def answer(uid: int) -> bytes:
        monkeypatch.setattr(web.struct, "unpack", lambda *_: (1, uid, 1))
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def main() -> None:
        sock = web.bind_private(path)
        assert path.stat().st_mode & 0o777 == 0o600
        server = web.WebServer(Starlette(routes=[Route("/", echo)]), [sock])
        await server.start()
        assert (await answer(os.geteuid())).startswith(b"HTTP/1.1 200")
        assert (await answer(0)).startswith(b"HTTP/1.1 200")
        assert await answer(65533) == b""
        monkeypatch.undo()
        await server.stop()
        assert not path.exists()

    asyncio.run(main())


def test_the_credentials_of_a_real_peer_are_read() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert web._is_own_user(ours)

