"""Rows of the embedded store back to the JSON lines that were hashed. Used to seal what a crash left, and to verify.

The inverse of sinks.sqlite: a line comes out byte for byte as events.encode made it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from hoopfast._wire import OUTCOME_TEXTS
from hoopfast.audit.events import utc

CACHED_MAX = 100_000
QUERY = "SELECT id, session, seq, at, definition, kind, rows, duration_us, detail FROM events"
_OUTCOMES = [text.encode() for text in OUTCOME_TEXTS]
_U64 = 2**64 - 1
_LINE = (
    b'{"event":"statement","kind":%b,"sql":%b,"statement_name":%b,"portal":%b,"row_limit":%b,"parameters":%b%b%b",'
    b'"tag":%b,"rows":%d,"bytes":%b,"copy_bytes":%b,"duration_us":%d,"error":%b,"results":%b,"schema":1,"session":"%b",'
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


_parts = msgspec.json.Decoder(Parts).decode


def who_of(header: str) -> bytes:
    """A session's header as the end of its statements' lines, from `user` on."""
    known = _header(header)
    return _encode({name: known.get(name, usual) for name, usual in _EMPTY.items()})[1:]


class StoredLines:
    """Lines of rows of QUERY. Raises ValueError (or a subclass) for a row that no gateway wrote."""

    def __init__(self, db: sqlite3.Connection) -> None:
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
            rows & _U64, p.bytes, p.copy_bytes, duration_us & _U64, p.error, p.results, name, seq,
            utc(at).encode(), who,
        ) + b"\n"

    def lines(self, rows: Iterable[tuple[Any, ...]]) -> bytes:
        return b"".join(map(self.line, rows))

    def _session(self, id: int) -> tuple[bytes, bytes]:  # noqa: A002
        if len(self._sessions) >= CACHED_MAX:
            self._sessions.clear()
        found = self._db.execute("SELECT session, header FROM sessions WHERE id=?", (id,)).fetchone()
        if found is None:
            raise ValueError(f"its session {id} is missing")
        made = self._sessions[id] = (found[0].encode(), who_of(found[1]))
        return made

    def _definition(self, id: int) -> tuple[bytes, bytes]:  # noqa: A002
        if len(self._definitions) >= CACHED_MAX:
            self._definitions.clear()
        found = self._db.execute(
            "SELECT sql, types, verdict, rule, masks, tables, kinds, columns FROM definitions WHERE id=?", (id,),
        ).fetchone()
        if found is None:
            raise ValueError(f"its definition {id} is missing")
        sql, types, verdict, rule, *lists = found
        tail = (
            b',"parameter_types":%b,"verdict":%b,"rule":%b,"masks":%b,"tables":%b,"kinds":%b,"columns":%b,"outcome":"'
            % (types.encode(), _encode(verdict), _encode(rule), *(names.encode() for names in lists)))
        made = self._definitions[id] = (_encode(sql), tail)
        return made
