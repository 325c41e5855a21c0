"""Slow readers, dead peers, storms of resets and logins, many idle sessions, no descriptors left: nobody else notices.

Most of it against a server that only looks like PostgreSQL, because a real one would be the first to give up. With
HOOPFAST_HEAVY=1 ten thousand sessions instead of one thousand, as far as the descriptor limit goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.support import wire
from tests.support.gateway import Gateway, wait_until
from tests.support.issuer import TestIssuer
from tests.support.leaks import held
from tests.support.upstream import LightServer

HEAVY = os.environ.get("HOOPFAST_HEAVY", "") not in {"", "0"}
SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
# Here are both a session's client and its server.
MANY = min(10_000 if HEAVY else 1_000, (HARD - 500) // 2)
RESET = struct.pack("ii", 1, 0)
CONFIG = {"listen": {"max_sessions": 20_000, "workers": 2}, "audit": {"results": "none"}}


@pytest.fixture(scope="module")
def light() -> Iterator[LightServer]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
    with LightServer() as server:
        yield server
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))


@pytest.fixture(scope="module")
def gateway(issuer: TestIssuer, light: LightServer) -> Iterator[Gateway]:
    with Gateway(issuer, {"light": light.connection()}, config=CONFIG) as running:
        yield running


class Refused(Exception):
    """The gateway ended the login; the argument is the SQLSTATE, or "" when it said nothing."""


def login_message(gateway: Gateway, password: str) -> bytes:
    return wire.startup(user="alice", database="light") + wire.frame("p", password.encode() + b"\0")


async def log_in(gateway: Gateway, hello: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One raw session, up to its first ReadyForQuery."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(hello)
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack_from("!I", head, 1)[0] - 4)
            if head[:1] == b"E":
                raise Refused(wire.error_fields(body)["C"])
            if head[:1] == b"Z":
                return reader, writer
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        writer.transport.abort()
        raise Refused("") from error
    except BaseException:
        writer.transport.abort()
        raise


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(wire.query("SELECT 1"))
    while True:
        head = await reader.readexactly(5)
        await reader.readexactly(struct.unpack_from("!I", head, 1)[0] - 4)
        if head[:1] == b"Z":
            return


def works(gateway: Gateway, within_s: float = 10.0) -> None:
    """A new session gets in and its statement an answer."""
    began = time.monotonic()
    with wire.WireClient(gateway.port, timeout=within_s) as client:
        client.login("alice", "light", gateway.token())
        client.query("SELECT 1")
    assert time.monotonic() - began < within_s


def memory(processes: list[psutil.Process]) -> int:
    """Memory of these processes alone, bytes: pages that nobody shares."""
    return sum(process.memory_full_info().uss for process in processes)


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


# ---------------------------------------------------------------- slow readers, dead peers

def test_a_client_that_does_not_read_costs_little_and_gets_everything(gateway: Gateway, light: LightServer) -> None:
    rows, size = 8_000, 16_000
    with wire.WireClient(gateway.port, timeout=30) as slow:
        slow.login("alice", "light", gateway.token())
        before, sent = memory(gateway.workers()), light.rows
        slow.send(wire.query(f"SELECT 'rows {rows} {size}'"))
        wait_until(lambda: light.rows > sent, "rows are on their way")

        def stands() -> bool:
            now = light.rows
            time.sleep(0.3)
            return light.rows == now

        wait_until(stands, "the server waits for the client")
        assert light.rows - sent < rows
        assert held(gateway)["buffer_bytes"] < 1 << 20
        assert memory(gateway.workers()) - before < 16 << 20
        for _ in range(6):
            works(gateway)              # in both workers
        answer = slow.frames_until("Z")
        assert sum(item.kind == "D" and len(item.body) == size + 6 for item in answer) == rows


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_vanishes_in_the_middle(gateway: Gateway, light: LightServer, reset: bool) -> None:
    for statement in ("", "SELECT 1", "SELECT 'rows 100000 1000'"):
        client = wire.WireClient(gateway.port)
        client.login("alice", "light", gateway.token())
        if statement:
            client.send(wire.query(statement))
            client.receive(1)
        if reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    wait_until(lambda: not light.sessions, "the server's connections are closed too")


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_vanishes(gateway: Gateway, light: LightServer, reset: bool) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(wire.WireClient(gateway.port)) for _ in range(6)]
        for number, client in enumerate(clients):
            client.login("alice", "light", gateway.token())
            if number % 2:
                client.send(wire.query("SELECT 'rows 2000 1000'"))
                client.receive(1)
        light.drop(reset=reset)
        for number, client in enumerate(clients):
            last = client.frames_until_end()
            if number % 2 == 0:
                assert [fields["C"] for fields in wire.errors(last)] == ["08006"]
    works(gateway)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="sockets that die silently need root")
def test_a_client_whose_machine_is_gone(gateway: Gateway, light: LightServer) -> None:
    """No FIN, no RST: the next byte to it finds nobody."""
    client = wire.WireClient(gateway.port)
    client.login("alice", "light", gateway.token())
    client.send(wire.query("SELECT 'rows 20000 1000'"))
    client.receive(1)
    repair = 19                         # TCP_REPAIR: closing such a socket tells nobody
    try:
        client.socket.setsockopt(socket.IPPROTO_TCP, repair, 1)
    except OSError as lack:
        client.close()
        pytest.skip(f"this machine does not let a socket die silently: {lack}")
    client.close()
    wait_until(lambda: not light.sessions, "the session has ended")


# ---------------------------------------------------------------- storms

STAGES = ("connected", "half a startup", "tls asked for", "startup", "half a password", "password", "session", "query")


def reset_at(gateway: Gateway, stage: str, token: str) -> None:
    """Connect, go as far as `stage`, reset."""
    hello, password = wire.startup(user="alice", database="light"), wire.frame("p", token.encode() + b"\0")
    with contextlib.suppress(OSError, wire.ConnectionEnded), wire.WireClient(gateway.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if stage == "half a startup":
            client.send(hello[:9])
        elif stage == "tls asked for":
            client.send(wire.SSL_REQUEST)
        elif stage == "startup":
            client.send(hello)
        elif stage == "half a password":
            client.send(hello, password[:40])
        elif stage == "password":
            client.send(hello, password)
        elif stage in {"session", "query"}:
            client.login("alice", "light", token)
            if stage == "query":
                client.send(wire.query("SELECT 'rows 1000 1000'"))


def test_reset_storms_at_every_stage(gateway: Gateway, light: LightServer) -> None:
    workers, token = {worker.pid for worker in gateway.workers()}, gateway.token()
    rounds = 200 if HEAVY else 40

    def storm(which: int) -> None:
        for number in range(rounds):
            reset_at(gateway, STAGES[(which + number) % len(STAGES)], token)

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    works(gateway)                      # in the middle of it
    for thread in threads:
        thread.join(60)
    works(gateway)
    assert {worker.pid for worker in gateway.workers()} == workers
    assert "Traceback" not in gateway.log_text()
    wait_until(lambda: not light.sessions, "no connection to the server is left")


def test_a_thousand_logins_at_once(gateway: Gateway) -> None:
    hello = login_message(gateway, gateway.token())

    async def run() -> Counter[str]:
        async def one() -> str:
            try:
                reader, writer = await log_in(gateway, hello)
            except Refused as refused:
                return str(refused)
            await ask(reader, writer)
            writer.close()
            await writer.wait_closed()
            return "served"

        return Counter(await asyncio.gather(*(one() for _ in range(1_000))))

    outcomes = asyncio.run(run())
    assert set(outcomes) <= {"served", "53300"}, outcomes
    assert outcomes["served"] >= 500
    works(gateway)


def test_logins_without_end(issuer: TestIssuer, light: LightServer) -> None:
    """One address may have half of the places with clients that are not logged in. Those that are do not count, nor do
    those that have gone."""
    config = {"listen": {"max_sessions": 200, "workers": 1}}
    with Gateway(issuer, {"light": light.connection()}, config=config) as gateway:
        hello = login_message(gateway, gateway.token())

        async def run() -> None:
            sessions = [await log_in(gateway, hello) for _ in range(150)]
            for _, writer in sessions:
                writer.transport.abort()
            await asyncio.to_thread(wait_until, lambda: held(gateway)["sessions_open"] == 0, "all are closed")
            for _ in range(150):
                _, writer = await log_in(gateway, hello)
                writer.transport.abort()

        asyncio.run(run())


@pytest.fixture
def fresh(issuer: TestIssuer, light: LightServer) -> Iterator[Gateway]:
    """A gateway that nobody has used: memory that earlier sessions left behind would make later ones look cheap."""
    with Gateway(issuer, {"light": light.connection()}, config=CONFIG) as running:
        yield running


def test_many_idle_sessions(fresh: Gateway, light: LightServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What one costs is measured; the gateway stays quick for somebody new, and all of them still work."""
    gateway = fresh
    hello = login_message(gateway, gateway.token())

    async def run() -> None:
        sessions: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        for _ in range(20):             # memory that the first sessions need once
            sessions.append(await log_in(gateway, hello))
        workers, supervisor = gateway.workers(), gateway.processes()[:1]
        before = memory(workers), memory(supervisor)
        while len(sessions) < MANY:
            batch = min(50, MANY - len(sessions))
            sessions += await asyncio.gather(*(log_in(gateway, hello) for _ in range(batch)))
        await asyncio.gather(*(ask(*session) for session in sessions))
        wait_until(lambda: held(gateway)["buffer_bytes"] == 0, "an idle session has no buffer")
        each = (memory(workers) - before[0]) / (MANY - 20) / 1024
        beside = (memory(supervisor) - before[1]) / (MANY - 20) / 1024
        with capsys.disabled():
            print(f"\n{MANY} idle sessions: {each:.1f} KiB of the workers and {beside:.1f} of the supervisor each")
        assert held(gateway)["sessions_open"] == MANY
        assert each < 16
        assert beside < 32
        await asyncio.to_thread(works, gateway)
        began = cpu_s(gateway.processes())
        await asyncio.sleep(1)
        assert cpu_s(gateway.processes()) - began < 0.5, "idle sessions cost time"
        await asyncio.gather(*(ask(*session) for session in sessions))
        for _, writer in sessions:
            writer.transport.abort()

    asyncio.run(run())
    wait_until(lambda: not light.sessions, "all are closed upstream", 30)


