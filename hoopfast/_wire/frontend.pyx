# Client bytes -> upstream. Every statement gets a verdict and a journal record before its first byte is gathered.

cdef enum:
    STEP_WAIT = 0               # not taken: a verdict, the journal or more bytes must come first
    STEP_DONE = 1               # taken


# ---------------------------------------------------------------- gathering

cdef void hold(State* r, Session* s) noexcept nogil:
    """Durable mode: these bytes may go only when the records before them are on disk."""
    r.unsynced = True
    if not s.on_held:
        s.on_held = True
        s.held_next = r.held
        r.held = s


cdef void flush_session(State* r, Session* s) noexcept nogil:
    """Send what has been gathered for both legs. Memory of the scratch buffer and the arena may be reused afterwards."""
    capture_flush(r, s)
    if r.to_client.n:
        count(r, C_CLIENT_OUT, r.to_client.bytes)
        if gather_flush(&r.to_client, &s.client, r.now_ns, False) < 0:
            s.client.broken = True
    if r.to_upstream.n:
        count(r, C_UPSTREAM_OUT, r.to_upstream.bytes)
        if r.durable and r.journal.dirty:
            hold(r, s)
            if gather_flush(&r.to_upstream, &s.upstream, r.now_ns, True) < 0:
                s.upstream.broken = True
        elif gather_flush(&r.to_upstream, &s.upstream, r.now_ns, False) < 0:
            s.upstream.broken = True
    r.arena_used = 0


cdef void gather(State* r, Session* s, Gather* g, const uint8_t* p, size_t n) noexcept nogil:
    cdef iovec* last
    if n == 0:
        return
    if g.n:
        last = &g.parts[g.n - 1]
        if <uint8_t*>last.iov_base + last.iov_len == p:
            last.iov_len += n
            g.bytes += n
            return
        if g.n == IOV_MAX_OURS:
            # Not flush_session: the arena still holds what the caller is gathering.
            if g == &r.to_client:
                count(r, C_CLIENT_OUT, g.bytes)
                if gather_flush(g, &s.client, r.now_ns, False) < 0:
                    s.client.broken = True
            else:
                count(r, C_UPSTREAM_OUT, g.bytes)
                if r.durable and r.journal.dirty:
                    hold(r, s)
                if gather_flush(g, &s.upstream, r.now_ns, r.durable and r.journal.dirty) < 0:
                    s.upstream.broken = True
    g.parts[g.n].iov_base = <void*>p
    g.parts[g.n].iov_len = n
    g.n += 1
    g.bytes += n


cdef inline void to_upstream(State* r, Session* s, const uint8_t* p, size_t n) noexcept nogil:
    gather(r, s, &r.to_upstream, p, n)


cdef inline void to_client(State* r, Session* s, const uint8_t* p, size_t n) noexcept nogil:
    gather(r, s, &r.to_client, p, n)


cdef uint8_t* arena_take(State* r, Session* s, size_t n) noexcept nogil:
    """Working memory that lives until flush_session; NULL when memory is short."""
    cdef uint8_t* p
    cdef uint8_t* wider
    if r.arena_used + n > r.arena_room:
        flush_session(r, s)
        if n > r.arena_room:
            wider = <uint8_t*>realloc(r.arena, n)
            if wider == NULL:
                return NULL
            r.arena = wider
            r.arena_room = n
    p = r.arena + r.arena_used
    r.arena_used += n
    return p


cdef size_t error_size(const char* message) noexcept nogil:
    return 5 + 8 + 8 + 7 + 1 + strlen(message) + 1 + 1


cdef size_t error_write(uint8_t* w, const char* severity, const char* sqlstate, const char* message) noexcept nogil:
    """An ErrorResponse frame; severity has five letters (ERROR, FATAL)."""
    cdef size_t n = strlen(message), at = 5
    w[0] = c'E'
    w[at] = c'S'
    memcpy(w + at + 1, severity, 6)
    at += 7
    w[at] = c'V'
    memcpy(w + at + 1, severity, 6)
    at += 7
    w[at] = c'C'
    memcpy(w + at + 1, sqlstate, 6)
    at += 7
    w[at] = c'M'
    memcpy(w + at + 1, message, n + 1)
    at += n + 2
    w[at] = 0
    at += 1
    hf_put_be32(w + 1, <uint32_t>(at - 1))
    return at


