"""Questions to the embedded audit store. Used by the admin API and the console; every answer is plain, JSON-ready data.

An event comes out as docs/audit.md describes it, with `id` added: its place in the order of arrival, for paging.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from hoopfast.audit import finding
from hoopfast.audit.finding import BadSearch, parse_time
from hoopfast.audit.readers import readers
from hoopfast.audit.stored import QUERY, StoredLines
from hoopfast.errors import GatewayError

LIMIT_MAX = 10_000
PAGE = 1000
EXPORTED = 5000                         # events that are read at a time; what they share is looked up once

_HEADER = ("user", "subject", "groups", "issuer", "method", "connection", "database", "client", "application")
_SESSIONS = """SELECT s.session, s.user, s.connection, s.started_at, s.ended_at, s.reason, s.header,
 (SELECT count(*) FROM events e WHERE e.session = s.id AND e.definition IS NOT NULL) AS statements,
 (SELECT count(*) FROM events e WHERE e.session = s.id
   AND e.kind IN (SELECT code FROM kinds WHERE outcome IN ('error', 'unknown'))) AS errors,
 (SELECT count(*) FROM events e WHERE e.session = s.id
   AND e.kind IN (SELECT code FROM kinds WHERE outcome = 'denied')) AS denied
 FROM sessions s"""

class AuditReader:
    """Reads while the shipper writes. Safe in threads: each has a connection of its own."""

    def __init__(self, db_path: str | Path) -> None:
        self._path = Path(db_path)
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Closes every thread's connection; nobody may be reading."""
        while self._all:
            self._all.pop().close()
        self._local = threading.local()

    def sessions(self, filters: Mapping[str, Any] | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first: header, started_at, ended_at (None: open), reason, and counts of statements, errors, denied.

        `filters`: user, connection, live (bool), since, until.
        """
        given = {name: value for name, value in (filters or {}).items() if value not in {None, ""}}
        where, values = ["s.started_at IS NOT NULL"], []
        for name, value in given.items():
            if name in {"user", "connection"}:
                where.append(f"s.{name} = ?")
                values.append(value)
            elif name == "live":
                where.append("s.ended_at IS NULL" if value in {True, "true", "1"} else "s.ended_at IS NOT NULL")
            elif name in {"since", "until"}:
                where.append(f"s.started_at {'>=' if name == 'since' else '<'} ?")
                values.append(parse_time(str(value)))
            else:
                raise BadSearch(f"sessions cannot be filtered by {name}; use user, connection, live, since or until")
        query = f"{_SESSIONS} WHERE {' AND '.join(where)} ORDER BY s.started_at DESC LIMIT ?"
        with self._reading() as db:
            return [_session(row) for row in db.execute(query, (*values, _bounded(limit)))]

    def session(self, id: str) -> dict[str, Any] | None:  # noqa: A002
        """The header as in `sessions`, plus "events": all in order, running statements included. None: unknown."""
        with self._reading() as db:
            row = db.execute(f"{_SESSIONS} WHERE s.session = ?", (id,)).fetchone()
            if row is None:
                return None
            own = "WHERE session = (SELECT id FROM sessions WHERE session = ?) ORDER BY seq"
            found = db.execute(f"{QUERY} {own}", (id,))
            events = _decoded(db, found.fetchall())
            running = db.execute("SELECT event FROM running WHERE session = ?", (id,)).fetchall()
        known = {event["seq"] for event in events}
        more = [orjson.loads(found["event"]) for found in running]
        events += [{"id": 0, **event} for event in more if event["seq"] not in known]
        return {**_session(row), "events": sorted(events, key=lambda event: event["seq"])}

    def search(self, *, limit: int = 100, after: int | None = None, **filters: Any) -> list[dict[str, Any]]:
        """Events, newest first; give the last one's `id` as `after` for the next page. Empty filters do not count.

        `filters`: those of finding.FILTERS. `text`: every word must stand in the SQL (a word matches from its
        beginning: "cust" finds customers). `table`: as the statement names it, or without the schema. `column`: that a
        statement may read. `rows`, `duration`: at least. `since`, `until`: ISO 8601, or an age like 15m, 2h, 7d.
        Raises BadSearch.
        """
        with self._reading() as db:
            ids = finding.newest(db, finding.conditions(db, filters), _bounded(limit), after)
            return _decoded(db, _rows(db, ids, "DESC"))

    def export(self, *, limit: int | None = None, **filters: Any) -> Iterator[bytes]:
        """Everything that `search` would find, in order of arrival, read a page at a time, as lines of JSON.

        `id` comes first, then the event as it was hashed: `audit verify` can check an export (verify_files).
        """
        after, left = 0, limit or 2**63
        with self._reading() as db:
            wanted = finding.conditions(db, filters)
            listed = finding.listed(db, wanted) if wanted else None
        while left > 0:
            size = min(left, EXPORTED)
            with self._reading() as db:
                if listed is not None:
                    ids, listed = listed[:size], listed[size:]
                else:
                    ids = finding.oldest(db, wanted, size, after)
                rows = _rows(db, ids, "ASC")
                lines = list(map(StoredLines(db).line, rows))
            for row, line in zip(rows, lines, strict=True):
                yield b'{"id":%d,%b' % (row[0], line[1:-1])
            if not rows:
                return
            after, left = rows[-1][0], left - len(rows)

    def who_saw(self, column: str, *, limit: int = 100, **filters: Any) -> list[dict[str, Any]]:
        """Sessions with statements that may have read a column (finding.column_of), those that began last first.

        Each: its header as in `sessions`, and of these statements `read` (how many came to an end that may have shown
        something), `rows`, `first`, `last`, `masks` (of the column, in any of them), `clear` (whether one had none) and
        `sample`, one text. `filters`: user, connection, since, until. Raises BadSearch.
        """
        if odd := set(filters) - {"user", "connection", "since", "until"}:
            raise BadSearch(f"who-saw cannot be filtered by {odd.pop()}; use user, connection, since or until")
        with self._reading() as db:
            return [{**_session(row), **saw} for row, saw in readers(db, column, filters, _bounded(limit), _SESSIONS)]

    def tail(self, after_rowid: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """What arrived after the event with this `id`, oldest first; 0 begins with the first. See `last_id`."""
        with self._reading() as db:
            return _decoded(db, _rows(db, finding.oldest(db, [], _bounded(limit), after_rowid), "ASC"))

    def last_id(self) -> int:
        """Where a tail that wants only what is new begins."""
        with self._reading() as db:
            return finding.last_id(db)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        try:
            if db is None:
                db = sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None,
                    check_same_thread=False,
                )
                db.row_factory = sqlite3.Row
                self._local.db = db
                self._all.append(db)
            # One snapshot for all queries of an answer.
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as failure:
            raise GatewayError(f"the audit store {self._path} cannot be read: {failure}") from failure


def _bounded(limit: int) -> int:
    return max(1, min(int(limit), LIMIT_MAX))


def _session(row: sqlite3.Row) -> dict[str, Any]:
    header = orjson.loads(row["header"])
    names = (*_HEADER, "role", "credential", "tls", "worker")
    return {
        "session": row["session"], **{name: header.get(name) for name in names},
        "started_at": row["started_at"], "ended_at": row["ended_at"], "reason": row["reason"],
        "statements": row["statements"], "errors": row["errors"], "denied": row["denied"],
    }


def _rows(db: sqlite3.Connection, ids: list[int], order: str) -> list[Any]:
    """Rows of stored.QUERY."""
    return db.execute(f"{QUERY} WHERE id IN ({','.join(map(str, ids))}) ORDER BY id {order}").fetchall()


def _decoded(db: sqlite3.Connection, rows: list[Any]) -> list[dict[str, Any]]:
    lines = StoredLines(db)
    return [{"id": row["id"], **orjson.loads(lines.line(row))} for row in rows]
