# Values made of values: arrays, composites, ranges, multiranges, enums, json. Each part is masked as its own type would be,
# with NULLs, bounds, dimensions and keys where they are; what cannot be taken apart exactly is redacted whole.
#
# Quoted parts are freed of their quotes at the end of `dst`, which is the working space, and quoted again where they need it.

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove, memset

cdef enum:                      # quoting, by what holds the part
    QUOTE_ARRAY = 0
    QUOTE_RECORD = 1
    QUOTE_RANGE = 2
    QUOTE_JSON = 3

cdef inline bint mask_is_space(unsigned char c) noexcept nogil:
    return c == c' ' or c'\t' <= c <= c'\r'


cdef inline bint mask_part_special(int holder, unsigned char delimiter, unsigned char c) noexcept nogil:
    """Whether a part with this byte is quoted, as array_out, record_out and range_out decide."""
    if c == c'"' or c == c'\\' or mask_is_space(c):
        return True
    if holder == QUOTE_ARRAY:
        return c == c'{' or c == c'}' or c == delimiter
    return c == c'(' or c == c')' or c == c',' or (holder == QUOTE_RANGE and (c == c'[' or c == c']'))


cdef ssize_t mask_requote(MaskOut* o, int holder, unsigned char delimiter, size_t n) noexcept nogil:
    """Quote the n bytes at o.at where they lie if they need it, and take them in."""
    cdef unsigned char* p = o.dst + o.at
    cdef size_t i, more = 0
    cdef unsigned char c
    cdef bint quoted = n == 0
    for i in range(n):
        c = p[i]
        more += c == c'"' or c == c'\\'
        quoted |= mask_part_special(holder, delimiter, c)
    if holder == QUOTE_ARRAY and n == 4 and (p[0] | 32) == c'n' and (p[1] | 32) == c'u' and (p[2] | 32) == c'l' and (
            p[3] | 32) == c'l':
        quoted = True
    if not quoted:
        o.at += n
        return 0
    if n + more + 2 > o.room - o.at:
        return MASK_NO_ROOM
    more += 1
    o.at += n + more + 1
    p[n + more] = c'"'
    i = n
    while i:                                    # backwards: what is read has not been written yet
        i -= 1
        c = p[i]
        p[i + more] = c
        if c == c'"' or c == c'\\':
            more -= 1
            p[i + more] = c'\\' if holder == QUOTE_ARRAY else c
    p[0] = c'"'
    return 0


cdef ssize_t mask_quoted_end(int holder, const unsigned char* p, size_t n) noexcept nogil:
    """Length of the quoted part at p with both quotes, MASK_UNFIT when it has no end."""
    cdef size_t i = 1
    while i < n:
        if p[i] == c'\\':
            i += 2
        elif p[i] != c'"':
            i += 1
        elif holder != QUOTE_ARRAY and i + 1 < n and p[i + 1] == c'"':
            i += 2
        else:
            return <ssize_t>(i + 1)
    return MASK_UNFIT


cdef ssize_t mask_unquote(MaskOut* o, const unsigned char* p, size_t n) noexcept nogil:
    """Write what the n bytes between quotes mean to the end of o's room; its length."""
    cdef unsigned char* to
    cdef size_t i = 0, at = 0
    if n > o.room - o.at:
        return MASK_NO_ROOM
    to = o.dst + o.room - n
    while i < n:
        if (p[i] == c'\\' or p[i] == c'"') and i + 1 < n:
            i += 1
        to[at] = p[i]
        at += 1
        i += 1
    return <ssize_t>at


cdef ssize_t mask_element(
    const MaskSpec* m, unsigned int oid, int typmod, int holder, unsigned char delimiter, const unsigned char* p, size_t n,
    int depth, MaskOut* o
) noexcept nogil:
    """One part as it is written in text, quotes included: masked into o. 0, MASK_IS_NULL (nothing written), or an error."""
    cdef ssize_t size = <ssize_t>n
    cdef size_t room = o.room
    if n and p[0] == c'"':
        if n < 2:
            return MASK_UNFIT
        size = mask_unquote(o, p + 1, n - 2)
        if size < 0:
            return size
        room -= n - 2
        p = o.dst + room
    if m.kind == MASK_DO_BUCKET and holder == QUOTE_RANGE:      # another redaction would turn bounds around
        size = mask_bucket(m, oid, typmod, 0, p, <size_t>size, o.dst + o.at, room - o.at)
    else:
        size = mask_part(m, oid, typmod, 0, p, <size_t>size, o.dst + o.at, room - o.at, depth + 1)
    return mask_requote(o, holder, delimiter, <size_t>size) if size >= 0 else size


