# Relay: the front's handle. Called from one Python thread; the relay thread itself never takes the GIL.


cdef Message* _message(int kind, uint64_t session) except NULL:
    cdef Message* m = message_new(kind, session)
    if m == NULL:
        raise MemoryError
    return m


cdef int _put(Buffer* b, bytes data) except -1:
    if len(data) and buffer_put(b, <const char*>data, len(data)) < 0:
        raise MemoryError
    return 0


cdef bytes _bytes(const Buffer* b):
    return (<char*>b.data + b.start)[:b.end - b.start] if b.data != NULL else b""


cdef class Relay:
    """The data path of one worker; see _wire.pyi."""

    cdef State* r
    cdef object counters
    cdef bint running
    cdef readonly int event_fd
    cdef readonly str fallback

    def __cinit__(self):
        self.r = NULL

    def __init__(self, *, counters, int64_t capture_bytes, bint durable, size_t cache_bytes=64 << 20,
                 size_t statement_max=16 << 20, size_t message_max=256 << 20, size_t row_max=64 << 20,
                 double stall_timeout_s=300.0, double journal_timeout_s=30.0, double private_s=30.0, str backend="auto"):
        import os
        cdef uint8_t[::1] page = counters.cast("B")
        cdef bytes seed = os.urandom(8)
        cdef epoll_event ev
        cdef State* r
        if backend not in ("auto", "epoll", "io_uring"):
            raise ValueError(f"backend is auto, epoll or io_uring, not {backend!r}")
        if page.shape[0] < (C_HISTOGRAM_SUM + 1) * 8:
            raise ValueError("the counter page is too small")
        self.counters = counters
        r = self.r = <State*>calloc(1, sizeof(State))
        if r == NULL:
            raise MemoryError
        r.wake_fd = r.event_fd = r.epoll_fd = -1
        self.fallback = ""
        r.commands = <Ring*>calloc(1, sizeof(Ring))
        r.events = <Ring*>calloc(1, sizeof(Ring))
        r.sessions = <Session**>calloc(SESSION_BUCKETS, sizeof(Session*))
        r.scratch = <uint8_t*>malloc(SCRATCH_BYTES)
        r.arena = <uint8_t*>malloc(ARENA_BYTES)
        r.arena_room = ARENA_BYTES
        r.lexed = <Lexed*>malloc(sizeof(Lexed))
        r.lexed_key = <uint8_t*>malloc(LEX_TEXT_MAX)
        if (r.commands == NULL or r.events == NULL or r.sessions == NULL or r.scratch == NULL or r.arena == NULL
                or r.lexed == NULL or r.lexed_key == NULL
                or cache_init(&r.cache, cache_bytes, (<uint64_t*><char*>seed)[0]) < 0):
            raise MemoryError
        r.counters = <uint64_t*>&page[0]
        r.durable = durable
        r.capture_max = capture_bytes
        r.statement_max = statement_max
        r.message_max = message_max
        r.row_max = row_max
        r.stall_timeout_ns = <int64_t>(stall_timeout_s * 1e9)
        r.journal_timeout_ns = <int64_t>(journal_timeout_s * 1e9)
        r.private_max_ns = <int64_t>(private_s * 1e9)
        r.now_ns = hf_clock(CLOCK_MONOTONIC)
        r.wall_offset_ns = hf_clock(CLOCK_REALTIME) - r.now_ns
        if backend != "epoll":
            r.ring = hf_ring_open()
            if r.ring == NULL:
                self.fallback = f"io_uring: {os.strerror(errno)}"
                if backend == "io_uring":
                    raise OSError(self.fallback)
        if r.ring != NULL:
            r.posts = <Posts*>calloc(1, sizeof(Posts))
            if r.posts == NULL:
                raise MemoryError
        else:
            r.epoll_fd = c_epoll_create1(EPOLL_CLOEXEC)
        r.wake_fd = c_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        r.event_fd = c_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if (r.ring == NULL and r.epoll_fd < 0) or r.wake_fd < 0 or r.event_fd < 0:
            raise OSError(errno, os.strerror(errno))
        self.event_fd = r.event_fd
        if r.ring == NULL:
            ev.events = EPOLLIN
            ev.data.ptr = NULL
            c_epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, r.wake_fd, &ev)

    @property
    def backend(self):
        return "epoll" if self.r.ring == NULL else "io_uring"

    def run(self):
        if self.running:
            raise RuntimeError("the relay runs already")
        self.running = True
        with nogil:
            relay_main(self.r)
        self.running = False

    def stop(self):
        hf_store_release64(&self.r.stopping, 1)
        wake(self.r.wake_fd)

    cdef int _send(self, Message* m) except -1:
        cdef Adoption* a
        if not ring_push(self.r.commands, m):
            if m.kind == COMMAND_ADOPT:
                a = <Adoption*>m.p          # the descriptors stay the caller's
                SSL_free(a.client_ssl)
                SSL_free(a.upstream_ssl)
                buffer_free(&a.from_upstream)
                free(a)
                message_free(m)
            else:
                message_drop(m)
            raise BufferError("the relay's command queue is full")
        wake(self.r.wake_fd)
        return 0

    def add_segment(self, Segment segment):
        if segment.s == NULL:
            raise ValueError("this segment was handed over before")
        cdef Message* m = _message(COMMAND_SEGMENT, 0)
        m.p = segment.take()
        self._send(m)

    def define_context(self, uint64_t context, masks, columns, bytes types=b"", aliases=()):
        cdef Context* c = context_new(context, len(masks), len(columns), len(aliases))
        cdef Message* m
        cdef bytes constant, key
        if c == NULL:
            raise MemoryError
        try:
            if types:
                c.types = mask_types_unpack(types, len(types))
                if c.types == NULL:
                    raise ValueError("types: not a table of pack_mask_types")
            for i, (kind, keep, constant, key) in enumerate(masks):
                mask_fill(&c.masks[<size_t>i], kind, keep, constant, key)
                c.masks[<size_t>i].types = c.types
            for table, attnum, mask in columns:
                if not 0 <= mask < len(masks) or not 0 < attnum < 0x8000:
                    raise ValueError("masked column: attribute number or mask out of range")
                context_column(c, table, attnum, mask)
                context_column(c, table, 0, WHOLE_ROW)
            for view, view_attnum, table, attnum in aliases:
                if not 0 < view_attnum < 0x8000 or not -7 < attnum < 0x8000:
                    raise ValueError("column of a masking view: attribute number out of range")
                context_alias(c, view, view_attnum, table, <uint16_t><int16_t>attnum)
            m = _message(COMMAND_CONTEXT, 0)
        except BaseException:
            context_free(c)
            raise
        m.p = c
        self._send(m)

    def drop_context(self, uint64_t context):
        cdef Message* m = _message(COMMAND_DROP_CONTEXT, 0)
        m.c = <int64_t>context
        self._send(m)

    def adopt(self, uint64_t session, uint64_t context, int client_fd, TlsConnection client_tls, int upstream_fd,
              TlsConnection upstream_tls, *, bytes start_record, bytes to_client=b"", bytes from_client=b"",
              bytes from_upstream=b"", bytes status=b"I", capture_bytes=None):
        cdef Message* m = _message(COMMAND_ADOPT, session)
        cdef Adoption* a = <Adoption*>calloc(1, sizeof(Adoption))
        if a == NULL:
            message_free(m)
            raise MemoryError
        m.p = a
        m.a = client_fd
        m.b = upstream_fd
        m.c = <int64_t>context
        a.status = status[0]
        a.capture_max = self.r.capture_max if capture_bytes is None else <int64_t>capture_bytes
        _put(&m.x, start_record)
        _put(&m.y, to_client)
        _put(&m.z, from_client)
        _put(&a.from_upstream, from_upstream)
        a.client_ssl = client_tls.take() if client_tls is not None else NULL
        a.upstream_ssl = upstream_tls.take() if upstream_tls is not None else NULL
        self._send(m)

    def set_context(self, uint64_t session, uint64_t context):
        cdef Message* m = _message(COMMAND_SET_CONTEXT, session)
        m.c = <int64_t>context
        self._send(m)

    def decide(self, uint64_t session, uint64_t serial, int action, int flags, *, bytes label, bytes error=b"",
               int zero_origin=0, bytes copy_plan=b"", bint cache=True, bytes free_constants=b"", double limit_s=0.0,
               bytes sent=b"", bytes sent_types=b""):
        cdef Message* m
        cdef Decided* d
        if b"\0" in sent or len(sent_types) % 4 or len(sent_types) > 4 * 0xFFFF or (sent_types and not sent):
            raise ValueError("decide: NUL in the text to send, or types that are not four bytes each")
        if <size_t>len(sent) > self.r.statement_max:
            raise ValueError("decide: the text to send is longer than a statement may be")
        m = _message(COMMAND_DECIDE, session)
        d = <Decided*>calloc(1, sizeof(Decided))
        if d == NULL:
            message_free(m)
            raise MemoryError
        m.p = d
        m.serial = serial
        d.action = action
        d.flags = flags
        d.zero_origin = zero_origin
        d.cache = cache
        d.limit_ns = <int64_t>(limit_s * 1e9)
        _put(&d.free_at, free_constants)
        _put(&d.sent, sent)
        _put(&d.sent_types, sent_types)
        _put(&m.x, label)
        _put(&m.y, error)
        _put(&m.z, copy_plan)
        self._send(m)

    def probe(self, uint64_t session, uint64_t serial, bytes sql, bytes types=b""):
        cdef Message* m = _message(COMMAND_PROBE, session)
        if b"\0" in sql or len(types) % 4:
            message_free(m)
            raise ValueError("probe: NUL in the text, or types that are not four bytes each")
        m.serial = serial
        _put(&m.x, sql)
        _put(&m.y, types)
        self._send(m)

    cdef _plain(self, int kind, uint64_t session, bytes data):
        cdef Message* m = _message(kind, session)
        _put(&m.x, data)
        self._send(m)

    def notice(self, uint64_t session, bytes frame, *, bint held=True):
        cdef Message* m = _message(COMMAND_NOTICE, session)
        m.a = held
        _put(&m.x, frame)
        self._send(m)

    def note(self, uint64_t session, bytes payload):
        self._plain(COMMAND_NOTE, session, payload)

    def enforce_limits(self):
        self._send(_message(COMMAND_LIMITS, 0))

    def set_idle_timeout(self, double seconds):
        hf_store_release64(&self.r.idle_timeout_ns, <uint64_t>(seconds * 1e9) if seconds > 0 else 0)

    def cancel(self, uint64_t session):
        self._plain(COMMAND_CANCEL, session, b"")

    def cancel_done(self, uint64_t session):
        self._plain(COMMAND_CANCEL_DONE, session, b"")

    def kill(self, uint64_t session, bytes frame, bint when_idle=False):
        cdef Message* m = _message(COMMAND_KILL, session)
        m.a = when_idle
        _put(&m.x, frame)
        self._send(m)

    cdef tuple _event(self, Message* m):
        if m.kind == EVENT_VERDICT:
            return ("verdict", m.session, m.serial, chr(m.a), m.b, _bytes(&m.x), _bytes(&m.y), _bytes(&m.z), bytes([m.c]))
        if m.kind == EVENT_PROBE:
            return ("probe", m.session, m.serial, _bytes(&m.x))
        if m.kind == EVENT_CANCEL:
            return ("cancel", m.session)
        if m.kind == EVENT_CATALOG:
            return ("catalog", m.session)
        if m.kind == EVENT_CLOSED:
            return ("closed", m.session, (<bytes><const char*>m.p).decode())
        if m.kind == EVENT_WITHDRAWN:
            return ("withdrawn", m.session, m.serial)
        if m.kind == EVENT_SEGMENT:
            return ("segment",)
        if m.kind == EVENT_UNSYNCED:
            return ("unsynced", m.a)
        return ("sealed", (<bytes>(<JournalSegment*>m.p).path).decode())

    def events(self):
        cdef uint64_t drained
        cdef Message* m
        found = []
        c_read(self.r.event_fd, &drained, 8)
        while True:
            m = ring_pop(self.r.events)
            if m == NULL:
                return found
            found.append(self._event(m))
            if m.kind == EVENT_SEALED:
                segment_free(<JournalSegment*>m.p)
            message_free(m)

    def __dealloc__(self):
        cdef State* r = self.r
        cdef Message* m
        cdef Context* c
        if r == NULL or self.running:
            return
        hf_ring_close(r.ring)
        r.ring = NULL                   # nothing is under way any more
        while r.all != NULL:
            session_drop(r, r.all)
        while r.commands != NULL:
            m = ring_pop(r.commands)
            if m == NULL:
                break
            message_drop(m)
        while r.events != NULL:
            m = ring_pop(r.events)
            if m == NULL:
                break
            if m.kind == EVENT_SEALED:
                segment_free(<JournalSegment*>m.p)
            message_free(m)
        while r.cache.newest != NULL:
            cache_remove(&r.cache, r.cache.newest)
        free(r.cache.buckets)
        while r.contexts != NULL:
            c = r.contexts
            r.contexts = c.next
            context_free(c)
        segment_free(r.journal.current)
        segments_free(r.journal.spares)
        segments_free(r.journal.sealed)
        for fd in (r.epoll_fd, r.wake_fd, r.event_fd):
            if fd >= 0:
                c_close(fd)
        free(r.commands)
        free(r.events)
        free(r.sessions)
        free(r.scratch)
        free(r.lexed)
        free(r.lexed_key)
        free(r.arena)
        free(r.posts)
        free(r)


