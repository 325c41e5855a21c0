"""Builders and parsers of PostgreSQL messages as bytes: no IO, no state.

Used by the front (login, refusals), by net/ (upstream login, cancel), by verdicts (errors and notices handed to the
relay) and by tests. Everything that parses raises ValueError on bytes that cannot be what they claim to be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

PROTOCOL_3_0: Final = 3 << 16
PROTOCOL_3_2: Final = (3 << 16) | 2
SSL_REQUEST_CODE: Final = (1234 << 16) | 5679
GSSENC_REQUEST_CODE: Final = (1234 << 16) | 5680
CANCEL_REQUEST_CODE: Final = (1234 << 16) | 5678

SSL_REQUEST: Final = struct.pack("!II", 8, SSL_REQUEST_CODE)
TERMINATE: Final = b"X\x00\x00\x00\x04"

AUTH_OK: Final = 0
AUTH_CLEARTEXT: Final = 3
AUTH_MD5: Final = 5
AUTH_SASL: Final = 10
AUTH_SASL_CONTINUE: Final = 11
AUTH_SASL_FINAL: Final = 12

_U32: Final = struct.Struct("!I")
_U16: Final = struct.Struct("!H")
_FIELD_TAIL: Final = struct.Struct("!IhIhih")


class Field(NamedTuple):
    """One column of a RowDescription. `modifier` is atttypmod (-1: none), `format` 0 text or 1 binary."""

    name: str
    table_oid: int
    attnum: int
    type_oid: int
    size: int
    modifier: int
    format: int


def frame(kind: bytes, body: bytes) -> bytes:
    """One message: type byte, length (itself included), body."""
    return kind + _U32.pack(len(body) + 4) + body


def cstring(value: str | bytes) -> bytes:
    """`value` with its NUL. A NUL inside would end it early and smuggle a second value, so it is a ValueError."""
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if b"\x00" in raw:
        raise ValueError("a string of the protocol cannot hold a NUL")
    return raw + b"\x00"


# ---------------------------------------------------------------- what a server says

def error_response(
    severity: str, sqlstate: str, message: str, *, detail: str = "", hint: str = "", position: int = 0
) -> bytes:
    """An ErrorResponse; `severity` is ERROR, FATAL or PANIC, `position` counts characters from 1 (0: none)."""
    return frame(b"E", _fields(severity, sqlstate, message, detail, hint, position))


def notice_response(
    severity: str, sqlstate: str, message: str, *, detail: str = "", hint: str = "", position: int = 0
) -> bytes:
    """A NoticeResponse; `severity` is NOTICE, WARNING, INFO, DEBUG or LOG."""
    return frame(b"N", _fields(severity, sqlstate, message, detail, hint, position))


def _fields(severity: str, sqlstate: str, message: str, detail: str, hint: str, position: int) -> bytes:
    if len(sqlstate) != 5 or not sqlstate.isascii() or not sqlstate.isalnum():
        raise ValueError(f"not a SQLSTATE: {sqlstate!r}")
    parts = [("S", severity), ("V", severity), ("C", sqlstate), ("M", message)]
    if detail:
        parts.append(("D", detail))
    if hint:
        parts.append(("H", hint))
    if position:
        parts.append(("P", str(position)))
    # Texts may quote what a client sent, NULs included; an error must never fail to be built.
    return b"".join(key.encode() + cstring(value.replace("\x00", "\\0")) for key, value in parts) + b"\x00"


def parameter_status(name: str, value: str) -> bytes:
    return frame(b"S", cstring(name) + cstring(value))


def backend_key_data(pid: int, secret: bytes) -> bytes:
    return frame(b"K", _U32.pack(pid) + secret)


def ready_for_query(status: bytes = b"I") -> bytes:
    """`status` is b"I" (idle), b"T" (in a transaction) or b"E" (in a failed one)."""
    if status not in (b"I", b"T", b"E"):
        raise ValueError(f"not a transaction status: {status!r}")
    return frame(b"Z", status)


def authentication_ok() -> bytes:
    return frame(b"R", _U32.pack(AUTH_OK))


def authentication_cleartext() -> bytes:
    return frame(b"R", _U32.pack(AUTH_CLEARTEXT))


def negotiate_protocol_version(minor: int, options: Sequence[str | bytes]) -> bytes:
    """NegotiateProtocolVersion: the newest minor we speak, and the `_pq_.` options we do not know.

    The version goes out whole (major in the upper half), as PostgreSQL sends it and libpq 18 reads it.
    """
    version = PROTOCOL_3_0 | minor
    return frame(b"v", struct.pack("!II", version, len(options)) + b"".join(cstring(name) for name in options))


# ---------------------------------------------------------------- what a client says

def startup_message(version: int, parameters: dict[str, str]) -> bytes:
    """StartupMessage of protocol `version` (PROTOCOL_3_0 or PROTOCOL_3_2); empty values are kept."""
    body = b"".join(cstring(name) + cstring(value) for name, value in parameters.items()) + b"\x00"
    return struct.pack("!II", len(body) + 8, version) + body


def password_message(password: str | bytes) -> bytes:
    return frame(b"p", cstring(password))


def sasl_initial_response(mechanism: str, response: bytes) -> bytes:
    return frame(b"p", cstring(mechanism) + _U32.pack(len(response)) + response)


def sasl_response(response: bytes) -> bytes:
    return frame(b"p", response)


def cancel_request(pid: int, secret: bytes) -> bytes:
    return struct.pack("!III", 12 + len(secret), CANCEL_REQUEST_CODE, pid) + secret


def query(sql: str | bytes) -> bytes:
    return frame(b"Q", cstring(sql))


SYNC: Final = b"S\x00\x00\x00\x04"


def parse(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    return frame(b"P", cstring(name) + cstring(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(
    portal: str, statement: str, values: Sequence[bytes | None], formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """A Bind; format codes as the protocol has them: none (all text), one (for all), or one each."""
    body = [cstring(portal), cstring(statement), struct.pack(f"!H{len(formats)}H", len(formats), *formats)]
    body.append(_U16.pack(len(values)))
    for value in values:
        body += (b"\xff\xff\xff\xff",) if value is None else (_U32.pack(len(value)), value)
    body.append(struct.pack(f"!H{len(result_formats)}H", len(result_formats), *result_formats))
    return frame(b"B", b"".join(body))


def describe_portal(portal: str) -> bytes:
    return frame(b"D", b"P" + cstring(portal))


def execute(portal: str, row_limit: int = 0) -> bytes:
    return frame(b"E", cstring(portal) + _U32.pack(row_limit))


def close_statement(name: str) -> bytes:
    return frame(b"C", b"S" + cstring(name))


def close_portal(name: str) -> bytes:
    return frame(b"C", b"P" + cstring(name))


def copy_fail(reason: str) -> bytes:
    return frame(b"f", cstring(reason))


# ---------------------------------------------------------------- parsers

def iter_frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type byte, body) of each message in `data`, which must hold whole messages only. For small control data."""
    at, end = 0, len(data)
    while at < end:
        if end - at < 5:
            raise ValueError("a message is cut off in its header")
        (length,) = _U32.unpack_from(data, at + 1)
        if length < 4 or length > end - at - 1:
            raise ValueError(f"a message claims a length of {length} where {end - at - 1} bytes are left")
        yield data[at:at + 1], data[at + 5:at + 1 + length]
        at += 1 + length


