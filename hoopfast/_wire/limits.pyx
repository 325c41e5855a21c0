# Time limits. A verdict may say how long its statement may run; the front asks about once a second that what has run longer
# be cancelled, and the server's error becomes the one that came with the verdict.
#
# What the server is at cannot be known exactly: it may keep the answers of a whole pipeline to itself until Sync. So the
# messages up to there are one unit, and the shortest limit in it holds for all of it: a statement without a limit must not
# shelter the one behind it.

cdef inline bint ends_unit(const Reply* e) noexcept nogil:
    """The server may keep all answers to itself until it has come to such a message."""
    return e.kind == REPLY_SYNC or e.kind == REPLY_QUERY or e.kind == REPLY_FUNCTION


cdef Statement* strictest_limit(Session* s) noexcept nogil:
    """The statement with the shortest limit among those the server may be at (borrowed), or NULL."""
    cdef Statement* found = NULL
    cdef Reply* e
    cdef uint32_t i = s.head
    while i != s.tail:
        e = reply_at(s, i)
        if e.stmt != NULL and e.stmt.limit_ns and (found == NULL or e.stmt.limit_ns < found.limit_ns):
            found = e.stmt
        if ends_unit(e):
            break
        i += 1
    return found


cdef void mark_limited(Session* s) noexcept nogil:
    cdef uint32_t i = s.head
    while i != s.tail:
        reply_at(s, i).limited = True
        if ends_unit(reply_at(s, i)):
            return
        i += 1


cdef void enforce_limits(State* r) noexcept nogil:
    """Cancel what has run for too long; exact to the second in which it is asked for.

    Time counts from when a reply was first seen at the head of the queue: before, the server was at another. One that
    does not come (a COPY waits for the client's data) is cancelled again after the same time.
    """
    cdef Session* s = r.all
    cdef Reply* e
    cdef Statement* x
    while s != NULL:
        e = reply_head(s)
        x = strictest_limit(s) if e != NULL and not s.closing and not s.cancel_pause else NULL
        if x != NULL:
            if e.watched_ns == 0:
                e.watched_ns = r.now_ns
            elif r.now_ns - e.watched_ns > x.limit_ns:
                e.watched_ns = r.now_ns
                mark_limited(s)
                s.cancel_pause = True
                count(r, C_CANCELS, 1)
                post(r, message_new(EVENT_CANCEL, s.id))
        s = s.all_next
