"""The compiled core, as Python sees it. Shapes and hazards are described in docs/architecture.md."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

BUILD: str  # "release" | "debug" | "sanitize"
VOCABULARY: dict[str, int]  # the core's own copy of the numbers in hoopfast.model
COUNTER_COUNT: int

class TlsContext:
    """An OpenSSL SSL_CTX. Raises ValueError (with OpenSSL's reason) on bad files.

    `verify`: "none" | "ca" | "full" ("full" checks the peer's name, given to TlsConnection). A server asks its client for
    a certificate unless it is "none", and with `insist` takes none without.
    """

    def __init__(
        self,
        *,
        server: bool,
        certificate: str | None = None,
        key: str | None = None,
        ca: str | None = None,
        verify: Literal["none", "ca", "full"] = "none",
        insist: bool = False,
        minimum: Literal["1.2", "1.3"] = "1.2",
        alpn: bytes = b"postgresql",
    ) -> None: ...

class TlsConnection:
    """One TLS session on a non-blocking descriptor. After `Relay.adopt` it belongs to the relay: do not touch it."""

    def __init__(self, context: TlsContext, fd: int, hostname: str | None = None) -> None: ...
    # "again" here and below: much was read without a result, so let others have their turn and call again
    def handshake(self) -> Literal["done", "read", "write", "again"]: ...  # raises ConnectionError with OpenSSL's reason
    def read(self, n: int) -> bytes | Literal["read", "write", "again"]: ...  # b"" at end of stream
    def write(self, data: bytes) -> int | Literal["read", "write", "again"]: ...
    def pending(self) -> int: ...
    def shutdown(self) -> None: ...
    def version(self) -> str: ...
    def server_name(self) -> str: ...                                  # SNI, "" if none
    def alpn(self) -> bytes: ...
    def peer_certificate(self) -> bytes: ...                           # DER, b"" if none

class Segment:
    """One journal segment: created, preallocated (ENOSPC is an OSError here) and mapped."""

    def __init__(self, path: str, size: int, worker: int, sequence: int) -> None: ...
    path: str

def journal_cost(segment: Segment, payloads: list[bytes], rounds: int) -> float:
    """CPU ns that it takes to write these payloads as records, on average of `rounds`; the segment is overwritten. For bench/."""

# Events, as tuples whose first item is the name:
#   ("verdict", session, serial, kind, context, text, types, bind, status)
#        kind "Q" (simple), "P" (Parse), "B" (Bind of an ASK statement; `bind` is the raw Bind body), "F" (FunctionCall)
#        status b"I" | b"T" | b"E": transaction state as last reported
#   ("probe", session, serial, frames)      backend frames that answered Relay.probe, ReadyForQuery left out
#   ("cancel", session)                     Relay.cancel found a statement in flight; call cancel_done afterwards
#   ("catalog", session)                    a FLAG_CATALOG statement completed
#   ("closed", session, reason)             descriptors are closed, the slot is free; reason "client" | "client_cut" | "upstream" |
#                                           "upstream_cut" (TLS without its close) | "killed" | "protocol" | "contradiction" | "timeout" | "journal" | "stopped"
#   ("withdrawn", session, serial)          the client went away while its verdict was pending
#   ("segment",)                            call add_segment: fewer than two are waiting
#   ("unsynced", errno)                     durable mode: the journal could not be brought to the disk; what waited for it was ended
#   ("sealed", path)                        the relay has left this segment for good
Event = tuple[object, ...]

class Relay:
    """The data path of one worker: a thread of C that owns every adopted connection."""

    event_fd: int

    def __init__(
        self,
        *,
        counters: memoryview,
        capture_bytes: int,
        durable: bool,
        cache_bytes: int = 64 << 20,
        statement_max: int = 16 << 20,
        message_max: int = 256 << 20,
        row_max: int = 64 << 20,
        stall_timeout_s: float = 300.0,
        journal_timeout_s: float = 30.0,                                # a session that waits longer for room in the journal ends
        private_s: float = 30.0,                                        # a segment with records of FLAG_PRIVATE is left then
        backend: str = "auto",                                          # epoll, io_uring (OSError where it cannot be)
    ) -> None: ...
    @property
    def backend(self) -> str: ...                                       # the one in use
    fallback: str                                                       # why auto has not taken io_uring, or ""
    def run(self) -> None: ...                                          # thread body: returns after stop()
    def stop(self) -> None: ...
    def events(self) -> list[Event]: ...
    def add_segment(self, segment: Segment) -> None: ...
    def define_context(
        self,
        context: int,
        masks: Sequence[tuple[int, int, bytes, bytes]],                 # (kind, keep, constant, key)
        columns: Sequence[tuple[int, int, int]],                        # (table oid, attnum, mask index)
        types: bytes = b"",                                             # pack_mask_types
        aliases: Sequence[tuple[int, int, int, int]] = (),              # (view oid, attnum, table oid, attnum): what
                                                                        # clients are told of masking views' columns
    ) -> None: ...
    def drop_context(self, context: int) -> None: ...                   # freed when the last session has left it
    def adopt(
        self,
        session: int,
        context: int,
        client_fd: int,
        client_tls: TlsConnection | None,
        upstream_fd: int,
        upstream_tls: TlsConnection | None,
        *,
        start_record: bytes,                                            # JSON of the session_start event
        to_client: bytes = b"",                                         # sent first (AuthenticationOk ... ReadyForQuery)
        from_client: bytes = b"",                                       # read already, not yet handled
        from_upstream: bytes = b"",
        status: bytes = b"I",
        capture_bytes: int | None = None,                               # results kept per statement; None: the relay's
    ) -> None: ...
    def set_context(self, session: int, context: int) -> None: ...
    def decide(
        self,
        session: int,
        serial: int,
        action: int,
        flags: int,
        *,
        label: bytes,                                                   # JSON: verdict, rule, tables, masks; kept in the journal
        error: bytes = b"",                                             # ErrorResponse frame, for ACTION_DENY and limit_s
        zero_origin: int = 0,                                           # touched: output columns proven clean without origin
        copy_plan: bytes = b"",                                         # FLAG_COPY_OUT: see pack_copy_plan
        cache: bool = True,
        free_constants: bytes = b"",                                    # uint32, ascending: places of constants in the text that
                                                                        # may differ without another verdict
        limit_s: float = 0.0,                                           # ACTION_ALLOW: cancelled when it runs longer; 0: never
        sent: bytes = b"",                                              # Query and Parse: goes upstream in place of the text
        sent_types: bytes = b"",                                        # with it: parameter types, as in the event
    ) -> None: ...
    def probe(self, session: int, serial: int, sql: bytes, types: bytes = b"") -> None: ...
    def notice(self, session: int, frame: bytes, *, held: bool = True) -> None: ...   # put between two messages to the
    # client; `held`: its statement waits for an approval
    def note(self, session: int, payload: bytes) -> None: ...           # KIND_NOTE journal record (JSON)
    def set_idle_timeout(self, seconds: float) -> None: ...             # idle outside a transaction: FATAL 57P01; 0: never
    def enforce_limits(self) -> None: ...                               # about once a second, while verdicts have limits
    def cancel(self, session: int) -> None: ...
    def cancel_done(self, session: int) -> None: ...
    def kill(self, session: int, frame: bytes, when_idle: bool = False) -> None: ...

def pack_copy_plan(
    *,
    format: Literal["text", "csv", "binary"],
    delimiter: bytes,
    quote: bytes,
    escape: bytes,
    null: bytes,
    columns: Sequence[tuple[int, int] | tuple[int, int, int]],          # (mask index or -1, type oid, modifier) per output column
    header: bool = False,                                               # text and csv: the first row is a header line
) -> bytes:
    """ValueError for options that PostgreSQL would refuse, or under which a row cannot be masked safely."""

def mask_value(
    kind: int, keep: int, constant: bytes, key: bytes, type_oid: int, format: int, value: bytes | None, *, types: bytes = b"",
    typmod: int = -1,
) -> bytes | None:
    """One value as it would be masked (None: NULL). ValueError for a mask that cannot be."""

def mask_room(
    kind: int, keep: int, constant: bytes, key: bytes, type_oid: int, format: int, value: bytes | None, room: int,
    types: bytes = b"", typmod: int = -1,
) -> tuple[int, bytes]:
    """For tests: length (-1 NULL, -2 no room) and masked value, written with `room` bytes and a guard behind them."""

def mask_many(
    kind: int, keep: int, constant: bytes, key: bytes, type_oid: int, format: int, value: bytes, times: int,
    types: bytes = b"",
) -> float:
    """For benchmarks: mask one value again and again; nanoseconds for each."""

def pack_mask_types(types: Sequence[tuple[int, str, int, int, str, Sequence[Any]]]) -> bytes:
    """The table for define_context: (oid, kind "d" "a" "c" "e" "r" or "m", part, type modifier, delimiter, items), with a
    composite's [(type oid, modifier)] or an enum's [label as bytes]. ValueError for what cannot be."""

def ff1(key: bytes, radix: int, tweak: bytes, digits: Sequence[int]) -> list[int] | None:
    """For tests: FF1 of NIST SP 800-38G, or None for what has no FF1 here."""

def siphash(key: bytes, data: bytes) -> bytes:
    """For tests: SipHash-2-4 with 128 bits."""

def copy_mask(
    plan: bytes, masks: Sequence[tuple[int, int, bytes, bytes]], chunks: Sequence[bytes], room: int = -1
) -> list[bytes]:
    """For tests: the CopyData bodies of one statement, masked. ValueError where the relay would end the session,
    BufferError when `room` bytes (-1: as many as the bound) are too few."""

def crc32c(data: bytes) -> int: ...
def lex_constants(text: bytes) -> tuple[bytes, list[tuple[int, int]]] | None:
    """For tests: a text with a mark (byte 1 to 4) for each of its constants, and (offset, length) of these in the text;
    None for a text that is not understood."""

def scan_frames(data: bytes, *, frontend: bool, limit: int = 1 << 30) -> tuple[list[tuple[int, int, int]], int]:
    """(type, offset, length) of every whole frame and how many bytes they cover; ValueError on a length that cannot be."""

OUTCOME_TEXTS: tuple[str, ...]  # "running", "complete", ...; the place in here is the code in the audit store

class Finished:
    """A statement and how it ended, made by Decoder only. audit.builder.as_event makes a struct of it."""

    def line(self) -> bytes: ...                                        # JSON, as audit.events.encode of the event

class Decoder:
    """The records of one worker process to events: what the shipper spends its time on. `slow` is audit.builder.Rare,
    which is asked for everything rare, and whose FAULTS are reported as damage.
    """

    out: list[Any]                                                      # Finished, and events that `slow` made
    joining: bool                                                       # a divided record waits for its end
    wall: int                                                           # ns, of the last record
    def __init__(self, slow: Any) -> None: ...
    def segment(self) -> None: ...                                      # what follows is of the next segment
    def read(self, data: bytes, offset: int, base: int, size: int, limit: int) -> tuple[int, int, int, int]:
        """Offsets as in audit.segments.read_segment. (records, next offset, why it ended, bytes wanted): see
        audit.builder.Progress; stops at damage without taking it."""
    def take(self, kind: int, session: int, seq: int, wall: int, payload: bytes, offset: int) -> None: ...
    def flush(self, wall: int) -> None: ...                             # ends everything that is open
    def running(self, before: int) -> list[bytes]: ...                  # JSON lines of open statements
    @property
    def open_sessions(self) -> int: ...
    def state(self) -> tuple[list[bytes], list[tuple[int, int]], list[tuple[Any, ...]]]: ...
    def load(
        self, definitions: list[bytes], known: Sequence[tuple[int, int]], sessions: Sequence[tuple[Any, ...]], joining: bool
    ) -> None: ...

def json_lines(items: list[Any], encode: Callable[[Any], bytes]) -> bytes:
    """One line each; `encode` is asked for what is no Finished."""

def store_rows(items: list[Any], sessions: dict[Any, int], definitions: dict[Any, int], store: Any) -> list[Any]:
    """The columns of audit.sinks.sqlite's events, one row after the other. `store` has session, definition, row, mark."""

def leaf_hashes(lines: bytes) -> bytes:
    """SHA-256 of each line (they end with a newline, which does not count) as a leaf of RFC 6962, 32 bytes each."""

def leaves_of(items: list[Any], encode: Callable[[Any], bytes]) -> bytes:
    """leaf_hashes of json_lines."""

def sealed_lines(items: list[Any], encode: Callable[[Any], bytes]) -> tuple[bytes, bytes]:
    """json_lines, and leaves_of: together for less than one after the other."""

def merkle_root(leaves: bytes) -> bytes:
    """The 32 bytes at the top of RFC 6962's tree over these hashes. ValueError when there is none."""
