"""First packets: what PostgreSQL accepts and refuses, with its SQLSTATEs."""

from __future__ import annotations

import struct

import pytest

from hoopfast import limits
from hoopfast.errors import ClientFault
from hoopfast.protocol import messages, startup


def packet(*pairs: str, version: int = messages.PROTOCOL_3_0, tail: bytes = b"\x00") -> bytes:
    return struct.pack("!I", version) + b"".join(p.encode() + b"\x00" for p in pairs) + tail


def parse(*pairs: str, version: int = messages.PROTOCOL_3_0) -> startup.StartupRequest:
    request = startup.parse_packet(packet(*pairs, version=version))
    assert isinstance(request, startup.StartupRequest)
    return request


def refusal(body: bytes) -> ClientFault:
    with pytest.raises(ClientFault) as caught:
        startup.parse_packet(body)
    assert caught.value.fatal
    return caught.value


def test_plain_startup() -> None:
    request = parse("user", "ana", "database", "orders", "DateStyle", "ISO", "search_path", "")
    assert request == startup.StartupRequest("ana", "orders", {"datestyle": "ISO", "search_path": ""}, 0, False, ())


@pytest.mark.parametrize("pairs", [("user", "ana"), ("user", "ana", "database", "")])
def test_database_defaults_to_user(pairs: tuple[str, ...]) -> None:
    assert parse(*pairs).database == "ana"


@pytest.mark.parametrize("pairs", [(), ("database", "x"), ("user", "")])
def test_user_is_needed(pairs: tuple[str, ...]) -> None:
    assert refusal(packet(*pairs)).sqlstate == "28000"


@pytest.mark.parametrize("tail", [b"", b"\x00\x00", b"\x00junk", b"key\x00", b"key", b"key\x00value"])
def test_layout_faults(tail: bytes) -> None:
    assert refusal(packet("user", "ana", tail=tail)).sqlstate == "08P01"


@pytest.mark.parametrize("length", [0, 4, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, limits.STARTUP_PACKET_MAX_BYTES + 1])
def test_lengths_that_cannot_be(length: int) -> None:
    with pytest.raises(ClientFault) as caught:
        startup.packet_length(struct.pack("!I", length))
    assert caught.value.sqlstate == "08P01"


def test_leaving_instead_of_logging_in_is_not_answered() -> None:
    """node-postgres, closed before it was connected, sends its Terminate first; PostgreSQL says nothing to it."""
    with pytest.raises(startup.Unanswered):
        startup.packet_length(messages.TERMINATE[:4])


def test_lengths_that_can_be() -> None:
    assert startup.packet_length(struct.pack("!I", 8)) == 4
    assert startup.packet_length(struct.pack("!I", limits.STARTUP_PACKET_MAX_BYTES)) == 9996


@pytest.mark.parametrize(
    ("version", "minor", "negotiate"),
    [(0x30000, 0, False), (0x30001, 0, True), (0x30002, 2, False), (0x30003, 2, True), (0x30000 | 9999, 2, True)],
)
def test_minor_versions(version: int, minor: int, negotiate: bool) -> None:
    request = parse("user", "ana", version=version)
    assert (request.minor, request.negotiate) == (minor, negotiate)


def test_protocol_options_are_echoed_even_at_3_0() -> None:
    request = parse("user", "ana", "_pq_.test_protocol_negotiation", "", "_pq_.x", "1")
    assert request.negotiate
    assert request.minor == 0
    assert request.unknown == ("_pq_.test_protocol_negotiation", "_pq_.x")
    assert not request.parameters


@pytest.mark.parametrize(("major", "legacy"), [(0, True), (1, True), (2, True), (4, False), (0xFFFF, False)])
def test_other_majors(major: int, legacy: bool) -> None:
    fault = refusal(packet("user", "ana", version=major << 16))
    assert isinstance(fault, startup.UnsupportedProtocol)
    assert fault.sqlstate == "0A000"
    frame = fault.frame()
    if legacy:
        assert frame.startswith(b"EFATAL:  unsupported frontend protocol")
        assert frame.endswith(b"\n\x00")
    else:
        [(kind, body)] = messages.iter_frames(frame)
        assert kind == b"E"
        assert messages.parse_fields(body)["C"] == "0A000"


