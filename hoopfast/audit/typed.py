"""Values as PostgreSQL would print them: parameters of Bind and FunctionCall, and result rows, text and binary. Pure.

What comes out of a binary value is PostgreSQL's text form (ISO dates), so a replay can send it back as text. A value
whose type we do not know stays what it is, as Raw. Used by the event builder; the front shows parameters to approvers
with it.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from struct import Struct, error, pack, unpack
from typing import Any, NoReturn

import msgspec

MAX_PARAMETERS = 65535
_I16 = Struct("!h").unpack_from
_U16 = Struct("!H").unpack_from
_I32 = Struct("!i").unpack_from
_U32 = Struct("!I").unpack_from
_I64 = Struct("!q").unpack_from


class Raw(msgspec.Struct, frozen=True, gc=False):
    """A binary value of a type that is not known here: its type OID (0: the client did not say) and \\x hex."""

    oid: int
    hex: str


Value = str | None | Raw


class Bind(msgspec.Struct, frozen=True, gc=False):
    """A Bind message, taken apart. Formats as sent: none (all text), one (for all), or one each."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


class Column(msgspec.Struct, frozen=True, gc=False):
    name: str
    oid: int


class Results(msgspec.Struct, frozen=True, gc=False):
    """Rows of one result as the client got them (masked). `columns` is empty where no row description was captured.

    `copy` holds the text of COPY TO STDOUT. `truncated`: the journal keeps only the first part.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    copy: str = ""
    truncated: bool = False


def parse_bind(body: bytes) -> Bind:
    """The body of a Bind message (without type and length). ValueError when it is not one."""
    try:
        portal_end = body.index(0)
        statement_end = body.index(0, portal_end + 1)
        formats, at = _formats(body, statement_end + 1)
        values, at = _values(body, at)
        result_formats, at = _formats(body, at)
    except (error, ValueError) as failure:
        raise ValueError(f"not a Bind message: {failure}") from failure
    return Bind(_text(body[:portal_end]), _text(body[portal_end + 1 : statement_end]), formats, values, result_formats)


def parse_function_call(body: bytes) -> tuple[int, tuple[int, ...], tuple[bytes | None, ...]]:
    """(function OID, formats, arguments) of a FunctionCall body. ValueError when it is not one."""
    try:
        (oid,) = _U32(body, 0)
        formats, at = _formats(body, 4)
        values, _ = _values(body, at)
    except error as failure:
        raise ValueError(f"not a FunctionCall message: {failure}") from failure
    return oid, formats, values


def result_formats(formats: Sequence[int]) -> tuple[int, ...] | msgspec.UnsetType:
    """Format codes of results for an event, which leaves them out when they say no more than "text"."""
    return tuple(code & 0xFFFF for code in formats) if any(formats) else msgspec.UNSET


def _formats(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (n,) = _U16(body, at)
    if n == 0:
        return (), at + 2
    if n == 1:
        return _I16(body, at + 2), at + 4
    end = at + 2 + 2 * n
    return unpack(f"!{n}h", body[at + 2 : end]), end


def _values(body: bytes, at: int) -> tuple[tuple[bytes | None, ...], int]:
    (n,) = _U16(body, at)
    at += 2
    values: list[bytes | None] = []
    for _ in range(n):
        (length,) = _I32(body, at)
        at += 4
        if length < 0:
            values.append(None)
            continue
        if at + length > len(body):
            raise ValueError("a value is longer than the message")
        values.append(body[at : at + length])
        at += length
    return tuple(values), at


def type_oids(raw: bytes) -> tuple[int, ...]:
    """The parameter types of a Parse message: four bytes each, network order."""
    return unpack(f"!{len(raw) // 4}I", raw[: len(raw) & ~3])


def decode_parameters(
    types: Sequence[int], formats: Sequence[int], values: Sequence[bytes | None],
) -> tuple[Value, ...]:
    """Every value in PostgreSQL's text form; Raw for binary values of unknown types."""
    if not any(formats):
        return tuple([None if v is None else _as_text(0, v) for v in values])
    known, single = len(types), len(formats) == 1
    decoded: list[Value] = []
    for i, value in enumerate(values):
        how = formats[0] if single else (formats[i] if i < len(formats) else 0)
        decoded.append(decode(types[i] if i < known else 0, how, value))
    return tuple(decoded)


