# Upstream bytes -> client. Every frame is matched with the head of the reply queue, the only order there is.


cdef const char* AMBIGUOUS[8]
AMBIGUOUS[0] = "SJIS"
AMBIGUOUS[1] = "SHIFT_JIS_2004"
AMBIGUOUS[2] = "BIG5"
AMBIGUOUS[3] = "GBK"
AMBIGUOUS[4] = "UHC"
AMBIGUOUS[5] = "GB18030"
AMBIGUOUS[6] = "JOHAB"
AMBIGUOUS[7] = NULL


cdef bint harmless_class(const uint8_t* c) noexcept nogil:
    """SQLSTATE classes whose messages name objects and states, never values of rows."""
    cdef const char* classes = "425755405308252634350A3D3F"
    cdef int i = 0
    while classes[i]:
        if classes[i] == c[0] and classes[i + 1] == c[1]:
            return True
        i += 2
    return False


cdef int scrubbed_error(State* r, Session* s, const uint8_t* p, size_t total, bint strict, const uint8_t** out, size_t* out_len) noexcept nogil:
    """A canonical ErrorResponse in the arena: severity, SQLSTATE, and a message without values. -1: memory is short.

    `strict`: the SQLSTATE is replaced as well. Without a context (W) no code was running, so nothing RAISEd the error: what
    RAISE says can be anything under any SQLSTATE.
    """
    cdef size_t n = 0, at = 5
    cdef const uint8_t* f
    cdef uint8_t* w = arena_take(r, s, total + 160)
    cdef const char* withheld = "error text withheld: the statement touches masked columns"
    cdef const char* keep = "SVCMP"
    cdef bint harmless, known
    cdef int i
    if w == NULL:
        return -1
    f = error_field(p, total, c'C', &n)
    known = f != NULL and n == 5 and known_code(f) and (not strict or harmless_class(f))
    harmless = known and harmless_class(f) and error_field(p, total, c'W', &n) == NULL
    w[0] = c'E'
    for i in range(5):
        f = error_field(p, total, <uint8_t>keep[i], &n)
        if keep[i] == c'M' and not harmless:
            f = <const uint8_t*>withheld
            n = strlen(withheld)
        if keep[i] == c'C' and not known:
            f = <const uint8_t*>"P0001"
            n = 5
        if f == NULL or (keep[i] == c'P' and not harmless):
            continue
        w[at] = <uint8_t>keep[i]
        memcpy(w + at + 1, f, n)
        w[at + 1 + n] = 0
        at += n + 2
    w[at] = 0
    at += 1
    hf_put_be32(w + 1, <uint32_t>(at - 1))
    count(r, C_SCRUBBED, 1)
    out[0] = w
    out_len[0] = at
    return 0


cdef void drop_to_sync(State* r, Session* s) noexcept nogil:
    """An extended-protocol error: the server answers nothing before the next Sync. Names entered since are taken back."""
    cdef uint32_t last = s.head, i
    cdef Reply* e
    while last != s.tail and reply_at(s, last).kind != REPLY_SYNC:
        last += 1
    i = last
    while i != s.head:
        i -= 1
        e = reply_at(s, i)
        if e.kind == REPLY_PARSE and e.named != NULL:
            names_remove(&s.statements, e.named)
        elif e.kind == REPLY_BIND and e.named != NULL:
            names_remove(&s.portals, e.named)
        elif (e.kind == REPLY_DESCRIBE_STATEMENT or e.kind == REPLY_DESCRIBE_PORTAL) and e.named != NULL:
            e.named.describe_sent = False
        if i != s.head and e.seq and (e.kind == REPLY_EXECUTE or e.kind == REPLY_QUERY or e.kind == REPLY_FUNCTION):
            put_outcome(r, s, e, c'K')
    s.side = SIDE_AFTER[ERROR_BEFORE_SYNC if last == s.tail else ERROR_BEHIND_SYNC][s.side]
    while s.head != s.tail and s.head != last:
        reply_clear(s, reply_at(s, s.head))
        s.head += 1


cdef void probe_done(State* r, Session* s) noexcept nogil:
    cdef Message* m = message_new(EVENT_PROBE, s.id)
    if m == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return
    m.serial = s.probe_serial
    m.x = s.probe
    memset(&s.probe, 0, sizeof(Buffer))
    s.probing = False
    post(r, m)


