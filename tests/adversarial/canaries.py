"""Finding masked values in bytes, however they were written. Used by the runner.

A value is searched as text, hexadecimal, base64, escaped bytea, digits, character codes, digests and binary values of
its type; upper and lower case are equal, forwards and backwards, and five characters in a row are enough.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import struct
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

GRAM = 5                        # characters in a row that give a text away
DIGITS = 6                      # digits in a row; five are met by chance, in OIDs and costs
DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
EPOCH = dt.date(2000, 1, 1)
EPOCH_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def forms_of(column: str, value: Any) -> Iterator[bytes]:
    """Byte strings that tell of a value, at least GRAM long."""
    if isinstance(value, dict):
        for inner in (value["key"], *value["deep"]):
            yield from _text(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _text(inner)
    elif isinstance(value, uuid.UUID):
        yield from _bytes(value.bytes)
        yield from (value.hex[:8].encode(), str(value)[9:20].encode(), value.hex[-12:].encode())
    elif isinstance(value, bytes):
        yield from _bytes(value)
    elif isinstance(value, dt.datetime):
        yield from _moment(value)
    elif isinstance(value, dt.date):
        yield from _day(value)
    elif isinstance(value, (int, float)):
        yield from _number(value)
    elif column == "people.email":
        # The mask shows the first character and the domain.
        yield from _text(value.partition("@")[0][1:], whole=value)
    elif column == "people.card":
        yield from _text(value[:11], whole=value)
    elif column == "people.home":
        yield value.encode()
        octets = [int(part) for part in value.split(".")]
        yield b"".join(struct.pack("!B", octet) for octet in octets).hex().encode()
        yield struct.pack("!IBBBB", 8, 2, 32, 0, 4) + bytes(octets)
    elif column == "people.feeling":
        yield value.encode()
    else:
        yield from _text(value)


def _text(text: str, whole: str = "") -> Iterator[bytes]:
    raw = text.encode()
    for direction in (raw, raw[::-1]):
        for start in range(len(direction) - GRAM + 1):
            gram = direction[start : start + GRAM]
            for case in {gram, gram.lower(), gram.upper()}:
                yield case
                yield case.hex().encode()
                yield "".join(f"\\{byte:03o}" for byte in case).encode()
                for separator in (",", " ", ", ", "-", "|", "\n", "."):
                    yield separator.join(map(str, case)).encode()
        for case in {direction, direction.lower(), direction.upper()}:
            for shift in range(3):
                # The first and last digits of base64 depend on what stands around.
                yield base64.b64encode(b"\0" * shift + case)[4 if shift else 0 : -4][:8]
    for case in {(whole or text).encode(), (whole or text).lower().encode(), (whole or text).upper().encode()}:
        for digest in DIGESTS:
            found = hashlib.new(digest, case).digest()
            yield from (found[:6], found.hex()[:12].encode(), base64.b64encode(found)[:8])


def _bytes(raw: bytes) -> Iterator[bytes]:
    yield from (raw[:GRAM], raw[::-1][:GRAM], raw.hex()[:10].encode(), raw.hex()[-10:].encode())
    yield "".join(f"\\{byte:03o}" for byte in raw[:GRAM]).encode()
    yield "".join(f"\\\\{byte:03o}" for byte in raw[:GRAM]).encode()
    yield ",".join(map(str, raw[:GRAM])).encode()
    yield base64.b64encode(raw)[:8]
    for digest in DIGESTS:
        found = hashlib.new(digest, raw).digest()
        yield from (found[:6], found.hex()[:12].encode())


def _number(number: float) -> Iterator[bytes]:
    whole = int(number)
    for shown in (whole, whole * 2, whole + 1, whole - 1):
        digits = str(shown)
        yield from (digits[:8].encode(), digits[::-1][:8].encode(), f"{shown:,}".encode()[:9])
        if len(digits) < 8:
            yield digits[:DIGITS].encode()
    yield from (f"{whole:x}".encode(), f"{whole:o}".encode(), f"{whole:b}".encode()[:20])
    yield hashlib.md5(str(whole).encode(), usedforsecurity=False).hexdigest()[:12].encode()
    if abs(whole) < 2 ** 31:
        yield struct.pack("!ii", 4, whole)
    yield struct.pack("!iq", 8, whole)
    yield struct.pack("!id", 8, number)
    yield struct.pack("!if", 4, number)
    yield _base_10000(whole)


def _base_10000(whole: int) -> bytes:
    """The digits of a binary numeric, after its weight, sign and scale."""
    groups: list[int] = []
    while whole:
        whole, group = divmod(whole, 10_000)
        groups.insert(0, group)
    return b"".join(struct.pack("!h", group) for group in groups)


def _day(day: dt.date) -> Iterator[bytes]:
    yield from (day.isoformat().encode(), day.strftime("%d/%m/%Y").encode(), day.strftime("%m/%d/%Y").encode())
    yield from (day.strftime("%Y%m%d").encode(), day.strftime("%d.%m.%Y").encode(), day.strftime("%m-%d-%Y").encode())
    yield struct.pack("!ii", 4, (day - EPOCH).days)
    moment = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
    yield str(int(moment.timestamp()))[:9].encode()
    yield str((day - EPOCH).days + 2_451_545).encode()


def _moment(moment: dt.datetime) -> Iterator[bytes]:
    yield from (moment.strftime("%Y-%m-%d").encode(), moment.strftime("%m/%d/%Y").encode())
    yield str(int(moment.timestamp()))[:9].encode()
    micros = int((moment - EPOCH_TIME).total_seconds()) * 1_000_000
    yield struct.pack("!iq", 8, micros)


class Canaries:
    """All values of some worlds, ready to be searched."""

    def __init__(self, values: Iterable[tuple[str, Any]]) -> None:
        self._needles: dict[bytes, dict[bytes, str]] = {}
        self._letters: dict[bytes, dict[bytes, str]] = {}
        for column, value in values:
            for needle in forms_of(column, value):
                small = needle.lower()
                if len(small) >= GRAM:
                    self._needles.setdefault(small[:GRAM], {})[small] = column
                    if small.isalpha():
                        self._letters.setdefault(small[:GRAM], {})[small] = column

    def find(self, data: bytes) -> set[str]:
        """Columns of which a value stands in `data`."""
        return _find(self._needles, data.lower())

    def find_spread(self, rows: list[list[bytes | None]]) -> set[str]:
        """Columns of which a value was cut over `rows`. Letters only: numbers put together make any number."""
        return _find(self._letters, spread(rows).lower())


def _find(needles: dict[bytes, dict[bytes, str]], data: bytes) -> set[str]:
    windows = {data[start : start + GRAM] for start in range(len(data) - GRAM + 1)}
    found = set()
    for head in windows & needles.keys():
        found.update(column for needle, column in needles[head].items() if needle in data)
    return found


def spread(rows: list[list[bytes | None]]) -> bytes:
    """Values that were cut over rows and columns, put together again: by column, by row, and codes as characters."""
    pieces: list[bytes] = []
    width = max((len(row) for row in rows), default=0)
    lists = [[row[place] for row in rows if place < len(row)] for place in range(width)] + list(rows)
    for values in lists:
        present = [value for value in values if value is not None]
        if len(present) < 2:
            continue
        pieces.append(b"".join(present))
        pieces.append(_characters(present))
    return b"\0".join(pieces)


def _characters(values: list[bytes]) -> bytes:
    """Small integers, as text or binary, read as character codes."""
    codes = bytearray()
    for value in values:
        number = -1
        if value.isdigit() and len(value) < 4:
            number = int(value)
        elif len(value) in (2, 4, 8):
            number = int.from_bytes(value, "big", signed=True)
        codes.append(number if 32 <= number < 127 else 0)
    return bytes(codes)
