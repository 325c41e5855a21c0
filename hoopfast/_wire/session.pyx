# A session: two legs, the reply queue (the only place that knows what a backend message answers), and the names of
# prepared statements and portals. Sending and receiving stand behind leg_recv and leg_send.

cdef uint64_t HELD_NAMES = 0        # prepared statements and portals alive in this process

cdef enum:                      # whom it is for
    FOR_CLIENT
    FOR_US                      # injected by us: swallowed
    FOR_PROBE                   # injected by us: kept for the front
    FOR_REFUSAL                 # a failing statement of ours: its error becomes the verdict's

cdef enum:
    TAG_MAX = 65535             # what an outcome record can hold

cdef enum:
    NAME_MAX = 63               # the server compares no more (NAMEDATALEN - 1): longer names must not differ for us either

cdef struct Named:              # a prepared statement or a portal
    Named* next                 # bucket chain
    Named* shadow               # what a tentative entry hides until the server has accepted it
    uint32_t refs
    uint32_t hash
    size_t* held                # its session's account of what names cost, and this one's part of it
    size_t cost
    bint registered
    uint8_t state               # NAME_...
    bint describe_sent          # a Describe is under way: its answer comes before any row
    bint described              # the row description is known; plan may still be NULL (nothing masked, or no rows)
    Statement* stmt
    RowPlan* plan
    Named* prepared             # portal: the statement it was bound from
    uint64_t bind_seq           # portal: its KIND_BIND record
    bint has_formats            # portal: formats came with Bind
    uint16_t n_formats
    int16_t* formats
    uint16_t name_len
    uint8_t name[0]

cdef struct Names:
    Named** buckets
    uint32_t n_buckets
    uint32_t count

cdef struct Reply:
    uint8_t kind                # what it answers: a REPLY_... that a client message asks for
    uint8_t state               # what the server has said of it so far: any REPLY_...
    uint8_t whom
    uint8_t refused             # FOR_REFUSAL: the error has been delivered
    Statement* stmt
    Named* named
    RowPlan* plan               # rows that follow
    uint64_t seq                # intent record; 0: none
    int64_t started_ns
    int64_t watched_ns          # a limit holds, and this was at the head by then
    bint limited                # the limit is over: a cancel was sent
    uint64_t rows
    uint64_t bytes
    uint64_t copied
    uint64_t copy_frames        # CopyData among `rows`, until the tag says how many rows they were
    uint64_t captured
    int64_t first_ns            # when its first row came; 0: none yet
    uint8_t tag[64]
    uint8_t* long_tag           # instead, where that is too short
    uint16_t tag_len
    bint tag_cut
    int copy_state
    uint32_t error_len
    uint8_t* error_body

cdef struct Leg:
    Session* session
    int fd
    bint is_client
    bint readable               # edge-triggered: there may be bytes in the kernel (or in OpenSSL)
    bint ended                  # nothing more will come
    bint cut                    # ... and TLS was not closed as it should be: bytes may have been lost on the way
    bint hung                   # RDHUP seen: read until end of file
    bint broken                 # the descriptor failed: nothing more can be sent
    bint want_write             # unsent bytes wait for the descriptor
    SSL* ssl
    Buffer pending              # received and not yet handled: an incomplete header, a message under inspection
    Buffer out                  # handled and not yet sent
    uint64_t pass_left          # bytes of the current frame that follow untouched
    uint64_t drop_left          # bytes of the current frame to discard
    uint8_t oversized           # type of the frame that is discarded and then answered with an error; 0: none
    bint retry                  # pending is to be handled again although nothing was received
    bint shut                   # we have sent end of file
    size_t need                 # total size of the incomplete frame at the head of pending, once known
    int64_t stuck_since_ns      # out is not empty since; 0: it is
    # io_uring only (readiness.pyx)
    const uint8_t* posted       # bytes that go with the next io_uring_enter, in State.posts
    uint32_t n_posted
    bint listed                 # State.posts names this leg
    bint watched                # the kernel holds the standing poll
    bint unwatched              # ... and has been asked to end it
    uint8_t asked               # ASKED_...: the kernel holds this request for bytes
    bint unasked                # ... and has been asked to end it
    bint parting                # closed for us; the kernel still holds requests
    int parting_fd
    size_t streak               # bytes read by ourselves since the last request