# ---------------------------------------------------------------- a worker dies, descriptors run out

def test_a_worker_killed_under_load(gateway: Gateway) -> None:
    """The other worker's sessions go on without an error or a long pause, and new ones get in."""
    hello = login_message(gateway, gateway.token())

    async def run() -> None:
        sessions = [await log_in(gateway, hello) for _ in range(20)]
        lost, longest, stop = 0, 0.0, False

        async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal lost, longest
            try:
                while not stop:
                    began = time.monotonic()
                    await ask(reader, writer)
                    longest = max(longest, time.monotonic() - began)
            except (asyncio.IncompleteReadError, ConnectionError):
                lost += 1
            writer.transport.abort()

        tasks = [asyncio.create_task(work(*session)) for session in sessions]
        await asyncio.sleep(0.3)
        victim = await asyncio.to_thread(lambda: gateway.workers()[0])
        victim.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(works, gateway)
        stop = True
        await asyncio.gather(*tasks)
        assert lost == 10, "sessions are spread evenly, and only the dead worker's end"
        assert longest < 5

    asyncio.run(run())
    wait_until(lambda: len(gateway.workers()) == 2, "the worker is replaced")


@pytest.fixture
def scarce(issuer: TestIssuer, light: LightServer) -> Iterator[Gateway]:
    """A gateway whose processes may have 160 descriptors each."""
    running = Gateway(issuer, {"light": light.connection()}, config={"audit": {"results": "none"}}, descriptors=160)
    with running:
        yield running


def test_no_descriptors_left(scarce: Gateway) -> None:
    """Who is over is told so; nothing spins; as soon as some leave, others get in."""
    hello = login_message(scarce, scarce.token())

    async def fill() -> tuple[list[asyncio.StreamWriter], Counter[str]]:
        async def one() -> asyncio.StreamWriter | str:
            try:
                return (await log_in(scarce, hello))[1]
            except Refused as refused:
                return str(refused)

        got = await asyncio.gather(*(one() for _ in range(300)))
        return [x for x in got if not isinstance(x, str)], Counter(x for x in got if isinstance(x, str))

    async def run() -> None:
        for _ in range(2):
            inside, refused = await fill()
            assert len(inside) == 2 * (160 - 64) // 2, "as many as there are descriptors for"
            assert set(refused) == {"53300"}, refused
            processes = scarce.processes()
            began = cpu_s(processes)
            await asyncio.sleep(1.5)
            assert cpu_s(processes) - began < 0.75, "it spins"
            for writer in inside:
                writer.transport.abort()
            await asyncio.to_thread(wait_until, lambda: held(scarce)["sessions_open"] == 0, "all have left")

    asyncio.run(run())
    works(scarce)
    assert "Traceback" not in scarce.log_text()
