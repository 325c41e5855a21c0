# Masking of one cell: a value that says nothing, yet is valid for its type in its wire format. docs/masks.md has the table.
#
# No allocation, no Python. Whatever a kind cannot do for a type falls back to that type's redaction, and what has no
# redaction becomes NULL, which every type has. tests/wire/reference_mask.py says the same a second time, slowly.

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy, memset


# ---------------------------------------------------------------- partial, email

cdef inline size_t mask_ascii_run(const unsigned char* p, size_t n) noexcept nogil:
    """How many bytes from p on are ASCII, eight at a time; what is behind them has to be looked at one by one."""
    cdef uint64_t word
    cdef size_t i = 0
    while n - i >= 8:
        memcpy(&word, p + i, 8)
        if word & 0x8080808080808080ULL:
            return i
        i += 8
    return i


cdef ssize_t mask_partial(const MaskSpec* m, const unsigned char* src, size_t n, unsigned char* dst, size_t room) noexcept nogil:
    """Stars, then the last `keep` characters, never more than half of them."""
    cdef size_t i = mask_ascii_run(src, n), step, chars = i, keep, kept_from = n
    while i < n:
        step = mask_utf8_step(src + i, n - i)
        if step == 0:
            return MASK_UNFIT               # half of what, if the characters are unknown
        i += step
        chars += 1
    keep = <size_t>m.keep if m.keep > 0 else 0
    if keep > chars // 2:
        keep = chars // 2
    for i in range(keep):
        kept_from -= 1
        while src[kept_from] & 0xC0 == 0x80:
            kept_from -= 1
    chars -= keep
    if chars + (n - kept_from) > room:
        return MASK_NO_ROOM
    memset(dst, c'*', chars)
    memcpy(dst + chars, src + kept_from, n - kept_from)
    return <ssize_t>(chars + (n - kept_from))


cdef ssize_t mask_email(unsigned int oid, const unsigned char* src, size_t n, unsigned char* dst, size_t room) noexcept nogil:
    """First character, three stars, the domain."""
    cdef const unsigned char* sign = <const unsigned char*>memchr(src, c'@', n) if n else NULL
    cdef size_t at, first, total
    if sign == NULL:
        return MASK_UNFIT
    at = sign - src
    if at == 0 or at + 1 >= n or memchr(sign + 1, c'@', n - at - 1) != NULL:
        return MASK_UNFIT
    first = mask_utf8_step(src, at)
    total = first + 3 + (n - at)
    if first == 0 or (oid == OID_NAME and total > MASK_NAME_MAX):
        return MASK_UNFIT
    if total > room:
        return MASK_NO_ROOM
    memcpy(dst, src, first)
    memset(dst + first, c'*', 3)
    memcpy(dst + first + 3, src + at, n - at)
    return <ssize_t>total


# ---------------------------------------------------------------- the cell

cdef ssize_t mask_cut(unsigned int oid, int typmod, const unsigned char* p, ssize_t n) noexcept nogil:
    """How much of a masked text varchar(n) or char(n) may hold."""
    cdef size_t i = 0, step
    cdef int chars
    if typmod < 4 or (oid != OID_VARCHAR and oid != OID_BPCHAR):    # the server's word: it may be any number
        return n
    chars = typmod - 4
    if n <= chars:
        return n
    while chars and i < <size_t>n:
        step = mask_utf8_step(p + i, <size_t>n - i)
        i += step if step else 1
        chars -= 1
    return <ssize_t>i


cdef ssize_t mask_scalar(
    const MaskSpec* m, unsigned int oid, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst,
    size_t room
) noexcept nogil:
    """Bytes written to dst, or MASK_IS_NULL, or MASK_NO_ROOM."""
    cdef ssize_t done = MASK_UNFIT
    cdef bint text = mask_is_text(oid)
    cdef size_t whole = n
    if m.kind == MASK_DO_CONSTANT:
        done = mask_constant(m, oid, typmod, fmt, src, n, dst, room)
    elif m.kind != MASK_DO_REDACT:
        if oid == OID_BPCHAR:                       # the padding is no part of the value
            while n and src[n - 1] == c' ':
                n -= 1
        if m.kind == MASK_DO_HASH or m.kind == MASK_DO_TOKEN:
            done = mask_hash(m, oid, typmod, fmt, src, n, dst, room)
        elif m.kind == MASK_DO_BUCKET:
            done = mask_bucket(m, oid, typmod, fmt, src, n, dst, room)
        elif m.kind == MASK_DO_FF1:
            done = mask_format_preserving(m, oid, fmt, src, n, dst, room)
        elif text:
            done = mask_partial(m, src, n, dst, room) if m.kind == MASK_DO_PARTIAL else mask_email(oid, src, n, dst, room)
    if done == MASK_UNFIT:
        done = mask_redact(oid, fmt, src, whole, dst, room)
    return mask_cut(oid, typmod, dst, done) if text and done > 0 else done