def binary_values(formats: Sequence[int], values: Sequence[bytes | None]) -> tuple[str | None, ...] | None:
    """The hex of every value that came in binary format, None for others; None when all came as text."""
    if not any(formats):
        return None
    if len(formats) == 1:
        formats = tuple(formats) * len(values)
    found = tuple([
        value.hex() if value is not None and i < len(formats) and formats[i] else None for i, value in enumerate(values)
    ])
    return found if any(value is not None for value in found) else None


def parse_aside(kind: int, length: int, body: bytes) -> dict[str, Any]:
    """A record of what the server said outside of a statement, `body` being what was kept of `length` bytes."""
    cut = {"truncated": True} if len(body) < length else {}
    if kind == 0x41:
        (pid,) = _U32(body, 0)
        channel, _, payload = body[4:].partition(b"\0")
        said = _text(payload.removesuffix(b"\0"))
        return {"kind": "notification", "channel": _text(channel), "payload": said, "pid": pid} | cut
    return {"kind": "server_error", "error": decode_error(body)} | cut


def decode(oid: int, how: int, value: bytes | None) -> Value:
    """One value; `how` is its format code (0 text, 1 binary)."""
    if value is None:
        return None
    if how == 0:
        return _as_text(oid, value)
    decoder = _BINARY.get(oid)
    if decoder is None:
        return Raw(oid, "\\x" + value.hex())
    try:
        return decoder(value)
    except (error, ValueError, OverflowError, IndexError):
        return Raw(oid, "\\x" + value.hex())


def _as_text(oid: int, value: bytes) -> Value:
    try:
        return value.decode()
    except UnicodeDecodeError:          # another client_encoding, or a lie
        return Raw(oid, "\\x" + value.hex())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


# ---------------------------------------------------------------- binary forms (what the server's *send functions make)

_INFINITE_DATE, _NEGATIVE_DATE = 2**31 - 1, -(2**31)
_INFINITE_TIME, _NEGATIVE_TIME = 2**63 - 1, -(2**63)
_DAY_US = 86_400_000_000


def _exactly(form: Struct) -> Callable[[bytes], str]:
    def decoder(value: bytes) -> str:
        (number,) = form.unpack(value)
        return str(number)

    return decoder


def _bool(value: bytes) -> str:
    return {b"\x00": "f", b"\x01": "t"}.get(value) or _refuse()


def _refuse() -> NoReturn:
    raise ValueError("not a value of this type")


def _float8(value: bytes) -> str:
    (number,) = unpack("!d", value)
    return _float(number, repr(number))


def _float4(value: bytes) -> str:
    (number,) = unpack("!f", value)
    if math.isfinite(number):
        for digits in range(6, 10):
            short = f"{number:.{digits}g}"
            if pack("!f", float(short)) == value:
                return short
    return _float(number, repr(number))


def _float(number: float, text: str) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return text.removesuffix(".0")


