"""The published event schema, version 1: what sinks store, exports print and SIEMs read. Pure data, and its JSON.

`docs/audit.md` describes every field; a field is never renamed or given another meaning within a schema version.
Session ids are 16 hex digits, times UTC with nanoseconds. (session, seq) names an event for good: sinks drop
repetitions by it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hoopfast.audit.protected import EVERYTHING
from hoopfast.audit.typed import Raw, Results, Value
from hoopfast.model import Protect, SessionOpened

SCHEMA = 1
GATEWAY_SESSION = "0" * 16              # events of the gateway itself

COMPLETE, ERROR, DENIED, SUSPENDED, UNKNOWN, RUNNING = "complete", "error", "denied", "suspended", "unknown", "running"
SKIPPED = "skipped"
OUTCOMES = {b"C": COMPLETE, b"E": ERROR, b"D": DENIED, b"S": SUSPENDED, b"X": UNKNOWN, b"K": SKIPPED}


class Base(msgspec.Struct, tag_field="event", kw_only=True, gc=False):
    """What every event has; the identity is repeated so that each line of an export stands alone.

    Events refer to no other container but tuples and dicts of plain values: the collector need not look at them.
    """

    schema: int = SCHEMA
    session: str
    seq: int
    at: str
    user: str = ""
    subject: str = ""
    groups: tuple[str, ...] = ()
    issuer: str = ""
    method: str = ""
    connection: str = ""
    database: str = ""
    client: str = ""
    application: str = ""


class SessionStart(Base, tag="session_start", gc=False):
    """A proven person reached a database. `credential` is an id, never the credential."""

    role: str = ""
    credential: str = ""
    tls: bool = False
    worker: int = -1
    settings: dict[str, str] | msgspec.UnsetType = msgspec.UNSET      # what the client asked for in its startup packet


class Statement(Base, tag="statement", gc=False):
    """One thing a client asked for, joined with how it ended.

    `kind`: simple | extended | parse (only those that failed) | function | lost (the intent was damaged).
    `outcome`: complete | error | denied | suspended (a portal with a row limit) | unknown (the connection or the
    gateway was lost) | skipped (an error before it in its pipeline: it never ran) | running.
    `error`: {"sqlstate", "message", ...}. Counts are what the client got; `duration_us` ends with the last byte of it,
    `first_row_us` with the first row; without rows it is not there. `parameter_bytes`: the hex of parameters that came
    in binary format, None for others; not there when all came as text.
    """

    kind: str
    sql: str
    statement_name: str = ""
    portal: str = ""
    row_limit: int = 0
    parameters: tuple[Value, ...] | None = None         # None: there are none, or their Bind is not known
    parameter_types: tuple[int, ...] = ()
    verdict: str = ""
    rule: str = ""
    masks: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    outcome: str = UNKNOWN
    tag: str = ""
    rows: int = 0
    bytes: int = 0
    copy_bytes: int = 0
    duration_us: int = 0
    error: dict[str, str] | None = None
    results: tuple[Results, ...] = ()
    first_row_us: int | msgspec.UnsetType = msgspec.UNSET
    parameter_bytes: tuple[str | None, ...] | msgspec.UnsetType = msgspec.UNSET
    result_formats: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET         # as in Bind; not there: all text
    # What values of masked columns stood in, sealed (audit.protected): "sql", "parameters", "error", "results".
    protected: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class SessionEnd(Base, tag="session_end", gc=False):
    """`reason` as the relay says it, or "gateway" when its worker died."""

    reason: str = ""


class Note(Base, tag="note", gc=False):
    """Something that happened within a session besides statements: approvals, policy changes."""

    note: dict[str, Any] = {}


class Gateway(Base, tag="gateway", gc=False):
    """Something outside of any session: login_refused, policy, approval, kill, admin, journal_damaged, ..."""

    action: str
    fields: dict[str, Any] = {}


Event = SessionStart | Statement | SessionEnd | Note | Gateway

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """One line of JSON, without the newline."""
    return _encoder.encode(event)


def decode(line: bytes | str) -> Event:
    """The inverse of `encode`; raises msgspec.ValidationError."""
    return _decoder.decode(line)


def session_hex(session: int) -> str:
    return f"{session:016x}"


_TWO = [f"{n:02d}" for n in range(60)]


class _Clock:
    """Formats ns since the epoch as UTC text; the part down to seconds is kept, as neighbours share it."""

    def __init__(self) -> None:
        self._second = self._day = -1
        self._prefix = self._date = ""

    def text(self, ns: int) -> str:
        second, fraction = divmod(ns, 1_000_000_000)
        if second != self._second:
            days, rest = divmod(second, 86400)
            if days != self._day:
                year, month, day = _civil(days)
                self._date, self._day = f"{year:04d}-{month:02d}-{day:02d}T", days
            minutes, seconds = divmod(rest, 60)
            self._prefix = f"{self._date}{_TWO[minutes // 60]}:{_TWO[minutes % 60]}:{_TWO[seconds]}."
            self._second = second
        return f"{self._prefix}{fraction:09d}Z"


def _civil(days: int) -> tuple[int, int, int]:
    # Days since 1970-01-01 to a Gregorian date; datetime would be a clock in a module that has none.
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year_of_era + era * 400 + (month <= 2), month, day


utc = _Clock().text


def nanoseconds(text: str) -> int:
    """The inverse of `utc`. Raises ValueError for a text that `utc` never makes."""
    if len(text) != 30 or text[10] != "T" or text[19] != "." or text[29] != "Z":
        raise ValueError(f"{text!r} is no time of the audit trail")
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    if month <= 2:
        year, month = year - 1, month + 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469
    seconds = days * 86400 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    return seconds * 1_000_000_000 + int(text[20:29])


def gateway_event(
    action: str, ns: int, seq: int = 0, *, user: str = "", client: str = "", connection: str = "", **fields: Any,
) -> Gateway:
    """An event of the supervisor, for Shipper.add, which gives it its number. `fields`: JSON-ready, no secrets."""
    return Gateway(
        session=GATEWAY_SESSION, seq=seq, at=utc(ns), user=user, client=client, connection=connection, action=action,
        fields=fields,
    )


def start_record(opened: SessionOpened) -> bytes:
    """The payload of a session's KIND_SESSION_START record; the front hands it to Relay.adopt."""
    who = opened.identity
    return _encoder.encode({
        "user": who.user, "subject": who.subject, "issuer": who.issuer, "groups": who.groups, "method": who.method,
        "credential": who.credential, "connection": opened.connection, "database": opened.database, "role": opened.role,
        "client": opened.peer, "application": opened.application, "tls": opened.tls, "settings": opened.settings,
    })


