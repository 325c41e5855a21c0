"""Events to rows of the PostgreSQL store. Used by sinks.postgres, which owns connection and transaction.

What events share (sessions, definitions) gets its ids in one question per batch: until it is answered, what is new has
a negative id of its own.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec
import psycopg

from hoopfast._wire import OUTCOME_TEXTS
from hoopfast.audit.builder import Definition
from hoopfast.audit.database import words_of
from hoopfast.audit.events import (
    GATEWAY_SESSION,
    Event,
    Gateway,
    Header,
    Label,
    SessionEnd,
    SessionStart,
    Statement,
    encode,
    nanoseconds,
)
from hoopfast.audit.sinks.sqlite import EVENT_CODES, NAMED, SPAN, Detail, signed
from hoopfast.audit.stored import WHO, who_of

COLUMNS = 8                             # of store_rows: session, seq, at, definition, kind, rows, duration_us, detail
COPY_EVENTS = ("COPY events (id, place, session, seq, at, definition, rows, duration_us, log, kind, detail) FROM STDIN")
COPY_MARKS = "COPY marks (name, value, event) FROM STDIN"
KEY_MAX = 500                           # letters of what has an index: PostgreSQL refuses entries of 2.7 kB
WORDS_MAX = 20_000                      # of one text; one with more is searched without an index
VECTOR_BYTES = 300_000                  # of a text; what PostgreSQL makes of it may have 1 MB
DAY_S = 86_400
_NULL = "\\N"

_json = msgspec.json.Encoder()
_SESSIONS = """INSERT INTO sessions (log, day, session, "user", connection, header)
 SELECT %s, %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
 ON CONFLICT (session, log) DO UPDATE SET day = greatest(sessions.day, excluded.day) RETURNING session, id, header"""
_STARTED = 'UPDATE sessions SET started_at = %s, "user" = %s, connection = %s, header = %s WHERE id = %s'
_NAMELESS = "UPDATE sessions SET started_at = %s WHERE id = %s"
_ENDED = "UPDATE sessions SET ended_at = %s, reason = %s WHERE id = %s"
_DEFINITIONS = f"""INSERT INTO definitions
 (day, digest, sql, verdict, rule, masks, tables, kinds, columns, types, words)
 SELECT %s, d.a, d.b, d.c, d.d, d.e, d.f, d.g, d.h, d.i, d.j::tsvector FROM unnest(
 %s::bytea[], {", ".join(["%s::text[]"] * 9)}) d (a, b, c, d, e, f, g, h, i, j)
 ON CONFLICT (digest) DO UPDATE SET day = greatest(definitions.day, excluded.day)
 RETURNING digest, id, xmax = 0"""
_NAMES = """INSERT INTO definition_names (what, name, definition)
 SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[]) ON CONFLICT DO NOTHING"""


class Rows:
    """`begin` a batch, have the core ask for `session`, `definition`, `row` and `mark`, then `resolve`."""

    def __init__(self) -> None:
        self.session_ids: dict[Any, int] = {}       # by what the core has for them
        self.definition_ids: dict[Any, int] = {}
        self._sessions: dict[str, tuple[int, bytes]] = {}   # and what the store knows of whose it is
        self._odd: set[int] = set()
        self._day = 0
        self.begin()

    @property
    def cached(self) -> int:
        return max(len(self.session_ids), len(self.definition_ids), len(self._sessions))

    def forget(self) -> None:
        """Ids that were learned in a transaction are void with it."""
        self.session_ids.clear()
        self.definition_ids.clear()
        self._sessions.clear()
        self._odd.clear()

    def begin(self) -> None:
        today = int(time.time()) // DAY_S
        if today != self._day:
            # What is used on a day says so once (sinks.postgres_schema, maintain): retention goes by that.
            self._day = today
            self.forget()
        self._new_sessions: dict[int, tuple[str, str, str, str]] = {}
        self._new_definitions: dict[bytes, tuple[int, Definition, tuple[str, ...]]] = {}
        self._updates: list[tuple[str, list[Any]]] = []     # the session's id is the last value
        self._marks: list[tuple[str, str, int, int]] = []

    # ------------------------------------------------------------ what the core asks for

    def session(self, session: str, who: Event | Header) -> int:
        own = _json.encode({name: getattr(who, name) for name in WHO})
        known = self._sessions.get(session)
        if known is None:
            of_gateway = session == GATEWAY_SESSION         # its events name different people
            temporary = -1 - len(self._new_sessions)
            header = "{}" if of_gateway else own.decode()
            self._new_sessions[temporary] = (
                session, "" if of_gateway else _key(who.user), "" if of_gateway else _key(who.connection), header)
            known = self._sessions[session] = (temporary, who_of(header))
        if known[1] != own[1:]:
            self._odd.add(known[0])
        return known[0]

    def definition(self, d: Definition) -> int:
        label = d.label
        lists = (label.masks, label.tables, label.kinds, label.columns, d.types)
        parts = (d.sql, label.verdict, label.rule, *(_json.encode(part).decode() for part in lists))
        digest = hashlib.sha256(_json.encode(parts)).digest()[:16]
        known = self._new_definitions.get(digest)
        if known is None:
            known = self._new_definitions[digest] = (-1 - len(self._new_definitions), d, parts)
        return known[0]

    def mark(self, name: str, value: str, session: int, seq: int) -> None:
        self._marks.append((name, _key(value), session, seq))

    def row(self, e: Event) -> tuple[Any, ...]:
        if isinstance(e, Statement):
            return self._statement(e)
        session = self.session(e.session, e)
        if isinstance(e, SessionStart):
            # A start that lost its header (a damaged record) says nothing of whose session it is.
            if e.user:
                header = encode(e).decode()
                self._updates.append((_STARTED, [e.at, _key(e.user), _key(e.connection), header, session]))
                self._sessions[e.session] = (session, who_of(header))
            else:
                self._updates.append((_NAMELESS, [e.at, session]))
        elif isinstance(e, SessionEnd):
            self._updates.append((_ENDED, [e.at, clean(e.reason), session]))
        elif isinstance(e, Gateway) and e.user:
            # These have no session to take the user from.
            self.mark("user", e.user, session, e.seq)
        tag = e.__struct_config__.tag
        return (session, e.seq, nanoseconds(e.at), None, EVENT_CODES[str(tag)], 0, 0, encode(e).decode())

    def _statement(self, e: Statement) -> tuple[Any, ...]:
        detail = Detail(
            e.kind, e.statement_name, e.portal, e.row_limit, e.parameters, e.tag, e.bytes, e.copy_bytes, e.error,
            e.results, e.first_row_us, e.parameter_bytes, e.result_formats, e.protected,
        )
        session = self.session(e.session, e)
        definition = self.definition(
            Definition(e.sql, e.parameter_types, Label(e.verdict, e.rule, e.masks, e.tables, e.kinds, e.columns)))
        if e.error and "sqlstate" in e.error:
            self.mark("sqlstate", e.error["sqlstate"], session, e.seq)
        code = OUTCOME_TEXTS.index(e.outcome)
        text = _json.encode(detail).decode()
        return (session, e.seq, nanoseconds(e.at), definition, code, signed(e.rows), signed(e.duration_us), text)

    # ------------------------------------------------------------ ids

    def resolve(self, db: psycopg.Connection[Any], values: list[Any], log: int) -> None:
        """Real ids for what is new, in `values` (of store_rows) and in what is remembered. Raises psycopg.Error."""
        if self._new_sessions:
            ids = self._make_sessions(db, log)
            values[0::COLUMNS] = [ids.get(id, id) for id in values[0::COLUMNS]]     # noqa: A001
            _replace(self.session_ids, ids)
            self._sessions = {name: (ids.get(id, id), who) for name, (id, who) in self._sessions.items()}  # noqa: A001
            self._odd = {ids.get(id, id) for id in self._odd}       # noqa: A001
            self._marks = [(name, value, ids.get(id, id), seq) for name, value, id, seq in self._marks]    # noqa: A001
            for _, update in self._updates:
                update[-1] = ids.get(update[-1], update[-1])
        for query, update in self._updates:
            db.execute(query, update)
        if self._new_definitions:
            ids = self._make_definitions(db)
            values[3::COLUMNS] = [ids.get(id, id) for id in values[3::COLUMNS]]     # noqa: A001
            _replace(self.definition_ids, ids)

    def _make_sessions(self, db: psycopg.Connection[Any], log: int) -> dict[int, int]:
        new = self._new_sessions
        parts = [[session[i] for session in new.values()] for i in range(4)]
        found = {name: (int(id), header) for name, id, header in db.execute(_SESSIONS, (log, self._day, *parts))}  # noqa: A001
        ids = {}
        for temporary, (name, _, _, header) in new.items():
            ids[temporary], stored = found[name]
            if stored != header and name not in self._started():
                # The store knew it already, and better: lines are made from what stands there.
                self._sessions[name] = (temporary, who_of(stored))
                if who_of(stored) != who_of(header):
                    self._odd.add(temporary)
        return ids

    def _started(self) -> set[str]:
        """Sessions whose start is in this batch; their header is the one that stands there afterwards."""
        ids = {update[-1] for query, update in self._updates if query is _STARTED}
        return {name for name, (id, _) in self._sessions.items() if id in ids}      # noqa: A001

    def _make_definitions(self, db: psycopg.Connection[Any]) -> dict[int, int]:
        # In the order of their digests: gateways that make the same ones must not wait for each other in a circle.
        new = dict(sorted(self._new_definitions.items()))
        texts = [[clean(parts[i]) for _, _, parts in new.values()] for i in range(8)]
        words = [_vector(parts[0]) for _, _, parts in new.values()]
        found = db.execute(_DEFINITIONS, (self._day, list(new), *texts, words)).fetchall()
        names = sorted({
            (what, _key(name), int(id)) for digest, id, is_new in found if is_new           # noqa: A001
            for what in NAMED for name in getattr(new[bytes(digest)][1].label, what)})
        if names:
            db.execute(_NAMES, tuple(map(list, zip(*names, strict=True))))
        return {new[bytes(digest)][0]: int(id) for digest, id, _ in found}                  # noqa: A001

    # ------------------------------------------------------------ COPY

    def lines(self, values: list[Any], id: int, place: int, log: int) -> bytes:  # noqa: A002
        """For COPY_EVENTS, in text form: numbered from `id` and `place` on."""
        columns = [values[i::COLUMNS] for i in range(COLUMNS)]
        return "".join([
            f"{id + n}\t{place + n}\t{session}\t{seq}\t{at}\t{_NULL if definition is None else definition}\t{rows}\t"
            f"{duration_us}\t{log}\t{kind}\t{_escaped(detail)}\n"
            for n, (session, seq, at, definition, kind, rows, duration_us, detail)
            in enumerate(zip(*columns, strict=True))
        ]).encode()

    def marks(self, values: list[Any], first_id: int) -> bytes:
        """For COPY_MARKS; empty when there are none."""
        if not self._marks:
            return b""
        ids = {name: first_id + n for n, name in enumerate(zip(values[0::COLUMNS], values[1::COLUMNS], strict=True))}
        lines = {f"{name}\t{_escaped(value)}\t{ids[session, seq]}\n" for name, value, session, seq in self._marks}
        return "".join(sorted(lines)).encode()

    def is_odd(self, values: list[Any]) -> bool:
        """Whether lines made from these rows may differ from those of the events."""
        return bool(self._odd) and not self._odd.isdisjoint(values[0::COLUMNS])


def spans_of(first_id: int, times: list[int]) -> tuple[list[int], list[int], list[int]]:
    """(blocks, earliest, latest) of events with these times, numbered from `first_id` on."""
    found: list[tuple[int, int, int]] = []
    at = 0
    while at < len(times):
        block = (first_id + at) // SPAN
        part = times[at : at + SPAN - (first_id + at) % SPAN]
        found.append((block, min(part), max(part)))
        at += len(part)
    blocks, earliest, latest = zip(*found, strict=True)
    return list(blocks), list(earliest), list(latest)


def clean(text: str) -> str:
    """PostgreSQL has no NUL in texts."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _key(text: str) -> str:
    return clean(text)[:KEY_MAX]


def _escaped(text: str) -> str:
    """For COPY's text form. JSON has no bare newline or tab; other texts may."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


def _replace(cache: dict[Any, int], ids: dict[int, int]) -> None:
    for key, id in cache.items():       # noqa: A001
        if id < 0:
            cache[key] = ids[id]


def _vector(text: str) -> str | None:
    words = words_of(text)
    if len(words) > WORDS_MAX or len(text.encode()) > VECTOR_BYTES:
        return None
    return " ".join(f"'{word}'" for word in words)

