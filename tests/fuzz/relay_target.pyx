# One session of the relay, played by a script: what client and server send in pieces, what the front answers, how the
# sockets take what they are sent, the end of either side. Behind it stand the relay's own turns, so everything between the
# sockets and the journal runs. After the script both sides leave, and nothing of the session may be left.

cdef enum:
    DO_CLIENT_FRAME             # bytes: type, body; the length is right
    DO_SERVER_FRAME
    DO_CLIENT_BYTES
    DO_SERVER_BYTES
    DO_DECIDE                   # action, flags, zero_origin, cache; the rest is a copy plan
    DO_PROBE
    DO_CANCEL
    DO_CANCEL_DONE
    DO_KILL
    DO_NOTICE
    DO_NOTE
    DO_SET_CONTEXT
    DO_CLIENT_END
    DO_SERVER_END
    DO_CLIENT_TAKES             # how its socket takes bytes from now on
    DO_SERVER_TAKES
    DO_TIME
    DO_JOURNAL_FULL
    DO_JOURNAL_SEGMENT
    DO_SECRET_ROW               # the masked table, described and with a secret in it: must not come out
    DO_SECRET_ERROR
    DO_KINDS

cdef enum:
    MORE_TO_COME = 0x80         # flag of an operation: no turn yet
    JOURNAL_BYTES = 8388608
    PLAIN_CONTEXT = 1
    MASKED_CONTEXT = 7
    TURNS_MAX = 64

cdef const char* SECRET = "CANARY-SSN-ZQXJ"
cdef const char* REFUSAL = b"E\0\0\0\x26SERROR\0VERROR\0C42501\0Mrefused it\0\0"
cdef uint8_t SECRET_DESCRIPTION[128]
cdef uint8_t SECRET_ROW[64]
cdef uint8_t SECRET_ERROR[64]
cdef size_t SECRET_DESCRIPTION_N, SECRET_ROW_N, SECRET_ERROR_N

cdef object RELAY               # keeps the state alive
cdef State* R
cdef JournalSegment* SEGMENT
cdef Context* PLAIN
cdef Context* MASKED
cdef uint32_t SEGMENTS_WANTED
cdef bint SECRET_SHOWN


cdef void faulty(const char* what) noexcept nogil:
    c_fprintf(c_stderr, "fuzz: %s\n", what)
    abort()


cdef JournalSegment* memory_segment(size_t size) noexcept nogil:
    """A journal segment that is no file. Left to the process: journals unmap theirs."""
    cdef JournalSegment* g = <JournalSegment*>calloc(1, sizeof(JournalSegment))
    g.base = <uint8_t*>c_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    g.size = size
    g.number = 1
    g.fd = -1
    g.path = <char*>copy_bytes("memory", 6)
    return g


