"""Records of one worker process, in order, to events: the rare half. Pure.

Joining intents with their outcomes, which happens for every statement, is the core's Decoder. It comes here for what is
rare or belongs to the schema: sessions, definitions, notes, errors, damage, divided records, values that only typed.py
understands. The shipper owns one EventBuilder per worker process and sink group. Its whole state can be taken out and
put back (`snapshot`, `restore`), so segments need not be kept for sessions and statements that are still open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct, error, pack, unpack
from typing import Any, NamedTuple, Protocol

import msgspec

from hoopfast._wire import Decoder, Finished, json_lines, leaves_of, sealed_lines
from hoopfast.audit.events import (
    GATEWAY_SESSION,
    Event,
    Gateway,
    Header,
    Label,
    Note,
    SessionEnd,
    SessionStart,
    Statement,
    decode,
    decode_label,
    encode,
    utc,
)
from hoopfast.audit.protected import (
    EVERYTHING,
    Guard,
    Parameters,
    hide_error,
    hide_literals,
    hide_parameters,
    hide_results,
)
from hoopfast.audit.segments import Joiner, Record
from hoopfast.audit.typed import (
    Value,
    binary_values,
    decode_error,
    decode_parameters,
    decode_results,
    parse_aside,
    parse_bind,
    parse_function_call,
    type_oids,
)
from hoopfast.model import Protect

READ_LIMIT, READ_END, READ_SEALED, READ_SHORT, READ_DAMAGED = range(5)      # Decoder.read: why it came back

VERDICTS_MAX = 1024
_AT_ONCE = 256                          # lines: as many as the cache has room for, measured at half the cost of all

Item = Event | Finished

_U32 = Struct("<I").unpack_from
_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder()
_header = msgspec.json.Decoder(Header)


class Definition(msgspec.Struct, frozen=True):
    """A statement text with its verdict; shared by all events that ran it."""

    sql: str
    types: tuple[int, ...]
    label: Label


class Progress(NamedTuple):
    """How far one EventBuilder.read came; `state` is one of READ_*."""

    taken: int                          # records
    next_offset: int                    # where to go on
    state: int
    wanted: int                         # READ_SHORT: bytes that the record at next_offset needs


Call = tuple[int, tuple[int, ...], tuple[bytes | None, ...]]                  # parse_function_call
# What of a protected Bind was taken apart at once: name, parameters, their bytes, formats, its part of `protected`.
_Opened = tuple[bytes, bytes, bytes | None, bytes, bytes]
_Bound = tuple[int, int, int, bytes, _Opened | None]
_Intent = tuple[int, int, int, int, int, bytes, bytes, bytes | None, bytes, list[bytes], bytes | None, bytes]
_Described = tuple[int, bytes, bytes]


class Seals(Protocol):
    """What protects values: audit.vault.Vault."""

    def seal(self, user: str, at: int, name: str, secret: bytes) -> str: ...


class _State(msgspec.Struct, array_like=True):
    """What Decoder.state returns, and the open record of the joiner."""

    definitions: list[bytes]
    known: list[tuple[int, int]]
    sessions: list[tuple[int, bytes, list[_Bound], list[_Intent], list[_Described]]]
    joiner: tuple[Record, list[bytes]] | None
    wall: int = 0


_unpack = msgspec.msgpack.Decoder(_State)


class Batch(list[Item]):
    """Events on their way to the sinks, with their leaves (audit.chain), which several of them need."""

    _leaves: tuple[int, bytes] | None = None

    def leaves(self) -> bytes:
        if self._leaves is None or self._leaves[0] != len(self):
            self._leaves = (len(self), leaves_of(list(self), encode))
        return self._leaves[1]

    def lines(self) -> Iterator[bytes]:
        """JSON lines, in pieces; hashes them on the way when nobody has."""
        known = self._leaves is not None and self._leaves[0] == len(self)
        hashes = []
        for at in range(0, len(self), _AT_ONCE):
            part = self[at : at + _AT_ONCE]
            if known:
                yield json_lines(part, encode)
            else:
                lines, leaves = sealed_lines(part, encode)
                hashes.append(leaves)
                yield lines
        if not known:
            self._leaves = (len(self), b"".join(hashes))


def as_batch(events: Sequence[Item]) -> Batch:
    return events if isinstance(events, Batch) else Batch(events)


def as_event(item: Item) -> Event:
    """The struct of the schema, for whoever wants to look into it."""
    return decode(item.line()) if isinstance(item, Finished) else item


class EventBuilder:
    """Feed it the records of one worker process in the order of writing.

    `worker` and `boot` name the journal in session_start and in events about damaged records. Without a `vault` nothing
    is protected.
    """

    def __init__(self, worker: int, boot: int = 0, vault: Seals | None = None) -> None:
        self._worker, self._boot, self._vault = worker, boot, vault
        self._rare = Rare(worker, boot, vault)
        self._core = Decoder(self._rare)
        self._rare.core = self._core

    def segment(self, number: int) -> None:
        """The records that follow are of this segment (it names damage in events)."""
        self._rare.segment = number
        # A definition stands in every segment that uses it, before its first use.
        self._core.segment()

    def read(self, into: list[Item], data: bytes, offset: int, *, base: int, size: int, limit: int) -> Progress:
        """As segments.read_segment, but the events are added to `into`, and damage is left to the caller."""
        progress = Progress(*self._core.read(data, offset, base, size, limit))
        into += self._taken()
        return progress

    def feed(self, records: Iterable[Record]) -> list[Item]:
        """The events that these records complete, in order."""
        for record in records:
            if self._rare.joiner.idle and not record.flags:
                self._rare.take(record)
            else:
                self._core.joining = self._rare.divided(
                    record.kind, record.flags, record.session, record.sequence, record.wall, record.mono,
                    record.payload, record.offset,
                )
        return self._taken()

    def flush(self, wall: int) -> list[Item]:
        """The worker is gone: what is open ends here, statements as "unknown", sessions as "gateway"."""
        for record in self._rare.joiner.abandon():
            self._rare.take(record)
        self._core.joining = False
        self._core.flush(wall)
        return self._taken()

    def running(self, older_than: int) -> list[Statement]:
        """Statements without outcome whose intent was written before this wall clock (ns)."""
        return [event for event in map(decode, self._core.running(older_than)) if isinstance(event, Statement)]

    @property
    def wall(self) -> int:
        """When the last record was written, ns: of a dead worker the last sign of life, the same at every reading."""
        return self._core.wall

    @property
    def open_sessions(self) -> int:
        return self._core.open_sessions

    @property
    def damaged(self) -> int:
        """Records that could not be read, ever."""
        return self._rare.damaged

    def snapshot(self) -> bytes:
        return _pack.encode(_State(*self._core.state(), self._rare.joiner.snapshot(), self._core.wall))

    def restore(self, state: bytes) -> None:
        """Raises msgspec.MsgspecError when it is not a snapshot of this version."""
        taken = _unpack.decode(state)
        self._rare.joiner.restore(taken.joiner)
        self._core.wall = taken.wall
        try:
            self._core.load(taken.definitions, taken.known, taken.sessions, not self._rare.joiner.idle)
        except (*Rare.FAULTS, OverflowError) as failure:
            raise msgspec.ValidationError(f"not a snapshot: {failure}") from failure

    def clone(self) -> EventBuilder:
        """A second one in the same state, which shares nothing with this one."""
        other = EventBuilder(self._worker, self._boot, self._vault)
        other.restore(self.snapshot())
        other._rare.segment = self._rare.segment
        return other

    def _taken(self) -> list[Item]:
        taken, self._core.out = self._core.out, []
        return taken


class Rare:
    """What the Decoder asks for. Times are wall clocks in ns; bytes returned are JSON unless said otherwise."""

    FAULTS = (error, ValueError, IndexError, msgspec.MsgspecError)      # a record that says this is reported, not fatal

    core: Decoder

    def __init__(self, worker: int, boot: int, vault: Seals | None = None) -> None:
        self.segment = 0
        self.damaged = 0
        self.joiner = Joiner()
        self._worker, self._boot, self._vault = worker, boot, vault
        # By label and types: texts that differ in their literals share them.
        self._verdicts: dict[bytes, tuple[Label, tuple[int, ...], bytes]] = {}

    # ------------------------------------------------------------ records

    def divided(
        self, kind: int, flags: int, session: int, seq: int, wall: int, mono: int, payload: bytes, offset: int,
    ) -> bool:
        """A piece of a record, or what came instead; whether a piece is still missing."""
        for whole in self.joiner.feed(Record(kind, flags, session, seq, wall, mono, payload, offset)):
            self.take(whole)
        return not self.joiner.idle

    def take(self, r: Record) -> None:
        self.core.take(r.kind, r.session, r.sequence, r.wall, r.payload, r.offset)

    def define(self, payload: bytes) -> tuple[Definition, bytes, bytes, bytes, Guard | None]:
        """A KIND_STATEMENT record: itself, its types as in Parse, its SQL, a Statement from types to outcome, and how
        its events are protected."""
        (n,) = _U32(payload, 8)
        (m,) = _U32(payload, 12 + n)
        at = 16 + n
        if at + m > len(payload):
            raise ValueError("its parts are longer than the record")
        types = payload[at : at + m]
        key = payload[8:at] + types
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS_MAX:
                self._verdicts.clear()
            verdict = self._verdicts[key] = _verdict(payload[12 : 12 + n], types)
        label, oids, tail = verdict
        text = payload[at + m :]
        if text[:1] == b"\0":
            # Of a FunctionCall: no SQL has a NUL. What stands behind two more is the title that `called` has given it.
            text = text.rpartition(b"\0\0")[2] if b"\0\0" in text else b""
        # Another client_encoding: what is no UTF-8 is kept as its bytes.
        sql = text.decode("utf-8", "backslashreplace")
        # Without a label the definition was lost, and with it what to protect.
        protect = label.protect if n else EVERYTHING
        if protect is None or self._vault is None:
            return Definition(sql, oids, label), types, _json.encode(sql), tail, None
        sql, hidden, again = hide_literals(sql, protect.literals)
        if again:
            protect = msgspec.structs.replace(protect, results=True)
        guard = Guard(protect, _json.encode(hidden) if hidden else b"")
        return Definition(sql, oids, label), types, _json.encode(sql), tail, guard

    def header(self, payload: bytes) -> tuple[Header, bytes]:
        """A start record (empty: lost) and the end of a Statement, from `at` on."""
        header = _header.decode(payload) if payload else Header()
        return header, b'",' + _json.encode(_who(header))[1:]

    def call(self, body: bytes) -> Call:
        return parse_function_call(body)

    def called(self, call: Call, definition: Definition) -> tuple[bytes, bytes, bytes | None]:
        """Of a FunctionCall: a title where it has no text (see `define`), its arguments, and their bytes."""
        oid, formats, values = call
        name = definition.label.function
        title = b"" if definition.sql else f"\0\0function call {oid}{': ' if name else ''}{name}".encode()
        arguments = decode_parameters(definition.label.arguments or definition.types, formats, values)
        return title, _json.encode(arguments), _binary(formats, values)

    def bind(self, body: bytes, types: bytes) -> tuple[bytes, bytes, bytes | None, bytes]:
        """A Bind: statement name (UTF-8), parameters, their bytes, result formats (as in the message)."""
        bind = parse_bind(body)
        parameters = decode_parameters(type_oids(types), bind.formats, bind.values)
        formats = pack(f"!{len(bind.result_formats)}h", *bind.result_formats)
        return bind.statement.encode(), _json.encode(parameters), _binary(bind.formats, bind.values), formats

    # ------------------------------------------------------------ what is protected

    def public(self, payload: bytes, definition: Definition, guard: Guard) -> bytes:
        """A definition's payload without what is hidden: for snapshots, which outlive the journal's segments."""
        (n,) = _U32(payload, 8)
        (m,) = _U32(payload, 12 + n)
        label = msgspec.json.decode(payload[12 : 12 + n], type=dict[str, Any]) if n else {}
        label["protect"] = Protect(error=guard.protect.error, results=guard.protect.results)
        told = _json.encode(label)
        types = payload[12 + n : 16 + n + m]
        return payload[:8] + pack("<I", len(told)) + told + types + definition.sql.encode()

    def seal(self, who: Header, session: int, seq: int, wall: int, part: str, secret: bytes) -> bytes:
        """A member of `protected`: JSON with a comma in front."""
        assert self._vault is not None
        text = self._vault.seal(who.user, wall, f"{session:016x}/{seq}/{part}", secret)
        return b',"%s":%s' % (part.encode(), _json.encode(text))

    def private_call(self, call: Call, definition: Definition, guard: Guard) -> tuple[bytes, bytes | None, bytes]:
        """The arguments of a FunctionCall and their bytes as shown, and what is hidden of them."""
        _, formats, values = call
        decoded = decode_parameters(definition.label.arguments or definition.types, formats, values)
        return _hidden(decoded, binary_values(formats, values), guard)

    def private_bind(
        self, body: bytes, types: bytes, guard: Guard
    ) -> tuple[bytes, bytes, bytes | None, bytes, bytes]:
        """As `bind`, and what is hidden of the parameters."""
        bind = parse_bind(body)
        decoded = decode_parameters(type_oids(types), bind.formats, bind.values)
        shown, raw, secret = _hidden(decoded, binary_values(bind.formats, bind.values), guard)
        formats = pack(f"!{len(bind.result_formats)}h", *bind.result_formats)
        return bind.statement.encode(), shown, raw, formats, secret

    def private_error(self, body: bytes) -> tuple[bytes, str | None, bytes]:
        shown, hidden = hide_error(decode_error(body))
        return _json.encode(shown), shown.get("sqlstate"), _json.encode(hidden)

    def private_results(self, frames: bytes, formats: bytes, sent: int) -> tuple[bytes, bytes]:
        found = decode_results(frames, unpack(f"!{len(formats) // 2}h", formats), sent)
        return _json.encode(hide_results(found)), _json.encode(found)

    def results(self, frames: bytes, formats: bytes, sent: int) -> bytes:
        return _json.encode(decode_results(frames, unpack(f"!{len(formats) // 2}h", formats), sent))

    def error(self, body: bytes) -> tuple[bytes, str | None]:
        fields = decode_error(body)
        return _json.encode(fields), fields.get("sqlstate")

    # ------------------------------------------------------------ events

    def started(self, session: str, header: Header, seq: int, wall: int) -> SessionStart:
        return SessionStart(
            session=session, seq=seq, at=utc(wall), role=header.role, credential=header.credential, tls=header.tls,
            worker=self._worker, settings=header.settings or msgspec.UNSET, **_who(header),
        )

    def ended(self, session: str, header: Header, seq: int, wall: int, reason: str) -> SessionEnd:
        # Without a record of its own the end gets a number that no record has: they count up from 1.
        return SessionEnd(session=session, seq=seq or 2**62, at=utc(wall), reason=reason, **_who(header))

    def note(self, session: str, header: Header, seq: int, wall: int, payload: bytes) -> Note:
        note = msgspec.json.decode(payload, type=dict[str, Any])
        return Note(session=session, seq=seq, at=utc(wall), note=note, **_who(header))

    def aside(self, session: str, header: Header, seq: int, wall: int, payload: bytes) -> Note:
        """What the server said outside of a statement."""
        kind, length = unpack("<II", payload[:8])
        note = parse_aside(kind, length, payload[8:])
        return Note(session=session, seq=seq, at=utc(wall), note=note, **_who(header))

    def damage(self, what: str, session: int, session_seq: int, wall: int, offset: int) -> Gateway:
        self.damaged += 1
        # Named by place, so that a second reading of the same bytes gives the same event.
        seq = 2**62 + (self._boot % 2**20 << 40) + (self.segment % 2**14 << 26) + (offset % 2**26)
        return Gateway(
            session=GATEWAY_SESSION, seq=seq, at=utc(wall or self._boot), action="journal_damaged",
            fields={
                "what": what, "worker": self._worker, "boot": self._boot, "segment": self.segment, "offset": offset,
                "in_session": f"{session:016x}", "in_seq": session_seq,
            },
        )


def _binary(formats: Sequence[int], values: Sequence[bytes | None]) -> bytes | None:
    found = binary_values(formats, values)
    return None if found is None else _json.encode(found)


def _hidden(
    values: Sequence[Value], raw: Sequence[str | None] | None, guard: Guard
) -> tuple[bytes, bytes | None, bytes]:
    shown, hidden = hide_parameters(values, guard.protect.parameters)
    if not hidden:
        return _json.encode(shown), None if raw is None else _json.encode(raw), b""
    kept = None if raw is None else _json.encode([None if n in hidden else one for n, one in enumerate(raw, 1)])
    secret = Parameters(hidden, {n: one for n, one in enumerate(raw or (), 1) if n in hidden and one is not None})
    return _json.encode(shown), kept, _json.encode(secret)


def _verdict(raw: bytes, types: bytes) -> tuple[Label, tuple[int, ...], bytes]:
    label = decode_label(raw) if raw else Label()
    oids = type_oids(types)
    tail = _json.encode({
        "parameter_types": oids, "verdict": label.verdict, "rule": label.rule, "masks": label.masks,
        "tables": label.tables, "kinds": label.kinds, "columns": label.columns,
    })
    return label, oids, b"," + tail[1:-1] + b',"outcome":"'


def _who(h: Header) -> dict[str, Any]:
    return {
        "user": h.user, "subject": h.subject, "groups": h.groups, "issuer": h.issuer, "method": h.method,
        "connection": h.connection, "database": h.database, "client": h.client, "application": h.application,
    }


def as_events(items: Sequence[Item]) -> list[Event]:
    return [as_event(item) for item in items]
