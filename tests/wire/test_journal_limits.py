"""A journal that is full, or that the disk does not take: what cannot be recorded does not run, and says so."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from hoopfast import model
from tests.support import wire
from tests.support.relay import READY, Pair, RelayBench, complete, expect, read_exactly, read_frames


def fill(bench: RelayBench) -> tuple[Pair, Pair]:
    """A session, and another one whose statements have taken all the room there is."""
    pair, other = bench.session(), bench.session()
    bench.wait(lambda: bench.sequence >= 3, "the first segments")
    bench.give_segments = False
    text = "select '" + "x" * 100_000 + "'"
    other.upstream.settimeout(0.3)
    with pytest.raises(TimeoutError):
        for n in range(100):
            message = wire.query(f"{text} -- {n}")
            other.client.sendall(message)
            read_exactly(other.upstream, len(message))
            other.upstream.sendall(complete("SELECT 1") + READY)
            read_frames(other.client, until="Z")
    return pair, other


def test_a_full_journal_ends_who_waits_for_it(tmp_path: Path) -> None:
    with RelayBench(tmp_path, journal_timeout_s=0.5) as bench:
        _, other = fill(bench)
        fields = wire.error_fields(read_frames(other.client, until="E")[-1].body)
        assert (fields["S"], fields["C"]) == ("FATAL", "53100") and "audit journal is full" in fields["M"]
        bench.wait(lambda: bench.records_of(model.KIND_SESSION_END), "the end is recorded: there is a reserve for it")
        assert bench.records_of(model.KIND_SESSION_END)[0].payload[1:] == b"journal"
        assert bench.counter("journal_lost") == 0


def test_notes_wait_for_room(tmp_path: Path) -> None:
    with RelayBench(tmp_path) as bench:
        pair, _ = fill(bench)
        session = pair.session
        note = b'{"kind":"x"}' + b" " * 60_000
        for _ in range(50):
            bench.relay.note(session, note)
        bench.wait(lambda: len(bench.records_of(model.KIND_NOTE)) > 10, "some of them, from the reserve")
        time.sleep(0.1)
        assert len(bench.records_of(model.KIND_NOTE)) < 50
        bench.give_segments = True
        for _ in range(6):
            bench.add_segment()
        bench.wait(lambda: len(bench.records_of(model.KIND_NOTE)) == 50, "all of them")


def test_what_the_disk_does_not_take_does_not_run(tmp_path: Path) -> None:
    with RelayBench(tmp_path, durable=True) as bench:
        pair = bench.session()
        bench.wait(lambda: bench.given >= 3, "the first segments")
        # None may be in the making: its descriptor would be taken away from under it.
        bench.give_segments = False
        time.sleep(0.1)
        bench.wait(lambda: bench.given == bench.sequence, "no segment is in the making")
        read, write = os.pipe()
        try:
            for name in os.listdir("/proc/self/fd"):
                if _points_into(int(name), tmp_path):
                    os.dup2(write, int(name))           # fdatasync of a pipe fails
        finally:
            os.close(read)
            os.close(write)
        bench.give_segments = True
        pair.client.sendall(wire.query("select 1"))
        fields = wire.error_fields(read_frames(pair.client, until="E")[-1].body)
        assert (fields["S"], fields["C"]) == ("FATAL", "58030")
        assert pair.upstream.recv(100) in (b"", wire.TERMINATE), "not a byte of it"
        bench.wait(lambda: any(event[0] == "unsynced" for event in bench.events), "the front hears of it")
        assert bench.counter("journal_failures") == 1
        # A segment that the disk takes: it goes on.
        for _ in range(3):
            bench.add_segment()
        bench.wait(lambda: bench.records_of(model.KIND_SESSION_END), "the end is recorded")


def _points_into(descriptor: int, directory: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(directory))
    except OSError:
        return False


def test_notifications_and_stray_errors_are_recorded(tmp_path: Path) -> None:
    with RelayBench(tmp_path, capture_bytes=3) as bench:
        pair = bench.session()
        pair.upstream.sendall(wire.frame("A", struct.pack("!I", 7) + b"news\0payload\0"))
        pair.upstream.sendall(wire.frame("E", b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"))
        read_frames(pair.client, until="E")
        bench.wait(lambda: len(bench.records_of(model.KIND_ASIDE)) == 2, "both")
        notified, failed = (record.payload for record in bench.records_of(model.KIND_ASIDE))
        assert struct.unpack_from("<II", notified) == (ord("A"), 17) and notified[12:] == b"news\0pay"
        assert struct.unpack_from("<II", failed)[0] == ord("E") and b"57P01" in failed


def test_columns_come_with_the_rows_of_a_portal(tmp_path: Path) -> None:
    described = wire.frame("T", struct.pack("!H", 1) + b"n\0" + struct.pack("!IhIhih", 0, 0, 23, 4, -1, 0))
    row = wire.frame("D", struct.pack("!Hi", 1, 1) + b"7")
    with RelayBench(tmp_path) as bench:
        pair = bench.session()
        sent = wire.parse("select 7") + wire.bind() + wire.describe_portal() + wire.execute() + wire.SYNC
        pair.client.sendall(sent)
        expect(pair.upstream, sent)
        answer = wire.frame("1") + wire.frame("2") + described + row + complete("SELECT 1") + READY
        pair.upstream.sendall(answer)
        read_frames(pair.client, until="Z")
        bench.wait(lambda: bench.records_of(model.KIND_OUTCOME), "the outcome")
        (result,) = bench.records_of(model.KIND_RESULT)
        assert result.payload[8:] == described + row
        assert [record.kind for record in bench.records()].count(model.KIND_OUTCOME_ROWS) == 1
