# The relay thread: one epoll set, edge-triggered; sessions with work stand on the ready list; nothing here blocks but
# epoll_wait (and, in durable mode, fdatasync once per batch).

cdef enum:
    EVENTS_PER_WAIT = 256
    TICK_NS = 250000000
    LINGER_NS = 1000000000


cdef inline void ready(State* r, Session* s) noexcept nogil:
    if s.on_ready or s.dead:
        return
    s.on_ready = True
    s.ready_next = NULL
    if r.ready_last != NULL:
        r.ready_last.ready_next = s
    else:
        r.ready_first = s
    r.ready_last = s


cdef void want_segments(State* r, size_t n) noexcept nogil:
    """Ask the front for journal segments: two in reserve, or as many as n bytes need."""
    cdef Message* m
    cdef size_t usable = 65536, need = 2
    if r.journal.current != NULL:
        usable = r.journal.current.size - SEGMENT_HEADER - JOURNAL_SLACK - RECORD_HEADER
    elif r.journal.spares != NULL:
        usable = r.journal.spares.size - SEGMENT_HEADER - JOURNAL_SLACK - RECORD_HEADER
    if n:
        need = 2 + (n + JOURNAL_RESERVE) // usable
    while <size_t>(r.journal.n_spares + r.journal.wanted) < need and r.journal.wanted < 64:
        m = message_new(EVENT_SEGMENT, 0)
        if m == NULL:
            return
        r.journal.wanted += 1
        post(r, m)


# ---------------------------------------------------------------- the end of a session

cdef void session_close(State* r, Session* s, const char* reason) noexcept nogil:
    """Records what is left open, lets the client read what it was sent, then both legs close."""
    cdef Message* m
    cdef uint8_t terminate[5]
    if s.closing:
        return
    flush_session(r, s)
    s.closing = True
    s.close_reason = reason
    if s.parked:
        s.parked = False
        count(r, C_PARKED, <uint64_t>-1)
        m = message_new(EVENT_WITHDRAWN, s.id)
        if m != NULL:
            m.serial = s.serial
            post(r, m)
    while s.head != s.tail:
        if reply_head(s).seq:
            put_outcome(r, s, reply_head(s), c'X')
        reply_pop(s)
    if s.started:
        put_session_end(r, s)
    if not s.terminated and not s.client.pass_left and not buffer_used(&s.upstream.out) and not s.upstream.broken:
        terminate[0] = c'X'
        hf_put_be32(terminate + 1, 4)
        leg_send(&s.upstream, terminate, 5)
    leg_close(r, &s.upstream)
    s.linger_until_ns = r.now_ns + LINGER_NS
    if s.client.ended or s.client.broken:
        s.linger_until_ns = 0
    ready(r, s)


cdef void leg_close(State* r, Leg* leg) noexcept nogil:
    if leg.fd < 0:
        return
    if leg.ssl != NULL:
        ERR_clear_error()
        SSL_shutdown(leg.ssl)
        ERR_clear_error()
        SSL_free(leg.ssl)
        leg.ssl = NULL
    c_epoll_ctl(r.epoll_fd, EPOLL_CTL_DEL, leg.fd, NULL)
    c_close(leg.fd)
    leg.fd = -1
    leg.readable = False
    leg.ended = True


cdef void linger(State* r, Session* s) noexcept nogil:
    """A closing session: hand over what is left, say end of file, wait shortly for the client's own."""
    cdef Leg* leg = &s.client
    cdef int flushed
    cdef ssize_t got
    cdef int rounds
    if s.dead:
        return
    if r.now_ns < s.linger_until_ns and not leg.broken:
        flushed = leg_flush(leg, r.now_ns)
        if flushed == 0:
            return
        if flushed == 1 and not leg.shut:
            leg.shut = True
            if leg.ssl != NULL:
                ERR_clear_error()
                SSL_shutdown(leg.ssl)
                ERR_clear_error()
            c_shutdown(leg.fd, SHUT_WR)
        if flushed == 1:
            for rounds in range(8):
                # Unread input at close would make the kernel send a reset, and the client lose the last error.
                got = c_recv(leg.fd, r.scratch, SCRATCH_BYTES, MSG_DONTWAIT)
                if got <= 0:
                    break
            if got < 0 and (errno == EAGAIN or errno == EINTR):
                return
            if got > 0:
                ready(r, s)
                return
    leg_close(r, leg)
    s.dead = True
    s.dead_next = r.dead
    r.dead = s


