"""How long questions to the audit store in PostgreSQL take, with as many events as you like.

`python -m bench.trail_search --events 10000000`: a store of 90 days, 20,000 sessions, 200 people, 10 connections, 300
tables and 20,000 texts, made by SQL; then the questions of docs/audit.md by AuditReader, newest 50 results, each twice.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import psutil
import psycopg

from hoopfast.audit.database import DAY_BITS, SCHEMA, PostgresStore
from hoopfast.audit.search import AuditReader
from hoopfast.audit.sinks.postgres_schema import tables
from tests.support.postgres import PostgresServer, scratch_directory

DAYS = 90
_SESSIONS = """INSERT INTO sessions (log, session, "user", connection, started_at, ended_at, header, day)
SELECT 1, lpad(to_hex(i), 16, '0'), 'user' || i %% 200 || '@example.com', 'db' || i %% 10, t, t,
 json_build_object('user', 'user' || i %% 200 || '@example.com', 'connection', 'db' || i %% 10)::text, %(today)s
FROM (SELECT i, to_char(to_timestamp(%(first)s * 86400.0 + i * 388), 'YYYY-MM-DD"T"HH24:MI:SS.US"000Z"') AS t
 FROM generate_series(1, 20000) i) s"""
_DEFINITIONS = """INSERT INTO definitions (digest, day, sql, verdict, rule, masks, tables, kinds, columns, types, words)
SELECT decode(md5(i::text), 'hex'), %(today)s, sql, CASE WHEN i %% 50 = 0 THEN 'deny' ELSE 'allow' END, '', '[]',
 '["public.table' || i %% 300 || '"]', '["' || kind || '"]', '["public.table' || i %% 300 || '.c' || i %% 7 || '"]',
 '[]',
 ('''' || replace(sql, ' ', ''' ''') || '''')::tsvector
FROM (SELECT i, CASE i %% 40 WHEN 0 THEN 'delete' WHEN 1 THEN 'update' ELSE 'select' END AS kind,
 lower(CASE i %% 40 WHEN 0 THEN 'delete' ELSE 'select' END || ' c' || i %% 7 || ' from table' || i %% 300 || ' where x_'
 || i) AS sql FROM generate_series(1, 20000) i) d"""
_NAMES = """INSERT INTO definition_names SELECT 'tables', 'public.table' || id %% 300, id FROM definitions UNION ALL
 SELECT 'columns', 'public.table' || id %% 300 || '.c' || id %% 7, id FROM definitions UNION ALL
 SELECT 'kinds', (kinds::json ->> 0), id FROM definitions"""
_EVENTS = """INSERT INTO events
SELECT (%(day)s::bigint << 36) + n, %(before)s + n,
 1 + ((%(day)s - %(first)s) * 222 + (random() * 400)::int) %% 20000, n,
 (%(day)s::bigint * 86400 + n * 86400 / %(count)s) * 1000000000, 1 + floor(random() * random() * 20000)::int,
 CASE WHEN random() < 0.02 THEN 1000 + n ELSE n %% 10 END,
 CASE WHEN random() < 0.01 THEN 100000 * (1 + n %% 20) ELSE 200 + n %% 1000 END, 1,
 CASE WHEN n %% 50 = 0 THEN 2 WHEN n %% 201 = 0 THEN 3 ELSE 1 END,
 '{"parameters":["4711"],"tag":"SELECT 1","bytes":120}'
FROM generate_series(1::bigint, %(count)s) n"""
_MARKS = """INSERT INTO marks SELECT 'sqlstate', (array['42P01', '23505', '57014'])[1 + id %% 3], id FROM events
 WHERE kind = 2 AND id >= %(day)s::bigint << 36 AND id < (%(day)s::bigint + 1) << 36"""
_SPANS = "INSERT INTO spans SELECT id / 4096, min(at), max(at) FROM events GROUP BY 1"


def fill(db: psycopg.Connection[Any], events: int) -> None:
    today = int(time.time()) // 86_400
    first, count = today - DAYS + 1, events // DAYS
    with db.transaction():
        db.execute(tables())  # type: ignore[arg-type]
    db.execute(f"SET search_path = {SCHEMA}")  # type: ignore[arg-type]
    db.execute("INSERT INTO logs (key) VALUES ('bench')")
    for query in (_SESSIONS, _DEFINITIONS):
        db.execute(query, {"today": today, "first": first})
    db.execute(_NAMES, ())
    for day in range(first, today + 1):
        if day < today:
            for name in ("events", "marks"):
                db.execute(f"CREATE TABLE {name}_{day} PARTITION OF {name} FOR VALUES FROM ({day << DAY_BITS}) "  # type: ignore[arg-type]
                           f"TO ({(day + 1) << DAY_BITS})")
        values = {"day": day, "first": first, "count": count, "before": (day - first) * count}
        db.execute(_EVENTS, values)
        db.execute(_MARKS, values)
    db.execute(_SPANS)
    db.execute("VACUUM ANALYZE")
    size = db.execute("SELECT pg_size_pretty(pg_database_size(current_database()))").fetchone()
    print(f"{count * DAYS:,} events, {size[0] if size else 0}")


QUESTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("a person", {"user": "user7@example.com"}),
    ("a person, a day two months ago", {"user": "user7@example.com", "since": "60d", "until": "59d"}),
    ("a connection", {"connection": "db3"}), ("a session", {"session": f"{19_000:016x}"}),
    ("the last hour", {"since": "1h"}), ("a day two months ago", {"since": "60d", "until": "59d"}),
    ("a table", {"table": "table77"}), ("a column", {"column": "public.table77.c0"}), ("a kind", {"kind": "delete"}),
    ("words of the text", {"text": "table77 c0"}), ("outcome error", {"outcome": "error"}),
    ("outcome denied", {"outcome": "denied"}), ("a SQLSTATE", {"sqlstate": "23505"}), ("its class", {"sqlstate": "23"}),
    ("rows at least 1000", {"rows": "1000"}), ("duration at least 1 s", {"duration": "1s"}),
    ("a person and a table", {"user": "user7@example.com", "table": "table77"}),
    ("a person, delete, 7 days", {"user": "user7@example.com", "kind": "delete", "since": "7d"}),
    ("a connection, delete, errors", {"connection": "db3", "kind": "delete", "outcome": "error"}),
    ("a common table, before 80 days ago", {"table": "table1", "until": "80d"}),
)


def timed(work: Any, server: PostgresServer) -> tuple[float, float, int]:
    """(elapsed, CPU of both sides, found); ms."""
    begin, used = time.perf_counter(), _cpu(server)
    found = work()
    return (time.perf_counter() - begin) * 1e3, (_cpu(server) - used) * 1e3, len(found)


def _cpu(server: PostgresServer) -> float:
    # A backend that is gone counts as its parent's child.
    times = psutil.Process(server.pid).cpu_times()
    return times.children_user + times.children_system + time.process_time()


def told(name: str, work: Any, server: PostgresServer) -> None:
    """Twice, the slower one."""
    times = [timed(work, server) for _ in range(2)]
    elapsed, used = max(one[0] for one in times), max(one[1] for one in times)
    print(f"{name:36} {elapsed:8.0f} ms  CPU {used:6.0f} ms  {times[0][2]} found", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.trail_search", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    settings = {"shared_buffers": "512MB", "max_wal_size": "4GB", "autovacuum": "off", "maintenance_work_mem": "256MB"}
    with PostgresServer(scratch_directory("trail"), log_statements=False, settings=settings) as server, \
            server.database("trail", owner="postgres"):
        with server.connect("trail") as db:
            fill(db, options.events)
        reader = AuditReader(PostgresStore(f"host={server.socket_dir} port={server.port} dbname=trail user=postgres"))
        for name, filters in QUESTIONS:
            told(name, lambda filters=filters: reader.search(limit=50, **filters), server)
        told("who-saw, 50 sessions", lambda: reader.who_saw("public.table77.c0", limit=50), server)
        told("sessions show", lambda: reader.session(f"{19_000:016x}") or {}, server)
        told("export of 100,000", lambda: list(reader.export(limit=100_000)), server)


if __name__ == "__main__":
    main()
