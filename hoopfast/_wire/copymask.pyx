# Masking of COPY TO STDOUT by column position: one CopyData body in, one out. docs/masks.md says what is accepted.
#
# PostgreSQL sends each row (a header line too) as one CopyData, in one spelling per value. Whatever is not exactly that,
# with exactly the planned columns, is COPY_MALFORMED, and the relay ends the session: a row whose columns cannot be told
# apart cannot be masked. Nothing is allocated per row: the end of `dst` is the working space.

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    COPY_NO_ROOM = -2           # dst is too small; nothing has changed, try again with copy_mask_bound
    COPY_MALFORMED = -3

cdef enum:                      # CopyPlan.format
    COPY_TEXT = 0
    COPY_CSV = 1
    COPY_BINARY = 2

cdef enum:                      # `state` of a statement
    COPY_AT_START = 0           # a header is still to come, if the plan or the format has one
    COPY_IN_ROWS = 1
    COPY_AT_END = 2             # binary: the trailer has been seen

cdef enum:
    COPY_PLAN_MAGIC = 0xC1
    COPY_PLAN_HEAD = 12
    COPY_COLUMNS_MAX = 1664     # PostgreSQL's limit of a target list
    COPY_NULL_MAX = 1024

cdef struct CopyColumn:
    int mask                    # index into the context's masks, -1: passes
    unsigned int type_oid
    int typmod

cdef struct CopyPlan:
    int format
    int header
    unsigned char delimiter
    unsigned char quote
    unsigned char escape
    int n_columns
    int null_len
    CopyColumn* columns         # both point into the same block of memory
    unsigned char* null
    unsigned char stops[256]    # bytes that end a plain run of a field

cdef struct CopyOut:            # where a row is being written
    unsigned char* dst
    size_t room
    size_t at
    long long cells

# Layout of a packed plan, little-endian as the machines we build for: u8 magic, u8 format, u8 header, u8 delimiter,
# u8 quote, u8 escape, u16 length of the null string, u16 columns, u16 zero; per column i32 mask, u32 type,
# i32 type modifier; the null string.


cdef CopyPlan* copy_plan_unpack(const unsigned char* p, size_t n) noexcept nogil:
    """A new plan (copy_plan_free), or NULL when these bytes are no plan, or memory is short."""
    cdef CopyPlan* plan
    cdef unsigned short null_len, n_columns, zero
    cdef size_t i
    if n < COPY_PLAN_HEAD or p[0] != COPY_PLAN_MAGIC or p[1] > COPY_BINARY or p[2] > 1:
        return NULL
    memcpy(&null_len, p + 6, 2)
    memcpy(&n_columns, p + 8, 2)
    memcpy(&zero, p + 10, 2)
    if zero or n_columns == 0 or n_columns > COPY_COLUMNS_MAX or null_len > COPY_NULL_MAX:
        return NULL
    if n != COPY_PLAN_HEAD + <size_t>n_columns * sizeof(CopyColumn) + null_len:
        return NULL
    plan = <CopyPlan*>malloc(sizeof(CopyPlan) + n - COPY_PLAN_HEAD)
    if plan == NULL:
        return NULL
    plan.format = p[1]
    plan.header = p[2]
    plan.delimiter = p[3]
    plan.quote = p[4]
    plan.escape = p[5]
    plan.n_columns = n_columns
    plan.null_len = null_len
    plan.columns = <CopyColumn*>(plan + 1)
    plan.null = <unsigned char*>(plan.columns + n_columns)
    memcpy(plan.columns, p + COPY_PLAN_HEAD, n - COPY_PLAN_HEAD)
    for i in range(n_columns):
        if plan.columns[i].mask < -1:
            free(plan)
            return NULL
    memset(plan.stops, 0, 256)
    plan.stops[plan.delimiter] = plan.stops[c'\n'] = plan.stops[c'\r'] = 1
    plan.stops[plan.quote if plan.format == COPY_CSV else c'\\'] = 1
    return plan