class Header(msgspec.Struct):
    """What start_record wrote, read leniently: a field more or less must not cost the trail of a session."""

    user: str = ""
    subject: str = ""
    issuer: str = ""
    groups: tuple[str, ...] = ()
    method: str = ""
    credential: str = ""
    connection: str = ""
    database: str = ""
    role: str = ""
    client: str = ""
    application: str = ""
    tls: bool = False
    settings: dict[str, str] = {}


class Label(msgspec.Struct):
    """The verdict kept with a statement definition, and how its record is protected (None: nothing is)."""

    verdict: str = ""
    rule: str = ""
    masks: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    function: str = ""                  # of a FunctionCall: its name and argument types
    arguments: tuple[int, ...] = ()     # and their OIDs
    protect: Protect | None = None


class _LooseLabel(msgspec.Struct):
    verdict: str = ""
    rule: str = ""
    masks: Any = ()
    tables: Any = ()
    kinds: Any = ()
    columns: Any = ()
    function: str = ""
    arguments: tuple[int, ...] = ()
    protect: Any = None


_loose_label = msgspec.json.Decoder(_LooseLabel)


def decode_label(data: bytes) -> Label:
    """Whatever the front wrote: what is not a list of names is kept as JSON text. Raises msgspec.MsgspecError."""
    loose = _loose_label.decode(data)
    masks, tables, kinds, columns = map(_names, (loose.masks, loose.tables, loose.kinds, loose.columns))
    protect = None if loose.protect is None else _protect(loose.protect)
    return Label(loose.verdict, loose.rule, masks, tables, kinds, columns, loose.function, loose.arguments, protect)


def _protect(value: Any) -> Protect:
    try:
        return msgspec.convert(value, Protect)
    except msgspec.ValidationError:
        return EVERYTHING                   # by a newer version: what it meant is not known


def _names(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value] if value else []
    return tuple(item if isinstance(item, str) else _encoder.encode(item).decode() for item in items)


__all__ = [
    "COMPLETE", "DENIED", "ERROR", "GATEWAY_SESSION", "OUTCOMES", "RUNNING", "SCHEMA", "SKIPPED", "SUSPENDED",
    "UNKNOWN", "Base", "Event", "Gateway", "Header", "Label", "Note", "Raw", "Results", "SessionEnd", "SessionStart",
    "Statement", "Value", "decode", "decode_label", "encode", "gateway_event", "nanoseconds", "session_hex",
    "start_record", "utc",
]
