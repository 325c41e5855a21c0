# bucket: the next multiple of a size at or below a number, the first moment of a unit of time, the prefix of an address.

from libc.math cimport floor, fabs
from libc.stdint cimport int64_t

cdef inline double mask_power10(int n) noexcept nogil:
    """n up to MASK_STEP_DIGITS_MAX, which a double holds exactly."""
    cdef double power = 1
    cdef int i
    for i in range(n):
        power *= 10
    return power


cdef ssize_t mask_bucket_int(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Within the type: below its least multiple there is none."""
    cdef int64_t value = 0, rest
    cdef int64_t least = 0 if oid == OID_OID else -(<int64_t>1 << (8 * mask_int_width(oid) - 2)) * 2
    if m.step_scale or m.step < 2:              # the value itself
        return MASK_UNFIT
    if not mask_get_int(oid, fmt, src, n, &value):
        return MASK_UNFIT
    rest = value % m.step
    if rest < 0:
        rest += m.step
    if value < least + rest:
        value += m.step
    return mask_put_int(oid, fmt, value - rest, dst, room)


cdef ssize_t mask_bucket_float(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Values so large that a double has no more digits than the bucket would leave are none."""
    cdef MaskDecimal d
    cdef unsigned char text[MASK_DECIMAL_ROOM + MASK_DECIMAL_MAX + 8]
    cdef double value = 0, power = mask_power10(m.step_scale)
    cdef int64_t units
    cdef size_t i = 0
    if not mask_get_float(oid, fmt, src, n, &value) or fabs(value * power) > 9e15:
        return MASK_UNFIT
    units = <int64_t>floor(value * power)
    units = mask_floor_div(units, m.step) * m.step
    value = <double>units / power
    d.negative = units < 0
    d.scale = m.step_scale
    d.n = mask_write_decimal(d.digits, -units if units < 0 else units)
    while i < d.n:
        d.digits[i] -= c'0'
        i += 1
    if units == 0:
        d.n = 0
    return mask_put_float(oid, fmt, value, text, mask_write_number(&d, text), dst, room)


cdef ssize_t mask_bucket_numeric(
    const MaskSpec* m, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    cdef MaskDecimal d
    if not mask_read_number(fmt, src, n, &d) or not mask_decimal_floor(&d, m.step, m.step_scale):
        return MASK_UNFIT
    if <int>d.n - d.scale > mask_whole_digits(typmod):          # -999.99 in thousands has a digit too many
        return MASK_UNFIT
    return mask_put_number(&d, fmt, dst, room)


cdef ssize_t mask_bucket_moment(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """In UTC, so that text and binary agree in every session."""
    cdef int64_t usecs = 0
    if m.keep == UNIT_NUMBER or m.keep == UNIT_PREFIX or not mask_get_moment(oid, fmt, src, n, &usecs):
        return MASK_UNFIT
    if oid == OID_DATE and m.keep <= UNIT_DAY:  # the value itself
        return MASK_UNFIT
    usecs = mask_unit_moment(m.keep, usecs)
    if usecs < MASK_DATE_LEAST * MASK_USECS_PER_DAY:
        return MASK_UNFIT
    return mask_put_any_moment(oid, fmt, usecs, dst, room)


cdef ssize_t mask_bucket_clock(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """time and timetz, to the minute or hour of their own zone."""
    cdef int64_t usecs = 0, unit = 60000000 if m.keep == UNIT_MINUTE else 3600000000LL
    cdef size_t used = 8
    cdef ssize_t done
    if m.keep != UNIT_MINUTE and m.keep != UNIT_HOUR:
        return MASK_UNFIT
    if fmt == 1:
        if n != (8 if oid == OID_TIME else 12):
            return MASK_UNFIT
        usecs = mask_read_be(src, 8)
    else:
        used = mask_read_clock(src, n, &usecs)
    if used == 0 or (oid == OID_TIME and used != n) or not 0 <= usecs <= MASK_USECS_PER_DAY:
        return MASK_UNFIT
    done = mask_put_clock(fmt, mask_floor_div(usecs, unit) * unit, dst, room)
    if done < 0 or oid == OID_TIME:
        return done
    if <size_t>done + n - used > room:
        return MASK_NO_ROOM
    if fmt == 0 and mask_read_zone(src + used, n - used, &usecs) != n - used:
        return MASK_UNFIT
    memcpy(dst + done, src + used, n - used)
    return done + <ssize_t>(n - used)


cdef ssize_t mask_bucket_inet(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Addresses of IPv6 keep twice as many bits."""
    cdef MaskInet net
    cdef int64_t bits = m.step
    cdef int i
    if m.keep != UNIT_PREFIX or m.step_scale or not mask_read_inet(fmt, src, n, &net):
        return MASK_UNFIT
    if net.size == 16:
        bits *= 2
    if bits < net.bits:
        net.bits = <unsigned char>bits
    for i in range(net.size):
        if 8 * i >= net.bits:
            net.address[i] = 0
        elif net.bits - 8 * i < 8:
            net.address[i] &= <unsigned char>(0xFF00 >> (net.bits - 8 * i))
    return mask_put_inet(oid, fmt, &net, dst, room)


cdef ssize_t mask_bucket(
    const MaskSpec* m, unsigned int oid, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if oid == OID_DATE or oid == OID_TIMESTAMP or oid == OID_TIMESTAMPTZ:
        return mask_bucket_moment(m, oid, fmt, src, n, dst, room)
    if oid == OID_TIME or oid == OID_TIMETZ:
        return mask_bucket_clock(m, oid, fmt, src, n, dst, room)
    if oid == OID_INET or oid == OID_CIDR:
        return mask_bucket_inet(m, oid, fmt, src, n, dst, room)
    if m.keep != UNIT_NUMBER:
        return MASK_UNFIT
    if oid == OID_INT2 or oid == OID_INT4 or oid == OID_INT8 or oid == OID_OID:
        return mask_bucket_int(m, oid, fmt, src, n, dst, room)
    if oid == OID_FLOAT4 or oid == OID_FLOAT8:
        return mask_bucket_float(m, oid, fmt, src, n, dst, room)
    if oid == OID_NUMERIC:
        return mask_bucket_numeric(m, typmod, fmt, src, n, dst, room)
    return MASK_UNFIT
