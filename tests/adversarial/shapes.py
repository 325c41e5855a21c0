"""Answers taken apart: rows and where their columns come from, and how two answers differ. Pure; used by the runner."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Iterable

import msgspec

from tests.support import wire

Origin = tuple[int, int]
Row = list[bytes | None]
COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
# What may differ between two connections, or between a server and a gateway in front of it, without anybody caring.
ASIDE = frozenset("SNA")


class Difference(msgspec.Struct):
    problem: str = ""
    over_masked: int = 0
    origins: list[Origin] = []


def origins_of(body: bytes) -> list[Origin]:
    """(table OID, attribute number) of every column of a RowDescription."""
    count = struct.unpack_from("!H", body)[0]
    position, found = 2, []
    for _ in range(count):
        position = body.index(b"\0", position) + 1
        found.append(struct.unpack_from("!IH", body, position))
        position += 18
    return found


def without_tables(body: bytes) -> bytes:
    """A RowDescription in which all tables have the number 0."""
    bare = bytearray(body)
    position = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        position = body.index(b"\0", position) + 1
        bare[position : position + 4] = bytes(4)
        position += 18
    return bytes(bare)


def copied(data: bytes) -> list[Row]:
    """Rows of COPY TO STDOUT, in text, csv or binary format."""
    if not data.startswith(COPY_SIGNATURE) and b"\t" not in data:
        rows = csv.reader(io.StringIO(data.decode()))
        return [[None if field in ("", "\\N") else field.encode() for field in row] for row in rows]
    if not data.startswith(COPY_SIGNATURE):
        return [[None if field == b"\\N" else field for field in line.split(b"\t")]
                for line in data.split(b"\n")[:-1]]
    position, found = len(COPY_SIGNATURE) + 8, []
    while (count := struct.unpack_from("!h", data, position)[0]) >= 0:
        position += 2
        row: Row = []
        for _ in range(count):
            size = struct.unpack_from("!i", data, position)[0]
            position += 4
            row.append(None if size < 0 else data[position : position + size])
            position += max(size, 0)
        found.append(row)
    return found


def rows_of(frames: Iterable[wire.Frame]) -> list[Row]:
    """All rows of all results, those of COPY included."""
    frames = list(frames)
    data = b"".join(frame.body for frame in frames if frame.kind == "d")
    return wire.rows(frames) + (copied(data) if data.endswith((b"\n", b"\xff\xff")) else [])


def differences(
    expected: list[wire.Frame], got: list[wire.Frame], masked: frozenset[Origin], origins: list[Origin], *,
    stable: bool, enforced: bool = False,
) -> Difference:
    """How an answer through the gateway differs from the server's own. `origins` are those of the same statement in a
    form that was described, for forms without RowDescription. In enforced mode hidden columns of RETURNING have none.
    """
    result = Difference()
    left, right = _kept(expected, stable), _kept(got, stable)
    if [frame.kind for frame in left] != [frame.kind for frame in right]:
        shown = "".join(frame.kind for frame in right)
        return Difference(f"messages {shown[:60]} instead of {''.join(frame.kind for frame in left)[:60]}")
    here = origins
    for mine, theirs in zip(left, right, strict=True):
        if mine.kind == "T":
            here = origins_of(mine.body)
            result.origins = result.origins or here
        if not stable:
            continue
        if mine.kind == "D":
            _rows([wire.data_row(mine.body)], [wire.data_row(theirs.body)], here, masked, result)
        elif mine.kind == "d":
            continue
        elif mine.kind == "T" and without_tables(mine.body) == without_tables(theirs.body):
            continue            # new tables have other numbers
        elif mine.kind == "T" and enforced and _returned(mine.body, theirs.body, masked):
            continue
        elif mine != theirs:
            result.problem = result.problem or f"{mine.kind} differs: {theirs.body[:80]!r}, not {mine.body[:80]!r}"
    if stable:
        _rows(_copies(left), _copies(right), origins, masked, result)
    return result


def unordered(frames: list[wire.Frame], masked: frozenset[Origin], sql: str) -> tuple[bytes, list[Row]]:
    """What an answer says if the order of rows says nothing: its columns, and the values that are not hidden, sorted.

    LIMIT without an order may choose any rows: then how many there are.
    """
    described = next((frame.body for frame in frames if frame.kind == "T"), b"\0\0")
    hidden = {place for place, origin in enumerate(origins_of(described)) if origin in masked}
    rows = [[value for place, value in enumerate(row) if place not in hidden] for row in wire.rows(frames)]
    if " LIMIT " in sql:
        rows = [[] for _ in rows]
    return without_tables(described), sorted(rows, key=repr)


def _returned(mine: bytes, theirs: bytes, masked: frozenset[Origin]) -> bool:
    """Whether two RowDescriptions differ in nothing but hidden columns without an origin."""
    bare = bytearray(mine)
    position = 2
    for origin, shown in zip(origins_of(mine), origins_of(theirs), strict=False):
        position = bare.index(b"\0", position) + 1
        if origin in masked and shown == (0, 0):
            bare[position : position + 6] = bytes(6)
        position += 18
    return bytes(bare) == theirs


def _kept(frames: list[wire.Frame], stable: bool) -> list[wire.Frame]:
    """What is compared; of an answer that is never the same twice, not how many rows it has."""
    kept: list[wire.Frame] = []
    for frame in frames:
        again = not stable and kept and frame.kind == "D" == kept[-1].kind
        if frame.kind not in ASIDE and not again:
            kept.append(frame)
    return kept


def _copies(frames: list[wire.Frame]) -> list[Row]:
    data = b"".join(frame.body for frame in frames if frame.kind == "d")
    return copied(data) if data else []


def _rows(
    expected: list[Row], got: list[Row], origins: list[Origin], masked: frozenset[Origin], result: Difference
) -> None:
    if len(expected) != len(got):
        result.problem = result.problem or f"{len(got)} rows instead of {len(expected)}"
        return
    for mine, theirs in zip(expected, got, strict=True):
        for place, (value, shown) in enumerate(zip(mine, theirs, strict=True)):
            hidden = place < len(origins) and origins[place] in masked
            if hidden and value is not None and value == shown:
                result.problem = result.problem or f"column {place + 1} is not masked"
            if hidden and value is None and shown is not None:
                result.problem = result.problem or f"column {place + 1} is not NULL any more"
            if not hidden and value != shown:
                result.over_masked += 1
                result.problem = result.problem or f"column {place + 1} is {shown!r} instead of {value!r}"