cdef void back_error(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef Reply* e = reply_head(s)
    cdef const uint8_t* out = p
    cdef size_t out_len = total, n = 0
    cdef Statement* x
    cdef const uint8_t* f = error_field(p, total, c'V', &n)
    if f != NULL and n == 5 and (memcmp(f, b"FATAL", 5) == 0 or memcmp(f, b"PANIC", 5) == 0):
        s.upstream_fatal = True
    if e == NULL:
        to_client(r, s, p, total)
        aside(r, s, p, total)
        return
    if e.whom == FOR_PROBE:
        if buffer_put(&s.probe, p, total) < 0:
            s.client.broken = True
        drop_to_sync(r, s)
        s.side = SIDE_OPEN
        if not s.probe_to_sync:
            # The server now skips to the client's Sync, as it would have done for the statement itself.
            s.probe_failed = True
            probe_done(r, s)
        return
    if e.whom == FOR_REFUSAL:
        out = e.stmt.error
        out_len = e.stmt.error_len
    elif context_masked(s.ctx) or (e.stmt != NULL and context_masked(e.stmt.ctx)):
        f = error_field(p, total, c'C', &n)
        if withheld(s, e) or f == NULL or n != 5:
            if scrubbed_error(r, s, p, total, e.stmt != NULL and e.stmt.flags & FLAG_STRICT != 0, &out, &out_len) < 0:
                s.client.broken = True
                return
    if e.whom == FOR_REFUSAL and e.refused:
        return
    x = strictest_limit(s) if e.limited else NULL
    if x != NULL and x.error_len:
        f = error_field(p, total, c'C', &n)
        if f != NULL and n == 5 and memcmp(f, b"57014", 5) == 0:
            out = x.error               # cancelled by us: it says by which rule
            out_len = x.error_len
    to_client(r, s, out, out_len)
    if e.limited:
        flush_session(r, s)             # as below
    keep_error(e, out, out_len)
    if e.kind == REPLY_QUERY or e.kind == REPLY_FUNCTION or e.kind == REPLY_SYNC:
        e.refused = 1
        return
    if e.whom == FOR_REFUSAL:
        # The arena copy: the entry's statement may be freed with it before the gather is flushed.
        flush_session(r, s)
    capture_flush(r, s)
    if e.kind == REPLY_EXECUTE or e.kind == REPLY_PARSE or e.kind == REPLY_BIND:
        put_outcome(r, s, e, c'E')
    elif e.kind == REPLY_DESCRIBE_PORTAL and e.whom == FOR_US and s.head + 1 != s.tail:
        put_outcome(r, s, reply_at(s, s.head + 1), c'E')
    drop_to_sync(r, s)


cdef void raise_catalog(State* r, Session* s, const Statement* x) noexcept nogil:
    cdef Message* m
    if x != NULL and x.flags & FLAG_CATALOG:
        m = message_new(EVENT_CATALOG, s.id)
        post(r, m)


cdef int back_complete(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """CommandComplete, EmptyQueryResponse, PortalSuspended. -1: does not fit the queue."""
    cdef uint8_t how = c'C'
    if e.whom != FOR_CLIENT:
        return -1
    if restricted(s, e.stmt):
        s.deferring = True
    if e.stmt.flags & FLAG_SETTLES:
        s.settled = True
    to_client(r, s, p, total)
    if p[0] == c'C' and total > 6:
        command_tag(e, p, total)
        copied_rows(e, p, total)
    if e.kind == REPLY_QUERY:
        plan_release(e.plan)
        e.plan = NULL
        e.copy_state = 0
        return 0
    if p[0] == c's':
        how = c'S'
    capture_flush(r, s)
    put_outcome(r, s, e, how)
    raise_catalog(r, s, e.stmt)
    reply_pop(s)
    return 0


cdef void maybe_kill(State* r, Session* s) noexcept nogil:
    """An idle session that was told to end does so now."""
    cdef uint8_t* w
    if not s.kill_when_idle or s.parked or replies(s) or s.status != c'I' or s.upstream.pass_left:
        return
    w = arena_take(r, s, buffer_used(&s.kill_frame))
    if w != NULL:
        memcpy(w, s.kill_frame.data + s.kill_frame.start, buffer_used(&s.kill_frame))
        to_client(r, s, w, buffer_used(&s.kill_frame))
    session_close(r, s, "killed")


cdef void transaction_status(State* r, Session* s, uint8_t status) noexcept nogil:
    s.status = status
    s.settled = False
    if status == c'I':
        s.deferring = False
    s.last_active_ns = r.now_ns


cdef int back_spare_ready(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """After a failed COPY the Syncs behind the error are answered, and only the server knows which these are."""
    if total != 6 or s.spare_syncs == 0:
        return -1
    s.spare_syncs -= 1
    s.side = SIDE_AFTER[SYNC_AFTER_ALL][s.side]
    transaction_status(r, s, p[5])
    to_client(r, s, p, total)
    return 0


cdef int back_ready(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    if total != 6:
        return -1
    transaction_status(r, s, p[5])
    if e.whom == FOR_PROBE:
        reply_pop(s)
        probe_done(r, s)
        return 0
    if e.whom == FOR_REFUSAL and not e.refused:
        return -1
    to_client(r, s, p, total)
    if e.kind != REPLY_SYNC:
        capture_flush(r, s)
        put_outcome(r, s, e, c'C' if e.state == REPLY_QUERY_COMPLETE or e.state == REPLY_FUNCTION_COMPLETE else c'E')
        raise_catalog(r, s, e.stmt)
        if e.whom == FOR_REFUSAL:
            flush_session(r, s)
    count(r, C_TRANSACTIONS, 1)
    reply_pop(s)
    if s.status == c'I' and s.portals.count > 4:
        names_sweep(&s.portals)
    if not replies(s):
        replies_shrink(s)
    if s.kill_when_idle:
        maybe_kill(r, s)
    return 0


cdef int back_copy_start(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """CopyInResponse, CopyOutResponse. -1: does not fit."""
    cdef uint32_t i
    cdef Reply* later
    if e.whom != FOR_CLIENT:
        return -1
    if p[0] == c'H':
        if context_masked(e.stmt.ctx) and e.stmt.flags & FLAG_TOUCHED and e.stmt.copy == NULL:
            return -1
        e.copy_state = 0
        to_client(r, s, p, total)
        return 0
    i = s.head + 1
    while i != s.tail:
        later = reply_at(s, i)
        if later.kind == REPLY_COPY_END:
            break                       # the client was ahead of us and has already ended its data
        if later.kind == REPLY_SYNC:
            later.kind = REPLY_COPY_SYNC
            later.rows = 1
        i += 1
    if i == s.tail:
        s.side = SIDE_AFTER[COPY_BEGINS][s.side]
    to_client(r, s, p, total)
    return 0


cdef bint ambiguous_encoding(const uint8_t* name, size_t n) noexcept nogil:
    """Client encodings in which an ASCII byte may be the second half of a character."""
    cdef const char** each = &AMBIGUOUS[0]
    while each[0] != NULL:
        if strlen(each[0]) == n and memcmp(each[0], name, n) == 0:
            return True
        each += 1
    return False


cdef int back_parameter(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """ParameterStatus. Server and gateway must agree on where a literal ends, or a rule or a mask could be talked past:
    standard_conforming_strings stays on and client_encoding ASCII-safe; UTF8 where columns are masked."""
    cdef const uint8_t* name_nul = cstring_end(p + 5, p + total)
    cdef const uint8_t* value
    cdef const uint8_t* value_nul
    cdef size_t n
    cdef bint reads = True
    if name_nul == NULL:
        return -1
    value = name_nul + 1
    value_nul = cstring_end(value, p + total)
    if value_nul == NULL:
        return -1
    n = value_nul - value
    if name_nul - p - 5 == 27 and memcmp(p + 5, b"standard_conforming_strings", 27) == 0:
        reads = n == 2 and memcmp(value, b"on", 2) == 0
    elif name_nul - p - 5 == 15 and memcmp(p + 5, b"client_encoding", 15) == 0:
        reads = not ambiguous_encoding(value, n) and (
            not context_masked(s.ctx) or (n == 4 and memcmp(value, b"UTF8", 4) == 0))
    if not reads:
        end_session(r, s, "0A000", "the gateway reads SQL with standard_conforming_strings on and an ASCII-safe "
                    "client_encoding (UTF8 where columns are masked): this session was ended", "protocol")
        return 0
    to_client(r, s, p, total)
    return 0


cdef const uint8_t* as_tables(State* r, Session* s, const Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """A well-formed RowDescription in which columns of masking views are those of the tables they stand for. NULL: memory."""
    cdef const Statement* x = e.stmt if e.named == NULL else e.named.stmt
    cdef const Context* ctx = x.ctx if x != NULL else s.ctx
    cdef const uint8_t* nul
    cdef uint8_t* w
    cdef uint64_t column
    cdef size_t at = 7
    cdef uint16_t i
    if ctx.alias_room == 0:
        return p
    w = arena_take(r, s, total)
    if w == NULL:
        return NULL
    memcpy(w, p, total)
    for i in range(hf_be16(p + 5)):
        nul = cstring_end(w + at, w + total)
        if nul == NULL or w + total - nul - 1 < 18:
            return NULL                 # described() has read it already
        at = nul + 1 - w
        column = context_unalias(ctx, hf_be32(w + at), hf_be16(w + at + 4))
        if column:
            hf_put_be32(w + at, <uint32_t>(column >> 16))
            hf_put_be16(w + at + 4, <uint16_t>column)
        at += 18
    return w


cdef int back_describe(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """RowDescription, NoData, ParameterDescription. -1: does not fit (or the session was ended)."""
    cdef uint8_t type = p[0]
    cdef const Named* portal        # to compare with: what it points to may be gone
    if e.kind == REPLY_QUERY:
        if e.whom != FOR_CLIENT:
            return -1
        if described(r, s, e, p, total) < 0:
            return 0
        p = as_tables(r, s, e, p, total)
        if p == NULL:
            return -1
        to_client(r, s, p, total)
        capture_add(r, s, e, p, total)
        return 0
    if type == c'T' and described(r, s, e, p, total) < 0:
        return 0
    if type == c'n' and e.named != NULL and not doubtful(e.named):
        e.named.described = True
        described_for_all(e.named)
    if e.whom == FOR_CLIENT:
        if type == c'T':
            p = as_tables(r, s, e, p, total)
            if p == NULL:
                return -1
        to_client(r, s, p, total)
    elif e.whom == FOR_PROBE and buffer_put(&s.probe, p, total) < 0:
        return -1
    if e.kind == REPLY_DESCRIBE_STATEMENT and e.whom == FOR_CLIENT and e.named != NULL and e.named.stmt != NULL:
        if type == c't' and total > 7 or type == c'T' and s.capture_max:
            put_described(r, s, e.named.stmt, p, total)
    if type != c't':
        portal = e.named
        reply_pop(s)
        e = reply_head(s)
        if type == c'T' and portal != NULL and e != NULL and e.kind == REPLY_EXECUTE and e.named == portal:
            capture_add(r, s, e, p, total)      # the columns of the rows that follow
    return 0


cdef int back_settled(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """ParseComplete, BindComplete, CloseComplete."""
    cdef bint probe_ends
    if e.whom == FOR_REFUSAL:
        return -1
    if e.named != NULL:
        if e.kind == REPLY_CLOSE:
            names_remove(&s.statements, e.named)
            names_remove(&s.portals, e.named)
        else:
            names_settle(e.named)
    if e.whom == FOR_CLIENT:
        to_client(r, s, p, total)
    probe_ends = e.whom == FOR_PROBE and e.kind == REPLY_CLOSE and not s.probe_to_sync
    reply_pop(s)
    if probe_ends:
        probe_done(r, s)
    return 0


cdef int back_frame(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """One whole frame; -1 when it fits neither the protocol nor the queue."""
    cdef uint8_t type = p[0]
    cdef Reply* e = reply_head(s)
    cdef uint8_t state = e.state if e != NULL else <uint8_t>REPLY_IDLE
    cdef uint8_t following = REPLY_NEXT[state][type]
    if type == c'N' and e != NULL and (withheld(s, e) or e.whom == FOR_REFUSAL):
        count(r, C_SCRUBBED, 1)
        return 0
    if type == c'N' or type == c'A':
        to_client(r, s, p, total)
        if type == c'A':
            aside(r, s, p, total)
        return 0
    if type == c'S':
        return back_parameter(r, s, p, total)
    if type == c'Z':
        return back_ready(r, s, e, p, total) if following == REPLY_DONE else back_spare_ready(r, s, p, total)
    if following == REPLY_NEVER:
        return -1
    # It answers something: every Sync before that has been answered.
    s.spare_syncs = 0
    if state == REPLY_QUERY_COPY_IN or state == REPLY_EXECUTE_COPY_IN:
        copy_over(s, type == c'E')
    if e != NULL and following < REPLIES:
        e.state = following
    if type == c'C' or type == c'I' or type == c's':
        return back_complete(r, s, e, p, total)
    if type == c'1' or type == c'2' or type == c'3':
        return back_settled(r, s, e, p, total)
    if type == c'T' or type == c'n' or type == c't':
        return back_describe(r, s, e, p, total)
    if type == c'E':
        back_error(r, s, p, total)
        return 0
    if type == c'G' or type == c'H':
        return back_copy_start(r, s, e, p, total)
    to_client(r, s, p, total)           # CopyDone
    return 0


cdef int back_stream(State* r, Session* s, const uint8_t* p, size_t n, size_t total, size_t* taken) noexcept nogil:
    """DataRow, CopyData, FunctionCallResponse at p (n bytes there). 1 taken, 0 wait for all of it, -1 does not fit."""
    cdef Reply* e = reply_head(s)
    cdef uint8_t type = p[0]
    cdef size_t k
    if e == NULL or e.whom != FOR_CLIENT or REPLY_NEXT[e.state][type] == REPLY_NEVER:
        return -1
    e.state = REPLY_NEXT[e.state][type]
    s.spare_syncs = 0
    if not e.first_ns:
        e.first_ns = r.now_ns
    if type == c'D':
        if e.plan == NULL and context_masked(e.stmt.ctx):
            if e.kind == REPLY_EXECUTE and rows_known(e):
                e.plan = rows_plan(s, e)
                if e.plan != NULL:
                    e.plan.refs += 1
            # Never described, or described as having no rows: there is no plan, so there may be no row.
            if e.plan == NULL and e.stmt.flags & FLAG_TOUCHED:
                return -1
        if e.plan != NULL and e.plan.n_items:
            if total > r.row_max:
                end_session(r, s, "54000", "a row with masked columns is larger than the gateway's limit", "protocol")
                return 0
            if n < total:
                return 0
            e.rows += 1
            taken[0] = total
            masked_row(r, s, e, p, total)
            return 1
        e.rows += 1
    elif type == c'd':
        e.copy_frames += 1
        if e.stmt.copy != NULL:
            if total > r.row_max:
                end_session(r, s, "54000", "a row with masked columns is larger than the gateway's limit", "protocol")
                return 0
            if n < total:
                return 0
            e.rows += 1
            taken[0] = total
            masked_copy(r, s, e, p, total)
            return 1
        e.rows += 1
    k = total if total < n else n
    e.bytes += total
    to_client(r, s, p, k)
    capture_add(r, s, e, p, k)
    s.upstream.pass_left = total - k
    taken[0] = k
    return 1


cdef void put_injected(State* r, Session* s) noexcept nogil:
    """Frames of ours (approval notices) go between two messages."""
    cdef size_t n = buffer_used(&s.inject)
    cdef uint8_t* w
    if n == 0 or s.upstream.pass_left:
        return
    w = arena_take(r, s, n)
    if w == NULL:
        return
    memcpy(w, s.inject.data + s.inject.start, n)
    buffer_free(&s.inject)
    to_client(r, s, w, n)


cdef size_t back_feed(State* r, Session* s, const uint8_t* p, size_t n) noexcept nogil:
    """Handle upstream bytes; returns how many were taken. The rest waits in upstream.pending."""
    cdef Leg* leg = &s.upstream
    cdef size_t at = 0, total = 0, k
    cdef uint8_t take
    cdef Reply* e
    cdef int got
    leg.need = 0
    while at < n and not s.closing and not s.client.broken:
        if leg.pass_left:
            k = n - at if n - at < leg.pass_left else leg.pass_left
            to_client(r, s, p + at, k)
            e = reply_head(s)
            if e != NULL:
                capture_add(r, s, e, p + at, k)
            leg.pass_left -= k
            at += k
            continue
        if buffer_used(&s.inject):
            put_injected(r, s)
        if n - at < 5:
            break
        take = BACKEND_TAKE[p[at]]
        if take == TAKE_NEVER or frame_length(p + at, 0x40000000, &total) < 0:
            contradiction(r, s)
            break
        if take == TAKE_STREAM:
            k = 0
            got = back_stream(r, s, p + at, n - at, total, &k)
            if got < 0:
                contradiction(r, s)
                break
            if got == 0:
                leg.need = total
                break
            at += k
            continue
        if total > r.row_max:
            contradiction(r, s)
            break
        if n - at < total:
            leg.need = total
            break
        if back_frame(r, s, p + at, total) < 0:
            contradiction(r, s)
            break
        at += total
    if buffer_used(&s.inject) and not leg.pass_left and not s.closing:
        put_injected(r, s)
    return at
