"""Masking of one cell: against the reference, against psycopg's own loaders, and against its room."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import struct
import uuid
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from hoopfast import _wire, model
from tests.wire import reference_mask as reference

KEY = bytes(range(32))
KINDS = range(6)
UNKNOWN_TYPES = (1033, 194, 2278, 16384, 0, 4294967295)
TYPES = (*reference.REDACTED, *UNKNOWN_TYPES)
WHOLE = (model.MASK_NULL, model.MASK_REDACT)
SCALARS = (*reference.SCALARS, *UNKNOWN_TYPES)     # values with parts: test_mask_parts.py
TEXT, BINARY = 0, 1


def numeric(text: str) -> bytes:
    """As numeric_send writes it."""
    return reference.write_numeric(decimal.Decimal(text), len(text.partition(".")[2]))


# type -> equal values in text and binary format
VALUES: dict[int, list[tuple[bytes, bytes]]] = {
    25: [
        (t.encode(), t.encode())
        for t in ("", "x", "123-45-6789", "jane@example.com", "Grüße aus Köln", "日本語テキスト", "a@b@c", "@", "é@x.y")
    ],
    18: [(b"x", b"x")],
    16: [(b"t", b"\x01"), (b"f", b"\0")],
    17: [(b"\\x", b""), (b"\\xdeadBEEF", b"\xde\xad\xbe\xef"), (b"a\\\\b\\000\\377", b"a\\b\0\xff")],
    21: [(str(n).encode(), struct.pack("!h", n)) for n in (0, 1, -1, 32767, -32768)],
    23: [(str(n).encode(), struct.pack("!i", n)) for n in (0, 42, -42, 2**31 - 1, -(2**31))],
    20: [(str(n).encode(), struct.pack("!q", n)) for n in (0, 42, -42, 2**63 - 1, -(2**63))],
    26: [(b"4294967295", b"\xff\xff\xff\xff")],
    700: [(b"1.5", struct.pack("!f", 1.5))],
    701: [(b"NaN", struct.pack("!d", float("nan"))), (b"1e+300", struct.pack("!d", 1e300))],
    1700: [
        (t.encode(), numeric(t))
        for t in (
            "0",
            "0.00",
            "1",
            "-1",
            "1.5",
            "1.50",
            "10000",
            "12345678.9",
            "-0.0001",
            "0.00012",
            "100000000",
            "99999999999999999999.123456789",
        )
    ]
    + [(b"NaN", struct.pack("!HhHH", 0, 0, 0xC000, 0)), (b"-Infinity", struct.pack("!HhHH", 0, 0, 0xF000, 0))],
    790: [(b"$1,234.56", struct.pack("!q", 123456))],
    114: [(b'{"a": 1}', b'{"a": 1}')],
    3802: [(b'{"a": 1}', b'\x01{"a": 1}')],
    142: [(b"<a/>", b"<a/>")],
    1082: [
        (b"2024-02-29", struct.pack("!i", 8825)),
        (b"infinity", struct.pack("!i", 2**31 - 1)),
        (b"12024-02-29", struct.pack("!i", 3661250)),
    ],
    1083: [(b"12:34:56", struct.pack("!q", 45296000000))],
    1266: [(b"12:34:56+02", struct.pack("!qi", 45296000000, -7200))],
    1114: [
        (b"2024-02-29 12:34:56.789", struct.pack("!q", 762525296789000)),
        (b"-infinity", struct.pack("!q", -(2**63))),
    ],
    1184: [(b"2024-02-29 12:34:56+00", struct.pack("!q", 762525296000000))],
    1186: [(b"1 mon 2 days 03:00:00", struct.pack("!qii", 10800000000, 2, 1))],
    2950: [(b"12345678-1234-5678-9abc-def012345678", bytes.fromhex("12345678123456789abcdef012345678"))],
    869: [(b"10.1.2.3", b"\x02\x20\0\x04\x0a\x01\x02\x03"), (b"::1", b"\x03\x80\0\x10" + bytes(15) + b"\1")],
    650: [(b"10.0.0.0/8", b"\x02\x08\x01\x04\x0a\0\0\0")],
    829: [(b"08:00:2b:01:02:03", b"\x08\0\x2b\1\2\3")],
    774: [(b"08:00:2b:01:02:03:04:05", b"\x08\0\x2b\1\2\3\4\5")],
    1560: [(b"101", b"\0\0\0\x03\xa0")],
    1562: [(b"101", b"\0\0\0\x03\xa0")],
    3614: [(b"'cat':1", b"\0\0\0\1cat\0\0\1\0\1")],
    3904: [(b"[1,10)", b"\2\0\0\0\4\0\0\0\1\0\0\0\4\0\0\0\x0a")],
    1007: [(b"{1,2}", b"")],
    1009: [(b'{a,"b c"}', b"")],
    600: [(b"(1,2)", struct.pack("!dd", 1, 2))],
    4072: [(b"$.a", b"\x01$.a")],
    16384: [(b"happy", b"happy")],
}
CONSTANTS = (
    b"",
    b"***",
    b"0",
    b"42",
    b"-32769",
    b"99999",
    b"4294967295",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"t",
    b"false",
    b"1.50",
    b"-0.0",
    b"1e400",
    b"3.5e38",
    b"1e-5",
    b".5",
    b"5.",
    b".",
    b"+7",
    b"2000-01-01",
    b"1969-12-31",
    b"2023-02-29",
    b"2024-02-29",
    b"0001-01-01",
    b"9999-12-31",
    b"0000-01-01",
    b"00000000-0000-4000-8000-000000000000",
    b"\\x00ff",
    b"\\x0",
    b"\\xzz",
    b"a" * 64,
    b"9" * 400,
    b"9" * 401,
    "ü".encode(),
    b"{}",
)


def same(kind: int, keep: int, constant: bytes, key: bytes, type_oid: int, format: int, value: bytes | None) -> None:
    ours = _wire.mask_value(kind, keep, constant, key, type_oid, format, value)
    assert ours == reference.mask(kind, keep, constant, key, type_oid, format, value), (
        kind,
        keep,
        constant,
        type_oid,
        format,
        value,
    )


@pytest.mark.parametrize("type_oid", TYPES)
def test_every_kind_equals_the_reference(type_oid: int) -> None:
    for kind in KINDS if type_oid in SCALARS else WHOLE:
        for values in VALUES.values():
            for pair in values:
                for fmt, value in enumerate(pair):
                    same(kind, 4, b"42", KEY, type_oid, fmt, value)
        same(kind, 4, b"42", KEY, type_oid, TEXT, None)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_constants_equal_the_reference(constant: bytes) -> None:
    for type_oid in SCALARS:
        for fmt in (TEXT, BINARY):
            same(model.MASK_CONSTANT, 0, constant, b"", type_oid, fmt, b"2024-02-29")


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    keep=st.integers(-2, 40),
    constant=st.sampled_from(CONSTANTS),
    type_oid=st.sampled_from(SCALARS),
    format=st.sampled_from((TEXT, BINARY)),
    value=st.one_of(
        st.none(),
        st.binary(max_size=80),
        st.text(max_size=40).map(str.encode),
        st.from_regex(r"[+-]?[0-9]{0,30}\.?[0-9]{0,30}", fullmatch=True).map(str.encode),
        st.sampled_from([v for values in VALUES.values() for pair in values for v in pair]),
    ),
)
def test_anything_equals_the_reference(
    kind: int, keep: int, constant: bytes, type_oid: int, format: int, value: bytes | None
) -> None:
    same(kind, keep, constant, KEY, type_oid, format, value)


@settings(max_examples=200, deadline=None)
@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(lambda d: -60 < d.adjusted() < 60),
    st.integers(0, 6),
)
def test_equal_numbers_hash_equally_however_they_are_written(number: decimal.Decimal, zeros: int) -> None:
    text = f"{number:f}"
    longer = text + ("" if "." in text else ".") + "0" * zeros if zeros else text
    masked = {_wire.mask_value(model.MASK_HASH, 0, b"", KEY, 1700, TEXT, t.encode()) for t in (text, longer)}
    masked_binary = {_wire.mask_value(model.MASK_HASH, 0, b"", KEY, 1700, BINARY, numeric(t)) for t in (text, longer)}
    assert len(masked) == len(masked_binary) == 1
    shaped = (masked.pop() or b"").decode()
    assert masked_binary == {numeric(shaped)}
    assert 1 <= int(shaped) < 10**18


@pytest.mark.parametrize("type_oid", [25, 21, 23, 20, 1700, 2950, 17])
def test_hash_is_the_same_in_both_formats(type_oid: int) -> None:
    text_loader = Transformer().get_loader(type_oid, Format.TEXT)
    binary_loader = Transformer().get_loader(type_oid, Format.BINARY)
    seen = {}
    for text, binary in VALUES[type_oid]:
        a = _wire.mask_value(model.MASK_HASH, 0, b"", KEY, type_oid, TEXT, text)
        b = _wire.mask_value(model.MASK_HASH, 0, b"", KEY, type_oid, BINARY, binary)
        assert a is not None
        assert b is not None
        assert text_loader.load(a) == binary_loader.load(b)
        seen[binary if type_oid != 1700 else reference.numeric_normal(BINARY, binary)] = bytes(b)
        assert a != text
        assert _wire.mask_value(model.MASK_HASH, 0, b"", bytes(32), type_oid, TEXT, text) != a
    assert len(set(seen.values())) == len(seen)


def test_padding_of_char_n_is_no_part_of_the_value() -> None:
    for kind in (model.MASK_HASH, model.MASK_PARTIAL, model.MASK_EMAIL):
        assert _wire.mask_value(kind, 4, b"", KEY, 1042, TEXT, b"jane@x.org   ") == _wire.mask_value(
            kind, 4, b"", KEY, 25, TEXT, b"jane@x.org"
        )


@pytest.mark.parametrize(
    ("keep", "value", "masked"),
    [
        (4, "123-45-6789", "*******6789"),
        (4, "12345678", "****5678"),
        (4, "1234567", "****567"),
        (4, "1", "*"),
        (4, "", ""),
        (0, "abc", "***"),
        (-3, "abc", "***"),
        (2, "äöüß", "**üß"),
        (9, "日本語", "**語"),
        (1, "a😀", "*😀"),
    ],
)
def test_partial(keep: int, value: str, masked: str) -> None:
    for type_oid in (25, 1043, 19):
        assert _wire.mask_value(model.MASK_PARTIAL, keep, b"", b"", type_oid, TEXT, value.encode()) == masked.encode()
        assert _wire.mask_value(model.MASK_PARTIAL, keep, b"", b"", type_oid, BINARY, value.encode()) == masked.encode()


@pytest.mark.parametrize(
    "value", [b"abc\xff", b"\x80\x80\x80\x80", b"ab\xc3", b"\xed\xa0\x80zz", b"\xc0\x80zz", b"\xf5\x80\x80\x80z"]
)
def test_partial_of_what_is_not_utf8_shows_nothing(value: bytes) -> None:
    assert _wire.mask_value(model.MASK_PARTIAL, 4, b"", b"", 25, TEXT, value) == b"***"


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("jane@example.com", "j***@example.com"),
        ("é@x", "é***@x"),
        ("j@@x", "***"),
        ("@x", "***"),
        ("j@", "***"),
        ("jane", "***"),
        ("", "***"),
        ("a@b@c", "***"),
    ],
)
def test_email(value: str, masked: str) -> None:
    assert _wire.mask_value(model.MASK_EMAIL, 0, b"", b"", 25, TEXT, value.encode()) == masked.encode()


def test_dates_in_a_style_that_is_not_iso_become_null() -> None:
    """A driver reads dates by the session's DateStyle: an ISO date would break it there."""
    for type_oid in (1082, 1114, 1184):
        assert _wire.mask_value(model.MASK_REDACT, 0, b"", b"", type_oid, TEXT, b"29/02/2024") is None
        assert _wire.mask_value(model.MASK_REDACT, 0, b"", b"", type_oid, TEXT, b"29.02.2024") is None
        assert _wire.mask_value(model.MASK_REDACT, 0, b"", b"", type_oid, TEXT, b"Thu Feb 29 12:34:56 2024") is None


