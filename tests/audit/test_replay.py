"""Replay: what is compared, what is not run, which targets are refused. A stub stands for libpq; one test is real."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import pq

from hoopfast.audit.replay import ForbiddenTarget, Report, Target, refuse_upstream, replay
from tests.support.postgres import PASSWORD, PostgresServer

OK, ROWS, FAILED = pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.FATAL_ERROR


def result(tag: str = "", rows: int = 0, status: pq.ExecStatus = ROWS, sqlstate: str = "") -> Any:
    fields = {pq.DiagnosticField.SQLSTATE: sqlstate.encode(), pq.DiagnosticField.MESSAGE_PRIMARY: b"it failed"}
    return SimpleNamespace(
        status=status, ntuples=rows, command_status=tag.encode(), error_field=fields.get, error_message=b"")


class StubConnection:
    """Answers each message with the next list of results and remembers what was sent."""

    def __init__(self, *answers: list[Any]) -> None:
        self.pgconn = self
        self.status = pq.ConnStatus.OK
        self.sent: list[tuple[Any, ...]] = []
        self.answers = list(answers)
        self.now: list[Any] = []

    def _take(self, *message: Any) -> None:
        self.sent.append(message)
        self.now = [*self.answers.pop(0), None]

    def send_query(self, sql: bytes) -> None:
        self._take("query", sql)

    def send_query_params(self, sql: bytes, values: Any, types: Any, formats: Any) -> None:
        self._take("params", sql, values, types, formats)

    def send_prepare(self, name: bytes, sql: bytes, types: Any) -> None:
        self._take("prepare", sql, types)

    def get_result(self) -> Any:
        return self.now.pop(0)

    def put_copy_end(self, error: bytes) -> None:
        self.sent.append(("copy_end", error))

    def get_copy_data(self, _: int) -> tuple[int, bytes]:
        return -1, b""


def event(seq: int, sql: str = "SELECT 1", **fields: Any) -> dict[str, Any]:
    base = {"event": "statement", "session": "s", "seq": seq, "kind": "simple", "sql": sql, "outcome": "complete",
            "tag": "SELECT 1", "rows": 1, "parameters": None, "parameter_types": []}
    return base | fields


def run(events: list[dict[str, Any]], *answers: list[Any], **options: Any) -> tuple[Report, StubConnection]:
    stub = StubConnection(*answers)
    return replay(events, stub, **options), stub  # type: ignore[arg-type]


def test_statements_go_in_order_the_way_they_came() -> None:
    raw = {"oid": 600, "hex": "\\xff00"}
    events = [
        event(5, "SELECT $1", kind="extended", parameters=["a", None, raw], parameter_types=[25]),
        event(2, "SELECT 1"), {"event": "note", "session": "s", "seq": 3},
        event(9, "SELEC", kind="parse", outcome="error", tag="", rows=0, error={"sqlstate": "42601"}),
    ]
    report, stub = run(
        events, [result("SELECT 1", 1)], [result("SELECT 1", 1)], [result(status=FAILED, sqlstate="42601")])
    assert [step.status for step in report.steps] == ["same"] * 3
    assert stub.sent == [
        ("query", b"SELECT 1"),
        ("params", b"SELECT $1", [b"a", None, b"\xff\x00"], [25, 0, 0], [0, 0, 1]),
        ("prepare", b"SELEC", None),
    ]


@pytest.mark.parametrize(("fields", "answer", "why"), [
    ({}, result("SELECT 2", 2), "tag was 'SELECT 1' and is 'SELECT 2'"),
    ({"tag": "FETCH"}, result("FETCH", 3), "returned 1 rows and returns 3"),
    ({}, result(status=FAILED, sqlstate="42P01"), "succeeded then and fails with 42P01 (it failed) now"),
    ({"error": {"sqlstate": "23505"}, "outcome": "error"}, result("SELECT 1", 1),
     "failed with 23505 then and succeeds now"),
])
def test_differences_are_said(fields: dict[str, Any], answer: Any, why: str) -> None:
    report, _ = run([event(1, **fields)], [answer])
    assert report.differs == 1
    assert why in report.steps[0].why


def test_same_error_is_the_same_whatever_it_says() -> None:
    recorded = event(1, outcome="error", tag="", rows=0, error={"sqlstate": "23505", "message": "scrubbed"})
    report, _ = run([recorded], [result(status=FAILED, sqlstate="23505")])
    assert report.same == 1


def test_several_statements_in_one_query() -> None:
    report, _ = run([event(1, tag="BEGIN; SELECT 1; COMMIT")],
                    [result("BEGIN", status=OK), result("SELECT 1", 1), result("COMMIT", status=OK)])
    assert report.same == 1


def test_what_cannot_be_run_is_skipped_and_said() -> None:
    events = [
        event(1, outcome="denied", rule="no-grants"), event(2, kind="function"), event(3, sql="", kind="lost"),
        event(4, "SELECT $1", kind="extended"),
    ]
    report, stub = run(events)
    assert stub.sent == []
    assert [step.status for step in report.steps] == ["skipped"] * 4
    assert "refused it (no-grants)" in report.steps[0].why


def test_copy_from_the_client_is_ended_and_skipped() -> None:
    report, stub = run([event(1, "COPY t FROM STDIN", tag="COPY 5")], [result(status=pq.ExecStatus.COPY_IN)])
    assert report.skipped == 1
    assert stub.sent[-1][0] == "copy_end"


def test_portal_in_steps_runs_once() -> None:
    events = [event(n, "SELECT x", kind="extended", parameters=[], row_limit=5, portal="c", outcome=how, tag="")
              for n, how in ((1, "suspended"), (2, "suspended"), (3, "complete"), (4, "complete"))]
    report, _ = run(events, [result("SELECT 12", 12)], [result("SELECT 3", 3)])
    assert [step.status for step in report.steps] == ["same", "skipped", "skipped", "same"]


def test_unknown_outcome_is_run_but_not_compared() -> None:
    report, _ = run([event(1, outcome="unknown", tag="", rows=0)], [result("SELECT 7", 7)])
    assert (report.unrecorded, report.differs) == (1, 0)


def test_read_only() -> None:
    _, stub = run([], [result("SET", status=OK)], read_only=True)
    assert stub.sent == [("query", b"SET default_transaction_read_only = on")]


UPSTREAM = [Target(host="db.internal", port=5432, database="orders"), Target(host="127.0.0.1", port=6000, database="x")]


@pytest.mark.parametrize("dsn", [
    "postgresql://me@DB.internal/orders", "host=db.internal. dbname=orders", "postgresql://a,db.internal/orders",
    "host=localhost port=6000 dbname=x", "host=::1 port=6000 dbname=x",
    "host=other hostaddr=127.0.0.1 port=6000 dbname=x",
    "host=db.internal user=orders",
])
def test_upstreams_are_refused(dsn: str) -> None:
    with pytest.raises(ForbiddenTarget, match="--i-mean-it"):
        refuse_upstream(dsn, UPSTREAM)


@pytest.mark.parametrize("dsn", ["host=db.internal dbname=copy", "host=localhost port=6001 dbname=x", "host=sandbox"])
def test_other_databases_are_fine(dsn: str) -> None:
    refuse_upstream(dsn, UPSTREAM)


def test_no_dsn() -> None:
    with pytest.raises(ValueError, match="no PostgreSQL DSN"):
        refuse_upstream("nonsense", [])


def test_against_a_real_server(postgres: PostgresServer) -> None:
    events = [
        event(1, "CREATE TEMP TABLE t (a int PRIMARY KEY)", tag="CREATE TABLE", rows=0),
        event(2, "INSERT INTO t VALUES ($1)", kind="extended", parameters=["7"], parameter_types=[],
              tag="INSERT 0 1", rows=0),
        event(3, "INSERT INTO t VALUES (7)", outcome="error", tag="", rows=0, error={"sqlstate": "23505"}),
        event(4, "SELECT a FROM t WHERE a = $1", kind="extended", parameters=[{"oid": 23, "hex": "\\x00000007"}],
              parameter_types=[23]),
        event(5, "SELECT 1; SELECT 2", tag="SELECT 1; SELECT 1", rows=2),
        event(6, "COPY t FROM STDIN", tag="COPY 1", rows=0),
        event(7, "COPY t TO STDOUT", tag="COPY 1", rows=1),
        event(8, "SELECT count(*) FROM generate_series(1, 3)", tag="SELECT 3", rows=3),
    ]
    with psycopg.connect(
        host="127.0.0.1", port=postgres.port, user="app", password=PASSWORD, dbname="postgres", autocommit=True,
    ) as connection:
        report = replay(events, connection)
    assert [(step.seq, step.status) for step in report.steps] == [
        (1, "same"), (2, "same"), (3, "same"), (4, "same"), (5, "same"), (6, "skipped"), (7, "same"), (8, "differs")]