cdef struct Session:
    uint64_t id
    Session* hash_next
    Session* all_next
    Session* all_prev
    Session* ready_next
    Session* held_next
    Session* dead_next
    bint on_ready
    bint on_held                # durable: upstream.out waits for the journal to be on disk
    bint dead                   # closed; freed at the end of the turn
    Context* ctx
    Leg client
    Leg upstream
    Reply* queue
    uint32_t queue_room         # power of two
    uint32_t head
    uint32_t tail               # entries are [head, tail)
    uint8_t status              # transaction status of the last ReadyForQuery
    bint deferring              # the transaction has run a restricted statement: its triggers may fire at the end
    bint settled                # a FLAG_SETTLES statement has run since: the status may be another one now
    uint8_t side                # SIDE_...: what becomes of the client's next message
    uint64_t spare_syncs        # after a failed COPY: Syncs that the server may or may not have read within it
    bint parked                 # a verdict is being asked
    bint held                   # the verdict waits for an approval
    uint8_t parked_kind
    uint64_t serial
    Statement* parked_stmt      # what is being judged, without a verdict yet
    Statement* granted          # the answer; used by the frame at the head of client.pending
    uint8_t granted_kind
    uint64_t probe_serial
    bint probing
    bint probe_to_sync
    bint probe_failed           # the probe's error left the server skipping until Sync
    Buffer probe
    Buffer inject               # whole frames for the client, to be put between two messages
    bint journal_wait
    int64_t waiting_since_ns    # when the journal was found full; 0: it is not
    Buffer notes                # of the front, each behind its length (u32), for which there was no room yet
    bint cancel_pause           # a cancel is on its way: nothing new goes upstream
    bint closing                # no more reading; flush, then linger
    const char* close_reason
    bint kill_when_idle
    Buffer kill_frame
    int64_t linger_until_ns
    const char* doom            # why nothing more of the client is read; it hears of it after the server's last answer
    int doom_type               # the message type that is none, or -1
    bint upstream_fatal         # the server said FATAL: the end of its leg needs no explanation
    Names statements
    Names portals
    size_t names_held           # bytes of all names that live: settled ones, and those under way
    size_t awaited              # bytes of simple queries that are not answered yet
    uint64_t seq
    bint started                # the session's own record is in the journal; nothing moves before
    Buffer start_record
    int64_t capture_max         # result bytes kept per statement; -1 all
    int64_t last_active_ns


# ---------------------------------------------------------------- names

cdef Named* named_new(size_t* held, const uint8_t* name, size_t n, Statement* stmt, size_t cost) noexcept nogil:
    """One reference; the statement gets another. `cost`: bytes beside its own that it keeps alive, for `held`."""
    global HELD_NAMES
    cdef Named* x
    if n > NAME_MAX:
        n = NAME_MAX
    x = <Named*>calloc(1, sizeof(Named) + n + 1)
    if x == NULL:
        return NULL
    HELD_NAMES += 1
    x.held = held
    x.cost = sizeof(Named) + n + cost
    held[0] += x.cost
    x.refs = 1
    x.stmt = stmt
    if stmt != NULL:
        stmt.refs += 1
    x.name_len = <uint16_t>n
    memcpy(x.name, name, n)
    x.hash = <uint32_t>hf_hash(name, n, 0)
    return x


cdef void named_release(Named* x) noexcept nogil:
    global HELD_NAMES
    cdef Named* beneath
    while x != NULL:
        HF_ASSERT(x.refs > 0)
        x.refs -= 1
        if x.refs:
            return
        beneath = x.shadow
        statement_release(x.stmt)
        plan_release(x.plan)
        named_release(x.prepared)
        x.held[0] -= x.cost
        free(x.formats)
        free(x)
        HELD_NAMES -= 1
        x = beneath


cdef inline bint doubtful(const Named* x) noexcept nogil:
    """Whether SQL (DEALLOCATE, PREPARE, DECLARE...) may have given the name to something else."""
    return x.state == NAME_DOUBTFUL or x.state == NAME_ENTERED_DOUBTFUL