cdef void session_free(State* r, Session* s) noexcept nogil:
    cdef Session** at = &r.sessions[hf_hash(&s.id, 8, 0) & (SESSION_BUCKETS - 1)]
    cdef Message* m = message_new(EVENT_CLOSED, s.id)
    while at[0] != NULL and at[0] != s:
        at = &at[0].hash_next
    if at[0] == s:
        at[0] = s.hash_next
    if s.all_prev != NULL:
        s.all_prev.all_next = s.all_next
    else:
        r.all = s.all_next
    if s.all_next != NULL:
        s.all_next.all_prev = s.all_prev
    r.n_sessions -= 1
    count(r, C_SESSIONS_OPEN, <uint64_t>-1)
    if m != NULL:
        m.p = <void*>s.close_reason
        post(r, m)
    while s.head != s.tail:
        reply_pop(s)
    free(s.queue)
    names_free(&s.portals)
    names_free(&s.statements)
    statement_release(s.parked_stmt)
    statement_release(s.granted)
    buffer_free(&s.client.pending)
    buffer_free(&s.client.out)
    buffer_free(&s.upstream.pending)
    buffer_free(&s.upstream.out)
    buffer_free(&s.probe)
    buffer_free(&s.inject)
    buffer_free(&s.kill_frame)
    buffer_free(&s.start_record)
    context_leave(s.ctx)
    free(s)


cdef Session* session_find(State* r, uint64_t id) noexcept nogil:
    cdef Session* s = r.sessions[hf_hash(&id, 8, 0) & (SESSION_BUCKETS - 1)]
    while s != NULL and s.id != id:
        s = s.hash_next
    return s


# ---------------------------------------------------------------- one turn of one session

cdef bint paused(State* r, Session* s, Leg* leg) noexcept nogil:
    """Whether this leg may not be read now. Each direction stands for itself, or two full pipes would deadlock."""
    if s.closing:
        return True
    if leg.is_client:
        return s.parked or s.journal_wait or s.cancel_pause or buffer_used(&s.upstream.out) > 0
    return buffer_used(&s.client.out) > 0


