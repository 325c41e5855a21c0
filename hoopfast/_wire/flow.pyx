# hoopfast/flow.py as arrays: one look-up for each message says whether it may come, and what follows.

from hoopfast import flow

cdef enum:                      # the client's side
    SIDE_OPEN
    SIDE_COPY
    SIDE_SKIP
    SIDE_GONE
    SIDES

cdef enum:                      # what the server's answers do to it
    COPY_BEGINS
    COPY_IS_OVER
    ERROR_BEFORE_SYNC
    ERROR_BEHIND_SYNC
    SYNC_AFTER_ALL
    SIDE_EVENTS

cdef enum:                      # replies: first what client messages ask for (Reply.kind), then what these become
    REPLY_QUERY
    REPLY_PARSE
    REPLY_BIND
    REPLY_DESCRIBE_STATEMENT
    REPLY_DESCRIBE_PORTAL
    REPLY_EXECUTE
    REPLY_CLOSE
    REPLY_SYNC
    REPLY_FUNCTION
    REPLY_COPY_SYNC             # Syncs (rows: how many) that the server ignores if it reads them within COPY FROM STDIN
    REPLY_COPY_END              # CopyDone or CopyFail (rows: how many): answers nothing
    REPLY_SETTLED               # what has turned out to answer nothing
    REPLY_QUERY_ROWS
    REPLY_QUERY_COPY_IN
    REPLY_QUERY_COPY_OUT
    REPLY_QUERY_COPIED
    REPLY_QUERY_COMPLETE
    REPLY_QUERY_FAILED
    REPLY_DESCRIBE_COLUMNS
    REPLY_EXECUTE_ROWS
    REPLY_EXECUTE_COPY_IN
    REPLY_EXECUTE_COPY_OUT
    REPLY_EXECUTE_COPIED
    REPLY_SYNC_FAILED
    REPLY_FUNCTION_COMPLETE
    REPLY_FUNCTION_FAILED
    REPLY_IDLE
    REPLIES
    REPLY_DONE = 252
    REPLY_FAILED = 253
    REPLY_NONE = 254            # expected of a client message: nothing answers it
    REPLY_NEVER = 255           # no such message here; expected of a client message: it is dropped

cdef enum:                      # what is known of a statement's or portal's name
    NAME_ENTERED
    NAME_STANDING
    NAME_ENTERED_DOUBTFUL
    NAME_DOUBTFUL
    NAME_STATES
    NAME_FORGOTTEN = 255

cdef enum:
    NAME_ACCEPTED
    NAME_TOUCHED
    NAME_TRANSACTION_OVER
    NAME_EVENTS

cdef uint8_t SIDE_NEXT[SIDES][256]
cdef uint8_t SIDE_EXPECTS[SIDES][256]
cdef uint8_t SIDE_AFTER[SIDE_EVENTS][SIDES]
cdef uint8_t REPLY_NEXT[REPLIES][256]
cdef uint8_t NAME_AFTER[NAME_EVENTS][NAME_STATES]

