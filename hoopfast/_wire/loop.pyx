# The relay thread: sessions with work stand on the ready list; nothing here blocks but waiting for descriptors (and, in
# durable mode, fdatasync once per batch).


cdef void tick(State* r) noexcept nogil:
    """Four times a second: stuck readers, lingering clients, contexts nobody uses, a large arena, the wall clock."""
    cdef Session* s = r.all
    cdef uint8_t* usual
    cdef Session* following
    cdef int64_t idle = <int64_t>hf_load_acquire64(&r.idle_timeout_ns)
    r.wall_offset_ns = hf_clock(CLOCK_REALTIME) - hf_clock(CLOCK_MONOTONIC)
    contexts_sweep(r)
    leave_private(r)
    if r.arena_room > ARENA_BYTES and r.arena_used == 0:
        # One wide row of one session; the whole process would hold its room for ever.
        usual = <uint8_t*>realloc(r.arena, ARENA_BYTES)
        if usual != NULL:
            r.arena = usual
            r.arena_room = ARENA_BYTES
    while s != NULL:
        following = s.all_next
        leg_part(r, &s.client)
        leg_part(r, &s.upstream)
        if s.closing:
            ready(r, s)
        elif s.client.stuck_since_ns and r.now_ns - s.client.stuck_since_ns > r.stall_timeout_ns:
            s.client.broken = True
            session_close(r, s, "timeout")
        elif s.upstream.stuck_since_ns and r.now_ns - s.upstream.stuck_since_ns > r.stall_timeout_ns:
            s.upstream.broken = True
            end_session(r, s, "08006", "the database server does not read what it is sent", "timeout")
            flush_session(r, s)
        elif s.waiting_since_ns and r.now_ns - s.waiting_since_ns > r.journal_timeout_ns:
            if replies(s) and not s.parked:
                post(r, message_new(EVENT_CANCEL, s.id))
            end_session(r, s, "53100", "the gateway's audit journal is full, and what cannot be recorded may not run: "
                        "tell the operators of the gateway, and connect again later", "journal")
            flush_session(r, s)
        elif idle and r.now_ns - s.last_active_ns > idle and s.status == c'I' and not replies(s) and not s.parked:
            end_session(r, s, "57P01", "this session was idle for longer than the gateway allows: connect again", "timeout")
            flush_session(r, s)
        s = following


cdef int journal_to_disk(Journal* j) noexcept nogil:
    """0, or the errno of the first fdatasync that failed."""
    cdef JournalSegment* g = j.sealed
    cdef int failed = 0
    while g != NULL:
        if c_fdatasync(g.fd) < 0 and not failed:
            failed = errno
        g = g.next
    if j.current != NULL and c_fdatasync(j.current.fd) < 0 and not failed:
        failed = errno
    return failed


cdef void unsynced(State* r, int error) noexcept nogil:
    """What was to be on disk is not: nothing that waited for it goes, and its sessions end. After a failed fdatasync the
    kernel takes the pages for clean, so another try would prove nothing: what comes next goes into another segment."""
    cdef Message* m = message_new(EVENT_UNSYNCED, 0)
    cdef Session* s
    if m != NULL:
        m.a = error
        post(r, m)
    count(r, C_JOURNAL_FAILURES, 1)
    journal_seal(&r.journal)
    journal_advance(&r.journal)
    while r.held != NULL:
        s = r.held
        r.held = s.held_next
        s.on_held = False
        if s.dead or s.closing:
            continue
        end_session(r, s, "58030", "the gateway could not bring its audit journal to the disk, so what you sent last was not "
                    "run: tell the operators of the gateway", "journal")
        flush_session(r, s)
        ready(r, s)


cdef void sync_journal(State* r) noexcept nogil:
    """Durable mode: one fdatasync for the batch, then the held bytes go."""
    cdef Session* s
    cdef int failed = journal_to_disk(&r.journal)
    r.journal.dirty = False
    if failed:
        unsynced(r, failed)
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
        if s.on_ready or s.on_held or leg_named(&s.client) or leg_named(&s.upstream):
            s.dead_next = r.dead        # still linked elsewhere, or the kernel will name it: freed after another pass
            r.dead = s
        else:
            session_free(r, s)
        s = following
    r.counters[C_JOURNAL_RECORDS] = r.journal.records
    r.counters[C_JOURNAL_BYTES] = r.journal.bytes
    r.counters[C_JOURNAL_LOST] = r.journal.lost
    r.counters[C_BUFFER_BYTES] = BUFFER_BYTES
    r.counters[C_ARENA_BYTES] = r.arena_room - ARENA_BYTES
    r.counters[C_HELD_STATEMENTS] = HELD_STATEMENTS
    r.counters[C_CACHED_STATEMENTS] = r.cache.count
    r.counters[C_HELD_NAMES] = HELD_NAMES
    r.counters[C_HELD_PLANS] = HELD_PLANS


cdef void ready_turns(State* r) noexcept nogil:
    """A turn for each session on the ready list. Those that become ready meanwhile wait for the next pass: one busy pair
    cannot starve the others."""
    cdef Session* first = r.ready_first
    cdef Session* s
    r.ready_first = r.ready_last = NULL
    while first != NULL:
        s = first
        first = s.ready_next
        s.on_ready = False
        s.ready_next = NULL
        if not s.dead:
            turn(r, s)


cdef void relay_main(State* r) noexcept nogil:
    cdef bint wait
    if r.ring != NULL:
        hf_ring_enable(r.ring)
    want_segments(r, 0)
    while not hf_load_acquire64(&r.stopping):
        wait = r.ready_first == NULL and r.dead == NULL
        if r.ring != NULL:
            ring_wait(r, wait)
        else:
            epoll_wait(r, wait)
        count(r, C_WAKEUPS, 1)
        if r.woken:
            commands_take(r)
        ready_turns(r)
        if r.now_ns >= r.next_tick_ns:
            r.next_tick_ns = r.now_ns + TICK_NS
            tick(r)
        batch_end(r)
    if r.ring != NULL:
        ring_wait(r, False)             # last words that were posted
