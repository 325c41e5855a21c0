"""The embedded audit store: one SQLite file that the console, the admin API and `hoopfast audit` search.

Written by the shipper alone; audit.search reads it. What repeats stands once: texts and verdicts in `definitions` (with
a full-text index), headers in `sessions`. A statement costs one narrow row: what can be searched has a column, the rest
is JSON in `detail`, with usual values left out. Events are never changed or removed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hoopfast._wire import OUTCOME_TEXTS, store_rows
from hoopfast.audit.builder import Definition, Item
from hoopfast.audit.events import (
    Event,
    Gateway,
    Label,
    SessionEnd,
    SessionStart,
    Statement,
    encode,
    nanoseconds,
)
from hoopfast.audit.typed import Results, Value
from hoopfast.errors import AuditUnavailable

VERSION = 2
CACHED_MAX = 50_000                     # ids kept in memory, of sessions and of definitions
EVENT_CODES = {"session_start": 16, "session_end": 17, "note": 18, "gateway": 19}
_BUSY_MS = 5000
_GROUP = 50                             # rows per INSERT: measured, half the cost of one by one
_COLUMNS = 6

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
CREATE TABLE kinds (code INTEGER PRIMARY KEY, event TEXT NOT NULL, outcome TEXT);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, definition INTEGER,
  kind INTEGER NOT NULL, detail TEXT NOT NULL);
CREATE UNIQUE INDEX events_name ON events (session, seq);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_definition ON events (definition) WHERE definition IS NOT NULL;
CREATE TABLE marks (
  name TEXT NOT NULL, value TEXT NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (name, value, event)) WITHOUT ROWID;
CREATE TABLE running (session TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (session, seq));
"""

_ROW = "(NULL,?,?,?,?,?,?)"
# FAIL: unlike the default, it needs no journal to undo a half-done statement; the transaction does that here.
_INSERT_GROUP = "INSERT OR FAIL INTO events VALUES " + ",".join([_ROW] * _GROUP)
_INSERT_ONE = f"INSERT INTO events VALUES {_ROW} ON CONFLICT (session, seq) DO NOTHING"
_MARK = "INSERT OR IGNORE INTO marks SELECT ?, ?, id FROM events WHERE session = ? AND seq = ?"


class Detail(msgspec.Struct, omit_defaults=True, gc=False):
    """What a statement's row holds as JSON, because nobody searches by it. The core writes the same (trail.pyx)."""

    kind: str = "extended"
    statement_name: str = ""
    portal: str = ""
    row_limit: int = 0
    parameters: tuple[Value, ...] | None = None
    tag: str = ""
    rows: int = 0
    bytes: int = 0
    copy_bytes: int = 0
    duration_us: int = 0
    error: dict[str, str] | None = None
    results: tuple[Results, ...] = ()


_json = msgspec.json.Encoder()