def prepare_relay():
    """Contexts, a journal in memory, the answers with secrets."""
    global RELAY, R, SEGMENT, PLAIN, MASKED, SECRET_DESCRIPTION_N, SECRET_ROW_N, SECRET_ERROR_N
    import struct
    cdef bytes description = struct.pack("!H", 2)
    cdef bytes error = b"SERROR\0VERROR\0C22P02\0M" + SECRET + b"\0\0"
    cdef bytes row
    for name, attnum, oid in ((b"id", 1, 23), (b"ssn", 2, 25)):
        description += name + b"\0" + struct.pack("!IhIhih", 500, attnum, oid, -1, -1, 0)
    row = struct.pack("!HI1sI", 2, 1, b"1", len(SECRET)) + SECRET
    description = b"T" + struct.pack("!I", len(description) + 4) + description
    row = b"D" + struct.pack("!I", len(row) + 4) + row
    error = b"E" + struct.pack("!I", len(error) + 4) + error
    SECRET_DESCRIPTION_N, SECRET_ROW_N, SECRET_ERROR_N = len(description), len(row), len(error)
    memcpy(SECRET_DESCRIPTION, <const char*>description, SECRET_DESCRIPTION_N)
    memcpy(SECRET_ROW, <const char*>row, SECRET_ROW_N)
    memcpy(SECRET_ERROR, <const char*>error, SECRET_ERROR_N)
    RELAY = Relay(counters=memoryview(bytearray(4096)), capture_bytes=4096, durable=False, statement_max=65536,
                  message_max=262144, row_max=262144, stall_timeout_s=5.0, backend="epoll")
    RELAY.define_context(PLAIN_CONTEXT, [], [])
    RELAY.define_context(MASKED_CONTEXT, [(1, 0, b"", b""), (2, 2, b"", b""), (4, 0, b"", bytes(32))],
                         [(500, 2, 0), (500, 3, 1), (501, 1, 2)])
    R = (<Relay>RELAY).r
    R.now_ns = 1 << 40
    take_commands()
    PLAIN = R.contexts
    while PLAIN.id != PLAIN_CONTEXT:
        PLAIN = PLAIN.next
    MASKED = R.contexts
    while MASKED.id != MASKED_CONTEXT:
        MASKED = MASKED.next
    SEGMENT = memory_segment(JOURNAL_BYTES)


cdef void take_commands() noexcept nogil:
    cdef Message* m
    while True:
        m = ring_pop(R.commands)
        if m == NULL:
            return
        command(R, m)


cdef void give_segment() noexcept nogil:
    cdef Message* m = message_new(COMMAND_SEGMENT, 0)
    m.p = memory_segment(JOURNAL_BYTES)
    command(R, m)


cdef void take_events() noexcept nogil:
    """As the front would; a question stays open until the script decides it."""
    global SEGMENTS_WANTED
    cdef Message* m
    while True:
        m = ring_pop(R.events)
        if m == NULL:
            return
        if m.kind == EVENT_SEGMENT:
            SEGMENTS_WANTED += 1
        elif m.kind == EVENT_SEALED:
            if m.p != SEGMENT:
                segment_free(<JournalSegment*>m.p)
        message_free(m)


cdef void turns() noexcept nogil:
    """Passes of the relay until it has nothing to do, or has had enough of them."""
    cdef int i
    for i in range(TURNS_MAX):
        if R.ready_first == NULL and R.dead == NULL:
            break
        ready_turns(R)
        batch_end(R)
        take_events()


cdef void heard(Session* s, Leg* leg, bint ended) noexcept nogil:
    """What epoll would say."""
    if leg.fd >= 0:
        leg_event(R, leg, EPOLLIN | (EPOLLRDHUP if ended else 0))


cdef void frame_to(int fd, const uint8_t* p, size_t n) noexcept nogil:
    cdef uint8_t head[5]
    if n == 0:
        return
    head[0] = p[0]
    hf_put_be32(head + 1, <uint32_t>(n + 3))
    world_put(fd, head, 5)
    world_put(fd, p + 1, n - 1)


cdef bint quiet_upstream(Session* s) noexcept nogil:
    """Whether what the server sends next is the beginning of a message."""
    cdef world_end* e = world_of(WORLD_UPSTREAM)
    return e.at == e.end and buffer_used(&s.upstream.pending) == 0 and s.upstream.pass_left == 0 and not s.upstream.ended


cdef void secret(Session* s, int what) noexcept nogil:
    """Answers that hold a secret, only where a real server could give them and the gateway must hide it."""
    global SECRET_SHOWN
    cdef Reply* e = reply_head(s)
    if e == NULL or e.whom != FOR_CLIENT or e.stmt == NULL or e.stmt.ctx != MASKED or not quiet_upstream(s):
        return
    if what == DO_SECRET_ROW and e.kind == REPLY_QUERY and e.stmt.copy == NULL:
        world_put(WORLD_UPSTREAM, SECRET_DESCRIPTION, SECRET_DESCRIPTION_N)
        world_put(WORLD_UPSTREAM, SECRET_ROW, SECRET_ROW_N)
        SECRET_SHOWN = True
    elif what == DO_SECRET_ERROR and e.stmt.flags & (FLAG_TOUCHED | FLAG_SCRUB):
        world_put(WORLD_UPSTREAM, SECRET_ERROR, SECRET_ERROR_N)
        SECRET_SHOWN = True


