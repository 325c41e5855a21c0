"""Decoding of values: binary forms against what PostgreSQL prints, and messages that lie about their lengths."""

from __future__ import annotations

import struct

import pytest

from hoopfast.audit.typed import (
    Column,
    Raw,
    Results,
    decode,
    decode_error,
    decode_parameters,
    decode_results,
    parse_bind,
    type_oids,
)
from tests.audit.journal_writer import bind_body, data_row, error_body, row_description


def numeric(weight: int, sign: int, scale: int, *digits: int) -> bytes:
    return struct.pack(f"!hhHh{len(digits)}h", len(digits), weight, sign, scale, *digits)


def micros(days: int, us: int = 0) -> bytes:
    return struct.pack("!q", days * 86_400_000_000 + us)


BINARY = [
    (16, b"\x01", "t"), (16, b"\x00", "f"), (21, struct.pack("!h", -5), "-5"), (23, struct.pack("!i", 42), "42"),
    (20, struct.pack("!q", -(2**63)), "-9223372036854775808"), (26, struct.pack("!I", 2**32 - 1), "4294967295"),
    (700, struct.pack("!f", 0.1), "0.1"), (700, struct.pack("!f", float("nan")), "NaN"),
    (701, struct.pack("!d", 0.1), "0.1"), (701, struct.pack("!d", 3.0), "3"),
    (701, struct.pack("!d", float("-inf")), "-Infinity"),
    (1700, numeric(0, 0, 2, 12, 3400), "12.34"), (1700, numeric(1, 0x4000, 0, 1, 2345), "-12345"),
    (1700, numeric(-1, 0, 4, 7), "0.0007"), (1700, numeric(0, 0, 0), "0"), (1700, numeric(0, 0xC000, 0), "NaN"),
    (1700, numeric(2, 0, 3, 5), "500000000.000"), (25, "grüß".encode(), "grüß"), (17, b"\x00\xff", "\\x00ff"),
    (1082, struct.pack("!i", 0), "2000-01-01"), (1082, struct.pack("!i", 9556), "2026-03-01"),
    (1082, struct.pack("!i", 59), "2000-02-29"), (1082, struct.pack("!i", 2**31 - 1), "infinity"),
    (1082, struct.pack("!i", -730_119 - 366), "0001-01-01 BC"), (1082, struct.pack("!i", -730_119), "0001-01-01"),
    (1083, struct.pack("!q", 3_600_000_001), "01:00:00.000001"), (1114, micros(1, 1_500_000), "2000-01-02 00:00:01.5"),
    (1184, micros(-1), "1999-12-31 00:00:00+00"), (1184, struct.pack("!q", -(2**63)), "-infinity"),
    (1266, struct.pack("!qi", 0, -19_800), "00:00:00+05:30"),
    (1186, struct.pack("!qii", -1_000_000, 2, 14), "14 mons 2 days -00:00:01"),
    (2950, bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"), (3802, b"\x01{}", "{}"), (114, b"[1]", "[1]"),
    (869, b"\x02\x20\x00\x04\x0a\x00\x00\x01", "10.0.0.1"), (869, b"\x02\x18\x00\x04\x0a\x00\x00\x00", "10.0.0.0/24"),
    (650, b"\x02\x20\x01\x04\x0a\x00\x00\x01", "10.0.0.1/32"),
    (1007, struct.pack("!iiIiiiii", 1, 0, 23, 2, 1, 4, 7, -1), "{7,NULL}"), (1009, struct.pack("!iiI", 0, 0, 25), "{}"),
    (1009, struct.pack("!iiIiii", 1, 0, 25, 1, 1, 4) + b'a"b,', '{"a\\"b,"}'),
]


@pytest.mark.parametrize(("oid", "data", "text"), BINARY)
def test_binary_values(oid: int, data: bytes, text: str) -> None:
    assert decode(oid, 1, data) == text


@pytest.mark.parametrize("oid", [16, 20, 21, 23, 700, 701, 1082, 1114, 1186, 1700, 2950, 3802, 869, 1007, 600, 0])
@pytest.mark.parametrize("data", [b"", b"\x07", b"\xff" * 40])
def test_nonsense_stays_raw(oid: int, data: bytes) -> None:
    assert decode(oid, 1, data) == Raw(oid, "\\x" + data.hex())


def test_text_values() -> None:
    assert decode(23, 0, b"42") == "42"
    assert decode(25, 0, b"\xff") == Raw(25, "\\xff")
    assert decode(23, 1, None) is None


def test_bind_and_its_formats() -> None:
    values = [b"1", None, b"\x00\x00\x00\x07"]
    body = bind_body(values, portal="p", statement="s", formats=(0, 0, 1), result_formats=(1,))
    bind = parse_bind(body)
    assert (bind.portal, bind.statement, bind.result_formats) == ("p", "s", (1,))
    assert decode_parameters((23, 25, 23), bind.formats, bind.values) == ("1", None, "7")
    assert decode_parameters((), (1,), (b"\x00\x07",)) == (Raw(0, "\\x0007"),)
    assert decode_parameters((21, 21), (1,), (b"\x00\x07", b"\x00\x08")) == ("7", "8")


@pytest.mark.parametrize("cut", range(1, 20))
def test_bind_cut_short_is_refused(cut: int) -> None:
    body = bind_body([b"12345"], portal="p", statement="s")
    with pytest.raises(ValueError, match="Bind message"):
        parse_bind(body[:-cut])


def test_types() -> None:
    assert type_oids(struct.pack("!II", 23, 25)) == (23, 25)
    assert type_oids(b"") == ()


def test_results_text_and_binary() -> None:
    frames = row_description(("id", 23, 1), ("name", 25, 0))
    frames += data_row(b"\x00\x00\x00\x05", b"x") + data_row(None, None)
    columns = (Column("id", 23), Column("name", 25))
    assert decode_results(frames) == (Results(columns, (("5", "x"), (None, None))),)


def test_results_without_description_use_the_binds_formats() -> None:
    assert decode_results(data_row(b"a", b"\x01"), (0, 1)) == (Results((), (("a", Raw(0, "\\x01")),)),)


def test_results_of_several_statements_and_copy() -> None:
    frames = row_description(("a", 25, 0)) + data_row(b"1") + row_description(("b", 25, 0)) + data_row(b"2")
    assert [r.rows for r in decode_results(frames)] == [(("1",),), (("2",),)]
    copied = b"d" + struct.pack("!I", 8) + b"1\t2\n" + b"d" + struct.pack("!I", 8) + b"3\t4\n"
    assert decode_results(copied) == (Results(copy="1\t2\n3\t4\n"),)


def test_results_cut_short_say_so() -> None:
    frames = row_description(("a", 25, 0)) + data_row(b"1") + data_row(b"22")
    (result,) = decode_results(frames[:-1])
    assert result.rows == (("1",),)
    assert result.truncated


def test_error_fields() -> None:
    assert decode_error(error_body("42P01", "no such table")) == {
        "severity_local": "ERROR", "severity": "ERROR", "sqlstate": "42P01", "message": "no such table"}
