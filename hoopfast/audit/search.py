"""Questions to the embedded audit store. Used by the admin API and the console; every answer is plain, JSON-ready data.

An event comes out as in an export (docs/audit.md), with `id` added: its place in the order of arrival, for paging and tail.
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

from hoopfast.audit.events import SCHEMA
from hoopfast.errors import GatewayError

LIMIT_MAX = 10_000
TAIL_MAX = 1000

_HEADER = (
    "user", "subject", "groups", "issuer", "method", "connection", "database", "client", "application",
)
_SELECT = """SELECT e.id, e.seq, e.event, e.at, e.outcome, e.tag, e.rows, e.bytes, e.copy_bytes, e.duration_us, e.detail,
 s.session, s.header, d.sql, d.verdict, d.rule, d.masks, d.tables, d.types
 FROM events e JOIN sessions s ON s.id = e.session LEFT JOIN definitions d ON d.id = e.definition"""
_SESSIONS = """SELECT s.session, s.user, s.connection, s.started_at, s.ended_at, s.reason, s.header,
 (SELECT count(*) FROM events e WHERE e.session = s.id AND e.event = 'statement') AS statements,
 (SELECT count(*) FROM events e WHERE e.session = s.id AND e.outcome IN ('error', 'unknown')) AS errors,
 (SELECT count(*) FROM events e WHERE e.session = s.id AND e.outcome = 'denied') AS denied
 FROM sessions s"""
_DETAIL = {
    "kind": "extended", "statement_name": "", "portal": "", "row_limit": 0, "parameters": None, "error": None, "results": [],
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
        """The header as in `sessions`, plus "events": all of them in order, running statements included. None: unknown."""
        with self._reading() as db:
            row = db.execute(f"{_SESSIONS} WHERE s.session = ?", (id,)).fetchone()
            if row is None:
                return None
            events = [_event(found) for found in db.execute(f"{_SELECT} WHERE s.session = ? ORDER BY e.seq", (id,))]
            running = db.execute("SELECT event FROM running WHERE session = ?", (id,)).fetchall()
        known = {event["seq"] for event in events}
        more = [orjson.loads(found["event"]) for found in running]
        events += [{"id": 0, **event} for event in more if event["seq"] not in known]
        return {**_session(row), "events": sorted(events, key=lambda event: event["seq"])}

    def search(
        self, *, user: str | None = None, connection: str | None = None, text: str | None = None, table: str | None = None,
        verdict: str | None = None, outcome: str | None = None, sqlstate: str | None = None, event: str | None = None,
        since: str | None = None, until: str | None = None, limit: int = 100, after: int | None = None,
    ) -> list[dict[str, Any]]:
        """Events, newest first; give the last one's `id` as `after` for the next page. Empty filters do not count.

        `text`: every word must stand in the SQL (a word matches from its beginning: "cust" finds customers). `table`: as
        the statement names it, or without the schema. Times: ISO 8601, or an age like 15m, 2h, 7d. Raises BadSearch.
        """
        where, values = _conditions(user, connection, text, table, verdict, outcome, sqlstate, event, since, until)
        if after is not None:
            where.append("e.id < ?")
            values.append(int(after))
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        query = f"{_SELECT}{condition} ORDER BY e.id DESC LIMIT ?"
        with self._reading() as db:
            return [_event(row) for row in db.execute(query, (*values, _bounded(limit)))]

    def export(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Everything that `search` would find, newest first, a page at a time."""
        after: int | None = None
        while page := self.search(**filters, limit=TAIL_MAX, after=after):
            yield from page
            after = page[-1]["id"]

    def tail(self, after_rowid: int, limit: int = TAIL_MAX) -> list[dict[str, Any]]:
        """What arrived after the event with this `id`, oldest first; 0 begins with the first. See `last_id`."""
        with self._reading() as db:
            found = db.execute(f"{_SELECT} WHERE e.id > ? ORDER BY e.id LIMIT ?", (after_rowid, _bounded(limit)))
            return [_event(row) for row in found]

    def last_id(self) -> int:
        """Where a tail that wants only what is new begins."""
        with self._reading() as db:
            return int(db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        try:
            if db is None:
                db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None,
                                     check_same_thread=False)
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
    """ISO 8601 (UTC unless it says otherwise) or an age (30s, 15m, 2h, 7d) as the store writes times. Raises BadSearch."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if text[-1:] in units and text[:-1].isdigit():
            moment = datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadSearch(f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z, or an age like 15m, 2h, 7d") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _conditions(
    user: str | None, connection: str | None, text: str | None, table: str | None, verdict: str | None,
    outcome: str | None, sqlstate: str | None, event: str | None, since: str | None, until: str | None,
) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        where.append(condition)
        values.extend(given)

    if user:
        # Two indexes: the session's, or the event's own where there is no session.
        add("(e.session IN (SELECT id FROM sessions WHERE user = ?) OR e.user = ?)", user, user)
    if connection:
        add("e.session IN (SELECT id FROM sessions WHERE connection = ?)", connection)
    if text and (words := [word for word in text.replace('"', " ").split() if any(c.isalnum() for c in word)]):
        add("e.definition IN (SELECT rowid FROM texts WHERE texts MATCH ?)", " ".join(f'"{word}"*' for word in words))
    elif text:
        add("e.definition IN (SELECT id FROM definitions WHERE instr(sql, ?) > 0)", text)
    if table:
        add("e.definition IN (SELECT definition FROM definition_tables WHERE name = ? OR substr(name, instr(name, '.') + 1) = ?)",
            table, table)
    if verdict:
        add("e.definition IN (SELECT id FROM definitions WHERE verdict = ?)", verdict)
    for column, value in (("outcome", outcome), ("sqlstate", sqlstate), ("event", event)):
        if value:
            add(f"e.{column} = ?", value)
    if since:
        add("e.at >= ?", parse_time(since))
    if until:
        add("e.at < ?", parse_time(until))
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


def _event(row: sqlite3.Row) -> dict[str, Any]:
    detail = orjson.loads(row["detail"])
    if row["event"] != "statement":
        return {"id": row["id"], **detail}
    header = orjson.loads(row["header"])
    return {
        "id": row["id"], "event": "statement", "schema": SCHEMA, "session": row["session"], "seq": row["seq"], "at": row["at"],
        **{name: header.get(name, "") for name in _HEADER}, "sql": row["sql"], **_DETAIL, **detail,
        "parameter_types": orjson.loads(row["types"]), "verdict": row["verdict"], "rule": row["rule"],
        "masks": orjson.loads(row["masks"]), "tables": orjson.loads(row["tables"]), "outcome": row["outcome"],
        "tag": row["tag"], "rows": row["rows"], "bytes": row["bytes"], "copy_bytes": row["copy_bytes"],
        "duration_us": row["duration_us"],
    }
