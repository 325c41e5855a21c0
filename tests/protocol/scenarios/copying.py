"""COPY in and out, in both protocols, with everything that can go wrong on the way."""

from __future__ import annotations

from tests.support.dual import READY, End, Scenario, Until
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    close_portal,
    copy_data,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    parse,
    query,
)

COPY_IN = "COPY arrivals FROM STDIN"
GOOD, MORE, BAD = copy_data(b"1\tone\n"), copy_data(b"2\ttwo\n"), copy_data(b"x\tthree\n")
OPEN = Until("G")
BINARY = (
    b"PGCOPY\n\xff\r\n\0" + b"\0\0\0\0" * 2 + b"\0\2" + b"\0\0\0\4" + b"\0\0\0\7" + b"\0\0\0\1" + b"x" + b"\xff\xff"
)


def run(sql: str) -> bytes:
    return parse(sql) + bind() + execute()


SCENARIOS = (
    Scenario("out", (query("COPY items TO STDOUT"), READY)),
    Scenario("out, csv with header", (query("COPY items TO STDOUT WITH (FORMAT csv, HEADER)"), READY)),
    Scenario("out, binary", (query("COPY items TO STDOUT WITH (FORMAT binary)"), READY)),
    Scenario("out, a query", (query("COPY (SELECT id, label FROM items ORDER BY id DESC) TO STDOUT"), READY)),
    Scenario("out, nothing", (query("COPY arrivals TO STDOUT"), READY)),
    Scenario("out, five thousand rows", (query("COPY (SELECT i, i FROM generate_series(1, 5000) i) TO STDOUT"), READY)),
    Scenario("out, a row of 200 kB", (query("COPY (SELECT repeat('x', 200000)) TO STDOUT"), READY)),
    Scenario("out, error after rows", (query("COPY (SELECT 1 / (5 - id) FROM items ORDER BY id) TO STDOUT"), READY)),
    Scenario("out, extended", (run("COPY items TO STDOUT"), SYNC, READY)),
    Scenario("out, extended, error after rows", (
        run("COPY (SELECT 1 / (5 - id) FROM items ORDER BY id) TO STDOUT"), SYNC, READY)),
    Scenario("out, extended, described", (
        parse("COPY items TO STDOUT"), describe_statement(), bind(), describe_portal(), execute(), SYNC, READY)),
    Scenario("out, extended, in a pipeline", (
        run("SELECT 1"), run("COPY items TO STDOUT"), run("SELECT 2"), SYNC, READY)),
    Scenario("out, extended, with a limit", (
        parse("COPY items TO STDOUT"), bind(), execute(limit=2), SYNC, READY)),
    Scenario("several in one query", (
        query("COPY items TO STDOUT; SELECT 1; COPY (SELECT 2) TO STDOUT"), READY), (93,)),
    Scenario("in and out in one query", (
        query("COPY arrivals FROM STDIN; COPY arrivals TO STDOUT"), OPEN, GOOD, COPY_DONE, READY), (93,)),
    Scenario("two in in one query", (
        query("COPY arrivals FROM STDIN; COPY arrivals FROM STDIN; SELECT 1"), OPEN, GOOD, COPY_DONE, OPEN, MORE,
        COPY_DONE,
        READY), (93,)),
    Scenario("two in in one query, the second fails", (
        query("COPY arrivals FROM STDIN; COPY arrivals FROM STDIN"), OPEN, GOOD, COPY_DONE, OPEN, copy_fail("no"),
        READY), (93,)),
    Scenario("table that does not exist", (query("COPY nowhere FROM STDIN"), READY)),
    Scenario("table that does not exist, data behind", (
        query("COPY nowhere FROM STDIN"), GOOD, COPY_DONE, READY, query("SELECT 1"), READY), (87,)),

    Scenario("in", (query(COPY_IN), OPEN, GOOD, MORE, COPY_DONE, READY)),
    Scenario("in, nothing", (query(COPY_IN), OPEN, COPY_DONE, READY)),
    Scenario("in, all in one write", (query(COPY_IN), GOOD, MORE, COPY_DONE, query("SELECT 1"), Until("Z", 2))),
    Scenario("in, a row over several messages, several rows in one", (
        query(COPY_IN), OPEN, copy_data(b"1\to"), copy_data(b"ne\n2"), copy_data(b"\t"),
        copy_data(b"two\n3\tthree\n4\tfour\n"),
        COPY_DONE, READY), (92,)),
    Scenario("in, empty messages", (
        query(COPY_IN), OPEN, copy_data(b""), GOOD, copy_data(b""), COPY_DONE, READY), (92,)),
    Scenario("in, no newline at the end", (query(COPY_IN), OPEN, copy_data(b"1\tone"), COPY_DONE, READY), (92,)),
    Scenario("in, end marker", (query(COPY_IN), OPEN, GOOD, copy_data(b"\\.\n"), COPY_DONE, READY), (92,)),
    Scenario("in, data behind the end marker", (
        query(COPY_IN), OPEN, GOOD, copy_data(b"\\.\n"), MORE, COPY_DONE, READY, query("SELECT 1"), READY), (92,)),
    Scenario("in, csv with quotes and newlines", (
        query("COPY arrivals FROM STDIN WITH (FORMAT csv)"), OPEN, copy_data(b'1,"a ""b"', ), copy_data(b'" \nc"\n'),
        COPY_DONE,
        READY), (92,)),
    Scenario("in, binary", (
        query("COPY arrivals FROM STDIN WITH (FORMAT binary)"), OPEN, copy_data(BINARY[:9]), copy_data(BINARY[9:]),
        COPY_DONE,
        READY), (92,)),
    Scenario("in, binary, bad header", (
        query("COPY arrivals FROM STDIN WITH (FORMAT binary)"), OPEN, copy_data(b"nonsense nonsense"), COPY_DONE,
        READY), (92,)),
    Scenario("in, 200 kB", (
        query(COPY_IN), OPEN, *(copy_data(b"%d\t%s\n" % (i, b"x" * 2000)) for i in range(1, 101)), COPY_DONE, READY),
        bulky=True),

    Scenario("in, bad row", (query(COPY_IN), OPEN, GOOD, BAD, READY, query("SELECT 1"), READY), (87,)),
    Scenario("in, bad row, then the client goes on", (
        query(COPY_IN), OPEN, BAD, Until("E"), GOOD, MORE, COPY_DONE, READY, query("SELECT 1"), READY), (87,)),
    Scenario("in, bad row, then the client fails it", (
        query(COPY_IN), OPEN, BAD, READY, copy_fail("too late"), query("SELECT 1"), READY), (87,)),
    Scenario("in, bad row, all in one write", (
        query(COPY_IN), GOOD, BAD, MORE, COPY_DONE, query("SELECT 1"), Until("Z", 2)), (87,)),
    Scenario("in, bad row at the end", (query(COPY_IN), OPEN, GOOD, BAD, COPY_DONE, READY), (87,)),
    Scenario("in, check violation", (
        query(COPY_IN), OPEN, GOOD, copy_data(b"-1\tx\n"), COPY_DONE, READY, query("SELECT 1"), READY), (87,)),
    Scenario("in, failed by the client", (query(COPY_IN), OPEN, GOOD, copy_fail("changed my mind"), READY), (89,)),
    Scenario("in, failed by the client, in a transaction", (
        query("BEGIN"), READY, query(COPY_IN), OPEN, GOOD, copy_fail("no"), READY, query("SELECT 1"), READY,
        query("ROLLBACK"),
        READY), (84, 89)),
    Scenario("in, flushes and syncs between", (
        query(COPY_IN), OPEN, FLUSH, GOOD, SYNC, MORE, FLUSH, SYNC, COPY_DONE, READY), (88,)),
    Scenario("in, a query between", (query(COPY_IN), OPEN, GOOD, query("SELECT 1"), End.STAYS), (87,)),
    Scenario("in, terminate", (query(COPY_IN), OPEN, GOOD, TERMINATE, End.STAYS), (89,)),
    Scenario("in, half close", (query(COPY_IN), OPEN, GOOD, End.HALF_CLOSE), (89,)),
    Scenario("in, closed", (query(COPY_IN), OPEN, GOOD, End.CLOSE), (89,)),
    Scenario("in, reset", (query(COPY_IN), OPEN, GOOD, End.RESET), (89,)),
    Scenario("in, closed in the middle of a message", (query(COPY_IN), OPEN, GOOD, MORE[:-2], End.CLOSE), (75, 89)),
    Scenario("out, closed at once", (
        query("COPY (SELECT i FROM generate_series(1, 100000) i) TO STDOUT"), End.CLOSE), (90,)),
    Scenario("out, reset in the middle", (
        query("COPY (SELECT i FROM generate_series(1, 100000) i) TO STDOUT"), Until("d", 10), End.RESET), (90,)),

    Scenario("in, extended", (run(COPY_IN), FLUSH, OPEN, GOOD, MORE, COPY_DONE, SYNC, READY), (88,)),
    Scenario("in, extended, as libpq does it", (run(COPY_IN), SYNC, OPEN, GOOD, COPY_DONE, SYNC, READY), (88,)),
    Scenario("in, extended, syncs before the data", (run(COPY_IN), SYNC * 3, GOOD, COPY_DONE, SYNC, READY), (88,)),
    Scenario("in, extended, all in one write", (
        run(COPY_IN), GOOD, COPY_DONE, SYNC, run("SELECT 1"), SYNC, Until("Z", 2)), (88,)),
    Scenario("in, extended, syncs between the data", (
        run(COPY_IN), FLUSH, OPEN, GOOD, SYNC, MORE, SYNC, COPY_DONE, SYNC, READY), (88,)),
    Scenario("in, extended, twice in one pipeline", (
        run(COPY_IN), GOOD, COPY_DONE, run("SELECT 1"), run(COPY_IN), MORE, COPY_DONE, SYNC, READY), (88,)),
    Scenario("in, extended, failed by the client", (
        run(COPY_IN), FLUSH, OPEN, GOOD, copy_fail("no"), Until("E"), SYNC, READY, run("SELECT 1"), SYNC, READY), (87,
        89)),
    Scenario("in, extended, bad row", (
        run(COPY_IN), FLUSH, OPEN, BAD, Until("E"), MORE, COPY_DONE, SYNC, READY, run("SELECT 1"), SYNC, READY), (87,)),
    Scenario("in, extended, bad row as libpq meets it", (
        run(COPY_IN), SYNC, OPEN, BAD, Until("E"), COPY_DONE, SYNC, READY, query("SELECT 1"), READY), (87, 88)),
    Scenario("in, extended, bad row, all in one write", (
        run(COPY_IN), GOOD, BAD, MORE, COPY_DONE, SYNC, run("SELECT 1"), SYNC, Until("Z", 2)), (87,)),
    Scenario("in, extended, bad row, sync before copy done", (
        run(COPY_IN), FLUSH, OPEN, GOOD, BAD, SYNC, COPY_DONE, SYNC, run("SELECT 1"), SYNC, Until("Z", 3)), (87, 88)),
    Scenario("in, extended, sync, bad row, sync, copy done, sync", (
        run(COPY_IN), FLUSH, OPEN, GOOD, SYNC, BAD, SYNC, COPY_DONE, SYNC, run("SELECT 1"), SYNC, Until("Z", 3)), (87,
        88)),
    Scenario("in, extended, table that does not exist", (
        run("COPY nowhere FROM STDIN"), SYNC, GOOD, COPY_DONE, SYNC, Until("Z", 2), query("SELECT 1"), READY), (87,
        88), open_only="its columns are looked up before it runs"),
    Scenario("in, extended, rows before and after", (
        run("SELECT 1"), run(COPY_IN), GOOD, COPY_DONE, run("SELECT 2"), SYNC, READY), (88,)),
    Scenario("in, extended, error after it undoes it", (
        run(COPY_IN), GOOD, COPY_DONE, run("SELECT nothing"), SYNC, READY), (88,)),
    Scenario("in, extended, terminate", (run(COPY_IN), FLUSH, OPEN, GOOD, TERMINATE, End.STAYS), (89,)),
    Scenario("in, extended, a parse between", (run(COPY_IN), FLUSH, OPEN, GOOD, parse("SELECT 1"), End.STAYS), (87,)),

    *(
        Scenario(f"in, extended, {kind} between", (run(COPY_IN), FLUSH, OPEN, GOOD, message, End.STAYS), (87,))
        for kind, message in {
            "a bind": bind(), "a describe": describe_portal(), "an execute": execute(), "a close": close_portal(),
        }.items()
    ),
    Scenario("in, extended, a function call between", (
        run(COPY_IN), FLUSH, OPEN, GOOD, function_call(177, [b"1", b"2"]), End.STAYS), (87,),
        open_only="function calls cannot be analysed"),
    Scenario("copy messages without a copy", (
        GOOD, COPY_DONE, copy_fail("what"), query("SELECT 1"), READY), (87,)),
    Scenario("copy messages in a pipeline without a copy", (
        parse("SELECT 1"), GOOD, bind(), COPY_DONE, execute(), SYNC, READY), (87,)),
    Scenario("notification during a copy in", (
        query("LISTEN a"), READY, query("BEGIN; NOTIFY a"), READY, query(COPY_IN), OPEN, GOOD, COPY_DONE, READY,
        query("COMMIT"),
        READY), (95,)),
)
