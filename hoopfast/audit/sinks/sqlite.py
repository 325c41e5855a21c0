"""The embedded audit store: one SQLite file that the console, the admin API and `hoopfast audit` search.

Written by the shipper's thread alone; audit.search reads it. Texts and verdicts stand once (`definitions`, with a
full-text index), headers once per session, so a statement costs one narrow row. Events are never changed or removed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hoopfast.audit.events import Event, Gateway, SessionEnd, SessionStart, Statement, encode
from hoopfast.audit.typed import Results, Value
from hoopfast.errors import AuditUnavailable

VERSION = 1
CACHED_MAX = 50_000                     # ids kept in memory, of sessions and of definitions
_BUSY_MS = 5000

_TABLES = """
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, session TEXT NOT NULL UNIQUE, user TEXT NOT NULL DEFAULT '',
  connection TEXT NOT NULL DEFAULT '', started_at TEXT, ended_at TEXT, reason TEXT, header TEXT NOT NULL DEFAULT '{}');
CREATE INDEX sessions_user ON sessions (user);
CREATE INDEX sessions_connection ON sessions (connection);
CREATE INDEX sessions_started ON sessions (started_at);
CREATE TABLE definitions (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, sql TEXT NOT NULL, verdict TEXT NOT NULL, rule TEXT NOT NULL,
  masks TEXT NOT NULL, tables TEXT NOT NULL, types TEXT NOT NULL);
CREATE TABLE definition_tables (
  name TEXT NOT NULL, definition INTEGER NOT NULL, PRIMARY KEY (name, definition)) WITHOUT ROWID;
CREATE VIRTUAL TABLE texts USING fts5 (
  sql, content='definitions', content_rowid='id', tokenize="unicode61 tokenchars '_'");
CREATE TABLE events (
  id INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, at TEXT NOT NULL,
  definition INTEGER, outcome TEXT, sqlstate TEXT, tag TEXT, rows INTEGER, bytes INTEGER, copy_bytes INTEGER,
  duration_us INTEGER, user TEXT, detail TEXT NOT NULL);
CREATE UNIQUE INDEX events_name ON events (session, seq);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_definition ON events (definition) WHERE definition IS NOT NULL;
CREATE INDEX events_sqlstate ON events (sqlstate) WHERE sqlstate IS NOT NULL;
CREATE INDEX events_user ON events (user) WHERE user IS NOT NULL;
CREATE TABLE running (session TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (session, seq));
"""

_INSERT = "INSERT INTO events VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (session, seq) DO NOTHING"


class Detail(msgspec.Struct, omit_defaults=True, gc=False):
    """What a statement's row holds as JSON, because nobody searches by it."""

    kind: str = "extended"
    statement_name: str = ""
    portal: str = ""
    row_limit: int = 0
    parameters: tuple[Value, ...] | None = None
    error: dict[str, str] | None = None
    results: tuple[Results, ...] = ()


_json = msgspec.json.Encoder()