PYTHON_VALUES: dict[int, Any] = {
    16: False,
    17: b"",
    18: "*",
    21: 0,
    23: 0,
    20: 0,
    26: 0,
    700: 0.0,
    701: 0.0,
    1700: decimal.Decimal(0),
    114: {},
    3802: {},
    142: "<redacted/>",
    1082: dt.date(1970, 1, 1),
    1114: dt.datetime.fromisoformat("1970-01-01"),
    1184: dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    1083: dt.time(0),
    1266: dt.time(0, tzinfo=dt.UTC),
    1186: dt.timedelta(0),
    2950: uuid.UUID(int=0),
    869: ipaddress.ip_address("0.0.0.0"),
    650: ipaddress.ip_network("0.0.0.0/32"),
    **dict.fromkeys((3904, 3906, 3908, 3910, 3912, 3926), Range(empty=True)),
    **dict.fromkeys((4451, 4532, 4533, 4534, 4535, 4536), Multirange()),
    **dict.fromkeys((25, 1043, 1042, 19, 705), "***"),
}


@pytest.mark.parametrize("type_oid", reference.REDACTED)
def test_psycopg_loads_what_is_redacted(type_oid: int) -> None:
    transformer = Transformer()
    source = VALUES.get(type_oid, [(b"2024-02-29", b"")])[0]
    for fmt, value in enumerate(source):
        masked = _wire.mask_value(model.MASK_REDACT, 0, b"", b"", type_oid, fmt, value)
        assert masked is not None
        loaded = transformer.get_loader(type_oid, Format(fmt)).load(masked)
        if type_oid in reference.ELEMENTS:
            binary = psycopg.adapters.get_loader(type_oid, Format(fmt)) is not None
            assert loaded == [] or not binary
        elif type_oid in PYTHON_VALUES and not (fmt == BINARY and type_oid in {142, 705}):
            assert loaded == PYTHON_VALUES[type_oid]


