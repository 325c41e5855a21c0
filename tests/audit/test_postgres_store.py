"""The audit store in PostgreSQL: the same answers as the embedded one, exactly once through crashes, retention."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hoopfast.audit import finding
from hoopfast.audit.builder import Batch
from hoopfast.audit.chain import check_proof
from hoopfast.audit.database import PostgresStore, words_of
from hoopfast.audit.events import Event, encode
from hoopfast.audit.keys import KeyRing
from hoopfast.audit.outlet import DeadLetters
from hoopfast.audit.search import AuditReader
from hoopfast.audit.sinks import postgres as postgres_module
from hoopfast.audit.sinks.postgres import PostgresSink
from hoopfast.audit.sinks.postgres_schema import script
from hoopfast.audit.verify import Report, verify_trail
from hoopfast.audit.verify_files import verify_export
from hoopfast.audit.verify_postgres import PostgresTrail, checkpoint_lines, prove_postgres, verify_postgres
from hoopfast.errors import AuditUnavailable, GatewayError
from tests.audit.test_decoder import Chaos, by_core, segments
from tests.audit.test_search import EVENTS, FILTERS, FULL, A, B, found, statement
from tests.support.postgres import PostgresServer


class Store:
    """A database for the trail, and a gateway's state directory."""

    def __init__(self, server: PostgresServer, name: str, root: Path) -> None:
        self.dsn = server.dsn(name, "app")
        self.root = root
        self._server, self._name = server, name
        self._opened: list[PostgresSink] = []

    def sink(self, *, user: str = "app", **options: Any) -> PostgresSink:
        dsn = self._server.dsn(self._name, user)
        self._opened.append(PostgresSink(dsn, keys=KeyRing(self.root / "audit-keys"), **options))
        return self._opened[-1]

    def other(self, root: Path) -> Store:
        """Another gateway's view."""
        made = Store(self._server, self._name, root)
        made._opened = self._opened
        return made

    def close(self) -> None:
        for sink in self._opened:
            sink._disconnect()

    def connect(self) -> psycopg.Connection[Any]:
        return self._server.connect(self._name, options="-c search_path=hoopfast_audit")

    def ask(self, query: str, *values: Any) -> list[Any]:
        with contextlib.closing(self.connect()) as db:
            return db.execute(query, values).fetchall()  # type: ignore[arg-type]

    @property
    def keys(self) -> list[Ed25519PublicKey]:
        return [known.key for known in KeyRing(self.root / "audit-keys").public()]

    def verify(self, **options: Any) -> list[Report]:
        return verify_postgres(self.dsn, self.keys, **options)

    def names(self) -> list[tuple[str, int]]:
        return self.ask("SELECT s.session, e.seq FROM events e JOIN sessions s ON s.id = e.session ORDER BY e.id")


