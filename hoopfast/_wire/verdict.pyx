# Asking for verdicts, and refusing: a refused statement is replaced by one that fails in the server, so that client and
# server always agree on the state of transaction and pipeline.

cdef enum:
    STEP_WAIT = 0               # not taken: a verdict, the journal or more bytes must come first
    STEP_DONE = 1               # taken


cdef void park(State* r, Session* s, uint8_t kind, Statement* x, const uint8_t* bind, size_t bind_len) noexcept nogil:
    """Ask the front. The client is not read any further until decide."""
    cdef Message* m = message_new(EVENT_VERDICT, s.id)
    r.next_serial += 1
    if m == NULL or buffer_put(&m.x, x.text, x.text_len) < 0 or buffer_put(&m.y, x.types, x.types_len) < 0 or (
            bind_len and buffer_put(&m.z, bind, bind_len) < 0):
        if m != NULL:
            message_free(m)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return
    s.parked = True
    s.parked_kind = kind
    s.serial = r.next_serial
    statement_release(s.parked_stmt)
    s.parked_stmt = x
    x.refs += 1
    count(r, C_PARKED, 1)
    m.serial = s.serial
    m.a = kind
    m.b = <int64_t>s.ctx.id
    m.c = s.status
    post(r, m)


cdef Statement* judge(State* r, Session* s, uint8_t kind, const uint8_t* text, size_t text_len, const uint8_t* types,
                      size_t types_len) noexcept nogil:
    """The statement with its verdict (borrowed until the frame is done), or NULL: the session is parked."""
    cdef Statement* x
    if s.granted != NULL and s.granted_kind == kind:
        return s.granted
    x = cache_find(&r.cache, s.ctx, kind, text, text_len, types, types_len)
    if x != NULL:
        count(r, C_CACHE_HITS, 1)
        return x
    if kind != c'F':
        x = template_find(&r.cache, r.lexed, r.lexed_key, s.ctx, kind, text, text_len, types, types_len)
    if x != NULL and kind == c'P':
        # A prepared statement outlives this frame and is recorded by its own text.
        x = template_apply(&r.cache, x, kind, text, text_len, types, types_len)
        if x != NULL:
            statement_release(s.granted)
            s.granted = x
            s.granted_kind = kind
    if x != NULL:
        count(r, C_TEMPLATE_HITS, 1)
        return x
    count(r, C_CACHE_MISSES, 1)
    x = statement_new(&r.cache, s.ctx, kind, text, text_len, types, types_len)
    if x == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return NULL
    park(r, s, kind, x, NULL, 0)
    statement_release(x)
    return NULL


cdef inline void granted_clear(Session* s) noexcept nogil:
    if s.granted != NULL:
        statement_release(s.granted)
        s.granted = NULL


cdef bint journal_ready(State* r, Session* s, size_t n) noexcept nogil:
    """Whether n bytes of intents can be recorded now; if not the session waits for a segment."""
    if journal_fits(&r.journal, n, True):
        s.waiting_since_ns = 0
        return True
    if not s.journal_wait:
        count(r, C_JOURNAL_STALLS, 1)
    journal_wait(r, s, n)
    return False


cdef const char* REFUSED = "hoopfast_refused_this_statement"


cdef void to_upstream_failing_query(State* r, Session* s) noexcept nogil:
    """A simple Query that fails in the server's parser: transaction and pipeline state stay the server's own."""
    cdef size_t n = strlen(REFUSED) + 1
    cdef uint8_t* w = arena_take(r, s, 5 + n)
    if w == NULL:
        s.upstream.broken = True
        return
    w[0] = c'Q'
    hf_put_be32(w + 1, <uint32_t>(4 + n))
    memcpy(w + 5, REFUSED, n)
    to_upstream(r, s, w, 5 + n)