cdef void decided(Session* s, const uint8_t* p, size_t n) noexcept nogil:
    cdef Message* m = message_new(COMMAND_DECIDE, s.id)
    cdef Decided* d = <Decided*>calloc(1, sizeof(Decided))
    m.p = d
    m.serial = s.serial
    d.action = p[0] & 3 if n else ACTION_ALLOW
    d.flags = p[1] if n > 1 else 0
    d.zero_origin = p[2] & 3 if n > 2 else 0
    d.cache = n > 3 and p[3] & 1
    d.limit_ns = n > 3 and p[3] & 2
    buffer_put(&m.x, "{}", 2)
    if d.action == ACTION_DENY or d.limit_ns:
        buffer_put(&m.y, REFUSAL, 39)
    if n > 4:
        buffer_put(&m.z, p + 4, n - 4)
    command(R, m)


cdef void say(Session* s, int kind, const uint8_t* p, size_t n) noexcept nogil:
    """A command of the front."""
    cdef Message* m
    if kind == DO_DECIDE:
        decided(s, p, n)
        return
    m = message_new(COMMAND_PROBE if kind == DO_PROBE else COMMAND_CANCEL if kind == DO_CANCEL else COMMAND_CANCEL_DONE
                    if kind == DO_CANCEL_DONE else COMMAND_KILL if kind == DO_KILL else COMMAND_NOTICE
                    if kind == DO_NOTICE else COMMAND_NOTE if kind == DO_NOTE else COMMAND_SET_CONTEXT, s.id)
    m.serial = s.serial
    m.a = n and p[0] & 1
    m.c = MASKED_CONTEXT if m.a else PLAIN_CONTEXT
    if kind == DO_PROBE:
        buffer_put(&m.x, "select 1", 8)
        if n >= 4:
            buffer_put(&m.y, p, n & ~<size_t>3)
    elif kind == DO_KILL:
        buffer_put(&m.x, REFUSAL, 39)
    elif kind == DO_NOTICE:
        buffer_put(&m.x, b"N\0\0\0\x05\0", 6)
    elif n:
        buffer_put(&m.x, p, n)
    command(R, m)


