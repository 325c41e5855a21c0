# One session: its turn (read, handle, send, both ways), and its end.

cdef enum:
    LINGER_NS = 1000000000
    REPLIES_MAX = 16384         # awaited at once; more than a server's output buffer keeps back, or both would wait for ever


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


cdef void journal_wait(State* r, Session* s, size_t n) noexcept nogil:
    """There is no room for n bytes: the session stands still until there is, or until its patience ends (tick)."""
    s.journal_wait = True
    if not s.waiting_since_ns:
        s.waiting_since_ns = r.now_ns
    want_segments(r, n)


# ---------------------------------------------------------------- the end of a session

cdef void settle(Session* s) noexcept nogil:
    """What was posted goes now: from here on it matters what is left, and what can no more be sent."""
    if leg_settle(&s.client) < 0:
        s.client.broken = True
    if leg_settle(&s.upstream) < 0:
        s.upstream.broken = True


cdef void session_close(State* r, Session* s, const char* reason) noexcept nogil:
    """Records what is left open, lets the client read what it was sent, then both legs close."""
    cdef Message* m
    cdef uint8_t terminate[5]
    if s.closing:
        return
    flush_session(r, s)
    settle(s)
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
        put_notes(r, s)
        put_session_end(r, s)
    if s.side != SIDE_GONE and not s.client.pass_left and not buffer_used(&s.upstream.out) and not s.upstream.broken:
        terminate[0] = c'X'
        hf_put_be32(terminate + 1, 4)
        leg_send(&s.upstream, terminate, 5)
    leg_close(r, &s.upstream)
    s.linger_until_ns = r.now_ns + LINGER_NS
    # A doomed client is there and may go on sending: a reset would take its last error away.
    if s.client.broken or (s.client.ended and s.doom == NULL):
        s.linger_until_ns = 0
    ready(r, s)


cdef void leg_close(State* r, Leg* leg) noexcept nogil:
    if leg.fd < 0:
        return
    leg_settle(leg)
    if leg.ssl != NULL:
        ERR_clear_error()
        SSL_shutdown(leg.ssl)
        ERR_clear_error()
        SSL_free(leg.ssl)
        leg.ssl = NULL
    leg_unwatch(r, leg)
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
                leg_listen(r, leg, True)
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
    buffer_free(&s.notes)
    context_leave(s.ctx)
    free(s)


cdef Session* session_find(State* r, uint64_t id) noexcept nogil:
    cdef Session* s = r.sessions[hf_hash(&id, 8, 0) & (SESSION_BUCKETS - 1)]
    while s != NULL and s.id != id:
        s = s.hash_next
    return s


# ---------------------------------------------------------------- one turn of one session

cdef bint paused(State* r, Session* s, Leg* leg) noexcept nogil:
    """Whether this leg may not be read now. Each direction stands for itself, or two full pipes would deadlock.

    A client that sends and never reads is held when the answers that it has not taken are too many to remember: five bytes
    of a Sync cost us a whole entry, a query its text."""
    if s.closing:
        return True
    if leg.is_client:
        return (s.parked or s.journal_wait or s.cancel_pause or buffer_used(&s.upstream.out) > 0
                or replies(s) >= REPLIES_MAX or s.awaited > r.message_max // 4)
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
    cdef size_t taken, room = 4 * SCRATCH_BYTES
    while budget > 0 and not s.closing:
        if paused(r, s, leg):
            return
        if not leg.is_client:
            if leg.need > SCRATCH_BYTES:        # a row that is rebuilt whole is recorded whole
                room = 4 * SCRATCH_BYTES + (
                    leg.need if s.capture_max < 0 or leg.need < <size_t>s.capture_max else <size_t>s.capture_max)
            if not journal_fits(&r.journal, room, False):
                journal_wait(r, s, room)
                return
            if not s.journal_wait:
                s.waiting_since_ns = 0
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
        leg.streak += got
        budget -= got if got > RECEIVE_COST_MIN else RECEIVE_COST_MIN
        count(r, C_CLIENT_IN if leg.is_client else C_UPSTREAM_IN, got)
        if leg.is_client:
            s.last_active_ns = r.now_ns
    ready(r, s)


cdef const char* client_end(const Session* s) noexcept nogil:
    """Why a session ends whose client has gone. A C string has no conditional expression in Cython."""
    if s.client.cut and s.side != SIDE_GONE:
        return "client_cut"
    return "client"


cdef const char* upstream_end(const Session* s) noexcept nogil:
    if s.upstream.cut:
        return "upstream_cut"
    return "upstream"


cdef void ended(State* r, Session* s) noexcept nogil:
    """End of file or a broken leg."""
    settle(s)
    if s.client.broken:
        session_close(r, s, client_end(s))
        return
    if s.upstream.broken and not s.upstream.ended and not s.upstream.readable:
        s.upstream.ended = True
    if s.upstream.ended and not buffer_used(&s.client.out):
        if s.doom != NULL and not s.upstream_fatal:
            doomed(r, s)
        if s.side != SIDE_GONE and not s.upstream_fatal and not s.client.ended and not buffer_used(&s.upstream.pending):
            end_session(r, s, "08006", "the database server closed the connection", upstream_end(s))
        if s.side == SIDE_GONE or s.client.ended:
            session_close(r, s, client_end(s))
        else:
            session_close(r, s, upstream_end(s))
        return
    if s.client.ended and not s.upstream.shut and not buffer_used(&s.upstream.out):
        if s.parked or s.probing or s.journal_wait:
            session_close(r, s, client_end(s))
            return
        # As without a gateway: the server finishes what it has, then finds the end of file itself.
        s.upstream.shut = True
        if s.upstream.ssl != NULL:
            ERR_clear_error()
            SSL_shutdown(s.upstream.ssl)        # only half of TLS closes by this: answers still come
            ERR_clear_error()
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
    put_notes(r, s)
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
    if not s.upstream.readable and not s.upstream.ended:
        leg_listen(r, &s.upstream, False)
    if not s.client.readable and not s.client.ended:
        leg_listen(r, &s.client, False)
