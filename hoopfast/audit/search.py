"""Questions to an audit store, SQLite or PostgreSQL. Used by the admin API and the console; answers are JSON-ready.

An event comes out as docs/audit.md describes it, with `id` added: its place in the order of arrival, for paging.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from hoopfast.audit import finding
from hoopfast.audit.database import Database, SqliteStore, Store
from hoopfast.audit.finding import BadSearch, parse_time
from hoopfast.audit.readers import readers
from hoopfast.audit.stored import QUERY, lines_of

LIMIT_MAX = 10_000
PAGE = 1000
EXPORTED = 5000                         # events that are read at a time; what they share is looked up once

_HEADER = ("user", "subject", "groups", "issuer", "method", "connection", "database", "client", "application")
_SESSIONS = """SELECT s.session, s.started_at, s.ended_at, s.reason, s.header,
 (SELECT count(*) FROM events e WHERE e.session = s.id AND e.definition IS NOT NULL) AS statements,
 (SELECT count(*) FROM events e WHERE e.session = s.id
   AND e.kind IN (SELECT code FROM kinds WHERE outcome IN ('error', 'unknown'))) AS errors,
 (SELECT count(*) FROM events e WHERE e.session = s.id
   AND e.kind IN (SELECT code FROM kinds WHERE outcome = 'denied')) AS denied
 FROM sessions s"""

class AuditReader:
    """Reads while the shipper writes. Safe in threads. `store`: a path is that of the embedded store."""

    def __init__(self, store: Store | str | Path) -> None:
        self._store = SqliteStore(Path(store)) if isinstance(store, str | Path) else store

    def close(self) -> None:
        """Nobody may be reading."""
        self._store.close()

    def sessions(self, filters: Mapping[str, Any] | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first: header, started_at, ended_at (None: open), reason, and counts of statements, errors, denied.

        `filters`: user, connection, live (bool), since, until.
        """
        given = {name: value for name, value in (filters or {}).items() if value not in {None, ""}}
        where, values = ["s.started_at IS NOT NULL"], []
        for name, value in given.items():
            if name in {"user", "connection"}:
                where.append(f's."{name}" = ?')
                values.append(value)
            elif name == "live":
                where.append("s.ended_at IS NULL" if value in {True, "true", "1"} else "s.ended_at IS NOT NULL")
            elif name in {"since", "until"}:
                where.append(f"s.started_at {'>=' if name == 'since' else '<'} ?")
                values.append(parse_time(str(value)))
            else:
                raise BadSearch(f"sessions cannot be filtered by {name}; use user, connection, live, since or until")
        query = f"{_SESSIONS} WHERE {' AND '.join(where)} ORDER BY s.started_at DESC LIMIT ?"
        with self._store.reading() as db:
            return [_session(row) for row in db.execute(query, (*values, _bounded(limit)))]

    def session(self, id: str) -> dict[str, Any] | None:  # noqa: A002
        """The header as in `sessions`, plus "events": all in order, running statements included. None: unknown."""
        with self._store.reading() as db:
            row = db.execute(f"{_SESSIONS} WHERE s.session = ?", (id,)).fetchone()
            if row is None:
                return None
            own = "WHERE session IN (SELECT id FROM sessions WHERE session = ?) ORDER BY seq"
            found = db.execute(f"{QUERY} {own}", (id,))
            events = _decoded(db, found.fetchall())
            running = db.execute("SELECT event FROM running WHERE session = ?", (id,)).fetchall()
        known = {event["seq"] for event in events}
        more = [orjson.loads(found[0]) for found in running]
        events += [{"id": 0, **event} for event in more if event["seq"] not in known]
        return {**_session(row), "events": sorted(events, key=lambda event: event["seq"])}

    def search(self, *, limit: int = 100, after: int | None = None, **filters: Any) -> list[dict[str, Any]]:
        """Events, newest first; give the last one's `id` as `after` for the next page. Empty filters do not count.

        `filters`: those of finding.FILTERS. `text`: every word must stand in the SQL (a word matches from its
        beginning: "cust" finds customers). `table`: as the statement names it, or without the schema. `column`: that a
        statement may read. `rows`, `duration`: at least. `since`, `until`: ISO 8601, or an age like 15m, 2h, 7d.
        Raises BadSearch.
        """
        with self._store.reading() as db:
            ids = finding.newest(db, finding.conditions(db, filters), _bounded(limit), after)
            return _decoded(db, _rows(db, ids, "DESC"))

    def export(self, *, limit: int | None = None, **filters: Any) -> Iterator[bytes]:
        """Everything that `search` would find, in order of arrival, read a page at a time, as lines of JSON.

        `id` comes first, then the event as it was hashed: `audit verify` can check an export (verify_files).
        """
        after, left = 0, limit or 2**63
        with self._store.reading() as db:
            wanted = finding.conditions(db, filters)
            listed = finding.listed(db, wanted) if wanted else None
        while left > 0:
            size = min(left, EXPORTED)
            with self._store.reading() as db:
                if not wanted:
                    rows = db.execute(f"{QUERY} WHERE id > ? ORDER BY id LIMIT ?", (after, size)).fetchall()
                elif listed is not None:
                    ids, listed = listed[:size], listed[size:]
                    rows = _rows(db, ids, "ASC")
                else:
                    rows = _rows(db, finding.oldest(db, wanted, size, after), "ASC")
                lines = lines_of(db, rows)
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
        with self._store.reading() as db:
            return [{**_session(row), **saw} for row, saw in readers(db, column, filters, _bounded(limit), _SESSIONS)]

    def tail(self, after_rowid: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """What arrived after the event with this `id`, oldest first; 0 begins with the first. See `last_id`."""
        with self._store.reading() as db:
            return _decoded(db, _rows(db, finding.oldest(db, [], _bounded(limit), after_rowid), "ASC"))

    def last_id(self) -> int:
        """Where a tail that wants only what is new begins."""
        with self._store.reading() as db:
            return finding.last_id(db)


def _bounded(limit: int) -> int:
    return max(1, min(int(limit), LIMIT_MAX))


def _session(row: tuple[Any, ...]) -> dict[str, Any]:
    session, started_at, ended_at, reason, header, statements, errors, denied = row
    known = orjson.loads(header)
    names = (*_HEADER, "role", "credential", "tls", "worker")
    return {
        "session": session, **{name: known.get(name) for name in names},
        "started_at": started_at, "ended_at": ended_at, "reason": reason,
        "statements": statements, "errors": errors, "denied": denied,
    }


def _rows(db: Database, ids: list[int], order: str) -> list[Any]:
    """Rows of stored.QUERY."""
    if not ids:
        return []
    return db.execute(f"{QUERY} WHERE id IN ({','.join(map(str, ids))}) ORDER BY id {order}").fetchall()


def _decoded(db: Database, rows: list[Any]) -> list[dict[str, Any]]:
    return [{"id": row[0], **orjson.loads(line)} for row, line in zip(rows, lines_of(db, rows), strict=True)]
