"""Listening: addresses, options, hand-over, the full house, running out of descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hoopfast import limits
from hoopfast.errors import ConfigError
from hoopfast.supervisor import listeners
from hoopfast.supervisor.listeners import Listener, bind, fatal, split_address
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:6432", ("127.0.0.1", 6432)), ("[::1]:1", ("::1", 1)), ("*:5", ("", 5)), (":5", ("", 5))],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["localhost", "x:", "x:70000", "x:abc"])
def test_bad_addresses_name_the_setting(address: str) -> None:
    with pytest.raises(ConfigError, match=r"\$\.listen\.address: cannot listen on"):
        bind(address)


def test_a_taken_port_says_so() -> None:
    first = bind("127.0.0.1:0")[0]
    with pytest.raises(ConfigError, match="is another gateway running"):
        bind(f"127.0.0.1:{first.getsockname()[1]}")
    first.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_accepted_clients_are_handed_over(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        taken: list[tuple[str, str, int]] = []

        def take(listener: str, peer: str, fd: int) -> None:
            taken.append((listener, peer, fd))

        sock = bind("127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s")[0]
        listener = Listener(sock, take)
        listener.start()
        client = socket.socket(sock.family)
        client.connect(listener.address)
        await until(lambda: bool(taken))
        name, peer, fd = taken[0]
        assert name == listener.name
        assert not os.get_blocking(fd)
        with socket.socket(fileno=fd) as server:
            if kind == "tcp":
                assert peer == f"127.0.0.1:{client.getsockname()[1]}"
                assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            else:
                assert peer == "unix"
        client.close()
        listener.close()
        assert not (tmp_path / "s").exists()

    asyncio.run(scenario())


def test_a_full_house_says_so_to_a_client_that_has_spoken(tmp_path: Path) -> None:
    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        sock = bind("127.0.0.1:0")[0]
        listener = Listener(sock, lambda *_: ("53300", "too many"))
        listener.start()
        assert isinstance(listener.address, tuple)
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(b"\0\0\0\x08\x04\xd2\x16\x2f")
        answer = await reader.read()
        assert answer == fatal("53300", "too many")
        assert b"C53300\0" in answer
        assert answer[0:1] == b"E"
        assert int.from_bytes(answer[1:5], "big") == len(answer) - 1
        writer.close()
        await writer.wait_closed()
        listener.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(scenario())


def test_refused_clients_free_their_descriptors_by_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(listeners, "FAREWELL_S", 60.0)
        monkeypatch.setattr(limits, "FAREWELLS_MAX", 3)
        before = len(os.listdir("/proc/self/fd"))
        listener = Listener(bind("127.0.0.1:0")[0], lambda *_: ("53300", "too many"))
        listener.start()
        assert isinstance(listener.address, tuple)
        clients = [await asyncio.open_connection(*listener.address) for _ in range(5)]
        for reader, writer in clients:
            writer.write(b"x" * 1000)
            assert await reader.read() == fatal("53300", "too many")
        assert len(listener._farewells) <= 3
        for _, writer in clients:
            writer.transport.abort()
        await until(lambda: not listener._farewells)
        listener.close()
        await until(lambda: len(os.listdir("/proc/self/fd")) == before)

    asyncio.run(scenario())


def test_a_dead_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    live = bind(f"unix:{path}")[0]
    with pytest.raises(ConfigError, match="another gateway"):
        bind(f"unix:{path}")
    live.close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        bind(f"unix:{path}")
    assert path.read_text() == "precious"


class Scripted:
    """A socket whose accept() does what the script says."""

    family = socket.AF_INET

    def __init__(self, real: socket.socket, script: list[OSError]) -> None:
        self.real, self.script, self.accepts = real, script, 0

    def accept(self) -> Any:
        self.accepts += 1
        if self.script:
            raise self.script.pop(0)
        return self.real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_out_of_descriptors_backs_off_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        taken: list[int] = []

        def take(listener: str, peer: str, fd: int) -> None:
            taken.append(fd)

        monkeypatch.setattr(listeners, "BACKOFF_S", 0.05)
        sock = Scripted(bind("127.0.0.1:0")[0], [OSError(errno.EMFILE, "x"), OSError(errno.ECONNABORTED, "x")])
        listener = Listener(sock, take)  # type: ignore[arg-type]
        listener.start()
        client = socket.create_connection(sock.real.getsockname())
        await asyncio.sleep(0.02)
        assert sock.accepts == 1
        await until(lambda: len(taken) == 1)
        os.close(taken[0])
        client.close()
        listener.close()

    asyncio.run(scenario())


def test_one_turn_accepts_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(limits, "ACCEPTS_PER_TURN_MAX", 2)
        taken: list[int] = []

        def take(listener: str, peer: str, fd: int) -> None:
            taken.append(fd)

        sock = bind("127.0.0.1:0")[0]
        listener = Listener(sock, take)
        clients = [socket.create_connection(sock.getsockname()) for _ in range(5)]
        listener._acceptable()
        assert len(taken) == 2
        listener.start()
        await until(lambda: len(taken) == 5)
        for client in clients:
            client.close()
        for fd in taken:
            os.close(fd)
        listener.close()

    asyncio.run(scenario())
