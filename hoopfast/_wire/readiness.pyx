# How the relay learns that a descriptor has something: an epoll set, edge-triggered, or an io_uring.
#
# io_uring: every leg is watched for room to write and for its end by one standing poll. Bytes of a plain leg come by one
# standing receive into buffers that all legs share, and are moved to leg.pending at once, so no leg can keep a buffer from
# the others. A leg that gets more than a little, or is not read by us, loses its standing receive: from then on it is
# read as with epoll, when it is its turn, until it has been found empty. While the kernel holds a receive
# (leg.asked), nobody else reads the descriptor: bytes cannot overtake each other. OpenSSL reads its legs itself.

cdef extern from "uring.h" nogil:
    ctypedef struct HfRing
    ctypedef struct HfCqe:
        uint64_t user_data
        int32_t res
        uint32_t flags
    enum:
        HF_CQE_BUFFER, HF_CQE_MORE, HF_CQE_BUFFER_SHIFT, HF_RING_CQ, HF_RING_BUFFER_BYTES
    HfRing* hf_ring_open()
    void hf_ring_close(HfRing* r)
    int hf_ring_enable(HfRing* r)
    void hf_ring_enter(HfRing* r, uint32_t least)
    int hf_ring_watch(HfRing* r, int fd, uint32_t events, uint64_t mark)
    int hf_ring_readable(HfRing* r, int fd, uint64_t mark)
    int hf_ring_receive(HfRing* r, int fd, uint64_t mark)
    int hf_ring_send(HfRing* r, int fd, const void* p, uint32_t n, uint64_t mark)
    int hf_ring_cancel(HfRing* r, uint64_t asked)
    int hf_ring_alarm(HfRing* r, int64_t nanoseconds, uint64_t mark)
    int hf_ring_next(HfRing* r, HfCqe* to)
    void hf_ring_give(HfRing* r, uint32_t id)
    const uint8_t* hf_ring_bytes(const HfRing* r, uint32_t id)

cdef enum:                      # the low bits of a request's mark; the others are its leg, or nothing: the relay's own
    MARK_WATCH = 1
    MARK_BYTES = 2
    MARK_READABLE = 3
    MARK_SENT = 4
    MARKS = 7
    MARK_WAKE = 1
    MARK_TICK = 2

cdef enum:                      # Leg.asked
    ASKED_NOT
    ASKED_BYTES                 # a standing receive
    ASKED_READABLE              # one event when there is something to read

cdef enum:
    UNHANDLED_MAX = 16384       # bytes in pending that make a leg lose its standing receive
    BULK_MIN = 32768            # bytes read in one go by a leg that is better told than handed
    POSTS_MAX = 256
    POST_BYTES = 8192           # more is sent at once, from where it lies
    POSTS_BYTES = 262144

cdef struct Posts:
    Leg* legs[256]
    uint32_t n
    uint32_t under_way          # handed to the kernel, not yet completed; 0 whenever a session has its turn
    size_t used
    uint8_t bytes[262144]


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


cdef inline bint in_flight(const Leg* leg) noexcept nogil:
    """Whether the kernel holds a request that will name this leg: it must not be freed, nor its descriptor closed."""
    return leg.watched or leg.asked


cdef inline bint leg_named(const Leg* leg) noexcept nogil:
    """Whether this leg's address stands somewhere: it must not be freed."""
    return in_flight(leg) or leg.listed


cdef bint leg_watch(State* r, Leg* leg) noexcept nogil:
    """From now on events of this leg make its session ready."""
    cdef epoll_event ev
    cdef uint32_t events = EPOLLOUT | EPOLLRDHUP
    if r.ring == NULL:
        ev.events = events | EPOLLIN | <uint32_t>EPOLLET
        ev.data.ptr = leg
        return c_epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, leg.fd, &ev) == 0
    if leg.ssl != NULL:
        events |= EPOLLIN
    leg.watched = hf_ring_watch(r.ring, leg.fd, events, <uint64_t>leg | MARK_WATCH) == 0
    return leg.watched


cdef void leg_unask(State* r, Leg* leg) noexcept nogil:
    """No more bytes for now; those under way still come."""
    cdef uint64_t mark = MARK_BYTES if leg.asked == ASKED_BYTES else MARK_READABLE
    if leg.asked and not leg.unasked:
        leg.unasked = hf_ring_cancel(r.ring, <uint64_t>leg | mark) == 0


