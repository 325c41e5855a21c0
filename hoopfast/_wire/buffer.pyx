# Growable byte buffers. Growth follows bytes that have arrived, never a length that was only announced.

cdef uint64_t BUFFER_BYTES = 0      # in all buffers of the process; the front's thread fills messages, hence atomic

cdef struct Buffer:
    uint8_t* data
    size_t start                # first byte not yet taken
    size_t end                  # one past the last byte put
    size_t room                 # allocated


cdef inline size_t buffer_used(const Buffer* b) noexcept nogil:
    return b.end - b.start


cdef int buffer_reserve(Buffer* b, size_t more) noexcept nogil:
    """Make place for `more` bytes after `end`; 0, or -1 when memory is short."""
    cdef size_t used = b.end - b.start
    cdef size_t room
    cdef uint8_t* grown
    if b.room - b.end >= more:
        return 0
    if b.start > 0:
        memmove(b.data, b.data + b.start, used)
        b.start = 0
        b.end = used
        if b.room - b.end >= more:
            return 0
    room = b.room * 2 if b.room else 512
    while room < used + more:
        room *= 2
    grown = <uint8_t*>realloc(b.data, room)
    if grown == NULL:
        return -1
    hf_add_relaxed64(&BUFFER_BYTES, room - b.room)
    b.data = grown
    b.room = room
    return 0


cdef int buffer_put(Buffer* b, const void* p, size_t n) noexcept nogil:
    if n == 0:
        return 0
    if buffer_reserve(b, n) < 0:
        return -1
    memcpy(b.data + b.end, p, n)
    b.end += n
    return 0


cdef inline void buffer_take(Buffer* b, size_t n) noexcept nogil:
    HF_ASSERT(n <= b.end - b.start)
    b.start += n


cdef void buffer_free(Buffer* b) noexcept nogil:
    if b.room:
        hf_add_relaxed64(&BUFFER_BYTES, <uint64_t>-<int64_t>b.room)
    free(b.data)
    b.data = NULL
    b.start = b.end = b.room = 0


cdef uint8_t* copy_bytes(const void* p, size_t n) noexcept nogil:
    """A malloc'ed copy (never NULL for n = 0 unless memory is short)."""
    cdef uint8_t* c = <uint8_t*>malloc(n + 1)
    if c != NULL:
        if n:
            memcpy(c, p, n)
        c[n] = 0
    return c
