"""Rows of a store back to the JSON lines that were hashed. Used to answer, to seal what a crash left, and to verify.

The inverse of sinks.sqlite and sinks.postgres: a line comes out byte for byte as events.encode made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from hoopfast._wire import OUTCOME_TEXTS
from hoopfast.audit.events import utc

CACHED_MAX = 100_000
QUERY = "SELECT id, session, seq, at, definition, kind, rows, duration_us, detail FROM events"
_SESSION = "SELECT id, session, header FROM sessions WHERE id"
_DEFINITION = "SELECT id, sql, types, verdict, rule, masks, tables, kinds, columns FROM definitions WHERE id"
_OUTCOMES = [text.encode() for text in OUTCOME_TEXTS]
_U64 = 2**64 - 1
_LINE = (
    b'{"event":"statement","kind":%b,"sql":%b,"statement_name":%b,"portal":%b,"row_limit":%b,"parameters":%b%b%b",'
    b'"tag":%b,"rows":%d,"bytes":%b,"copy_bytes":%b,"duration_us":%d,"error":%b,"results":%b%b%b%b%b,"schema":1,"session":"%b",'
    b'"seq":%d,"at":"%b",%b'
)
WHO = ("user", "subject", "groups", "issuer", "method", "connection", "database", "client", "application")
_EMPTY: dict[str, Any] = {name: [] if name == "groups" else "" for name in WHO}
_encode = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(dict[str, Any]).decode
_Raw = msgspec.Raw


class Parts(msgspec.Struct, gc=False):
    """sinks.sqlite.Detail as written, so that nothing is encoded again."""

    kind: msgspec.Raw = _Raw(b'"extended"')
    statement_name: msgspec.Raw = _Raw(b'""')
    portal: msgspec.Raw = _Raw(b'""')
    row_limit: msgspec.Raw = _Raw(b"0")
    parameters: msgspec.Raw = _Raw(b"null")
    tag: msgspec.Raw = _Raw(b'""')
    bytes: msgspec.Raw = _Raw(b"0")
    copy_bytes: msgspec.Raw = _Raw(b"0")
    error: msgspec.Raw = _Raw(b"null")
    results: msgspec.Raw = _Raw(b"[]")
    first_row_us: msgspec.Raw = _Raw(b"")
    parameter_bytes: msgspec.Raw = _Raw(b"")
    result_formats: msgspec.Raw = _Raw(b"")
    protected: msgspec.Raw = _Raw(b"")


_parts = msgspec.json.Decoder(Parts).decode


def who_of(header: str) -> bytes:
    """A session's header as the end of its statements' lines, from `user` on."""
    known = _header(header)
    return _encode({name: known.get(name, usual) for name, usual in _EMPTY.items()})[1:]


class Asking(Protocol):
    """A connection of either store (audit.database)."""

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Any: ...


class StoredLines:
    """Lines of rows of QUERY. Raises ValueError (or a subclass) for a row that no gateway wrote."""

    def __init__(self, db: Asking) -> None:
        self._db = db
        self._sessions: dict[int, tuple[bytes, bytes]] = {}
        self._definitions: dict[int, tuple[bytes, bytes]] = {}

    def line(self, row: tuple[Any, ...]) -> bytes:
        """With its newline."""
        _, session, seq, at, definition, kind, rows, duration_us, detail = row
        if definition is None:
            return str(detail).encode() + b"\n"
        if not 0 <= kind < len(_OUTCOMES):
            raise ValueError(f"kind {kind} is no outcome")
        name, who = self._sessions.get(session) or self._session(session)
        sql, tail = self._definitions.get(definition) or self._definition(definition)
        p = _parts(detail)
        return _LINE % (
            p.kind, sql, p.statement_name, p.portal, p.row_limit, p.parameters, tail, _OUTCOMES[kind], p.tag,
            rows & _U64, p.bytes, p.copy_bytes, duration_us & _U64, p.error, p.results,
            b',"first_row_us":' + bytes(p.first_row_us) if p.first_row_us else b"",
            b',"parameter_bytes":' + bytes(p.parameter_bytes) if p.parameter_bytes else b"",
            b',"result_formats":' + bytes(p.result_formats) if p.result_formats else b"",
            b',"protected":' + bytes(p.protected) if p.protected else b"", name, seq,
            utc(at).encode(), who,
        ) + b"\n"

    def lines(self, rows: Iterable[tuple[Any, ...]]) -> bytes:
        return b"".join(map(self.line, rows))

    def prepare(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Look up what these rows share, in two questions: where each costs a journey, that counts."""
        sessions = {row[1] for row in rows} - self._sessions.keys()
        for id, session, header in self._some(_SESSION, sessions):  # noqa: A001
            self._sessions[id] = (session.encode(), who_of(header))
        definitions = {row[4] for row in rows if row[4] is not None} - self._definitions.keys()
        for id, *parts in self._some(_DEFINITION, definitions):  # noqa: A001
            self._keep(id, parts)

    def _some(self, query: str, ids: Collection[int]) -> Iterable[tuple[Any, ...]]:
        if len(ids) < 2:
            return []
        if len(self._sessions) + len(self._definitions) + len(ids) > CACHED_MAX:
            self._sessions.clear()
            self._definitions.clear()
        found: list[tuple[Any, ...]] = self._db.execute(f"{query} IN ({','.join(map(str, ids))})").fetchall()
        return found

    def _session(self, id: int) -> tuple[bytes, bytes]:  # noqa: A002
        if len(self._sessions) >= CACHED_MAX:
            self._sessions.clear()
        found = self._db.execute(f"{_SESSION} = ?", (id,)).fetchone()
        if found is None:
            raise ValueError(f"its session {id} is missing")
        made = self._sessions[id] = (found[1].encode(), who_of(found[2]))
        return made

    def _definition(self, id: int) -> tuple[bytes, bytes]:  # noqa: A002
        if len(self._definitions) >= CACHED_MAX:
            self._definitions.clear()
        found = self._db.execute(f"{_DEFINITION} = ?", (id,)).fetchone()
        if found is None:
            raise ValueError(f"its definition {id} is missing")
        return self._keep(id, found[1:])

    def _keep(self, id: int, found: Sequence[Any]) -> tuple[bytes, bytes]:  # noqa: A002
        sql, types, verdict, rule, *lists = found
        tail = (
            b',"parameter_types":%b,"verdict":%b,"rule":%b,"masks":%b,"tables":%b,"kinds":%b,"columns":%b,"outcome":"'
            % (types.encode(), _encode(verdict), _encode(rule), *(names.encode() for names in lists)))
        made = self._definitions[id] = (_encode(sql), tail)
        return made


def lines_of(db: Asking, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """One line for each row of QUERY."""
    lines = StoredLines(db)
    lines.prepare(rows)
    return list(map(lines.line, rows))
