"""Bytes of a journal segment to records, exactly as docs/architecture.md lays the format down. Pure.

Called by the shipper with whatever it has read of a file that may still be written. Damage is never skipped in
silence: it comes out as a record of kind KIND_DAMAGED, and reading goes on at the next record that proves itself by its
checksum.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

import msgspec

from hoopfast.model import (
    JOURNAL_HEADER_BYTES,
    JOURNAL_MAGIC,
    KIND_DESCRIBED,
    KIND_SESSION_START,
    RECORD_FLAG_MORE,
    RECORD_HEADER_BYTES,
)

KIND_DAMAGED = 0                        # never on disk: the payload is a sentence about what could not be read
SEALED = 0xFFFFFFFF
VERSION = 1

_LENGTH = Struct("<I").unpack_from
_RECORD = Struct("<IHHIQQqq").unpack_from           # from offset 4 of a record
_HEADER = Struct("<8sIIQqqQ").unpack_from
_BODY_HEADER = RECORD_HEADER_BYTES - 8

Buffer = bytes | memoryview
Checksum = Callable[[bytes], int]


class Record(msgspec.Struct, gc=False):
    """One record; `offset` is where it starts in its segment. Positional, because millions of them are made."""

    kind: int
    flags: int
    session: int
    sequence: int
    wall: int                           # ns since the epoch
    mono: int                           # ns
    payload: bytes
    offset: int


class Page(NamedTuple):
    """What one call of read_segment found."""

    records: list[Record]
    next_offset: int                    # where to go on
    sealed: bool                        # nothing will follow in this segment
    wanted: int                         # bytes that a record at next_offset needs and `data` does not hold; 0: none


class SegmentHeader(NamedTuple):
    worker: int
    sequence: int
    created_wall: int
    created_mono: int
    size: int


class SegmentName(NamedTuple):
    """`w<worker>-<boot>-<sequence>.seg`; sorts in the order of writing."""

    worker: int
    boot: int
    sequence: int


def native_checksum() -> Checksum:
    """CRC-32C of the compiled core. Late, so that tools which only read events work without it."""
    from hoopfast._wire import crc32c  # noqa: PLC0415

    return crc32c


def parse_name(name: str) -> SegmentName | None:
    """None for a file that is no segment."""
    if not (name.startswith("w") and name.endswith(".seg")):
        return None
    parts = name[1:-4].split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return SegmentName(int(parts[0]), int(parts[1]), int(parts[2]))


def read_header(data: Buffer) -> SegmentHeader | None:
    """None while the header is not written. ValueError: this is no segment of ours, or of another version."""
    if len(data) < JOURNAL_HEADER_BYTES or not any(data[:8]):
        return None
    magic, version, worker, sequence, wall, mono, size = _HEADER(data)
    if magic == JOURNAL_MAGIC and size == 0:
        return None                     # being written: the size goes last
    if magic != JOURNAL_MAGIC:
        raise ValueError("it does not begin like a journal segment")
    if version != VERSION:
        raise ValueError(f"it has journal format {version}; this gateway reads format {VERSION}")
    return SegmentHeader(worker, sequence, wall, mono, size)


def read_segment(
    data: Buffer, offset: int, *, base: int = 0, size: int = 0, limit: int = 1 << 20, checksum: Checksum | None = None,
) -> Page:
    """Records of `data` from `offset` on, at most `limit`.

    `data` may be a piece of a segment that starts at `base`; `size` is the segment's (0: `data` is all of it). Offsets
    in the result are those of the segment. A length word of zero ends the page: nothing is there yet.
    """
    crc32c = checksum or native_checksum()
    size = size or base + len(data)
    at, end = offset - base, len(data)
    records: list[Record] = []
    append, length_at, record_at = records.append, _LENGTH, _RECORD
    while len(records) < limit:
        if at + 4 > end:
            return Page(records, base + at, base + at + RECORD_HEADER_BYTES > size, 4 if base + end < size else 0)
        (length,) = length_at(data, at)
        if length == 0:
            return Page(records, base + at, False, 0)
        if length == SEALED:
            return Page(records, base + at, True, 0)
        if length < RECORD_HEADER_BYTES or base + at + length > size:
            damage = f"a record of {length} bytes cannot be"
        elif at + length > end:
            return Page(records, base + at, False, length)
        else:
            body = bytes(data[at + 8 : at + length])
            crc, kind, flags, _, session, sequence, wall, mono = record_at(data, at + 4)
            if crc32c(body) == crc:
                append(Record(kind, flags, session, sequence, wall, mono, body[_BODY_HEADER:], base + at))
                at += (length + 7) & ~7
                continue
            damage = f"the checksum of a record of {length} bytes is wrong"
        found = _resync(data, at, length, base, size, crc32c)
        append(_damaged(base + at, base + found, damage))
        at = found
    return Page(records, base + at, False, 0)


def _damaged(start: int, stop: int, why: str) -> Record:
    return Record(KIND_DAMAGED, 0, 0, 0, 0, 0, f"{why}; bytes {start} to {stop} are lost".encode(), start)


def _resync(data: Buffer, at: int, length: int, base: int, size: int, crc32c: Checksum) -> int:
    """Where reading can go on after the damage at `at`: the next offset with a record whose checksum holds."""
    # The length is believed if it can be: what is inside of a record is the client's, who could have put bytes there
    # that look like a record.
    following = at + ((length + 7) & ~7)
    if length >= RECORD_HEADER_BYTES and following + 4 <= len(data):
        (word,) = _LENGTH(data, following)
        if word in {0, SEALED} or _holds(data, following, crc32c):
            return following
    for candidate in range(at + 8, len(data) - RECORD_HEADER_BYTES + 1, 8):
        if _holds(data, candidate, crc32c):
            return candidate
    return min(len(data), size - base)


def _holds(data: Buffer, at: int, crc32c: Checksum) -> bool:
    if at + RECORD_HEADER_BYTES > len(data):
        return False
    (length,) = _LENGTH(data, at)
    if length < RECORD_HEADER_BYTES or at + length > len(data):
        return False
    crc, kind = _RECORD(data, at + 4)[:2]
    return bool(KIND_SESSION_START <= kind <= KIND_DESCRIBED and crc32c(bytes(data[at + 8 : at + length])) == crc)


class Joiner:
    """Puts payloads together that the relay had to spread over several records, across segments too.

    One per worker process; its relay writes the pieces of a record one after the other, so there is at most one open.
    """

    def __init__(self) -> None:
        self._first: Record | None = None
        self._pieces: list[bytes] = []

    def feed(self, record: Record) -> list[Record]:
        """Whole records, in order; a piece that was never finished comes out as damage."""
        first = self._first
        if first is None:
            if not record.flags & RECORD_FLAG_MORE:
                return [record]
            self._first, self._pieces = record, [record.payload]
            return []
        same = (record.kind, record.session, record.sequence) == (first.kind, first.session, first.sequence)
        if not same:
            self._first = None
            return [_damaged(first.offset, record.offset, "the end of a divided record is missing"), *self.feed(record)]
        self._pieces.append(record.payload)
        if record.flags & RECORD_FLAG_MORE:
            return []
        self._first = None
        whole = Record(
            first.kind, 0, first.session, first.sequence, first.wall, first.mono, b"".join(self._pieces), first.offset,
        )
        self._pieces = []
        return [whole]

    @property
    def idle(self) -> bool:
        """No piece is waiting for the rest."""
        return self._first is None

    def abandon(self) -> list[Record]:
        """The worker is gone: what is still open will never be finished."""
        first, self._first, self._pieces = self._first, None, []
        return [] if first is None else [_damaged(first.offset, first.offset, "the worker died while writing a record")]

    def snapshot(self) -> tuple[Record, list[bytes]] | None:
        return None if self._first is None else (self._first, self._pieces)

    def restore(self, state: tuple[Record, list[bytes]] | None) -> None:
        self._first, self._pieces = (None, []) if state is None else (state[0], list(state[1]))