def test_encryption_requests() -> None:
    assert isinstance(startup.parse_packet(messages.SSL_REQUEST[4:]), startup.SslRequest)
    assert isinstance(startup.parse_packet(struct.pack("!I", messages.GSSENC_REQUEST_CODE)), startup.GssRequest)
    assert refusal(messages.SSL_REQUEST[4:] + b"x").sqlstate == "08P01"


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel(size: int) -> None:
    secret = bytes(range(size % 256)) or b"z" * 256
    assert startup.parse_packet(messages.cancel_request(77, secret)[4:]) == startup.CancelRequest(77, secret)


@pytest.mark.parametrize("size", [0, 1, 3, 257])
def test_cancel_of_a_wrong_size_is_not_answered(size: int) -> None:
    with pytest.raises(startup.Unanswered):
        startup.parse_packet(messages.cancel_request(77, b"s" * size)[4:])


@pytest.mark.parametrize("size", [64, 1024, 9000])
def test_long_database_names(size: int) -> None:
    assert parse("user", "ana", "database", "d" * size).database == "d" * size


@pytest.mark.parametrize("user", ["u" * 63, "u" * 128, "o'neill", 'a"b', "a\\b", "a%b", "a@b.c", "é ü", "a\x01b"])
def test_user_names_arrive_as_they_are(user: str) -> None:
    assert parse("user", user).user == user


def test_not_utf8() -> None:
    assert refusal(struct.pack("!I", messages.PROTOCOL_3_0) + b"user\x00\xff\x00\x00").sqlstate == "22021"


@pytest.mark.parametrize(
    ("value", "code"),
    [("true", "0A000"), ("on", "0A000"), ("1", "0A000"), ("DATABASE", "0A000"), ("maybe", "22023"), ("false", ""),
     ("", "")],
)
def test_replication(value: str, code: str) -> None:
    body = packet("user", "ana", "replication", value)
    if code:
        assert refusal(body).sqlstate == code
    else:
        assert not parse("user", "ana", "replication", value).parameters


@pytest.mark.parametrize("name", ["USER", "Replication", "DATABASE", "Options", "_PQ_.x"])
def test_reserved_names_in_another_case_do_not_slip_through(name: str) -> None:
    assert refusal(packet("user", "ana", name, "x")).sqlstate == "42704"
    assert refusal(packet("user", "ana", "options", f"-c {name}=x")).sqlstate == "42704"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("-c a=b", {"a": "b"}),
        ("-ca=b", {"a": "b"}),
        ("--a=b", {"a": "b"}),
        ("  -c   a=b\t--search-path=x,y  ", {"a": "b", "search_path": "x,y"}),
        (r"-c a=b\ c", {"a": "b c"}),
        (r"-c a=b\\c", {"a": "b\\c"}),
        ("-c a=b=c -c a=d", {"a": "d"}),
        ("-c a=", {"a": ""}),
        ("-c a=b+c%20d", {"a": "b+c%20d"}),
        ("-c a='q\"", {"a": "'q\""}),
        ("-c A=b\\", {"a": "b"}),
        ("", {}),
    ],
)
def test_options(text: str, settings: dict[str, str]) -> None:
    assert startup.parse_options(text) == settings


@pytest.mark.parametrize("text", ["-x", "a=b", "-c", "-c a", "-c =b", "--a", "--", "-", "-B 100", "-W 9"])
def test_options_that_are_none(text: str) -> None:
    with pytest.raises(ClientFault) as caught:
        startup.parse_options(text)
    assert caught.value.sqlstate == "42601"


def test_own_parameter_overrides_options() -> None:
    assert parse("user", "a", "options", "-c timezone=UTC -c x=1", "TimeZone", "CET").parameters == {
        "timezone": "CET", "x": "1",
    }