cdef Named** names_slot(const Names* t, const uint8_t* name, size_t n, uint32_t h) noexcept nogil:
    """The link that points to the entry of this name, or the link where it would be appended; NULL in an empty table."""
    cdef Named** at
    if t.n_buckets == 0:
        return NULL
    at = &t.buckets[h & (t.n_buckets - 1)]
    while at[0] != NULL:
        if at[0].hash == h and at[0].name_len == n and memcmp(at[0].name, name, n) == 0:
            return at
        at = &at[0].next
    return at


cdef Named* names_find(const Names* t, const uint8_t* name, size_t n) noexcept nogil:
    cdef Named** at
    if n > NAME_MAX:
        n = NAME_MAX
    at = names_slot(t, name, n, <uint32_t>hf_hash(name, n, 0))
    return at[0] if at != NULL else NULL


cdef int names_grow(Names* t) noexcept nogil:
    cdef uint32_t n = t.n_buckets * 2 if t.n_buckets else 8
    cdef uint32_t i
    cdef Named** wider = <Named**>calloc(n, sizeof(Named*))
    cdef Named* x
    cdef Named* following
    if wider == NULL:
        return -1
    for i in range(t.n_buckets):
        x = t.buckets[i]
        while x != NULL:
            following = x.next
            x.next = wider[x.hash & (n - 1)]
            wider[x.hash & (n - 1)] = x
            x = following
    free(t.buckets)
    t.buckets = wider
    t.n_buckets = n
    return 0


cdef int names_put(Names* t, Named* x) noexcept nogil:
    """Enter x tentatively: it hides an older entry of its name until names_settle or names_undo. Takes one reference."""
    cdef Named** at
    if t.count >= t.n_buckets and names_grow(t) < 0:
        return -1
    at = names_slot(t, x.name, x.name_len, x.hash)
    x.shadow = at[0]
    if at[0] != NULL:
        x.next = at[0].next
        at[0].next = NULL
    else:
        t.count += 1
    at[0] = x
    x.registered = True
    x.refs += 1
    return 0


cdef void names_settle(Named* x) noexcept nogil:
    """The server has accepted x: what it hid is gone."""
    cdef Named* hidden = x.shadow
    x.state = NAME_AFTER[NAME_ACCEPTED][x.state]
    x.shadow = NULL
    if hidden != NULL:
        hidden.registered = False
        named_release(hidden)


cdef void names_remove(Names* t, Named* x) noexcept nogil:
    """x is no more: the server refused it, or it was closed. What it hid stands again."""
    cdef Named** at
    if x == NULL or not x.registered or t.n_buckets == 0:
        return
    at = names_slot(t, x.name, x.name_len, x.hash)
    if at[0] == NULL:
        return
    if at[0] == x:
        if x.shadow != NULL:
            x.shadow.next = x.next
            at[0] = x.shadow
        else:
            at[0] = x.next
            t.count -= 1
    else:
        at = &at[0].shadow
        while at[0] != NULL and at[0] != x:
            at = &at[0].shadow
        if at[0] == NULL:
            return
        at[0] = x.shadow
    x.shadow = NULL
    x.next = NULL
    x.registered = False
    named_release(x)


cdef void names_clear(Names* t) noexcept nogil:
    cdef uint32_t i
    cdef Named* x
    cdef Named* following
    cdef Named* s
    if t.count == 0:
        return
    for i in range(t.n_buckets):
        x = t.buckets[i]
        t.buckets[i] = NULL
        while x != NULL:
            following = x.next
            x.next = NULL
            s = x
            while s != NULL:
                s.registered = False
                s = s.shadow
            named_release(x)
            x = following
    t.count = 0


cdef void names_stale(Names* t) noexcept nogil:
    """SQL has touched the shared namespace: nothing known of a name can be relied on to permit, only to restrict."""
    cdef uint32_t i
    cdef Named* x
    cdef Named* beneath
    for i in range(t.n_buckets):
        x = t.buckets[i]
        while x != NULL:
            beneath = x if x.name_len else NULL         # SQL cannot reach the unnamed ones
            while beneath != NULL:
                beneath.state = NAME_AFTER[NAME_TOUCHED][beneath.state]
                beneath = beneath.shadow
            x = x.next