def _numeric(value: bytes) -> str:
    digits, weight, sign, scale = unpack("!hhHh", value[:8])
    if sign in {0xC000, 0xD000, 0xF000}:
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign]
    groups = unpack(f"!{digits}h", value[8:])
    if sign not in {0, 0x4000} or abs(weight) > 40_000:
        _refuse()
    whole = "".join(f"{groups[i] if i < digits else 0:04d}" for i in range(weight + 1)).lstrip("0") or "0"
    fraction = "".join(
        f"{groups[i] if 0 <= i < digits else 0:04d}" for i in range(weight + 1, weight + 1 + (scale + 3) // 4)
    )[:scale]
    return ("-" if sign else "") + whole + ("." + fraction if scale else "")


def _bytea(value: bytes) -> str:
    return "\\x" + value.hex()


def _utf8(value: bytes) -> str:
    return value.decode()


def _jsonb(value: bytes) -> str:
    return value[1:].decode() if value[:1] == b"\x01" else _refuse()


def _uuid(value: bytes) -> str:
    return str(uuid.UUID(bytes=value))


def _calendar(days: int) -> tuple[str, bool]:
    """The proleptic Gregorian day that is `days` after 2000-01-01, and whether it is BC (there is no year 0)."""
    # Days to civil date, era by era of 400 years: PostgreSQL's range is far beyond datetime's.
    shifted = days + 730_425                            # from 0000-03-01
    era, of_era = divmod(shifted, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}", year <= 0


def _date(value: bytes) -> str:
    (days,) = unpack("!i", value)
    if days in {_INFINITE_DATE, _NEGATIVE_DATE}:
        return "infinity" if days > 0 else "-infinity"
    day, bc = _calendar(days)
    return day + (" BC" if bc else "")


def _clock(us: int) -> str:
    seconds, fraction = divmod(us, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return text + (f".{fraction:06d}".rstrip("0") if fraction else "")


def _time(value: bytes) -> str:
    (us,) = unpack("!q", value)
    return _clock(us) if 0 <= us <= _DAY_US else _refuse()


def _timestamp(value: bytes, zone: str = "") -> str:
    (us,) = unpack("!q", value)
    if us in {_INFINITE_TIME, _NEGATIVE_TIME}:
        return "infinity" if us > 0 else "-infinity"
    days, rest = divmod(us, _DAY_US)
    day, bc = _calendar(days)
    return f"{day} {_clock(rest)}{zone}{' BC' if bc else ''}"


def _timestamptz(value: bytes) -> str:
    return _timestamp(value, "+00")


def _offset(seconds_west: int) -> str:
    east = -seconds_west
    text = f"{'-' if east < 0 else '+'}{abs(east) // 3600:02d}"
    return text + (f":{abs(east) // 60 % 60:02d}" if abs(east) % 3600 else "")


def _timetz(value: bytes) -> str:
    us, west = unpack("!qi", value)
    return _clock(us) + _offset(west)


def _interval(value: bytes) -> str:
    us, days, months = unpack("!qii", value)
    parts = [f"{months} mons"] * bool(months) + [f"{days} days"] * bool(days)
    if us or not parts:
        parts.append(("-" if us < 0 else "") + _clock(abs(us)))
    return " ".join(parts)


def _inet(value: bytes) -> str:
    family, bits, is_cidr, length = value[0], value[1], value[2], value[3]
    address = value[4:]
    if len(address) != length or (family, length) not in {(2, 4), (3, 16)}:
        _refuse()
    text = str(IPv4Address(address) if length == 4 else IPv6Address(address))
    return text if bits == length * 8 and not is_cidr else f"{text}/{bits}"


def _macaddr(value: bytes) -> str:
    return ":".join(f"{b:02x}" for b in value) if len(value) in {6, 8} else _refuse()


def _array(value: bytes) -> str:
    """Any array whose element type is known; the type is in the value."""
    dimensions, _, element = unpack("!iiI", value[:12])
    decoder = _BINARY.get(element)
    if not 0 <= dimensions <= 6 or decoder is None or decoder is _array:
        _refuse()
    sizes: list[int] = []
    for i in range(dimensions):
        size, lower = unpack("!ii", value[12 + 8 * i : 20 + 8 * i])
        if lower != 1:
            _refuse()
        sizes.append(size)
    flat, at = [], 12 + 8 * dimensions
    while at < len(value):
        (length,) = _I32(value, at)
        at += 4 + max(length, 0)
        flat.append("NULL" if length < 0 else _quoted(decoder(value[at - length : at])))
    if len(flat) != (math.prod(sizes) if sizes else 0):
        _refuse()
    for size in reversed(sizes):
        flat = ["{" + ",".join(flat[i : i + size]) + "}" for i in range(0, len(flat), size)]
    return flat[0] if flat else "{}"


def _quoted(item: str) -> str:
    plain = item and item.upper() != "NULL" and not any(c in '{}",\\' or c.isspace() for c in item)
    return item if plain else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


_INT2, _INT4, _INT8, _OID = (_exactly(Struct(form)) for form in ("!h", "!i", "!q", "!I"))

_BINARY: dict[int, Callable[[bytes], str]] = {
    16: _bool, 17: _bytea, 18: _utf8, 19: _utf8, 20: _INT8, 21: _INT2, 23: _INT4, 24: _OID, 25: _utf8, 26: _OID,
    114: _utf8, 142: _utf8, 650: _inet, 700: _float4, 701: _float8, 705: _utf8, 774: _macaddr, 829: _macaddr,
    869: _inet, 1042: _utf8, 1043: _utf8, 1082: _date, 1083: _time, 1114: _timestamp, 1184: _timestamptz,
    1186: _interval, 1266: _timetz, 1700: _numeric, 2205: _OID, 2206: _OID, 2950: _uuid, 3802: _jsonb,
    # arrays of the above
    199: _array, 651: _array, 1000: _array, 1001: _array, 1003: _array, 1005: _array, 1007: _array, 1009: _array,
    1014: _array, 1015: _array, 1016: _array, 1021: _array, 1022: _array, 1028: _array, 1041: _array, 1115: _array,
    1182: _array, 1183: _array, 1185: _array, 1187: _array, 1231: _array, 1270: _array, 2951: _array, 3807: _array,
}


# ---------------------------------------------------------------- backend frames

_DATA = {0x44, 0x56, 0x64}                  # DataRow, FunctionCallResponse, CopyData

def decode_results(frames: bytes, result_formats: Sequence[int] = (), sent: int = 0) -> tuple[Results, ...]:
    """Results among backend frames, one per row description (a simple query may hold several statements).

    `result_formats` are those of the Bind, for frames without a row description. `sent`: bytes of rows that the client
    got; when fewer are here, the last result is truncated.
    """
    results: list[Results] = []
    columns: tuple[Column, ...] = ()
    formats: Sequence[int] = result_formats
    rows: list[tuple[Value, ...]] = []
    copied: list[bytes] = []
    at, end, data = 0, len(frames), 0
    while at + 5 <= end:
        kind, (length,) = frames[at], _U32(frames, at + 1)
        stop = at + 1 + length
        if length < 4 or stop > end:
            break
        try:
            if kind == 0x44:                            # DataRow
                rows.append(_row(frames, at + 5, stop, columns, formats))
            elif kind == 0x54:                          # RowDescription
                if columns or rows or copied:
                    results.append(Results(columns, tuple(rows), _copy_text(copied)))
                    rows, copied = [], []
                columns, formats = _columns(frames[at + 5 : stop])
            elif kind == 0x64:                          # CopyData
                copied.append(frames[at + 5 : stop])
        except (error, ValueError):
            break
        data += stop - at if kind in _DATA else 0
        at = stop
    truncated = at < end or data < sent
    if columns or rows or copied or truncated:
        results.append(Results(columns, tuple(rows), _copy_text(copied), truncated))
    return tuple(results)


def _copy_text(pieces: list[bytes]) -> str:
    copy = b"".join(pieces)
    try:
        return copy.decode()
    except UnicodeDecodeError:
        return "\\x" + copy.hex()


def _columns(body: bytes) -> tuple[tuple[Column, ...], tuple[int, ...]]:
    columns: list[Column] = []
    formats: list[int] = []
    (n,) = _I16(body, 0)
    at = 2
    for _ in range(n):
        stop = body.index(0, at)
        columns.append(Column(_text(body[at:stop]), _U32(body, stop + 7)[0]))
        formats.append(_I16(body, stop + 17)[0])
        at = stop + 19
    return tuple(columns), tuple(formats)


def _row(
    frames: bytes, at: int, stop: int, columns: tuple[Column, ...], formats: Sequence[int],
) -> tuple[Value, ...]:
    (n,) = _U16(frames, at)
    at += 2
    values: list[Value] = []
    binary = any(formats)
    single = len(formats) == 1
    for i in range(n):
        (length,) = _I32(frames, at)
        at += 4
        if length < 0:
            values.append(None)
            continue
        if at + length > stop:
            raise ValueError("a value is longer than its row")
        how = 0 if not binary else formats[0] if single else (formats[i] if i < len(formats) else 0)
        values.append(decode(columns[i].oid if i < len(columns) else 0, how, frames[at : at + length]))
        at += length
    return tuple(values)


def decode_error(body: bytes) -> dict[str, str]:
    """An ErrorResponse body to its fields, by name; unknown field letters keep their letter."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            letter = chr(part[0])
            fields[_ERROR_FIELDS.get(letter, letter)] = _text(part[1:])
    return fields


_ERROR_FIELDS = {
    "S": "severity_local", "V": "severity", "C": "sqlstate", "M": "message", "D": "detail", "H": "hint",
    "P": "position", "p": "internal_position", "q": "internal_query", "W": "where", "s": "schema", "t": "table",
    "c": "column",
    "d": "data_type", "n": "constraint", "F": "file", "L": "line", "R": "routine",
}