cdef void copy_plan_free(CopyPlan* plan) noexcept nogil:
    free(plan)


cdef size_t copy_mask_bound(const CopyPlan* plan, const MaskSpec* masks, int n_masks, size_t n) noexcept nogil:
    """Room that is enough for the masked form of any `n` bytes, working space included."""
    cdef size_t bound = 3 * n + 64
    cdef int i, mask
    for i in range(plan.n_columns):
        mask = plan.columns[i].mask
        if 0 <= mask < n_masks:
            bound += 2 * mask_cell_bound(&masks[mask], 0) + <size_t>plan.null_len + 4
    return bound


cdef size_t copy_parts_bound(const CopyPlan* plan, const MaskSpec* masks, int n_masks, size_t n) noexcept nogil:
    """What values with parts may need beyond that at most."""
    cdef size_t bound = 0, parts
    cdef int i, mask
    for i in range(plan.n_columns):
        mask = plan.columns[i].mask
        if 0 <= mask < n_masks:
            parts = 2 * mask_parts_bound(&masks[mask], n)
            bound = parts if parts > bound else bound
    return bound


cdef inline int copy_put(CopyOut* out, const unsigned char* p, size_t n) noexcept nogil:
    if n > out.room - out.at:
        return COPY_NO_ROOM
    memcpy(out.dst + out.at, p, n)
    out.at += n
    return 0


cdef inline bint copy_is_null(const CopyPlan* plan, const unsigned char* p, size_t n) noexcept nogil:
    return n == <size_t>plan.null_len and memcmp(p, plan.null, n) == 0


# ---------------------------------------------------------------- text

cdef inline unsigned char copy_unescaped(unsigned char c, unsigned char delimiter) noexcept nogil:
    """What a backslash and `c` mean; 0 when PostgreSQL would not have written that."""
    if c == delimiter or c == c'\\':
        return c
    if c == c'n':
        return c'\n'
    if c == c't':
        return c'\t'
    if c == c'r':
        return c'\r'
    if c == c'b':
        return c'\b'
    if c == c'f':
        return c'\f'
    if c == c'v':
        return c'\v'
    return 0


cdef inline unsigned char copy_escaped(unsigned char c, unsigned char delimiter) noexcept nogil:
    """What stands behind the backslash for `c`; 0 when `c` stands for itself."""
    if c == c'\n':
        return c'n'
    if c == c'\t':
        return c't'
    if c == c'\r':
        return c'r'
    if c == c'\b':
        return c'b'
    if c == c'\f':
        return c'f'
    if c == c'\v':
        return c'v'
    return c if c == delimiter or c == c'\\' else 0


cdef ssize_t copy_unescape_text(const CopyPlan* plan, const unsigned char* p, size_t n, unsigned char* to) noexcept nogil:
    cdef size_t i = 0, at = 0
    cdef unsigned char c
    while i < n:
        c = p[i]
        if c == c'\\':
            i += 1
            c = copy_unescaped(p[i], plan.delimiter) if i < n else 0
            if c == 0:
                return COPY_MALFORMED
        to[at] = c
        at += 1
        i += 1
    return <ssize_t>at


cdef int copy_escape_text(const CopyPlan* plan, CopyOut* out, size_t n) noexcept nogil:
    """Escape the n bytes at out.at where they lie, and take them in."""
    cdef unsigned char* p = out.dst + out.at
    cdef unsigned char c
    cdef size_t i, more = 0
    for i in range(n):
        more += copy_escaped(p[i], plan.delimiter) != 0
    if n + more > out.room - out.at:
        return COPY_NO_ROOM
    out.at += n + more
    i = n
    while more:                                 # backwards: what is read has not been written yet
        i -= 1
        c = copy_escaped(p[i], plan.delimiter)
        p[i + more] = c if c else p[i]
        if c:
            more -= 1
            p[i + more] = c'\\'
    return 0


