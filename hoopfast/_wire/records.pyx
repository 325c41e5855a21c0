# What a session writes into the journal. Callers have asked journal_fits before anything irreversible happened.

cdef struct Capture:            # result bytes of one statement that lie together in memory, not yet in the journal
    const uint8_t* p
    size_t n

cdef struct State:              # everything the relay thread owns
    Journal journal
    Cache cache
    Context* contexts
    Session** sessions          # by id
    Session* all
    uint32_t n_sessions
    Session* ready_first
    Session* ready_last
    Session* dead
    Session* held
    uint64_t* counters
    int64_t now_ns
    int64_t wall_offset_ns
    int epoll_fd                # -1: there is a ring
    HfRing* ring
    bint wake_watched           # the ring holds a standing poll of wake_fd
    bint alarmed                # ... and a timer for the next tick
    Posts* posts                # with a ring: what goes with the next io_uring_enter
    int wake_fd                 # commands have come
    bint woken                  # ... and are to be taken
    int event_fd                # events have gone
    Ring* commands
    Ring* events
    uint64_t stopping
    bint durable
    bint unsynced               # durable: bytes are held until the journal is on disk
    int64_t capture_max         # result bytes kept per statement, where adopt does not say; -1 all
    int64_t journal_timeout_ns  # so long a session waits for room in the journal
    size_t statement_max
    size_t message_max
    size_t row_max
    int64_t stall_timeout_ns
    uint64_t idle_timeout_ns    # 0: none; set by the front at any time
    int64_t private_since_ns    # when values to protect were first written into the current segment; 0: there are none
    int64_t private_max_ns      # and how long they may lie there: the shipper deletes segments that were left
    uint64_t next_serial
    uint8_t* scratch
    Lexed* lexed
    uint8_t* lexed_key          # LEX_TEXT_MAX bytes
    uint8_t* arena
    size_t arena_room
    size_t arena_used
    Gather to_client
    Gather to_upstream
    Capture capture
    int64_t next_tick_ns

cdef enum:
    SESSION_BUCKETS = 16384


cdef inline void count(State* r, int which, uint64_t n) noexcept nogil:
    r.counters[which] += n


cdef inline void put_record(State* r, Session* s, uint16_t kind, uint64_t seq, const Part* parts, int n) noexcept nogil:
    journal_put(&r.journal, kind, s.id, seq, r.now_ns + r.wall_offset_ns, r.now_ns, parts, n)


cdef inline size_t definition_size(const State* r, const Statement* x) noexcept nogil:
    """Bytes that journaling a use of x may add for its definition."""
    return RECORD_HEADER + 24 + x.label_len + x.types_len + x.text_len


cdef inline void mark_private(State* r, const Statement* x) noexcept nogil:
    """A record of x has been written."""
    if x.flags & FLAG_PRIVATE and r.private_since_ns == 0:
        r.private_since_ns = r.now_ns


cdef void leave_private(State* r) noexcept nogil:
    """Go on in another segment when values to protect have been in this one for long enough."""
    if r.private_since_ns and r.now_ns - r.private_since_ns >= r.private_max_ns and journal_advance(&r.journal):
        r.private_since_ns = 0


cdef void put_definition(State* r, Statement* x) noexcept nogil:
    """A statement's definition stands in every segment that uses it, before its first use."""
    cdef Part parts[6]
    cdef uint32_t label_len = <uint32_t>x.label_len
    cdef uint32_t types_len = <uint32_t>x.types_len
    cdef Journal* j = &r.journal
    # Room for the use as well, so that definition and use share a segment.
    if j.current == NULL or j.current.size - j.at < JOURNAL_SLACK + RECORD_HEADER + 8192:
        journal_advance(j)
    if j.current != NULL and x.defined_in == j.current.number:
        return
    parts[0].p = &x.id
    parts[0].n = 8
    parts[1].p = &label_len
    parts[1].n = 4
    parts[2].p = x.label
    parts[2].n = x.label_len
    parts[3].p = &types_len
    parts[3].n = 4
    parts[4].p = x.types
    parts[4].n = x.types_len
    parts[5].p = x.text
    parts[5].n = x.text_len
    journal_put(j, KIND_STATEMENT, 0, 0, r.now_ns + r.wall_offset_ns, r.now_ns, parts, 6)
    if j.current != NULL:
        x.defined_in = j.current.number


cdef uint64_t put_use(State* r, Session* s, uint16_t kind, Statement* x, const void* a, size_t a_len, const void* b,
                      size_t b_len) noexcept nogil:
    """An intent (or Bind) record: the statement's id and up to two more parts. Returns its sequence."""
    cdef Part parts[3]
    cdef Journal* j = &r.journal
    put_definition(r, x)
    # A use too large for what is left of this segment moves on: the definition has to come along.
    if j.current != NULL and record_size(8 + a_len + b_len) + JOURNAL_SLACK > j.current.size - j.at and j.spares != NULL:
        if journal_advance(j):
            put_definition(r, x)
    s.seq += 1
    parts[0].p = &x.id
    parts[0].n = 8
    parts[1].p = a
    parts[1].n = a_len
    parts[2].p = b
    parts[2].n = b_len
    put_record(r, s, kind, s.seq, parts, 3)
    mark_private(r, x)
    return s.seq