cdef void leg_listen(State* r, Leg* leg, bint told) noexcept nogil:
    """The descriptor has been found empty: ask for what comes next, or (`told`) just to be told."""
    cdef int asked
    if r.ring == NULL or leg.asked or leg.ssl != NULL or leg.fd < 0:
        return
    if told or leg.streak >= BULK_MIN:
        asked = hf_ring_readable(r.ring, leg.fd, <uint64_t>leg | MARK_READABLE)
        leg.asked = ASKED_READABLE
    else:
        asked = hf_ring_receive(r.ring, leg.fd, <uint64_t>leg | MARK_BYTES)
        leg.asked = ASKED_BYTES
    leg.streak = 0
    if asked < 0:
        leg.asked = ASKED_NOT
        leg.readable = True             # it is looked at again in the next pass, and asked for again
        ready(r, leg.session)


cdef void leg_part(State* r, Leg* leg) noexcept nogil:
    """A closed leg: end what the kernel still holds of it. The descriptor stays open until the last has ended, or the
    peer would not see it closed."""
    if not leg.parting:
        return
    if leg.watched and not leg.unwatched:
        leg.unwatched = hf_ring_cancel(r.ring, <uint64_t>leg | MARK_WATCH) == 0
    leg_unask(r, leg)
    if not in_flight(leg):
        leg.parting = False
        c_close(leg.parting_fd)


cdef void leg_unwatch(State* r, Leg* leg) noexcept nogil:
    """Close the descriptor, at once or as soon as the kernel has let go of it."""
    if r.ring == NULL:
        c_epoll_ctl(r.epoll_fd, EPOLL_CTL_DEL, leg.fd, NULL)
        c_close(leg.fd)
    else:
        leg.parting = True
        leg.parting_fd = leg.fd
        leg_part(r, leg)
    leg.fd = -1


cdef void leg_event(State* r, Leg* leg, uint32_t events) noexcept nogil:
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR) and not leg.asked:
        leg.readable = True
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        leg.hung = True
        # A client that only sends no more still waits for its answer, but it could not be told of an approval.
        if leg.is_client and leg.session.parked and (leg.session.held or events & (EPOLLHUP | EPOLLERR)):
            leg.ended = True
    ready(r, leg.session)


cdef void leg_take(State* r, Leg* leg, const uint8_t* p, size_t n) noexcept nogil:
    """Bytes that the kernel has received for this leg. A leg that is read no more drops them."""
    cdef Session* s = leg.session
    if leg.ended or s.closing:
        return
    if buffer_put(&leg.pending, p, n) < 0:
        leg.ended = True
    count(r, C_CLIENT_IN if leg.is_client else C_UPSTREAM_IN, n)
    if leg.is_client:
        s.last_active_ns = r.now_ns
    leg.retry = leg.retry or buffer_used(&leg.pending) >= leg.need
    ready(r, s)


cdef void leg_completed(State* r, Leg* leg, uint64_t mark, const HfCqe* c) noexcept nogil:
    """A request of this leg has brought something, or (without HF_CQE_MORE) has ended."""
    cdef bint over = not c.flags & HF_CQE_MORE
    if mark == MARK_WATCH:
        if over:
            leg.watched = leg.unwatched = False
        if not leg.parting:
            leg_event(r, leg, <uint32_t>c.res if c.res >= 0 else 0)
            # Without its events a session would hang. A full queue of completions ends a watch too: that is no error.
            if over and (c.res < 0 or not leg_watch(r, leg)):
                leg.broken = True
    else:
        if c.flags & HF_CQE_BUFFER:
            if c.res > 0:
                leg_take(r, leg, hf_ring_bytes(r.ring, c.flags >> HF_CQE_BUFFER_SHIFT), <size_t>c.res)
            hf_ring_give(r.ring, c.flags >> HF_CQE_BUFFER_SHIFT)
        if over:
            # End of file and errors are met again by whoever reads the descriptor next.
            leg.asked = ASKED_NOT
            leg.unasked = False
            leg.readable = not leg.ended
            ready(r, leg.session)
        elif c.res == HF_RING_BUFFER_BYTES or buffer_used(&leg.pending) > UNHANDLED_MAX or leg.ended or leg.session.closing:
            leg_unask(r, leg)
    leg_part(r, leg)


