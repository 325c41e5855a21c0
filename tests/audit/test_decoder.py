"""The core's Decoder against the Python reference, over random journals, cut anywhere: the same JSON comes out."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hoopfast import model
from hoopfast._wire import Finished, json_lines
from hoopfast.audit.builder import READ_DAMAGED, READ_LIMIT, READ_SHORT, EventBuilder, Item, as_event
from hoopfast.audit.events import Event, Gateway, encode
from hoopfast.audit.segments import read_segment
from tests.audit.journal_writer import JournalWriter, data_row, error_body, row_description
from tests.audit.reference_builder import EventBuilder as Reference

START = model.JOURNAL_HEADER_BYTES
TYPES = (16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 700, 701, 1042, 1043, 1082, 1184, 1700, 2950, 3802, 600, 0)
TEXTS = (
    b"", b"1", b"plain text", b'quote " and \\', b"\x00\x01\x1f\x7f tab\t nl\n cr\r bs\b ff\f", "Zürich €  𝄞 ".encode(),
    b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", "\u2028</script>".encode(), b"x" * 700,
    b'7 chars"', b"exactly8", b"\xc3", b"\xf0\x9f\x98\x80", "é".encode() * 9,
)
BINARY = (b"\0", b"\1", b"\2", b"\0\0\0\x2a", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\0\0", b"\xff\x85", bytes(8),
          b"\x80" + bytes(7), b"\x7f" + b"\xff" * 7, b"abc", b"\x01{}", bytes(16), b"\x40\x09\x21\xfb\x54\x44\x2d\x18")


class Chaos:
    """Sessions that do everything a journal can hold, from a seed."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.journal = JournalWriter(directory, size=32768)
        self.open: dict[int, list[int]] = {}
        self.binds: dict[int, list[tuple[int, int, str]]] = {}
        self.next = 1

    def run(self, steps: int) -> None:
        actions = [self.start] + [self.query] * 3 + [self.prepared] * 6 + [self.result] * 5 + [self.outcome] * 9 + [
            self.query_text, self.parse, self.function, self.end, self.note, self.again, self.described, self.aside,
            self.segment, self.strange]
        for _ in range(steps):
            self.random.choice(actions)()

    def pick(self) -> int:
        if not self.open or self.random.random() < 0.02:
            return self.random.choice([9, 2**64 - 1])               # nobody has seen it start
        return self.random.choice(list(self.open))

    def value(self) -> bytes | None:
        return self.random.choice([None, self.random.choice(TEXTS), self.random.choice(BINARY)])

    def define(self) -> int:
        number = self.random.randrange(1, 12)
        types = tuple(random.Random(number).choices(TYPES, k=number % 5))
        sql = f'SELECT {number} -- "Zürich" \\ \n' + "x" * number
        tables = ["t", "s.ü"][: number % 3]
        self.journal.define(number, sql, types, rule="r" * (number % 2), tables=tables, masks=["a=b"])
        return number

    def start(self) -> None:
        self.journal.start(self.next, user=f'ana "{self.next}" ü', tls=True)
        self.open[self.next] = []
        self.next += 1

    def intent(self, session: int, seq: int) -> None:
        self.open.setdefault(session, []).append(seq)

    def query(self) -> None:
        session, number = self.pick(), self.define()
        payload = struct.pack("<Q", number if self.random.random() > 0.02 else 99)
        self.intent(session, self.journal.record(model.KIND_QUERY, session, payload))

    def query_text(self) -> None:
        session, number = self.pick(), self.define()
        if self.random.random() < 0.05:
            number = 98
        text = self.random.choice(["", "SELECT 'x'", 'SELECT "ü\\" \n', "SELECT 1 " + "-" * 300])
        self.intent(session, self.journal.query_text(session, number, text))

    def parse(self) -> None:
        session, number = self.pick(), self.define()
        seq = self.journal.parse(session, number, self.random.choice(["", "s1", "ü\n"]))
        if self.random.random() < 0.3:
            self.journal.outcome(session, seq, "", how="E", error=error_body("42601", 'syntax "error"'))

    def prepared(self) -> None:
        session, number = self.pick(), self.define()
        values = [self.value() for _ in range(self.random.randrange(5))]
        formats = self.random.choice([(), (0,), (1,), tuple(self.random.randrange(2) for _ in values)])
        results = self.random.choice([(), (0,), (1,), (0, 1), (1, 0, 1)])
        portal = self.random.choice(["", "", "c1", "pörtal\n"])
        name = self.random.choice(["", "P_0", "\t"])
        bind = self.journal.bind(
            session, number, values, portal=portal, statement=name, formats=formats, result_formats=results)
        if self.random.random() < 0.05:
            self.journal.outcome(session, bind, "", how="E", error=error_body("22P02", "invalid"))
            return
        self.binds.setdefault(session, []).append((number, bind, portal))
        for _ in range(self.random.choice([1, 1, 1, 2])):
            limit = self.random.choice([0, 7])
            self.intent(session, self.journal.execute(session, number, bind, portal=portal, limit=limit))

    def again(self) -> None:
        session = self.pick()
        if self.binds.get(session):
            number, bind, portal = self.random.choice(self.binds[session])
            self.journal.define(number, "SELECT again")
            self.intent(session, self.journal.execute(session, number, bind, portal=portal))

    def frames(self) -> bytes:
        found = b""
        for _ in range(self.random.randrange(1, 4)):
            width = self.random.randrange(4)
            if self.random.random() < 0.7:
                found += row_description(*[(self.random.choice(["a", 'ü "', ""]), self.random.choice(TYPES),
                                            self.random.randrange(2)) for _ in range(width)])
            for _ in range(self.random.randrange(3)):
                found += data_row(*[self.value() for _ in range(width + self.random.choice([0, 0, 0, 1]))])
            if self.random.random() < 0.1:
                found += b"d" + struct.pack("!I", 9) + b"1\t2\n\\"
            if self.random.random() < 0.2:
                found += b"C" + struct.pack("!I", 8) + b"DO\0\0"
        return found if self.random.random() < 0.8 else found[: self.random.randrange(len(found) + 1)]

    def result(self) -> None:
        session = self.pick()
        if self.open.get(session):
            self.journal.result(session, self.random.choice(self.open[session]), self.frames())

    def outcome(self) -> None:
        session = self.pick()
        waiting = self.open.get(session, [])
        seq = waiting.pop(self.random.choice([0, 0, -1])) if waiting else self.random.randrange(10_000, 20_000)
        how = self.random.choice("CCCCESDXK?")
        error = error_body("23505", 'Schlüssel "x"') if how == "E" else b""
        self.journal.outcome(session, seq, self.random.choice(["SELECT 1", "INSERT 0 1", "", "DO; DO ü"]), how=how,
                             rows=self.random.choice([0, 1, 2**40]), us=self.random.randrange(5000), error=error,
                             sent=self.random.choice([0, 60, 2**40]), first_us=self.random.choice([-1, 0, 77]))

    def described(self) -> None:
        """Of a statement as it is prepared, or of one that nobody knows."""
        number = self.random.randrange(1, 14)
        types = random.Random(number).choices(TYPES, k=self.random.randrange(5))
        frame = b"t" + struct.pack(f"!IH{len(types)}I", 6 + 4 * len(types), len(types), *types)
        if self.random.random() < 0.5:
            frame = row_description(*[(name, self.random.choice(TYPES), 0) for name in ("a", "ü")])
        self.journal.described(self.pick(), number, frame)

    def aside(self) -> None:
        notified = struct.pack("!I", 7) + b"ch\xc3\xa4n\0pay\xffload\0"
        self.journal.aside(self.pick(), "A", notified, kept=self.random.choice([None, 12]))
        self.journal.aside(self.pick(), "E", error_body("57P01", "terminating"))

    def function(self) -> None:
        session = self.pick()
        number = 13
        self.journal.define(number, self.random.choice(["", "lo_open", "\0function 721"]), (26,))
        body = struct.pack("!IHHHi", 721, 1, 1, 1, 4) + b"\0\0\0\x01" + struct.pack("!h", 1)
        self.intent(session, self.journal.function(session, number, body))

    def end(self) -> None:
        if self.open and self.random.random() < 0.4:
            session = self.pick()
            self.journal.end(session, self.random.choice(["client", "ü"]))
            self.open.pop(session, None)

    def note(self) -> None:
        self.journal.note(self.pick(), event="approval", text='ü"' * self.random.choice([1, 9000]))

    def segment(self) -> None:
        if self.random.random() < 0.3:
            self.journal.next_segment()

    def strange(self) -> None:
        kinds = (*range(1, 16), 77)
        self.journal.record(self.random.choice(kinds), self.pick(), self.random.randbytes(self.random.randrange(30)))


