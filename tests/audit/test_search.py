"""Questions to the audit store, over events that the SQLite sink wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from hoopfast.audit import finding
from hoopfast.audit.events import Event, SessionEnd, SessionStart, Statement, encode, gateway_event, utc
from hoopfast.audit.finding import BadSearch, parse_time
from hoopfast.audit.search import AuditReader
from hoopfast.audit.sinks import sqlite
from hoopfast.audit.sinks.sqlite import SqliteSink
from hoopfast.audit.typed import Column, Raw, Results
from hoopfast.errors import GatewayError
from tests.audit.journal_writer import WALL

A, B = f"{1:016x}", f"{2:016x}"
HOUR = 3_600_000_000_000


def statement(session: str, seq: int, sql: str, hour: int = 0, **fields: Any) -> Statement:
    user, connection = ("ana", "orders") if session == A else ("bob", "crm")
    who: dict[str, Any] = {"user": user, "connection": connection}
    base: dict[str, Any] = {"kind": "simple", "verdict": "allow", "outcome": "complete", "groups": ("eng",)}
    return Statement(session=session, seq=seq, at=utc(WALL + hour * HOUR), sql=sql, **who, **(base | fields))


FULL = statement(
    A, 2, "SELECT * FROM public.customers WHERE id = $1", kind="extended", statement_name="s1", portal="p", row_limit=5,
    parameters=("1", None, Raw(600, "\\xff")), parameter_types=(23, 25, 600), rule="r1",
    masks=("customers.ssn=redact",), tables=("public.customers",), kinds=("select",),
    columns=("public.customers.*", "public.customers.id"), outcome="error", tag="SELECT 1", rows=1,
    bytes=2, copy_bytes=3, duration_us=4,
    error={"sqlstate": "22012", "message": "no"},
    results=(Results((Column("a", 23),), (("1",), (None,)), truncated=True),),
)
EVENTS: list[Event] = [
    SessionStart(
        session=A, seq=1, at=utc(WALL), user="ana", connection="orders", groups=("eng",), client="c:1", role="svc"),
    FULL,
    SessionStart(session=B, seq=1, at=utc(WALL + HOUR), user="bob", connection="crm", groups=("eng",)),
    statement(B, 2, "DELETE FROM invoices", 1, verdict="deny", outcome="denied", tables=("invoices",),
              kinds=("delete",), columns=("invoices.total",)),
    statement(B, 3, "UPDATE customers SET name = 'x -> y'", 2, tables=("customers",), kinds=("update",), rows=2000,
              columns=("customers.name",), duration_us=2_000_000),
    SessionEnd(session=B, seq=4, at=utc(WALL + 3 * HOUR), user="bob", reason="client"),
    gateway_event("login_refused", WALL + 4 * HOUR, 77, user="eve", client="c:9", reason="expired"),
]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    opened = SqliteSink(tmp_path / "audit.db")
    opened.write(EVENTS)
    yield opened
    opened.close()


@pytest.fixture
def reader(sink: SqliteSink, tmp_path: Path) -> Iterator[AuditReader]:
    opened = AuditReader(tmp_path / "audit.db")
    yield opened
    opened.close()


def found(reader: AuditReader, **filters: Any) -> list[tuple[str, int]]:
    return [(event["session"], event["seq"]) for event in reader.search(**filters)]


def test_events_come_back_as_they_are_exported(reader: AuditReader) -> None:
    for event, row in zip(EVENTS, reader.tail(0), strict=True):
        expected = orjson.loads(encode(event))
        if event is FULL:
            expected["client"] = "c:1"                   # the session's header counts
        assert {name: value for name, value in row.items() if name != "id"} == {
            name: value for name, value in expected.items() if name in row}
        assert set(expected) == set(row) - {"id"}


FILTERS: list[tuple[dict[str, str], list[tuple[str, int]]]] = [
    ({"user": "bob"}, [(B, 4), (B, 3), (B, 2), (B, 1)]),
    ({"user": "eve"}, [("0" * 16, 77)]),
    ({"connection": "orders"}, [(A, 2), (A, 1)]),
    ({"session": A, "event": "statement"}, [(A, 2)]),
    ({"text": "customers"}, [(B, 3), (A, 2)]),
    ({"text": "cust update"}, [(B, 3)]),
    ({"text": "->"}, [(B, 3)]),
    ({"text": '"OR 1=1 NEAR('}, []),
    ({"table": "customers"}, [(B, 3), (A, 2)]),
    ({"table": "public.customers"}, [(A, 2)]),
    ({"verdict": "deny"}, [(B, 2)]),
    ({"rule": "r1"}, [(A, 2)]),
    ({"outcome": "denied"}, [(B, 2)]),
    ({"sqlstate": "22012"}, [(A, 2)]),
    ({"sqlstate": "22"}, [(A, 2)]),
    ({"sqlstate": "23"}, []),
    ({"kind": "delete"}, [(B, 2)]),
    ({"kind": "delet"}, []),
    ({"column": "public.customers.ssn"}, [(A, 2)]),
    ({"column": "public.customers.name"}, [(B, 3), (A, 2)]),
    ({"column": "customers.name"}, [(B, 3), (A, 2)]),
    ({"column": "other.customers.name"}, [(B, 3)]),
    ({"column": "name"}, [(B, 3)]),
    ({"column": "customer.name"}, []),
    ({"rows": "1"}, [(B, 3), (A, 2)]),
    ({"rows": "2000"}, [(B, 3)]),
    ({"rows": "2001"}, []),
    ({"duration": "2s"}, [(B, 3)]),
    ({"duration": "50ms"}, [(B, 3)]),
    ({"duration": "1h"}, []),
    ({"event": "session_end"}, [(B, 4)]),
    ({"event": "statement", "outcome": "complete"}, [(B, 3)]),
    ({"since": "2026-01-01T01:00:00Z", "until": "2026-01-01T03:00:00Z", "user": "bob"}, [(B, 3), (B, 2), (B, 1)]),
    ({"since": "2026-01-01T02:00:00Z"}, [("0" * 16, 77), (B, 4), (B, 3)]),
    ({"until": "2026-01-01T02:00:00+01:00"}, [(A, 2), (A, 1)]),
    ({"user": "bob", "text": "invoices", "sqlstate": ""}, [(B, 2)]),
    ({"user": "bob' OR 1=1 --"}, []),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters(reader: AuditReader, filters: dict[str, str], expected: list[tuple[str, int]]) -> None:
    assert found(reader, **filters) == expected


@pytest.mark.parametrize("limits", [(0, 1, 0), (0, 2, 10**6), (10**6, 1, 1)])
def test_every_way_to_search_finds_the_same(
    reader: AuditReader, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int, int],
) -> None:
    """By the index at once, by the newest first, by the whole table: which is a matter of numbers alone."""
    asked: list[dict[str, str]] = [
        {"user": "bob"}, {"user": "eve"}, {"text": "customers"}, {"sqlstate": "22012"}, {"outcome": "denied"},
        {"column": "customers.name"}, {"rows": "1000"}, {"user": "ana", "table": "customers"}, {"event": "gateway"},
        {"since": "2026-01-01T02:00:00Z", "connection": "crm"}, {"outcome": "complete"}, {},
    ]
    plain = [found(reader, **filters) for filters in asked]
    exported = [list(reader.export(**filters)) for filters in asked]
    few, newest, many = limits
    monkeypatch.setattr(finding, "FEW", few)
    monkeypatch.setattr(finding, "NEWEST", newest)
    monkeypatch.setattr(finding, "MANY", many)
    monkeypatch.setattr(finding, "LISTED", many)
    assert [found(reader, **filters) for filters in asked] == plain
    assert [list(reader.export(**filters)) for filters in asked] == exported
    assert [len(lines) for lines in exported] == [len(events) for events in plain]
    assert found(reader, limit=1, user="bob", after=5) == [(B, 2)]


def test_who_saw_a_column(reader: AuditReader, sink: SqliteSink) -> None:
    (only,) = reader.who_saw("public.customers.ssn")
    assert (only["session"], only["user"], only["read"], only["rows"]) == (A, "ana", 1, 1)
    assert (only["masks"], only["clear"], only["sample"]) == (["customers.ssn=redact"], False, FULL.sql)
    assert [saw["session"] for saw in reader.who_saw("customers.name")] == [B, A]
    assert [saw["clear"] for saw in reader.who_saw("customers.name")] == [True, True]
    assert reader.who_saw("invoices.total") == []           # it was denied
    assert [saw["user"] for saw in reader.who_saw("customers.name", user="bob")] == ["bob"]
    assert reader.who_saw("customers.name", since="2026-01-01T05:00:00Z") == []
    assert len(reader.who_saw("customers.name", limit=1)) == 1
    more: dict[str, Any] = {"columns": ("public.customers.ssn",), "tables": ("public.customers",)}
    sink.write([
        statement(B, 10, "SELECT ssn FROM public.customers", outcome="skipped", **more),
        statement(B, 11, "SELECT ssn FROM public.customers", outcome="error", error={"sqlstate": "42501"}, **more),
    ])
    assert [saw["session"] for saw in reader.who_saw("public.customers.ssn")] == [A]
    sink.write([statement(B, 12, "SELECT ssn FROM public.customers", rows=3, **more)])
    assert [(saw["session"], saw["clear"], saw["read"]) for saw in reader.who_saw("public.customers.ssn")] == [
        (B, True, 1), (A, False, 1)]
    with pytest.raises(BadSearch, match="who-saw cannot be filtered by text"):
        reader.who_saw("a.b", text="x")


def test_paging_visits_everything_once(reader: AuditReader) -> None:
    seen: list[int] = []
    after = None
    while page := reader.search(limit=2, after=after):
        seen += [event["id"] for event in page]
        after = page[-1]["id"]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(EVENTS)
    assert [orjson.loads(line)["id"] for line in reader.export()] == seen[::-1]
    assert len(list(reader.export(limit=3))) == 3
    assert [orjson.loads(line)["seq"] for line in reader.export(user="ana")] == [1, 2]


def test_tail_sees_only_what_is_new(reader: AuditReader, sink: SqliteSink) -> None:
    last = reader.last_id()
    assert reader.tail(last) == []
    sink.write([*EVENTS, statement(A, 9, "SELECT 9")])
    assert [event["seq"] for event in reader.tail(last)] == [9]


def test_sessions(reader: AuditReader) -> None:
    first, second = reader.sessions()
    assert (first["session"], first["statements"], first["denied"], first["reason"]) == (B, 2, 1, "client")
    assert (second["session"], second["errors"], second["ended_at"], second["role"]) == (A, 1, None, "svc")
    assert [s["session"] for s in reader.sessions({"user": "ana"})] == [A]
    assert [s["session"] for s in reader.sessions({"live": True})] == [A]
    assert [s["session"] for s in reader.sessions({"connection": "crm", "since": "2026-01-01"})] == [B]
    assert len(reader.sessions(limit=1)) == 1


def test_one_session_with_what_runs_now(reader: AuditReader, sink: SqliteSink) -> None:
    sink.running([statement(A, 3, "SELECT pg_sleep(9)", outcome="running")])
    shown = reader.session(A)
    assert shown is not None
    assert [(e["seq"], e.get("outcome")) for e in shown["events"]] == [(1, None), (2, "error"), (3, "running")]
    assert shown["user"] == "ana"
    assert reader.session("f" * 16) is None


def test_wrong_filters_are_explained(reader: AuditReader) -> None:
    with pytest.raises(BadSearch, match="cannot be searched by color"):
        reader.search(color="red")
    with pytest.raises(BadSearch, match="15m, 2h, 7d"):
        reader.search(since="yesterday")
    with pytest.raises(BadSearch, match="write 250ms, 5s"):
        reader.search(duration="long")
    with pytest.raises(BadSearch, match="no number of rows"):
        reader.search(rows="-1")
    with pytest.raises(BadSearch, match="cannot be filtered by color"):
        reader.sessions({"color": "red"})


def test_ages() -> None:
    assert parse_time("1h") > parse_time("2h") > parse_time("7d")
    assert parse_time("2026-01-31") == "2026-01-31T00:00:00.000000000Z"


def test_missing_store_is_explained(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="cannot be read"):
        AuditReader(tmp_path / "none.db").search()


def test_times_are_looked_for_where_they_are(
    reader: AuditReader, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Late arrivals too: a long statement reaches the store after others that began later."""
    monkeypatch.setattr(sqlite, "SPAN", 4)
    monkeypatch.setattr(finding, "SPAN", 4)
    monkeypatch.setattr(finding, "FEW", 0)
    for hour in (10, 11, 12, 13, 5, 14, 15, 16, 17, 18, 19):
        sink.write([statement(A, 1000 + 10 * hour + n, f"SELECT {n}", hour) for n in range(3)])
    with closing(sqlite3.connect(f"file:{sink._path}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM spans WHERE block > 1").fetchone()[0] == 9
    expected = [(A, seq) for seq in (1052, 1051, 1050)]
    assert found(reader, since="2026-01-01T05:00:00Z", until="2026-01-01T06:00:00Z", connection="orders") == expected
    monkeypatch.setattr(finding, "NEWEST", 5)           # no more than the one block, if it is the right one
    monkeypatch.setattr(finding, "MANY", 0)
    assert found(reader, since="2026-01-01T05:00:00Z", until="2026-01-01T06:00:00Z", text="SELECT") == expected
    assert len(found(reader, until="2026-01-01T12:00:00Z", event="statement")) == 3 + 9
    assert found(reader, since="2026-01-01T19:00:00Z", limit=2) == [(A, 1192), (A, 1191)]
