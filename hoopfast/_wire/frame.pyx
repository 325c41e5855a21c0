# Frame headers: one type byte, a four-byte length that counts itself. Nothing is believed before it is checked.

cdef enum:                      # how a frame is taken
    TAKE_NEVER                  # not a message that this side may send now: protocol violation
    TAKE_STREAM                 # forwarded as it arrives, never buffered
    TAKE_WHOLE                  # looked into: buffered until complete
    TAKE_SMALL                  # whole, and never longer than SMALL_MAX

cdef enum:
    SMALL_MAX = 10000           # PQ_SMALL_MESSAGE_LIMIT of the server

cdef uint8_t FRONTEND_TAKE[256]
cdef uint8_t BACKEND_TAKE[256]


cdef void frame_tables() noexcept nogil:
    cdef const char* p
    memset(FRONTEND_TAKE, TAKE_NEVER, 256)
    memset(BACKEND_TAKE, TAKE_NEVER, 256)
    FRONTEND_TAKE[c'd'] = TAKE_STREAM
    p = "QPBF"
    while p[0]:
        FRONTEND_TAKE[<uint8_t>p[0]] = TAKE_WHOLE
        p += 1
    p = "EDCSHcfX"
    while p[0]:
        FRONTEND_TAKE[<uint8_t>p[0]] = TAKE_SMALL
        p += 1
    p = "DdV"
    while p[0]:
        BACKEND_TAKE[<uint8_t>p[0]] = TAKE_STREAM
        p += 1
    p = "TCZ123ntsIGHENASc"
    while p[0]:
        BACKEND_TAKE[<uint8_t>p[0]] = TAKE_WHOLE
        p += 1

frame_tables()


cdef inline int frame_length(const uint8_t* p, size_t limit, size_t* total) noexcept nogil:
    """Total size (type byte included) of the frame at p, of which five bytes are there; -1 when it cannot be."""
    cdef uint32_t n = hf_be32(p + 1)
    if n < 4 or n > limit or n > 0x40000000:
        return -1
    total[0] = <size_t>n + 1
    return 0


cdef inline const uint8_t* cstring_end(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """The terminating NUL of the string at p, or NULL when there is none before `end`."""
    if p >= end:
        return NULL
    return <const uint8_t*>memchr(p, 0, end - p)


def crc32c(data):
    """CRC-32C (Castagnoli) of a bytes-like object, as in journal records."""
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        return 0
    return hf_crc32c(&view[0], view.shape[0])


def scan_frames(data, *, bint frontend, size_t limit=1 << 30):
    """(type, offset, length) of every whole frame and how many bytes they cover; ValueError on a length that cannot be."""
    cdef const uint8_t[::1] view = data
    cdef size_t n = view.shape[0], at = 0, total = 0
    cdef uint8_t* table = &FRONTEND_TAKE[0] if frontend else &BACKEND_TAKE[0]
    found = []
    while n - at >= 5:
        if table[view[at]] == TAKE_NEVER:
            raise ValueError(f"byte {at}: no message type {view[at]!r}")
        if frame_length(&view[at], limit, &total) < 0:
            raise ValueError(f"byte {at}: message length out of bounds")
        if n - at < total:
            break
        found.append((view[at], at, total))
        at += total
    return found, at
