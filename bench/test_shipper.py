"""What shipping costs: CPU per prepared statement (BIND, EXECUTE, RESULT, OUTCOME), for each sink and for both.

`pytest bench/test_shipper.py --benchmark-only -s`. The journal is made here: 200,000 statements of 16 sessions as
`pgbench -S -M prepared` leaves them. HOOPFAST_BENCH_JOURNAL=/path/to/journal takes the segments of a real gateway
instead (they are linked, not changed). CPU is process_time: user and system, with commits, syncs and compression.
"""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hoopfast import model
from tests.support.postgres import PostgresServer, scratch_directory

crc32c: Any = pytest.importorskip("hoopfast._wire", exc_type=ImportError).crc32c

STATEMENTS = 200_000
SESSIONS = 16
SIZE = 16 << 20
BARS_US = {"decode": 2.0, "jsonl": 3.0, "sqlite": 5.0, "both": 8.0, "postgres": 5.0, "elastic": 12.0}
SLACK = 2.0                             # a busy machine is no fault of ours; something quadratic is
HEADER = (
    b'{"user":"ana@example.com","subject":"00u1","issuer":"okta","groups":["eng","dba"],"method":"token",'
    b'"credential":"","connection":"orders","database":"orders","role":"svc","client":"127.0.0.1:51234",'
    b'"application":"pgbench","tls":false}'
)
LABEL = b'{"verdict":"allow","rule":"","kinds":["select"],"tables":["public.pgbench_accounts"],"masks":[],"reason":""}'
SQL = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;"


class _Nothing:
    """A sink that takes everything: what is left is reading, joining and decoding."""

    name = "nothing"

    def restore(self, mark: dict[str, Any]) -> None:
        pass

    def write(self, events: Sequence[Any]) -> None:
        pass

    def sync(self) -> dict[str, Any]:
        return {}

    def kept(self, mark: dict[str, Any]) -> None:
        pass

    def running(self, events: Sequence[Any]) -> None:
        pass

    def close(self) -> None:
        pass