cdef void end_session(State* r, Session* s, const char* sqlstate, const char* message, const char* reason) noexcept nogil:
    """FATAL to the client (when a message boundary allows it), then the pair is closed."""
    cdef uint8_t* w
    cdef bint whole = s.upstream.pass_left == 0
    if s.closing:
        return
    if message != NULL and whole:
        w = arena_take(r, s, error_size(message))
        if w != NULL:
            to_client(r, s, w, error_write(w, "FATAL", sqlstate, message))
    session_close(r, s, reason)


# ---------------------------------------------------------------- verdicts

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
        return True
    if not s.journal_wait:
        s.journal_wait = True
        count(r, C_JOURNAL_STALLS, 1)
    want_segments(r, n)
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
    s.swallow = True
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


# ---------------------------------------------------------------- one frame each

cdef int front_query(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* nul = cstring_end(p + 5, p + total)
    cdef Statement* x
    cdef Reply* e
    cdef uint64_t seq
    if nul == NULL or nul != p + total - 1:
        return complain(r, s, c'Q', "08P01", "invalid message format")
    x = judge(r, s, c'Q', p + 5, nul - p - 5, NULL, 0)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_QUERY, x, NULL, 0, NULL, 0)
    count(r, C_STATEMENTS, 1)
    if x.action != ACTION_ALLOW:
        return refuse_simple(r, s, x, c'Q', seq)
    e = reply_push(s, REPLY_QUERY, FOR_CLIENT, x, NULL)
    if e == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    e.seq = seq
    e.started_ns = r.now_ns
    count(r, C_ALLOW, 1)
    if x.flags & FLAG_NAMES:
        names_stale(&s.statements)
        names_stale(&s.portals)
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_parse(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* end = p + total
    cdef const uint8_t* name_nul = cstring_end(p + 5, end)
    cdef const uint8_t* text_nul = cstring_end(name_nul + 1, end) if name_nul != NULL else NULL
    cdef uint16_t n_types
    cdef Statement* x
    cdef Named* named
    cdef Reply* e
    cdef uint64_t seq
    if text_nul == NULL or end - text_nul < 3:
        return complain(r, s, c'P', "08P01", "invalid message format")
    n_types = hf_be16(text_nul + 1)
    if end - text_nul - 3 != <ssize_t>n_types * 4:
        return complain(r, s, c'P', "08P01", "insufficient data left in message")
    x = judge(r, s, c'P', name_nul + 1, text_nul - name_nul - 1, text_nul + 3, <size_t>n_types * 4)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_PARSE, x, p + 5, name_nul - p - 4, NULL, 0)
    if x.action == ACTION_DENY or x.action == 0:
        count(r, C_STATEMENTS, 1)
        return refuse_extended(r, s, x, p + 5, name_nul - p - 5, seq)
    named = named_new(p + 5, name_nul - p - 5, x)
    e = reply_push(s, REPLY_PARSE, FOR_CLIENT, x, named)
    if named == NULL or e == NULL or names_put(&s.statements, named) < 0:
        named_release(named)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    named_release(named)
    e.seq = seq
    e.started_ns = r.now_ns
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int bind_formats(Named* portal, const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Read the result formats at the end of a Bind body (p: after both names). -1 when the message is malformed."""
    cdef uint32_t n, i
    cdef int32_t length
    if end - p < 2:
        return -1
    n = hf_be16(p)
    p += 2
    if end - p < <ssize_t>n * 2 + 2:
        return -1
    p += n * 2
    n = hf_be16(p)
    p += 2
    for i in range(n):
        if end - p < 4:
            return -1
        length = <int32_t>hf_be32(p)
        p += 4
        if length < -1 or (length > 0 and end - p < length):
            return -1
        if length > 0:
            p += length
    if end - p < 2:
        return -1
    n = hf_be16(p)
    p += 2
    if end - p != <ssize_t>n * 2:
        return -1
    portal.has_formats = True
    portal.n_formats = <uint16_t>n
    if n:
        portal.formats = <int16_t*>malloc(n * sizeof(int16_t))
        if portal.formats == NULL:
            return -1
        for i in range(n):
            portal.formats[i] = <int16_t>hf_be16(p + 2 * i)
    return 0


cdef size_t synthetic(uint8_t* w, const char* verb, const uint8_t* name, size_t n) noexcept nogil:
    """`VERB "name"` for a name that only SQL can have made (PREPARE, DECLARE). w holds at least 192 bytes."""
    cdef size_t at = strlen(verb), i
    if n > NAME_MAX:
        n = NAME_MAX
    memcpy(w, verb, at)
    w[at] = c'"'
    at += 1
    for i in range(n):
        if name[i] == c'"':
            w[at] = c'"'
            at += 1
        w[at] = name[i]
        at += 1
    w[at] = c'"'
    return at + 1


cdef Statement* bound_statement(State* r, Session* s, Named* prepared, const uint8_t* name, size_t n) noexcept nogil:
    """What a Bind of this name would run, judged in the session's present context; NULL: parked."""
    cdef uint8_t text[192]
    cdef Statement* x
    if prepared == NULL or (prepared.stale and prepared.stmt.action == ACTION_ALLOW):
        return judge(r, s, c'P', text, synthetic(text, "EXECUTE ", name, n), NULL, 0)
    x = prepared.stmt
    if x.ctx == s.ctx:
        return x
    x = judge(r, s, c'P', x.text, x.text_len, x.types, x.types_len)
    if x != NULL:
        statement_release(prepared.stmt)
        prepared.stmt = x
        x.refs += 1
        if x == s.granted:
            granted_clear(s)
    return x


cdef int front_bind(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* end = p + total
    cdef const uint8_t* portal_nul = cstring_end(p + 5, end)
    cdef const uint8_t* name_nul = cstring_end(portal_nul + 1, end) if portal_nul != NULL else NULL
    cdef Named* prepared
    cdef Named* portal
    cdef Statement* x
    cdef Reply* e
    cdef uint64_t seq
    if name_nul == NULL:
        return complain(r, s, c'B', "08P01", "invalid message format")
    prepared = names_find(&s.statements, portal_nul + 1, name_nul - portal_nul - 1)
    x = s.granted if s.granted != NULL and s.granted_kind == c'B' else bound_statement(
        r, s, prepared, portal_nul + 1, name_nul - portal_nul - 1)
    if x == NULL:
        return STEP_WAIT
    if x.action == ACTION_ASK:
        count(r, C_ASK, 1)
        park(r, s, c'B', x, p + 5, total - 5)
        return STEP_WAIT
    if not journal_ready(r, s, 2 * definition_size(r, x) + total + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_BIND, x, p + 5, total - 5, NULL, 0)
    if x.action != ACTION_ALLOW:
        count(r, C_STATEMENTS, 1)
        return refuse_extended(r, s, x, <const uint8_t*>"hoopfast_refused", 16, seq)
    portal = named_new(p + 5, portal_nul - p - 5, x)
    if portal != NULL and context_masked(s.ctx) and bind_formats(portal, name_nul + 1, end) < 0:
        named_release(portal)
        return complain(r, s, c'B', "08P01", "invalid message format")
    e = reply_push(s, REPLY_BIND, FOR_CLIENT, x, portal)
    if portal == NULL or e == NULL or names_put(&s.portals, portal) < 0:
        named_release(portal)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    portal.bind_seq = seq
    if prepared != NULL and not prepared.stale:
        portal.prepared = prepared
        prepared.refs += 1
    named_release(portal)
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_named(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """Describe and Close: a letter (statement or portal) and a name."""
    cdef const uint8_t* nul = cstring_end(p + 6, p + total) if total > 6 else NULL
    cdef Named* x
    cdef uint8_t kind = REPLY_CLOSE
    if nul == NULL or nul != p + total - 1 or (p[5] != c'S' and p[5] != c'P'):
        return complain(r, s, p[0], "08P01", "invalid message format")
    x = names_find(&s.statements if p[5] == c'S' else &s.portals, p + 6, nul - p - 6)
    if p[0] == c'D':
        kind = REPLY_DESCRIBE_STATEMENT if p[5] == c'S' else REPLY_DESCRIBE_PORTAL
        if x != NULL:
            x.describe_sent = True
    if reply_push(s, kind, FOR_CLIENT, NULL, x) == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int describe_first(State* r, Session* s, Named* portal) noexcept nogil:
    """Rows of a touched statement need a row description; when nobody asked for one, we do. -1: memory is short."""
    cdef size_t total = 7 + portal.name_len
    cdef uint8_t* w
    if portal.described or portal.describe_sent:
        return 0
    if portal.prepared != NULL and (portal.prepared.described or portal.prepared.describe_sent):
        return 0
    w = arena_take(r, s, total)
    if w == NULL or reply_push(s, REPLY_DESCRIBE_PORTAL, FOR_US, NULL, portal) == NULL:
        return -1
    portal.describe_sent = True
    w[0] = c'D'
    hf_put_be32(w + 1, <uint32_t>(total - 1))
    w[5] = c'P'
    memcpy(w + 6, portal.name, portal.name_len)
    w[total - 1] = 0
    to_upstream(r, s, w, total)
    return 0


cdef int front_execute(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* nul = cstring_end(p + 5, p + total)
    cdef Named* portal
    cdef Statement* x
    cdef Reply* e
    cdef uint64_t seq
    cdef uint8_t head[12]
    cdef uint8_t text[192]
    if nul == NULL or p + total - nul != 5:
        return complain(r, s, c'E', "08P01", "invalid message format")
    portal = names_find(&s.portals, p + 5, nul - p - 5)
    if portal != NULL and portal.stale and portal.stmt.action == ACTION_ALLOW:
        portal = NULL
    x = portal.stmt if portal != NULL else judge(
        r, s, c'P', text, synthetic(text, "FETCH FROM ", p + 5, nul - p - 5), NULL, 0)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + x.error_len + total + 1024):
        return STEP_WAIT
    (<uint64_t*>head)[0] = portal.bind_seq if portal != NULL else 0
    (<uint32_t*>(head + 8))[0] = hf_be32(nul + 1)
    seq = put_use(r, s, KIND_EXECUTE, x, head, 12, p + 5, nul - p - 4)
    count(r, C_STATEMENTS, 1)
    if x.action != ACTION_ALLOW:
        return refuse_extended(r, s, x, <const uint8_t*>"hoopfast_refused", 16, seq)
    if portal != NULL:
        portal.refs += 1
    else:
        portal = named_new(p + 5, nul - p - 5, x)
    if portal == NULL or (x.flags & FLAG_TOUCHED and context_masked(s.ctx) and describe_first(r, s, portal) < 0):
        named_release(portal)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    e = reply_push(s, REPLY_EXECUTE, FOR_CLIENT, x, portal)
    named_release(portal)
    if e == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    e.seq = seq
    e.started_ns = r.now_ns
    count(r, C_ALLOW, 1)
    if x.flags & FLAG_NAMES:
        names_stale(&s.statements)
        names_stale(&s.portals)
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_function(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef uint8_t text[24]
    cdef Statement* x
    cdef Reply* e
    cdef uint64_t seq
    cdef uint32_t oid, digits
    cdef size_t at = 10
    if total < 5 + 4:
        return complain(r, s, c'F', "08P01", "invalid message format")
    text[0] = 0
    memcpy(text + 1, "function ", 9)
    oid = hf_be32(p + 5)
    digits = 1000000000
    while digits > 1 and oid < digits:
        digits //= 10
    while digits:
        text[at] = <uint8_t>(c'0' + oid // digits % 10)
        at += 1
        digits //= 10
    x = judge(r, s, c'F', text, at, NULL, 0)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + total + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_FUNCTION, x, p + 5, total - 5, NULL, 0)
    count(r, C_STATEMENTS, 1)
    count(r, C_FUNCTIONS, 1)
    if x.action != ACTION_ALLOW:
        return refuse_simple(r, s, x, c'F', seq)
    e = reply_push(s, REPLY_FUNCTION, FOR_CLIENT, x, NULL)
    if e == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    e.seq = seq
    e.started_ns = r.now_ns
    count(r, C_ALLOW, 1)
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_control(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """Sync, Flush, CopyDone, CopyFail, Terminate."""
    cdef uint8_t type = p[0]
    if type == c'S':
        s.swallow = False
        # During COPY FROM STDIN the server ignores Sync and Flush: this one has no ReadyForQuery.
        if not s.copy_in and reply_push(s, REPLY_SYNC, FOR_CLIENT, NULL, NULL) == NULL:
            end_session(r, s, "53200", "the gateway is out of memory", "protocol")
            return STEP_DONE
    elif type == c'X':
        s.terminated = True
    elif s.swallow:
        return STEP_DONE
    elif type == c'c' or type == c'f':
        if s.copy_in:
            s.copy_in = False
        elif replies(s) and reply_push(s, REPLY_COPY_END, FOR_CLIENT, NULL, NULL) == NULL:
            end_session(r, s, "53200", "the gateway is out of memory", "protocol")
            return STEP_DONE
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_frame(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """One whole frame: STEP_DONE, or STEP_WAIT when it has to be seen again."""
    cdef uint8_t type = p[0]
    cdef int step
    if type == c'S' or type == c'H' or type == c'X' or type == c'c' or type == c'f':
        return front_control(r, s, p, total)
    if s.swallow:
        return STEP_DONE
    if type == c'Q':
        step = front_query(r, s, p, total)
    elif type == c'P':
        step = front_parse(r, s, p, total)
    elif type == c'B':
        step = front_bind(r, s, p, total)
    elif type == c'E':
        step = front_execute(r, s, p, total)
    elif type == c'F':
        step = front_function(r, s, p, total)
    else:
        step = front_named(r, s, p, total)
    if step == STEP_DONE:
        granted_clear(s)
    return step


cdef int front_oversized(State* r, Session* s, uint8_t type, size_t total) noexcept nogil:
    """A message larger than we look into is refused without being stored; its bytes are dropped as they come."""
    if not s.swallow and complain(r, s, type, "54000", "the message is larger than the gateway's limit") == STEP_WAIT:
        return STEP_WAIT
    s.client.drop_left = total
    return STEP_DONE


cdef size_t front_feed(State* r, Session* s, const uint8_t* p, size_t n) noexcept nogil:
    """Handle client bytes; returns how many were taken. The rest waits in client.pending."""
    cdef Leg* leg = &s.client
    cdef size_t at = 0, total = 0, k
    cdef uint8_t take
    leg.need = 0
    while at < n and not s.closing and not s.parked and not s.journal_wait and not s.upstream.broken:
        if leg.pass_left or leg.drop_left:
            k = n - at
            if leg.pass_left:
                k = k if k < leg.pass_left else leg.pass_left
                to_upstream(r, s, p + at, k)
                leg.pass_left -= k
            else:
                k = k if k < leg.drop_left else leg.drop_left
                leg.drop_left -= k
            at += k
            continue
        if s.terminated:
            at = n
            break
        take = FRONTEND_TAKE[p[at]]
        if take == TAKE_NEVER:
            end_session(r, s, "08P01", "invalid frontend message type", "protocol")
            break
        if n - at < 5:
            break
        if frame_length(p + at, 0x3FFFFFFF, &total) < 0 or (take == TAKE_EMPTY and total != 5):
            end_session(r, s, "08P01", "invalid message length", "protocol")
            break
        if take == TAKE_STREAM:
            if s.swallow:
                leg.drop_left = total
            else:
                leg.pass_left = total
                if s.copy_in and replies(s):
                    reply_head(s).copied += total - 5
            continue
        if total > (r.statement_max if p[at] == c'Q' or p[at] == c'P' else r.message_max) + 1024:
            if front_oversized(r, s, p[at], total) == STEP_WAIT:
                break
            continue
        if n - at < total:
            leg.need = total
            break
        if front_frame(r, s, p + at, total) == STEP_WAIT:
            break
        at += total
    return at