cdef void names_sweep(Names* t) noexcept nogil:
    """Portals do not outlive their transaction. Entries still under way stay."""
    cdef uint32_t i
    cdef Named** at
    cdef Named* x
    for i in range(t.n_buckets):
        at = &t.buckets[i]
        while at[0] != NULL:
            x = at[0]
            if NAME_AFTER[NAME_TRANSACTION_OVER][x.state] != NAME_FORGOTTEN:
                at = &x.next
                continue
            at[0] = x.next
            x.next = NULL
            x.registered = False
            t.count -= 1
            named_release(x)


cdef void names_free(Names* t) noexcept nogil:
    names_clear(t)
    free(t.buckets)
    t.buckets = NULL
    t.n_buckets = 0


# ---------------------------------------------------------------- reply queue

cdef inline uint32_t replies(const Session* s) noexcept nogil:
    return s.tail - s.head


cdef inline Reply* reply_at(Session* s, uint32_t i) noexcept nogil:
    return &s.queue[i & (s.queue_room - 1)]


cdef inline Reply* reply_head(Session* s) noexcept nogil:
    return reply_at(s, s.head) if s.head != s.tail else NULL


cdef Reply* reply_push(Session* s, uint8_t kind, uint8_t whom, Statement* stmt, Named* named) noexcept nogil:
    """A zeroed entry at the tail, holding its own references; NULL when memory is short."""
    cdef uint32_t i, n = s.tail - s.head
    cdef Reply* wider
    cdef Reply* e
    if n == s.queue_room:
        wider = <Reply*>malloc(sizeof(Reply) * (s.queue_room * 2 if s.queue_room else 4))
        if wider == NULL:
            return NULL
        for i in range(n):
            wider[i] = s.queue[(s.head + i) & (s.queue_room - 1)]
        free(s.queue)
        s.queue = wider
        s.queue_room = s.queue_room * 2 if s.queue_room else 4
        s.head = 0
        s.tail = n
    e = reply_at(s, s.tail)
    memset(e, 0, sizeof(Reply))
    e.kind = e.state = kind
    e.whom = whom
    e.stmt = stmt
    if stmt != NULL:
        stmt.refs += 1
    e.named = named
    if named != NULL:
        named.refs += 1
    if kind == REPLY_QUERY:
        s.awaited += stmt.text_len
    s.tail += 1
    return e


cdef void reply_clear(Session* s, Reply* e) noexcept nogil:
    if e.kind == REPLY_QUERY:
        s.awaited -= e.stmt.text_len
    statement_release(e.stmt)
    named_release(e.named)
    plan_release(e.plan)
    free(e.error_body)
    free(e.long_tag)
    e.long_tag = NULL
    e.stmt = NULL
    e.named = NULL
    e.plan = NULL
    e.error_body = NULL


cdef void reply_pop(Session* s) noexcept nogil:
    HF_ASSERT(s.head != s.tail)
    reply_clear(s, reply_at(s, s.head))
    s.head += 1
    while s.head != s.tail and reply_at(s, s.head).kind >= REPLY_COPY_SYNC:
        s.head += 1


cdef void copy_over(Session* s, bint failed) noexcept nogil:
    """The COPY FROM STDIN at the head has ended. Whether the server has read a Sync before or after an error cannot be known."""
    cdef uint32_t i = s.head + 1
    cdef Reply* later
    s.side = SIDE_AFTER[COPY_IS_OVER][s.side]
    while i != s.tail:
        later = reply_at(s, i)
        if later.kind == REPLY_COPY_SYNC and failed:
            s.spare_syncs += later.rows
        elif later.kind < REPLY_COPY_SYNC:
            return
        if later.kind == REPLY_COPY_END:
            later.rows -= 1
            if later.rows == 0:
                later.kind = REPLY_SETTLED
            return
        later.kind = REPLY_SETTLED
        i += 1


