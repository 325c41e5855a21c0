# Masks of single values and of COPY rows. Memory is taken exactly as large as announced, so that the sanitizer sees a byte
# too many; and a value must not depend on how much room there was.

cdef MaskSpec MASKS[4]
cdef uint8_t MASK_KEY[32]
memset(MASK_KEY, 0x5A, 32)
cdef uint32_t[48] MASK_TYPES = [
    16, 17, 20, 21, 23, 25, 114, 600, 700, 701, 790, 869, 1042, 1043, 1082, 1114, 1184, 1266, 1700, 2950, 3802, 1009, 1231, 0,
    26, 650, 774, 829, 1083, 1560, 2249, 3904, 3912, 4451, 4535, 1007, 1185, 3807, 1020, 651, 20000, 20001, 20002, 20003, 20004,
    20005, 3908, 4532,
]
# An enum, a composite of it and more, arrays of both, a domain, a range of its own.
OWN_TYPES = pack_mask_types([
    (20000, "e", 0, -1, "", [b"sad", b"happy"]), (20001, "c", 0, -1, "", [(25, -1), (20000, -1), (1007, -1), (20004, -1), (3802, -1)]),
    (20002, "a", 20001, -1, ",", []), (20003, "a", 20000, -1, ";", []), (20004, "d", 1043, 9, "", []),
    (20005, "r", 701, -1, "", []),
])
cdef bytes PACKED_TYPES = OWN_TYPES
cdef MaskTypes* FUZZ_TYPES = mask_types_unpack(PACKED_TYPES, len(PACKED_TYPES))


cdef uint8_t* exactly(const uint8_t* p, size_t n) noexcept nogil:
    """A copy without a byte behind it."""
    cdef uint8_t* c = <uint8_t*>malloc(n if n else 1)
    if n:
        memcpy(c, p, n)
    return c


cdef int fuzz_mask(const uint8_t* p, size_t n) except -1 nogil:
    """Kind, number, type, format and modifier, length of the constant; constant, then value."""
    cdef MaskSpec m
    cdef size_t constant, bound, room
    cdef uint8_t* value
    cdef uint8_t* out
    cdef uint8_t* tight
    cdef ssize_t done, again
    cdef uint32_t type_oid
    cdef int typmod
    if n < 5:
        return 0
    memset(&m, 0, sizeof(m))
    type_oid = MASK_TYPES[p[2] % 48]
    typmod = (p[3] >> 1) - 1
    constant = p[4] % 32
    if constant > n - 5:
        constant = n - 5
    if not mask_spec_set(&m, p[0] % 9, p[1], p + 5, constant, MASK_KEY, 32):
        return 0
    m.types = FUZZ_TYPES
    n -= 5 + constant
    value = exactly(p + 5 + constant, n)
    bound = mask_cell_bound(&m, <ssize_t>n) + mask_parts_bound(&m, n)
    out = <uint8_t*>malloc(bound if bound else 1)
    done = mask_cell(&m, type_oid, typmod, p[3] & 1, value, <ssize_t>n, out, bound)
    if done == MASK_NO_ROOM or done > <ssize_t>bound:
        faulty("the bound of a mask is too small")
    if done > 0:
        room = <size_t>done
        tight = <uint8_t*>malloc(room)
        again = mask_cell(&m, type_oid, typmod, p[3] & 1, value, <ssize_t>n, tight, room)
        # Some masks work in place and need their bound; they say so instead of giving another value.
        if again != MASK_NO_ROOM and (again != done or memcmp(out, tight, room)):
            faulty("a mask depends on its room")
        free(tight)
    free(out)
    free(value)
    mask_spec_clear(&m)
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
    for i in range(4):
        if MASKS[i].kind == 0 and not mask_spec_set(
                &MASKS[i], MASK_DO_REDACT if i == 0 else MASK_DO_PARTIAL if i == 1 else MASK_DO_HASH if i == 2 else MASK_DO_EMAIL,
                2, NULL, 0, MASK_KEY, 32):
            faulty("a mask cannot be made")
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
        bound = copy_mask_bound(plan, MASKS, 4, length) + copy_parts_bound(plan, MASKS, 4, length)
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
    plan_release(plan_parse(MASKED, bytes, size, p[0] & 2))
    free(bytes)
    return 0
