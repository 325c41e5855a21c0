"""Replay's decisions without servers: what is run, in which order, how it is sent, what counts as a difference."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from hoopfast.protocol import messages
from hoopfast.replay import compare, encode, order, treat
from hoopfast.replay.compare import Answer, Hidden, Origin, ResultSet
from hoopfast.replay.recorded import Reader, Recorded, Trail
from hoopfast.replay.target import Identity, Place, forbidden, refuse_by_name

MS = 1_000_000


def line(seq: int, sql: str = "SELECT 1", *, at: int = 0, ms: int = 1, session: str = "a", **fields: Any) -> bytes:
    """An exported statement; `at` in ms after noon."""
    moment = f"2026-01-01T12:00:{at // 1000:02d}.{at % 1000 * MS:09d}Z"
    base = {"event": "statement", "session": session, "seq": seq, "at": moment, "kind": "simple", "sql": sql,
            "outcome": "complete", "tag": "SELECT 1", "rows": 1, "duration_us": ms * 1000}
    return msgspec.json.encode(base | fields)


def trail(*lines: bytes) -> tuple[Trail, list[bytes]]:
    kept: list[bytes] = []

    def keep(data: bytes) -> tuple[int, int]:
        kept.append(data)
        return len(kept) - 1, len(data)

    reader = Reader(keep)
    for one in lines:
        reader.take(one)
    return reader.finish(), kept


def recorded(sql: str = "SELECT 1", **fields: Any) -> Recorded:
    return trail(line(1, sql, **fields))[0].sessions["a"].statements[0]


# ---------------------------------------------------------------- order

def test_what_had_ended_before_comes_first() -> None:
    made, _ = trail(
        line(1, "a1", at=0, ms=10), line(1, "b1", at=20, ms=10, session="b"),
        line(2, "a2", at=25, ms=50), line(2, "b2", at=40, ms=1, session="b"),
    )
    units = [unit for unit in order.units_of(made) if unit.what == order.RUN]
    assert [unit.statements[0].sql for unit in units] == ["a1", "b1", "a2", "b2"]
    ends = {unit.place: unit.statements[0].sql for unit in units}
    before = [{ends[place] for place in range(unit.after) if place in ends} for unit in units]
    assert before == [set(), {"a1"}, {"a1"}, {"a1", "b1"}], "a2 and b1 ran at the same time, and so did a2 and b2"


def test_the_write_that_ended_first_goes_first() -> None:
    write = {"kinds": ["update"], "tables": ["t"]}
    made, _ = trail(
        line(1, "waits", at=0, ms=50, **write), line(1, "first", at=1, ms=10, session="b", **write),
        line(1, "later", at=20, ms=5, session="c", **write), line(1, "reads", at=0, ms=9, session="d", tables=["t"]),
        line(1, "other", at=0, ms=9, session="e", kinds=["update"], tables=["u"]))
    units = {unit.statements[0].sql: unit for unit in order.units_of(made) if unit.what == order.RUN}
    assert units["waits"].rivals == (units["first"].place,), "not what passed while it waited"
    assert [units[name].rivals for name in ("first", "later", "reads", "other")] == [()] * 4


def test_sessions_are_left_when_they_were() -> None:
    start = msgspec.json.encode({"event": "session_start", "session": "a", "seq": 1,
                                 "at": "2026-01-01T12:00:00.000000000Z", "settings": {"search_path": "x"}})
    end = msgspec.json.encode({"event": "session_end", "session": "a", "seq": 9,
                               "at": "2026-01-01T12:00:00.500000000Z"})
    made, _ = trail(start, line(2, at=100), end, line(1, at=900, session="b"))
    assert made.sessions["a"].settings == {"search_path": "x"}
    assert [(unit.what, unit.session) for unit in order.units_of(made)] == [
        ("open", "a"), ("run", "a"), ("close", "a"), ("open", "b"), ("run", "b"), ("close", "b")]


def test_pipelines_are_found_by_what_was_not_waited_for() -> None:
    def extended(seq: int, at: int, outcome: str = "complete", session: str = "a") -> bytes:
        return line(seq, str(seq), at=at, ms=10, kind="extended", parameters=[], outcome=outcome, session=session)

    made, _ = trail(
        extended(1, 0), extended(2, 1), extended(3, 2), extended(4, 100), line(5, "5", at=101), extended(6, 200),
        extended(7, 201, "error"), extended(8, 202, "skipped"), extended(9, 203), extended(10, 300, "unknown"),
        extended(11, 301))
    found = order.batches(made.sessions["a"].statements)
    assert [[one.seq for one in batch] for batch in found] == [[1, 2, 3], [4], [5], [6, 7, 8], [9], [10], [11]]


def test_stop_at() -> None:
    made, _ = trail(line(1, at=0), line(2, at=10), line(3, at=20), line(1, at=5, session="b"),
                    line(2, at=15, session="b"))
    stop = order.Stop(made.sessions["a"].statements[1].begin, "a", 2)
    ran = [(unit.session, one.seq) for unit in order.units_of(made, stop=stop) for one in unit.statements]
    assert ran == [("a", 1), ("b", 1), ("a", 2)]


# ---------------------------------------------------------------- what is run

def planned(sql: str, *, read_only: bool = False, in_transaction: bool = False, **fields: Any) -> treat.Plan:
    return treat.plan(recorded(sql, **fields), read_only=read_only, in_transaction=in_transaction)


@pytest.mark.parametrize(("fields", "kind"), [
    ({"outcome": "denied", "rule": "no-grants"}, "refused"), ({"outcome": "skipped"}, "never-ran"),
    ({"kind": "function"}, "function-call"), ({"kind": "lost"}, "no-text"),
    ({"kind": "extended", "sql": "SELECT $1"}, "no-text"), ({"protected": "sealed"}, "protected"),
    ({"kind": "extended", "parameters": [{"sealed": "x"}]}, "protected"), ({"sql": "COPY t FROM STDIN"}, "no-data"),
    ({"sql": "COPY t FROM STDIN", "kinds": ["copy_from"]}, "no-data"), ({"sql": None}, "no-text"),
])
def test_what_cannot_be_run_is_left_out(fields: dict[str, Any], kind: str) -> None:
    found = treat.plan(trail(line(1, **fields))[0].sessions["a"].statements[0], read_only=False, in_transaction=False)
    assert found.kind == kind and found.why


@pytest.mark.parametrize("sql", ["SELECT 1", "COPY t FROM '/x'", "SELECT $$1 $1$$", "SELEC", "VACUUM", "COMMIT"])
def test_what_can_be_run_is_run(sql: str) -> None:
    assert not planned(sql).why
    assert not planned("SELECT 1", kind="extended").why, "no parameters are needed"


@pytest.mark.parametrize("sql", [
    "BEGIN READ WRITE", "START TRANSACTION READ WRITE", "SET TRANSACTION READ WRITE", "SET transaction_read_only = off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "set DEFAULT_transaction_read_only to off",
    "SELECT set_config('transaction_read_only', 'off', false)", "SELECT pg_catalog.set_config(a, b, c) FROM t",
    "DO $$ BEGIN END $$", "CALL p()", "COPY t TO PROGRAM 'sh'", "COPY t TO '/tmp/x'", "SELECT 1; COMMIT; DELETE FROM t",
    "ALTER SYSTEM SET work_mem = 1", "VACUUM t", "SELEC; COMMIT",
])
def test_read_only_stays_read_only(sql: str) -> None:
    assert planned(sql, read_only=True).kind == "read-only", sql


@pytest.mark.parametrize("sql", [
    "SELECT 1", "BEGIN", "BEGIN READ ONLY", "COMMIT", "SET search_path = x", "SELECT set_config('a.b', 'x', false)",
    "COPY t TO STDOUT", "RESET ALL", "DISCARD ALL", "BEGIN; SELECT 1; COMMIT",
])
def test_read_only_lets_readers_read(sql: str) -> None:
    assert not planned(sql, read_only=True).why, sql


@pytest.mark.parametrize(("sql", "adapt"), [
    ("BEGIN", "begin"), ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "begin"), ("COMMIT AND CHAIN", "commit"),
    ("END", "commit"), ("ABORT", "rollback"), ("SAVEPOINT x", ""), ("ROLLBACK TO x", ""), ("SELECT 1", ""),
])
def test_transactions_become_savepoints(sql: str, adapt: str) -> None:
    found = planned(sql, in_transaction=True)
    assert (found.adapt, found.why) == (adapt, "")


@pytest.mark.parametrize("sql", [
    "VACUUM", "CREATE DATABASE x", "CREATE INDEX CONCURRENTLY ON t (a)", "REINDEX TABLE CONCURRENTLY t", "DISCARD ALL",
    "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "INSERT INTO t VALUES (1); COMMIT", "COMMIT; frobnicate",
    "DROP INDEX CONCURRENTLY i", "ALTER TABLE a DETACH PARTITION b CONCURRENTLY", "ALTER SYSTEM RESET ALL",
])
def test_what_would_leave_the_transaction_is_left_out(sql: str) -> None:
    assert planned(sql, in_transaction=True).kind == "in-transaction", sql


# ---------------------------------------------------------------- how it is sent

def test_parameters_go_in_the_formats_in_which_they_came() -> None:
    one = recorded("SELECT", kind="extended", parameters=["7", "t", None, {"oid": 0, "hex": "\\xff00"}, "2020-01-01"],
                   parameter_types=[23, 16, 25, 25, 1082], parameter_bytes=["00000007", "01", None, None, "00001c89"])
    assert encode.parameters(one) == (
        [struct.pack("!i", 7), b"\x01", None, b"\xff\x00", b"\x00\x00\x1c\x89"], [1, 1, 0, 0, 1])
    one = recorded("SELECT", kind="extended", parameters=["7", "x"], parameter_types=[23])
    assert encode.parameters(one) == ([b"7", b"x"], [])
    with pytest.raises(ValueError, match="as it was sent"):
        encode.parameters(recorded("SELECT", kind="extended", parameters=[{"hex": "?"}]))


def test_named_statements_are_parsed_once() -> None:
    prepared = encode.Prepared()
    first, other = recorded("SELECT 1", statement_name="s"), recorded("SELECT 2", statement_name="s")
    assert prepared.messages(first).endswith(messages.parse("s", "SELECT 1"))
    assert prepared.messages(first) == b""
    assert prepared.messages(other) == messages.close_statement("s") + messages.parse("s", "SELECT 2")
    prepared.forget(())
    assert prepared.messages(other) != b""
    assert prepared.messages(recorded("SELECT 3")) == messages.parse("", "SELECT 3") != b""


# ---------------------------------------------------------------- differences

def described(*columns: tuple[str, int, int, int]) -> bytes:
    """A RowDescription body: (name, table OID, attribute, type)."""
    body = struct.pack("!H", len(columns))
    for name, table, attnum, oid in columns:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", table, attnum, oid, -1, -1, 0)
    return body


def answered(*rows: tuple[str | None, ...], columns: tuple[tuple[str, int, int, int], ...], tag: str = "") -> Answer:
    frames = bytearray()
    for row in rows:
        body = struct.pack("!H", len(row))
        for value in row:
            body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value.encode()
        frames += messages.frame(b"D", body)
    found = ResultSet(described(*columns), frames, len(rows))
    return Answer("complete", [tag or f"SELECT {len(rows)}"], len(rows), sets=[found])


def judged(
    one: Recorded, answer: Answer, *rows: list[str | None], columns: list[str], truncated: bool = False,
    origins: dict[tuple[int, int], Origin] | None = None, hidden: frozenset[str] = frozenset(),
) -> compare.Verdict:
    kept = [{"columns": [{"name": name, "oid": 25} for name in columns], "rows": rows, "copy": "",
             "truncated": truncated}]
    return compare.compare(one, answer, msgspec.json.encode(kept), origins or {}, Hidden(hidden))


TWO = (("a", 9, 1, 25), ("b", 9, 2, 25))


def test_rows_are_compared_by_value() -> None:
    one = recorded("SELECT a, b FROM t ORDER BY a", tag="SELECT 2", rows=2)
    same = judged(one, answered(("1", "x"), ("2", None), columns=TWO), ["1", "x"], ["2", None], columns=["a", "b"])
    assert same.status == "same" and same.recorded.digest and same.replayed is not None
    assert same.recorded.digest == same.replayed.digest
    other = judged(one, answered(("1", "x"), ("2", "y"), columns=TWO), ["1", "x"], ["2", None], columns=["a", "b"])
    assert (other.status, other.kind) == ("differs", "values")
    assert other.why == "1 of 2 rows differ, in b" and other.diff == ("- row 2, b: NULL", "+ row 2, b: y")
    assert other.replayed is not None and other.recorded.digest != other.replayed.digest
    turned = judged(one, answered(("2", "y"), ("1", "x"), columns=TWO), ["1", "x"], ["2", "y"], columns=["a", "b"])
    assert (turned.status, turned.kind) == ("differs", "order")
    loose = msgspec.structs.replace(one, sql="SELECT a, b FROM t")
    turned = judged(loose, answered(("2", "y"), ("1", "x"), columns=TWO), ["1", "x"], ["2", "y"], columns=["a", "b"])
    assert turned.status == "same" and "another order" in turned.note
    renamed = judged(one, answered(("1", "x"), ("2", None), columns=(*TWO[:1], ("c", 9, 2, 25))),
                     ["1", "x"], ["2", None], columns=["a", "b"])
    assert (renamed.kind, renamed.why) == ("columns", "its columns were a, b and are a, c")


def test_the_first_part_of_a_long_result_is_compared() -> None:
    one = recorded("SELECT a FROM t ORDER BY a", tag="SELECT 3", rows=3)
    live = answered(("1",), ("2",), ("3",), columns=TWO[:1])
    assert judged(one, live, ["1"], ["2"], columns=["a"], truncated=True).status == "same"
    assert judged(one, live, ["1"], ["9"], columns=["a"], truncated=True).status == "differs"


def test_values_that_the_server_chooses_have_a_class_of_their_own() -> None:
    one = recorded("SELECT a, b FROM t", tag="SELECT 1")
    generated = {(9, 1): Origin("public.t.a", is_table=True, generated=True),
                 (9, 2): Origin("public.t.b", is_table=True, generated=False)}
    live = answered(("8", "x"), columns=TWO)
    assert judged(one, live, ["7", "x"], columns=["a", "b"], origins=generated).kind == "server-chosen"
    assert judged(one, live, ["7", "y"], columns=["a", "b"], origins=generated).kind == "values"
    clock = recorded("SELECT a, current_timestamp FROM t", tag="SELECT 1")
    assert judged(clock, live, ["7", "x"], columns=["a", "b"]).kind == "server-chosen"


def test_hidden_columns_are_left_out_and_never_shown() -> None:
    one = recorded("SELECT a, b FROM t", tag="SELECT 1", masks=["public.t.b"], tables=["t"])
    known = {(9, 1): Origin("public.t.a", is_table=True, generated=False),
             (9, 2): Origin("public.t.b", is_table=True, generated=False)}
    hidden = frozenset({"public.t.b"})
    live = answered(("1", "raw"), columns=TWO)
    found = judged(one, live, ["1", "***"], columns=["a", "b"], origins=known, hidden=hidden)
    assert (found.status, found.note) == ("same", "not comparable: masked: b")
    # A view, or a table that nobody knows: nothing of it is compared.
    for origins in ({}, {(9, 1): Origin("public.v.a", is_table=False, generated=False)}):
        found = judged(one, live, ["2", "***"], columns=["a", "b"], origins=origins, hidden=hidden)
        assert found.status == "same" and found.note == "not comparable: masked: a, b"
    # Somebody who saw the column in clear: it is compared, and still not shown.
    clear = recorded("SELECT a, b FROM t", tag="SELECT 1", tables=["t"])
    found = judged(clear, live, ["1", "other"], columns=["a", "b"], origins=known, hidden=hidden)
    assert found.status == "differs" and "raw" not in str(found) and "other" not in str(found.diff)
    failed = Answer("error", sqlstate="22P02", message='invalid input: "raw"')
    assert "raw" not in str(compare.compare(one, failed, b"", known, Hidden(hidden)))


@pytest.mark.parametrize(("fields", "answer", "kind", "why"), [
    ({}, Answer("complete", ["SELECT 2"], 2), "row-count", "tag was 'SELECT 1' and is 'SELECT 2'"),
    ({"tag": "FETCH"}, Answer("complete", ["FETCH"], 3), "row-count", "returned 1 rows and returns 3"),
    ({"tag": "COMMIT"}, Answer("complete", ["ROLLBACK"], 1), "tag", "'COMMIT' and is 'ROLLBACK'"),
    ({}, Answer("error", sqlstate="42P01", message="it failed"), "error", "fails with 42P01 (it failed) now"),
    ({}, Answer("error", sqlstate="40001"), "concurrency", "succeeded then"),
    ({"error": {"sqlstate": "23505"}, "outcome": "error"}, Answer("complete", ["SELECT 1"], 1), "error",
     "succeeds now"),
    ({}, Answer("skipped"), "pipeline", "a statement before it in its pipeline fails now"),
])
def test_differences_are_said(fields: dict[str, Any], answer: Answer, kind: str, why: str) -> None:
    found = compare.compare(recorded(**fields), answer, b"", {}, Hidden())
    assert (found.status, found.kind) == ("differs", kind) and why in found.why


def test_the_same_error_is_the_same_whatever_it_says() -> None:
    one = recorded(outcome="error", tag="", rows=0, error={"sqlstate": "23505", "message": "scrubbed"})
    assert compare.compare(one, Answer("error", sqlstate="23505", message="raw"), b"", {}, Hidden()).status == "same"
    one = recorded(outcome="unknown", tag="", rows=0)
    assert compare.compare(one, Answer("complete", ["SELECT 7"], 7), b"", {}, Hidden()).status == "unrecorded"


# ---------------------------------------------------------------- targets

GUARDED = [Place("orders", "db.invalid", 5432, "orders"), Place("x", "127.0.0.1", 6000, "x"),
           Place("the gateway itself", "localhost", 6432, "")]


@pytest.mark.parametrize("dsn", [
    "postgresql://me@DB.invalid/orders", "host=db.invalid. dbname=orders", "postgresql://a.invalid,db.invalid/orders",
    "host=localhost port=6000 dbname=x", "host=::1 port=6000 dbname=x",
    "host=other.invalid hostaddr=127.0.0.1 port=6000 dbname=x",
    "host=db.invalid user=orders", "host=/run/postgresql port=6000 dbname=x", "host=127.0.0.1 port=6432 dbname=any",
])
def test_upstreams_are_refused(dsn: str) -> None:
    with pytest.raises(type(forbidden("", "")), match="--i-mean-it"):
        refuse_by_name(dsn, GUARDED)


@pytest.mark.parametrize("dsn", ["host=db.invalid dbname=copy", "host=localhost port=6001 dbname=x"])
def test_other_databases_are_fine(dsn: str) -> None:
    refuse_by_name(dsn, GUARDED)


def test_no_dsn() -> None:
    with pytest.raises(ValueError, match="no PostgreSQL DSN"):
        refuse_by_name("nonsense", [])


def test_servers_are_known_by_what_they_say() -> None:
    here = Identity("2026-01-01 10:00:00.123+00", "orders", "7000", address="10.0.0.1", port=5432)
    assert here.is_same(Identity(here.started, "orders", "7000")) and here.is_same(Identity(here.started, "orders"))
    assert not here.is_same(Identity("2026-01-02", "orders", "7000")), "a copy made from files"
    assert not here.is_same(Identity(here.started, "copy", "7000"))
    assert here.is_at(Place("x", "10.0.0.1", 5432, "orders")) and not here.is_at(Place("x", "10.0.0.2", 5432, "orders"))
