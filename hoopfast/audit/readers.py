"""Which sessions may have read a column: `hoopfast audit who-saw`. Used by audit.search.

By what statements name (analysis.columns), so it may tell a session too much; what is read inside of views, functions
and rules goes by their own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from hoopfast._wire import OUTCOME_TEXTS
from hoopfast.audit.database import Database
from hoopfast.audit.events import utc
from hoopfast.audit.finding import column_of, conditions

# Ends after which rows may have reached the client; an error comes after rows too.
_SHOWN = tuple(code for code, outcome in enumerate(OUTCOME_TEXTS) if outcome not in {"denied", "skipped", "running"})
_ERROR = OUTCOME_TEXTS.index("error")
_U64 = 2**64 - 1
TOGETHER = 100                          # sessions that are asked for at a time


def readers(
    db: Database, column: str, filters: Mapping[str, Any], limit: int, sessions: str,
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """(row of the query `sessions`, what was read), the sessions that began last first."""
    source = column_of(db, column).sources[0]
    people = {name: value for name, value in filters.items() if name in {"user", "connection"} and value}
    where, values = "", []
    for name, value in people.items():
        where += f' AND s."{name}" = ?'
        values.append(value)
    times = conditions(db, {name: value for name, value in filters.items() if name in {"since", "until"}})
    when = "".join(f" AND {time.where}" for time in times)
    moments = [moment for time in times for moment in time.values]
    # The index has definition and session: whose statements they are is known without reading one.
    found = db.execute(
        "SELECT s.id FROM sessions s WHERE "
        + db.among("s.id", f"SELECT DISTINCT e.session FROM {source.tables} WHERE {source.where}")
        + f"{where} ORDER BY s.started_at DESC NULLS LAST, s.id DESC", (*source.values, *values)).fetchall()
    told = 0
    shown = ",".join(map(str, _SHOWN))
    for at in range(0, len(found), TOGETHER):
        part = ",".join(str(session) for (session,) in found[at : at + TOGETHER])
        read: dict[int, list[Any]] = {}
        for session, *rest in db.execute(
            "SELECT e.session, e.definition, count(*), sum(CASE WHEN e.rows > 0 THEN e.rows ELSE 0 END), min(e.at),"
            f" max(e.at) FROM {source.tables} WHERE {source.where} AND e.session IN ({part}) AND e.kind IN ({shown})"
            f" AND (e.rows <> 0 OR e.kind <> {_ERROR}){when} GROUP BY e.session, e.definition ORDER BY e.definition",
            (*source.values, *moments),
        ):
            read.setdefault(session, []).append(rest)
        wanted = [session for (session,) in found[at : at + TOGETHER] if session in read][: limit - told]
        if not wanted:
            continue
        listed = ",".join(map(str, wanted))
        rows = {row[0]: row[1:] for row in db.execute(
            f"{sessions.replace('SELECT', 'SELECT s.id,', 1)} WHERE s.id IN ({listed})")}
        texts = _texts(db, {rest[0] for session in wanted for rest in read[session]}, column)
        for session in wanted:
            yield rows[session], _summary(read[session], texts)
        told += len(wanted)
        if told >= limit:
            return


def _texts(db: Database, definitions: set[int], column: str) -> dict[int, tuple[str, list[str]]]:
    """Of each: its text, and the masks of the column in it."""
    name = column.rpartition(".")[2]
    found = {}
    listed = ",".join(map(str, definitions))
    for id, sql, text in db.execute(f"SELECT id, sql, masks FROM definitions WHERE id IN ({listed})"):   # noqa: A001
        masks = [str(mask) for mask in orjson.loads(text)]
        found[id] = (sql, [mask for mask in masks if mask.partition("=")[0].rpartition(".")[2] == name])
    return found


def _summary(found: list[Any], texts: dict[int, tuple[str, list[str]]]) -> dict[str, Any]:
    masks: dict[str, None] = {}
    clear, sample = False, ""
    for definition, *_ in found:
        sql, own = texts[definition]
        masks.update(dict.fromkeys(own))
        clear = clear or not own
        sample = sample or sql
    return {
        "read": sum(part[1] for part in found), "rows": int(sum(part[2] for part in found)) & _U64,
        "first": utc(min(part[3] for part in found)), "last": utc(max(part[4] for part in found)),
        "masks": list(masks), "clear": clear, "sample": sample,
    }