# ---------------------------------------------------------------- arrays

cdef ssize_t mask_array_text(
    const MaskSpec* m, const MaskShape* shape, const unsigned char* p, size_t n, int depth, MaskOut* o
) noexcept nogil:
    cdef size_t i = 0, start
    cdef ssize_t done
    cdef int open = 0
    if n and p[0] == c'[':                      # bounds that do not begin at 1
        while i < n and p[i] != c'=':
            if not (mask_is_digit(p[i]) or p[i] == c'[' or p[i] == c']' or p[i] == c':' or p[i] == c'-'):
                return MASK_UNFIT
            i += 1
        i += 1
        if i >= n:
            return MASK_UNFIT
        if not mask_out(o, p, i):
            return MASK_NO_ROOM
    while i < n:
        if p[i] == c'{' or p[i] == c'}' or p[i] == shape.delimiter:
            open += 1 if p[i] == c'{' else -1 if p[i] == c'}' else 0
            if open < 0 or open > 6 or (open == 0 and i + 1 != n):
                return MASK_UNFIT
            if not mask_out(o, p + i, 1):
                return MASK_NO_ROOM
            i += 1
            continue
        if open == 0:
            return MASK_UNFIT
        start = i
        if p[i] == c'"':
            done = mask_quoted_end(QUOTE_ARRAY, p + i, n - i)
            if done < 0:
                return done
            i += <size_t>done
        while i < n and p[i] != shape.delimiter and p[i] != c'}':
            if p[start] == c'"' or p[i] == c'"' or p[i] == c'{' or p[i] == c'\\':
                return MASK_UNFIT               # nothing that PostgreSQL writes
            i += 1
        done = MASK_IS_NULL
        if i - start != 4 or memcmp(p + start, b"NULL", 4) != 0:
            done = mask_element(m, shape.part, shape.typmod, QUOTE_ARRAY, shape.delimiter, p + start, i - start, depth, o)
        if done == MASK_IS_NULL:
            done = 0 if mask_out(o, b"NULL", 4) else MASK_NO_ROOM
        if done < 0:
            return done
    return 0 if open == 0 and n else MASK_UNFIT


cdef ssize_t mask_binary_part(
    const MaskSpec* m, unsigned int oid, int typmod, bint bound, const unsigned char* p, size_t n, size_t* used, int depth,
    MaskOut* o
) noexcept nogil:
    """A length and as many bytes at p: masked into o with the new length. 0, MASK_IS_NULL when it is NULL now, or an error."""
    cdef int32_t size
    cdef ssize_t done = MASK_IS_NULL
    if n < 4:
        return MASK_UNFIT
    size = <int32_t>mask_read_be(p, 4)
    if size < -1 or (size > 0 and <size_t>size > n - 4):
        return MASK_UNFIT
    if o.room - o.at < 4:
        return MASK_NO_ROOM
    if size >= 0 and bound:
        done = mask_bucket(m, oid, typmod, 1, p + 4, <size_t>size, o.dst + o.at + 4, o.room - o.at - 4)
    elif size >= 0:
        done = mask_part(m, oid, typmod, 1, p + 4, <size_t>size, o.dst + o.at + 4, o.room - o.at - 4, depth + 1)
    if done < 0 and done != MASK_IS_NULL:
        return done
    used[0] = 4 + (<size_t>size if size > 0 else 0)
    mask_put_be(o.dst + o.at, 4, <uint64_t>done, 4)
    o.at += 4 + (<size_t>done if done > 0 else 0)
    return 0 if done >= 0 else MASK_IS_NULL