cdef int copy_mask_text(
    const CopyPlan* plan, const MaskSpec* m, const CopyColumn* column, const unsigned char* p, size_t n, bint escapes,
    CopyOut* out
) noexcept nogil:
    cdef size_t room = out.room - out.at
    cdef ssize_t size = <ssize_t>n
    if copy_is_null(plan, p, n):
        return copy_put(out, p, n)
    if escapes:
        if n > room:
            return COPY_NO_ROOM
        room -= n
        size = copy_unescape_text(plan, p, n, out.dst + out.at + room)
        if size < 0:
            return COPY_MALFORMED
        p = out.dst + out.at + room
    size = mask_cell(m, column.type_oid, column.typmod, 0, p, size, out.dst + out.at, room)
    if size == MASK_NO_ROOM:
        return COPY_NO_ROOM
    out.cells += 1
    if size < 0:
        return copy_put(out, plan.null, <size_t>plan.null_len)
    return copy_escape_text(plan, out, <size_t>size)


cdef int copy_line_text(
    const CopyPlan* plan, const MaskSpec* masks, const unsigned char* src, size_t len, bint header, CopyOut* out
) noexcept nogil:
    cdef size_t at = 0, start, kept = 0, end = len - 1
    cdef bint escapes
    cdef int i, done, mask
    if len == 0 or src[end] != c'\n' or (end == 2 and src[0] == c'\\' and src[1] == c'.'):
        return COPY_MALFORMED
    for i in range(plan.n_columns):
        start = at
        escapes = False
        while True:
            while at < end and not plan.stops[src[at]]:
                at += 1
            if at == end or src[at] == plan.delimiter:
                break
            if src[at] == c'\\':
                escapes = True
                at += 1
                if at == end:
                    return COPY_MALFORMED
            if src[at] == c'\n' or src[at] == c'\r':
                return COPY_MALFORMED
            at += 1
        if (at == end) != (i == plan.n_columns - 1):
            return COPY_MALFORMED               # too few columns, or too many
        mask = plan.columns[i].mask
        if mask >= 0 and not header:
            done = copy_put(out, src + kept, start - kept)
            if done == 0:
                done = copy_mask_text(plan, &masks[mask], &plan.columns[i], src + start, at - start, escapes, out)
            if done < 0:
                return done
            kept = at
        at += 1
    return copy_put(out, src + kept, len - kept)


# ---------------------------------------------------------------- csv

cdef ssize_t copy_scan_csv(const CopyPlan* plan, const unsigned char* p, size_t n, bint* escapes) noexcept nogil:
    """Length of the field at p, its quotes included; n is what is left of the line without its end."""
    cdef size_t i = 0
    escapes[0] = False
    if n == 0 or p[0] != plan.quote:
        while i < n and not plan.stops[p[i]]:
            i += 1
        return <ssize_t>i if i == n or p[i] == plan.delimiter else COPY_MALFORMED
    i = 1
    while i < n:
        if p[i] == plan.escape and i + 1 < n and (p[i + 1] == plan.quote or p[i + 1] == plan.escape):
            escapes[0] = True
            i += 2
        elif p[i] == plan.quote:
            i += 1
            return <ssize_t>i if i == n or p[i] == plan.delimiter else COPY_MALFORMED
        elif p[i] == plan.escape:
            return COPY_MALFORMED
        else:
            i += 1
    return COPY_MALFORMED


