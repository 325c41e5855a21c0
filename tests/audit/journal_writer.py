"""Writes journal segments as the relay does, for tests: same headers, alignment, definitions and divided records."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from hoopfast import model
from hoopfast._wire import crc32c
from hoopfast.audit.segments import SEALED

WALL = 1_767_225_600_000_000_000         # 2026-01-01T00:00:00Z
SLACK = 64


class JournalWriter:
    """One worker's journal in `directory`; every call of a record method appends and writes through to the file."""

    def __init__(self, directory: Path, worker: int = 0, boot: int = 1000, size: int = 65536) -> None:
        self.directory, self.worker, self.boot, self.size = directory, worker, boot, size
        self.number = 0
        self.at = 0
        self.wall = WALL
        self.sequences: dict[int, int] = {}
        self.defined: set[int] = set()
        self.path = Path()
        self.start_segment()

    def start_segment(self) -> None:
        self.number += 1
        self.path = self.directory / f"w{self.worker}-{self.boot}-{self.number}.seg"
        header = struct.pack("<8sIIQqqQ", model.JOURNAL_MAGIC, 1, self.worker, self.number, WALL, 5, self.size)
        self.path.write_bytes(header.ljust(self.size, b"\0"))
        self.at = model.JOURNAL_HEADER_BYTES
        self.defined.clear()

    def seal(self) -> None:
        self.poke(self.at, struct.pack("<I", SEALED))

    def poke(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def next_segment(self) -> None:
        self.seal()
        self.start_segment()

    def record(self, kind: int, session: int, payload: bytes, flags: int = 0, sequence: int | None = None) -> int:
        """Append one record, dividing it over segments where it has to be; returns its sequence."""
        if sequence is None:
            sequence = self.sequences[session] = self.sequences.get(session, 0) + 1
        self.wall += 1000
        room = (self.size - self.at - SLACK - model.RECORD_HEADER_BYTES) & ~7
        if len(payload) > room:
            if room > 0:
                self._write(kind, model.RECORD_FLAG_MORE, session, sequence, payload[:room])
                payload = payload[room:]
            self.next_segment()
            return self.record(kind, session, payload, flags, sequence)
        self._write(kind, flags, session, sequence, payload)
        return sequence

    def _write(self, kind: int, flags: int, session: int, sequence: int, payload: bytes) -> None:
        body = struct.pack("<HHIQQqq", kind, flags, 0, session, sequence, self.wall, 7) + payload
        length = model.RECORD_HEADER_BYTES + len(payload)
        self.poke(self.at, struct.pack("<II", length, crc32c(body)) + body)
        self.at += (length + 7) & ~7

    # ------------------------------------------------------------ what sessions do

    def start(self, session: int, **fields: Any) -> int:
        header = {"user": "ana@example.com", "subject": "s1", "groups": ["eng"], "issuer": "okta",
                  "connection": "orders", "database": "orders", "client": "192.0.2.1:7", "application": "psql"} | fields
        return self.record(model.KIND_SESSION_START, session, json.dumps(header).encode())

    def end(self, session: int, reason: str = "client") -> int:
        return self.record(model.KIND_SESSION_END, session, bytes([len(reason)]) + reason.encode())

    def define(self, number: int, sql: str, types: tuple[int, ...] = (), **label: Any) -> None:
        if number in self.defined:
            return
        text = json.dumps({"verdict": "allow"} | label).encode()
        kinds = struct.pack(f"!{len(types)}I", *types)
        payload = struct.pack("<QI", number, len(text)) + text + struct.pack("<I", len(kinds)) + kinds + sql.encode()
        self.record(model.KIND_STATEMENT, 0, payload, sequence=0)
        self.defined.add(number)

    def query(self, session: int, sql: str, number: int = 1, **label: Any) -> int:
        self.define(number, sql, **label)
        return self.record(model.KIND_QUERY, session, struct.pack("<Q", number))

    def query_text(self, session: int, number: int, sql: str) -> int:
        return self.record(model.KIND_QUERY_TEXT, session, struct.pack("<Q", number) + sql.encode())

    def parse(self, session: int, number: int, name: str = "") -> int:
        return self.record(model.KIND_PARSE, session, struct.pack("<Q", number) + name.encode() + b"\0")

    def bind(self, session: int, number: int, values: list[bytes | None], *, portal: str = "", statement: str = "",
             formats: tuple[int, ...] = (), result_formats: tuple[int, ...] = ()) -> int:
        body = bind_body(values, portal=portal, statement=statement, formats=formats, result_formats=result_formats)
        return self.record(model.KIND_BIND, session, struct.pack("<Q", number) + body)

    def execute(self, session: int, number: int, bind: int, *, portal: str = "", limit: int = 0) -> int:
        payload = struct.pack("<QQI", number, bind, limit) + portal.encode() + b"\0"
        return self.record(model.KIND_EXECUTE, session, payload)

    def function(self, session: int, number: int, body: bytes) -> int:
        return self.record(model.KIND_FUNCTION, session, struct.pack("<Q", number) + body)

    def outcome(self, session: int, intent: int, tag: str = "SELECT 1", *, how: str = "C", rows: int = 1,
                sent: int = 80, copied: int = 0, us: int = 1500, error: bytes = b"", status: str = "I",
                first_us: int = -1) -> int:
        numbers = (intent, rows, sent, copied, us * 1000)
        payload = struct.pack("<QQQQqccH", *numbers, how.encode(), status.encode(), len(tag))
        payload += tag.encode() + error
        if first_us < 0:
            return self.record(model.KIND_OUTCOME, session, payload)
        return self.record(model.KIND_OUTCOME_ROWS, session, struct.pack("<q", first_us * 1000) + payload)

    def described(self, session: int, number: int, frame: bytes) -> int:
        return self.record(model.KIND_DESCRIBED, session, struct.pack("<Q", number) + frame)

    def aside(self, session: int, kind: str, body: bytes, *, kept: int | None = None) -> int:
        return self.record(model.KIND_ASIDE, session, struct.pack("<II", ord(kind), len(body)) + body[:kept])

    def result(self, session: int, intent: int, frames: bytes) -> int:
        return self.record(model.KIND_RESULT, session, struct.pack("<Q", intent) + frames)

    def note(self, session: int, **fields: Any) -> int:
        return self.record(model.KIND_NOTE, session, json.dumps(fields).encode())


def bind_body(values: list[bytes | None], *, portal: str = "", statement: str = "", formats: tuple[int, ...] = (),
              result_formats: tuple[int, ...] = ()) -> bytes:
    body = portal.encode() + b"\0" + statement.encode() + b"\0"
    body += struct.pack(f"!H{len(formats)}h", len(formats), *formats)
    body += struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return body + struct.pack(f"!H{len(result_formats)}h", len(result_formats), *result_formats)


def error_body(sqlstate: str, message: str) -> bytes:
    return b"SERROR\0VERROR\0C" + sqlstate.encode() + b"\0M" + message.encode() + b"\0\0"


def row_description(*columns: tuple[str, int, int]) -> bytes:
    """(name, type oid, format) each."""
    body = struct.pack("!h", len(columns))
    for name, oid, how in columns:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, how)
    return b"T" + struct.pack("!I", len(body) + 4) + body


def data_row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return b"D" + struct.pack("!I", len(body) + 4) + body
