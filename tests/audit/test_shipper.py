"""The shipper over real files: nothing lost, nothing twice, sinks fail alone, segments go when all have them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from hoopfast.audit import lanes
from hoopfast.audit import shipper as shipper_module
from hoopfast.audit.builder import Item, as_events
from hoopfast.audit.events import Event, Gateway, Statement, gateway_event
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.shipper import Shipper
from hoopfast.audit.sinks.base import make_sinks
from hoopfast.audit.sinks.jsonl import JsonlSink
from hoopfast.audit.sinks.sqlite import SqliteSink
from hoopfast.audit.streams import Spool
from hoopfast.audit.verify import verify_store
from hoopfast.audit.verify_files import verify_directory
from hoopfast.config import Audit, Config
from hoopfast.config import Sink as SinkConfig
from hoopfast.errors import AuditUnavailable
from tests.audit.journal_writer import JournalWriter

S = 0xAB00_0000_0000_0001


class ListSink:
    """Keeps events in memory; `broken` makes it fail; `marks` are what the shipper kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self.shown: list[Statement] = []
        self.broken = False
        self.syncs = 0

    def restore(self, mark: dict[str, Any]) -> None:
        self.events = self.events[: int(mark.get("count", 0))]

    def write(self, events: Sequence[Item]) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.events += as_events(events)

    def sync(self) -> dict[str, Any]:
        self.syncs += 1
        return {"count": len(self.events)}

    def kept(self, mark: dict[str, Any]) -> None:
        pass

    def running(self, events: Sequence[Statement]) -> None:
        self.shown = list(events)

    def close(self) -> None:
        pass


class World:
    """A state directory with a journal, and which workers live."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "journal"
        self.journal.mkdir()
        self.live = {(0, 1000), (1, 1001)}
        self.spool: Spool | None = None

    def writer(self, worker: int = 0, boot: int | None = None, size: int = 65536) -> JournalWriter:
        return JournalWriter(self.journal, worker, boot or 1000 + worker, size)

    def shipper(self, *sinks: Any) -> Shipper:
        """A new one, as after a restart, with a new spool; what add gives goes there."""
        if self.spool is not None:
            self.spool.close()
        made = Shipper(self.journal, list(sinks), living=self.living)
        self.spool = Spool(self.root / "ship")
        return made

    def living(self, streams: Collection[str]) -> set[str]:
        assert self.spool is not None
        return {f"w{worker}-{boot}" for worker, boot in self.live} | {self.spool.path.stem}

    def add(self, event: Gateway) -> None:
        assert self.spool is not None
        self.spool.add(event)

    def sqlite(self) -> SqliteSink:
        return SqliteSink(self.root / "audit.db")

    def jsonl(self) -> JsonlSink:
        return JsonlSink(self.root / "audit")

    def rows(self) -> list[tuple[str, int, str]]:
        with closing(sqlite3.connect(self.root / "audit.db")) as db:
            return db.execute(
                "SELECT s.session, e.seq, coalesce(k.outcome, k.event)"
                " FROM events e JOIN sessions s ON s.id=e.session JOIN kinds k ON k.code=e.kind ORDER BY e.id"
            ).fetchall()

    def lines(self) -> list[dict[str, Any]]:
        files = sorted((self.root / "audit").glob("*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    def segments(self) -> list[str]:
        return sorted(name for name in os.listdir(self.journal) if name.endswith(".seg"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Whatever a test does to the shipper, what it leaves must be whole by its checkpoints."""
    monkeypatch.setattr(shipper_module, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(shipper_module, "BACKOFF_FIRST_S", 0.0)
    monkeypatch.setattr(lanes, "BACKOFF_FIRST_S", 0.0)
    monkeypatch.setattr(shipper_module, "BACKOFF_MAX_S", 0.0)
    yield World(tmp_path)
    keys = [known.key for known in KeyRing(tmp_path / "audit-keys").public()]
    for path, verify in ((tmp_path / "audit.db", verify_store), (tmp_path / "audit", verify_directory)):
        if path.exists():
            report = verify(path, keys)
            assert report.good, report


def drain(shipper: Shipper) -> None:
    for _ in range(100):
        if not shipper.step():
            break
    shipper.step()


def names(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event.session, event.seq) for event in events]