def open_database(path: Path) -> sqlite3.Connection:
    """For writing; makes file and tables. Raises AuditUnavailable or OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA page_size=8192")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA cache_size=-32768")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} {_kinds()} PRAGMA user_version={VERSION}; COMMIT;")
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


def _kinds() -> str:
    rows = [f"({code}, 'statement', '{outcome}')" for code, outcome in enumerate(OUTCOME_TEXTS)]
    rows += [f"({code}, '{event}', NULL)" for event, code in EVENT_CODES.items()]
    return f"INSERT INTO kinds VALUES {', '.join(rows)};"


class SqliteSink:
    """See sinks.base.Sink. One transaction per batch; repetitions are dropped by (session, seq)."""

    def __init__(self, path: Path, *, name: str = "sqlite") -> None:
        self.name = name
        self._path = path
        self._db = open_database(path)
        # Ids of rows, by what the core has for a session or definition, and by what they are called.
        self._session_ids: dict[Any, int] = {}
        self._definition_ids: dict[Any, int] = {}
        self._sessions: dict[str, int] = {}
        self._marks: list[tuple[str, str, int, int]] = []
        self._showing = False

    def restore(self, mark: dict[str, Any]) -> None:
        """Nothing to do: the keys drop what comes again."""

    def write(self, events: Sequence[Item]) -> None:
        db = self._db
        self._marks.clear()
        db.execute("BEGIN IMMEDIATE")
        try:
            self._insert(store_rows(list(events), self._session_ids, self._definition_ids, self))
            db.executemany(_MARK, self._marks)
            db.execute("COMMIT")
        except BaseException:
            # Ids learned within the transaction are void with it.
            self._forget()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if max(len(self._session_ids), len(self._sessions), len(self._definition_ids)) > CACHED_MAX:
            self._forget()

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

    def _insert(self, values: list[Any]) -> None:
        step = _GROUP * _COLUMNS
        whole = len(values) - len(values) % step
        rest = 0
        try:
            self._db.executemany(_INSERT_GROUP, [values[at : at + step] for at in range(0, whole, step)])
            rest = whole
        except sqlite3.IntegrityError:
            # Some are here already (a crash before the checkpoint): all over again, one by one.
            rest = 0
        self._db.executemany(_INSERT_ONE, [values[at : at + _COLUMNS] for at in range(rest, len(values), _COLUMNS)])

    def _forget(self) -> None:
        self._session_ids.clear()
        self._definition_ids.clear()
        self._sessions.clear()

    def row(self, e: Event) -> tuple[Any, ...]:
        """The columns of an event that the core has not made."""
        if isinstance(e, Statement):
            return self._statement(e)
        session = self.session(e.session)
        if isinstance(e, SessionStart):
            self._db.execute(
                "UPDATE sessions SET user=?, connection=?, started_at=?, header=? WHERE id=?",
                (e.user, e.connection, e.at, encode(e).decode(), session),
            )
        elif isinstance(e, SessionEnd):
            self._db.execute("UPDATE sessions SET ended_at=?, reason=? WHERE id=?", (e.at, e.reason, session))
        elif isinstance(e, Gateway) and e.user:
            # These have no session to take the user from.
            self.mark("user", e.user, session, e.seq)
        tag = e.__struct_config__.tag
        return (session, e.seq, nanoseconds(e.at), None, EVENT_CODES[str(tag)], encode(e).decode())

    def _statement(self, e: Statement) -> tuple[Any, ...]:
        detail = Detail(
            e.kind, e.statement_name, e.portal, e.row_limit, e.parameters, e.tag, e.rows, e.bytes, e.copy_bytes,
            e.duration_us, e.error, e.results,
        )
        session = self.session(e.session)
        definition = self.definition(
            Definition(e.sql, e.parameter_types, Label(e.verdict, e.rule, e.masks, e.tables)))
        if e.error and "sqlstate" in e.error:
            self.mark("sqlstate", e.error["sqlstate"], session, e.seq)
        code = OUTCOME_TEXTS.index(e.outcome)
        return (session, e.seq, nanoseconds(e.at), definition, code, _json.encode(detail).decode())

    def mark(self, name: str, value: str, session: int, seq: int) -> None:
        """Something that few events have and people search by."""
        self._marks.append((name, value, session, seq))

    def session(self, session: str) -> int:
        """The id of a session's row, which is made if it is new."""
        known = self._sessions.get(session)
        if known is None:
            self._db.execute("INSERT INTO sessions (session) VALUES (?) ON CONFLICT DO NOTHING", (session,))
            (known,) = self._db.execute("SELECT id FROM sessions WHERE session=?", (session,)).fetchone()
            self._sessions[session] = known
        return int(known)

    def definition(self, d: Definition) -> int:
        """The id of a definition's row, which is made if it is new."""
        label = d.label
        masks, tables, types = (_json.encode(part).decode() for part in (label.masks, label.tables, d.types))
        parts = (d.sql, label.verdict, label.rule, masks, tables, types)
        digest = hashlib.sha256(_json.encode(parts)).digest()[:16]
        found = self._db.execute("SELECT id FROM definitions WHERE digest=?", (digest,)).fetchone()
        if found:
            return int(found[0])
        made = self._db.execute("INSERT INTO definitions VALUES (NULL,?,?,?,?,?,?,?)", (digest, *parts)).lastrowid
        assert made is not None
        self._db.execute("INSERT INTO texts (rowid, sql) VALUES (?,?)", (made, d.sql))
        names = set(label.tables)
        self._db.executemany("INSERT INTO definition_tables VALUES (?,?)", [(name, made) for name in names])
        return made