def segments(journal: JournalWriter) -> list[bytes]:
    return [(journal.directory / f"w0-1000-{n}.seg").read_bytes() for n in range(1, journal.number + 1)]


def by_reference(pages: list[bytes]) -> list[Event]:
    builder, found = Reference(0, 1000), []
    for number, data in enumerate(pages, 1):
        builder.segment(number)
        found += builder.feed(read_segment(data, START).records)
    return found + builder.flush(77)


def by_core(pages: list[bytes], rng: random.Random) -> list[Item]:
    """In pieces of any size, with a restart now and then, as streams.WorkerStream does it."""
    builder, found = EventBuilder(0, 1000), list[Item]()
    for number, data in enumerate(pages, 1):
        builder.segment(number)
        offset = START
        while True:
            if rng.random() < 0.2:
                builder = builder.clone()
            piece = data[offset : offset + rng.choice([100, 1000, 10**6])]
            page = builder.read(found, piece, offset, base=offset, size=len(data), limit=rng.choice([1, 7, 1000]))
            if page.state == READ_SHORT and not page.taken:
                assert page.wanted > len(piece)
                page = builder.read(found, data[offset:], offset, base=offset, size=len(data), limit=1000)
            offset = page.next_offset
            if page.state == READ_DAMAGED:
                records = read_segment(data[offset:], offset, base=offset, size=len(data), limit=1).records
                found += builder.feed(records)
                offset = read_segment(data[offset:], offset, base=offset, size=len(data), limit=1).next_offset
            elif page.state not in {READ_LIMIT, READ_SHORT}:
                break
    return found + builder.flush(77)


