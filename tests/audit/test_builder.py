"""Records to events: joining, lost outcomes, prepared statements, damage, and state that survives."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hoopfast import model
from hoopfast.audit import builder as native
from hoopfast.audit.builder import as_events
from hoopfast.audit.events import (
    Event,
    Gateway,
    Note,
    SessionEnd,
    SessionStart,
    Statement,
    decode,
    encode,
    nanoseconds,
    start_record,
    utc,
)
from hoopfast.audit.segments import Record, parse_name, read_segment
from hoopfast.audit.typed import Column, Results
from tests.audit.journal_writer import WALL, JournalWriter, data_row, error_body, row_description

S = 0xAB00_0000_0000_0001
PORTALS_MAX, PARSES_MAX = 4096, 1024


class EventBuilder(native.EventBuilder):
    """With structs for events, so that tests can look into them."""

    def feed(self, found: Iterable[Record]) -> list[Any]:
        return as_events(super().feed(found))

    def flush(self, wall: int) -> list[Any]:
        return as_events(super().flush(wall))


@pytest.fixture
def journal(tmp_path: Path) -> JournalWriter:
    writer = JournalWriter(tmp_path)
    writer.start(S)
    return writer


def records(journal: JournalWriter) -> list[tuple[int, list[Record]]]:
    names = sorted(filter(None, (parse_name(path.name) for path in journal.directory.iterdir())))
    paths = {name.sequence: journal.directory / f"w{name.worker}-{name.boot}-{name.sequence}.seg" for name in names}
    return [(n, read_segment(path.read_bytes(), model.JOURNAL_HEADER_BYTES).records) for n, path in paths.items()]


def build(journal: JournalWriter, builder: EventBuilder | None = None) -> list[Event]:
    builder = builder or EventBuilder(0, 1000)
    found: list[Event] = []
    for number, page in records(journal):
        builder.segment(number)
        found += builder.feed(page)
    return found


def statements(found: list[Event]) -> list[Statement]:
    return [event for event in found if isinstance(event, Statement)]


def test_simple_statement(journal: JournalWriter) -> None:
    query = journal.query(S, "SELECT 1", rule="r", tables=["t"], masks=["t.c=redact"])
    journal.result(S, query, row_description(("n", 23, 0)) + data_row(b"1"))
    journal.outcome(S, query, rows=1, sent=12, us=2500, first_us=1000)
    journal.end(S)
    start, done, end = build(journal)
    assert isinstance(start, SessionStart)
    assert (start.session, start.user, start.groups) == (f"{S:016x}", "ana@example.com", ("eng",))
    assert isinstance(done, Statement)
    assert (done.seq, done.kind, done.sql) == (query, "simple", "SELECT 1")
    assert (done.outcome, done.tag) == ("complete", "SELECT 1")
    assert (done.rows, done.bytes, done.duration_us, done.first_row_us) == (1, 12, 2500, 1000)
    assert (done.verdict, done.rule, done.tables, done.masks) == ("allow", "r", ("t",), ("t.c=redact",))
    assert done.results == (Results((Column("n", 23),), (("1",),)),)
    assert (done.user, done.connection, done.client) == ("ana@example.com", "orders", "192.0.2.1:7")
    assert isinstance(end, SessionEnd)
    assert end.reason == "client"
    assert all(decode(encode(event)) == event for event in (start, done, end))


def test_prepared_statement_with_parameters(journal: JournalWriter) -> None:
    journal.define(5, "SELECT $1, $2", (23, 25))
    journal.parse(S, 5, "s1")
    bind = journal.bind(S, 5, [struct.pack("!i", 42), b"x"], statement="s1", formats=(1, 0))
    first = journal.execute(S, 5, bind)
    journal.outcome(S, first)
    bind = journal.bind(S, 5, [None, b"y"], statement="s1")
    second = journal.execute(S, 5, bind)
    journal.outcome(S, second)
    one, two = statements(build(journal))
    assert (one.kind, one.statement_name) == ("extended", "s1")
    assert (one.parameters, one.parameter_types) == (("42", "x"), (23, 25))
    assert two.parameters == (None, "y")


def test_portal_executed_in_steps(journal: JournalWriter) -> None:
    journal.define(5, "SELECT x")
    bind = journal.bind(S, 5, [b"7"], portal="c1")
    for how in "SSC":
        journal.outcome(S, journal.execute(S, 5, bind, portal="c1", limit=10), how=how)
    found = statements(build(journal))
    assert [(s.outcome, s.portal, s.row_limit, s.parameters) for s in found] == [
        ("suspended", "c1", 10, ("7",)), ("suspended", "c1", 10, ("7",)), ("complete", "c1", 10, ("7",))]


def test_execute_of_an_unknown_bind_has_no_parameters(journal: JournalWriter) -> None:
    journal.define(5, "SELECT x")
    journal.bind(S, 5, [b"secret of another portal"])
    journal.outcome(S, journal.execute(S, 5, 0))
    (found,) = statements(build(journal))
    assert found.parameters is None


def test_pipeline_joins_by_sequence(journal: JournalWriter) -> None:
    journal.define(5, "INSERT")
    intents = []
    for n in range(3):
        bind = journal.bind(S, 5, [str(n).encode()])
        intents.append(journal.execute(S, 5, bind))
    for intent in intents:
        journal.outcome(S, intent)
    assert [s.parameters for s in statements(build(journal))] == [("0",), ("1",), ("2",)]


def test_parse_appears_only_when_it_failed(journal: JournalWriter) -> None:
    journal.define(5, "SELEC")
    journal.define(6, "SELECT 1")
    failed = journal.parse(S, 5, "bad")
    journal.outcome(S, failed, "", how="E", error=error_body("42601", "syntax error"))
    journal.parse(S, 6)
    journal.outcome(S, journal.execute(S, 6, journal.bind(S, 6, [])))
    journal.end(S)
    found = statements(build(journal))
    assert [(s.kind, s.sql, s.outcome) for s in found] == [
        ("parse", "SELEC", "error"), ("extended", "SELECT 1", "complete")]
    assert found[0].error == {
        "severity_local": "ERROR", "severity": "ERROR", "sqlstate": "42601", "message": "syntax error"}


def test_bind_that_failed(journal: JournalWriter) -> None:
    journal.define(5, "SELECT $1::int")
    bind = journal.bind(S, 5, [b"abc"])
    journal.outcome(S, bind, "", how="E", error=error_body("22P02", "invalid input"))
    (found,) = statements(build(journal))
    assert (found.seq, found.outcome, found.parameters) == (bind, "error", ("abc",))


def test_skipped_after_an_error_in_its_pipeline(journal: JournalWriter) -> None:
    journal.define(5, "INSERT")
    first = journal.execute(S, 5, journal.bind(S, 5, []))
    second = journal.execute(S, 5, journal.bind(S, 5, []))
    journal.outcome(S, second, "", how="K", rows=0)
    journal.outcome(S, first, "", how="E", error=error_body("23505", "twice"))
    assert [(s.seq, s.outcome) for s in statements(build(journal))] == [(second, "skipped"), (first, "error")]


def test_denied_and_function(journal: JournalWriter) -> None:
    query = journal.query(S, "GRANT", verdict="deny", rule="no-grants")
    journal.outcome(S, query, "", how="D", rows=0, error=error_body("42501", "no"))
    journal.define(9, "")
    body = struct.pack("!IHHHi", 721, 1, 1, 1, 4) + b"\0\0\0\x01" + struct.pack("!h", 1)
    journal.outcome(S, journal.function(S, 9, body), "")
    denied, called = statements(build(journal))
    assert (denied.outcome, denied.verdict, denied.rule) == ("denied", "deny", "no-grants")
    assert (called.kind, called.sql) == ("function", "function call 721")


def test_open_statements_of_a_dead_worker(journal: JournalWriter) -> None:
    journal.query(S, "SELECT pg_sleep(9)")
    builder = EventBuilder(0, 1000)
    assert statements(build(journal, builder)) == []
    assert [s.outcome for s in builder.running(journal.wall + 1)] == ["running"]
    assert builder.running(WALL) == []
    lost, end = builder.flush(journal.wall)
    assert isinstance(lost, Statement)
    assert (lost.outcome, lost.sql) == ("unknown", "SELECT pg_sleep(9)")
    assert isinstance(end, SessionEnd)
    assert end.reason == "gateway"
    assert builder.flush(0) == []


def test_session_end_settles_what_is_open(journal: JournalWriter) -> None:
    journal.query(S, "SELECT 1")
    journal.end(S, "upstream")
    assert [(type(e).__name__, getattr(e, "outcome", getattr(e, "reason", ""))) for e in build(journal)][1:] == [
        ("Statement", "unknown"), ("SessionEnd", "upstream")]


def test_note(journal: JournalWriter) -> None:
    journal.note(S, event="approval_opened", approval="a1")
    note = build(journal)[1]
    assert isinstance(note, Note)
    assert (note.note, note.user) == ({"event": "approval_opened", "approval": "a1"}, "ana@example.com")


def test_two_sessions_are_kept_apart(journal: JournalWriter) -> None:
    other = S + 1
    journal.start(other, user="bob")
    one, two = journal.query(S, "SELECT 1"), journal.query(other, "SELECT 2", 2)
    journal.outcome(other, two)
    journal.outcome(S, one)
    assert [(s.user, s.sql) for s in statements(build(journal))] == [
        ("bob", "SELECT 2"), ("ana@example.com", "SELECT 1")]


def test_large_bind_over_segments_and_outcome_in_the_last(journal: JournalWriter) -> None:
    journal.define(5, "INSERT")
    large = b"v" * 150_000
    bind = journal.bind(S, 5, [large])
    assert journal.number > 1
    journal.define(5, "INSERT")
    execute = journal.execute(S, 5, bind)
    journal.next_segment()
    journal.outcome(S, execute)
    found = build(journal)
    assert len(found) == 2
    (done,) = statements(found)
    assert (done.sql, done.parameters) == ("INSERT", (large.decode(),))


def test_statement_without_definition_is_reported_and_kept(journal: JournalWriter) -> None:
    journal.define(5, "INSERT")
    journal.next_segment()
    journal.outcome(S, journal.record(model.KIND_QUERY, S, struct.pack("<Q", 5)))
    _, damage, done = build(journal)
    assert isinstance(damage, Gateway)
    assert damage.fields["what"] == "statement 5 has no definition"
    assert isinstance(done, Statement)
    assert (done.sql, done.outcome) == ("", "complete")


def test_damage_is_an_event_with_a_stable_name(journal: JournalWriter) -> None:
    at = journal.at
    journal.query(S, "SELECT 1")
    journal.poke(at + 60, b"\xff\xff")
    first = [e for e in build(journal) if isinstance(e, Gateway)]
    second = [e for e in build(journal) if isinstance(e, Gateway)]
    assert first == second
    assert [e.action for e in first] == ["journal_damaged"] * 2                     # the definition, then its use
    assert first[0].fields["offset"] == at
    assert len({e.seq for e in first}) == 2


def test_outcome_without_intent_is_kept(journal: JournalWriter) -> None:
    journal.outcome(S, 999, "DELETE 5", rows=5)
    (found,) = statements(build(journal))
    assert (found.kind, found.seq, found.tag, found.rows) == ("lost", 999, "DELETE 5", 5)


@pytest.mark.parametrize("cut", ["mid", "divided"])
def test_snapshot_carries_everything(journal: JournalWriter, cut: str) -> None:
    journal.define(5, "SELECT $1", (25,))
    bind = journal.bind(S, 5, [b"x"], portal="c")
    query = journal.query(S, "SELECT 7", 7)
    if cut == "divided":
        journal.record(model.KIND_NOTE, S, b'{"a":"' + b"x" * 100_000 + b'"}')
    journal.outcome(S, query)
    journal.define(5, "SELECT $1", (25,))
    journal.outcome(S, journal.execute(S, 5, bind, portal="c"))
    journal.end(S)
    whole = build(journal)
    flat = [(n, r) for n, page in records(journal) for r in page]
    for split in range(len(flat)):
        builder, found, segment = EventBuilder(0, 1000), [], 0
        for i, (number, record) in enumerate(flat):
            if i == split:
                state = builder.snapshot()
                builder = EventBuilder(0, 1000)
                builder.restore(state)
                builder._rare.segment = segment
            if number != segment:
                builder.segment(segment := number)
            found += builder.feed([record])
        assert found == whole


def test_clone_shares_nothing(journal: JournalWriter) -> None:
    query = journal.query(S, "SELECT 1")
    builder = EventBuilder(0, 1000)
    build(journal, builder)
    other = builder.clone()
    builder.flush(0)
    journal.outcome(S, query)
    assert len(other.feed(records(journal)[0][1][-1:])) == 1


def test_memory_of_a_session_is_bounded(journal: JournalWriter) -> None:
    builder = EventBuilder(0, 1000)
    journal.define(5, "SELECT 1")
    build(journal, builder)
    for n in range(5000):
        body = struct.pack("<Q", 5) + f"p{n}".encode() + b"\0\0\0\0\0\0\0\0"
        builder.feed([Record(model.KIND_BIND, 0, S, 10 + n, 0, 0, body, 0)])
        builder.feed([Record(model.KIND_PARSE, 0, S, 10_000 + n, 0, 0, struct.pack("<Q", 5) + b"\0", 0)])
    _, _, [(number, _, portals, parses, _)] = builder._core.state()
    assert (number, len(portals), len(parses)) == (S, PORTALS_MAX, PARSES_MAX)


def test_header_of_the_front_is_understood() -> None:
    who = model.Identity(user="ana", subject="s", issuer="okta", groups=("a", "b"), method="secret", credential="c1")
    opened = model.SessionOpened(session=S, identity=who, connection="c", database="d", role="r", peer="p",
                                 application="psql", tls=True, started_at=1.0)
    record = Record(model.KIND_SESSION_START, 0, S, 1, WALL, 0, start_record(opened), 64)
    (start,) = EventBuilder(3).feed([record])
    expected: dict[str, Any] = {
        "user": "ana", "subject": "s", "issuer": "okta", "groups": ("a", "b"), "method": "secret", "credential": "c1",
        "connection": "c", "database": "d", "role": "r", "client": "p", "application": "psql", "tls": True, "worker": 3}
    assert {name: getattr(start, name) for name in expected} == expected
    assert start.at == "2026-01-01T00:00:00.000000000Z"


def test_utc() -> None:
    assert utc(951_782_400_000_000_001) == "2000-02-29T00:00:00.000000001Z"
    assert utc(0) == "1970-01-01T00:00:00.000000000Z"
    for ns in (0, WALL, 951_782_400_000_000_001, 951_868_799_999_999_999, 4_102_444_800_123_456_789):
        assert nanoseconds(utc(ns)) == ns
    with pytest.raises(ValueError, match="no time"):
        nanoseconds("2000-02-29")
