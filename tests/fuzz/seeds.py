"""Where each target begins: conversations and values written by hand, words for the dictionary, calls into Python."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hoopfast import model
from tests.support import wire
from tests.support.relay import READY, complete, error, row, row_description

TARGETS = ("relay", "mask", "copy", "frames", "decoder", "startup", "login")
# Kinds of operations, in the order of relay_target.pyx.
(
    CLIENT_FRAME, SERVER_FRAME, CLIENT, SERVER, DECIDE, PROBE, CANCEL, CANCEL_DONE, KILL, NOTICE, NOTE, SET_CONTEXT,
    CLIENT_END, SERVER_END, CLIENT_TAKES, SERVER_TAKES, TIME, JOURNAL_FULL, JOURNAL_SEGMENT, SECRET_ROW, SECRET_ERROR,
) = range(21)
PARSED, BOUND, CLOSED, NO_DATA = (frame + b"\0\0\0\4" for frame in (b"1", b"2", b"3", b"n"))
ALLOW, DENY, ASK = (bytes([action, 0, 0, 1]) for action in (model.ACTION_ALLOW, model.ACTION_DENY, model.ACTION_ASK))
TOUCHED = bytes([model.ACTION_ALLOW, model.FLAG_TOUCHED, 1, 1])
CUSTOMERS = row_description(("id", 500, 1, 23, 0), ("ssn", 500, 2, 25, 0), ("card", 500, 3, 25, 0))
PLAIN, MASKED = b"\0", b"\1"
EXTENDED = b"".join((
    wire.parse("select 1", "s"), wire.bind([b"1"], name="s"), wire.describe_portal(), wire.execute(), wire.SYNC,
))


def op(kind: int, data: bytes = b"", *, more: bool = False) -> bytes:
    return bytes([kind | (0x80 if more else 0)]) + struct.pack("<H", len(data)) + data


def frames(kind: int, data: bytes) -> bytes:
    """Each frame of `data` as an operation of its own."""
    found, at = b"", 0
    while at < len(data):
        size = struct.unpack_from("!I", data, at + 1)[0] + 1
        found += op(kind, data[at : at + 1] + data[at + 5 : at + size])
        at += size
    return found


def client(data: bytes) -> bytes:
    return frames(CLIENT_FRAME, data)


def server(data: bytes) -> bytes:
    return frames(SERVER_FRAME, data)


def relay() -> list[bytes]:
    asked = op(DECIDE, ALLOW)
    rows = CUSTOMERS + row(b"1", b"078-05-1120", b"4111") + row(b"2", None, b"1") + complete("SELECT 2") + READY
    denied = error("42601", "syntax error") + READY
    query = client(wire.query("select * from t"))
    return [
        PLAIN + query + asked + server(row_description(("a", 0, 0, 23, 0)) + row(b"1") + complete("SELECT 1") + READY),
        PLAIN + query + op(DECIDE, DENY) + server(denied) + client(wire.TERMINATE),
        PLAIN + op(CLIENT, wire.query("select 1")[:7]) + op(CLIENT, wire.query("select 1")[7:]) + asked,
        PLAIN + client(EXTENDED) + asked + server(PARSED + BOUND + NO_DATA + complete("DELETE 1") + READY),
        PLAIN + client(EXTENDED) + op(DECIDE, DENY) + server(denied),
        PLAIN + client(EXTENDED) + op(DECIDE, ASK) + op(DECIDE, ALLOW) + op(NOTICE, b"\1") + server(PARSED + BOUND),
        PLAIN + client(EXTENDED) + op(PROBE) + server(PARSED + b"t\0\0\0\6\0\0" + NO_DATA + CLOSED + READY) + asked,
        PLAIN + query + op(PROBE) + server(error("42P01", "no such table") + READY) + op(DECIDE, DENY) + server(denied),
        PLAIN + query + asked + op(CLIENT_TAKES, b"\1") + server(rows) + op(TIME, b"\x7f") + op(CLIENT_TAKES, b"\0"),
        PLAIN + query + asked + op(CANCEL) + op(CANCEL_DONE) + server(error("57014", "canceled") + READY),
        PLAIN + query + asked + server(b"G\0\0\0\7\0\0\0") + client(wire.frame("d", b"1\t2\n") + wire.frame("c"))
        + server(complete("COPY 1") + READY),
        PLAIN + client(wire.frame("c") + wire.frame("f", b"no\0") + wire.FLUSH) + op(KILL, b"\1") + op(SERVER_END),
        PLAIN + client(wire.frame("F", struct.pack("!IHHIH", 42, 0, 1, 0xFFFFFFFF, 0))) + asked
        + server(wire.frame("V", struct.pack("!i", -1)) + READY),
        PLAIN + query + op(CLIENT_END) + op(DECIDE, ALLOW),
        PLAIN + op(JOURNAL_FULL) + query + asked + op(JOURNAL_SEGMENT) + server(complete("SELECT 0") + READY),
        PLAIN + server(wire.frame("S", b"client_encoding\0SJIS\0") + wire.frame("A", b"\0\0\0\1c\0p\0")),
        MASKED + query + op(DECIDE, TOUCHED) + op(SECRET_ROW) + server(complete("SELECT 1") + READY),
        MASKED + query + op(DECIDE, TOUCHED) + op(SECRET_ERROR) + server(READY) + op(SET_CONTEXT, b"\0"),
        MASKED + query + op(DECIDE, TOUCHED) + server(rows),
        MASKED + client(wire.parse("select * from c", "s") + wire.bind(name="s", result_formats=[0, 1]) + wire.execute()
                        + wire.SYNC) + op(DECIDE, TOUCHED)
        + server(PARSED + BOUND + CUSTOMERS + row(b"1", b"x", b"y") + complete("SELECT 1") + READY),
        MASKED + client(wire.parse("select * from c", "s") + wire.describe_statement("s") + wire.SYNC)
        + op(DECIDE, TOUCHED) + server(PARSED + b"t\0\0\0\6\0\0" + CUSTOMERS + READY)
        + client(wire.bind(name="s") + wire.execute(limit=1) + wire.close_statement("s") + wire.SYNC)
        + server(BOUND + row(b"1", b"x", b"y") + b"s\0\0\0\4" + CLOSED + READY),
        MASKED + query + op(DECIDE, bytes([1, model.FLAG_TOUCHED | model.FLAG_COPY_OUT, 0, 0]) + copy_plan(0))
        + server(b"H\0\0\0\x0b\0\0\2\0\0\0\0" + wire.frame("d", b"1\tsecret\n") + wire.frame("c") + complete("COPY 1")
                 + READY),
    ]


def copy_plan(form: int, *, header: bool = False, null: bytes = b"\\N") -> bytes:
    """Text, CSV or binary; two columns, the second masked."""
    marks = {0: b"\t\0\0", 1: b',""', 2: b"\0\0\0"}[form]
    null = b"" if form else null
    return (
        bytes([0xC1, form, header]) + marks + struct.pack("<HHH", len(null), 2, 0)
        + struct.pack("<iIiiIi", -1, 23, -1, 0, 25, -1) + null
    )


def copy() -> list[bytes]:
    binary = b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 0, 0) + struct.pack("!HiIi3s", 2, 4, 1, 3, b"abc")
    return [
        op(0, copy_plan(0)) + op(0, b"1\tsecret\n") + op(0, b"2\t\\N\n") + op(0, b"3\ta\\tb\\\\c\n"),
        op(0, copy_plan(0, header=True)) + op(0, b"id\tssn\n") + op(0, b"1\tx\n"),
        op(0, copy_plan(1)) + op(0, b'1,"a ""quoted"" one"\n') + op(0, b"2,\n") + op(0, b'3,"two\nlines"\n'),
        op(0, copy_plan(2)) + op(0, binary) + op(0, struct.pack("!Hii", 2, -1, -1)) + op(0, b"\xff\xff"),
    ]


VALUES = (
    b"", b"abc", b"t", b"-12", b"9223372036854775807", b"3.25", b"NaN", b"1e400", b"canary@example.org", b"\\x00ff",
    b"2001-02-03", b"12:00:00+02", b"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", b"{1,2,NULL}", b'{"a": [1, 2]}',
    b"\xc3\xa9", bytes(4), bytes(8), bytes(16), struct.pack("!hhhhh", 1, 0, 0, 2, 25),
    struct.pack("!iiiii", 1, 0, 23, 1, 1),
    b"192.168.1.7/24", b"08:00:2b:01:02:03", b"2001-02-03 04:05:06.7+02", b"[1,20)",
    b'{[2001-02-03,2002-03-04),["2003-01-01",)}', b'{a,"b \\" c",NULL}', b'("a ""b",happy,"{1,2}",x,"{""k"": 1}")',
    b'{"(a,happy,\\"{1}\\",,)"}', b'["\\u00e9\\ud83d\\ude00", {"k": -1.5e3, "ok": true}, null]', b"4539 1488 0343 6467",
    struct.pack("!IIiIi", 2, 25, 2, 20000, -1),
)
KINDS = ((1, b""), (2, b""), (3, b""), (4, b""), (5, b"+00"), (6, b"1000"), (7, b""), (8, b""))


def mask() -> list[bytes]:
    return [
        bytes([kind, 0 if kind > 5 else 2, (index * 5 + kind) % 48, form, len(constant)]) + constant + value
        for index, value in enumerate(VALUES) for kind, constant in KINDS for form in (0, 1)
    ]


def scanned() -> list[bytes]:
    both = ((b"\1", EXTENDED + wire.query("select 1")), (b"\0", CUSTOMERS + row(b"1", b"x", b"y") + READY))
    return [mark + data for mark, data in both] + [b"\0" + CUSTOMERS[5:]]


def records() -> list[bytes]:
    """Records of a journal: the first byte of an operation is kind, sequence and session (python_targets.pyx)."""
    label, types = b'{"verdict":"allow"}', struct.pack("!I", 23)
    definition = struct.pack("<QI", 1, len(label)) + label + struct.pack("<I", len(types)) + types + b"select $1"
    query = op(3, struct.pack("<Q", 1))
    call = struct.pack("<Q", 1) + struct.pack("!IHHIH", 42, 0, 1, 0xFFFFFFFF, 0)
    outcome = struct.pack("<QQQQqBBH", 1, 1, 30, 0, 1000, ord("C"), ord("I"), 8) + b"SELECT 1"
    failed = outcome[:40] + b"E" + outcome[41:] + error("22012", "division by zero")[5:]
    bound = struct.pack("<Q", 1) + wire.bind([b"5", None], formats=[0, 1], result_formats=[0])[5:]
    start = b'{"session":"1","user":"a@b.c","connection":"shop"}'
    result = struct.pack("<Q", 1) + CUSTOMERS + row(b"1", b"x", None)
    return [
        op(1, start) + op(2, definition) + query + op(9, result) + op(8, outcome) + op(10, b"\6client"),
        op(2, definition) + op(4, struct.pack("<Q", 1) + b"s\0") + op(5, bound)
        + op(6, struct.pack("<QQI", 1, 1, 0) + b"\0") + op(9, result) + op(8, outcome),
        op(2, definition) + op(7, call) + op(8, failed),
        op(3, struct.pack("<Q", 9)) + op(8, failed) + op(11, b'{"kind":"approval_opened"}'),
    ]


def packets() -> list[bytes]:
    whole = wire.startup(user="alice", database="shop", application_name="psql", options="-c search_path=a\\ b")
    return [
        whole[4:], wire.startup(wire.PROTOCOL_3_2, user="a", **{"_pq_.x": "1"})[4:], wire.SSL_REQUEST[4:],
        wire.cancel_request(1, b"1234")[4:], wire.startup(user="a", replication="database")[4:],
    ]


def answers() -> list[bytes]:
    """The first byte says which message of a server's login it is."""
    return [
        b"E" + error("28P01", "no")[5:], b"T" + CUSTOMERS[5:], b"S" + b"server_version\0" + b"18\0",
        b"K" + struct.pack("!I", 7) + b"1234", b"v" + struct.pack("!II", 0, 1) + b"_pq_.x\0",
        b"R" + struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0", b"R\0\0\0\0", b"p" + b"secret\0",
    ]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "relay": relay, "mask": mask, "copy": copy, "frames": scanned, "decoder": records, "startup": packets,
    "login": answers,
}