cdef ssize_t mask_array_binary(
    const MaskSpec* m, const MaskShape* shape, const unsigned char* p, size_t n, int depth, MaskOut* o
) noexcept nogil:
    """Dimensions, whether there are NULLs, element type; length and lower bound of each dimension; elements."""
    cdef int64_t dimensions, length, elements = 1, i
    cdef size_t at, used = 0, flags = o.at + 4
    cdef ssize_t done
    if n < 12:
        return MASK_UNFIT
    dimensions = mask_read_be(p, 4)
    if not 0 <= dimensions <= 6 or n < 12 + 8 * <size_t>dimensions or <uint32_t>mask_read_be(p + 8, 4) != shape.part:
        return MASK_UNFIT
    at = 12 + 8 * <size_t>dimensions
    for i in range(dimensions):
        length = mask_read_be(p + 12 + 8 * i, 4)
        if length < 0 or (length and elements > <int64_t>n // length):
            return MASK_UNFIT                   # each element has four bytes at least
        elements *= length
    if dimensions == 0:
        elements = 0
    if not mask_out(o, p, at):
        return MASK_NO_ROOM
    for i in range(elements):
        done = mask_binary_part(m, shape.part, shape.typmod, False, p + at, n - at, &used, depth, o)
        if done == MASK_IS_NULL:
            mask_put_be(o.dst + flags, 4, 1, 4)
        elif done < 0:
            return done
        at += used
    return 0 if at == n else MASK_UNFIT


# ---------------------------------------------------------------- composites

cdef inline const MaskField* mask_field(const MaskSpec* m, const MaskShape* shape, uint32_t i) noexcept nogil:
    return &m.types.fields[shape.type.first + i] if shape.type != NULL and i < shape.type.count else NULL


cdef ssize_t mask_record_text(
    const MaskSpec* m, const MaskShape* shape, const unsigned char* p, size_t n, int depth, MaskOut* o
) noexcept nogil:
    """(a,"b c",,d): an empty field is NULL. Without a description of the type the fields have no types."""
    cdef size_t i = 1, start
    cdef uint32_t field = 0
    cdef const MaskField* described
    cdef ssize_t done
    if n < 2 or p[0] != c'(' or shape.type == NULL:
        return MASK_UNFIT
    if not mask_out(o, p, 1):
        return MASK_NO_ROOM
    while True:
        described = mask_field(m, shape, field)
        start = i
        if i < n and p[i] == c'"':
            done = mask_quoted_end(QUOTE_RECORD, p + i, n - i)
            if done < 0:
                return done
            i += <size_t>done
        while i < n and p[i] != c',' and p[i] != c')':
            if p[start] == c'"' or p[i] == c'"' or p[i] == c'(' or p[i] == c'\\':
                return MASK_UNFIT
            i += 1
        if i >= n or described == NULL:
            return MASK_UNFIT
        if i > start:
            done = mask_element(
                m, described.type_oid, described.typmod, QUOTE_RECORD, 0, p + start, i - start, depth, o)
            if done < 0 and done != MASK_IS_NULL:
                return done
        if not mask_out(o, p + i, 1):
            return MASK_NO_ROOM
        field += 1
        i += 1
        if p[i - 1] == c')':
            return 0 if i == n and field == shape.type.count else MASK_UNFIT


cdef ssize_t mask_record_binary(
    const MaskSpec* m, const MaskShape* shape, const unsigned char* p, size_t n, int depth, MaskOut* o
) noexcept nogil:
    """Number of fields; type, length and value of each."""
    cdef int64_t fields, i
    cdef size_t at = 4, used = 0
    cdef const MaskField* described
    cdef uint32_t oid
    cdef ssize_t done
    if n < 4:
        return MASK_UNFIT
    fields = mask_read_be(p, 4)
    if fields < 0 or (shape.type != NULL and fields != shape.type.count):
        return MASK_UNFIT
    if not mask_out(o, p, 4):
        return MASK_NO_ROOM
    for i in range(fields):
        if n - at < 8:
            return MASK_UNFIT
        oid = <uint32_t>mask_read_be(p + at, 4)
        described = mask_field(m, shape, <uint32_t>i)
        if described != NULL and described.type_oid != oid:
            return MASK_UNFIT
        if not mask_out(o, p + at, 4):
            return MASK_NO_ROOM
        done = mask_binary_part(
            m, oid, described.typmod if described != NULL else -1, False, p + at + 4, n - at - 4, &used, depth, o)
        if done < 0 and done != MASK_IS_NULL:
            return done
        at += 4 + used
    return 0 if at == n else MASK_UNFIT


# ---------------------------------------------------------------- ranges

cdef ssize_t mask_range_text(
    const MaskSpec* m, unsigned int subtype, const unsigned char* p, size_t n, size_t* used, MaskOut* o
) noexcept nogil:
    """[a,b) at the beginning of p: both bounds in the bucket they are in. Nothing else keeps them in order."""
    cdef size_t i = 1, start
    cdef ssize_t done
    cdef int bound
    if n < 3 or (p[0] != c'[' and p[0] != c'('):
        return MASK_UNFIT
    if not mask_out(o, p, 1):
        return MASK_NO_ROOM
    for bound in range(2):
        start = i
        if i < n and p[i] == c'"':
            done = mask_quoted_end(QUOTE_RANGE, p + i, n - i)
            if done < 0:
                return done
            i += <size_t>done
        while i < n and p[i] != c',' and p[i] != c']' and p[i] != c')':
            if p[start] == c'"' or p[i] == c'"' or p[i] == c'\\':
                return MASK_UNFIT
            i += 1
        if i >= n or (p[i] == c',') != (bound == 0):
            return MASK_UNFIT
        if i > start:
            done = mask_element(m, subtype, -1, QUOTE_RANGE, 0, p + start, i - start, MASK_DEPTH_MAX, o)
            if done < 0:
                return MASK_NO_ROOM if done == MASK_NO_ROOM else MASK_UNFIT
        if not mask_out(o, p + i, 1):
            return MASK_NO_ROOM
        i += 1
    used[0] = i
    return 0


cdef ssize_t mask_range_binary(
    const MaskSpec* m, unsigned int subtype, const unsigned char* p, size_t n, MaskOut* o
) noexcept nogil:
    """Flags (1 empty, 8 and 16 without a lower or upper bound), then the bounds there are."""
    cdef size_t at = 1, used = 0
    cdef ssize_t done
    cdef int bound
    if n < 1 or p[0] & 0xE0:
        return MASK_UNFIT
    if not mask_out(o, p, 1):
        return MASK_NO_ROOM
    for bound in range(2):
        if p[0] & 1 or p[0] & (16 if bound else 8):
            continue
        done = mask_binary_part(m, subtype, -1, True, p + at, n - at, &used, MASK_DEPTH_MAX, o)
        if done < 0:
            return MASK_NO_ROOM if done == MASK_NO_ROOM else MASK_UNFIT
        at += used
    return 0 if at == n else MASK_UNFIT


cdef ssize_t mask_range(
    const MaskSpec* m, unsigned int subtype, int fmt, const unsigned char* p, size_t n, MaskOut* o
) noexcept nogil:
    cdef size_t used = 0
    cdef ssize_t done
    if m.kind != MASK_DO_BUCKET:
        return MASK_UNFIT
    if fmt == 1:
        return mask_range_binary(m, subtype, p, n, o)
    if n == 5 and memcmp(p, b"empty", 5) == 0:
        return MASK_UNFIT                       # which redacts it to the same
    done = mask_range_text(m, subtype, p, n, &used, o)
    return MASK_UNFIT if done == 0 and used != n else done


cdef ssize_t mask_multirange(
    const MaskSpec* m, unsigned int subtype, int fmt, const unsigned char* p, size_t n, MaskOut* o
) noexcept nogil:
    """{[a,b),[c,d)}; in binary a count, and length and bytes of each. Ranges may meet afterwards: every reader joins them."""
    cdef int64_t count, i, size
    cdef size_t at = 1, used = 0, start
    cdef ssize_t done
    if m.kind != MASK_DO_BUCKET:
        return MASK_UNFIT
    if fmt == 1:
        if n < 4:
            return MASK_UNFIT
        count = mask_read_be(p, 4)
        at = 4
        if not mask_out(o, p, 4):
            return MASK_NO_ROOM
        for i in range(count):
            size = mask_read_be(p + at, 4) if n - at >= 4 else -1
            if size < 0 or <size_t>size > n - at - 4:
                return MASK_UNFIT
            if not mask_out(o, p + at, 4):
                return MASK_NO_ROOM
            start = o.at
            done = mask_range_binary(m, subtype, p + at + 4, <size_t>size, o)
            if done < 0:
                return done
            mask_put_be(o.dst + start - 4, 4, o.at - start, 4)
            at += 4 + <size_t>size
        return 0 if at == n and count >= 0 else MASK_UNFIT
    if n < 2 or p[0] != c'{':
        return MASK_UNFIT
    if not mask_out(o, p, 1):
        return MASK_NO_ROOM
    while at < n and p[at] != c'}':
        if p[at] == c',':
            if not mask_out(o, p + at, 1):
                return MASK_NO_ROOM
            at += 1
        done = mask_range_text(m, subtype, p + at, n - at, &used, o)
        if done < 0:
            return done
        at += used
    if at + 1 != n:
        return MASK_UNFIT
    return 0 if mask_out(o, b"}", 1) else MASK_NO_ROOM


# ---------------------------------------------------------------- enums

cdef ssize_t mask_enum(
    const MaskSpec* m, const MaskShape* shape, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """A label: the first one; of a hash or token one by the digest; the constant if it is one, else NULL."""
    cdef unsigned char digest[32]
    cdef const MaskLabel* label
    cdef uint32_t i, drawn = 0, count = shape.type.count
    if count == 0:
        return MASK_IS_NULL
    if m.kind == MASK_DO_HASH or m.kind == MASK_DO_TOKEN:
        if not mask_digest(m, src, n, digest):
            return MASK_IS_NULL
        drawn = <uint32_t>(<uint64_t>mask_read_be(digest, 8) % count)
    if m.kind == MASK_DO_CONSTANT:
        for i in range(count):
            label = &m.types.labels[shape.type.first + i]
            if label.size == m.constant_len and memcmp(m.types.pool + label.start, m.constant, label.size) == 0:
                return mask_put(dst, room, m.constant, m.constant_len)
        return MASK_IS_NULL
    label = &m.types.labels[shape.type.first + drawn]
    return mask_put(dst, room, m.types.pool + label.start, label.size)


# ---------------------------------------------------------------- any value

cdef ssize_t mask_whole(
    const MaskShape* shape, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """The redaction of a value with parts: nothing in it. Composites have none, so they are NULL."""
    if shape.shape == SHAPE_ARRAY:
        if fmt == 0:
            return mask_put(dst, room, b"{}", 2)
        if room < 12:
            return MASK_NO_ROOM
        memset(dst, 0, 8)                       # no dimensions, no NULLs
        return 8 + mask_put_be(dst + 8, 4, shape.part, 4)
    if shape.shape == SHAPE_RANGE:
        return mask_put(dst, room, b"empty", 5) if fmt == 0 else mask_put(dst, room, b"\x01", 1)
    if shape.shape == SHAPE_MULTIRANGE:
        return mask_put(dst, room, b"{}", 2) if fmt == 0 else mask_put_zeros(dst, room, 4)
    if shape.shape == SHAPE_JSON:
        return mask_redact(shape.oid, fmt, src, n, dst, room)
    return MASK_IS_NULL


cdef ssize_t mask_parts(
    const MaskSpec* m, const MaskShape* shape, int fmt, const unsigned char* src, size_t n, int depth, MaskOut* o
) noexcept nogil:
    cdef MaskShape range
    if shape.shape == SHAPE_ARRAY:
        return mask_array_text(m, shape, src, n, depth, o) if fmt == 0 else mask_array_binary(m, shape, src, n, depth, o)
    if shape.shape == SHAPE_RECORD:
        return mask_record_text(m, shape, src, n, depth, o) if fmt == 0 else mask_record_binary(m, shape, src, n, depth, o)
    if shape.shape == SHAPE_JSON:
        return mask_json(m, shape.oid, fmt, src, n, o)
    # A range of the database's own may have any order: only those of PostgreSQL are known to keep theirs.
    if shape.shape == SHAPE_RANGE and shape.oid < MASK_FIRST_USER_OID:
        return mask_range(m, shape.part, fmt, src, n, o)
    if shape.shape == SHAPE_MULTIRANGE and shape.oid < MASK_FIRST_USER_OID:
        mask_shape_of(m.types, shape.part, -1, &range)
        return mask_multirange(m, range.part, fmt, src, n, o)
    return MASK_UNFIT


cdef ssize_t mask_part(
    const MaskSpec* m, unsigned int oid, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst,
    size_t room, int depth
) noexcept nogil:
    """One value of any type. `depth`: how many values it lies in."""
    cdef MaskShape shape
    cdef MaskOut o
    cdef ssize_t done = MASK_UNFIT
    # What most columns are, in one step.
    if oid in (16, 17, 20, 21, 23, 25, 700, 701, 1042, 1043, 1082, 1114, 1184, 1700, 2950):
        return mask_scalar(m, oid, typmod, fmt, src, n, dst, room)
    mask_shape_of(m.types, oid, typmod, &shape)
    if shape.shape == SHAPE_SCALAR:
        return mask_scalar(m, shape.oid, shape.typmod, fmt, src, n, dst, room)
    if shape.shape == SHAPE_UNKNOWN or depth > MASK_DEPTH_MAX:
        return MASK_IS_NULL
    if shape.shape == SHAPE_ENUM:
        return mask_enum(m, &shape, src, n, dst, room)
    if m.kind != MASK_DO_REDACT or m.keep == 1 or shape.shape == SHAPE_RECORD:
        o.dst = dst
        o.room = room
        o.at = 0
        done = mask_parts(m, &shape, fmt, src, n, depth, &o)
    if done == MASK_UNFIT:
        return mask_whole(&shape, fmt, src, n, dst, room)
    return <ssize_t>o.at if done >= 0 else done