cdef bint leg_post(State* r, Leg* leg, Gather* g) noexcept nogil:
    """Copy a little to be sent by the next io_uring_enter, together with what others send; False: send it yourself."""
    cdef Posts* posts = r.posts
    cdef int i
    if (posts == NULL or leg.ssl != NULL or leg.listed or buffer_used(&leg.out) or g.bytes > POST_BYTES
            or posts.n == POSTS_MAX or posts.used + g.bytes > POSTS_BYTES):
        return False
    leg.posted = posts.bytes + posts.used
    leg.n_posted = <uint32_t>g.bytes
    for i in range(g.n):
        memcpy(posts.bytes + posts.used, g.parts[i].iov_base, g.parts[i].iov_len)
        posts.used += g.parts[i].iov_len
    g.n = 0
    g.bytes = 0
    leg.listed = True
    posts.legs[posts.n] = leg
    posts.n += 1
    return True


cdef void posts_ask(State* r) noexcept nogil:
    """Requests for what has been posted and not been settled since."""
    cdef Posts* posts = r.posts
    cdef Leg* leg
    cdef uint32_t i
    for i in range(posts.n):
        leg = posts.legs[i]
        leg.listed = False
        if leg.n_posted == 0:
            continue
        if hf_ring_send(r.ring, leg.fd, leg.posted, leg.n_posted, <uint64_t>leg | MARK_SENT) == 0:
            posts.under_way += 1
        elif leg_flush(leg, r.now_ns) < 0:
            leg.broken = True
            ready(r, leg.session)
    posts.n = 0


cdef void leg_sent(State* r, Leg* leg, int res) noexcept nogil:
    """The posted bytes are gone, or some of them; as a send of our own would have told."""
    cdef uint32_t size = leg.n_posted, sent = <uint32_t>res if res > 0 else 0
    r.posts.under_way -= 1
    leg.n_posted = 0
    if sent == size:
        return
    if (res < 0 and res != -EAGAIN and res != -EINTR) or buffer_put(&leg.out, leg.posted + sent, size - sent) < 0 or (
            leg_flush(leg, r.now_ns) < 0):
        leg.broken = True
        ready(r, leg.session)


cdef void ring_reap(State* r) noexcept nogil:
    """What the kernel has completed, at most as much as it can have by now."""
    cdef HfCqe c
    cdef int i
    cdef Leg* leg
    for i in range(HF_RING_CQ):
        if not hf_ring_next(r.ring, &c):
            return
        leg = <Leg*>(c.user_data & ~<uint64_t>MARKS)
        if leg != NULL and c.user_data & MARKS == MARK_SENT:
            leg_sent(r, leg, c.res)
        elif leg != NULL:
            leg_completed(r, leg, c.user_data & MARKS, &c)
        elif c.user_data == MARK_TICK:
            r.alarmed = False
        elif c.user_data == MARK_WAKE:
            r.woken = True
            if not c.flags & HF_CQE_MORE:
                r.wake_watched = False


cdef void ring_wait(State* r, bint wait) noexcept nogil:
    """One io_uring_enter for what has been asked and posted, and what it has brought."""
    if not r.wake_watched:
        r.wake_watched = hf_ring_watch(r.ring, r.wake_fd, EPOLLIN, MARK_WAKE) == 0
        r.woken = True
    if not r.alarmed:
        r.alarmed = hf_ring_alarm(r.ring, TICK_NS, MARK_TICK) == 0
    posts_ask(r)
    # What is posted completes by itself; the sleep is for one completion more.
    hf_ring_enter(r.ring, r.posts.under_way + 1 if wait and not r.woken else 0)
    r.now_ns = hf_clock(CLOCK_MONOTONIC)
    ring_reap(r)
    while r.posts.under_way:
        # The kernel was short of memory, or its queue of completions had overflowed.
        hf_ring_enter(r.ring, 0)
        ring_reap(r)
    r.posts.used = 0


cdef void epoll_wait(State* r, bint wait) noexcept nogil:
    cdef epoll_event events[256]
    cdef int i, n = c_epoll_wait(r.epoll_fd, events, EVENTS_PER_WAIT, TICK_NS // 1000000 if wait else 0)
    r.now_ns = hf_clock(CLOCK_MONOTONIC)
    for i in range(n):
        if events[i].data.ptr == NULL:
            r.woken = True
        else:
            leg_event(r, <Leg*>events[i].data.ptr, events[i].events)
