# Bytes on their way out: spans gathered for each leg, the arena for frames of our own, and the FATAL that ends a session.

cdef void hold(State* r, Session* s) noexcept nogil:
    """Durable mode: these bytes may go only when the records before them are on disk."""
    r.unsynced = True
    if not s.on_held:
        s.on_held = True
        s.held_next = r.held
        r.held = s


cdef int gather_flush(State* r, Gather* g, Leg* leg, bint hold) noexcept nogil:
    """Send the gathered spans; what does not go (or is held for durability) is copied to the leg. -1: broken."""
    cdef msghdr m
    cdef ssize_t sent = 0, n
    cdef int i
    cdef size_t skip
    if g.n == 0:
        return 0
    if leg_settle(leg) < 0:
        g.n = 0
        g.bytes = 0
        return -1
    if not hold and leg_post(r, leg, g):
        return 0
    if buffer_used(&leg.out) == 0 and not hold:
        if leg.ssl == NULL:
            memset(&m, 0, sizeof(m))
            m.msg_iov = g.parts
            m.msg_iovlen = g.n
            while True:
                sent = c_sendmsg(leg.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) if g.n > 1 else c_send(
                    leg.fd, g.parts[0].iov_base, g.parts[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                if sent >= 0 or errno != EINTR:
                    break
            if sent < 0:
                if errno != EAGAIN:
                    g.n = 0
                    g.bytes = 0
                    return -1
                sent = 0
        elif g.n == 1:
            while <size_t>sent < g.bytes:
                n = leg_send(leg, <const uint8_t*>g.parts[0].iov_base + sent, g.bytes - sent)
                if n < 0:
                    g.n = 0
                    g.bytes = 0
                    return -1
                if n == 0:
                    break
                sent += n
    skip = sent
    for i in range(g.n):
        if skip >= g.parts[i].iov_len:
            skip -= g.parts[i].iov_len
            continue
        if buffer_put(&leg.out, <const uint8_t*>g.parts[i].iov_base + skip, g.parts[i].iov_len - skip) < 0:
            g.n = 0
            g.bytes = 0
            return -1
        skip = 0
    g.n = 0
    g.bytes = 0
    if buffer_used(&leg.out) and not hold:
        return -1 if leg_flush(leg, r.now_ns) < 0 else 0
    return 0


cdef void flush_session(State* r, Session* s) noexcept nogil:
    """Send what has been gathered for both legs. Memory of the scratch buffer and the arena may be reused afterwards."""
    capture_flush(r, s)
    if r.to_client.n:
        count(r, C_CLIENT_OUT, r.to_client.bytes)
        if gather_flush(r, &r.to_client, &s.client, False) < 0:
            s.client.broken = True
    if r.to_upstream.n:
        count(r, C_UPSTREAM_OUT, r.to_upstream.bytes)
        if r.durable and r.journal.dirty:
            hold(r, s)
            if gather_flush(r, &r.to_upstream, &s.upstream, True) < 0:
                s.upstream.broken = True
        elif gather_flush(r, &r.to_upstream, &s.upstream, False) < 0:
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
                if gather_flush(r, g, &s.client, False) < 0:
                    s.client.broken = True
            else:
                count(r, C_UPSTREAM_OUT, g.bytes)
                if r.durable and r.journal.dirty:
                    hold(r, s)
                if gather_flush(r, g, &s.upstream, r.durable and r.journal.dirty) < 0:
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


cdef const char* numbered(uint8_t* w, const char* text, uint8_t number) noexcept nogil:
    """`text` with a number behind it, in w (64 bytes)."""
    cdef size_t at = strlen(text)
    cdef uint32_t unit = 100
    memcpy(w, text, at)
    while unit > 1 and number < unit:
        unit //= 10
    while unit:
        w[at] = <uint8_t>(c'0' + number // unit % 10)
        at += 1
        unit //= 10
    w[at] = 0
    return <const char*>w


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


cdef void doomed(State* r, Session* s) noexcept nogil:
    """The server has nothing more to say to a client that sent what cannot be read."""
    cdef uint8_t text[64]
    end_session(r, s, "08P01", s.doom if s.doom_type < 0 else numbered(text, s.doom, <uint8_t>s.doom_type), "protocol")
