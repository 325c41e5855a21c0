"""Simple queries, transactions, notices, settings, notifications, function calls."""

from __future__ import annotations

from tests.support.dual import READY, End, Scenario, Until
from tests.support.wire import FLUSH, SYNC, TERMINATE, function_call, query

INT4PL, INT4DIV, LO_CREAT = 177, 154, 957
MANY = 300
NO_CALLS = "function calls cannot be analysed"
NO_CODE = "code in DO blocks cannot be analysed"
UNKNOWN = "what the gateway does not know is refused"
UTF8 = "only UTF-8 where columns are masked"

SCENARIOS = (
    Scenario("one row", (query("SELECT 1"), READY)),
    Scenario("several columns and rows", (query("SELECT * FROM items ORDER BY id"), READY)),
    Scenario("no rows", (query("SELECT * FROM items WHERE id < 0"), READY)),
    Scenario("no columns", (query("SELECT FROM items"), READY)),
    Scenario("null, empty and odd values", (query("SELECT NULL, '', E'\\n\\t', 'é', chr(1), '\\x00ff'::bytea"), READY)),
    Scenario("empty query", (query(""), READY), (59,)),
    Scenario("blanks", (query(" \n\t "), READY), (59,)),
    Scenario("only semicolons", (query(" ; ;; "), READY), (59,)),
    Scenario("only a comment", (query("-- nothing"), READY), (59,)),
    Scenario("only a nested comment", (query("/* a /* b */ c */"), READY), (59,)),
    Scenario("several statements", (
        query("SELECT 1; SELECT 'two', 3; UPDATE items SET label = label WHERE id = 1"), READY)),
    Scenario("several statements, empty ones between", (query("SELECT 1;; ;SELECT 2;"), READY), (59,)),
    Scenario("error in the middle of several", (
        query("INSERT INTO arrivals VALUES (1, 'a'); SELECT 1/0; INSERT INTO arrivals VALUES (2, 'b')"), READY,
        query("SELECT count(*) FROM arrivals"), READY), (59,)),
    Scenario("error after rows", (query("SELECT 1 / (5 - id) FROM items ORDER BY id"), READY)),
    Scenario("syntax error in the middle of several", (query("SELECT 1; SELEC 2; SELECT 3"), READY), (59,)),
    Scenario("syntax error", (query("SELECT FROM WHERE"), READY)),
    Scenario("syntax error at the end", (query("SELECT (1"), READY)),
    Scenario("unterminated string", (query("SELECT 'abc"), READY)),
    Scenario("unterminated comment", (query("SELECT 1 /* abc"), READY)),
    Scenario("unterminated identifier", (query('SELECT "abc'), READY)),
    Scenario("unterminated dollar quote", (query("SELECT $x$abc"), READY)),
    Scenario("zero-length identifier", (query('SELECT ""'), READY)),
    Scenario("invalid escape", (query("SELECT E'\\u00'"), READY)),
    Scenario("syntax error after multibyte text", (query("SELECT 'éé' SELEC"), READY)),
    Scenario("mistakes that PostgreSQL's versions tell differently", (
        query("CREATE TABLE nobody (a int) PARTITION BY MAGIC (a)"), READY, query("SELECT 10 !=-"), READY,
        query("ALTER TABLE items ALTER CONSTRAINT nobody NOT VALID"), READY, query("SELECT U&'wrong: \\061'"), READY,
        query("CREATE POLICY p ON items AS UGLY"), READY, query("SELECT 1"), READY)),
    Scenario("a mistake between others in one write", (
        query("SELECT 1"), query("SELEC 2"), query("SELECT 3"), query("SELEC 4"), Until("Z", 4))),
    Scenario("a limit that nobody wrote", (
        query("SELECT id FROM items WHERE id < 3 ORDER BY id FETCH FIRST ROW ONLY"), READY,
        query("SELECT id FROM items WHERE id < 3 ORDER BY id FETCH FIRST ROWS WITH TIES"), READY)),
    Scenario("table that does not exist", (query("SELECT * FROM nowhere"), READY)),
    Scenario("column that does not exist", (query("SELECT nothing FROM items"), READY)),
    Scenario("unknown function", (query("SELECT nothing(1)"), READY), open_only=UNKNOWN),
    Scenario("unique violation", (query("INSERT INTO items VALUES (1, 'again', 1)"), READY)),
    Scenario("check violation", (query("INSERT INTO arrivals VALUES (-1, 'x')"), READY)),
    Scenario("parameter in a simple query", (query("SELECT $1"), READY)),
    Scenario("text that is not UTF-8", (
        b"Q\0\0\0\x0fSELECT '\xff'\0", READY, query("SELECT 1"), READY), open_only=UTF8),
    Scenario("many queries in one write", (b"".join(query(f"SELECT {i}") for i in range(MANY)), Until("Z", MANY))),
    Scenario("two queries, the first fails", (query("SELECT 1/0"), query("SELECT 2"), Until("Z", 2))),
    Scenario("literals of one shape", (
        *(step for i in range(6) for step in (query(f"SELECT label FROM items WHERE id = {i}"), READY)),)),
    Scenario("literals of one shape that are not alike", (
        query("SELECT 1"), READY, query("SELECT 1.5"), READY, query("SELECT 'a'"), READY, query("SELECT 10000000000"),
        READY,
        query("SELECT -1"), READY, query("SELECT B'101'"), READY, query("SELECT X'1F'"), READY, query("SELECT N'a'"),
        READY)),

    Scenario("transaction, committed", (
        query("BEGIN"), READY, query("INSERT INTO arrivals VALUES (1, 'a')"), READY, query("COMMIT"), READY), (84,)),
    Scenario("transaction, rolled back", (
        query("BEGIN"), READY, query("INSERT INTO arrivals VALUES (1, 'a')"), READY, query("ROLLBACK"), READY), (84,)),
    Scenario("failed transaction", (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, query("SELECT 1"), READY, query("COMMIT"), READY), (84,)),
    Scenario("failed transaction, syntax error within", (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, query("SELEC"), READY, query("ROLLBACK"), READY), (84,)),
    Scenario("failed transaction, empty query within", (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, query(""), READY, query("ROLLBACK"), READY), (84,)),
    Scenario("savepoints", (
        query("BEGIN; SAVEPOINT a; INSERT INTO arrivals VALUES (1, 'a')"), READY, query("SELECT 1/0"), READY,
        query("ROLLBACK TO a"), READY, query("SELECT count(*) FROM arrivals"), READY, query("COMMIT"), READY), (84,)),
    Scenario("begin and error in one query", (query("BEGIN; SELECT 1/0"), READY, query("ROLLBACK"), READY), (84,)),
    Scenario("commit and chain", (
        query("BEGIN"), READY, query("COMMIT AND CHAIN"), READY, query("ROLLBACK"), READY), (84,)),
    Scenario("commit without begin warns", (query("COMMIT"), READY)),
    Scenario("begin twice warns", (query("BEGIN"), READY, query("BEGIN"), READY, query("COMMIT"), READY)),
    Scenario("deferred constraint fails at commit", (
        query("BEGIN; INSERT INTO later VALUES (1), (1)"), READY, query("COMMIT"), READY, query("SELECT 1"), READY),
        (84,)),
    Scenario("transaction left open", (query("BEGIN; INSERT INTO arrivals VALUES (1, 'a')"), READY), (85,)),
    Scenario("terminate inside a transaction with a query before it", (
        query("BEGIN"), query("INSERT INTO arrivals VALUES (1, 'a')"), TERMINATE, End.STAYS), (85,)),
    Scenario("query and terminate in one segment", (
        query("INSERT INTO arrivals VALUES (1, 'a')"), TERMINATE, End.STAYS), (85,)),
    Scenario("nothing after terminate is read", (
        TERMINATE, query("INSERT INTO arrivals VALUES (1, 'a')"), End.STAYS), (85,)),
    Scenario("terminate at once", (), (85,)),

    Scenario("one notice", (query("SELECT noisy(1)"), READY), (96,)),
    Scenario("many notices", (query("SELECT noisy(500)"), READY), (96,)),
    Scenario("notice with detail and hint", (
        query("DO $$ BEGIN RAISE WARNING 'w' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01234'; END $$"), READY),
        (100,), open_only=NO_CODE),
    Scenario("notice by drop if exists", (query("DROP TABLE IF EXISTS nowhere"), READY), (100,)),
    Scenario("error with every field", (
        query("DO $$ BEGIN RAISE 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'ZZ999', COLUMN = 'c', "
              "CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'b', SCHEMA = 's'; END $$"), READY), open_only=NO_CODE),
    Scenario("info message", (query("DO $$ BEGIN RAISE INFO 'i'; END $$"), READY), (100,), open_only=NO_CODE),

    Scenario("setting that is reported", (
        query("SET DateStyle = 'German, DMY'"), READY, query("SHOW DateStyle"), READY), (94,)),
    Scenario("setting that is not reported", (query("SET work_mem = '5MB'"), READY, query("SHOW work_mem"), READY)),
    Scenario("several reported settings in one query", (
        query("SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'; SELECT interval '1 day'"), READY), (94,)),
    Scenario("reported settings, rolled back", (
        query("BEGIN"), READY, query("SET TimeZone = 'Asia/Tokyo'"), READY, query("ROLLBACK"), READY), (94,)),
    Scenario("local setting", (
        query("BEGIN"), READY, query("SET LOCAL TimeZone = 'Asia/Tokyo'"), READY, query("COMMIT"), READY), (94,)),
    Scenario("settings in a pipeline of queries", (
        query("SET TimeZone = 'UTC'"), query("SET TimeZone = 'Asia/Tokyo'"), query("RESET TimeZone"), Until("Z", 3)),
        (94,)),
    Scenario("setting by function", (query("SELECT set_config('TimeZone', 'Asia/Tokyo', false)"), READY), (94,)),
    Scenario("setting that does not exist", (query("SET nowhere = 1"), READY)),
    Scenario("setting with a bad value", (query("SET DateStyle = 'nonsense'"), READY)),
    Scenario("client encoding", (
        query("SET client_encoding = 'LATIN1'"), READY, query("SELECT 'a' || chr(233)"), READY), (17,), open_only=UTF8),
    Scenario("character that the encoding has not", (
        query("SET client_encoding = 'LATIN1'"), READY, query("SELECT chr(8364)"), READY, query("SELECT 1"), READY),
        (17,), open_only=UTF8),
    Scenario("role", (query("SET ROLE pg_monitor"), READY, query("RESET ROLE"), READY)),
    Scenario("discard all", (query("SET TimeZone = 'Asia/Tokyo'"), READY, query("DISCARD ALL"), READY), (79, 94)),

    Scenario("notification to oneself", (query("LISTEN a"), READY, query("NOTIFY a, 'hello'"), READY), (95,)),
    Scenario("notification within a transaction", (
        query("LISTEN a"), READY, query("BEGIN"), READY, query("NOTIFY a"), READY, query("SELECT 1"), READY,
        query("COMMIT"), READY), (95,)),
    Scenario("notification rolled back", (
        query("LISTEN a"), READY, query("BEGIN; NOTIFY a"), READY, query("ROLLBACK"), READY, query("SELECT 1"), READY),
        (95,)),
    Scenario("notification in one query with others", (
        query("LISTEN a; NOTIFY a, 'x'; SELECT 1"), READY, query("SELECT 2"), READY), (95,)),
    Scenario("many notifications", (
        query("LISTEN a"), READY, query("SELECT pg_notify('a', i::text) FROM generate_series(1, 200) i"), READY),
        (95,), open_only=UNKNOWN),
    Scenario("unlisten", (query("LISTEN a"), READY, query("UNLISTEN *"), READY, query("NOTIFY a"), READY), (95,)),

    Scenario("function call", (function_call(INT4PL, [b"2", b"3"]), READY), (81,), open_only=NO_CALLS),
    Scenario("function call with null", (function_call(INT4PL, [b"2", None]), READY), (81,), open_only=NO_CALLS),
    Scenario("function call, binary result", (
        function_call(INT4PL, [b"2", b"3"], result_format=1), READY), (81,), open_only=NO_CALLS),
    Scenario("function call that fails", (
        function_call(INT4DIV, [b"2", b"0"]), READY, query("SELECT 1"), READY), (81,), open_only=NO_CALLS),
    Scenario("function call with too few arguments", (function_call(INT4PL, [b"2"]), READY), (81,), open_only=NO_CALLS),
    Scenario("function that does not exist", (function_call(999_999), READY), (81,), open_only=NO_CALLS),
    Scenario("function call in a failed transaction", (
        query("BEGIN"), READY, query("SELECT 1/0"), READY, function_call(INT4PL, [b"2", b"3"]), READY,
        query("ROLLBACK"), READY), (81,), open_only=NO_CALLS),
    Scenario("function calls among queries", (
        query("BEGIN"), function_call(INT4PL, [b"2", b"3"]), query("SELECT 1"), function_call(INT4PL, [b"4", b"5"]),
        query("COMMIT"), Until("Z", 5)), (81,), open_only=NO_CALLS),
    Scenario("function call with a bad value", (function_call(INT4PL, [b"x", b"3"]), READY), (81,), open_only=NO_CALLS),

    Scenario("statement timeout", (
        query("SET statement_timeout = 30"), READY, query("SELECT pg_sleep(10)"), READY, query("SELECT 1"), READY),
        (99,)),
    Scenario("idle in transaction timeout", (
        query("SET idle_in_transaction_session_timeout = 30"), READY, query("BEGIN"), READY, Until("E"), End.STAYS),
        (99,)),
    Scenario("idle session timeout", (query("SET idle_session_timeout = 30"), READY, Until("E"), End.STAYS), (99,)),

    Scenario("wide row", (query("SELECT " + ", ".join(str(i) for i in range(600))), READY), (60,)),
    Scenario("row of 300 kB", (query("SELECT repeat('x', 300000)"), READY), (101, 106)),
    Scenario("rows of every size about 8 kB", (
        query("SELECT repeat('x', 8150 + i) FROM generate_series(1, 40) i"), READY), (106, 110)),
    Scenario("two results, the second of 8153 bytes", (query("SELECT 1; SELECT repeat('x', 8135)"), READY), (110,)),
    Scenario("five thousand rows", (query("SELECT i, 'row ' || i FROM generate_series(1, 5000) i"), READY), (106, 108)),
    Scenario("statement of 100 kB", (query("SELECT '" + "x" * 100_000 + "'"), READY), (60,), bulky=True),
    Scenario("statement of 9 kB", (query("SELECT '" + "x" * 9_000 + "'"), READY), (60,)),
    Scenario("statement of 20 kB of comment", (query("SELECT 1 /*" + "x" * 20_000 + "*/"), READY), (60,)),

    Scenario("half close after a query", (query("SELECT 1"), READY, End.HALF_CLOSE), (105,)),
    Scenario("half close with a query in flight", (query("SELECT count(*) FROM items"), End.HALF_CLOSE), (105,)),
    Scenario("half close inside a transaction", (
        query("BEGIN; INSERT INTO arrivals VALUES (1, 'a')"), READY, End.HALF_CLOSE), (85, 105)),
    Scenario("half close in the middle of a message", (
        query("SELECT 1"), READY, query("INSERT INTO arrivals VALUES (1, 'a')")[:-7], End.HALF_CLOSE), (75,)),
    Scenario("closed in the middle of a message", (
        query("INSERT INTO arrivals VALUES (1, 'a')")[:-7], End.CLOSE), (75,)),
    Scenario("reset in the middle of a message", (
        query("SELECT 1"), READY, query("INSERT INTO arrivals VALUES (1, 'a')")[:-7], End.RESET), (75,)),
    Scenario("sync and flush between queries", (
        query("SELECT 1"), SYNC, FLUSH, query("SELECT 2"), Until("Z", 3)), (67,)),

    Scenario("cursor", (
        query("BEGIN; DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id"), READY, query("FETCH 3 FROM c"), READY,
        query("MOVE 2 FROM c"), READY, query("FETCH ALL FROM c"), READY, query("FETCH 1 FROM c"), READY,
        query("CLOSE c; COMMIT"), READY), (78,)),
    Scenario("cursor with hold", (
        query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id; COMMIT"), READY,
        query("FETCH 3 FROM c"), READY, query("CLOSE c"), READY, query("FETCH 1 FROM c"), READY), (78,)),
    Scenario("prepare and execute in SQL", (
        query("PREPARE p (int) AS SELECT label FROM items WHERE id = $1"), READY, query("EXECUTE p(3)"), READY,
        query("EXECUTE p('x')"), READY, query("DEALLOCATE p"), READY, query("EXECUTE p(3)"), READY), (79, 80),
        open_only="errors of EXECUTE are withheld"),
    Scenario("a rule that adds results", (query("INSERT INTO ruled VALUES (1)"), READY)),
    Scenario("explain", (query("EXPLAIN (COSTS OFF) SELECT * FROM items WHERE id = 1"), READY)),
    Scenario("tables made and dropped", (
        query("CREATE TEMP TABLE t (a int)"), READY, query("INSERT INTO t VALUES (1), (2)"), READY,
        query("UPDATE t SET a = 3 RETURNING a + 0"), READY, query("DELETE FROM t"), READY, query("DROP TABLE t"),
        READY)),
)
