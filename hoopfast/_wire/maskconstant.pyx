# constant: what the policy says, as a value of the cell's type; NULL where it is none.

from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.string cimport memcmp


cdef ssize_t mask_constant_bool(const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room) noexcept nogil:
    cdef bint yes
    if (n == 1 and p[0] == c't') or (n == 4 and memcmp(p, b"true", 4) == 0):
        yes = True
    elif (n == 1 and p[0] == c'f') or (n == 5 and memcmp(p, b"false", 5) == 0):
        yes = False
    else:
        return MASK_IS_NULL
    if fmt == 1:
        return mask_put_be(dst, room, yes, 1)
    return mask_put(dst, room, b"t" if yes else b"f", 1)


cdef ssize_t mask_constant_int(
    unsigned int oid, const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room
) noexcept nogil:
    cdef int64_t value = 0, most = <int64_t>((<uint64_t>1 << (8 * mask_int_width(oid) - 1)) - 1), least = -most - 1
    if oid == OID_OID:
        most = 0xFFFFFFFF
        least = 0
    if not mask_read_int(p, n, &value) or value < least or value > most:
        return MASK_IS_NULL
    return mask_put_int(oid, fmt, value, dst, room)


cdef ssize_t mask_constant_float(
    unsigned int oid, const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room
) noexcept nogil:
    cdef double value = 0
    if not mask_read_float(p, n, &value) or (oid == OID_FLOAT4 and not isfinite(<float>value)):
        return MASK_IS_NULL
    return mask_put_float(oid, fmt, value, p, n, dst, room)


cdef ssize_t mask_constant_numeric(
    int typmod, const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room
) noexcept nogil:
    cdef unsigned char groups[208]                  # MASK_NUMBER_MAX / 2 and a group at each end
    cdef MaskNumeric number
    cdef MaskDecimal d
    if typmod >= 4 and (not mask_decimal_text(p, n, &d) or <int>d.n - d.scale > mask_whole_digits(typmod)):
        return MASK_IS_NULL
    if n > MASK_NUMBER_MAX or not mask_numeric_text(p, n, groups, &number) or number.sign & 0x8000:
        return MASK_IS_NULL
    return mask_put_numeric(&number, groups, dst, room) if fmt == 1 else mask_put(dst, room, p, n)


cdef ssize_t mask_constant_bytea(const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room) noexcept nogil:
    """The hexadecimal form only."""
    cdef ssize_t size
    if n > room:
        return MASK_NO_ROOM
    if n < 2 or p[0] != c'\\' or p[1] != c'x':
        return MASK_IS_NULL
    size = mask_read_bytea(p, n, dst)
    if size < 0:
        return MASK_IS_NULL
    return size if fmt == 1 else mask_put(dst, room, p, n)


cdef ssize_t mask_constant_time(
    unsigned int oid, const unsigned char* p, size_t n, int fmt, const unsigned char* src, size_t src_len,
    unsigned char* dst, size_t room
) noexcept nogil:
    """YYYY-MM-DD, YYYY-MM-DD HH:MM:SS (with a zone for timestamptz), HH:MM:SS."""
    cdef int64_t usecs = 0
    if oid == OID_TIME:
        return mask_put_clock(fmt, usecs, dst, room) if n == 8 and mask_read_clock(p, n, &usecs) == n else MASK_IS_NULL
    if not mask_read_moment(oid, p, n, &usecs) or not mask_real_day(p, n):
        return MASK_IS_NULL
    if fmt == 0 and not mask_iso_dated(src, src_len):
        return MASK_IS_NULL
    usecs = mask_floor_div(usecs, 1000000) * 1000000
    return mask_put_any_moment(oid, fmt, usecs, dst, room)


cdef ssize_t mask_constant_inet(
    unsigned int oid, const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room
) noexcept nogil:
    """A cidr has no bits behind its prefix."""
    cdef MaskInet net
    cdef int i
    if not mask_read_inet(0, p, n, &net):
        return MASK_IS_NULL
    for i in range(net.bits if oid == OID_CIDR else 128, 8 * net.size):
        if net.address[i >> 3] & (0x80 >> (i & 7)):
            return MASK_IS_NULL
    return mask_put_inet(oid, fmt, &net, dst, room)


cdef ssize_t mask_constant(
    const MaskSpec* m, unsigned int oid, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """The constant in the cell's type and format; NULL when it is no value of that type."""
    cdef const unsigned char* p = m.constant
    cdef size_t size = m.constant_len
    cdef unsigned char raw[16]
    cdef unsigned char text[36]
    if mask_is_text(oid):
        return MASK_IS_NULL if oid == OID_NAME and size > MASK_NAME_MAX else mask_put(dst, room, p, size)
    if oid == OID_CHAR:
        return mask_put(dst, room, p, 1) if size == 1 and p[0] < 0x80 else MASK_IS_NULL
    if oid == OID_BOOL:
        return mask_constant_bool(p, size, fmt, dst, room)
    if oid == OID_INT2 or oid == OID_INT4 or oid == OID_INT8 or oid == OID_OID:
        return mask_constant_int(oid, p, size, fmt, dst, room)
    if oid == OID_FLOAT4 or oid == OID_FLOAT8:
        return mask_constant_float(oid, p, size, fmt, dst, room)
    if oid == OID_NUMERIC:
        return mask_constant_numeric(typmod, p, size, fmt, dst, room)
    if oid == OID_BYTEA:
        return mask_constant_bytea(p, size, fmt, dst, room)
    if oid == OID_UUID and mask_read_uuid(p, size, raw):
        return mask_put(dst, room, raw, 16) if fmt == 1 else mask_put(dst, room, text, mask_write_uuid(text, raw))
    if oid == OID_DATE or oid == OID_TIMESTAMP or oid == OID_TIMESTAMPTZ or oid == OID_TIME:
        return mask_constant_time(oid, p, size, fmt, src, n, dst, room)
    if oid == OID_INET or oid == OID_CIDR:
        return mask_constant_inet(oid, p, size, fmt, dst, room)
    return MASK_IS_NULL