_SIDE_NAMES = {"open": SIDE_OPEN, "copy": SIDE_COPY, "skip": SIDE_SKIP, "gone": SIDE_GONE}
_EVENT_NAMES = {
    "copy begins": COPY_BEGINS, "copy is over": COPY_IS_OVER, "error before sync": ERROR_BEFORE_SYNC,
    "error behind sync": ERROR_BEHIND_SYNC, "sync after all": SYNC_AFTER_ALL,
}
_REPLY_NAMES = {
    "query": REPLY_QUERY, "parse": REPLY_PARSE, "bind": REPLY_BIND, "describe statement": REPLY_DESCRIBE_STATEMENT,
    "describe portal": REPLY_DESCRIBE_PORTAL, "execute": REPLY_EXECUTE, "close": REPLY_CLOSE, "sync": REPLY_SYNC,
    "function": REPLY_FUNCTION, "copy sync": REPLY_COPY_SYNC, "copy end": REPLY_COPY_END, "settled": REPLY_SETTLED,
    "query rows": REPLY_QUERY_ROWS, "query copy in": REPLY_QUERY_COPY_IN, "query copy out": REPLY_QUERY_COPY_OUT,
    "query copied": REPLY_QUERY_COPIED, "query complete": REPLY_QUERY_COMPLETE, "query failed": REPLY_QUERY_FAILED,
    "describe columns": REPLY_DESCRIBE_COLUMNS, "execute rows": REPLY_EXECUTE_ROWS,
    "execute copy in": REPLY_EXECUTE_COPY_IN, "execute copy out": REPLY_EXECUTE_COPY_OUT,
    "execute copied": REPLY_EXECUTE_COPIED, "sync failed": REPLY_SYNC_FAILED,
    "function complete": REPLY_FUNCTION_COMPLETE, "function failed": REPLY_FUNCTION_FAILED, "idle": REPLY_IDLE,
}
_NAME_NAMES = {
    "entered": NAME_ENTERED, "standing": NAME_STANDING, "entered, doubtful": NAME_ENTERED_DOUBTFUL,
    "doubtful": NAME_DOUBTFUL,
}
_NAME_EVENT_NAMES = {
    "accepted": NAME_ACCEPTED, "touched by SQL": NAME_TOUCHED, "transaction over": NAME_TRANSACTION_OVER,
}


def _fill_flow():
    """The arrays from the tables. ImportError when the tables have other states than the core was written for."""
    cdef int i, byte
    same = (
        set(flow.CLIENT) == set(_SIDE_NAMES), set(flow.EVENTS) == set(_EVENT_NAMES),
        {*flow.SERVER, *flow.SILENT} == set(_REPLY_NAMES), set(flow.NAMES) == set(_NAME_NAMES),
        {byte for byte in range(256) if FRONTEND_TAKE[byte] != TAKE_NEVER} == set(map(ord, flow.CLIENT_MESSAGES)),
        {byte for byte in range(256) if BACKEND_TAKE[byte] != TAKE_NEVER}
        == set(map(ord, {**flow.SERVER_MESSAGES, **flow.ANY_TIME})),
    )
    if not all(same):
        raise ImportError("hoopfast/flow.py and the compiled core know different states: change both, and build again")
    expects = {**_REPLY_NAMES, flow.NOTHING: REPLY_NONE, flow.DROPPED: REPLY_NEVER, "describe": REPLY_DESCRIBE_PORTAL}
    memset(SIDE_NEXT, SIDE_GONE, sizeof(SIDE_NEXT))
    memset(SIDE_EXPECTS, REPLY_NEVER, sizeof(SIDE_EXPECTS))
    for side, messages in flow.CLIENT.items():
        for message, (reply, following) in messages.items():
            SIDE_EXPECTS[<int>_SIDE_NAMES[side]][<int>ord(message)] = expects[reply]
            SIDE_NEXT[<int>_SIDE_NAMES[side]][<int>ord(message)] = _SIDE_NAMES[following]
    for event, sides in flow.EVENTS.items():
        for side, i in _SIDE_NAMES.items():
            SIDE_AFTER[<int>_EVENT_NAMES[event]][i] = _SIDE_NAMES[sides.get(side, side)]
    memset(REPLY_NEXT, REPLY_NEVER, sizeof(REPLY_NEXT))
    follows = {**_REPLY_NAMES, flow.DONE: REPLY_DONE, flow.FAILED: REPLY_FAILED}
    for reply, messages in flow.SERVER.items():
        for message, following in messages.items():
            REPLY_NEXT[<int>_REPLY_NAMES[reply]][<int>ord(message)] = follows[following]
    states = {**_NAME_NAMES, flow.FORGOTTEN: NAME_FORGOTTEN}
    for state, i in _NAME_NAMES.items():
        for event, byte in _NAME_EVENT_NAMES.items():
            NAME_AFTER[byte][i] = states[flow.NAMES[state].get(event, state)]


_fill_flow()