def run(writer: JournalWriter, session: int, count: int, sql: str = "SELECT 1") -> None:
    for n in range(count):
        writer.outcome(session, writer.query(session, sql, n % 7 + 1))


def test_both_sinks_get_everything_once(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    run(writer, S, 20)
    shipper = world.shipper(world.sqlite(), world.jsonl())
    drain(shipper)
    writer.end(S)
    drain(shipper)
    assert len(world.rows()) == 22
    assert [(line["session"], line["seq"]) for line in world.lines()] == [(s, n) for s, n, _ in world.rows()]
    assert shipper.lag().bytes == 0
    assert shipper.lag().seconds == 0.0
    assert shipper.lag().events_total == 22
    shipper.close()


def test_two_workers(world: World) -> None:
    a, b = world.writer(0), world.writer(1)
    a.start(S)
    b.start(S + 1, user="bob")
    run(a, S, 3)
    run(b, S + 1, 4)
    sink = ListSink("a")
    shipper = world.shipper(sink)
    drain(shipper)
    assert Counter(event.user for event in sink.events) == {"ana@example.com": 4, "bob": 5}
    world.live.discard((0, 1000))
    drain(shipper)
    assert [(e.session, getattr(e, "reason", "")) for e in sink.events[9:]] == [(f"{S:016x}", "gateway")]
    assert world.segments() == ["w1-1001-1.seg"]
    shipper.close()


def test_sealed_segments_go_and_open_statements_stay_known(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    slow = writer.query(S, "SELECT pg_sleep(100)")
    writer.next_segment()
    run(writer, S, 1)
    writer.next_segment()
    sink = ListSink("a")
    shipper = world.shipper(sink)
    drain(shipper)
    assert world.segments() == ["w0-1000-3.seg"]
    shipper.close()

    again = world.shipper(sink)                          # the supervisor restarts; its worker goes on
    writer.outcome(S, slow)
    drain(again)
    last = sink.events[-1]
    assert isinstance(last, Statement)
    assert (last.seq, last.sql, last.outcome) == (slow, "SELECT pg_sleep(100)", "complete")
    assert last.user == "ana@example.com"
    again.close()


def test_kill_between_write_and_checkpoint(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = world.writer()
    writer.start(S)
    run(writer, S, 5)
    shipper = world.shipper(world.sqlite(), world.jsonl())
    drain(shipper)
    monkeypatch.setattr(shipper_module.Shipper, "_checkpoint", lambda self: None)
    run(writer, S, 5)
    drain(shipper)                                       # written, but no checkpoint: then the process is gone
    assert len(world.lines()) == 11
    monkeypatch.undo()
    for sink in shipper._sinks:
        sink.close()

    again = world.shipper(world.sqlite(), world.jsonl())
    assert len(world.lines()) == 6                       # cut back to the mark
    writer.end(S)
    drain(again)
    again.close()
    assert [n for _, n, _ in world.rows()] == [line["seq"] for line in world.lines()]
    assert len(world.rows()) == 12
    assert max(Counter(line["seq"] for line in world.lines()).values()) == 1


def test_kill_before_the_first_checkpoint(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adopted journal too: what it ends with is the same at every reading, in both stores."""
    writer = world.writer()
    writer.start(S)
    run(writer, S, 5)
    writer.query(S, "SELECT 1")
    world.live = set()
    shipper = world.shipper(world.sqlite(), world.jsonl())
    monkeypatch.setattr(shipper_module.Shipper, "_checkpoint", lambda self: None)
    drain(shipper)
    before = world.lines()
    monkeypatch.undo()
    for sink in shipper._sinks:
        sink.close()

    again = world.shipper(world.sqlite(), world.jsonl())
    drain(again)
    again.close()
    assert world.lines() == before and len(before) == 8
    assert [n for _, n, _ in world.rows()] == [line["seq"] for line in before]
    report = verify_store(world.root / "audit.db", [known.key for known in KeyRing(world.root / "audit-keys").public()])
    assert not report.problems


@pytest.mark.parametrize("steps", range(1, 8))
def test_restart_anywhere_gives_the_same_trail(world: World, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper_module, "BATCH_RECORDS", 3)
    writer = world.writer()
    writer.start(S)
    writer.define(50, "SELECT $1", (25,))
    bind = writer.bind(S, 50, [b"x" * 100_000], portal="c")         # divided over segments
    run(writer, S, 2)
    writer.next_segment()
    writer.define(50, "SELECT $1", (25,))
    writer.outcome(S, writer.execute(S, 50, bind, portal="c"))
    run(writer, S, 2)
    writer.end(S)
    sink = ListSink("a")
    for _ in range(20):
        shipper = world.shipper(sink)
        for _ in range(steps):
            shipper.step()
        world.spool.close()
        for lane in shipper._lanes:
            for stream in lane.streams.values():
                stream.close()
    found = [e for e in sink.events if isinstance(e, Statement)]
    assert [e.parameters[0] if e.parameters else None for e in found] == [None, None, "x" * 100_000, None, None]
    assert len(sink.events) == 7
    assert len(set(names(sink.events))) == 7


def test_a_failing_sink_holds_nobody_and_loses_nothing(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    good, bad = ListSink("good"), ListSink("bad")
    shipper = world.shipper(good, bad)
    run(writer, S, 5)
    drain(shipper)
    bad.broken = True
    for _ in range(5):
        run(writer, S, 5)
        writer.next_segment()
        drain(shipper)
    assert len(good.events) == 31
    assert len(bad.events) == 6
    assert len(world.segments()) == 6                    # all are kept for the other
    lag = shipper.lag()
    assert lag.errors > 0
    assert "no space left" in lag.failing["bad"]
    assert lag.seconds > 0.0
    bad.broken = False
    drain(shipper)
    drain(shipper)
    assert names(bad.events) == names(good.events)
    assert len(shipper._lanes) == 1                      # together again
    assert world.segments() == ["w0-1000-6.seg"]
    assert shipper.lag().failing == {}
    shipper.close()


def test_restart_with_one_sink_behind(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    good, bad = ListSink("good"), ListSink("bad")
    shipper = world.shipper(good, bad)
    drain(shipper)
    bad.broken = True
    run(writer, S, 3)
    writer.next_segment()
    run(writer, S, 3)
    drain(shipper)
    shipper.close()
    world.live.clear()
    bad.broken = False
    again = world.shipper(good, bad)
    drain(again)
    assert len(good.events) == 8                         # 1 start, 6 statements, 1 end
    assert sorted(names(bad.events)) == sorted(names(good.events))
    assert world.segments() == []
    again.close()


def test_sink_that_is_done_with_a_dead_worker_does_not_get_it_again(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    world.live.clear()
    good, bad = ListSink("good"), ListSink("bad")
    bad.broken = True
    for _ in range(3):
        shipper = world.shipper(good, bad)
        drain(shipper)
        shipper.close()
    assert len(good.events) == 2
    assert len(world.segments()) == 1
    bad.broken = False
    shipper = world.shipper(good, bad)
    drain(shipper)
    assert len(good.events) == len(bad.events) == 2
    assert world.segments() == []
    shipper.close()


def test_dead_workers_are_adopted_with_unknown_outcomes(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    run(writer, S, 1)
    writer.query(S, "DELETE FROM t")
    unused = writer.path.read_bytes()[:64].ljust(65536, b"\0")
    (world.journal / "w0-1000-2.seg").write_bytes(unused)                                   # a spare
    (world.journal / "w0-1000-3.seg").write_bytes(bytes(65536))                             # one without a header
    writer = world.writer(boot=2000)
    world.live = {(0, 2000)}
    writer.start(S + 1)
    shipper = world.shipper(world.sqlite())
    drain(shipper)
    shipper.close()
    assert [what for _, _, what in world.rows() if what != "session_start"] == ["complete", "unknown", "session_end"]
    assert world.segments() == ["w0-2000-1.seg"]


def test_gateway_events(world: World) -> None:
    sink = ListSink("a")
    world.shipper(sink)
    for reason in ("bad_token", "expired"):
        world.add(gateway_event("login_refused", 1, 0, user="eve", client="192.0.2.9:1", reason=reason))
    world.spool.close()                               # killed before anything was shipped
    again = world.shipper(sink)
    world.add(gateway_event("policy", 2, 0, version=7))
    drain(again)
    assert [(e.action, e.fields) for e in sink.events] == [  # type: ignore[union-attr]
        ("login_refused", {"reason": "bad_token"}), ("login_refused", {"reason": "expired"}),
        ("policy", {"version": 7})]
    assert len(set(names(sink.events))) == 3
    assert len(list((world.root / "ship").glob("*.spool"))) == 1
    again.close()
    third = world.shipper(sink)
    drain(third)
    assert len(sink.events) == 3
    third.close()


def test_gateway_event_that_cannot_be_kept_is_refused(world: World) -> None:
    shipper = world.shipper(ListSink("a"))
    world.spool.close()
    with pytest.raises(AuditUnavailable, match="cannot be recorded"):
        world.add(gateway_event("kill", 1, 0))
    shipper.close()


def test_damage_is_shipped_and_reading_goes_on(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    at = writer.at
    run(writer, S, 1)
    run(writer, S, 1, "SELECT 2")
    writer.poke(at + 60, b"\xff\xff\xff")
    sink = ListSink("a")
    shipper = world.shipper(sink)
    drain(shipper)
    assert Counter(type(e).__name__ for e in sink.events) == {"SessionStart": 1, "Gateway": 3, "Statement": 2}
    shipper.close()


def test_damage_at_the_end_of_a_live_segment_waits(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    at = writer.at
    writer.poke(at, b"\x05\0\0\0junk")                   # half of a record, as a reader may see it
    sink = ListSink("a")
    shipper = world.shipper(sink)
    drain(shipper)
    assert len(sink.events) == 1
    writer.poke(at, bytes(8))
    writer.end(S)
    drain(shipper)
    assert [type(e).__name__ for e in sink.events] == ["SessionStart", "SessionEnd"]
    shipper.close()


def test_running_statements_are_shown_and_vanish(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    query = writer.query(S, "SELECT pg_sleep(100)")
    sink = world.sqlite()
    shipper = world.shipper(sink)
    drain(shipper)
    shipper._next_running = 0.0
    shipper.step()
    with closing(sqlite3.connect(world.root / "audit.db")) as db:
        assert db.execute("SELECT session, seq FROM running").fetchall() == [(f"{S:016x}", query)]
        writer.outcome(S, query)
        shipper.step()
        shipper._next_running = 0.0
        shipper.step()
        assert db.execute("SELECT count(*) FROM running").fetchone() == (0,)
    shipper.close()


def test_idle_shipper_writes_nothing(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    sink = ListSink("a")
    shipper = world.shipper(sink)
    drain(shipper)
    syncs = sink.syncs
    for _ in range(5):
        assert shipper.step() == 0
    assert sink.syncs == syncs
    shipper.close()


def test_without_a_sink_nothing_may_run(world: World) -> None:
    with pytest.raises(AuditUnavailable, match="no audit sink"):
        world.shipper()


def test_sink_added_later_starts_where_the_others_are(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    run(writer, S, 2)
    writer.next_segment()
    old, new = ListSink("old"), ListSink("new")
    shipper = world.shipper(old)
    drain(shipper)
    shipper.close()
    shipper = world.shipper(old, new)
    run(writer, S, 1)
    drain(shipper)
    assert len(shipper._lanes) == 1
    (event,) = new.events
    assert event.user == "ana@example.com"
    shipper.close()
    third = world.shipper(old, new)
    run(writer, S, 1)
    drain(third)
    assert [e.user for e in new.events] == ["ana@example.com"] * 2
    third.close()


def test_damaged_checkpoint_starts_over(world: World) -> None:
    writer = world.writer()
    writer.start(S)
    shipper = world.shipper(world.sqlite())
    drain(shipper)
    shipper.close()
    (world.root / "ship" / "sqlite" / "checkpoint").write_text("{")
    shipper = world.shipper(world.sqlite())
    drain(shipper)
    shipper.close()
    assert len(world.rows()) == 1


# ---------------------------------------------------------------- sinks by themselves


@pytest.fixture
def some() -> list[Event]:
    return [gateway_event("kill", 1, n, reason="x" * 50) for n in range(10)]


def test_jsonl_rotates_and_compresses(tmp_path: Path, some: list[Event]) -> None:
    sink = JsonlSink(tmp_path / "audit", rotate_bytes=100)
    for event in some:
        sink.write([event])
    sink.sync()
    sink.close()
    compressed = sorted((tmp_path / "audit").glob("*.jsonl.zst"))
    assert len(compressed) == 9
    assert len(list((tmp_path / "audit").glob("*.jsonl"))) == 1
    text = zstandard.ZstdDecompressor().stream_reader(compressed[0].read_bytes()).read()
    assert json.loads(text)["action"] == "kill"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "audit").iterdir()} == {0o600}


def test_jsonl_goes_back_over_rotation_and_compression(tmp_path: Path, some: list[Event]) -> None:
    sink = JsonlSink(tmp_path / "audit", rotate_bytes=1000)
    sink.write(some[:2])
    mark = sink.sync()
    for event in some[2:]:
        sink.write([event] * 4)
    sink.sync()                                          # compresses the file of the mark, which was not kept
    sink.close()
    sink = JsonlSink(tmp_path / "audit")
    sink.restore(mark)
    sink.write(some[2:])
    sink.close()
    (path,) = (tmp_path / "audit").glob("*.jsonl")
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == list(range(10))


def test_jsonl_full_disk_leaves_whole_lines(tmp_path: Path, some: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonlSink(tmp_path / "audit")
    sink.write(some[:1])
    real = os.write
    calls = []

    def full(fd: int, data: Any) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(fd, data[:30])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        sink.write(some[1:])
    monkeypatch.undo()
    sink.write(some[1:])
    sink.close()
    (path,) = (tmp_path / "audit").glob("*.jsonl")
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == list(range(10))


def test_sqlite_takes_all_or_nothing(tmp_path: Path, some: list[Event]) -> None:
    sink = SqliteSink(tmp_path / "audit.db")
    broken = gateway_event("kill", 1, 99)
    broken.seq = 2**70                                   # more than the database can hold
    with pytest.raises(OverflowError):
        sink.write([*some, broken])
    sink.write(some)
    sink.write(some)
    sink.close()
    with closing(sqlite3.connect(tmp_path / "audit.db")) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (10,)


def test_sqlite_refuses_another_schema(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "audit.db")) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(AuditUnavailable, match="audit schema 99"):
        SqliteSink(tmp_path / "audit.db")


def test_make_sinks(tmp_path: Path) -> None:
    config = Config(audit=Audit(sinks=(
        SinkConfig(kind="sqlite"), SinkConfig(kind="jsonl"), SinkConfig(kind="jsonl", path="siem"))))
    sinks = make_sinks(config, tmp_path)
    assert [sink.name for sink in sinks] == ["sqlite", "jsonl", "jsonl-2"]
    assert (tmp_path / "siem").is_dir()
    for sink in sinks:
        sink.close()
