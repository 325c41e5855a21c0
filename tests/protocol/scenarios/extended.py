"""Parse, Bind, Describe, Execute, Close, Sync and Flush in every order that makes sense, and in some that do not."""

from __future__ import annotations

from tests.support.dual import READY, Scenario, Until
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close_portal,
    close_statement,
    copy_data,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    parse,
    query,
)

INT4, TEXT = 23, 25
FAILING = "SELECT 1/0"                  # at Bind: the planner computes it
LATE = "SELECT 10 / (3 - id) FROM items ORDER BY id"        # at Execute, after two rows
INSERT = "INSERT INTO arrivals VALUES ($1, $2)"


def whole(sql: str, *values: bytes | None) -> bytes:
    """All that drivers send for one statement, apart from Sync."""
    return parse(sql) + bind(values) + describe_portal() + execute()


def run(sql: str, *values: bytes | None) -> bytes:
    return parse(sql) + bind(values) + execute()


SCENARIOS = (
    Scenario("the usual", (whole("SELECT * FROM items WHERE id < $1", b"4"), SYNC, READY)),
    Scenario("without describe", (run("SELECT * FROM items ORDER BY id"), SYNC, READY)),
    Scenario("empty statement", (whole(""), SYNC, READY), (59,)),
    Scenario("only a comment", (whole("-- x"), SYNC, READY), (59,)),
    Scenario("insert", (whole(INSERT, b"1", b"a"), SYNC, READY)),
    Scenario("insert returning", (whole(INSERT + " RETURNING id", b"1", b"a"), SYNC, READY)),
    Scenario("two statements in one parse", (whole("SELECT 1; SELECT 2"), SYNC, READY)),
    Scenario("utility statement", (whole("SHOW DateStyle"), SYNC, READY)),
    Scenario("explain", (whole("EXPLAIN (COSTS OFF) SELECT 1"), SYNC, READY)),
    Scenario("message by message", (
        parse("SELECT $1::int"), FLUSH, Until("1"), bind([b"7"]), FLUSH, Until("2"), describe_portal(), FLUSH,
        Until("T"),
        execute(), FLUSH, Until("C"), SYNC, READY), (61,)),

    # ---- Sync and Flush
    Scenario("sync alone", (SYNC, READY), (67,)),
    Scenario("flush alone", (FLUSH,), (67,)),
    Scenario("syncs in a row", (SYNC * 5, Until("Z", 5)), (64, 67)),
    Scenario("flush after sync", (SYNC + FLUSH, READY, run("SELECT 1"), SYNC, READY), (67,)),
    Scenario("flush before anything and between all", (
        FLUSH, parse("SELECT 1"), FLUSH, bind(), FLUSH, execute(), FLUSH, SYNC, FLUSH, READY), (61, 67)),
    Scenario("parse and describe, then flush, then the rest", (
        parse("SELECT label FROM items WHERE id = $1", "s"), describe_statement("s"), FLUSH, Until("T"),
        bind([b"2"], name="s"), execute(), SYNC, READY), (62,)),
    Scenario("parse, flush, then nothing but sync", (parse("SELECT 1"), FLUSH, Until("1"), SYNC, READY), (61,)),
    Scenario("many pipelines in flight", (
        b"".join(run("SELECT $1::int", str(i).encode()) + SYNC for i in range(100)), Until("Z", 100)), (64, 68)),
    Scenario("several statements before one sync", (
        whole("SELECT 1"), whole("SELECT 'a'"), whole("UPDATE items SET label = label"), SYNC, READY)),
    Scenario("implicit transaction of a pipeline is undone by its error", (
        run(INSERT, b"1", b"a"), run(INSERT, b"2", b"b"), run(FAILING), SYNC, READY, run(INSERT, b"3", b"c"), SYNC,
        READY)),
    Scenario("syncs divide implicit transactions", (
        run(INSERT, b"1", b"a"), SYNC, run(FAILING), SYNC, run(INSERT, b"2", b"b"), SYNC, Until("Z", 3))),
    Scenario("no sync before terminate", (run(INSERT, b"1", b"a"),), (74,)),
    Scenario("flush before terminate", (run(INSERT, b"1", b"a"), FLUSH, Until("C")), (74,)),

    # ---- errors at every place
    Scenario("error at parse", (whole("SELECT nothing"), SYNC, READY, whole("SELECT 1"), SYNC, READY), (63,)),
    Scenario("syntax error at parse", (whole("SELEC 1"), SYNC, READY, whole("SELECT 1"), SYNC, READY), (63,)),
    Scenario("error at bind", (whole("SELECT $1::int", b"x"), SYNC, READY), (63,)),
    Scenario("error at bind, by the planner", (whole(FAILING), SYNC, READY), (63,)),
    Scenario("error at execute", (whole("INSERT INTO items VALUES (1)"), SYNC, READY), (63,)),
    Scenario("error at execute, after rows", (whole(LATE), SYNC, READY), (63,)),
    Scenario("error at describe", (parse("SELECT 1"), describe_portal("none"), SYNC, READY), (63, 70)),
    Scenario("error at sync", (
        query("BEGIN"), READY, run("INSERT INTO later VALUES (1), (1)"), run("COMMIT"), SYNC, READY,
        run("INSERT INTO later VALUES (2), (2)"), SYNC, READY, run("SELECT 1"), SYNC, READY), (63, 84)),
    Scenario("error, and the rest arrives after it", (
        parse("SELECT nothing"), FLUSH, Until("E"), bind(), execute(), describe_portal(), parse("SELECT 1"), SYNC,
        READY,
        run("SELECT 2"), SYNC, READY), (63,)),
    Scenario("error, then only flushes until sync", (
        parse("SELECT nothing"), FLUSH, Until("E"), FLUSH, FLUSH, SYNC, READY), (63,)),
    Scenario("error, then a simple query before the sync", (
        parse("SELECT nothing"), FLUSH, Until("E"), query("SELECT 1"), SYNC, READY, query("SELECT 2"), READY), (65,)),
    Scenario("error and a simple query in one write", (
        run("SELECT nothing"), query("SELECT 1"), query("SELECT 2"), SYNC, READY), (65,)),
    Scenario("a syntax error in the middle of a pipeline", (
        run("SELECT 1"), run("SELEC 2"), run("SELECT 3"), SYNC, READY, run("SELECT 4"), SYNC, READY), (63,)),
    Scenario("a syntax error in a transaction", (
        run("BEGIN"), run("SELEC 2"), SYNC, READY, run("SELEC 3"), SYNC, READY, run("ROLLBACK"), SYNC, READY), (63,)),
    Scenario("every message after an error is skipped", (
        parse("SELECT nothing"), FLUSH, Until("E"), query("SELECT 1"), parse("SELECT 1", "s"), bind(name="s"),
        describe_portal(), describe_statement("s"), execute(), close_statement("s"), function_call(177, [b"1", b"2"]),
        copy_data(b"x"), COPY_DONE, copy_fail("x"), FLUSH, SYNC, READY, describe_statement("s"), SYNC, READY), (63,)),
    Scenario("terminate after an error", (parse("SELECT nothing"), FLUSH, Until("E")), (63, 85)),
    Scenario("errors each with a sync", (
        b"".join(run(sql) + SYNC for sql in ("SELECT nothing", "SELECT 1", FAILING, "SELECT 2", LATE, "SELECT 3")),
        Until("Z", 6)), (68,)),
    Scenario("500 statements, error at 250", (
        b"".join(run("SELECT nothing" if i == 250 else f"SELECT {i % 7}") for i in range(500)), SYNC, READY), (68,)),
    Scenario("500 statements with a sync each, every 50th fails", (
        b"".join(run(FAILING if i % 50 == 25 else "SELECT 1") + SYNC for i in range(500)), Until("Z", 500)), (64, 68)),
    Scenario("two errors before one sync: the second is not seen", (
        run(FAILING), run("SELECT nothing"), SYNC, READY), (63,)),
    Scenario("error at each place of one pipeline", (
        *(step for place in range(4) for step in (
            *(run("SELECT nothing" if at == place else f"SELECT {at}") for at in range(4)), SYNC, READY)),), (63,)),
    Scenario("close after an error is skipped", (
        parse("SELECT 1", "s"), SYNC, READY, parse("SELECT nothing"), close_statement("s"), SYNC, READY,
        bind(name="s"), execute(), SYNC, READY), (63, 71)),

    # ---- statements
    Scenario("named statement, used twice", (
        parse("SELECT label FROM items WHERE id = $1", "s"), SYNC, READY, bind([b"1"], name="s"), execute(), SYNC,
        READY,
        bind([b"2"], name="s"), execute(), SYNC, READY)),
    Scenario("name that is taken", (
        parse("SELECT 1", "s"), SYNC, READY, parse("SELECT 2", "s"), SYNC, READY, bind(name="s"), execute(), SYNC,
        READY), (73,)),
    Scenario("name that is taken, in one pipeline", (
        parse("SELECT 1", "s"), parse("SELECT 2", "s"), SYNC, READY, bind(name="s"), execute(), SYNC, READY), (73,)),
    Scenario("failed parse frees the name", (
        parse("SELECT nothing", "s"), SYNC, READY, parse("SELECT 2", "s"), bind(name="s"), execute(), SYNC, READY),
        (73,)),
    Scenario("name that is taken by SQL", (
        query("PREPARE s AS SELECT 1"), READY, parse("SELECT 2", "s"), SYNC, READY,
        bind(name="s"), execute(), SYNC, READY), (73, 80)),
    Scenario("name parsed, then executed by SQL", (
        parse("SELECT 41 + $1::int", "s"), SYNC, READY, query("EXECUTE s(1)"), READY), (80,)),
    Scenario("unnamed statement is overwritten", (
        parse("SELECT 1"), parse("SELECT 2"), bind(), execute(), SYNC, READY), (72,)),
    Scenario("failed parse drops the unnamed statement", (
        parse("SELECT 1"), SYNC, READY, parse("SELECT nothing"), SYNC, READY, bind(), execute(), SYNC, READY), (72,)),
    Scenario("simple query drops the unnamed statement", (
        parse("SELECT 1"), SYNC, READY, query("SELECT 2"), READY, bind(), execute(), SYNC, READY), (72,)),
    Scenario("unnamed statement lives on over syncs", (
        parse("SELECT 1"), SYNC, READY, bind(), execute(), SYNC, READY, bind(), execute(), SYNC, READY), (72,)),
    Scenario("statement that does not exist: bind", (
        bind(name="none"), SYNC, READY, query("SELECT 1"), READY), (70,)),
    Scenario("statement that does not exist: describe", (
        describe_statement("none"), SYNC, READY, query("SELECT 1"), READY), (70,)),
    Scenario("unnamed statement that does not exist: bind", (bind(), SYNC, READY, query("SELECT 1"), READY), (70,)),
    Scenario("unnamed statement that does not exist: describe", (describe_statement(), SYNC, READY), (70,)),
    Scenario("statement whose odd name does not exist", (bind(name='a"b; c'), SYNC, READY), (70,)),
    Scenario("close", (
        parse("SELECT 1", "s"), SYNC, READY, close_statement("s"), SYNC, READY, bind(name="s"), SYNC, READY), (71,)),
    Scenario("close of what does not exist", (
        close_statement("none"), close_portal("none"), close_statement(), close_portal(), SYNC, READY), (71,)),
    Scenario("close frees the name", (
        parse("SELECT 1", "s"), close_statement("s"), parse("SELECT 2", "s"), bind(name="s"), execute(), SYNC, READY),
        (71,)),
    Scenario("close of a portal leaves the statement of that name", (
        parse("SELECT 1", "x"), bind(name="x", portal="x"), close_portal("x"), bind(name="x", portal="x"), execute("x"),
        SYNC, READY), (71,)),
    Scenario("close of a statement leaves its portal", (
        parse("SELECT 1", "x"), bind(name="x", portal="x"), close_statement("x"), execute("x"), SYNC, READY), (71,)),
    Scenario("names of 62 to 65 characters", (
        *(step for n in (62, 63, 64, 65) for step in (
            parse(f"SELECT {n}", "n" * n), SYNC, READY, bind(name="n" * n), execute(), SYNC, READY)),), (60,)),
    Scenario("a name of 10 kB", (
        parse("SELECT 1", "n" * 10_000), bind(name="n" * 10_000), execute(), SYNC, READY), (60,)),
    Scenario("deallocate by SQL", (
        parse("SELECT 1", "s"), SYNC, READY, query("deallocate /* x */ S"), READY, bind(name="s"), execute(), SYNC,
        READY,
        parse("SELECT 2", "s"), bind(name="s"), execute(), SYNC, READY), (79,)),
    Scenario("deallocate all, extended", (
        parse("SELECT 1", "a"), parse("SELECT 2", "b"), SYNC, READY, run("DEALLOCATE ALL"), SYNC, READY,
        bind(name="a"), SYNC, READY, bind(name="b"), SYNC, READY), (79,)),
    Scenario("discard all and the names again", (
        parse("SELECT 1", "a"), SYNC, READY, query("DISCARD ALL"), READY, parse("SELECT 2", "a"), bind(name="a"),
        execute(),
        SYNC, READY), (79,)),
    Scenario("cached plan must not change result type", (
        query("CREATE TEMP TABLE t (a int)"), READY, parse("SELECT * FROM t", "s"), bind(name="s"), execute(), SYNC,
        READY,
        query("ALTER TABLE t ADD b int"), READY, bind(name="s"), execute(), SYNC, READY, query("SELECT 1"), READY),
        (82,)),

    Scenario("cached plan must not change result type: describe", (
        query("CREATE TEMP TABLE t (a int)"), READY, parse("SELECT a + 0 FROM t", "s"), SYNC, READY,
        query("ALTER TABLE t ALTER a TYPE bigint"), READY, describe_statement("s"), SYNC, READY,
        query("SELECT 1"), READY), (82,)),

    # ---- describe
    Scenario("describe of a statement", (
        parse("SELECT id, label FROM items WHERE id = $1 AND label = $2", "s"), describe_statement("s"), SYNC, READY),
        (69,)),
    Scenario("describe of a statement without result", (
        parse(INSERT, "s"), describe_statement("s"), SYNC, READY), (69,)),
    Scenario("describe of the empty statement", (parse(""), describe_statement(), SYNC, READY), (69,)),
    Scenario("describe of a portal", (
        parse("SELECT id FROM items"), bind(), describe_portal(), SYNC, READY), (69,)),
    Scenario("describe of a portal without result", (
        parse(INSERT), bind([b"1", b"a"]), describe_portal(), SYNC, READY), (69,)),
    Scenario("describe twice, and both kinds", (
        parse("SELECT 1", "s"), describe_statement("s"), describe_statement("s"), bind(name="s"), describe_portal(),
        describe_portal(), execute(), SYNC, READY), (69,)),
    Scenario("describe of a portal in binary", (
        parse("SELECT id, label FROM items"), bind(result_formats=[1]), describe_portal(), SYNC, READY), (69,)),
    Scenario("describe after execute", (
        parse("SELECT 1"), bind(), execute(), describe_portal(), SYNC, READY), (69,)),
    Scenario("describe in a failed transaction", (
        query("BEGIN"), READY, parse("SELECT 1", "s"), SYNC, READY, query("SELECT 1/0"), READY,
        describe_statement("s"), SYNC,
        READY, query("ROLLBACK"), READY, describe_statement("s"), SYNC, READY), (69, 84)),
    Scenario("types given and types found out", (
        parse("SELECT $1, $2 + 1, $3", types=[TEXT, INT4]), describe_statement(), SYNC, READY,
        parse("SELECT $1", types=[0]), describe_statement(), SYNC, READY), (69,)),
    Scenario("type that does not exist", (parse("SELECT $1", types=[999_999]), SYNC, READY)),
    Scenario("type that cannot be found out", (parse("SELECT $1 = $2"), describe_statement(), SYNC, READY)),

    # ---- bind
    Scenario("binary parameter and binary result", (
        parse("SELECT $1::int, $2::text"), bind([b"\0\0\0\x07", b"t"], formats=[1, 0], result_formats=[1, 0]),
        describe_portal(),
        execute(), SYNC, READY), (76,)),
    Scenario("one format for all", (
        parse("SELECT $1::int, $2::int"), bind([b"\0\0\0\1", b"\0\0\0\2"], formats=[1], result_formats=[1]), execute(),
        SYNC,
        READY), (76,)),
    Scenario("null parameters", (whole("SELECT $1::int, $2::text", None, None), SYNC, READY), (76,)),
    Scenario("empty text parameter", (whole("SELECT $1::text", b""), SYNC, READY), (76,)),
    Scenario("too few parameters", (whole("SELECT $1::int, $2::int", b"1"), SYNC, READY), (76,)),
    Scenario("too many parameters", (whole("SELECT $1::int", b"1", b"2"), SYNC, READY), (76,)),
    Scenario("too many formats", (
        parse("SELECT $1::int"), bind([b"1"], formats=[0, 0]), execute(), SYNC, READY), (76,)),
    Scenario("too many result formats", (
        parse("SELECT 1"), bind(result_formats=[0, 0, 0]), execute(), SYNC, READY), (76,)),
    Scenario("a format that does not exist", (
        parse("SELECT $1::int"), bind([b"1"], formats=[2]), execute(), SYNC, READY), (76,)),
    Scenario("binary parameter of a wrong size", (
        parse("SELECT $1::int"), bind([b"123"], formats=[1]), execute(), SYNC, READY), (76,)),
    Scenario("parameter that is not UTF-8", (whole("SELECT $1::text", b"\xff\xfe"), SYNC, READY), (76,)),
    Scenario("65535 parameters", (
        parse("SELECT " + ",".join(f"${i}::int" for i in range(1, 101))), bind([b"1"] * 65_535), execute(), SYNC,
        READY), (76,), bulky=True),
    Scenario("2000 parameters", (
        parse("SELECT ARRAY[" + ",".join(f"${i}::int" for i in range(1, 2001)) + "]"),
        bind([str(i).encode() for i in range(2000)]), execute(), SYNC, READY), (76,)),
    Scenario("parameter of 100 kB", (whole("SELECT length($1::text)", b"x" * 100_000), SYNC, READY), (60,), bulky=True),

    Scenario("parameter of 9 kB", (whole("SELECT length($1::text)", b"x" * 9_000), SYNC, READY), (60,)),

    # ---- portals
    Scenario("row limit", (
        parse("SELECT id FROM items ORDER BY id"), bind(), execute(limit=3), execute(limit=3), execute(), SYNC, READY),
        (77,)),
    Scenario("row limit, exact", (
        parse("SELECT id FROM items ORDER BY id"), bind(), execute(limit=10), execute(limit=1), SYNC, READY), (77,)),
    Scenario("suspended and resumed by flush", (
        parse("SELECT id FROM items ORDER BY id"), bind(), execute(limit=4), FLUSH, Until("s"), execute(limit=4), FLUSH,
        Until("s"), execute(limit=4), SYNC, READY), (77,)),
    Scenario("suspended over syncs in a transaction", (
        query("BEGIN"), READY, parse("SELECT id FROM items ORDER BY id"), bind(portal="p"), execute("p", 4), SYNC,
        READY,
        execute("p", 4), SYNC, READY, execute("p"), SYNC, READY, query("COMMIT"), READY), (77,)),
    Scenario("portals end with the transaction", (
        parse("SELECT id FROM items ORDER BY id"), bind(portal="p"), execute("p", 4), SYNC, READY, execute("p"), SYNC,
        READY,
        query("SELECT 1"), READY), (77, 78)),
    Scenario("portals end with a transaction block", (
        query("BEGIN"), READY, parse("SELECT id FROM items"), bind(portal="p"), SYNC, READY, query("COMMIT"), READY,
        execute("p"), SYNC, READY), (78,)),
    Scenario("two portals at once", (
        query("BEGIN"), READY, parse("SELECT id FROM items ORDER BY id", "s"), bind(name="s", portal="a"),
        bind(name="s", portal="b"), execute("a", 2), execute("b", 3), execute("a", 2), execute("b"), execute("a"),
        SYNC, READY,
        query("COMMIT"), READY), (77,)),
    Scenario("portal whose name is taken", (
        parse("SELECT 1", "s"), bind(name="s", portal="p"), bind(name="s", portal="p"), SYNC, READY), (73,)),
    Scenario("unnamed portal is overwritten", (
        parse("SELECT 1", "a"), parse("SELECT 2", "b"), bind(name="a"), bind(name="b"), execute(), SYNC, READY), (72,)),
    Scenario("portal that does not exist: execute", (execute("none"), SYNC, READY, query("SELECT 1"), READY), (70,)),
    Scenario("portal that does not exist: describe", (describe_portal("none"), SYNC, READY), (70,)),
    Scenario("unnamed portal that does not exist: execute", (execute(), SYNC, READY, query("SELECT 1"), READY), (70,)),
    Scenario("unnamed portal that does not exist: describe", (describe_portal(), SYNC, READY), (70,)),
    Scenario("portal executed to its end, and again", (
        query("BEGIN"), READY, parse("SELECT 1"), bind(portal="p"), execute("p"), execute("p"), SYNC, READY,
        query("ROLLBACK"), READY), (77,)),
    Scenario("statement without rows executed twice", (
        query("BEGIN"), READY, parse("UPDATE items SET label = label"), bind(portal="p"), execute("p"), execute("p"),
        SYNC, READY,
        query("ROLLBACK"), READY), (77,)),
    Scenario("limit on returning", (
        parse("UPDATE items SET label = label RETURNING id"), bind(), execute(limit=2), execute(limit=2), SYNC, READY),
        (77,)),
    Scenario("negative limit", (
        parse("SELECT id FROM items ORDER BY id"), bind(), execute(limit=0xFFFFFFFF), SYNC, READY), (77,)),
    Scenario("cursor of SQL executed as a portal", (
        query("BEGIN; DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id"), READY, execute("c", 2),
        describe_portal("c"),
        execute("c", 1), SYNC, READY, query("FETCH 2 FROM c"), READY, close_portal("c"), SYNC, READY,
        query("FETCH 1 FROM c"), READY), (78,)),
    Scenario("portal fetched by SQL", (
        query("BEGIN"), READY, parse("SELECT id FROM items ORDER BY id"), bind(portal="p"), SYNC, READY,
        query("FETCH 2 FROM p"),
        READY, execute("p", 2), SYNC, READY, query("CLOSE p"), READY, execute("p"), SYNC, READY), (78,)),

    # ---- transactions, and both protocols together
    Scenario("transaction in extended messages", (
        run("BEGIN"), SYNC, READY, run(INSERT, b"1", b"a"), SYNC, READY, run("COMMIT"), SYNC, READY), (84,)),
    Scenario("transaction in one pipeline", (
        run("BEGIN"), run(INSERT, b"1", b"a"), run("COMMIT"), SYNC, READY), (84,)),
    Scenario("transaction in one pipeline, failing", (
        run("BEGIN"), run(INSERT, b"1", b"a"), run(FAILING), run("COMMIT"), SYNC, READY, run("SELECT 1"), SYNC, READY,
        run("ROLLBACK"), SYNC, READY), (84,)),
    Scenario("failed transaction refuses parse", (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, parse("SELECT 1"), SYNC, READY, parse("ROLLBACK"), bind(),
        execute(),
        SYNC, READY), (84,)),
    Scenario("failed transaction refuses bind and execute", (
        parse("SELECT 1", "s"), SYNC, READY, query("BEGIN"), READY, query("SELECT 1/0"), READY, bind(name="s"),
        execute(), SYNC,
        READY, query("ROLLBACK"), READY), (84,)),
    Scenario("failed transaction takes the empty statement", (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, whole(""), SYNC, READY, query("ROLLBACK"), READY), (84,)),
    Scenario("savepoint around an error", (
        run("BEGIN"), run("SAVEPOINT a"), SYNC, READY, run(FAILING), SYNC, READY, run("ROLLBACK TO a"),
        run("SELECT 1"), SYNC, READY,
        run("COMMIT"), SYNC, READY), (84,)),
    Scenario("simple query in the middle of a pipeline", (
        run(INSERT, b"1", b"a"), query("SELECT count(*) FROM arrivals"), run(INSERT, b"2", b"b"), SYNC, Until("Z", 2)),
        (66,)),
    Scenario("failing simple query in the middle of a pipeline", (
        run(INSERT, b"1", b"a"), query("SELECT 1/0"), run(INSERT, b"2", b"b"), SYNC, Until("Z", 2)), (66,)),
    Scenario("simple query between parse and bind", (
        parse("SELECT 1", "s"), query("SELECT 2"), bind(name="s"), execute(), SYNC, Until("Z", 2)), (66,)),
    Scenario("simple query ends the portals before it", (
        parse("SELECT id FROM items ORDER BY id"), bind(portal="p"), execute("p", 2), query("SELECT 1"), execute("p",
        2), SYNC,
        Until("Z", 2)), (66, 78)),
    Scenario("reported settings in a pipeline", (
        run("SET TimeZone = 'UTC'"), run("SET DateStyle = 'German'"), run("SELECT 1"), SYNC, run("RESET TimeZone"),
        SYNC,
        Until("Z", 2)), (94,)),
    Scenario("notices in a pipeline", (
        whole("SELECT noisy(2)"), whole("SELECT noisy(3)"), SYNC, READY), (96,)),
    Scenario("notifications in a pipeline", (
        query("LISTEN a"), READY, run("NOTIFY a, 'x'"), run("NOTIFY a, 'y'"), run("SELECT 1"), SYNC, run("SELECT 2"),
        SYNC,
        Until("Z", 2)), (95,)),
    Scenario("statement timeout in a pipeline", (
        query("SET statement_timeout = 30"), READY, run("SELECT 1"), run("SELECT pg_sleep(10)"), run("SELECT 2"), SYNC,
        READY, run("SELECT 3"), SYNC, READY), (99,)),
    Scenario("big rows in a pipeline with small ones", (
        whole("SELECT 1"), whole("SELECT repeat('x', 100000)"), whole("SELECT 2"), SYNC, READY), (86, 101)),
    Scenario("a thousand rows by tens", (
        query("BEGIN"), READY, parse("SELECT i FROM generate_series(1, 1000) i"), bind(portal="p"), execute("p",
        10) * 101, SYNC,
        READY, query("COMMIT"), READY), (77,)),
)
