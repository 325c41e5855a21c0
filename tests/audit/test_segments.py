"""Segments to records: round trips, files still being written, damage, divided records."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hoopfast import model
from hoopfast._wire import Segment, crc32c
from hoopfast.audit.segments import (
    KIND_DAMAGED,
    Joiner,
    Page,
    Record,
    SegmentName,
    parse_name,
    read_header,
    read_segment,
)
from tests.audit.journal_writer import JournalWriter

START = model.JOURNAL_HEADER_BYTES


def slow_crc32c(data: bytes | memoryview) -> int:
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.fixture
def journal(tmp_path: Path) -> JournalWriter:
    return JournalWriter(tmp_path)


def page_of(journal: JournalWriter, offset: int = START) -> Page:
    return read_segment(memoryview(journal.path.read_bytes()), offset)


def test_checksum_is_castagnoli() -> None:
    assert slow_crc32c(b"123456789") == crc32c(b"123456789") == 0xE3069283


def test_names() -> None:
    assert parse_name("w3-1700000000000000000-00012.seg") == SegmentName(3, 1700000000000000000, 12)
    for name in ("w3-17-x.seg", "w3-17.seg", "x3-17-1.seg", "w3-17-1.tmp", "w-1-1.seg", "w²-1-1.seg"):
        assert parse_name(name) is None


def test_header(journal: JournalWriter) -> None:
    data = journal.path.read_bytes()
    header = read_header(data)
    assert header is not None
    assert (header.worker, header.sequence, header.size) == (0, 1, 65536)
    assert read_header(bytes(64)) is None
    assert read_header(data[:20]) is None
    with pytest.raises(ValueError, match="does not begin"):
        read_header(b"NOTAJRNL" + data[8:])
    with pytest.raises(ValueError, match="format 9"):
        read_header(data[:8] + struct.pack("<I", 9) + data[12:])


def test_header_of_the_core(tmp_path: Path) -> None:
    segment = Segment(str(tmp_path / "w3-5-7.seg"), 65536, 3, 7)
    data = Path(segment.path).read_bytes()
    header = read_header(data)
    assert header is not None
    assert (header.worker, header.sequence, header.size) == (3, 7, 65536)
    assert read_segment(data, START) == Page([], START, False, 0)


def test_round_trip_and_growth(journal: JournalWriter) -> None:
    journal.record(model.KIND_NOTE, 7, b"{}")
    first = page_of(journal)
    assert [(r.kind, r.session, r.sequence, r.payload) for r in first.records] == [(model.KIND_NOTE, 7, 1, b"{}")]
    assert (first.sealed, first.wanted) == (False, 0)
    assert page_of(journal, first.next_offset) == Page([], first.next_offset, False, 0)
    journal.record(model.KIND_NOTE, 7, b"x" * 13)
    journal.seal()
    second = page_of(journal, first.next_offset)
    assert [r.payload for r in second.records] == [b"x" * 13]
    assert second.sealed


def test_slow_checksum_agrees(journal: JournalWriter) -> None:
    journal.note(7, a=1)
    data = journal.path.read_bytes()
    assert read_segment(data, START, checksum=slow_crc32c) == read_segment(data, START)


def test_pieces_of_a_segment(journal: JournalWriter) -> None:
    journal.record(model.KIND_NOTE, 7, b"a" * 100)
    journal.record(model.KIND_NOTE, 7, b"b" * 1000)
    data = journal.path.read_bytes()
    size = len(data)
    cut = read_segment(data[START : START + 300], START, base=START, size=size)
    assert [r.payload for r in cut.records] == [b"a" * 100]
    assert cut.wanted == 1048
    rest = data[cut.next_offset : cut.next_offset + cut.wanted]
    again = read_segment(rest, cut.next_offset, base=cut.next_offset, size=size)
    assert [(r.payload, r.offset) for r in again.records] == [(b"b" * 1000, cut.next_offset)]


def test_limit(journal: JournalWriter) -> None:
    for _ in range(5):
        journal.note(7)
    page = read_segment(journal.path.read_bytes(), START, limit=2)
    assert len(page.records) == 2
    assert len(page_of(journal, page.next_offset).records) == 3


def test_damaged_record_is_reported_and_the_next_one_read(journal: JournalWriter) -> None:
    journal.record(model.KIND_NOTE, 7, b"first")
    at = journal.at
    journal.record(model.KIND_NOTE, 7, b"second")
    journal.record(model.KIND_NOTE, 7, b"third")
    journal.poke(at + 50, b"\xff")
    records = page_of(journal).records
    assert [r.kind for r in records] == [model.KIND_NOTE, KIND_DAMAGED, model.KIND_NOTE]
    assert records[2].payload == b"third"
    assert f"bytes {at} to {at + 56}".encode() in records[1].payload


@pytest.mark.parametrize("length", [3, 100, 2**31])
def test_wrong_length_is_survived(journal: JournalWriter, length: int) -> None:
    at = journal.at
    journal.record(model.KIND_NOTE, 7, b"first")
    journal.record(model.KIND_NOTE, 7, b"second")
    journal.poke(at, struct.pack("<I", length))
    assert [(r.kind, r.payload[-6:]) for r in page_of(journal).records][1] == (model.KIND_NOTE, b"second")


def test_damage_to_the_end_ends_the_segment(journal: JournalWriter) -> None:
    journal.record(model.KIND_NOTE, 7, b"first")
    journal.poke(START, struct.pack("<I", 2**30))
    page = page_of(journal)
    assert [r.kind for r in page.records] == [KIND_DAMAGED]
    assert page.next_offset == journal.size
    assert page_of(journal, page.next_offset).sealed


def test_torn_tail_of_zeros(journal: JournalWriter) -> None:
    at = journal.at
    journal.record(model.KIND_NOTE, 7, b"x" * 400)
    journal.poke(at + 8, bytes(448))                     # a power cut: the length arrived, the content did not
    page = page_of(journal)
    assert [r.kind for r in page.records] == [KIND_DAMAGED]
    assert page.next_offset == at + 448


def test_divided_record_across_segments(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path)
    payload = bytes(range(256)) * 600                    # 150 KiB over segments of 64 KiB
    journal.record(model.KIND_NOTE, 7, b"{}")
    journal.record(model.KIND_BIND, 7, payload)
    journal.record(model.KIND_NOTE, 7, b"[]")
    joiner = Joiner()
    whole: list[Record] = []
    for number in range(1, journal.number + 1):
        data = (tmp_path / f"w0-1000-{number}.seg").read_bytes()
        for record in read_segment(data, START).records:
            whole += joiner.feed(record)
    assert journal.number >= 3
    assert [(r.kind, r.sequence, r.payload == payload) for r in whole] == [
        (model.KIND_NOTE, 1, False), (model.KIND_BIND, 2, True), (model.KIND_NOTE, 3, False)]
    assert joiner.idle


def test_divided_record_without_its_end() -> None:
    piece = Record(model.KIND_BIND, model.RECORD_FLAG_MORE, 7, 4, 0, 0, b"half", 64)
    other = Record(model.KIND_NOTE, 0, 8, 1, 0, 0, b"{}", 128)
    joiner = Joiner()
    assert joiner.feed(piece) == []
    assert [r.kind for r in joiner.feed(other)] == [KIND_DAMAGED, model.KIND_NOTE]
    joiner.feed(piece)
    assert [r.kind for r in joiner.abandon()] == [KIND_DAMAGED]
    assert joiner.idle