cdef void play(Session* s, int kind, const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t i
    if kind == DO_CLIENT_FRAME:
        frame_to(WORLD_CLIENT, p, n)
        heard(s, &s.client, False)
    elif kind == DO_CLIENT_BYTES:
        world_put(WORLD_CLIENT, p, n)
        heard(s, &s.client, False)
    elif kind == DO_SERVER_FRAME:
        frame_to(WORLD_UPSTREAM, p, n)
        heard(s, &s.upstream, False)
    elif kind == DO_SERVER_BYTES:
        world_put(WORLD_UPSTREAM, p, n)
        heard(s, &s.upstream, False)
    elif kind == DO_CLIENT_END or kind == DO_SERVER_END:
        world_of(WORLD_CLIENT if kind == DO_CLIENT_END else WORLD_UPSTREAM).ended = 1
        heard(s, &s.client if kind == DO_CLIENT_END else &s.upstream, True)
    elif kind == DO_CLIENT_TAKES or kind == DO_SERVER_TAKES:
        world_of(WORLD_CLIENT if kind == DO_CLIENT_TAKES else WORLD_UPSTREAM).sends = p[0] & 3 if n else SENDS_ALL
        ready(R, s)
    elif kind == DO_TIME:
        R.now_ns += 400000000 if n == 0 else <int64_t>p[0] * 100000000
        tick(R)
    elif kind == DO_JOURNAL_FULL:
        if R.journal.current != NULL:
            i = R.journal.current.size - JOURNAL_SLACK - (4096 if n == 0 else 64 * p[0])
            R.journal.at = i & ~<size_t>7 if i > R.journal.at else R.journal.at
    elif kind == DO_JOURNAL_SEGMENT:
        if SEGMENTS_WANTED:
            give_segment()
    elif kind == DO_SECRET_ROW or kind == DO_SECRET_ERROR:
        secret(s, kind)
        heard(s, &s.upstream, False)
    else:
        say(s, kind, p, n)


cdef Session* opened(bint masked) noexcept nogil:
    cdef Message* m = message_new(COMMAND_ADOPT, 1)
    cdef Adoption* a = <Adoption*>calloc(1, sizeof(Adoption))
    m.p = a
    m.a = WORLD_CLIENT
    m.b = WORLD_UPSTREAM
    m.c = MASKED_CONTEXT if masked else PLAIN_CONTEXT
    a.status = c'I'
    buffer_put(&m.x, "{}", 2)
    command(R, m)
    turns()
    return session_find(R, 1)


cdef void nothing_left() noexcept nogil:
    """Both sides have gone: so has everything of theirs."""
    cdef int i
    world_of(WORLD_CLIENT).ended = world_of(WORLD_UPSTREAM).ended = 1
    for i in range(16):
        if R.all == NULL:
            break
        world_of(WORLD_CLIENT).sends = world_of(WORLD_UPSTREAM).sends = SENDS_ALL
        heard(R.all, &R.all.client, True)
        heard(R.all, &R.all.upstream, True)
        turns()
        if R.journal.n_spares == 0:
            give_segment()
        R.now_ns += 1000000000
        tick(R)
        turns()
    if R.all != NULL or R.n_sessions:
        faulty("the session does not end")
    if R.counters[C_PARKED]:
        faulty("a session that is gone is counted as parked")
    if R.counters[C_SESSIONS_OPEN]:
        faulty("a session that is gone is counted as open")
    while R.cache.newest != NULL:
        cache_remove(&R.cache, R.cache.newest)
    take_events()
    if HELD_STATEMENTS or HELD_NAMES or HELD_PLANS:
        faulty("statements, names or row plans are left")
    if BUFFER_BYTES:
        faulty("buffers are left")
    if PLAIN.refs or MASKED.refs:
        faulty("a context is still referred to")


cdef int fuzz_relay(const uint8_t* p, size_t n) except -1 nogil:
    """First byte: which context. Then operations."""
    global SECRET_SHOWN, SEGMENTS_WANTED
    cdef size_t at = 1, following, length
    cdef Session* s
    if n == 0:
        return 0
    world_reset()
    SECRET_SHOWN = False
    segments_free(R.journal.spares)
    if R.journal.current != NULL and R.journal.current != SEGMENT:
        segment_free(R.journal.current)
    R.journal.current = SEGMENT
    R.journal.spares = NULL
    R.journal.n_spares = R.journal.wanted = 0
    R.journal.at = SEGMENT_HEADER
    SEGMENTS_WANTED = 0
    s = opened(p[0] & 1)
    while at < n and s != NULL:
        following = operation(p, at, n, &length)
        play(s, (p[at] & 0x7F) % DO_KINDS, p + at + 3, length)
        if not p[at] & MORE_TO_COME:
            turns()
        at = following
        s = session_find(R, 1)
    nothing_left()
    if SECRET_SHOWN and world_sent(WORLD_CLIENT, SECRET, strlen(SECRET)):
        faulty("a masked value went to the client")
    if SECRET_SHOWN and world_find(SEGMENT.base, R.journal.at if R.journal.current == SEGMENT else SEGMENT.size, SECRET,
                                   strlen(SECRET)):
        faulty("a masked value went into the journal")
    return 0