def parse_fields(body: bytes) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse by their one-letter names; unknown ones are kept."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(body) and body[at] != 0:
        end = body.find(b"\x00", at + 1)
        if end < 0:
            raise ValueError("a field of an error has no end")
        fields[chr(body[at])] = body[at + 1:end].decode("utf-8", "replace")
        at = end + 1
    return fields


def parse_row_description(body: bytes) -> list[Field]:
    """The columns of a RowDescription body."""
    if len(body) < 2:
        raise ValueError("a RowDescription without a count")
    (count,) = _U16.unpack_from(body)
    fields: list[Field] = []
    at = 2
    for _ in range(count):
        end = body.find(b"\x00", at)
        if end < 0 or len(body) - end - 1 < _FIELD_TAIL.size:
            raise ValueError("a RowDescription is cut off")
        fields.append(Field(body[at:end].decode("utf-8", "replace"), *_FIELD_TAIL.unpack_from(body, end + 1)))
        at = end + 1 + _FIELD_TAIL.size
    if at != len(body):
        raise ValueError("a RowDescription has bytes behind its last column")
    return fields


def parse_data_row(body: bytes) -> tuple[str | None, ...]:
    """Values in text format, UTF-8. Raises ValueError when it is no DataRow."""
    if len(body) < 2:
        raise ValueError("a row has no number of columns")
    values: list[str | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2])):
        length = int.from_bytes(body[at : at + 4], signed=True)
        at += 4
        if length < -1 or at + max(length, 0) > len(body):
            raise ValueError("a value is longer than its row")
        values.append(body[at : at + length].decode() if length >= 0 else None)
        at += max(length, 0)
    if at != len(body):
        raise ValueError("a row is longer than its values")
    return tuple(values)


def parse_parameter_status(body: bytes) -> tuple[str, str]:
    name, value, rest = _two_strings(body)
    if rest:
        raise ValueError("a ParameterStatus has bytes behind its value")
    return name, value


def parse_backend_key_data(body: bytes) -> tuple[int, bytes]:
    """(pid, secret); secrets have 4..256 bytes since protocol 3.2."""
    if not 8 <= len(body) <= 4 + 256:
        raise ValueError(f"a BackendKeyData of {len(body)} bytes")
    return _U32.unpack_from(body)[0], body[4:]


def parse_negotiate_protocol_version(body: bytes) -> tuple[int, list[str]]:
    """(minor, options the server does not know)."""
    if len(body) < 8:
        raise ValueError("a NegotiateProtocolVersion is cut off")
    version, count = struct.unpack_from("!II", body)
    names = body[8:].split(b"\x00")
    if count > len(body) or len(names) != count + 1 or names[-1]:
        raise ValueError("a NegotiateProtocolVersion does not hold the options it counts")
    return version & 0xFFFF, [name.decode("utf-8", "replace") for name in names[:-1]]


def parse_authentication(body: bytes) -> tuple[int, bytes]:
    """(AUTH_* code, what follows it)."""
    if len(body) < 4:
        raise ValueError("an Authentication message is cut off")
    return _U32.unpack_from(body)[0], body[4:]


def parse_password(body: bytes) -> bytes:
    """The password of a PasswordMessage: exactly one string."""
    if not body.endswith(b"\x00") or body.count(b"\x00") != 1:
        raise ValueError("a PasswordMessage must hold exactly one string")
    return body[:-1]


def _two_strings(body: bytes) -> tuple[str, str, bytes]:
    parts = body.split(b"\x00", 2)
    if len(parts) != 3:
        raise ValueError("two strings were expected")
    return parts[0].decode("utf-8", "replace"), parts[1].decode("utf-8", "replace"), parts[2]
