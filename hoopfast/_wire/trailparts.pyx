# What Decoder (decode.pyx) makes of records: sessions, definitions, portals, statements.

cimport cython
from cpython.unicode cimport PyUnicode_DecodeUTF8

cdef enum:                      # what a statement was
    S_SIMPLE
    S_EXTENDED
    S_PARSE
    S_FUNCTION
    S_LOST

cdef enum:                      # and how it ended
    O_RUNNING
    O_COMPLETE
    O_ERROR
    O_DENIED
    O_SUSPENDED
    O_UNKNOWN
    O_SKIPPED

cdef tuple KIND_TEXTS = (b"simple", b"extended", b"parse", b"function", b"lost")
OUTCOME_TEXTS = ("running", "complete", "error", "denied", "suspended", "unknown", "skipped")
cdef tuple OUTCOME_BYTES = tuple(text.encode() for text in OUTCOME_TEXTS)
cdef bytes EMPTY = b""
cdef str TOO_SHORT = "it is too short"


cdef class _Session:
    cdef uint64_t number
    cdef readonly str id
    cdef bytes header           # the start record's payload; b"" when it was lost
    cdef readonly object who    # audit.events.Header
    cdef bytes head, body       # of a statement's JSON line: before and after seq and time
    cdef dict open, parses, portals
    cdef dict described         # statement id -> (parameter types as in Parse, RowDescription frame), each or b""


cdef class _Definition:
    cdef bytes payload
    cdef readonly object info   # audit.builder.Definition
    cdef bytes types
    cdef bytes sql              # JSON
    cdef bytes tail             # JSON, from parameter_types to outcome
    cdef object guard           # audit.protected.Guard; None: nothing of it is protected
    cdef Shape shape

    def __dealloc__(self):
        shape_free(&self.shape)


@cython.no_gc
cdef class _Bound:
    """A portal's Bind; taken apart when it is executed."""

    cdef uint64_t seq
    cdef int64_t wall
    cdef _Definition definition
    cdef bytes body
    cdef bytes portal
    cdef bint opened
    cdef bint private           # opened at once, and its body is gone
    cdef bytes name             # JSON text without quotes
    cdef bytes parameters       # JSON list
    cdef bytes binary           # JSON list: the bytes of parameters in binary format; None: there are none
    cdef bytes formats          # of results, as in the message
    cdef bytes protected        # JSON members, each with a comma in front


@cython.no_gc
cdef class Finished:
    """A statement and, once its outcome came, how it ended; see _wire.pyi. Open ones refer to no session: no cycles."""

    cdef _Session session
    cdef _Definition definition
    cdef uint64_t seq
    cdef int64_t wall
    cdef int kind, outcome
    cdef uint32_t row_limit
    cdef bytes name, portal, tag                # JSON texts without quotes
    cdef bytes parameters, binary, error, results       # JSON or None
    cdef int64_t first_us                       # from arrival to the first row; -1: no row came
    cdef bytes protected                        # JSON members, each with a comma in front
    cdef str sqlstate
    cdef uint64_t rows, sent, copied, duration_us
    cdef bytes formats
    cdef object frames                          # None, bytes, or a list of bytes
    cdef uint64_t captured

    def line(self):
        cdef Buffer b
        cdef Moment moment
        memset(&b, 0, sizeof(b))
        memset(&moment, 0, sizeof(moment))
        try:
            write_line(&b, &moment, self)
            return _bytes(&b)
        finally:
            buffer_free(&b)


cdef Finished finished(int kind, uint64_t seq, int64_t wall, _Definition definition):
    cdef Finished f = Finished.__new__(Finished)
    f.kind = kind
    f.seq = seq
    f.wall = wall
    f.definition = definition
    f.name = f.portal = f.tag = f.formats = f.protected = EMPTY
    f.first_us = -1
    return f


cdef bytes with_formats(bytes frame, bytes formats):
    """A RowDescription frame as the rows of a portal have it: Describe of a statement knows no formats yet."""
    cdef bytearray made = bytearray(frame)
    cdef uint8_t* p = made
    cdef const uint8_t* nul
    cdef const uint8_t* given = <const uint8_t*>PyBytes_AS_STRING(formats)
    cdef size_t n = len(made), known = PyBytes_GET_SIZE(formats) // 2, at = 7, i
    if known == 0 or n < 7:
        return frame
    for i in range(hf_be16(p + 5)):
        nul = <const uint8_t*>memchr(p + at, 0, n - at)
        if nul == NULL or <size_t>(p + n - nul) < 19:
            break
        if known == 1 or i < known:
            memcpy(<uint8_t*>nul + 17, given if known == 1 else given + 2 * i, 2)
        at = nul - p + 19
    return bytes(made)


cdef bytes without_text(_Definition d):
    """The payload of a definition (whose lengths `define` has checked) without its SQL."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(d.payload)
    cdef uint32_t tables, types                     # the second stands behind bytes of any length: not aligned
    memcpy(&tables, p + 8, 4)
    memcpy(&types, p + 12 + tables, 4)
    return d.payload[:16 + <size_t>tables + types]


cdef object keep(dict places, list payloads, _Definition d):
    """Its index in the snapshot."""
    place = places.get(d)
    if place is None:
        place = places[d] = len(payloads)
        payloads.append(d.payload)
    return place
