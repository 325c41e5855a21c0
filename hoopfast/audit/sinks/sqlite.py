"""The embedded audit store: one SQLite file that the console, the admin API and `hoopfast audit` search.

Written by the shipper alone; audit.search reads it. What repeats stands once: texts and verdicts in `definitions` (with
a full-text index), headers in `sessions`. A statement costs one narrow row: what can be searched has a column, the rest
is JSON in `detail`, with usual values left out. Events are never changed or removed; checkpoints (audit.chain) prove
it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hoopfast._wire import OUTCOME_TEXTS, leaf_hashes, store_rows
from hoopfast.audit.builder import Definition, Item, as_batch
from hoopfast.audit.chain import HASH_BYTES, Checkpoint, parse_checkpoint
from hoopfast.audit.events import (
    GATEWAY_SESSION,
    Event,
    Gateway,
    Header,
    Label,
    SessionEnd,
    SessionStart,
    Statement,
    encode,
    nanoseconds,
)
from hoopfast.audit.keys import DIRECTORY, KeyRing
from hoopfast.audit.sealing import Sealed, Sealer, SecondPlace
from hoopfast.audit.stored import QUERY, WHO, StoredLines, who_of
from hoopfast.audit.typed import Results, Value
from hoopfast.errors import AuditUnavailable

VERSION = 3
CACHED_MAX = 50_000                     # ids kept in memory, of sessions and of definitions
# Indexes that cost little, because few events are in them (audit.finding).
SPAN = 4096                             # events, by id, whose times `spans` has: where a time may be found
USUAL_KIND = OUTCOME_TEXTS.index("complete")
MANY_ROWS = 1000
SLOW_US = 100_000
NAMED = ("tables", "kinds", "columns")  # of a definition, what it is found by (definition_names.what)
EVENT_CODES = {"session_start": 16, "session_end": 17, "note": 18, "gateway": 19}
_BUSY_MS = 5000
_GROUP = 50                             # rows per INSERT: measured, half the cost of one by one
_COLUMNS = 8
_PAGE = 4096                            # rows that are read at a time to seal what a crash left

_TABLES = """
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, session TEXT NOT NULL UNIQUE, user TEXT NOT NULL DEFAULT '',
  connection TEXT NOT NULL DEFAULT '', started_at TEXT, ended_at TEXT, reason TEXT,
  header TEXT NOT NULL DEFAULT '{{}}');
CREATE INDEX sessions_user ON sessions (user);
CREATE INDEX sessions_connection ON sessions (connection);
CREATE INDEX sessions_started ON sessions (started_at);
CREATE TABLE definitions (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, sql TEXT NOT NULL, verdict TEXT NOT NULL, rule TEXT NOT NULL,
  masks TEXT NOT NULL, tables TEXT NOT NULL, kinds TEXT NOT NULL, columns TEXT NOT NULL, types TEXT NOT NULL);
CREATE TABLE definition_names (
  what TEXT NOT NULL, name TEXT NOT NULL, definition INTEGER NOT NULL, PRIMARY KEY (what, name, definition)
  ) WITHOUT ROWID;
CREATE INDEX definitions_verdict ON definitions (verdict);
CREATE INDEX definitions_rule ON definitions (rule);
CREATE VIRTUAL TABLE texts USING fts5 (
  sql, content='definitions', content_rowid='id', tokenize="unicode61 tokenchars '_'");
CREATE TABLE kinds (code INTEGER PRIMARY KEY, event TEXT NOT NULL, outcome TEXT);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, definition INTEGER,
  kind INTEGER NOT NULL, rows INTEGER NOT NULL, duration_us INTEGER NOT NULL, detail TEXT NOT NULL);
CREATE UNIQUE INDEX events_name ON events (session, seq);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_definition ON events (definition, session) WHERE definition IS NOT NULL;
CREATE INDEX events_kind ON events (kind, session, definition) WHERE kind <> {usual};
CREATE INDEX events_rows ON events (rows) WHERE rows >= {rows};
CREATE INDEX events_slow ON events (duration_us) WHERE duration_us >= {slow};
CREATE TABLE marks (
  name TEXT NOT NULL, value TEXT NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (name, value, event)) WITHOUT ROWID;