cdef void replies_shrink(Session* s) noexcept nogil:
    """After a long pipeline the ring goes back to its first size: an idle session holds little."""
    if s.head == s.tail and s.queue_room > 16:
        free(s.queue)
        s.queue = NULL
        s.queue_room = 0
        s.head = s.tail = 0


# ---------------------------------------------------------------- bytes in and out of a leg

cdef ssize_t leg_recv(Leg* leg, uint8_t* to, size_t room) noexcept nogil:
    """Bytes received; 0: nothing now; -1: the leg has ended."""
    cdef ssize_t n, total = 0
    cdef int e, r, records = 0
    if leg.ssl == NULL:
        while True:
            n = c_recv(leg.fd, to, room, MSG_DONTWAIT)
            if n > 0:
                # A short read means that the kernel is empty, unless end of file is already known to follow.
                if <size_t>n < room and not leg.hung:
                    leg.readable = False
                return n
            if n < 0 and errno == EINTR:
                continue
            if n < 0 and (errno == EAGAIN):
                leg.readable = False
                return 0
            return -1
    # By records as well as by bytes: what is left after that makes the session ready again.
    hf_tls_turn(leg.ssl, not leg.hung)
    while <size_t>total < room and records < TLS_RECORDS_MAX:
        records += 1
        hf_tls_no_errors()
        hf_tls_allow(leg.ssl, TLS_BUDGET)
        r = SSL_read(leg.ssl, to + total, <int>(room - total if room - total < 1 << 30 else 1 << 30))
        if r > 0:
            total += r
            if hf_tls_is_dry(leg.ssl):
                leg.readable = False
                return total
            continue
        e = SSL_get_error(leg.ssl, r)
        if e == SSL_ERROR_WANT_READ:
            leg.readable = not hf_tls_was_empty(leg.ssl)
            return total
        if e == SSL_ERROR_WANT_WRITE:
            leg.want_write = True
            return total
        ERR_clear_error()
        leg.cut = leg.cut or e != SSL_ERROR_ZERO_RETURN or hf_tls_was_cut(leg.ssl)
        if total:
            return total                # the end is met again by the next call
        return -1
    return total


cdef ssize_t leg_send(Leg* leg, const uint8_t* p, size_t n) noexcept nogil:
    """Bytes sent; 0: would block; -1: the leg is broken."""
    cdef ssize_t sent
    cdef int e, r
    if leg.ssl == NULL:
        while True:
            sent = c_send(leg.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent >= 0:
                return sent
            if errno == EINTR:
                continue
            return 0 if errno == EAGAIN else -1
    hf_tls_no_errors()
    r = SSL_write(leg.ssl, p, <int>(n if n < 1 << 30 else 1 << 30))
    if r > 0:
        return r
    e = SSL_get_error(leg.ssl, r)
    ERR_clear_error()
    return 0 if e == SSL_ERROR_WANT_WRITE or e == SSL_ERROR_WANT_READ else -1


cdef int leg_settle(Leg* leg) noexcept nogil:
    """Posted bytes go now, before anything else is sent or the leg is closed; what is left waits in out. -1: broken."""
    cdef ssize_t n
    cdef uint32_t size = leg.n_posted
    if size == 0:
        return 0
    leg.n_posted = 0
    n = leg_send(leg, leg.posted, size)
    return -1 if n < 0 else buffer_put(&leg.out, leg.posted + n, size - n)


cdef int leg_flush(Leg* leg, int64_t now_ns) noexcept nogil:
    """Send what waits: 1 all gone, 0 some is left, -1 broken."""
    cdef ssize_t n
    if leg_settle(leg) < 0:
        return -1
    while leg.out.end > leg.out.start:
        n = leg_send(leg, leg.out.data + leg.out.start, buffer_used(&leg.out))
        if n < 0:
            return -1
        if n == 0:
            if leg.stuck_since_ns == 0:
                leg.stuck_since_ns = now_ns
            return 0
        leg.stuck_since_ns = now_ns
        buffer_take(&leg.out, n)
    buffer_free(&leg.out)
    leg.stuck_since_ns = 0
    return 1


# ---------------------------------------------------------------- gather: spans of bytes on their way to one leg

cdef struct Gather:
    iovec parts[64]
    int n
    size_t bytes
