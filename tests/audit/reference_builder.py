"""The event builder as it was in Python: slow and plain, the reference that the core's Decoder is compared with.

Everything about it is as docs/audit.md says; test_decoder.py feeds both the same journals.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from struct import Struct, error
from typing import Any, ClassVar

import msgspec

from hoopfast.audit.events import (
    GATEWAY_SESSION,
    OUTCOMES,
    RUNNING,
    UNKNOWN,
    Event,
    Gateway,
    Header,
    Label,
    Note,
    SessionEnd,
    SessionStart,
    Statement,
    decode_label,
    utc,
)
from hoopfast.audit.segments import KIND_DAMAGED, Joiner, Record
from hoopfast.audit.typed import (
    Bind,
    Results,
    Value,
    binary_values,
    decode_error,
    decode_parameters,
    decode_results,
    parse_aside,
    parse_bind,
    parse_function_call,
    result_formats,
    type_oids,
)
from hoopfast.model import (
    KIND_ASIDE,
    KIND_BIND,
    KIND_DESCRIBED,
    KIND_EXECUTE,
    KIND_FUNCTION,
    KIND_NOTE,
    KIND_OUTCOME,
    KIND_OUTCOME_ROWS,
    KIND_PARSE,
    KIND_QUERY,
    KIND_QUERY_TEXT,
    KIND_RESULT,
    KIND_SESSION_END,
    KIND_SESSION_START,
    KIND_STATEMENT,
)

PORTALS_MAX = 4096                      # per session; a client may name portals for ever and Close is not journalled
PARSES_MAX = 1024                       # per session; a Parse that succeeds is never heard of again
RESULTS_MAX_BYTES = 16 << 20            # of one statement, whatever the relay captured: an event must fit in memory

_U64 = Struct("<Q").unpack_from
_U32 = Struct("<I").unpack_from
_EXECUTE = Struct("<QQI").unpack_from
_OUTCOME = Struct("<QQQQqccH").unpack_from
_OUTCOME_BYTES = 44


class Definition(msgspec.Struct):
    """A statement text with its verdict; shared by all events that ran it."""

    sql: str
    types: tuple[int, ...]
    label: Label
    number: int = 0


Binary = tuple[str | None, ...] | None


class Bound(msgspec.Struct, gc=False):
    """A portal's Bind: decoded when it is executed, because most of a batch's portals are executed just once."""

    seq: int
    wall: int
    definition: Definition
    body: bytes
    bind: Bind | None = None
    parameters: tuple[Value, ...] | None = None
    binary: Binary = None


class Intent(msgspec.Struct, gc=False):
    """A statement that has no outcome yet."""

    kind: str
    seq: int
    wall: int
    definition: Definition
    name: str = ""
    portal: str = ""
    row_limit: int = 0
    parameters: tuple[Value, ...] | None = None
    result_formats: tuple[int, ...] = ()
    frames: list[bytes] = []
    captured: int = 0
    binary: Binary = None


class Session(msgspec.Struct):
    id: str
    header: Header
    open: dict[int, Intent] = {}
    parses: dict[int, Intent] = {}
    portals: dict[str, Bound] = {}
    described: dict[int, tuple[bytes, bytes]] = {}


class _State(msgspec.Struct):
    sessions: dict[int, Session]
    definitions: dict[int, Definition]
    joiner: tuple[Record, list[bytes]] | None


_NOWHERE = Definition("", (), Label())
_header = msgspec.json.Decoder(Header)
_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(_State)


class EventBuilder:
    """Feed it the records of one worker process in the order of writing.

    `worker` and `boot` name the journal in session_start and in events about damaged records.
    """

    def __init__(self, worker: int, boot: int = 0) -> None:
        self._worker = worker
        self._boot = boot
        self._sessions: dict[int, Session] = {}
        self._definitions: dict[int, Definition] = {}
        self._joiner = Joiner()
        self._out: list[Event] = []
        self._segment = 0
        self.damaged = 0                # records that could not be read, ever

    # ------------------------------------------------------------ input

    def segment(self, number: int) -> None:
        """The records that follow are of this segment (it names damage in events)."""
        self._segment = number
        # A definition stands in every segment that uses it, before its first use.
        if self._joiner.idle:
            self._definitions.clear()

    def feed(self, records: Iterable[Record]) -> list[Event]:
        """The events that these records complete, in order."""
        self._out = []
        take, joiner, idle = self._take, self._joiner, self._joiner.idle
        for record in records:
            if idle and not record.flags:
                take(record)
                continue
            for whole in joiner.feed(record):
                take(whole)
            idle = joiner.idle
        return self._out

    def _take(self, record: Record) -> None:
        try:
            handler = self._HANDLERS.get(record.kind)
            if handler is None:
                self._damage(record, f"a record of kind {record.kind} is not known")
            else:
                handler(self, record)
        except (error, ValueError, IndexError, msgspec.MsgspecError) as failure:
            self._damage(record, f"a record of kind {record.kind} cannot be decoded: {failure}")

    def flush(self, wall: int) -> list[Event]:
        """The worker is gone: what is open ends here, statements as "unknown", sessions as "gateway"."""
        self._out = []
        for record in self._joiner.abandon():
            self._take(record)
        for number in list(self._sessions):
            self._end(number, 0, wall, "gateway")
        return self._out

    def running(self, older_than: int) -> list[Statement]:
        """Statements without outcome whose intent was written before this wall clock (ns)."""
        return [
            self._statement(session, intent, RUNNING)
            for session in self._sessions.values()
            for intent in session.open.values()
            if intent.wall < older_than
        ]

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    # ------------------------------------------------------------ state

    def snapshot(self) -> bytes:
        return _pack.encode(_State(self._sessions, self._definitions, self._joiner.snapshot()))

    def restore(self, state: bytes) -> None:
        """Raises msgspec.ValidationError when it is not a snapshot of this version."""
        taken = _unpack.decode(state)
        self._sessions, self._definitions = taken.sessions, taken.definitions
        self._joiner.restore(taken.joiner)

    def clone(self) -> EventBuilder:
        """A second one in the same state, which shares nothing with this one."""
        other = EventBuilder(self._worker, self._boot)
        other.restore(self.snapshot())
        other._segment = self._segment
        return other

    # ------------------------------------------------------------ records

    def _on_start(self, r: Record) -> None:
        header = _header.decode(r.payload)
        session = Session(f"{r.session:016x}", header)
        self._sessions[r.session] = session
        self._out.append(SessionStart(
            seq=r.sequence, at=utc(r.wall), role=header.role, credential=header.credential, tls=header.tls,
            worker=self._worker, settings=header.settings or msgspec.UNSET, **_who(session),
        ))

    def _on_statement(self, r: Record) -> None:
        payload = r.payload
        (number,), (n,) = _U64(payload, 0), _U32(payload, 8)
        label = decode_label(payload[12 : 12 + n]) if n else Label()
        (m,) = _U32(payload, 12 + n)
        at = 16 + n
        if at + m > len(payload):
            raise ValueError("its parts are longer than the record")
        sql = payload[at + m :].decode("utf-8", "backslashreplace")
        sql = "" if sql.startswith("\0") else sql
        self._definitions[number] = Definition(sql, type_oids(payload[at : at + m]), label, number)

    def _on_query(self, r: Record) -> None:
        session = self._session(r)
        session.open[r.sequence] = Intent("simple", r.sequence, r.wall, self._definition(r))

    def _on_query_text(self, r: Record) -> None:
        session = self._session(r)
        definition = msgspec.structs.replace(self._definition(r), sql=r.payload[8:].decode("utf-8", "backslashreplace"))
        session.open[r.sequence] = Intent("simple", r.sequence, r.wall, definition)

    def _on_parse(self, r: Record) -> None:
        parses = self._session(r).parses
        parses[r.sequence] = Intent("parse", r.sequence, r.wall, self._definition(r), _cstring(r.payload, 8))
        if len(parses) > PARSES_MAX:
            del parses[next(iter(parses))]

    def _on_bind(self, r: Record) -> None:
        portals = self._session(r).portals
        body = r.payload[8:]
        name = _cstring(body, 0)
        portals.pop(name, None)
        portals[name] = Bound(r.sequence, r.wall, self._definition(r), body)
        if len(portals) > PORTALS_MAX:
            del portals[next(iter(portals))]

    def _on_execute(self, r: Record) -> None:
        session = self._session(r)
        _, bind_seq, row_limit = _EXECUTE(r.payload, 0)
        portal = r.payload[20:-1].decode("utf-8", "replace")
        intent = Intent("extended", r.sequence, r.wall, self._definition(r), "", portal, row_limit)
        bound = session.portals.get(portal)
        if bound is not None and bound.seq == bind_seq:
            bind, intent.parameters = _opened(session, bound)
            intent.binary = bound.binary
            intent.name, intent.result_formats = bind.statement, bind.result_formats
        elif bind_seq:
            self._damage(r, f"the parameters of this statement are lost, with record {bind_seq}")
        session.open[r.sequence] = intent

    def _on_function(self, r: Record) -> None:
        oid, formats, values = parse_function_call(r.payload[8:])
        definition = self._definition(r)
        if not definition.sql:
            name = definition.label.function
            title = f"function call {oid}{': ' if name else ''}{name}"
            definition = Definition(title, definition.types, definition.label)
        parameters = decode_parameters(definition.label.arguments or definition.types, formats, values)
        session = self._session(r)
        session.open[r.sequence] = Intent("function", r.sequence, r.wall, definition, parameters=parameters,
                                          binary=binary_values(formats, values))

    def _on_outcome_rows(self, r: Record) -> None:
        (first,) = _U64(r.payload, 0)
        self._on_outcome(msgspec.structs.replace(r, payload=r.payload[8:]))
        for event in reversed(self._out):
            if isinstance(event, Statement):
                event.first_row_us = first // 1000
                break

    def _on_described(self, r: Record) -> None:
        (number,) = _U64(r.payload, 0)
        frame = r.payload[8:]
        if len(frame) < 7:
            raise ValueError("it is too short")
        described = self._session(r).described
        types, columns = described.pop(number, (b"", b""))
        if frame[:1] == b"t":
            types = frame[7 : 7 + 4 * int.from_bytes(frame[5:7])]
        else:
            columns = frame
        described[number] = types, columns

    def _on_aside(self, r: Record) -> None:
        kind, length = struct.unpack_from("<II", r.payload, 0)
        note = parse_aside(kind, length, r.payload[8:])
        self._out.append(Note(seq=r.sequence, at=utc(r.wall), note=note, **_who(self._session(r))))

    def _on_outcome(self, r: Record) -> None:
        payload = r.payload
        seq, rows, sent, copied, duration, how, _, n = _OUTCOME(payload, 0)
        session = self._session(r)
        intent = session.open.pop(seq, None)
        if intent is None:
            intent = session.parses.pop(seq, None) or _failed_bind(session, seq) or _lost(r, seq)
        tag_end = _OUTCOME_BYTES + n
        tag = payload[_OUTCOME_BYTES:tag_end].decode("utf-8", "replace")
        event = self._statement(session, intent, OUTCOMES.get(how, UNKNOWN))
        event.tag, event.rows, event.bytes, event.copy_bytes = tag, rows, sent, copied
        event.duration_us = duration // 1000
        if len(payload) > tag_end:
            event.error = decode_error(payload[tag_end:])
        if intent.frames:
            event.results = _results(session, intent, sent)
        self._out.append(event)
        if session.parses:
            # Answers come in order: a Parse before this one has succeeded.
            for parse in [p for p in session.parses if p < seq]:
                del session.parses[parse]

    def _on_result(self, r: Record) -> None:
        (seq,) = _U64(r.payload, 0)
        intent = self._session(r).open.get(seq)
        if intent is not None and intent.captured < RESULTS_MAX_BYTES:
            intent.frames.append(r.payload[8:])
            intent.captured += len(r.payload)

    def _on_end(self, r: Record) -> None:
        n = r.payload[0]
        self._session(r)
        self._end(r.session, r.sequence, r.wall, r.payload[1 : 1 + n].decode("utf-8", "replace"))

    def _on_note(self, r: Record) -> None:
        session = self._session(r)
        note = msgspec.json.decode(r.payload, type=dict[str, Any])
        self._out.append(Note(seq=r.sequence, at=utc(r.wall), note=note, **_who(session)))

    def _on_damage(self, r: Record) -> None:
        self._damage(r, r.payload.decode())

    # ------------------------------------------------------------ helpers

    def _session(self, r: Record) -> Session:
        session = self._sessions.get(r.session)
        if session is None:
            # Its start record was lost with damage: what it did is still worth keeping.
            session = self._sessions[r.session] = Session(f"{r.session:016x}", Header())
        return session

    def _definition(self, r: Record) -> Definition:
        (number,) = _U64(r.payload, 0)
        definition = self._definitions.get(number)
        if definition is None:
            self._damage(r, f"statement {number} has no definition")
            return _NOWHERE
        return definition

    def _statement(self, session: Session, intent: Intent, outcome: str) -> Statement:
        h, definition = session.header, intent.definition
        label = definition.label
        return Statement(
            session=session.id, seq=intent.seq, at=utc(intent.wall), user=h.user, subject=h.subject, groups=h.groups,
            issuer=h.issuer, method=h.method, connection=h.connection, database=h.database, client=h.client,
            application=h.application, kind=intent.kind, sql=definition.sql, statement_name=intent.name,
            portal=intent.portal, row_limit=intent.row_limit, parameters=intent.parameters,
            parameter_types=definition.types, verdict=label.verdict, rule=label.rule, masks=label.masks,
            tables=label.tables, kinds=label.kinds, columns=label.columns, outcome=outcome,
            parameter_bytes=msgspec.UNSET if intent.binary is None else intent.binary,
            result_formats=result_formats(intent.result_formats),
        )

    def _end(self, number: int, seq: int, wall: int, reason: str) -> None:
        session = self._sessions.pop(number)
        for intent in session.open.values():
            event = self._statement(session, intent, UNKNOWN)
            if intent.frames:
                event.results = _results(session, intent, 0)
            self._out.append(event)
        # Without a record of its own the end gets a number that no record has: they count up from 1.
        seq = seq or 2**62
        self._out.append(SessionEnd(seq=seq, at=utc(wall), reason=reason, **_who(session)))

    def _damage(self, r: Record, what: str) -> None:
        self.damaged += 1
        # Named by place, so that a second reading of the same bytes gives the same event.
        seq = 2**62 + (self._boot % 2**20 << 40) + (self._segment % 2**14 << 26) + (r.offset % 2**26)
        self._out.append(Gateway(
            session=GATEWAY_SESSION, seq=seq, at=utc(r.wall or self._boot), action="journal_damaged",
            fields={
                "what": what, "worker": self._worker, "boot": self._boot, "segment": self._segment, "offset": r.offset,
                "in_session": f"{r.session:016x}", "in_seq": r.sequence,
            },
        ))

    _HANDLERS: ClassVar[dict[int, Callable[[EventBuilder, Record], None]]] = {
        KIND_SESSION_START: _on_start, KIND_STATEMENT: _on_statement, KIND_QUERY: _on_query,
        KIND_QUERY_TEXT: _on_query_text, KIND_PARSE: _on_parse,
        KIND_BIND: _on_bind, KIND_EXECUTE: _on_execute, KIND_FUNCTION: _on_function, KIND_OUTCOME: _on_outcome,
        KIND_RESULT: _on_result, KIND_SESSION_END: _on_end, KIND_NOTE: _on_note, KIND_DAMAGED: _on_damage,
        KIND_OUTCOME_ROWS: _on_outcome_rows, KIND_ASIDE: _on_aside, KIND_DESCRIBED: _on_described,
    }


def _who(session: Session) -> dict[str, Any]:
    h = session.header
    return {
        "session": session.id, "user": h.user, "subject": h.subject, "groups": h.groups, "issuer": h.issuer,
        "method": h.method, "connection": h.connection, "database": h.database, "client": h.client,
        "application": h.application,
    }


def _results(session: Session, intent: Intent, sent: int) -> tuple[Results, ...]:
    frames, formats = b"".join(intent.frames), intent.result_formats
    columns = session.described.get(intent.definition.number, (b"", b""))[1]
    if intent.kind == "extended" and frames[:1] == b"D" and columns:
        made, at = bytearray(columns), 7
        for i in range(int.from_bytes(columns[5:7]) if formats else 0):
            at = columns.index(0, at) + 19
            if len(formats) == 1 or i < len(formats):
                made[at - 2 : at] = formats[0 if len(formats) == 1 else i].to_bytes(2)
        frames = bytes(made) + frames
    return decode_results(frames, formats, sent)


def _opened(session: Session, bound: Bound) -> tuple[Bind, tuple[Value, ...] | None]:
    """The Bind taken apart, once; its raw body is dropped then."""
    if bound.bind is None:
        bind = parse_bind(bound.body)
        types = session.described.get(bound.definition.number, (b"", b""))[0]
        known = type_oids(types) or bound.definition.types
        bound.parameters = decode_parameters(known, bind.formats, bind.values)
        bound.binary = binary_values(bind.formats, bind.values)
        bound.bind = Bind(bind.portal, bind.statement, bind.formats, (), bind.result_formats)
        bound.body = b""
    return bound.bind, bound.parameters


def _failed_bind(session: Session, seq: int) -> Intent | None:
    """An outcome of a Bind: it was refused (a wrong value for a parameter), so its Execute never ran."""
    for bound in session.portals.values():
        if bound.seq == seq:
            bind, parameters = _opened(session, bound)
            return Intent("extended", seq, bound.wall, bound.definition, bind.statement, bind.portal, 0, parameters,
                          binary=bound.binary)
    return None


def _lost(r: Record, seq: int) -> Intent:
    """An outcome whose intent was lost with damage."""
    return Intent("lost", seq, r.wall, _NOWHERE)


def _cstring(data: bytes, at: int) -> str:
    return data[at : data.index(0, at)].decode("utf-8", "replace")
