"""What the embedded store repeats so that it can be searched, against the sealed events it came from.

A change here alters no event, but hides some from a search: sessions' columns, tables of a definition, marks, kinds.
Not the full-text index, which SQLite checks only with the right to write; `sinks.sqlite` can rebuild it.
"""

from __future__ import annotations

import sqlite3
from typing import Protocol

from hoopfast._wire import OUTCOME_TEXTS
from hoopfast.audit.sinks.sqlite import EVENT_CODES, SPAN, USUAL_KIND

_START, _END, _GATEWAY = EVENT_CODES["session_start"], EVENT_CODES["session_end"], EVENT_CODES["gateway"]
# What is told -> rows that should not be: (what, of which).
_QUERIES = (
    ("the session {} is listed under another user or connection than its header says", """
SELECT session FROM sessions
 WHERE user <> coalesce(json_extract(header, '$.user'), '')
 OR connection <> coalesce(json_extract(header, '$.connection'), '')
"""),
    ("the session {} is not listed as its start or end says", """
WITH told AS MATERIALIZED (
 SELECT e.session, e.kind, CASE e.kind
 WHEN :start THEN s.started_at IS json_extract(e.detail, '$.at')
 AND (s.header = e.detail OR json_extract(e.detail, '$.user') = '')
 ELSE s.ended_at IS json_extract(e.detail, '$.at') AND s.reason IS json_extract(e.detail, '$.reason') END AS agrees
 FROM events e JOIN sessions s ON s.id = e.session WHERE e.kind IN (:start, :end))
SELECT s.session FROM told JOIN sessions s ON s.id = told.session
 GROUP BY told.session, told.kind HAVING NOT coalesce(max(agrees), 0)
"""),
    ("the definition {} is not listed under its tables, kinds and columns", """
WITH named AS MATERIALIZED (
 SELECT 'tables' AS what, j.value AS name, d.id AS definition FROM definitions d, json_each(d.tables) j
 UNION SELECT 'kinds', j.value, d.id FROM definitions d, json_each(d.kinds) j
 UNION SELECT 'columns', j.value, d.id FROM definitions d, json_each(d.columns) j),
listed AS (SELECT what, name, definition FROM definition_names)
SELECT DISTINCT definition FROM (SELECT * FROM (SELECT * FROM named EXCEPT SELECT * FROM listed)
 UNION ALL SELECT * FROM (SELECT * FROM listed EXCEPT SELECT * FROM named))
"""),
    ("the times of the events from {} on are not listed as they are", f"""
SELECT e.block * {SPAN} FROM (SELECT id / {SPAN} AS block, min(at) AS earliest, max(at) AS latest FROM events
 WHERE id > 0 GROUP BY 1) e LEFT JOIN spans s ON s.block = e.block
 WHERE s.block IS NULL OR s.earliest > e.earliest OR s.latest < e.latest
"""),
    ("the event {} is not listed under its SQLSTATE", f"""
SELECT e.id FROM events e
 WHERE e.kind <> {USUAL_KIND} AND e.kind > {USUAL_KIND} AND e.definition IS NOT NULL
 AND instr(e.detail, '"sqlstate":') > 0
 AND json_extract(e.detail, '$.error.sqlstate') IS NOT NULL AND NOT EXISTS (
 SELECT 1 FROM marks m WHERE m.name = 'sqlstate' AND m.value = json_extract(e.detail, '$.error.sqlstate')
 AND m.event = e.id)
"""),
    ("the gateway's event {} is not listed under its user", """
SELECT e.id FROM events e
 WHERE e.kind = :gateway AND json_extract(e.detail, '$.user') <> '' AND NOT EXISTS (
 SELECT 1 FROM marks m WHERE m.name = 'user' AND m.value = json_extract(e.detail, '$.user') AND m.event = e.id)
"""),
)


class _Report(Protocol):
    def add(self, kind: str, checkpoint: int, text: str) -> None: ...


def check_derived(report: _Report, db: sqlite3.Connection) -> None:
    """Adds a problem of kind "index" for everything that a search would not find, or find wrongly."""
    kinds: set[tuple[int, str, str | None]] = set()
    kinds |= {(code, "statement", outcome) for code, outcome in enumerate(OUTCOME_TEXTS)}
    kinds |= {(code, event, None) for event, code in EVENT_CODES.items()}
    if set(db.execute("SELECT code, event, outcome FROM kinds")) != kinds:
        report.add("index", 0, "the table of event kinds was changed: all outcomes may be told wrongly")
    values = {"start": _START, "end": _END, "gateway": _GATEWAY}
    for text, query in _QUERIES:
        for (which,) in db.execute(query, {name: value for name, value in values.items() if f":{name}" in query}):
            report.add("index", 0, text.format(which))
