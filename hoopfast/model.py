"""The vocabulary that several layers share: identities, verdicts, IPC messages, journal kinds, counters.

Data only: frozen msgspec structs and constants, no behaviour, no IO. The numbers in the `KIND_*`, `ACTION_*` and
`FLAG_*` groups are mirrored in `_wire/vocabulary.pyx`; `tests/wire/test_relay.py` compares the two.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every value that crosses a boundary."""


# ---------------------------------------------------------------- people

class Identity(Frozen, frozen=True, kw_only=True):
    """A proven person (or workload). Made by the identity gate only, never from the startup packet."""

    user: str                       # what audit and application_name show: e-mail or login name
    subject: str                    # the issuer's `sub`; the key together with `issuer`
    issuer: str                     # configured name of the issuer, or "gateway" for hf_ secrets
    groups: tuple[str, ...] = ()
    method: str = "token"           # "token" | "secret"
    credential: str = ""            # id of the secret, or the token's jti; never the credential itself
    expires_at: float = 0.0         # unix seconds; the session ends then at the latest. 0: no end of its own


# ---------------------------------------------------------------- verdicts

ACTION_ALLOW = 1
ACTION_DENY = 2
ACTION_ASK = 3                      # the relay asks again at Bind, when the parameters are known

FLAG_TOUCHED = 1                    # reads the sensitive closure: mask by origin, scrub errors, need descriptions
FLAG_ANY_ZERO = 2                   # touched, any number of output columns without origin (EXECUTE, FETCH)
FLAG_CATALOG = 4                    # DDL: completion raises the "catalog" event
FLAG_COPY_OUT = 8                   # a copy plan is attached
FLAG_SCRUB = 16                     # errors and notices of this statement are replaced by canonical ones
FLAG_NAMES = 32                     # PREPARE, DEALLOCATE, DISCARD, DECLARE, CLOSE: names the relay knows are void
FLAG_SETTLES = 64                   # COMMIT, SET CONSTRAINTS: what earlier statements deferred may run here, and fail
FLAG_REDACT = 128                   # output columns without origin are hidden: by the last mask of the context
FLAG_STRICT = 256                   # replaced errors do not say either what went wrong
FLAG_PRIVATE = 512                  # its records hold values to protect: the segment is left soon after

MASK_NULL = 0
MASK_REDACT = 1
MASK_PARTIAL = 2                    # keep the last n characters
MASK_EMAIL = 3
MASK_HASH = 4                       # keyed HMAC-SHA-256, shaped to the type
MASK_CONSTANT = 5
MASK_BUCKET = 6                     # a multiple of a size, a unit of time, the prefix of an address
MASK_TOKEN = 7                      # keyed SipHash-2-4, shaped to the type
MASK_FF1 = 8                        # format-preserving encryption
MASK_NAMES = ("null", "redact", "partial", "email", "hash", "constant", "bucket", "token", "ff1")
MASKS_KEYED = frozenset({MASK_HASH, MASK_TOKEN, MASK_FF1})

UNIT_NUMBER = 0                     # MaskSpec.keep of a bucket; between hour and prefix the longer units of time
UNIT_HOUR = 2
UNIT_DAY = 3
UNIT_PREFIX = 10


class MaskSpec(Frozen, frozen=True, kw_only=True):
    """How one column is hidden; the relay gets it as plain numbers and bytes.

    `keep`: characters kept at the end (partial), 1 to redact only what is in arrays and json (redact), the unit
    (bucket), the version of the key (token), the alphabet (ff1).
    """

    kind: int
    keep: int = 0
    constant: bytes = b""           # constant: the value in text format; bucket: its size in digits
    key: bytes = b""                # of MASKS_KEYED: 32 bytes, per column


class MaskedColumn(Frozen, frozen=True, kw_only=True):
    """One column of the upstream's catalog that is masked in a context."""

    table_oid: int
    attnum: int
    mask: int                       # index into the context's masks


# ---------------------------------------------------------------- the journal (relay writes, shipper reads)

JOURNAL_MAGIC = b"HFJRNL01"
JOURNAL_HEADER_BYTES = 64           # of a segment
RECORD_HEADER_BYTES = 48

KIND_SESSION_START = 1
KIND_STATEMENT = 2                  # definition of a statement id, once per segment that uses it
KIND_QUERY = 3                      # intent: simple Query
KIND_PARSE = 4                      # intent: Parse
KIND_BIND = 5                       # Bind, with raw parameters
KIND_EXECUTE = 6                    # intent: Execute
KIND_FUNCTION = 7                   # intent: FunctionCall
KIND_OUTCOME = 8
KIND_RESULT = 9                     # frames as the client got them (masked)
KIND_SESSION_END = 10
KIND_NOTE = 11                      # JSON written by the front (approval opened, decided, ...)
KIND_QUERY_TEXT = 12                # intent: simple Query whose text differs from its definition in constants
KIND_OUTCOME_ROWS = 13              # as KIND_OUTCOME, after the time to the first row
KIND_ASIDE = 14                     # what the server said outside of a statement: notifications, errors
KIND_DESCRIBED = 15                 # what a Describe said of a prepared statement: parameter types, columns
RECORD_FLAG_MORE = 1                # the payload goes on in the next record of the same kind


