"""The relay on epoll and on io_uring: the same bytes, bounds and ends, and a way back where the kernel says no."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hoopfast import _wire, model
from tests.support import wire
from tests.support.deliveries import byte_by_byte, whole
from tests.support.relay import (
    READY,
    RelayBench,
    allow,
    complete,
    expect,
    read_exactly,
    read_frames,
    row,
    row_description,
)
from tests.wire import test_relay

BACKENDS = ("epoll", "io_uring")
# The other tests of this directory run on what `auto` takes here; these run on both.
ESSENTIAL: tuple[Callable[..., None], ...] = (
    test_relay.test_simple_query_passes_both_ways_and_is_recorded,
    test_relay.test_extended_query_with_named_statement,
    test_relay.test_refused_query_gets_the_servers_state,
    test_relay.test_refused_parse_in_a_pipeline_is_an_error_at_that_point,
    test_relay.test_server_error_skips_to_sync,
)
DESCRIBED = row_description(("one", 0, 0, 25, 0))
# A child that may not set up a ring: seccomp answers EPERM, as container runtimes do.
FORBIDDEN = """
import ctypes, struct, sys
from hoopfast import _wire, model
libc = ctypes.CDLL(None, use_errno=True)
code = b"".join(struct.pack("=HBBI", *step) for step in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)))
filter = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(filter))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
page = memoryview(bytearray(model.COUNTER_PAGE_BYTES))
relay = _wire.Relay(counters=page, capture_bytes=0, durable=False)
print(relay.backend, relay.fallback, sep="|")
try:
    _wire.Relay(counters=page, capture_bytes=0, durable=False, backend="io_uring")
except OSError as e:
    print(e)
"""


def usable() -> bool:
    page = memoryview(bytearray(model.COUNTER_PAGE_BYTES))
    return _wire.Relay(counters=page, capture_bytes=0, durable=False).backend == "io_uring"


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "io_uring" and not usable():
        pytest.skip("io_uring cannot be used here")
    monkeypatch.setattr(RelayBench, "BACKEND", name)
    return name


@pytest.mark.parametrize("delivery", [whole, byte_by_byte], ids=lambda d: d.__name__)
@pytest.mark.parametrize("test", ESSENTIAL, ids=lambda t: t.__name__)
def test_the_same_as_ever(test: Callable[..., None], delivery: object, tmp_path: Path) -> None:
    test(tmp_path, delivery)


def test_the_relay_says_what_it_runs_on(tmp_path: Path, backend: str) -> None:
    with RelayBench(tmp_path) as bench:
        assert (bench.relay.backend, bench.relay.fallback) == (backend, "")


def test_sizes_on_both_sides_of_every_threshold(tmp_path: Path) -> None:
    """Bytes are handed over, posted, or read and sent directly, by size: none may overtake another."""
    rng = random.Random(7)
    around = [size + by for size in (8192, 16384, 32768, 65536, 262144) for by in (-9, -8, -6, -5, -1, 0, 1, 77)]
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        for size in [*rng.sample(around, len(around)), 1, 100, 5000]:
            query = wire.query("select " + rng.choice("abc") * size)
            rows = b"".join(row(rng.randbytes(n)) for n in (size, 10, size // 2))
            answer = DESCRIBED + rows + complete("SELECT 3") + READY
            passed(pair.client, pair.upstream, query)
            passed(pair.upstream, pair.client, answer)


def passed(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    """Sent and received at the same time: the kernel need not have room for all of it."""
    writer = threading.Thread(target=sender.sendall, args=(data,), daemon=True)
    writer.start()
    expect(receiver, data)
    writer.join()


def test_a_stream_stays_in_order(tmp_path: Path) -> None:
    chunks = [random.Random(n).randbytes(50_000 + 13 * n) for n in range(150)]
    answer = DESCRIBED + b"".join(row(chunk) for chunk in chunks) + complete("SELECT 150") + READY
    with RelayBench(tmp_path, capture_bytes=0) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1"))
        expect(pair.upstream, wire.query("select 1"))
        passed(pair.upstream, pair.client, answer)


def test_a_client_that_waits_cannot_fill_our_memory(tmp_path: Path) -> None:
    """Its first statement is being judged; what it sends behind that stays in the kernel, and comes in order later."""
    flood = b"".join(wire.query("select " + "x" * 3000) for _ in range(3000))
    with RelayBench(tmp_path, decide=lambda bench, event: None) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1"))
        bench.wait(lambda: bench.of_kind("verdict"), "the question")
        pair.client.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < len(flood):
                sent += pair.client.send(flood[sent : sent + 65536])
        assert bench.counter("buffer_bytes") < 1 << 20
        pair.client.settimeout(10)
        writer = threading.Thread(target=pair.client.sendall, args=(flood[sent:],), daemon=True)
        writer.start()
        bench.decide = allow
        allow(bench, bench.of_kind("verdict")[0])
        expect(pair.upstream, wire.query("select 1"))
        expect(pair.upstream, flood)
        writer.join()


def test_a_client_that_does_not_read_cannot_fill_our_memory(tmp_path: Path) -> None:
    answer = DESCRIBED + row(b"y" * 5000) * 2000
    with RelayBench(tmp_path, capture_bytes=0) as bench:
        pair = bench.session()
        pair.client.sendall(wire.query("select 1"))
        expect(pair.upstream, wire.query("select 1"))
        pair.upstream.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < len(answer):
                sent += pair.upstream.send(answer[sent : sent + 5000])
        assert bench.counter("buffer_bytes") < 1 << 20
        expect(pair.client, answer[:sent])


@pytest.mark.parametrize("ending", ["client", "upstream", "kill", "both"])
def test_no_descriptor_outlives_its_session(tmp_path: Path, ending: str) -> None:
    """The kernel holds requests for both legs when the end comes: peers see it all the same, and at once."""
    with RelayBench(tmp_path) as bench:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            pair = bench.session()
            if number % 2:
                pair.client.sendall(wire.query("select 1"))
                expect(pair.upstream, wire.query("select 1"))
            if ending in ("client", "both"):
                pair.client.close()
            if ending in ("upstream", "both"):
                pair.upstream.close()
            if ending == "kill":
                bench.relay.kill(pair.session, b"", when_idle=False)
            for end in (pair.client, pair.upstream):
                while end.fileno() >= 0 and end.recv(65536):
                    pass
            pair.close()
        bench.wait(lambda: bench.counter("sessions_open") == 0, "all sessions have ended")
        segments = len(list(tmp_path.glob("*.seg")))
        bench.wait(lambda: len(os.listdir("/proc/self/fd")) - before <= segments, "descriptors are closed")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_more_at_once_than_queues_and_buffers_hold(tmp_path: Path) -> None:
    """600 sessions come in one go, then speak in one go, each with more than one buffer's worth."""
    query, answer = wire.query("select " + "z" * 9000), DESCRIBED + row(b"a" * 9000) + complete("SELECT 1") + READY
    with RelayBench(tmp_path, capture_bytes=0) as bench:
        pairs = [bench.session() for _ in range(600)]
        for pair in pairs:
            pair.client.sendall(query)
        for pair in pairs:
            expect(pair.upstream, query)
            pair.upstream.sendall(answer)
        for pair in pairs:
            expect(pair.client, answer)