cdef void to_upstream_failing_parse(State* r, Session* s, const uint8_t* name, size_t name_len) noexcept nogil:
    cdef size_t n = strlen(REFUSED) + 1
    cdef size_t total = 5 + name_len + 1 + n + 2
    cdef uint8_t* w = arena_take(r, s, total)
    if w == NULL:
        s.upstream.broken = True
        return
    w[0] = c'P'
    hf_put_be32(w + 1, <uint32_t>(total - 1))
    memcpy(w + 5, name, name_len)
    w[5 + name_len] = 0
    memcpy(w + 6 + name_len, REFUSED, n)
    hf_put_be16(w + 6 + name_len + n, 0)
    to_upstream(r, s, w, total)


cdef void record_refusal(State* r, Session* s, uint64_t seq, Statement* x) noexcept nogil:
    """The outcome of a statement that never ran."""
    cdef Reply e
    memset(&e, 0, sizeof(Reply))
    e.seq = seq
    e.started_ns = r.now_ns
    if x.error_len > 5:
        e.error_body = x.error + 5
        e.error_len = <uint32_t>(x.error_len - 5)
    put_outcome(r, s, &e, c'D')
    count(r, C_DENY, 1)


cdef int refuse_simple(State* r, Session* s, Statement* x, uint8_t kind, uint64_t seq) noexcept nogil:
    """Answer a Query or FunctionCall with x's error."""
    cdef Reply* e
    record_refusal(r, s, seq, x)
    e = reply_push(s, REPLY_FUNCTION if kind == c'F' else REPLY_QUERY, FOR_REFUSAL, x, NULL)
    if e == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    to_upstream_failing_query(r, s)
    return STEP_DONE


cdef int refuse_extended(State* r, Session* s, Statement* x, const uint8_t* name, size_t name_len, uint64_t seq) noexcept nogil:
    """Answer a Parse, Bind or Execute with x's error; everything up to Sync is then ignored, here and by the server."""
    cdef Reply* e
    record_refusal(r, s, seq, x)
    s.side = SIDE_AFTER[ERROR_BEFORE_SYNC][s.side]
    if s.probe_failed:
        # The probe's own error has already put the server into that state; nothing is outstanding before it.
        s.probe_failed = False
        to_client(r, s, x.error, x.error_len)
        flush_session(r, s)
        return STEP_DONE
    e = reply_push(s, REPLY_PARSE, FOR_REFUSAL, x, NULL)
    if e == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    to_upstream_failing_parse(r, s, name, name_len)
    return STEP_DONE


cdef Statement* complaint(State* r, Session* s, const char* sqlstate, const char* message) noexcept nogil:
    """A refusal of our own making (one reference): for messages that PostgreSQL would answer with an ERROR."""
    cdef Statement* x = statement_new(&r.cache, s.ctx, c'!', NULL, 0, NULL, 0)
    if x == NULL:
        return NULL
    x.action = ACTION_DENY
    x.error = <uint8_t*>malloc(error_size(message))
    x.label = copy_bytes(b"{\"verdict\":\"deny\",\"rule\":\"protocol\"}", 36)
    if x.error == NULL or x.label == NULL:
        statement_release(x)
        return NULL
    x.label_len = 36
    x.error_len = error_write(x.error, "ERROR", sqlstate, message)
    return x


cdef int complain(State* r, Session* s, uint8_t type, const char* sqlstate, const char* message) noexcept nogil:
    """Answer one frame with an error as the server would, without showing it to the server."""
    cdef Statement* x
    cdef uint64_t seq
    if not journal_ready(r, s, 4096):
        return STEP_WAIT
    x = complaint(r, s, sqlstate, message)
    if x == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    seq = put_use(r, s, KIND_QUERY, x, NULL, 0, NULL, 0)
    if type == c'Q' or type == c'F':
        refuse_simple(r, s, x, type, seq)
    else:
        refuse_extended(r, s, x, <const uint8_t*>"hoopfast_refused", 16, seq)
    statement_release(x)
    return STEP_DONE
