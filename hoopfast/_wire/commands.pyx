# What the front asks of the relay: adopt, decide, probe, notice, cancel, kill, contexts, segments.

cdef void adopt(State* r, Message* m) noexcept nogil:
    cdef Adoption* a = <Adoption*>m.p
    cdef Session* s = NULL
    cdef Context* c = r.contexts
    cdef uint64_t bucket
    cdef Message* gone
    while c != NULL and c.id != <uint64_t>m.c:
        c = c.next
    if c != NULL:
        s = <Session*>calloc(1, sizeof(Session))
    if s == NULL:
        if a.client_ssl != NULL:
            SSL_free(a.client_ssl)
        if a.upstream_ssl != NULL:
            SSL_free(a.upstream_ssl)
        c_close(<int>m.a)
        c_close(<int>m.b)
        buffer_free(&a.from_upstream)
        free(a)
        gone = message_new(EVENT_CLOSED, m.session)
        if gone != NULL:
            gone.p = <void*><const char*>"protocol"
            post(r, gone)
        return
    s.id = m.session
    s.ctx = c
    c.refs += 1
    s.status = a.status
    s.capture_max = a.capture_max
    s.client.fd = <int>m.a
    s.client.ssl = a.client_ssl
    s.client.is_client = True
    s.upstream.fd = <int>m.b
    s.upstream.ssl = a.upstream_ssl
    s.client.session = s.upstream.session = s
    s.client.readable = s.upstream.readable = True
    s.client.retry = s.upstream.retry = True
    s.client.pending = m.z
    s.upstream.pending = a.from_upstream
    s.client.out = m.y
    s.last_active_ns = r.now_ns
    memset(&m.y, 0, sizeof(Buffer))
    memset(&m.z, 0, sizeof(Buffer))
    free(a)
    bucket = hf_hash(&s.id, 8, 0) & (SESSION_BUCKETS - 1)
    s.hash_next = r.sessions[bucket]
    r.sessions[bucket] = s
    s.all_next = r.all
    if r.all != NULL:
        r.all.all_prev = s
    r.all = s
    r.n_sessions += 1
    count(r, C_SESSIONS_OPEN, 1)
    count(r, C_SESSIONS_TOTAL, 1)
    s.start_record = m.x
    memset(&m.x, 0, sizeof(Buffer))
    if not leg_watch(r, &s.client) or not leg_watch(r, &s.upstream):
        s.client.broken = True          # no event would ever come
    ready(r, s)


