"""The protocol's states as data: which message may come when, and what state follows.

The compiled core turns these tables into arrays and does one look-up for each message; tests walk real conversations
with PostgreSQL along them; docs/protocol-states.md is drawn from them. Imports nothing.

Three things have states. The *client's side* of a session: what becomes of the next message of the client. A *reply*:
what the server has said so far to one message, and what it may say next. A *name*: what the relay knows of a prepared
statement or portal. The transaction's status is the server's own word (ReadyForQuery) and is only repeated.
"""

from __future__ import annotations

from typing import Final

CLIENT_MESSAGES: Final = {
    "Q": "Query", "P": "Parse", "B": "Bind", "D": "Describe", "E": "Execute", "C": "Close", "S": "Sync", "H": "Flush",
    "F": "FunctionCall", "d": "CopyData", "c": "CopyDone", "f": "CopyFail", "X": "Terminate",
}
SERVER_MESSAGES: Final = {
    "T": "RowDescription", "t": "ParameterDescription", "n": "NoData", "D": "DataRow", "C": "CommandComplete",
    "I": "EmptyQueryResponse", "s": "PortalSuspended", "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete",
    "G": "CopyInResponse", "H": "CopyOutResponse", "d": "CopyData", "c": "CopyDone", "V": "FunctionCallResponse",
    "E": "ErrorResponse", "Z": "ReadyForQuery",
}
# These answer nothing, and may come between any two others.
ANY_TIME: Final = {"N": "NoticeResponse", "A": "NotificationResponse", "S": "ParameterStatus"}

# ---------------------------------------------------------------- the client's side

OPEN, COPY, SKIP, GONE = "open", "copy", "skip", "gone"
NOTHING: Final = ""             # forwarded, and answered by nothing
DROPPED: Final = "dropped"      # not even forwarded

_STATEMENTS = {
    "Q": "query", "P": "parse", "B": "bind", "D": "describe", "E": "execute", "C": "close", "F": "function",
}
# side -> message -> (the reply that is expected, the side that follows). Every message has a place in every row.
CLIENT: Final[dict[str, dict[str, tuple[str, str]]]] = {
    # Statements are judged and forwarded.
    OPEN: {
        **{message: (reply, OPEN) for message, reply in _STATEMENTS.items()},
        "S": ("sync", OPEN), "H": (NOTHING, OPEN), "X": (NOTHING, GONE),
        # A client may be ahead of CopyInResponse; without any COPY the server ignores these.
        "d": (NOTHING, OPEN), "c": ("copy end", OPEN), "f": ("copy end", OPEN),
    },
    # COPY FROM STDIN. The server ignores Sync and Flush, and ends the session for whatever does not belong here.
    COPY: {
        **{message: (reply, COPY) for message, reply in _STATEMENTS.items()},
        "S": ("copy sync", COPY), "H": (NOTHING, COPY), "X": (NOTHING, GONE),
        "d": (NOTHING, COPY), "c": ("copy end", OPEN), "f": ("copy end", OPEN),
    },
    # After an error in the extended protocol: the server reads on to the next Sync.
    SKIP: {
        **dict.fromkeys(CLIENT_MESSAGES, (DROPPED, SKIP)),
        "S": ("sync", OPEN), "X": (NOTHING, GONE),
    },
    # After Terminate.
    GONE: dict.fromkeys(CLIENT_MESSAGES, (DROPPED, GONE)),
}
# What the server's answers do to the client's side: event -> side -> side that follows; no entry, no change.
EVENTS: Final[dict[str, dict[str, str]]] = {
    "copy begins": {OPEN: COPY},                    # CopyInResponse, and the client has not ended its data yet
    "copy is over": {COPY: OPEN},                   # CommandComplete, or an error in a simple query
    "error before sync": {OPEN: SKIP, COPY: SKIP},  # extended protocol, and no Sync is under way
    "error behind sync": {COPY: OPEN},              # extended protocol, and one is
    "sync after all": {SKIP: OPEN},                 # ReadyForQuery for a Sync that might have been read within COPY
}

# ---------------------------------------------------------------- replies

DONE: Final = "done"            # the reply is whole
FAILED: Final = "failed"        # it was an error, and the server answers nothing more before the next Sync

_RESULT = {"T": "query rows", "C": "query complete", "G": "query copy in", "H": "query copy out", "E": "query failed"}
# reply -> message of the server -> the reply that follows, DONE or FAILED. What has no entry contradicts the protocol.
SERVER: Final[dict[str, dict[str, str]]] = {
    "query": {**_RESULT, "I": "query complete"},
    # A rule may add results of its own: another description, or the end.
    "query rows": {"D": "query rows", "T": "query rows", "C": "query complete", "E": "query failed"},
    "query copy in": {"C": "query complete", "E": "query failed"},
    "query copy out": {"d": "query copy out", "c": "query copied", "E": "query failed"},
    "query copied": {"C": "query complete", "E": "query failed"},
    "query complete": {**_RESULT, "Z": DONE},
    "query failed": {"E": "query failed", "Z": DONE},
    "parse": {"1": DONE, "E": FAILED},
    "bind": {"2": DONE, "E": FAILED},
    "close": {"3": DONE, "E": FAILED},
    "describe statement": {"t": "describe columns", "E": FAILED},
    "describe columns": {"T": DONE, "n": DONE, "E": FAILED},
    "describe portal": {"T": DONE, "n": DONE, "E": FAILED},
    "execute": {
        "D": "execute rows", "C": DONE, "I": DONE, "G": "execute copy in", "H": "execute copy out", "E": FAILED,
    },
    "execute rows": {"D": "execute rows", "C": DONE, "s": DONE, "E": FAILED},
    "execute copy in": {"C": DONE, "E": FAILED},
    "execute copy out": {"d": "execute copy out", "c": "execute copied", "E": FAILED},
    "execute copied": {"C": DONE, "E": FAILED},
    "sync": {"Z": DONE, "E": "sync failed"},
    "sync failed": {"Z": DONE, "E": "sync failed"},
    "function": {"V": "function complete", "E": "function failed"},
    "function complete": {"Z": DONE, "E": "function failed"},
    "function failed": {"Z": DONE, "E": "function failed"},
    # Nothing is under way: only the end of the session can come (and what comes at any time).
    "idle": {"E": "idle"},
}
# Client messages that are awaited although nothing answers them: they mark a place in the order of things.
SILENT: Final = ("copy sync", "copy end", "settled")

# ---------------------------------------------------------------- names

# Entered: the server has not answered yet. Doubtful: SQL (PREPARE, DEALLOCATE, DECLARE...) may have given the name to
# something else; what is known of it may then only restrict.
ENTERED, STANDING, ENTERED_DOUBTFUL, DOUBTFUL, FORGOTTEN = (
    "entered", "standing", "entered, doubtful", "doubtful", "forgotten")
# state -> event -> state that follows.
NAMES: Final[dict[str, dict[str, str]]] = {
    ENTERED: {"accepted": STANDING, "refused": FORGOTTEN, "touched by SQL": ENTERED_DOUBTFUL},
    STANDING: {"closed": FORGOTTEN, "touched by SQL": DOUBTFUL, "transaction over": FORGOTTEN},
    ENTERED_DOUBTFUL: {"accepted": DOUBTFUL, "refused": FORGOTTEN, "touched by SQL": ENTERED_DOUBTFUL},
    DOUBTFUL: {"closed": FORGOTTEN, "touched by SQL": DOUBTFUL, "transaction over": FORGOTTEN},
}