cdef size_t feed(State* r, Session* s, Leg* leg, const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t taken
    if leg.is_client:
        taken = front_feed(r, s, p, n)
    else:
        taken = back_feed(r, s, p, n)
    flush_session(r, s)
    return taken


cdef ssize_t receive(State* r, Session* s, Leg* leg) noexcept nogil:
    """Receive once and handle; bytes received, 0 for nothing now, -1 at the end."""
    cdef size_t used = buffer_used(&leg.pending), taken, room, total
    cdef ssize_t got
    if used > SCRATCH_BYTES // 2 or leg.need > SCRATCH_BYTES:
        # A large message under inspection grows with what arrives, at most doubling.
        room = leg.need - used if leg.need > used else 65536
        if room > used + 65536:
            room = used + 65536
        if buffer_reserve(&leg.pending, room) < 0:
            return -1
        got = leg_recv(leg, leg.pending.data + leg.pending.end, room)
        if got > 0:
            leg.pending.end += got
            if buffer_used(&leg.pending) >= leg.need:
                taken = feed(r, s, leg, leg.pending.data + leg.pending.start, buffer_used(&leg.pending))
                buffer_take(&leg.pending, taken)
                if buffer_used(&leg.pending) == 0:
                    buffer_free(&leg.pending)
        return got
    if used:
        memcpy(r.scratch, leg.pending.data + leg.pending.start, used)
    got = leg_recv(leg, r.scratch + used, SCRATCH_BYTES - used)
    if got <= 0:
        return got
    total = used + got
    taken = feed(r, s, leg, r.scratch, total)
    if taken == total:
        if leg.pending.data != NULL:
            buffer_free(&leg.pending)
        return got
    leg.pending.start = leg.pending.end = 0
    if buffer_put(&leg.pending, r.scratch + taken, total - taken) < 0:
        return -1
    return got


cdef void pump(State* r, Session* s, Leg* leg) noexcept nogil:
    """Read and handle one direction, up to the turn's budget."""
    cdef ssize_t got, budget = TURN_BUDGET
    cdef size_t taken
    while budget > 0 and not s.closing:
        if paused(r, s, leg):
            return
        if not leg.is_client and not journal_fits(&r.journal, 4 * SCRATCH_BYTES, False):
            s.journal_wait = True
            want_segments(r, 4 * SCRATCH_BYTES)
            return
        if leg.retry:
            leg.retry = False
            if buffer_used(&leg.pending):
                taken = feed(r, s, leg, leg.pending.data + leg.pending.start, buffer_used(&leg.pending))
                buffer_take(&leg.pending, taken)
                if buffer_used(&leg.pending) == 0:
                    buffer_free(&leg.pending)
                continue
        if not leg.readable or leg.ended:
            return
        got = receive(r, s, leg)
        if got < 0:
            leg.ended = True
            leg.readable = False
            return
        if got == 0:
            return
        budget -= got
        count(r, C_CLIENT_IN if leg.is_client else C_UPSTREAM_IN, got)
        if leg.is_client:
            s.last_active_ns = r.now_ns
    ready(r, s)


cdef void ended(State* r, Session* s) noexcept nogil:
    """End of file or a broken leg."""
    if s.client.broken:
        session_close(r, s, "client")
        return
    if s.upstream.broken and not s.upstream.ended and not s.upstream.readable:
        s.upstream.ended = True
    if s.upstream.ended and not buffer_used(&s.client.out):
        if not s.terminated and not s.upstream_fatal and not s.client.ended and not buffer_used(&s.upstream.pending):
            end_session(r, s, "08006", "the database server closed the connection", "upstream")
        session_close(r, s, "client" if s.terminated or s.client.ended else "upstream")
        return
    if s.client.ended and not s.upstream.shut and not buffer_used(&s.upstream.out):
        if s.parked or s.probing or s.journal_wait:
            session_close(r, s, "client")
            return
        # As without a gateway: the server finishes what it has, then finds the end of file itself.
        s.upstream.shut = True
        if s.upstream.ssl != NULL:
            session_close(r, s, "client")
            return
        c_shutdown(s.upstream.fd, SHUT_WR)


cdef bint start(State* r, Session* s) noexcept nogil:
    """The first record of a session; until the journal has taken it, no byte moves."""
    cdef Part part
    if not journal_ready(r, s, buffer_used(&s.start_record) + 1024):
        return False
    part.p = s.start_record.data + s.start_record.start
    part.n = buffer_used(&s.start_record)
    s.seq = 1
    put_record(r, s, KIND_SESSION_START, 1, &part, 1)
    buffer_free(&s.start_record)
    s.started = True
    return True


cdef void turn(State* r, Session* s) noexcept nogil:
    if s.closing:
        linger(r, s)
        return
    if not s.started and not start(r, s):
        if s.client.hung:
            session_close(r, s, "client")
        return
    if buffer_used(&s.upstream.out) and not s.on_held and leg_flush(&s.upstream, r.now_ns) < 0:
        s.upstream.broken = True
        buffer_free(&s.upstream.out)
    if buffer_used(&s.client.out) and leg_flush(&s.client, r.now_ns) < 0:
        s.client.broken = True
    if buffer_used(&s.inject) and not s.upstream.pass_left and not buffer_used(&s.client.out):
        put_injected(r, s)
        flush_session(r, s)
    pump(r, s, &s.upstream)
    if not s.closing:
        pump(r, s, &s.client)
    if not s.closing and (s.client.ended or s.upstream.ended or s.client.broken or s.upstream.broken):
        ended(r, s)
    if s.closing:
        linger(r, s)
        return
    # A direction that was paused by the other leg's backlog goes on as soon as that is gone.
    if (s.upstream.readable or s.upstream.retry) and not paused(r, s, &s.upstream) and not s.journal_wait:
        ready(r, s)
    if (s.client.readable or s.client.retry) and not paused(r, s, &s.client):
        ready(r, s)


# ---------------------------------------------------------------- commands

cdef void adopt(State* r, Message* m) noexcept nogil:
    cdef Adoption* a = <Adoption*>m.p
    cdef Session* s = NULL
    cdef Context* c = r.contexts
    cdef epoll_event ev
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
    ev.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | <uint32_t>EPOLLET
    ev.data.ptr = &s.client
    c_epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, s.client.fd, &ev)
    ev.data.ptr = &s.upstream
    c_epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, s.upstream.fd, &ev)
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
    x.label = copy_bytes(m.x.data, buffer_used(&m.x))
    x.label_len = buffer_used(&m.x)
    x.error = copy_bytes(m.y.data, buffer_used(&m.y))
    x.error_len = buffer_used(&m.y)
    if buffer_used(&m.z):
        x.copy = copy_plan_unpack(m.z.data + m.z.start, buffer_used(&m.z))
        if x.copy == NULL:
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
        cache_add(&r.cache, x)
    granted_clear(s)
    s.granted = x
    s.granted_kind = s.parked_kind
    s.parked = False
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
    cdef Part part
    if s == NULL or s.dead:
        return
    if m.kind == COMMAND_DECIDE:
        decide(r, s, m)
    elif m.kind == COMMAND_PROBE:
        probe(r, s, m)
    elif m.kind == COMMAND_NOTICE:
        if not s.closing:
            buffer_put(&s.inject, m.x.data + m.x.start, buffer_used(&m.x))
            ready(r, s)
    elif m.kind == COMMAND_NOTE:
        if s.started and journal_fits(&r.journal, buffer_used(&m.x) + 1024, False):
            part.p = m.x.data + m.x.start
            part.n = buffer_used(&m.x)
            s.seq += 1
            put_record(r, s, KIND_NOTE, s.seq, &part, 1)
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