cdef void capture_flush(State* r, Session* s) noexcept nogil:
    """Write the captured span of the statement at the head of the queue."""
    cdef Part parts[2]
    cdef Reply* e = reply_head(s)
    if r.capture.n and e != NULL:
        parts[0].p = &e.seq
        parts[0].n = 8
        parts[1].p = r.capture.p
        parts[1].n = r.capture.n
        s.seq += 1
        put_record(r, s, KIND_RESULT, s.seq, parts, 2)
        if e.stmt != NULL:
            mark_private(r, e.stmt)
    r.capture.n = 0


cdef void capture_add(State* r, Session* s, Reply* e, const uint8_t* p, size_t n) noexcept nogil:
    """Result bytes as the client gets them, up to the policy's limit."""
    if e.seq == 0 or s.capture_max == 0:
        return
    if s.capture_max > 0:
        if e.captured >= <uint64_t>s.capture_max:
            return
        if n > <uint64_t>s.capture_max - e.captured:
            n = <size_t>(<uint64_t>s.capture_max - e.captured)
    e.captured += n
    if r.capture.n and r.capture.p + r.capture.n == p:
        r.capture.n += n
        return
    capture_flush(r, s)
    r.capture.p = p
    r.capture.n = n


cdef void put_outcome(State* r, Session* s, Reply* e, uint8_t how) noexcept nogil:
    """How a recorded statement ended. `e` need not be the head (statements skipped after an error)."""
    cdef Part parts[8]
    cdef int64_t took = r.now_ns - e.started_ns
    cdef int64_t first = e.first_ns - e.started_ns
    cdef uint8_t status[2]
    cdef uint16_t tag_len = e.tag_len
    cdef uint64_t us
    cdef int bucket = 0
    if e.seq == 0:
        return
    if took < 0:
        took = 0
    status[0] = how
    status[1] = s.status
    parts[0].p = &first                 # of an outcome with rows only
    parts[0].n = 8
    parts[1].p = &e.seq
    parts[1].n = 8
    parts[2].p = &e.rows
    parts[2].n = 24                     # rows, bytes, copied lie together
    parts[3].p = &took
    parts[3].n = 8
    parts[4].p = status
    parts[4].n = 2
    parts[5].p = &tag_len
    parts[5].n = 2
    parts[6].p = e.tag
    if e.long_tag != NULL:
        parts[6].p = e.long_tag
    parts[6].n = e.tag_len
    parts[7].p = e.error_body
    parts[7].n = e.error_len
    s.seq += 1
    if e.first_ns:
        put_record(r, s, KIND_OUTCOME_ROWS, s.seq, parts, 8)
    else:
        put_record(r, s, KIND_OUTCOME, s.seq, parts + 1, 7)
    if e.error_len and e.stmt != NULL:
        mark_private(r, e.stmt)
    e.seq = 0
    count(r, C_ROWS, e.rows)
    if how == c'E':
        count(r, C_ERROR, 1)
    if how == c'C' or how == c'E' or how == c'S':
        us = <uint64_t>took // 1000
        while bucket < C_BUCKETS - 1 and (us >> bucket):
            bucket += 1
        count(r, C_HISTOGRAM + bucket, 1)
        count(r, C_HISTOGRAM_SUM, us)


cdef void put_described(State* r, Session* s, const Statement* x, const uint8_t* p, size_t n) noexcept nogil:
    """What the server says of a prepared statement: ParameterDescription and RowDescription frames tell what the bytes of
    Bind and of rows mean when the client has not said it."""
    cdef Part parts[2]
    parts[0].p = &x.id
    parts[0].n = 8
    parts[1].p = p
    parts[1].n = n
    s.seq += 1
    put_record(r, s, KIND_DESCRIBED, s.seq, parts, 2)


cdef bint put_aside(State* r, Session* s, uint8_t type, const uint8_t* body, size_t n, size_t kept) noexcept nogil:
    """What the server says outside of a statement; `kept` of the n bytes of its body. False: there is no room."""
    cdef Part parts[3]
    cdef uint32_t head[2]
    if not journal_fits(&r.journal, RECORD_HEADER + 8 + kept, False):
        return False
    head[0] = type
    head[1] = <uint32_t>n
    parts[0].p = head
    parts[0].n = 8
    parts[1].p = body
    parts[1].n = kept
    s.seq += 1
    put_record(r, s, KIND_ASIDE, s.seq, parts, 2)
    return True


cdef void put_notes(State* r, Session* s) noexcept nogil:
    """Notes of the front, as many as there is room for."""
    cdef Part part
    cdef uint32_t n
    while s.started and buffer_used(&s.notes):
        memcpy(&n, s.notes.data + s.notes.start, 4)
        if not journal_fits(&r.journal, RECORD_HEADER + n, False):
            return
        part.p = s.notes.data + s.notes.start + 4
        part.n = n
        s.seq += 1
        put_record(r, s, KIND_NOTE, s.seq, &part, 1)
        buffer_take(&s.notes, 4 + n)
    if not buffer_used(&s.notes):
        buffer_free(&s.notes)


cdef void put_session_end(State* r, Session* s) noexcept nogil:
    cdef Part parts[2]
    cdef uint8_t n = <uint8_t>strlen(s.close_reason)
    parts[0].p = &n
    parts[0].n = 1
    parts[1].p = s.close_reason
    parts[1].n = n
    s.seq += 1
    put_record(r, s, KIND_SESSION_END, s.seq, parts, 2)