cdef void session_drop(State* r, Session* s) noexcept:
    """Free a session of a relay that runs no more."""
    s.close_reason = "stopped"
    leg_close(r, &s.client)
    leg_close(r, &s.upstream)
    if s.client.parting:
        c_close(s.client.parting_fd)
    if s.upstream.parting:
        c_close(s.upstream.parting_fd)
    session_free(r, s)


cdef void segments_free(JournalSegment* g) noexcept nogil:
    cdef JournalSegment* following
    while g != NULL:
        following = g.next
        segment_free(g)
        g = following


cdef void message_drop(Message* m) noexcept:
    """Free a command that was never taken, with what travels in it."""
    cdef Adoption* a
    if m.kind == COMMAND_ADOPT:
        a = <Adoption*>m.p
        if a.client_ssl != NULL:
            SSL_free(a.client_ssl)
        if a.upstream_ssl != NULL:
            SSL_free(a.upstream_ssl)
        buffer_free(&a.from_upstream)
        c_close(<int>m.a)
        c_close(<int>m.b)
        free(a)
    elif m.kind == COMMAND_SEGMENT:
        segment_free(<JournalSegment*>m.p)
    elif m.kind == COMMAND_CONTEXT:
        context_free(<Context*>m.p)
    elif m.kind == COMMAND_DECIDE:
        decided_free(<Decided*>m.p)
    message_free(m)