cdef void decide(State* r, Session* s, Message* m) noexcept nogil:
    """The answer to EVENT_VERDICT: z holds label, error and copy plan, their lengths in Decided."""
    cdef Decided* d = <Decided*>m.p
    cdef Statement* x = s.parked_stmt
    if not s.parked or s.serial != m.serial or x == NULL or s.closing:
        return
    if s.parked_kind == c'B':
        # Parameters were shown: this answer is for this Bind only.
        x = statement_new(&r.cache, s.parked_stmt.ctx, c'P', s.parked_stmt.text, s.parked_stmt.text_len,
                          s.parked_stmt.types, s.parked_stmt.types_len)
        if x == NULL:
            return
        statement_release(s.parked_stmt)
    s.parked_stmt = NULL
    x.action = d.action
    x.flags = d.flags
    x.zero_origin = d.zero_origin
    x.limit_ns = d.limit_ns
    x.label = copy_bytes(m.x.data, buffer_used(&m.x))
    x.label_len = buffer_used(&m.x)
    x.error = copy_bytes(m.y.data, buffer_used(&m.y))
    x.error_len = buffer_used(&m.y)
    if buffer_used(&m.z):
        x.copy = copy_plan_unpack(m.z.data + m.z.start, buffer_used(&m.z))
        if x.copy == NULL:
            x.action = 0
    if buffer_used(&d.sent):
        x.sent = copy_bytes(d.sent.data + d.sent.start, buffer_used(&d.sent))
        x.sent_types = copy_bytes(d.sent_types.data + d.sent_types.start, buffer_used(&d.sent_types))
        x.sent_len = buffer_used(&d.sent)
        x.sent_types_len = buffer_used(&d.sent_types)
        if x.sent == NULL or x.sent_types == NULL:
            # The client's own text must not run in its place.
            x.action = 0
    if x.label == NULL or x.error == NULL or (x.action == ACTION_DENY and x.error_len < 6):
        x.action = 0
    if x.action == 0:
        # No usable verdict: refused with an error of our own.
        statement_release(x)
        x = complaint(r, s, "XX000", "the gateway could not judge this statement")
        if x == NULL:
            session_close(r, s, "protocol")
            return
    elif d.cache and s.parked_kind != c'B':
        if x.action != ACTION_ALLOW or x.copy != NULL or x.limit_ns or x.sent != NULL or not template_add(
                &r.cache, r.lexed, r.lexed_key, x, <const uint32_t*>(d.free_at.data + d.free_at.start),
                buffer_used(&d.free_at) // 4):
            cache_add(&r.cache, x)
    granted_clear(s)
    s.granted = x
    s.granted_kind = s.parked_kind
    s.parked = s.held = False
    count(r, C_PARKED, <uint64_t>-1)
    s.client.retry = True
    ready(r, s)


cdef void probe(State* r, Session* s, Message* m) noexcept nogil:
    """Describe a text on this session's upstream: Parse, Describe, Close and Sync (Flush inside a pipeline)."""
    cdef size_t n = buffer_used(&m.x), t = buffer_used(&m.y), at = 0, name = 15
    cdef bint to_sync = s.parked_kind != c'P'
    cdef uint8_t* w
    if not s.parked or s.serial != m.serial or s.closing or s.probing:
        return
    w = arena_take(r, s, n + t + 128)
    if w == NULL or reply_push(s, REPLY_PARSE, FOR_PROBE, NULL, NULL) == NULL or reply_push(
            s, REPLY_DESCRIBE_STATEMENT, FOR_PROBE, NULL, NULL) == NULL or reply_push(
            s, REPLY_CLOSE, FOR_PROBE, NULL, NULL) == NULL or (
            to_sync and reply_push(s, REPLY_SYNC, FOR_PROBE, NULL, NULL) == NULL):
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return
    s.probing = True
    s.probe_to_sync = to_sync
    s.probe_serial = m.serial
    w[0] = c'P'
    hf_put_be32(w + 1, <uint32_t>(4 + name + n + 1 + 2 + t))
    memcpy(w + 5, b"hoopfast_probe", name)
    memcpy(w + 5 + name, m.x.data + m.x.start, n)
    at = 5 + name + n
    w[at] = 0
    hf_put_be16(w + at + 1, <uint16_t>(t // 4))
    if t:
        memcpy(w + at + 3, m.y.data + m.y.start, t)
    at += 3 + t
    w[at] = c'D'
    hf_put_be32(w + at + 1, <uint32_t>(5 + name))
    w[at + 5] = c'S'
    memcpy(w + at + 6, b"hoopfast_probe", name)
    at += 6 + name
    w[at] = c'C'
    hf_put_be32(w + at + 1, <uint32_t>(5 + name))
    w[at + 5] = c'S'
    memcpy(w + at + 6, b"hoopfast_probe", name)
    at += 6 + name
    w[at] = c'S' if to_sync else c'H'
    hf_put_be32(w + at + 1, 4)
    at += 5
    to_upstream(r, s, w, at)
    flush_session(r, s)
    ready(r, s)


cdef void command_session(State* r, Message* m) noexcept nogil:
    cdef Session* s = session_find(r, m.session)
    cdef Message* answer
    cdef Context* c
    cdef uint32_t length
    if s == NULL or s.dead:
        return
    if m.kind == COMMAND_DECIDE:
        decide(r, s, m)
    elif m.kind == COMMAND_PROBE:
        probe(r, s, m)
    elif m.kind == COMMAND_NOTICE:
        if not s.closing:
            if m.a:                     # the front holds a statement for approval
                count(r, C_ASK, 1)
                s.held = s.parked
            if s.held and s.client.hung:
                s.client.ended = True
            buffer_put(&s.inject, m.x.data + m.x.start, buffer_used(&m.x))
            ready(r, s)
    elif m.kind == COMMAND_NOTE:
        length = <uint32_t>buffer_used(&m.x)
        if not s.closing and buffer_put(&s.notes, &length, 4) == 0 and buffer_put(
                &s.notes, m.x.data + m.x.start, length) == 0:
            put_notes(r, s)
    elif m.kind == COMMAND_CANCEL:
        if replies(s) and not s.closing and not s.parked and not s.cancel_pause:
            s.cancel_pause = True
            count(r, C_CANCELS, 1)
            answer = message_new(EVENT_CANCEL, s.id)
            post(r, answer)
    elif m.kind == COMMAND_CANCEL_DONE:
        s.cancel_pause = False
        s.client.retry = True
        ready(r, s)
    elif m.kind == COMMAND_KILL:
        if s.closing:
            return
        buffer_free(&s.kill_frame)
        s.kill_frame = m.x
        memset(&m.x, 0, sizeof(Buffer))
        s.kill_when_idle = True
        if m.a:
            maybe_kill(r, s)
            flush_session(r, s)
        else:
            kill_now(r, s)
    elif m.kind == COMMAND_SET_CONTEXT:
        c = r.contexts
        while c != NULL and c.id != <uint64_t>m.c:
            c = c.next
        if c == NULL:
            end_session(r, s, "XX000", "the gateway's policy changed in a way that ends this session", "killed")
            return
        context_leave(s.ctx)
        s.ctx = c
        c.refs += 1
        if context_masked(c) and (s.status != c'I' or replies(s)):
            s.deferring = True              # the open transaction may have written what is masked from now on


cdef void kill_now(State* r, Session* s) noexcept nogil:
    cdef uint8_t* w
    if replies(s) and not s.parked:
        post(r, message_new(EVENT_CANCEL, s.id))        # closing alone would let the server run on
    if not s.upstream.pass_left:
        w = arena_take(r, s, buffer_used(&s.kill_frame) + 1)
        if w != NULL:
            memcpy(w, s.kill_frame.data + s.kill_frame.start, buffer_used(&s.kill_frame))
            to_client(r, s, w, buffer_used(&s.kill_frame))
    session_close(r, s, "killed")


cdef void command_segment(State* r, Message* m) noexcept nogil:
    cdef JournalSegment* g = <JournalSegment*>m.p
    cdef JournalSegment** last = &r.journal.spares
    cdef Session* s = r.all
    while last[0] != NULL:
        last = &last[0].next
    g.next = NULL
    last[0] = g
    r.journal.n_spares += 1
    if r.journal.wanted:
        r.journal.wanted -= 1
    if r.journal.current == NULL:
        journal_advance(&r.journal)
        want_segments(r, 0)
    while s != NULL:
        if buffer_used(&s.notes):
            put_notes(r, s)
        if s.journal_wait:
            s.journal_wait = False
            s.client.retry = s.upstream.retry = True
            ready(r, s)
        s = s.all_next


cdef void contexts_sweep(State* r) noexcept nogil:
    cdef Context** at = &r.contexts
    cdef Context* c
    while at[0] != NULL:
        c = at[0]
        if c.dropped and c.refs == 0:
            at[0] = c.next
            context_free(c)
        else:
            at = &c.next


cdef void command(State* r, Message* m) noexcept nogil:
    cdef Context* c
    if m.kind == COMMAND_ADOPT:
        adopt(r, m)
    elif m.kind == COMMAND_SEGMENT:
        command_segment(r, m)
    elif m.kind == COMMAND_CONTEXT:
        c = <Context*>m.p
        c.next = r.contexts
        r.contexts = c
    elif m.kind == COMMAND_LIMITS:
        enforce_limits(r)
    elif m.kind == COMMAND_DROP_CONTEXT:
        c = r.contexts
        while c != NULL and c.id != <uint64_t>m.c:
            c = c.next
        if c != NULL:
            c.dropped = True
            cache_drop_context(&r.cache, c)
    else:
        command_session(r, m)
        if m.kind == COMMAND_DECIDE:
            decided_free(<Decided*>m.p)
    message_free(m)


cdef void commands_take(State* r) noexcept nogil:
    cdef uint64_t drained
    cdef Message* m
    r.woken = False
    c_read(r.wake_fd, &drained, 8)
    while True:
        m = ring_pop(r.commands)
        if m == NULL:
            return
        command(r, m)