_COMMON = (b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4))
WORDS: dict[str, tuple[bytes, ...]] = {
    "relay": (
        b"client_encoding\0", b"standard_conforming_strings\0on\0", b"UTF8\0", b"SFATAL\0", b"VFATAL\0", b"C57014\0",
        b"\0\0\x01\xf4\0\2", b"hoopfast_probe\0", b"SELECT 1\0", PARSED, BOUND, CLOSED, READY, NO_DATA,
        wire.SYNC, *_COMMON,
    ),
    "mask": (b"{", b"}", b"NULL", b"@", b"-", b"e", b"Infinity", b"NaN", b"\xc3\xa9", b"\xf0\x9f\x98\x80", *_COMMON),
    "copy": (b"\\N", b"\\.", b"\n", b"\r", b'""', b",", b"\t", b"\\", b"PGCOPY\n\xff\r\n\0", *_COMMON),
    "frames": _COMMON,
    "decoder": (b"\xc3", b"\xed\xa0\x80", b'"', b"\\u0000", b"C22012\0", *_COMMON),
    "startup": (b"user\0", b"options\0", b"replication\0", b"_pq_.", b"-c ", b"--", b"\\", b"=", *_COMMON),
    "login": (b"SCRAM-SHA-256\0", b"C", b"V", b"M", b"\0\0", *_COMMON),
}