class _Journal:
    """Segments of one worker, as the relay writes them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.number = 0
        self.wall = time.time_ns()
        self.sequences = [0] * (SESSIONS + 1)
        self.buffer = bytearray()
        self.segment()

    def segment(self) -> None:
        self.write(struct.pack("<I", 0xFFFFFFFF))
        self.number += 1
        header = struct.pack("<8sIIQqqQ", model.JOURNAL_MAGIC, 1, 0, self.number, self.wall, 5, SIZE)
        self.buffer = bytearray(header.ljust(model.JOURNAL_HEADER_BYTES, b"\0"))
        definition = struct.pack("<QI", 1, len(LABEL)) + LABEL + struct.pack("<I", 0) + SQL
        self.record(model.KIND_STATEMENT, 0, definition)

    def write(self, end: bytes = b"") -> None:
        if self.number:
            name = f"w0-1000-{self.number}.seg"
            (self.directory / name).write_bytes(bytes(self.buffer + end).ljust(SIZE, b"\0"))

    def record(self, kind: int, session: int, payload: bytes) -> int:
        self.wall += 9000
        sequence = self.sequences[session] = self.sequences[session] + 1 if session else 0
        body = struct.pack("<HHIQQqq", kind, 0, 0, session, sequence, self.wall, self.wall) + payload
        self.buffer += struct.pack("<II", model.RECORD_HEADER_BYTES + len(payload), crc32c(body)) + body
        self.buffer += bytes(-len(self.buffer) % 8)
        return sequence

    def statement(self, session: int, number: int) -> None:
        if len(self.buffer) > SIZE - 4096:
            self.segment()
        aid, balance = str(number * 7919 % 1_000_000).encode(), str(number * 31 % 5000 - 2500).encode()
        parameter = b"\0P_0\0" + struct.pack("!HHi", 0, 1, len(aid)) + aid + struct.pack("!HH", 1, 0)
        bind = self.record(model.KIND_BIND, session, struct.pack("<Q", 1) + parameter)
        execute = self.record(model.KIND_EXECUTE, session, struct.pack("<QQI", 1, bind, 0) + b"\0")
        described = b"abalance\0" + struct.pack("!IhIhih", 16400, 3, 23, 4, -1, 0)
        frames = b"T" + struct.pack("!IH", len(described) + 6, 1) + described
        frames += b"D" + struct.pack("!IHi", 10 + len(balance), 1, len(balance)) + balance
        self.record(model.KIND_RESULT, session, struct.pack("<Q", execute) + frames)
        numbers = (execute, 1, len(frames) + 14, 0, 212_000 + number % 1000)
        self.record(model.KIND_OUTCOME, session, struct.pack("<QQQQqccH", *numbers, b"C", b"I", 8) + b"SELECT 1")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if real := os.environ.get("HOOPFAST_BENCH_JOURNAL"):
        return Path(real)
    made = _Journal(tmp_path_factory.mktemp("bench-journal"))
    for session in range(1, SESSIONS + 1):
        made.record(model.KIND_SESSION_START, session, HEADER)
    for number in range(STATEMENTS):
        made.statement(number % SESSIONS + 1, number)
    made.write()
    return made.directory


@pytest.fixture(scope="module")
def store() -> Iterator[PostgresServer]:
    """What the sink of kind postgres writes to; its CPU is not counted."""
    with PostgresServer(scratch_directory("trail"), log_statements=False) as server:
        yield server


def elsewhere(sinks: str, root: Path, request: pytest.FixtureRequest) -> list[Any]:
    """Sinks that talk to somebody: a real PostgreSQL, or an Elasticsearch that takes everything at once."""
    import httpx

    from hoopfast.audit.keys import KeyRing
    from hoopfast.audit.outlet import DeadLetters
    from hoopfast.audit.sinks.http import HttpSink
    from hoopfast.audit.sinks.http_dialects import Elastic
    from hoopfast.audit.sinks.postgres import PostgresSink

    if sinks == "postgres":
        server = request.getfixturevalue("store")
        with server.connect() as db:
            db.execute("DROP DATABASE IF EXISTS trail WITH (FORCE)")
            db.execute("CREATE DATABASE trail")
        return [PostgresSink(f"host={server.socket_dir} port={server.port} dbname=trail user=postgres",
                             keys=KeyRing(root / "audit-keys"))]
    if sinks == "elastic":
        sink = HttpSink("elastic", Elastic("http://127.0.0.1:9", "audit", gateway="gw"), DeadLetters(root, "elastic"))
        taken = httpx.MockTransport(lambda _: httpx.Response(200, json={"errors": False}))
        sink._client = httpx.Client(transport=taken)
        return [sink]
    return []


def everything(streams: Collection[str]) -> Collection[str]:
    return streams


@pytest.mark.parametrize("sinks", BARS_US)
@pytest.mark.benchmark(timer=time.process_time, disable_gc=False)
def test_cpu_per_statement(
    benchmark: Any, journal: Path, tmp_path: Path, sinks: str, request: pytest.FixtureRequest,
) -> None:
    from hoopfast.audit.shipper import Shipper
    from hoopfast.audit.sinks.jsonl import JsonlSink
    from hoopfast.audit.sinks.sqlite import SqliteSink

    runs = count()

    def prepare() -> tuple[tuple[Any], dict[str, Any]]:
        root = tmp_path / str(next(runs))
        (root / "journal").mkdir(parents=True)
        for path in journal.glob("*.seg"):
            try:
                os.link(path, root / "journal" / path.name)
            except OSError:
                shutil.copyfile(path, root / "journal" / path.name)
        wanted: list[Any] = [_Nothing()] if sinks == "decode" else []
        if sinks in {"jsonl", "both"}:
            wanted.append(JsonlSink(root / "audit"))
        if sinks in {"sqlite", "both"}:
            wanted.append(SqliteSink(root / "audit.db"))
        wanted += elsewhere(sinks, root, request)
        return (Shipper(root / "journal", wanted, living=everything),), {}

    def ship(shipper: Any) -> int:
        shipped = 0
        while built := shipper.step():
            shipped += built
        shipper.close()
        return shipped

    shipped = benchmark.pedantic(ship, setup=prepare, rounds=3)
    us = benchmark.stats.stats.min / shipped * 1e6
    benchmark.extra_info["us_per_statement"] = round(us, 2)
    print(f"\n{sinks}: {us:.2f} us of CPU per statement, {shipped} events")
    assert us < BARS_US[sinks] * SLACK