def test_bytes_before_the_end_are_delivered(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        for size in (10, 8192, 100_000):
            pair = bench.session()
            pair.client.sendall(wire.query("select 1"))
            expect(pair.upstream, wire.query("select 1"))
            fatal = b"E" + struct.pack("!I", 4 + 32) + b"SFATAL\0VFATAL\0C57P01\0Mover\0\0\0\0\0\0"
            pair.upstream.sendall(DESCRIBED + row(b"b" * size) + fatal)
            pair.upstream.close()
            expect(pair.client, DESCRIBED + row(b"b" * size))
            assert [frame.kind for frame in read_frames(pair.client, until="E")] == ["E"]
            assert pair.client.recv(1) == b""


def test_a_half_closed_client_gets_its_answer(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        for _ in range(2):
            pair.client.sendall(wire.query("select 1"))
            expect(pair.upstream, wire.query("select 1"))
            pair.upstream.sendall(complete("SELECT 1") + READY)
            expect(pair.client, complete("SELECT 1") + READY)
        pair.client.sendall(wire.query("select 1"))
        pair.client.shutdown(socket.SHUT_WR)
        expect(pair.upstream, wire.query("select 1"))
        assert pair.upstream.recv(1) == b""
        pair.upstream.sendall(complete("SELECT 1") + READY)
        assert read_exactly(pair.client, len(complete("SELECT 1") + READY)) == complete("SELECT 1") + READY


def test_where_io_uring_is_forbidden_the_relay_runs_on_epoll(backend: str) -> None:
    if backend == "epoll" or ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("once is enough")
    done = subprocess.run([sys.executable, "-c", FORBIDDEN], capture_output=True, text=True, timeout=30, check=True)
    reason = f"io_uring: {os.strerror(errno.EPERM)}"
    assert done.stdout.splitlines() == [f"epoll|{reason}", reason]