cdef int copy_quote_csv(const CopyPlan* plan, CopyOut* out, size_t n) noexcept nogil:
    """Quote the n bytes at out.at where they lie if they need it, and take them in.

    Whether the true value was quoted must not show: a DELIMITER or QUOTE of one's choice would ask which bytes are in it.
    """
    cdef unsigned char* p = out.dst + out.at
    cdef size_t i, more = 0
    cdef unsigned char c
    cdef bint quoted = False
    if copy_is_null(plan, p, n) or (n == 2 and p[0] == c'\\' and p[1] == c'.'):
        quoted = True
    for i in range(n):
        c = p[i]
        more += c == plan.quote or c == plan.escape
        if c == plan.quote or c == plan.delimiter or c == c'\n' or c == c'\r':
            quoted = True
    if not quoted:
        out.at += n
        return 0
    more += 1
    if n + more + 1 > out.room - out.at:
        return COPY_NO_ROOM
    out.at += n + more + 1
    p[n + more] = plan.quote
    i = n
    while i:
        i -= 1
        c = p[i]
        p[i + more] = c
        if c == plan.quote or c == plan.escape:
            more -= 1
            p[i + more] = plan.escape
    p[0] = plan.quote
    return 0


cdef int copy_mask_csv(
    const CopyPlan* plan, const MaskSpec* m, const CopyColumn* column, const unsigned char* p, size_t n, bint escapes,
    CopyOut* out
) noexcept nogil:
    cdef size_t room = out.room - out.at, i = 0, at = 0
    cdef bint quoted = n >= 2 and p[0] == plan.quote
    cdef unsigned char* plain
    cdef ssize_t size
    if copy_is_null(plan, p, n):
        return copy_put(out, p, n)
    if quoted:
        p += 1
        n -= 2
    if escapes:
        if n > room:
            return COPY_NO_ROOM
        room -= n
        plain = out.dst + out.at + room
        while i < n:
            if p[i] == plan.escape:             # the scanner has seen what follows
                i += 1
            plain[at] = p[i]
            at += 1
            i += 1
        p = plain
        n = at
    size = mask_cell(m, column.type_oid, column.typmod, 0, p, <ssize_t>n, out.dst + out.at, room)
    if size == MASK_NO_ROOM:
        return COPY_NO_ROOM
    out.cells += 1
    if size < 0:
        return copy_put(out, plan.null, <size_t>plan.null_len)
    return copy_quote_csv(plan, out, <size_t>size)


cdef int copy_line_csv(
    const CopyPlan* plan, const MaskSpec* masks, const unsigned char* src, size_t len, bint header, CopyOut* out
) noexcept nogil:
    cdef size_t at = 0, kept = 0, end = len - 1
    cdef ssize_t size
    cdef bint escapes
    cdef int i, done, mask
    if len == 0 or src[end] != c'\n' or (end == 2 and src[0] == c'\\' and src[1] == c'.'):
        return COPY_MALFORMED
    for i in range(plan.n_columns):
        size = copy_scan_csv(plan, src + at, end - at, &escapes)
        if size < 0 or (at + <size_t>size == end) != (i == plan.n_columns - 1):
            return COPY_MALFORMED
        mask = plan.columns[i].mask
        if mask >= 0 and not header:
            done = copy_put(out, src + kept, at - kept)
            if done == 0:
                done = copy_mask_csv(plan, &masks[mask], &plan.columns[i], src + at, <size_t>size, escapes, out)
            if done < 0:
                return done
            kept = at + <size_t>size
        at += <size_t>size + 1
    return copy_put(out, src + kept, len - kept)


# ---------------------------------------------------------------- binary

cdef ssize_t copy_binary_header(const unsigned char* src, size_t len) noexcept nogil:
    """Length of the file header: signature, flags (PostgreSQL sets none; one would add an OID column), extension."""
    cdef uint32_t extension
    if len < 19 or memcmp(src, b"PGCOPY\n\xff\r\n\x00", 11) != 0:
        return COPY_MALFORMED
    if mask_read_be(src + 11, 4) != 0:
        return COPY_MALFORMED
    extension = <uint32_t>mask_read_be(src + 15, 4)
    if extension > len - 19:
        return COPY_MALFORMED
    return <ssize_t>(19 + <size_t>extension)