@pytest.fixture(scope="module")
def filled(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with postgres.database("trail") as name:
        store = Store(postgres, name, tmp_path_factory.mktemp("trail"))
        sink = store.sink()
        sink.write(EVENTS)
        sink.close()
        yield store
        store.close()


@pytest.fixture
def store(postgres: PostgresServer, tmp_path: Path) -> Iterator[Store]:
    with postgres.database("trail2") as name:
        made = Store(postgres, name, tmp_path)
        yield made
        made.close()


@pytest.fixture
def reader(filled: Store) -> Iterator[AuditReader]:
    opened = AuditReader(PostgresStore(filled.dsn))
    yield opened
    opened.close()


def test_events_come_back_as_they_are_exported(reader: AuditReader) -> None:
    for event, row in zip(EVENTS, reader.tail(0), strict=True):
        expected = orjson.loads(encode(event))
        if event is FULL:
            expected["client"] = "c:1"                   # the session's header counts
        assert {name: value for name, value in row.items() if name != "id"} == expected


def test_every_filter_finds_what_it_finds_in_the_embedded_store(
    reader: AuditReader, monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways: list[tuple[int, int, int]] = [(finding.FEW, finding.NEWEST, finding.MANY), (0, 1, 0), (0, 2, 10**6)]
    for ways_few, newest, many in ways:
        monkeypatch.setattr(finding, "FEW", ways_few)
        monkeypatch.setattr(finding, "NEWEST", newest)
        monkeypatch.setattr(finding, "MANY", many)
        for filters, expected in FILTERS:
            assert found(reader, **filters) == expected, filters


def test_sessions_who_saw_export(reader: AuditReader) -> None:
    session = reader.session(A)
    assert session is not None
    assert (session["user"], session["role"], len(session["events"])) == ("ana", "svc", 2)
    assert [one["session"] for one in reader.sessions({"user": "bob"})] == [B]
    assert [(one["session"], one["read"], one["clear"]) for one in reader.who_saw("public.customers.ssn")] == [
        (A, 1, False)]
    assert [orjson.loads(line)["seq"] for line in reader.export(user="bob")] == [1, 2, 3, 4]
    assert len(list(reader.export())) == len(EVENTS)
    assert reader.last_id() == reader.tail(0)[-1]["id"]


def test_words() -> None:
    text = 'SELECT "Gr\u00f6\u00dfe", a.b_c FROM x-- \N{SNOWMAN}'
    assert words_of(text) == ["select", "gro\u00dfe", "a", "b_c", "from", "x"]


def test_every_kind_of_statement_comes_back_to_the_byte(store: Store, tmp_path: Path) -> None:
    """What the core joined, and what it left to Python, from a journal with everything in it."""
    chaos = Chaos(tmp_path, 5)
    chaos.run(1500)
    items = by_core(segments(chaos.journal), chaos.random)
    sink = store.sink()
    sink.write(Batch(items))
    sink.write(Batch([statement(A, 70, "SELECT $1", parameters=("1",), first_row_us=5, parameter_bytes=("00",))]))
    sink.close()
    report = store.verify()[0]
    assert report.good, report
    assert report.events == len(items) + 1 > 200


# ---------------------------------------------------------------- exactly once

def batches(count: int, size: int = 5) -> list[list[Event]]:
    return [[statement(A, 100 * n + i, f"SELECT {n}") for i in range(size)] for n in range(1, count + 1)]


def test_what_comes_again_is_dropped_by_the_mark(store: Store) -> None:
    sink = store.sink()
    one, two, three = batches(3)
    sink.write(one)
    mark = sink.sync()
    sink.write(two)                                     # and the process is killed before the next mark is kept
    sink._disconnect()
    again = store.sink()
    again.restore(mark)
    again.write([*two[:3]])
    again.write([*two[3:], *three])
    again.close()
    assert store.names() == [(event.session, event.seq) for event in (*one, *two, *three)]
    assert all(report.good and report.recovered == 10 for report in store.verify()), store.verify()


def test_a_lost_mark_costs_time_and_no_repetition(store: Store) -> None:
    one, two = batches(2)
    sink = store.sink()
    sink.write([*EVENTS, *one])
    sink.close()
    again = store.sink()
    again.restore({})
    again.write(EVENTS)
    again.write([*one[2:], *two])
    again.close()
    assert sorted(store.names()) == sorted((event.session, event.seq) for event in (*EVENTS, *one, *two))
    assert all(report.good for report in store.verify()), store.verify()


@pytest.mark.parametrize("done", [True, False])
def test_a_commit_without_an_answer(store: Store, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    """The connection breaks while COMMIT is under way: it is looked up whether it was done."""
    one, two, three = batches(3)
    sink = store.sink()
    sink.write(one)
    db = sink._db
    assert db is not None
    real = db.execute

    def execute(query: Any, *args: Any, **options: Any) -> Any:
        if query == "COMMIT":
            if done:
                real(query)
            db.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return real(query, *args, **options)

    monkeypatch.setattr(db, "execute", execute)
    with pytest.raises(AuditUnavailable, match="may not have committed"):
        sink.write(two)
    sink.write(two)
    sink.write(three)
    sink.close()
    assert store.names() == [(event.session, event.seq) for event in (*one, *two, *three)]
    assert [(report.good, report.recovered, report.unsealed) for report in store.verify()] == [(True, 0, 0)]


def test_a_server_that_comes_back(store: Store) -> None:
    one, two = batches(2)
    sink = store.sink()
    sink.write(one)
    store.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hoopfast shipper'")
    with pytest.raises(AuditUnavailable):
        sink.write(two)
    sink.write(two)
    sink.close()
    assert len(store.names()) == 10
    assert all(report.good for report in store.verify()), store.verify()


def test_two_gateways_have_a_chain_each_and_answers_have_both(store: Store, tmp_path: Path) -> None:
    other = store.other(tmp_path / "other")
    first, second = store.sink(), other.sink()
    one, two = batches(2)
    first.write(EVENTS)
    second.write([statement(B, 900 + n, "SELECT 9") for n in range(3)])
    first.write(one)
    second.write(two)
    first.close()
    second.close()
    reports = [*store.verify(), *other.verify()]
    assert [(report.good, report.events) for report in reports] == [(True, 12), (True, 8)], reports
    reader = AuditReader(PostgresStore(store.dsn))
    assert len(reader.search(limit=100)) == 20
    assert len(reader.search(text="SELECT 9")) == 3
    reader.close()


def test_two_gateways_with_the_same_keys_are_told_apart(store: Store) -> None:
    first, second = store.sink(), store.sink()
    one, two = batches(2)
    first.write(one)
    second.write(two)
    with pytest.raises(AuditUnavailable, match="same keys"):
        first.write(one)


def test_a_role_that_can_only_add(store: Store) -> None:
    """As a DBA sets it up: the gateway's role owns nothing, and cannot take back what it wrote."""
    with store.connect() as db:
        db.execute("DROP ROLE IF EXISTS trail_writer; CREATE ROLE trail_writer LOGIN PASSWORD 'correct horse'")
        db.execute(script(90, "month", "trail_writer", ""))  # type: ignore[arg-type]
    sink = store.sink(user="trail_writer")
    sink.write(EVENTS)
    sink.kept(sink.sync())
    sink.write(batches(1)[0])
    sink.running([statement(A, 9999, "SELECT pg_sleep(9)")])
    sink.running([])
    assert sink._db is not None
    for change in (
        "DELETE FROM events", "UPDATE events SET rows = 0", "DELETE FROM checkpoints", "DROP TABLE events",
        "UPDATE checkpoints SET leaves = ''", "UPDATE settings SET keep_days = 1", "DELETE FROM definitions",
        "UPDATE definitions SET sql = ''", "TRUNCATE events",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sink._db.execute(change)
    sink.close()
    reports = verify_postgres(sink._dsn, store.keys)
    assert [(report.good, report.events) for report in reports] == [(True, 12)], reports
    with store.connect() as db:
        db.execute("DROP OWNED BY trail_writer; DROP ROLE trail_writer")


# ---------------------------------------------------------------- proof and retention

TAMPERING = {
    "UPDATE events SET rows = rows + 1 WHERE place = 4": "changed",
    "DELETE FROM events WHERE place = 4": "removed",
    "DELETE FROM events WHERE place > 9": "cut",
    "UPDATE definitions SET sql = 'SELECT 1' WHERE sql LIKE 'DELETE%'": "changed",
    "INSERT INTO events SELECT (SELECT min(id) FROM events) - 1, 0, session, seq + 1000, at, definition, rows,"
    " duration_us, log, kind, detail FROM events WHERE place = 4": "inserted",
    "UPDATE events e SET (session, seq, at, definition, kind, detail, rows, duration_us) = (SELECT session, seq, at,"
    " definition, kind, detail, rows, duration_us FROM events f WHERE f.place = 9 - e.place) WHERE place IN (4, 5)":
    "reordered",
    "DELETE FROM checkpoints WHERE number = 1": "removed",
    "DELETE FROM marks": "index",
    "DELETE FROM definition_names WHERE what = 'tables'": "index",
    "UPDATE sessions SET \"user\" = 'nobody' WHERE \"user\" = 'bob'": "index",
    "UPDATE spans SET latest = 0": "index",
}


def test_tampering_is_found(store: Store) -> None:
    sink = store.sink()
    sink.write(EVENTS)
    sink._transaction(sink._ready(), lambda: sink._seal(sink._ready()), ())
    sink.write(batches(1)[0])
    sink.close()
    assert [(report.good, report.checkpoints, report.events) for report in store.verify()] == [(True, 2, 12)]
    for change, kind in TAMPERING.items():
        with store.connect() as db:
            db.autocommit = False
            db.execute(change)  # type: ignore[arg-type]
            report = Report("tampered")
            verify_trail(PostgresTrail(db, 1, 0), report, store.keys)
            db.rollback()
        assert kind in {problem.kind for problem in report.problems}, (change, report)


def test_keys_are_rotated_and_the_new_one_alone_is_enough(store: Store) -> None:
    one, two = batches(2)
    sink = store.sink()
    sink.write(one)
    sink._transaction(sink._ready(), lambda: sink._seal(sink._ready()), ())
    KeyRing(store.root / "audit-keys").rotate()
    sink.write(two)
    sink.close()
    newest = store.keys[-1:]
    reports = verify_postgres(store.dsn, newest)
    assert [(report.good, report.events, report.checkpoints) for report in reports] == [(True, 10, 3)], reports
    again = store.sink()
    again.write(batches(3)[2])
    again.close()
    assert [report.good for report in verify_postgres(store.dsn, newest)] == [True]
    assert not verify_postgres(store.dsn, [Ed25519PrivateKey.generate().public_key()])[0].good


def test_one_event_is_proven(store: Store) -> None:
    sink = store.sink()
    sink.write(EVENTS)
    sink.close()
    for name in (f"{A}/2", str(store.ask("SELECT id FROM events WHERE place = 3")[0][0])):
        assert check_proof(prove_postgres(store.dsn, name), store.keys) == []
    with pytest.raises(GatewayError, match="no event"):
        prove_postgres(store.dsn, f"{A}/999")


def test_an_export_is_checked_with_checkpoints_kept_elsewhere(store: Store) -> None:
    second = store.root / "kept"
    sink = store.sink(checkpoints=second)
    for part in (EVENTS, *batches(2)):
        sink.write(part)
        sink._transaction(sink._ready(), lambda: sink._seal(sink._ready()), ())
        sink.sync()
    sink.close()
    assert [line.encode() for (line,) in store.ask("SELECT line FROM checkpoints ORDER BY number")] == [
        *checkpoint_lines(store.dsn, store.keys, 0)] == second.read_bytes().splitlines()
    assert store.verify(second=second)[0].good
    exported = store.root / "all.jsonl"
    lines = list(AuditReader(PostgresStore(store.dsn)).export())
    exported.write_bytes(b"".join(line + b"\n" for line in lines))
    assert verify_export(exported, second, store.keys).good
    exported.write_bytes(b"".join(line + b"\n" for line in [*lines[:8], *lines[9:]]))
    assert [problem.kind for problem in verify_export(exported, second, store.keys).problems] == ["removed"]
    exported.write_bytes(b"".join(line.replace(b"SELECT 2", b"SELECT 3") + b"\n" for line in lines))
    assert [problem.kind for problem in verify_export(exported, second, store.keys).problems] == ["changed"]


def test_a_text_with_more_words_than_an_index_takes_is_found(store: Store) -> None:
    sink = store.sink()
    words = " ".join(f"w{n}" for n in range(60_000))
    sink.write([statement(A, 1, f"INSERT INTO t VALUES ('{words} needle')"), statement(A, 2, "SELECT needle")])
    sink.close()
    reader = AuditReader(PostgresStore(store.dsn))
    assert found(reader, text="needle w59999") == [(A, 1)]
    assert found(reader, text="needle") == [(A, 2), (A, 1)]


def test_an_event_that_postgresql_refuses_is_a_dead_letter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = DeadLetters(store.root / "dead", "postgres")
    sink = store.sink(letters=letters)
    real = postgres_module.Rows.lines

    def lines(self: Any, *args: Any) -> bytes:
        return real(self, *args).replace(b"poison", b"\\xff")

    monkeypatch.setattr(postgres_module.Rows, "lines", lines)
    bad = statement(A, 50, "SELECT 1", parameters=("poison",))
    sink.write([*EVENTS[:3], bad, *EVENTS[3:]])
    sink.close()
    assert sorted(store.names()) == sorted((event.session, event.seq) for event in EVENTS)
    assert letters.count == 1
    assert store.verify()[0].good


def test_retention_removes_old_days_and_the_rest_stays_provable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days that are long ago, by moving the clock of gateway and store; then the present."""
    sink = store.sink(keep_days=30)
    sink._ready()
    now = time.time()
    for ago, batch in zip((60, 59, 31, 10, 0), batches(5), strict=True):
        day = int(now) // 86400 - ago
        with store.connect() as db:
            db.execute("SET ROLE app")
            db.execute("UPDATE clock SET last_id = %s", (day << 36,))
            for name in ("events", "marks"):
                if ago:
                    db.execute(f"CREATE TABLE {name}_old{ago} PARTITION OF {name} FOR VALUES FROM ({day << 36}) "  # type: ignore[arg-type]
                               f"TO ({(day + 1) << 36})")
            if ago:
                db.execute("INSERT INTO partitions VALUES (%s, %s, %s)", (day, day + 1, f"old{ago}"))
        monkeypatch.setattr(postgres_module, "_IDS", f"""UPDATE clock
            SET last_id = greatest(last_id, {day}::bigint << 36) + %s RETURNING last_id""")
        moment = now - ago * 86400
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: int(moment * 1e9))
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        sink.write(batch)
        sink._transaction(sink._ready(), lambda: sink._seal(sink._ready()), ())
    monkeypatch.undo()
    assert [report.good for report in store.verify()] == [True]
    assert store.ask("SELECT dropped FROM maintain()") == [(3,)]
    report = store.verify()[0]
    assert (report.good, report.events, report.checkpoints) == (True, 10, 5), report
    assert any("events 1 to 15" in note and "retention" in note for note in report.notes), report.notes
    assert [name for _, name in store.names()] == [400, 401, 402, 403, 404, 500, 501, 502, 503, 504]
    # The same said of days that retention should have left is no excuse.
    with store.connect() as db:
        db.execute("DELETE FROM events WHERE place <= 20")
        db.execute("UPDATE removed SET end_id = (SELECT min(id) FROM events) WHERE suffix = 'old31'")
    assert "removed" in {problem.kind for problem in store.verify()[0].problems}
    assert store.verify(keep_days=5)[0].good
    sink.write(batches(6)[5])
    sink.close()
    assert store.names()[-1] == (A, 604)
