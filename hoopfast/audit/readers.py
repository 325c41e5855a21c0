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
    for (session,) in found:
        if told >= limit:
            return
        summary = db.execute(
            "SELECT e.definition, count(*), sum(CASE WHEN e.rows > 0 THEN e.rows ELSE 0 END), min(e.at), max(e.at)"
            f" FROM {source.tables}"
            f" WHERE {source.where} AND e.session = ? AND e.kind IN ({shown})"
            f" AND (e.rows <> 0 OR e.kind <> {_ERROR}){when} GROUP BY e.definition",
            (*source.values, session, *moments)).fetchall()
        if summary:
            told += 1
            row = db.execute(f"{sessions} WHERE s.id = ?", (session,)).fetchone()
            yield row, _summary(db, summary, column)


def _summary(db: Database, found: list[Any], column: str) -> dict[str, Any]:
    name = column.rpartition(".")[2]
    masks: dict[str, None] = {}
    clear, sample = False, ""
    for definition, *_ in found:
        sql, text = db.execute("SELECT sql, masks FROM definitions WHERE id=?", (definition,)).fetchone()
        own = [mask for mask in orjson.loads(text) if str(mask).partition("=")[0].rpartition(".")[2] == name]
        masks.update(dict.fromkeys(own))
        clear = clear or not own
        sample = sample or sql
    return {
        "read": sum(part[1] for part in found), "rows": int(sum(part[2] for part in found)) & _U64,
        "first": utc(min(part[3] for part in found)), "last": utc(max(part[4] for part in found)),
        "masks": list(masks), "clear": clear, "sample": sample,
    }


