"""Questions to the embedded audit store. Used by the admin API and the console; every answer is plain, JSON-ready data.

An event comes out as docs/audit.md describes it, with `id` added: its place in the order of arrival, for paging.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from hoopfast.audit.events import nanoseconds
from hoopfast.audit.stored import QUERY, StoredLines
from hoopfast.errors import GatewayError

LIMIT_MAX = 10_000
PAGE = 1000

_HEADER = ("user", "subject", "groups", "issuer", "method", "connection", "database", "client", "application")
_SESSIONS = """SELECT s.session, s.user, s.connection, s.started_at, s.ended_at, s.reason, s.header,
 (SELECT count(*) FROM events e WHERE e.session = s.id AND e.definition IS NOT NULL) AS statements,
 (SELECT count(*) FROM events e WHERE e.session = s.id
   AND e.kind IN (SELECT code FROM kinds WHERE outcome IN ('error', 'unknown'))) AS errors,
 (SELECT count(*) FROM events e WHERE e.session = s.id
   AND e.kind IN (SELECT code FROM kinds WHERE outcome = 'denied')) AS denied
 FROM sessions s"""
_TEXT = "e.definition IN (SELECT rowid FROM texts WHERE texts MATCH ?)"
FILTERS = {
    # The session's user, or the event's own where there is no session.
    "user": """(e.session IN (SELECT id FROM sessions WHERE user = ?)
 OR e.id IN (SELECT event FROM marks WHERE name = 'user' AND value = ?))""",
    "connection": "e.session IN (SELECT id FROM sessions WHERE connection = ?)",
    "session": "e.session IN (SELECT id FROM sessions WHERE session = ?)",
    "text": _TEXT,
    "table": """e.definition IN
 (SELECT definition FROM definition_tables WHERE name = ? OR substr(name, instr(name, '.') + 1) = ?)""",
    "verdict": "e.definition IN (SELECT id FROM definitions WHERE verdict = ?)",
    "rule": "e.definition IN (SELECT id FROM definitions WHERE rule = ?)",
    "outcome": "e.kind IN (SELECT code FROM kinds WHERE outcome = ?)",
    "sqlstate": "e.id IN (SELECT event FROM marks WHERE name = 'sqlstate' AND value = ?)",
    "event": "e.kind IN (SELECT code FROM kinds WHERE event = ?)",
    "since": "e.at >= ?",
    "until": "e.at < ?",
}


class BadSearch(GatewayError):
    """A filter that cannot be understood; the message says which and what it should look like."""


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

        `filters`: those of FILTERS. `text`: every word must stand in the SQL (a word matches from its beginning: "cust"
        finds customers). `table`: as the statement names it, or without the schema. `since`, `until`: ISO 8601, or an
        age like 15m, 2h, 7d. Raises BadSearch.
        """
        where, values = _conditions(filters)
        if after is not None:
            where.append("e.id < ?")
            values.append(int(after))
        return self._events(where, "DESC", values, limit)

    def export(self, *, limit: int | None = None, **filters: Any) -> Iterator[bytes]:
        """Everything that `search` would find, in order of arrival, read a page at a time, as lines of JSON.

        `id` comes first, then the event as it was hashed: `audit verify` can check an export (verify_files).
        """
        after, left = 0, limit or 2**63
        where, values = _conditions(filters)
        while left > 0:
            with self._reading() as db:
                rows = _found(db, [*where, "e.id > ?"], "ASC", [*values, after], min(left, PAGE))
                lines = list(map(StoredLines(db).line, rows))
            for row, line in zip(rows, lines, strict=True):
                yield b'{"id":%d,%b' % (row[0], line[1:-1])
            if not rows:
                return
            after, left = rows[-1][0], left - len(rows)

    def tail(self, after_rowid: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """What arrived after the event with this `id`, oldest first; 0 begins with the first. See `last_id`."""
        return self._events(["e.id > ?"], "ASC", [after_rowid], limit)

    def last_id(self) -> int:
        """Where a tail that wants only what is new begins."""
        with self._reading() as db:
            return int(db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

    def _events(self, where: list[str], order: str, values: list[Any], limit: int) -> list[dict[str, Any]]:
        with self._reading() as db:
            return _decoded(db, _found(db, where, order, values, limit))

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


def parse_time(text: str) -> str:
    """ISO 8601 (UTC unless it says otherwise) or an age (30s, 15m, 2h, 7d), as the store has it. Raises BadSearch."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if text[-1:] in units and text[:-1].isdigit():
            moment = datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        said = f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z, or an age like 15m, 2h, 7d"
        raise BadSearch(said) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _conditions(filters: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """WHERE conditions and their values. Raises BadSearch for a filter that does not exist."""
    where: list[str] = []
    values: list[Any] = []
    for name, value in filters.items():
        if name not in FILTERS:
            raise BadSearch(f"events cannot be searched by {name}; use one of {', '.join(FILTERS)}")
        if value in {None, ""}:
            continue
        text = str(value)
        if name == "text":
            words = [word for word in text.replace('"', " ").split() if any(c.isalnum() for c in word)]
            # Without a word there is nothing to look up in the index: signs are searched letter by letter.
            where.append(_TEXT if words else "e.definition IN (SELECT id FROM definitions WHERE instr(sql, ?) > 0)")
            values.append(" ".join(f'"{word}"*' for word in words) if words else text)
        else:
            condition = FILTERS[name]
            where.append(condition)
            given = nanoseconds(parse_time(text)) if name in {"since", "until"} else text
            values += [given] * condition.count("?")
    return where, values


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


def _found(db: sqlite3.Connection, where: list[str], order: str, values: list[Any], limit: int) -> list[Any]:
    """Rows of stored.QUERY."""
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return db.execute(f"{QUERY} e{condition} ORDER BY e.id {order} LIMIT ?", (*values, _bounded(limit))).fetchall()


def _decoded(db: sqlite3.Connection, rows: list[Any]) -> list[dict[str, Any]]:
    lines = StoredLines(db)
    return [{"id": row["id"], **orjson.loads(lines.line(row))} for row in rows]