# ---------------------------------------------------------------- counters in shared memory (one page per worker)

COUNTERS = (
    "sessions_open", "sessions_total", "statements_allow", "statements_deny", "statements_ask", "statements_error",
    "cache_hits", "cache_misses", "client_bytes_in", "client_bytes_out", "upstream_bytes_in", "upstream_bytes_out",
    "rows", "masked_rows", "masked_cells", "journal_records", "journal_bytes", "journal_stalls", "parked",
    "cancels", "scrubbed", "contradictions", "wakeups", "transactions", "statements_total", "statements_function",
    "template_hits", "journal_lost", "journal_failures",
    # What the process holds now; at rest nothing but the cached statements.
    "buffer_bytes", "arena_bytes", "held_statements", "cached_statements", "held_names", "held_plans",
)
HISTOGRAM_OFFSET = 64               # u64 index of the first latency bucket in the page
HISTOGRAM_BUCKETS = 28              # bucket k counts statements that took < 2**k microseconds; the last is +Inf
HISTOGRAM_SUM = HISTOGRAM_OFFSET + HISTOGRAM_BUCKETS      # sum of durations, microseconds
COUNTER_PAGE_BYTES = 4096


# ---------------------------------------------------------------- IPC: supervisor -> worker

class Accept(Frozen, frozen=True, kw_only=True, tag="accept"):
    """A new client; its descriptor travels with the frame (SCM_RIGHTS)."""

    listener: str
    peer: str                       # "192.0.2.7:50123", or "unix"


class ConfigUpdate(Frozen, frozen=True, kw_only=True, tag="config"):
    """The whole configuration (hoopfast.config.Config as builtins) and policy; sent first, and on every reload.

    Secret references are resolved by the process that uses them, so no secret travels here.
    """

    version: int                    # rises with every accepted reload
    config: dict[str, Any]
    policy: dict[str, Any]


class CatalogUpdate(Frozen, frozen=True, kw_only=True, tag="catalog"):
    """A fresh catalog of one connection (hoopfast.analysis.catalog.Catalog as builtins), or why there is none."""

    connection: str
    policy: int                     # version whose masked columns it describes; of no use under any other
    epoch: int
    catalog: dict[str, Any] | None
    error: str = ""


class AuthReply(Frozen, frozen=True, kw_only=True, tag="auth"):
    request: int
    identity: Identity | None = None
    sqlstate: str = ""
    message: str = ""
    hint: str = ""


class KillSessions(Frozen, frozen=True, kw_only=True, tag="kill"):
    """End sessions that match: by id, by credential, or all of them (both empty)."""

    sessions: tuple[int, ...] = ()
    credential: str = ""
    sqlstate: str = "57P01"
    reason: str = ""


class CancelKey(Frozen, frozen=True, kw_only=True, tag="cancel"):
    """Both ways: a CancelRequest whose key this worker does not know. Every other worker answers with `done` (when the
    cancel has taken effect, or at once if the key is not its own); the supervisor passes the last of them on."""

    pid: int
    secret: bytes
    done: bool = False


class Decision(Frozen, frozen=True, kw_only=True, tag="decision"):
    """An approval was decided: "approved", "rejected" or "expired"."""

    approval: str
    outcome: str
    reviewer: str = ""
    reason: str = ""


class ApprovalOpened(Frozen, frozen=True, kw_only=True, tag="opened"):
    """Answer to ApprovalWanted: the request is stored and announced under this id."""

    request: int
    approval: str                   # empty: it could not be stored, see error
    url: str = ""
    expires_at: float = 0.0
    error: str = ""


class Drain(Frozen, frozen=True, kw_only=True, tag="drain"):
    """Finish: idle sessions end now, busy ones after their transaction, all of them at the deadline."""

    seconds: float
    reason: str


class Ping(Frozen, frozen=True, kw_only=True, tag="ping"):
    number: int


# ---------------------------------------------------------------- IPC: worker -> supervisor

class Hello(Frozen, frozen=True, kw_only=True, tag="hello"):
    worker: int
    pid: int


class Pong(Frozen, frozen=True, kw_only=True, tag="pong"):
    number: int
    sessions: int


class AuthWanted(Frozen, frozen=True, kw_only=True, tag="auth_wanted"):
    """The one gate for all methods: the supervisor answers with AuthReply."""

    request: int
    credential: bytes               # the password field as it came
    user: str                       # what the startup packet asked for: a request for a role, never an identity
    database: str
    peer: str
    tls: bool


class SessionOpened(Frozen, frozen=True, kw_only=True, tag="session_opened"):
    session: int
    identity: Identity
    connection: str
    database: str
    role: str
    peer: str
    application: str
    tls: bool
    started_at: float
    settings: dict[str, str] = {}   # of the client's startup packet, those that the trail keeps


class SessionClosed(Frozen, frozen=True, kw_only=True, tag="session_closed"):
    session: int
    reason: str