cdef void kill_now(State* r, Session* s) noexcept nogil:
    cdef uint8_t* w
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
            free(m.p)
    message_free(m)


# ---------------------------------------------------------------- the loop

cdef void tick(State* r) noexcept nogil:
    """Four times a second: stuck readers, lingering clients, contexts nobody uses, the wall clock."""
    cdef Session* s = r.all
    cdef Session* following
    r.wall_offset_ns = hf_clock(CLOCK_REALTIME) - hf_clock(CLOCK_MONOTONIC)
    contexts_sweep(r)
    while s != NULL:
        following = s.all_next
        if s.closing:
            ready(r, s)
        elif s.client.stuck_since_ns and r.now_ns - s.client.stuck_since_ns > r.stall_timeout_ns:
            s.client.broken = True
            session_close(r, s, "timeout")
        elif s.upstream.stuck_since_ns and r.now_ns - s.upstream.stuck_since_ns > r.stall_timeout_ns:
            s.upstream.broken = True
            end_session(r, s, "08006", "the database server does not read what it is sent", "timeout")
            flush_session(r, s)
        s = following


cdef void sync_journal(State* r) noexcept nogil:
    """Durable mode: one fdatasync for the batch, then the held bytes go."""
    cdef JournalSegment* g = r.journal.sealed
    cdef Session* s
    while g != NULL:
        c_fdatasync(g.fd)
        g = g.next
    if r.journal.current != NULL:
        c_fdatasync(r.journal.current.fd)
    r.journal.dirty = False
    r.unsynced = False
    while r.held != NULL:
        s = r.held
        r.held = s.held_next
        s.on_held = False
        if s.dead or s.closing:
            continue
        if leg_flush(&s.upstream, r.now_ns) < 0:
            s.upstream.broken = True
        ready(r, s)


cdef void batch_end(State* r) noexcept nogil:
    cdef JournalSegment* g
    cdef Session* s
    cdef Session* following
    cdef Message* m
    if r.unsynced:
        sync_journal(r)
    while r.journal.sealed != NULL:
        g = r.journal.sealed
        r.journal.sealed = g.next
        m = message_new(EVENT_SEALED, 0)
        if m == NULL:
            segment_free(g)
            continue
        m.p = g
        post(r, m)
    want_segments(r, 0)
    s = r.dead
    r.dead = NULL
    while s != NULL:
        following = s.dead_next
        if s.on_ready or s.on_held:
            s.dead_next = r.dead        # still linked elsewhere: freed after the next pass
            r.dead = s
        else:
            session_free(r, s)
        s = following
    r.counters[C_JOURNAL_RECORDS] = r.journal.records
    r.counters[C_JOURNAL_BYTES] = r.journal.bytes


cdef void leg_event(State* r, Leg* leg, uint32_t events) noexcept nogil:
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        leg.readable = True
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        leg.hung = True
        if leg.is_client and leg.session.parked:
            leg.ended = True            # nobody waits for this verdict any more
    ready(r, leg.session)


cdef void relay_main(State* r) noexcept nogil:
    cdef epoll_event events[256]
    cdef int n, i, timeout
    cdef uint64_t drained
    cdef Session* first
    cdef Session* s
    cdef Message* m
    want_segments(r, 0)
    while not hf_load_acquire64(&r.stopping):
        timeout = 0 if r.ready_first != NULL or r.dead != NULL else 250
        n = c_epoll_wait(r.epoll_fd, events, EVENTS_PER_WAIT, timeout)
        r.now_ns = hf_clock(CLOCK_MONOTONIC)
        count(r, C_WAKEUPS, 1)
        for i in range(n):
            if events[i].data.ptr == NULL:
                c_read(r.wake_fd, &drained, 8)
                while True:
                    m = ring_pop(r.commands)
                    if m == NULL:
                        break
                    command(r, m)
            else:
                leg_event(r, <Leg*>events[i].data.ptr, events[i].events)
        # Sessions that become ready during this pass wait for the next: one busy pair cannot starve the others.
        first = r.ready_first
        r.ready_first = r.ready_last = NULL
        while first != NULL:
            s = first
            first = s.ready_next
            s.on_ready = False
            s.ready_next = NULL
            if not s.dead:
                turn(r, s)
        if r.now_ns >= r.next_tick_ns:
            r.next_tick_ns = r.now_ns + TICK_NS
            tick(r)
        batch_end(r)