cdef ssize_t mask_cell(
    const MaskSpec* m, unsigned int type_oid, int typmod, int fmt, const unsigned char* src, ssize_t src_len,
    unsigned char* dst, size_t room
) noexcept nogil:
    """Bytes written to dst, or MASK_IS_NULL, or MASK_NO_ROOM. src_len -1 is NULL and stays NULL; src and dst are apart."""
    if src_len < 0 or (fmt != 0 and fmt != 1) or m.kind <= MASK_DO_NULL or m.kind >= MASK_KINDS:
        return MASK_IS_NULL
    return mask_part(m, type_oid, typmod, fmt, src, <size_t>src_len, dst, room, 0)


# ---------------------------------------------------------------- from Python

cdef int mask_fill(MaskSpec* m, int kind, int keep, bytes constant, bytes key) except -1:
    """A mask of its own: mask_spec_clear."""
    memset(m, 0, sizeof(MaskSpec))
    if not 0 <= kind < MASK_KINDS:
        raise ValueError(f"mask kind {kind} does not exist")
    if mask_kind_keyed(kind) and len(key) != MASK_KEY_BYTES:
        raise ValueError(f"a mask of kind {kind} needs a key of {MASK_KEY_BYTES} bytes")
    if not mask_spec_set(m, kind, keep, constant, len(constant), key, len(key)):
        raise ValueError("the size of a bucket must be a number above zero, of up to 15 digits")
    return 0


def mask_room(int kind, int keep, bytes constant, bytes key, unsigned int type_oid, int format, bytes value, ssize_t room,
              bytes types=b"", int typmod=-1):
    """For tests: mask_cell with `room` bytes (-1: as many as its bound) and a guard behind them."""
    cdef MaskSpec m
    cdef MaskTypes* table = NULL
    cdef ssize_t done, size = len(value) if value is not None else -1
    cdef const unsigned char* src = <const unsigned char*>value if value is not None else NULL
    if types:
        table = mask_types_unpack(types, len(types))
        if table == NULL:
            raise ValueError("not a table of types")
    try:
        mask_fill(&m, kind, keep, constant, key)
        m.types = table
        if room < 0:
            room = <ssize_t>(mask_cell_bound(&m, size) + (mask_parts_bound(&m, <size_t>size) if size > 0 else 0))
        out = bytearray(b"\xA5" * (room + 64))
        mask_room_into(&m, type_oid, typmod, format, src, size, out, <size_t>room, &done)
    finally:
        mask_spec_clear(&m)
        mask_types_free(table)
    if out[room:] != b"\xA5" * 64 or done > room:
        raise SystemError("the mask wrote past its room")
    return done, bytes(out[:done]) if done >= 0 else b""


cdef int mask_room_into(
    const MaskSpec* m, unsigned int type_oid, int typmod, int fmt, const unsigned char* src, ssize_t size, bytearray out,
    size_t room, ssize_t* done
) except -1:
    cdef unsigned char* dst = out
    with nogil:
        done[0] = mask_cell(m, type_oid, typmod, fmt, src, size, dst, room)
    return 0


def mask_value(kind, keep, constant, key, type_oid, format, value, *, types=b"", typmod=-1):
    """One value as it would be masked (None: NULL). ValueError for a mask that cannot be."""
    done, masked = mask_room(kind, keep, constant, key, type_oid, format, value, -1, types, typmod)
    if done == MASK_NO_ROOM:
        raise SystemError("the bound of a mask is too small")
    return masked if done >= 0 else None


def mask_many(int kind, int keep, bytes constant, bytes key, unsigned int type_oid, int format, bytes value, long times,
              bytes types=b""):
    """For benchmarks: mask one value again and again; nanoseconds for each, of the quickest thousand.

    The quickest, because others use the machine too: what they take from it is no part of the answer.
    """
    cdef MaskSpec m
    cdef MaskTypes* table = mask_types_unpack(types, len(types))
    cdef long i, batch
    cdef size_t room
    cdef int64_t began, took, least = 0
    cdef const unsigned char* src = value
    cdef ssize_t size = len(value), done = 0
    mask_fill(&m, kind, keep, constant, key)
    m.types = table
    room = mask_cell_bound(&m, size) + mask_parts_bound(&m, <size_t>size)
    cdef bytearray out = bytearray(room)
    cdef unsigned char* dst = out
    with nogil:
        for batch in range(times // 1000):
            began = hf_clock(CLOCK_MONOTONIC)
            for i in range(1000):
                done += mask_cell(&m, type_oid, -1, format, src, size, dst, room)
            took = hf_clock(CLOCK_MONOTONIC) - began
            if least == 0 or took < least:
                least = took
    mask_spec_clear(&m)
    mask_types_free(table)
    return least / 1000 if done else 0.0
