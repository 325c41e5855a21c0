"""Messages that are none, and lengths that cannot be. What they cost is the client's own session, or one error."""

from __future__ import annotations

import struct

from tests.support.dual import READY, End, Scenario, Until
from tests.support.wire import COPY_DONE, FLUSH, SYNC, bind, copy_data, execute, frame, parse, query


def headed(kind: bytes, length: int, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", length & 0xFFFFFFFF) + body


CONTEXT = "where columns are masked the gateway reads Bind itself, and adds no context"
NO_CALLS = "function calls cannot be analysed"
GOOD = (run := parse("SELECT 1") + bind() + execute()) + SYNC

# Each is answered by an ERROR, and the session lives.
SCENARIOS = (
    Scenario("query without terminator", (frame("Q", b"SELECT 1"), READY, GOOD, READY), (20,)),
    Scenario("query without body", (frame("Q"), READY, GOOD, READY), (20,)),
    Scenario("query with bytes behind its text", (frame("Q", b"SELECT 1\0x"), READY, GOOD, READY), (20,)),
    Scenario("malformed query in a transaction", (
        query("BEGIN"), READY, frame("Q"), READY, query("SELECT 1"), READY, query("ROLLBACK"), READY), (20, 84)),
    Scenario("parse without body", (frame("P"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("parse without text", (frame("P", b"s\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("parse without count of types", (frame("P", b"\0SELECT 1\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("parse with too few types", (frame("P", b"\0SELECT 1\0\0\2\0\0\0\x17"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("parse with bytes behind", (frame("P", b"\0SELECT 1\0\0\0x"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("bind without body", (run, frame("B"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("bind without statement", (parse("SELECT 1"), frame("B", b"p\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("bind without counts", (parse("SELECT 1"), frame("B", b"\0\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("bind with fewer values than it says", (
        parse("SELECT $1::int"), frame("B", b"\0\0\0\0\0\1"), SYNC, READY, GOOD, READY), (20,), open_only=CONTEXT),
    Scenario("bind with a value longer than the message", (
        parse("SELECT $1::text"), frame("B", b"\0\0\0\0\0\1\0\0\0\x09abc\0\0"), SYNC, READY, GOOD, READY), (20,),
        open_only=CONTEXT),
    Scenario("bind with a negative length", (
        parse("SELECT $1::text"), frame("B", b"\0\0\0\0\0\1\xff\xff\xff\xfeabc\0\0"), SYNC, READY, GOOD, READY), (20,),
        open_only=CONTEXT),
    Scenario("bind without result formats", (
        parse("SELECT $1::int"), frame("B", b"\0\0\0\0\0\1\0\0\0\x011"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("bind with bytes behind", (
        parse("SELECT 1"), bind()[:1] + headed(b"", 13) + bind()[5:] + b"x", SYNC, READY), (20,)),
    Scenario("describe without body", (frame("D"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("describe of what is no kind", (frame("D", b"X\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("describe without terminator", (frame("D", b"Sabc"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("describe with bytes behind", (frame("D", b"S\0x"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("execute without body", (frame("E"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("execute without limit", (frame("E", b"\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("execute with bytes behind", (run, frame("E", b"\0\0\0\0\0x"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("close without body", (frame("C"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("close of what is no kind", (frame("C", b"X\0"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("close with bytes behind", (frame("C", b"S\0x"), SYNC, READY, GOOD, READY), (20,)),
    Scenario("flush with a body", (parse("SELECT 1"), frame("H", b"x"), bind(), SYNC, READY, GOOD, READY), (20,)),
    Scenario("sync with a body", (run, frame("S", b"x"), READY, GOOD, READY), (20,)),
    Scenario("sync with a body after an error", (parse("SELECT nothing"), frame("S", b"x"), READY, GOOD, READY), (20,)),
    Scenario("copy done with a body, without a copy", (frame("c", b"x"), query("SELECT 1"), READY), (20,)),
    Scenario("copy done with a body", (
        query("COPY arrivals FROM STDIN"), Until("G"), copy_data(b"1\tx\n"), frame("c", b"x"), READY), (20,)),
    Scenario("copy fail without terminator", (
        query("COPY arrivals FROM STDIN"), Until("G"), frame("f", b"x"), READY, GOOD, READY), (20,)),
    Scenario("copy fail with bytes behind", (
        query("COPY arrivals FROM STDIN"), Until("G"), frame("f", b"x\0y"), READY, GOOD, READY), (20,)),
    Scenario("copy done after malformed parse", (frame("P"), COPY_DONE, FLUSH, SYNC, READY), (20,)),
    Scenario("function call without body", (frame("F"), READY, GOOD, READY), (20, 81)),
    Scenario("function call cut short", (
        frame("F", b"\0\0\0\xb1\0\0\0\2\0\0\0\1"), READY, GOOD, READY), (20, 81), open_only=NO_CALLS),
    Scenario("function call with bytes behind", (
        frame("F", b"\0\0\0\xb1\0\0\0\2\0\0\0\0012\0\0\0\0013\0\0x"), READY, GOOD, READY), (20, 81),
        open_only=NO_CALLS),
    Scenario("terminate with a body", (query("SELECT 1"), READY, frame("X", b"xyz"), End.STAYS), (20,)),
    Scenario("malformed messages one after the other", (
        frame("P"), frame("B"), frame("D"), frame("E"), frame("C"), SYNC, frame("Q"), GOOD, Until("Z", 3)), (20,)),
)

# Each ends the session. The server has nothing to say to impossible lengths; the gateway gives the reason.
FATAL = (
    Scenario("unknown message type", (query("SELECT 1"), READY, headed(b"\xfe", 8, b"1234"), End.STAYS), (113,)),
    Scenario("message type NUL", (headed(b"\0", 4), End.STAYS), (113,)),
    Scenario("message type of the server", (headed(b"Z", 5, b"I"), End.STAYS), (113,)),
    Scenario("a password after the login", (frame("p", b"secret\0"), End.STAYS), (13, 113)),
    Scenario("a second startup packet", (struct.pack("!II", 8, 196608), End.STAYS), (13,)),
    Scenario("http", (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", End.STAYS), (113,)),
    Scenario("unknown message type in a pipeline", (run, headed(b"y", 4), SYNC, End.STAYS), (113,)),
    Scenario("unknown message type after an error", (
        parse("SELECT nothing"), FLUSH, Until("E"), headed(b"y", 4), SYNC, End.STAYS), (113,)),
)
SILENT = (
    Scenario("length of 3", (query("SELECT 1"), READY, headed(b"Q", 3, b"x" * 8), End.STAYS), (20,)),
    Scenario("length of 0", (headed(b"P", 0, b"x" * 8), End.STAYS), (20,)),
    Scenario("negative length", (headed(b"Q", -1, b"x" * 8), End.STAYS), (20,)),
    Scenario("length of 2 GB less one byte", (headed(b"B", 0x7FFFFFFF, b"x" * 8), End.STAYS), (20,)),
    Scenario("sync of 2 GB", (headed(b"S", 0x70000000), End.STAYS), (20,)),
    Scenario("sync of 10 kB and a bit", (headed(b"S", 10_001), End.STAYS), (20,)),
    Scenario("describe of a megabyte", (headed(b"D", 1 << 20), End.STAYS), (20,)),
    Scenario("execute of a megabyte", (headed(b"E", 1 << 20), End.STAYS), (20,)),
    Scenario("copy fail of a megabyte", (headed(b"f", 1 << 20), End.STAYS), (20,)),
)