class ConnectionDone(Frozen, frozen=True, kw_only=True, tag="connection_done"):
    """An accepted client ended before it became a session (probe, cancel, refused login); frees its place."""

    reason: str                     # "cancel" | "refused" | "probe" | "timeout" | "error"
    peer: str = ""                  # as in Accept


class LoginRefused(Frozen, frozen=True, kw_only=True, tag="login_refused"):
    """For the audit trail: who tried what, and the true reason (the client got a vague one)."""

    user: str
    database: str
    peer: str
    reason: str
    identity: Identity | None = None


class ApprovalWanted(Frozen, frozen=True, kw_only=True, tag="approval_wanted"):
    """A statement is parked; the supervisor stores and announces the request and answers ApprovalOpened.

    `sql` and `parameters` are for whoever decides; `recorded` are both as they may be kept, without values of masked
    columns. None: the same.
    """

    request: int
    session: int
    identity: Identity
    connection: str
    peer: str
    application: str
    rule: str
    sql: str
    parameters: tuple[str | None, ...]
    approver_groups: tuple[str, ...]
    approvals_needed: int
    expires_s: float
    role: str
    catalog_epoch: int
    recorded: tuple[str, tuple[str | None, ...]] | None = None


class ApprovalWithdrawn(Frozen, frozen=True, kw_only=True, tag="approval_withdrawn"):
    approval: str
    reason: str                     # "cancelled" | "disconnected" | "session ended"


class ApprovalUsed(Frozen, frozen=True, kw_only=True, tag="approval_used"):
    """The approved statement was released, once."""

    approval: str


class CatalogWanted(Frozen, frozen=True, kw_only=True, tag="catalog_wanted"):
    """Ask for the catalog of a connection; `changed` means DDL went through, so a cached one is stale."""

    connection: str
    changed: bool = False


ToWorker = (
    Accept | ConfigUpdate | CatalogUpdate | AuthReply | KillSessions | CancelKey | Decision | ApprovalOpened | Drain
    | Ping
)
ToSupervisor = (
    Hello | Pong | AuthWanted | SessionOpened | SessionClosed | ConnectionDone | LoginRefused | ApprovalWanted
    | ApprovalWithdrawn | ApprovalUsed | CatalogWanted | CancelKey
)


# ---------------------------------------------------------------- between analysis and policy

class StatementFacts(Frozen, frozen=True, kw_only=True):
    """What one statement of a query string is and touches. Made by analysis, judged by policy.

    `kinds` holds the statement's own kind first ("select", "insert", "drop", "alter_role", ...), then those nested in
    it (data-modifying CTEs, EXPLAIN ANALYZE, PREPARE, COPY (...)), lower case, never empty.
    `tables` and `functions` are names as written, "schema.table" or "table"; `columns` what it may read of the tables
    (analysis.columns). `touches` are pairs of a table as written ("": any that the statement names) and a column that
    is read, written or compared ("*": all of them). `attributes` are words after a dot, which may be columns or
    functions. `schemas` are those named for anything but tables.
    """

    kinds: tuple[str, ...]
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    touches: tuple[tuple[str, str], ...] = ()
    functions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    unfiltered: bool = False        # an UPDATE or DELETE (or MERGE) which no column of its target restricts
    opaque: str = ""                # why it cannot be read (DO, CALL, ...); empty when it can


PROTECT_ALL = "all"
PROTECT_TEXT = "text"               # of literals: the text as a whole


class Protect(Frozen, frozen=True, kw_only=True):
    """What of a statement's record shows values of masked columns (analysis.private); kept with it in the journal.

    `literals` are places in the sequence of its text's tokens as PostgreSQL's scanner gives them, `parameters` numbers
    of its $n; "all" stands for all of them, and "text" for the text as a whole. `error`: its error's texts, `results`:
    its rows. `echo`: its rows may repeat its literals and parameters.
    """

    literals: tuple[int, ...] | str = ()
    parameters: tuple[int, ...] | str = ()
    error: bool = False
    results: bool = False
    echo: bool = False


class Client(Frozen, frozen=True, kw_only=True):
    """What rules may ask about the other end of a session; it stays the same as long as the session lives.

    None: not known. Rules that restrict then apply, rules that allow do not.
    """

    peer: str | None = None         # "192.0.2.7:50123", or "unix"
    application: str | None = None  # what the client calls itself


class Warned(Frozen, frozen=True, kw_only=True):
    """A rule that lets a statement pass and says something about it."""

    rule: str
    reason: str = ""


class Ruling(Frozen, frozen=True, kw_only=True):
    """What policy says of a query string: "allow", "limit", "warn", "deny" or "approve"; the deciding rule's name and
    reason.

    `warnings` are those of all rules that warn, whatever decided; `limit_s` (0: none) is the shortest of all rules that
    limit, `limit_rule` the one that sets it. `timed`: another time of day may give another ruling.
    """

    action: str
    rule: str = ""
    reason: str = ""
    approver_groups: tuple[str, ...] = ()
    approvals_needed: int = 1
    expires_s: float = 900.0
    warnings: tuple[Warned, ...] = ()
    limit_s: float = 0.0
    limit_rule: str = ""
    timed: bool = False