def comparable(line: bytes) -> Any:
    """Why a record makes no sense is said in other words."""
    event = msgspec.json.decode(line)
    if event["event"] == "gateway" and "cannot be decoded" in event["fields"]["what"]:
        event["fields"]["what"] = event["fields"]["what"].partition(":")[0]
        return event
    return line


@pytest.mark.parametrize("seed", range(30))
def test_the_same_bytes_as_the_reference(tmp_path: Path, seed: int) -> None:
    chaos = Chaos(tmp_path, seed)
    chaos.run(300)
    pages = segments(chaos.journal)
    if seed % 3 == 0:                                                # flipped bits
        for page in range(len(pages)):
            data = bytearray(pages[page])
            data[chaos.random.randrange(START, min(len(data), 8000))] ^= 0x40
            pages[page] = bytes(data)
    if seed % 3 == 1:                                                # a torn tail
        used = chaos.journal.at
        pages[-1] = pages[-1][: used - chaos.random.randrange(60)].ljust(len(pages[-1]), b"\0")
    expected = by_reference(pages)
    found = by_core(pages, chaos.random)
    lines = json_lines(found, encode).splitlines()
    for line, event in zip(lines, expected, strict=True):
        assert comparable(line) == comparable(encode(event))
    for item, event in zip(found, expected, strict=True):
        if not isinstance(event, Gateway):
            assert as_event(item) == event
    assert sum(isinstance(item, Finished) for item in found) > 50


def test_running_statements_are_the_same(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, 1000)
    chaos.run(200)
    one, two = Reference(0, 1000), EventBuilder(0, 1000)
    for number, data in enumerate(segments(chaos.journal), 1):
        records = read_segment(data, START).records
        for builder in (one, two):
            builder.segment(number)
            builder.feed(records)
    before = chaos.journal.wall - 50_000
    assert one.running(before) == two.running(before)
    assert one.running(before)


def test_a_snapshot_that_is_none(tmp_path: Path) -> None:
    builder = EventBuilder(0)
    for state in (b"", b"\x90", msgspec.msgpack.encode(([], [(1, 5)], [], None))):
        with pytest.raises(msgspec.MsgspecError):
            builder.restore(state)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_escaped_as_msgspec_does(tmp_path: Path, text: bytes) -> None:
    journal = JournalWriter(tmp_path)
    journal.define(1, "SELECT $1")
    for shift in range(9):                                           # in every place of a word of eight bytes
        bind = journal.bind(1, 1, [b"y" * shift + text])
        journal.outcome(1, journal.execute(1, 1, bind))
    found = by_core(segments(journal), random.Random(0))
    assert [encode(as_event(item)) for item in found] == json_lines(found, encode).splitlines()
    assert json_lines(found, encode).splitlines() == [encode(event) for event in by_reference(segments(journal))]