def python_call(target: str, fuzz: Any) -> tuple[Callable[[bytes], object] | None, tuple[type[BaseException], ...]]:
    """What a Python target calls, and which exceptions are its answer. `fuzz` is the built module."""
    from hoopfast.errors import GatewayError
    from hoopfast.protocol import messages, startup

    if target == "decoder":
        return _decoder(fuzz), ()
    if target == "startup":
        # Shorter ones are refused by their length already.
        return lambda data: startup.parse_packet(data) if len(data) >= 4 else None, (GatewayError,)
    if target == "login":
        readers: dict[bytes, Callable[[bytes], object]] = {
            b"E": messages.parse_fields, b"T": messages.parse_row_description, b"S": messages.parse_parameter_status,
            b"K": messages.parse_backend_key_data, b"v": messages.parse_negotiate_protocol_version,
            b"R": messages.parse_authentication, b"p": messages.parse_password,
        }
        return lambda data: readers.get(data[:1], messages.parse_fields)(data[1:]), (GatewayError, ValueError)
    return None, ()


def _decoder(fuzz: Any) -> Callable[[bytes], object]:
    """Journal records through the decoder, one by one and as a segment; every event must be a line of JSON."""
    import orjson

    from hoopfast.audit.builder import Rare
    from hoopfast.audit.events import encode

    def lines(decoder: Any) -> list[bytes]:
        decoder.flush(2)
        found = [item.line() if isinstance(item, fuzz.Finished) else encode(item) for item in decoder.out]
        for line in found:
            orjson.loads(line)
        return found

    def fresh() -> Any:
        rare = Rare(1, 1)
        rare.core = fuzz.Decoder(rare)
        return rare.core

    def call(script: bytes) -> None:
        decoder = fresh()
        for kind, session, seq, payload in fuzz.records_of(script):
            decoder.take(kind, session, seq, 1, payload, 0)
        lines(decoder)
        data = fuzz.segment_of(script)
        decoder = fresh()
        decoder.read(data, 0, 0, len(data), 1000)
        decoder.read(script, 0, 0, len(script), 1000)
        lines(decoder)

    return call