def test_array_elements_are_those_of_the_catalog() -> None:
    arrays = {info.array_oid: info.oid for info in psycopg.postgres.types if info.array_oid}
    known = {array: element for array, element in reference.ELEMENTS.items() if array in arrays}
    assert len(known) > 30
    assert known == {array: arrays[array] for array in known}


@pytest.mark.parametrize("type_oid", TYPES)
def test_room_is_respected_to_the_byte(type_oid: int) -> None:
    for kind in KINDS:
        for fmt in (TEXT, BINARY):
            for pair in VALUES.get(type_oid, VALUES[25][:3]):
                value = pair[fmt]
                args = (kind, 4, b"2000-01-01", KEY, type_oid, fmt, value)
                whole = _wire.mask_value(*args)
                for room in (0, 1, 2, 7, 8, 11, 12, 16, 31, 32, 35, 36, len(value), len(value) + 16):
                    done, out = _wire.mask_room(*args, room)
                    if whole is None:
                        assert done in {-1, -2}
                    elif done == -2:
                        assert room < len(whole) or room < len(value) + 16
                    else:
                        assert out == whole
                        assert len(out) <= room


def test_huge_numerics() -> None:
    """A numeric of 131072 digits has a binary form of 10 bytes: hashing must not write it out."""
    huge = b"1" + b"0" * 131071
    binary = struct.pack("!HhHHH", 1, 32767, 0, 0, 1000)
    text = _wire.mask_value(model.MASK_HASH, 0, b"", KEY, 1700, TEXT, huge)
    assert text is not None
    assert _wire.mask_value(model.MASK_HASH, 0, b"", KEY, 1700, BINARY, binary) == numeric(text.decode())
    assert _wire.mask_value(model.MASK_HASH, 0, b"", KEY, 1700, TEXT, huge + b"0") == b"0"
    assert _wire.mask_value(model.MASK_HASH, 0, b"", KEY, 1700, BINARY, binary[:-1]) == bytes(8)


def test_masks_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="kind"):
        _wire.mask_value(9, 0, b"", b"", 25, TEXT, b"x")
    with pytest.raises(ValueError, match="32 bytes"):
        _wire.mask_value(model.MASK_HASH, 0, b"", b"short", 25, TEXT, b"x")


def test_formats_that_do_not_exist_are_null() -> None:
    assert _wire.mask_value(model.MASK_REDACT, 0, b"", b"", 25, 2, b"x") is None
