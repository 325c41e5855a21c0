"""Builders and parsers of messages agree with each other and refuse bytes that cannot be."""

from __future__ import annotations

import struct

import pytest

from hoopfast.protocol import messages


def test_error_response_carries_both_severities_and_every_field() -> None:
    data = messages.error_response("FATAL", "42501", "no", detail="why", hint="what next", position=7)
    [(kind, body)] = messages.iter_frames(data)
    assert kind == b"E"
    assert messages.parse_fields(body) == {
        "S": "FATAL", "V": "FATAL", "C": "42501", "M": "no", "D": "why", "H": "what next", "P": "7",
    }
    assert body.endswith(b"\x00\x00")


def test_error_leaves_out_what_is_empty_and_survives_a_nul_in_its_text() -> None:
    [(_, body)] = messages.iter_frames(messages.error_response("ERROR", "XX000", "a\x00b"))
    assert messages.parse_fields(body) == {"S": "ERROR", "V": "ERROR", "C": "XX000", "M": "a\\0b"}


@pytest.mark.parametrize("code", ["", "4250", "425011", "42 01", "4250\x00"])
def test_error_needs_a_sqlstate(code: str) -> None:
    with pytest.raises(ValueError):
        messages.error_response("ERROR", code, "x")


def test_notice_differs_by_type_only() -> None:
    notice = messages.notice_response("NOTICE", "00000", "held")
    assert notice[:1] == b"N"
    assert notice[1:] == messages.error_response("NOTICE", "00000", "held")[1:]


def test_login_messages_on_the_wire() -> None:
    assert messages.authentication_ok() == b"R\x00\x00\x00\x08\x00\x00\x00\x00"
    assert messages.authentication_cleartext() == b"R\x00\x00\x00\x08\x00\x00\x00\x03"
    assert messages.ready_for_query(b"T") == b"Z\x00\x00\x00\x05T"
    assert messages.backend_key_data(258, b"abcd") == b"K\x00\x00\x00\x0c\x00\x00\x01\x02abcd"
    assert messages.parameter_status("a", "b") == b"S\x00\x00\x00\x08a\x00b\x00"
    assert messages.password_message("pw") == b"p\x00\x00\x00\x07pw\x00"
    assert messages.cancel_request(1, b"abcd") == struct.pack("!IIII", 16, 80877102, 1, 0x61626364)
    with pytest.raises(ValueError):
        messages.ready_for_query(b"X")


def test_negotiation_names_the_whole_version() -> None:
    [(kind, body)] = messages.iter_frames(messages.negotiate_protocol_version(2, ["_pq_.a", "_pq_.b"]))
    assert kind == b"v"
    assert body[:4] == struct.pack("!HH", 3, 2)
    assert messages.parse_negotiate_protocol_version(body) == (2, ["_pq_.a", "_pq_.b"])
    [(_, none)] = messages.iter_frames(messages.negotiate_protocol_version(0, []))
    assert messages.parse_negotiate_protocol_version(none) == (0, [])


@pytest.mark.parametrize("body", [b"", b"\0\3\0\2\0\0\0\1", b"\0\3\0\2\0\0\0\0x\0", b"\0\3\0\2\xff\xff\xff\xffx\0"])
def test_negotiation_that_miscounts_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        messages.parse_negotiate_protocol_version(body)


def test_a_nul_cannot_smuggle_a_second_value() -> None:
    with pytest.raises(ValueError):
        messages.startup_message(messages.PROTOCOL_3_0, {"user": "a\x00database\x00b"})


def test_row_description_round_trip() -> None:
    one = b"id\x00" + struct.pack("!IhIhih", 16384, 1, 23, 4, -1, 0)
    two = b"?column?\x00" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 1)
    fields = messages.parse_row_description(b"\x00\x02" + one + two)
    assert fields[0] == ("id", 16384, 1, 23, 4, -1, 0)
    assert (fields[1].name, fields[1].table_oid, fields[1].size, fields[1].format) == ("?column?", 0, -1, 1)
    assert messages.parse_row_description(b"\x00\x00") == []
    for cut in range(len(one)):
        with pytest.raises(ValueError):
            messages.parse_row_description(b"\x00\x01" + one[:cut])
    with pytest.raises(ValueError):
        messages.parse_row_description(b"\x00\x01" + one + b"x")


@pytest.mark.parametrize("data", [b"Z", b"Z\0\0\0", b"Z\0\0\0\3", b"Z\0\0\0\6I", b"Z\xff\xff\xff\xffI"])
def test_frames_with_impossible_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(messages.iter_frames(data))


def test_password_is_exactly_one_string() -> None:
    assert messages.parse_password(b"secret\x00") == b"secret"
    assert messages.parse_password(b"\x00") == b""
    for body in (b"", b"secret", b"a\x00b\x00", b"a\x00b"):
        with pytest.raises(ValueError):
            messages.parse_password(body)


@pytest.mark.parametrize(("size", "fine"), [(3, False), (4, True), (32, True), (256, True), (257, False)])
def test_cancel_key_sizes(size: int, fine: bool) -> None:
    body = b"\0\0\0\7" + b"k" * size
    if fine:
        assert messages.parse_backend_key_data(body) == (7, b"k" * size)
    else:
        with pytest.raises(ValueError):
            messages.parse_backend_key_data(body)