CREATE TABLE spans (block INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE running (session TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (session, seq));
CREATE TABLE checkpoints (
  number INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, line TEXT NOT NULL, leaves BLOB NOT NULL);
CREATE INDEX checkpoints_last ON checkpoints (last);
"""

_ROW = "(NULL,?,?,?,?,?,?,?,?)"
# FAIL: unlike the default, it needs no journal to undo a half-done statement; the transaction does that here.
_INSERT_GROUP = "INSERT OR FAIL INTO events VALUES " + ",".join([_ROW] * _GROUP)
_INSERT_NEW = f"INSERT INTO events VALUES {_ROW}"
_INSERT_ONE = f"INSERT INTO events VALUES {_ROW} ON CONFLICT (session, seq) DO NOTHING"
_SPAN = """INSERT INTO spans VALUES (?,?,?) ON CONFLICT (block) DO UPDATE
 SET earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest)"""
_MARK = "INSERT OR IGNORE INTO marks SELECT ?, ?, id FROM events WHERE session = ? AND seq = ?"


class Detail(msgspec.Struct, omit_defaults=True, gc=False):
    """What a statement's row holds as JSON, because nobody searches by it. The core writes the same (trail.pyx)."""

    kind: str = "extended"
    statement_name: str = ""
    portal: str = ""
    row_limit: int = 0
    parameters: tuple[Value, ...] | None = None
    tag: str = ""
    bytes: int = 0
    copy_bytes: int = 0
    error: dict[str, str] | None = None
    results: tuple[Results, ...] = ()
    first_row_us: int | msgspec.UnsetType = msgspec.UNSET
    parameter_bytes: tuple[str | None, ...] | msgspec.UnsetType = msgspec.UNSET
    result_formats: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    protected: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


_json = msgspec.json.Encoder()
T = TypeVar("T")


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
            db.executescript(f"BEGIN IMMEDIATE; {_tables()} {_kinds()} PRAGMA user_version={VERSION}; COMMIT;")
        elif version != VERSION:
            raise AuditUnavailable(
                f"{path} has audit schema {version}; this version of hoopfast needs {VERSION}: move it away to start a "
                "new one, it stays readable by the version that wrote it")
        db.execute("DELETE FROM running")
    except sqlite3.Error as failure:
        db.close()
        said = f"{path} cannot be used as audit store: {failure}; move it away to start a new one"
        raise AuditUnavailable(said) from failure
    except BaseException:
        db.close()
        raise
    return db


def _tables() -> str:
    return _TABLES.format(usual=USUAL_KIND, rows=MANY_ROWS, slow=SLOW_US)


def _kinds() -> str:
    rows = [f"({code}, 'statement', '{outcome}')" for code, outcome in enumerate(OUTCOME_TEXTS)]
    rows += [f"({code}, '{event}', NULL)" for event, code in EVENT_CODES.items()]
    return f"INSERT INTO kinds VALUES {', '.join(rows)};"