def open_database(path: Path) -> sqlite3.Connection:
    """For writing; makes file and tables. Raises AuditUnavailable or OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA cache_size=-32768")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={VERSION}; COMMIT;")
        elif version != VERSION:
            raise AuditUnavailable(f"{path} has audit schema {version}; this version of hoopfast needs {VERSION}")
        db.execute("DELETE FROM running")
    except sqlite3.Error as failure:
        db.close()
        said = f"{path} cannot be used as audit store: {failure}; move it away to start a new one"
        raise AuditUnavailable(said) from failure
    except BaseException:
        db.close()
        raise
    return db


class SqliteSink:
    """See sinks.base.Sink. One transaction per batch; repetitions are dropped by (session, seq)."""

    def __init__(self, path: Path, *, name: str = "sqlite") -> None:
        self.name = name
        self._path = path
        self._db = open_database(path)
        self._sessions: dict[str, int] = {}
        self._definitions: dict[tuple[Any, ...], int] = {}
        self._showing = False

    def restore(self, mark: dict[str, Any]) -> None:
        """Nothing to do: the keys drop what comes again."""

    def write(self, events: Sequence[Event]) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            rows = [self._statement(e) if type(e) is Statement else self._other(e) for e in events]
            db.executemany(_INSERT, rows)
            db.execute("COMMIT")
        except BaseException:
            # Ids learned within the transaction are void with it.
            self._sessions.clear()
            self._definitions.clear()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if len(self._sessions) > CACHED_MAX:
            self._sessions.clear()
        if len(self._definitions) > CACHED_MAX:
            self._definitions.clear()

    def sync(self) -> dict[str, Any]:
        # In WAL mode a commit is as durable as the log; the main file is synced by SQLite's own checkpoints.
        wal = Path(f"{self._path}-wal")
        if wal.exists():
            fd = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        return {}

    def running(self, events: Sequence[Statement]) -> None:
        if not events and not self._showing:
            return
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("DELETE FROM running")
            db.executemany(
                "INSERT OR REPLACE INTO running VALUES (?,?,?)",
                [(e.session, e.seq, encode(e).decode()) for e in events],
            )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._showing = bool(events)

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------ rows

    def _statement(self, e: Statement) -> tuple[Any, ...]:
        error = e.error
        detail = Detail(e.kind, e.statement_name, e.portal, e.row_limit, e.parameters, error, e.results)
        session = self._sessions.get(e.session) or self._session(e.session)
        key = (e.sql, e.verdict, e.rule, e.masks, e.tables, e.parameter_types)
        definition = self._definitions.get(key) or self._definition(e, key)
        return (
            session, e.seq, "statement", e.at, definition, e.outcome, error.get("sqlstate") if error else None, e.tag,
            e.rows, e.bytes, e.copy_bytes, e.duration_us, None, _json.encode(detail).decode(),
        )

    def _other(self, e: Event) -> tuple[Any, ...]:
        assert not isinstance(e, Statement)
        session = self._session(e.session)
        if isinstance(e, SessionStart):
            header = encode(e).decode()
            self._db.execute(
                "UPDATE sessions SET user=?, connection=?, started_at=?, header=? WHERE id=?",
                (e.user, e.connection, e.at, header, session),
            )
        elif isinstance(e, SessionEnd):
            self._db.execute("UPDATE sessions SET ended_at=?, reason=? WHERE id=?", (e.at, e.reason, session))
        # The gateway's own events have no session to take the user from.
        user = e.user or None if isinstance(e, Gateway) else None
        tag = e.__struct_config__.tag
        return (session, e.seq, tag, e.at, None, None, None, None, None, None, None, None, user, encode(e).decode())

    def _session(self, session: str) -> int:
        known = self._sessions.get(session)
        if known is None:
            self._db.execute("INSERT INTO sessions (session) VALUES (?) ON CONFLICT DO NOTHING", (session,))
            (known,) = self._db.execute("SELECT id FROM sessions WHERE session=?", (session,)).fetchone()
            self._sessions[session] = known
        return int(known)

    def _definition(self, e: Statement, key: tuple[Any, ...]) -> int:
        masks, tables, types = (_json.encode(part).decode() for part in (e.masks, e.tables, e.parameter_types))
        parts = (e.sql, e.verdict, e.rule, masks, tables, types)
        digest = hashlib.sha256(_json.encode(parts)).digest()[:16]
        found = self._db.execute("SELECT id FROM definitions WHERE digest=?", (digest,)).fetchone()
        if found:
            self._definitions[key] = int(found[0])
            return int(found[0])
        made = self._db.execute("INSERT INTO definitions VALUES (NULL,?,?,?,?,?,?,?)", (digest, *parts)).lastrowid
        assert made is not None
        self._db.execute("INSERT INTO texts (rowid, sql) VALUES (?,?)", (made, e.sql))
        self._db.executemany("INSERT INTO definition_tables VALUES (?,?)", [(name, made) for name in set(e.tables)])
        self._definitions[key] = made
        return made
