"""A relay between two socket pairs, with a front that decides as the test says: wire tests without any server.

The test plays both the client and the upstream; every expectation is on bytes.
"""

from __future__ import annotations

import gc
import mmap
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from hoopfast import _wire, model
from hoopfast.audit.segments import Record, read_segment
from tests.support.wire import Frame

TIMEOUT_S = 10.0
READY = b"Z\0\0\0\x05I"
Decide = Callable[["RelayBench", tuple[Any, ...]], None]


def allow(bench: RelayBench, event: tuple[Any, ...]) -> None:
    bench.relay.decide(event[1], event[2], model.ACTION_ALLOW, 0, label=b'{"verdict":"allow"}')


class Pair:
    """One session's two ends, as the test holds them."""

    def __init__(self, session: int, client: socket.socket, upstream: socket.socket) -> None:
        self.session = session
        self.client = client
        self.upstream = upstream

    def close(self) -> None:
        self.client.close()
        self.upstream.close()


class RelayBench:
    """Relay, journal directory and event loop of a test; use as a context manager."""

    BACKEND = "auto"            # tests/wire/test_backends.py goes through all

    def __init__(self, directory: Path, decide: Decide = allow, **options: Any) -> None:
        self.directory = directory
        self.decide = decide
        self.page = mmap.mmap(-1, model.COUNTER_PAGE_BYTES)
        settings: dict[str, Any] = {"capture_bytes": 65536, "durable": False, "backend": self.BACKEND, **options}
        self.relay = _wire.Relay(counters=memoryview(self.page), **settings)
        self.events: list[tuple[Any, ...]] = []
        self.give_segments = True
        self.segment_bytes = 1 << 20
        self.sequence = 0
        self.given = 0
        self.sessions = 0
        self.pairs: list[Pair] = []
        self.on_pair: Callable[[Pair], None] = lambda pair: None        # both ends exist, nothing has been said
        self.relay.define_context(1, [], [])
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self.relay.run), threading.Thread(target=self._loop)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pair in self.pairs:
            pair.close()
        if kind is None:
            self.wait(lambda: self.counter("sessions_open") == 0, "every session has ended")
            assert self.counter("parked") == 0
            if self.counter("buffer_bytes"):
                gc.collect()            # a decoder of another test in this process has a buffer too
            for held in ("buffer_bytes", "held_names", "held_plans"):
                self.wait(lambda: self.counter(held) == 0, f"{held} is back at nothing")  # noqa: B023  called at once
            cached = self.counter("cached_statements")
            self.wait(lambda: self.counter("held_statements") == cached, "only the cache holds statements")
        self._stop.set()
        self.relay.stop()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()

    def _loop(self) -> None:
        while not self._stop.is_set():
            if not select.select([self.relay.event_fd], [], [], 0.05)[0]:
                continue
            for event in self.relay.events():
                self.events.append(event)
                if event[0] == "segment" and self.give_segments:
                    self.add_segment()
                elif event[0] == "verdict":
                    self.decide(self, event)

    def add_segment(self) -> None:
        self.sequence += 1
        path = self.directory / f"w0-1-{self.sequence:08d}.seg"
        self.relay.add_segment(_wire.Segment(str(path), self.segment_bytes, 0, self.sequence))
        self.given += 1

    def counter(self, name: str) -> int:
        value: int = struct.unpack_from("=Q", self.page, 8 * model.COUNTERS.index(name))[0]
        return value

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for: {what}"
            time.sleep(0.002)

    def of_kind(self, name: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] == name]

    def session(
        self, context: int = 1, *, client_tls: _wire.TlsContext | None = None,
        upstream_tls: _wire.TlsContext | None = None, **options: Any,
    ) -> Pair:
        """With a TLS context, the test must be in the handshake at its end of that leg, in another thread."""
        client, gateway_client = socket.socketpair()
        upstream, gateway_upstream = socket.socketpair()
        self.sessions += 1
        for end in (client, upstream):
            end.settimeout(TIMEOUT_S)
        gateway_client.setblocking(False)
        gateway_upstream.setblocking(False)
        pair = Pair(self.sessions, client, upstream)
        self.pairs.append(pair)
        self.on_pair(pair)
        legs = (_secured(gateway_client, client_tls), _secured(gateway_upstream, upstream_tls))
        self.relay.adopt(
            self.sessions, context, gateway_client.detach(), legs[0], gateway_upstream.detach(), legs[1],
            start_record=b'{"session":%d}' % self.sessions, **options,
        )
        return pair

    def records(self) -> list[Record]:
        """Every record of every segment, in order."""
        found: list[Record] = []
        for path in sorted(self.directory.glob("*.seg")):
            data, offset = path.read_bytes(), model.JOURNAL_HEADER_BYTES
            while (page := read_segment(data, offset, checksum=_wire.crc32c)).records:
                found += page.records
                offset = page.next_offset
        return found

    def records_of(self, kind: int) -> list[Record]:
        """An outcome with rows comes without the time to its first row, like any other outcome."""
        return [record for record in map(_plain, self.records()) if record.kind == kind]


def _plain(record: Record) -> Record:
    if record.kind != model.KIND_OUTCOME_ROWS:
        return record
    return msgspec.structs.replace(record, kind=model.KIND_OUTCOME, payload=record.payload[8:])


def _secured(end: socket.socket, context: _wire.TlsContext | None) -> _wire.TlsConnection | None:
    """The gateway's side of a handshake on a non-blocking socket."""
    if context is None:
        return None
    connection = _wire.TlsConnection(context, end.fileno(), "localhost")
    while (want := connection.handshake()) != "done":
        reading = [end] if want == "read" else []
        assert any(select.select(reading, [] if reading else [end], [], TIMEOUT_S)), "the handshake stalls"
    return connection


def read_exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = end.recv(size - len(data))
        assert chunk, f"end of stream after {len(data)} of {size} bytes: {bytes(data)!r}"
        data += chunk
    return bytes(data)


def expect(end: socket.socket, data: bytes) -> None:
    assert read_exactly(end, len(data)) == data


def read_frames(end: socket.socket, *, until: str) -> list[Frame]:
    frames: list[Frame] = []
    while not frames or frames[-1].kind != until:
        head = read_exactly(end, 5)
        frames.append(Frame(chr(head[0]), read_exactly(end, struct.unpack("!I", head[1:])[0] - 4)))
    return frames


def send(end: socket.socket, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        end.sendall(chunk)


def nothing(end: socket.socket, seconds: float = 0.05) -> None:
    """Nothing arrives for a while."""
    ready = select.select([end], [], [], seconds)[0]
    assert not ready, end.recv(4096)


def row_description(*columns: tuple[str, int, int, int, int]) -> bytes:
    """RowDescription of (name, table oid, attnum, type oid, format)."""
    body = struct.pack("!H", len(columns))
    for name, table, attnum, oid, form in columns:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", table, attnum, oid, -1, -1, form)
    return b"T" + struct.pack("!I", len(body) + 4) + body


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return b"D" + struct.pack("!I", len(body) + 4) + body


def complete(tag: str) -> bytes:
    return b"C" + struct.pack("!I", len(tag) + 5) + tag.encode() + b"\0"


def error(code: str, message: str, severity: str = "ERROR", **fields: str) -> bytes:
    body = b"".join(
        key.encode() + value.encode() + b"\0"
        for key, value in {"S": severity, "V": severity, "C": code, "M": message, **fields}.items()
    ) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body