class SqliteSink:
    """See sinks.base.Sink. One transaction per batch; repetitions are dropped by (session, seq).

    `keys` sign its checkpoints, made every few seconds (audit.sealing); `checkpoints` is a file elsewhere that gets a
    copy of them.
    """

    def __init__(
        self, path: Path, *, name: str = "sqlite", keys: KeyRing | None = None, checkpoints: Path | None = None,
    ) -> None:
        self.name = name
        self._path = path
        self._db = open_database(path)
        # Ids of rows, by what the core has for a session or definition, and by what they are called.
        self._session_ids: dict[Any, int] = {}
        self._definition_ids: dict[Any, int] = {}
        self._sessions: dict[str, tuple[int, bytes]] = {}   # and what the store knows of whose it is
        # Sessions of which the store knows more than their events say, as after a lost snapshot of the shipper.
        self._odd: set[int] = set()
        self._marks: list[tuple[str, str, int, int]] = []
        self._showing = False
        try:
            head = self._head()
            self._sealer = Sealer(keys or KeyRing(path.parent / DIRECTORY), head, where=path)
            self._second = SecondPlace(checkpoints, head, self._checkpoint_lines) if checkpoints else None
            self._find_unsealed()
        except BaseException:
            self._db.close()
            raise

    def restore(self, mark: dict[str, Any]) -> None:
        """Nothing to do: the keys drop what comes again."""

    def write(self, events: Sequence[Item]) -> None:
        try:
            made = self._transaction(lambda: self._take(events, self._insert))
        except sqlite3.IntegrityError:
            # Some are here already (a crash before the checkpoint): all over again, one by one.
            made = self._transaction(lambda: self._take(events, self._insert_new))
        self._sealer.keep(made)
        if max(len(self._session_ids), len(self._sessions), len(self._definition_ids)) > CACHED_MAX:
            self._forget()

    def sync(self) -> dict[str, Any]:
        if self._sealer.is_due:
            self._sealer.keep(self._transaction(self._seal))
        self._to_disk()
        return {}

    def _to_disk(self) -> None:
        # In WAL mode a commit is as durable as the log; the main file is synced by SQLite's own checkpoints.
        wal = Path(f"{self._path}-wal")
        if wal.exists():
            fd = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        if self._second is not None:
            # After the disk has them, or a power cut would look like a store that was cut back.
            self._second.follow(self._sealer.head)

    def kept(self, mark: dict[str, Any]) -> None:  # noqa: ARG002  (the keys need no mark; this is the clock)
        if self._sealer.is_due:
            self.sync()

    def running(self, events: Sequence[Statement]) -> None:
        if not events and not self._showing:
            return
        self._transaction(lambda: self._show(events))
        self._showing = bool(events)

    def close(self) -> None:
        try:
            if self._sealer.pending:
                self._sealer.keep(self._transaction(self._seal))
                self._to_disk()
        finally:
            self._db.close()

    def _show(self, events: Sequence[Statement]) -> None:
        self._db.execute("DELETE FROM running")
        self._db.executemany(
            "INSERT OR REPLACE INTO running VALUES (?,?,?)", [(e.session, e.seq, encode(e).decode()) for e in events])

    def _transaction(self, work: Callable[[], T]) -> T:
        db = self._db
        added = self._sealer.added()
        db.execute("BEGIN IMMEDIATE")
        try:
            made = work()
            db.execute("COMMIT")
        except BaseException:
            # Ids learned within the transaction are void with it.
            self._forget()
            self._sealer.back_to(added)
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return made

    # ------------------------------------------------------------ proof

    def _head(self) -> Checkpoint | None:
        found = self._db.execute("SELECT line FROM checkpoints ORDER BY number DESC LIMIT 1").fetchone()
        try:
            return parse_checkpoint(found[0].encode()) if found else None
        except ValueError as failure:
            raise AuditUnavailable(f"the last checkpoint of {self._path} is damaged: {failure}") from failure

    def _find_unsealed(self) -> None:
        """What was written and not sealed before a crash: the next checkpoint covers it, and says so."""
        lines, at = StoredLines(self._db), self._sealer.sealed_to
        try:
            while rows := self._db.execute(f"{QUERY} WHERE id > ? ORDER BY id LIMIT {_PAGE}", (at,)).fetchall():
                if rows[-1][0] != at + len(rows):
                    raise ValueError(f"rows are missing after event {at}")
                self._sealer.add(leaf_hashes(lines.lines(rows)), recovered=True)
                at = rows[-1][0]
        except (ValueError, msgspec.MsgspecError, sqlite3.Error) as failure:
            raise AuditUnavailable(
                f"{self._path} has events behind its last checkpoint that cannot be sealed: {failure}; "
                "keep the file as it is and move it away to start a new one") from failure

    def _leaves_after(self, place: int) -> bytes:
        """Of what stands behind this place, as it stands there."""
        rows = self._db.execute(f"{QUERY} WHERE id > ? ORDER BY id", (place,)).fetchall()
        return leaf_hashes(StoredLines(self._db).lines(rows))

    def _seal(self) -> list[Sealed]:
        made = self._sealer.make()
        self._db.executemany(
            "INSERT INTO checkpoints VALUES (?,?,?,?,?)",
            [(c.number, c.first, c.last, c.line().decode(), leaves) for c, leaves in made],
        )
        return made

    def _checkpoint_lines(self, after: int, to: int) -> Iterator[bytes]:
        query = "SELECT line FROM checkpoints WHERE number > ? AND number <= ? ORDER BY number"
        for (line,) in self._db.execute(query, (after, to)):
            yield line.encode()

    # ------------------------------------------------------------ rows

    def _take(self, events: Sequence[Item], insert: Callable[[list[Any]], bytes | None]) -> list[Sealed]:
        self._marks.clear()
        values = store_rows(list(events), self._session_ids, self._definition_ids, self)
        new = insert(values)
        last = self._sealer.sealed_to + self._sealer.pending
        times = values[2::_COLUMNS] if new is None else [at for at, taken in zip(values[2::_COLUMNS], new, strict=True)
                                                        if taken]
        self._db.executemany(_SPAN, _spans(last + 1, times))
        if self._odd and not self._odd.isdisjoint(values[::_COLUMNS]):
            made = self._leaves_after(last)
        else:
            made = as_batch(events).leaves()
            if new is not None:
                made = b"".join(made[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i, taken in enumerate(new) if taken)
        self._db.executemany(_MARK, self._marks)
        self._sealer.add(made)
        return self._seal() if self._sealer.is_due else []

    def _insert(self, values: list[Any]) -> None:
        step = _GROUP * _COLUMNS
        whole = len(values) - len(values) % step
        self._db.executemany(_INSERT_GROUP, [values[at : at + step] for at in range(0, whole, step)])
        self._db.executemany(_INSERT_NEW, [values[at : at + _COLUMNS] for at in range(whole, len(values), _COLUMNS)])

    def _insert_new(self, values: list[Any]) -> bytes:
        """For each row, whether it was new."""
        rows = [values[at : at + _COLUMNS] for at in range(0, len(values), _COLUMNS)]
        return bytes(self._db.execute(_INSERT_ONE, row).rowcount for row in rows)

    def _forget(self) -> None:
        self._session_ids.clear()
        self._definition_ids.clear()
        self._sessions.clear()

    def row(self, e: Event) -> tuple[Any, ...]:
        """The columns of an event that the core has not made."""
        if isinstance(e, Statement):
            return self._statement(e)
        session = self.session(e.session, e)
        if isinstance(e, SessionStart):
            self._db.execute("UPDATE sessions SET started_at=? WHERE id=?", (e.at, session))
            # A start that lost its header (a damaged record) says nothing of whose session it is.
            if e.user:
                self._db.execute(
                    "UPDATE sessions SET user=?, connection=?, header=? WHERE id=?",
                    (e.user, e.connection, encode(e).decode(), session),
                )
                self._sessions.pop(e.session, None)
        elif isinstance(e, SessionEnd):
            self._db.execute("UPDATE sessions SET ended_at=?, reason=? WHERE id=?", (e.at, e.reason, session))
        elif isinstance(e, Gateway) and e.user:
            # These have no session to take the user from.
            self.mark("user", e.user, session, e.seq)
        tag = e.__struct_config__.tag
        return (session, e.seq, nanoseconds(e.at), None, EVENT_CODES[str(tag)], 0, 0, encode(e).decode())

    def _statement(self, e: Statement) -> tuple[Any, ...]:
        detail = Detail(
            e.kind, e.statement_name, e.portal, e.row_limit, e.parameters, e.tag, e.bytes, e.copy_bytes, e.error,
            e.results, e.first_row_us, e.parameter_bytes, e.result_formats, e.protected,
        )
        session = self.session(e.session, e)
        definition = self.definition(
            Definition(e.sql, e.parameter_types, Label(e.verdict, e.rule, e.masks, e.tables, e.kinds, e.columns)))
        if e.error and "sqlstate" in e.error:
            self.mark("sqlstate", e.error["sqlstate"], session, e.seq)
        code = OUTCOME_TEXTS.index(e.outcome)
        text = _json.encode(detail).decode()
        return (session, e.seq, nanoseconds(e.at), definition, code, signed(e.rows), signed(e.duration_us), text)

    def mark(self, name: str, value: str, session: int, seq: int) -> None:
        """Something that few events have and people search by."""
        self._marks.append((name, value, session, seq))

    def session(self, session: str, who: Event | Header) -> int:
        """The id of a session's row, which is made if it is new: its start may be older than this store, or lost."""
        own = _json.encode({name: getattr(who, name) for name in WHO})
        known = self._sessions.get(session)
        if known is None:
            of_gateway = session == GATEWAY_SESSION         # its events name different people
            self._db.execute(
                "INSERT INTO sessions (session, user, connection, header) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
                (session, *(("", "", "{}") if of_gateway else (who.user, who.connection, own.decode()))),
            )
            id, header = self._db.execute("SELECT id, header FROM sessions WHERE session=?", (session,)).fetchone()  # noqa: A001
            known = self._sessions[session] = (int(id), who_of(header))
        if known[1] != own[1:]:
            self._odd.add(known[0])
        return known[0]

    def definition(self, d: Definition) -> int:
        """The id of a definition's row, which is made if it is new."""
        label = d.label
        lists = (label.masks, label.tables, label.kinds, label.columns, d.types)
        parts = (d.sql, label.verdict, label.rule, *(_json.encode(part).decode() for part in lists))
        digest = hashlib.sha256(_json.encode(parts)).digest()[:16]
        found = self._db.execute("SELECT id FROM definitions WHERE digest=?", (digest,)).fetchone()
        if found:
            return int(found[0])
        made = self._db.execute("INSERT INTO definitions VALUES (NULL,?,?,?,?,?,?,?,?,?)", (digest, *parts)).lastrowid
        assert made is not None
        self._db.execute("INSERT INTO texts (rowid, sql) VALUES (?,?)", (made, d.sql))
        names = {(what, name, made) for what in NAMED for name in getattr(label, what)}
        self._db.executemany("INSERT INTO definition_names VALUES (?,?,?)", sorted(names))
        return made


def _spans(first: int, times: list[int]) -> Iterator[tuple[int, int, int]]:
    """(block, earliest, latest) of events with these times, numbered from `first` on."""
    at = 0
    while at < len(times):
        block = (first + at) // SPAN
        part = times[at : at + SPAN - (first + at) % SPAN]
        yield block, min(part), max(part)
        at += len(part)


def signed(count: int) -> int:
    # Counts are 64 bits without a sign, integers of SQLite have one; a damaged record may need all of them.
    return count - 2**64 if count >= 2**63 else count
