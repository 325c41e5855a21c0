# Masks of single values and of COPY rows. Memory is taken exactly as large as announced, so that the sanitizer sees a byte
# too many; and a value must not depend on how much room there was.

cdef MaskSpec MASKS[4]
cdef uint8_t MASK_KEY[32]
cdef uint32_t[24] MASK_TYPES = [
    16, 17, 20, 21, 23, 25, 114, 600, 700, 701, 790, 869, 1042, 1043, 1082, 1114, 1184, 1266, 1700, 2950, 3802, 1009, 1231, 0,
]


cdef uint8_t* exactly(const uint8_t* p, size_t n) noexcept nogil:
    """A copy without a byte behind it."""
    cdef uint8_t* c = <uint8_t*>malloc(n if n else 1)
    if n:
        memcpy(c, p, n)
    return c


cdef int fuzz_mask(const uint8_t* p, size_t n) except -1 nogil:
    """Kind, keep, type, format, length of the constant; constant, then value."""
    cdef MaskSpec m
    cdef size_t constant, bound, room
    cdef uint8_t* value
    cdef uint8_t* out
    cdef uint8_t* tight
    cdef ssize_t done, again
    cdef uint32_t type_oid
    if n < 5:
        return 0
    memset(&m, 0, sizeof(m))
    m.kind = p[0] % 6
    m.keep = p[1]
    type_oid = MASK_TYPES[p[2] % 24]
    constant = p[4] % 32
    if constant > n - 5:
        constant = n - 5
    m.constant = exactly(p + 5, constant)
    m.constant_len = constant
    memset(m.key, 0x5A, 32)
    n -= 5 + constant
    value = exactly(p + 5 + constant, n)
    bound = mask_cell_bound(&m, <ssize_t>n)
    out = <uint8_t*>malloc(bound if bound else 1)
    done = mask_cell(&m, type_oid, p[3] & 1, value, <ssize_t>n, out, bound)
    if done == MASK_NO_ROOM or done > <ssize_t>bound:
        faulty("the bound of a mask is too small")
    if done > 0:
        room = <size_t>done
        tight = <uint8_t*>malloc(room)
        again = mask_cell(&m, type_oid, p[3] & 1, value, <ssize_t>n, tight, room)
        # Some masks work in place and need their bound; they say so instead of giving another value.
        if again != MASK_NO_ROOM and (again != done or memcmp(out, tight, room)):
            faulty("a mask depends on its room")
        free(tight)
    free(out)
    free(value)
    free(m.constant)
    return 0


cdef int fuzz_copy(const uint8_t* p, size_t n) except -1 nogil:
    """The first operation is the plan; each further one a CopyData body."""
    cdef size_t at, length, bound
    cdef CopyPlan* plan
    cdef uint8_t* row
    cdef uint8_t* out
    cdef int state = COPY_AT_START, i
    cdef long long cells = 0
    cdef ssize_t done
    memset(MASKS, 0, sizeof(MASKS))
    MASKS[0].kind = MASK_DO_REDACT
    MASKS[1].kind = MASK_DO_PARTIAL
    MASKS[1].keep = 2
    MASKS[2].kind = MASK_DO_HASH
    MASKS[3].kind = MASK_DO_EMAIL
    at = operation(p, 0, n, &length)
    if length == 0:
        return 0
    row = exactly(p + 3, length)
    plan = copy_plan_unpack(row, length)
    free(row)
    if plan == NULL:
        return 0
    while at < n:
        p += at
        n -= at
        at = operation(p, 0, n, &length)
        if n < 3:
            break
        row = exactly(p + 3, length)
        bound = copy_mask_bound(plan, MASKS, 4, length)
        out = <uint8_t*>malloc(bound)
        done = copy_mask_row(plan, MASKS, 4, row, length, out, bound, &state, &cells)
        if done == COPY_NO_ROOM or done > <ssize_t>bound:
            faulty("the bound of a COPY row is too small")
        free(out)
        free(row)
        if done < 0:
            break
    copy_plan_free(plan)
    return 0


cdef int fuzz_frames(const uint8_t* p, size_t n) except -1 nogil:
    """First byte: whose frames. What the scanner takes for a frame lies within the bytes."""
    cdef uint8_t* bytes
    cdef size_t at = 0, total = 0, size
    cdef uint8_t* table
    if n < 2:
        return 0
    size = n - 1
    bytes = exactly(p + 1, size)
    table = &FRONTEND_TAKE[0] if p[0] & 1 else &BACKEND_TAKE[0]
    while size - at >= 5:
        if table[bytes[at]] == TAKE_NEVER or frame_length(bytes + at, 65536, &total) < 0:
            break
        if total < 5 or total > 65537:
            faulty("a frame of an impossible size")
        if size - at < total:
            break
        if cstring_end(bytes + at + 5, bytes + at + total) >= bytes + at + total:
            faulty("a string ends outside of its frame")
        at += total
    plan_release(plan_parse(MASKED, bytes, size))
    free(bytes)
    return 0