cdef int copy_tuple(
    const CopyPlan* plan, const MaskSpec* masks, const unsigned char* src, size_t len, size_t* at, CopyOut* out
) noexcept nogil:
    """One tuple, of which at[0] is behind the number of columns."""
    cdef size_t here = at[0], kept = at[0]
    cdef int32_t size
    cdef ssize_t masked
    cdef int i, done, mask
    for i in range(plan.n_columns):
        if len - here < 4:
            return COPY_MALFORMED
        size = <int32_t>mask_read_be(src + here, 4)
        here += 4
        if size < -1 or (size > 0 and <size_t>size > len - here):
            return COPY_MALFORMED
        mask = plan.columns[i].mask
        if mask >= 0 and size >= 0:
            done = copy_put(out, src + kept, here - kept)
            if done < 0:
                return done
            masked = mask_cell(
                &masks[mask], plan.columns[i].type_oid, plan.columns[i].typmod, 1, src + here, size, out.dst + out.at,
                out.room - out.at)
            if masked == MASK_NO_ROOM:
                return COPY_NO_ROOM
            mask_put_be(out.dst + out.at - 4, 4, <uint64_t>masked, 4)
            out.at += <size_t>masked if masked > 0 else 0
            out.cells += 1
            kept = here + <size_t>size
        here += <size_t>size if size > 0 else 0
    at[0] = here
    return copy_put(out, src + kept, here - kept)


cdef int copy_message_binary(
    const CopyPlan* plan, const MaskSpec* masks, const unsigned char* src, size_t len, int* state, CopyOut* out
) noexcept nogil:
    """Whole tuples only; the header before the first one, the trailer behind the last one."""
    cdef size_t at = 0
    cdef ssize_t header
    cdef int64_t columns
    cdef int done
    if len == 0 or state[0] == COPY_AT_END:
        return COPY_MALFORMED
    if state[0] == COPY_AT_START:
        header = copy_binary_header(src, len)
        if header < 0:
            return COPY_MALFORMED
        at = <size_t>header
        done = copy_put(out, src, at)
        if done < 0:
            return done
    state[0] = COPY_IN_ROWS
    while at < len:
        if len - at < 2:
            return COPY_MALFORMED
        columns = mask_read_be(src + at, 2)
        done = copy_put(out, src + at, 2)
        if done < 0:
            return done
        at += 2
        if columns == -1:
            state[0] = COPY_AT_END
            return 0 if at == len else COPY_MALFORMED
        if columns != plan.n_columns:
            return COPY_MALFORMED
        done = copy_tuple(plan, masks, src, len, &at, out)
        if done < 0:
            return done
    return 0


# ---------------------------------------------------------------- the row

cdef ssize_t copy_mask_row(
    const CopyPlan* plan, const MaskSpec* masks, int n_masks, const unsigned char* src, size_t len, unsigned char* dst,
    size_t room, int* state, long long* cells
) noexcept nogil:
    """Bytes written to dst, or COPY_NO_ROOM, or COPY_MALFORMED; `state` and `cells` change only on success."""
    cdef CopyOut out
    cdef int i, done, next_state = state[0]
    cdef bint header
    for i in range(plan.n_columns):
        if plan.columns[i].mask >= n_masks:
            return COPY_MALFORMED
    out.dst = dst
    out.room = room
    out.at = 0
    out.cells = 0
    if plan.format == COPY_BINARY:
        done = copy_message_binary(plan, masks, src, len, &next_state, &out)
    else:
        header = plan.header and next_state == COPY_AT_START
        next_state = COPY_IN_ROWS
        if plan.format == COPY_CSV:
            done = copy_line_csv(plan, masks, src, len, header, &out)
        else:
            done = copy_line_text(plan, masks, src, len, header, &out)
    if done < 0:
        return done
    state[0] = next_state
    cells[0] += out.cells
    return <ssize_t>out.at
