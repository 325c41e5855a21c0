"""What the trail says of sessions, as replay needs it: statements, when each ran, what it led to. Pure.

Events come as JSON lines (an export, or the admin API's), are read leniently, and rows that were kept go to whoever
stores them, so that an afternoon of them does not have to fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hoopfast.audit.events import GATEWAY_SESSION, nanoseconds

Kept = tuple[int, int]                  # where the rows of a statement are: offset, bytes
Keep = Callable[[bytes], Kept]

NEVER = 2**63 - 1                       # of an end that nobody saw


class Line(msgspec.Struct, gc=False):
    """One line of an export, as far as it matters here."""

    event: str
    session: str
    seq: int
    at: str
    id: int = 0
    user: str = ""
    connection: str = ""
    database: str = ""
    application: str = ""
    role: str = ""
    settings: dict[str, str] = {}
    kind: str = ""
    sql: str | None = ""
    statement_name: str = ""
    portal: str = ""
    row_limit: int = 0
    parameters: tuple[Any, ...] | None = None
    parameter_types: tuple[int, ...] = ()
    parameter_bytes: tuple[str | None, ...] = ()
    result_formats: tuple[int, ...] = ()
    verdict: str = ""
    rule: str = ""
    masks: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    outcome: str = ""
    tag: str = ""
    rows: int = 0
    copy_bytes: int = 0
    duration_us: int = 0
    error: dict[str, str] | None = None
    protected: Any = None
    results: msgspec.Raw = msgspec.Raw(b"[]")


class Recorded(msgspec.Struct, gc=False):
    """One statement. `begin` and `end` are ns since the epoch; `end` is NEVER when how it ended is not known."""

    session: str
    seq: int
    event: int                          # its number in the store it came from; 0: not known
    begin: int
    end: int
    kind: str
    sql: str
    name: str
    portal: str
    row_limit: int
    parameters: tuple[Any, ...] | None
    types: tuple[int, ...]
    parameter_bytes: tuple[str | None, ...]             # hex of those that came in binary
    result_formats: tuple[int, ...]
    rule: str
    masks: tuple[str, ...]
    tables: tuple[str, ...]
    kinds: tuple[str, ...]
    outcome: str
    tag: str
    rows: int
    sqlstate: str
    message: str
    is_protected: bool
    results: Kept | None                # None: no rows were kept


class Session(msgspec.Struct):
    """Who, where, with which settings; `begin` and `end` in ns, 0 where the event is not among those given."""

    id: str
    user: str = ""
    connection: str = ""
    application: str = ""
    settings: dict[str, str] = {}
    begin: int = 0
    end: int = 0
    statements: list[Recorded] = []


class Trail(msgspec.Struct):
    """Sessions by id, in the order in which they turn up."""

    sessions: dict[str, Session] = {}

    @property
    def statements(self) -> int:
        return sum(len(session.statements) for session in self.sessions.values())

    def masked_columns(self) -> frozenset[str]:
        """Every column that was hidden from anybody, as schema.table.column."""
        return frozenset(name for session in self.sessions.values() for one in session.statements for name in one.masks)


_line = msgspec.json.Decoder(Line)


class Reader:
    """Makes a Trail of lines; `take` raises ValueError for one that is no event."""

    def __init__(self, keep: Keep) -> None:
        self.trail = Trail()
        self._keep = keep
        self._texts: dict[str, str] = {}
        self._seen: set[tuple[str, int]] = set()

    def take(self, raw: bytes) -> None:
        try:
            line = _line.decode(raw)
        except msgspec.MsgspecError as failure:
            raise ValueError(f"this is no event of the audit trail: {failure}") from failure
        if line.session == GATEWAY_SESSION or line.event not in {"session_start", "statement", "session_end"}:
            return
        session = self.trail.sessions.get(line.session)
        if session is None:
            session = self.trail.sessions[line.session] = Session(
                id=line.session, user=line.user, connection=line.connection, application=line.application)
        if line.event == "session_start":
            session.begin, session.settings = nanoseconds(line.at), line.settings
        elif line.event == "session_end":
            session.end = nanoseconds(line.at)
        elif (line.session, line.seq) not in self._seen:
            self._seen.add((line.session, line.seq))
            session.statements.append(self._statement(line))

    def finish(self) -> Trail:
        """The trail, each session's statements in the order in which they were sent."""
        for session in self.trail.sessions.values():
            session.statements.sort(key=lambda one: one.seq)
        return self.trail

    def _statement(self, line: Line) -> Recorded:
        begin = nanoseconds(line.at)
        error = line.error or {}
        results = bytes(line.results)
        sql = line.sql or ""
        return Recorded(
            session=line.session, seq=line.seq, event=line.id, begin=begin,
            end=NEVER if line.outcome in {"unknown", "running"} else begin + line.duration_us * 1000,
            # Programs send the same text again and again.
            kind=line.kind, sql=self._texts.setdefault(sql, sql), name=line.statement_name, portal=line.portal,
            row_limit=line.row_limit, parameters=line.parameters, types=line.parameter_types,
            parameter_bytes=line.parameter_bytes, result_formats=line.result_formats, rule=line.rule,
            masks=line.masks, tables=line.tables, kinds=line.kinds, outcome=line.outcome, tag=line.tag,
            rows=line.rows, sqlstate=error.get("sqlstate", ""), message=error.get("message", ""),
            is_protected=bool(line.protected), results=self._keep(results) if len(results) > 2 else None,
        )
