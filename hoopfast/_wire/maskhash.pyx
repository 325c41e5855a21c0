# hash, token and ff1: what a keyed function makes of a scalar, in the shape of its type.
#
# The function sees one normal form for the text and the binary format of a value, so both give the same result.

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef const char* MASK_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


cdef bint mask_digest(const MaskSpec* m, const unsigned char* p, size_t n, unsigned char* digest) noexcept nogil:
    """32 bytes of a hash, 16 of a token."""
    if m.kind == MASK_DO_TOKEN:
        mask_siphash(m.keys.sip, p, n, digest)
        return True
    return mask_hmac(&m.keys, p, n, digest)


cdef inline size_t mask_int_width(unsigned int oid) noexcept nogil:
    if oid == OID_INT2:
        return 2
    if oid == OID_INT4 or oid == OID_OID:
        return 4
    return 8


cdef ssize_t mask_put_int(unsigned int oid, int fmt, int64_t value, unsigned char* dst, size_t room) noexcept nogil:
    cdef unsigned char decimal[20]
    if fmt == 1:
        return mask_put_be(dst, room, <uint64_t>value, mask_int_width(oid))
    return mask_put(dst, room, decimal, mask_write_decimal(decimal, value))


cdef bint mask_get_int(unsigned int oid, int fmt, const unsigned char* src, size_t n, int64_t* value) noexcept nogil:
    cdef size_t width = mask_int_width(oid)
    if fmt == 0:
        return mask_read_int(src, n, value)
    if n != width:
        return False
    value[0] = mask_read_be(src, n)
    if oid == OID_OID:
        value[0] = <int64_t><uint32_t>value[0]
    return True


cdef bint mask_get_float(unsigned int oid, int fmt, const unsigned char* src, size_t n, double* value) noexcept nogil:
    """Finite ones only."""
    cdef uint64_t wide
    cdef uint32_t narrow
    cdef float single
    if fmt == 0:
        if not mask_read_float(src, n, value):
            return False
        if oid == OID_FLOAT4:
            value[0] = <float>value[0]
    elif oid == OID_FLOAT4:
        if n != 4:
            return False
        narrow = <uint32_t>mask_read_be(src, 4)
        memcpy(&single, &narrow, 4)
        value[0] = single
    else:
        if n != 8:
            return False
        wide = <uint64_t>mask_read_be(src, 8)
        memcpy(value, &wide, 8)
    return isfinite(value[0])


cdef ssize_t mask_put_float(unsigned int oid, int fmt, double value, const unsigned char* text, size_t size,
                            unsigned char* dst, size_t room) noexcept nogil:
    """`text` is what stands for it in text format."""
    cdef float narrow = <float>value
    cdef uint64_t wide_bits = 0
    cdef uint32_t narrow_bits = 0
    if fmt == 0:
        return mask_put(dst, room, text, size)
    if oid == OID_FLOAT4:
        memcpy(&narrow_bits, &narrow, 4)
        return mask_put_be(dst, room, narrow_bits, 4)
    memcpy(&wide_bits, &value, 8)
    return mask_put_be(dst, room, wide_bits, 8)


cdef bint mask_get_moment(unsigned int oid, int fmt, const unsigned char* src, size_t n, int64_t* usecs) noexcept nogil:
    """Of a date, timestamp or timestamptz: microseconds since 2000-01-01. Infinities are none."""
    if fmt == 0:
        return mask_read_moment(oid, src, n, usecs)
    if n != (4 if oid == OID_DATE else 8):
        return False
    usecs[0] = mask_read_be(src, n)
    if oid == OID_DATE:
        if not MASK_DATE_LEAST <= usecs[0] < MASK_DATE_MOST:    # later dates than timestamps can be
            return False
        usecs[0] *= MASK_USECS_PER_DAY
        return True
    return MASK_DATE_LEAST * MASK_USECS_PER_DAY <= usecs[0] < MASK_DATE_MOST * MASK_USECS_PER_DAY


cdef ssize_t mask_put_any_moment(unsigned int oid, int fmt, int64_t usecs, unsigned char* dst, size_t room) noexcept nogil:
    if oid == OID_DATE:
        return mask_put_date(fmt, mask_floor_div(usecs, MASK_USECS_PER_DAY), dst, room)
    return mask_put_moment(oid, fmt, usecs, dst, room)


# ---------------------------------------------------------------- hash, token

cdef ssize_t mask_hash_text(
    const MaskSpec* m, unsigned int oid, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """A hash is 32 hexadecimal digits; a token says its version and has 26 digits of base 32."""
    cdef unsigned char digest[32]
    cdef unsigned char text[48]
    cdef size_t at = 0, i
    cdef uint64_t high, low
    if not mask_digest(m, src, n, digest):
        return MASK_IS_NULL
    if m.kind == MASK_DO_HASH:
        return mask_put(dst, room, text, mask_write_hex(text, digest, 16))
    text[0] = c't'
    at = 1 + mask_write_decimal(text + 1, m.keep)
    text[at] = c'_'
    at += 1
    high = <uint64_t>mask_read_be(digest, 8)
    low = <uint64_t>mask_read_be(digest + 8, 8)
    for i in range(12):
        text[at + i] = MASK_BASE32[(high >> (59 - 5 * i)) & 31]
        text[at + 13 + i] = MASK_BASE32[(low >> (58 - 5 * i)) & 31]
    text[at + 12] = MASK_BASE32[((high & 15) << 1) | (low >> 63)]
    text[at + 25] = MASK_BASE32[(low & 7) << 2]
    at += 26
    return mask_put(dst, room, text, at)


cdef ssize_t mask_hash_int(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the decimal text; 1 .. the type's largest value."""
    cdef unsigned char digest[32]
    cdef unsigned char decimal[20]
    cdef uint64_t most = (<uint64_t>1 << (8 * mask_int_width(oid) - 1)) - 1
    cdef int64_t value = 0
    if not mask_get_int(oid, fmt, src, n, &value):
        return MASK_UNFIT
    if not mask_digest(m, decimal, mask_write_decimal(decimal, value), digest):
        return MASK_IS_NULL
    return mask_put_int(oid, fmt, <int64_t>(<uint64_t>mask_read_be(digest, 8) % most + 1), dst, room)


cdef inline int mask_whole_digits(int typmod) noexcept nogil:
    """How many digits numeric(p, s) has before the point, below zero for some; many when it has no limit."""
    if typmod < 4:
        return 1000
    return (((typmod - 4) >> 16) & 0xFFFF) - ((((typmod - 4) & 0x7FF) ^ 1024) - 1024)


cdef inline uint64_t mask_numeric_most(int typmod) noexcept nogil:
    """The largest whole number of numeric(p, s), up to 18 digits; 0 when there is none above zero."""
    cdef int digits = mask_whole_digits(typmod)
    cdef uint64_t most = 1
    digits = 18 if digits > 18 else digits
    while digits > 0:
        most *= 10
        digits -= 1
    return most - 1


cdef ssize_t mask_hash_numeric(
    const MaskSpec* m, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of sign, weight and groups in normal form; an integer of up to 18 digits."""
    cdef MaskNumeric number
    cdef unsigned char digest[32]
    cdef unsigned char shaped[20]
    cdef unsigned char groups[16]
    cdef uint64_t most = mask_numeric_most(typmod)
    cdef size_t size
    if room < n + 16:                       # dst is the working space
        return MASK_NO_ROOM
    if not (mask_numeric_binary(src, n, dst + 4, &number) if fmt == 1 else mask_numeric_text(src, n, dst + 4, &number)):
        return MASK_UNFIT
    if most == 0:
        return MASK_UNFIT
    mask_put_be(dst, 2, number.sign, 2)
    mask_put_be(dst + 2, 2, <uint64_t>number.weight, 2)
    if not mask_digest(m, dst, 4 + 2 * number.groups, digest):
        return MASK_IS_NULL
    size = mask_write_decimal(shaped, <int64_t>(<uint64_t>mask_read_be(digest, 8) % most + 1))
    if fmt == 0:
        return mask_put(dst, room, shaped, size)
    mask_numeric_text(shaped, size, groups, &number)
    return mask_put_numeric(&number, groups, dst, room)


cdef ssize_t mask_hash_float(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the eight bytes of a double; a whole number that the type holds exactly."""
    cdef unsigned char digest[32]
    cdef unsigned char text[20]
    cdef double value = 0
    cdef uint64_t bits = 0, most = (<uint64_t>1 << (24 if oid == OID_FLOAT4 else 53)) - 1
    if not mask_get_float(oid, fmt, src, n, &value):
        return MASK_UNFIT
    value += 0.0                            # no negative zero
    memcpy(&bits, &value, 8)
    mask_put_be(text, 8, bits, 8)
    if not mask_digest(m, text, 8, digest):
        return MASK_IS_NULL
    bits = <uint64_t>mask_read_be(digest, 8) % most + 1
    return mask_put_float(oid, fmt, <double>bits, text, mask_write_decimal(text, <int64_t>bits), dst, room)


cdef ssize_t mask_hash_uuid(
    const MaskSpec* m, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the 16 bytes, with the bits of a version 4 uuid."""
    cdef unsigned char digest[32]
    cdef unsigned char raw[16]
    cdef unsigned char text[36]
    if fmt == 1:
        if n != 16:
            return MASK_UNFIT
        memcpy(raw, src, 16)
    elif not mask_read_uuid(src, n, raw):
        return MASK_UNFIT
    if not mask_digest(m, raw, 16, digest):
        return MASK_IS_NULL
    digest[6] = (digest[6] & 0x0F) | 0x40
    digest[8] = (digest[8] & 0x3F) | 0x80
    if fmt == 1:
        return mask_put(dst, room, digest, 16)
    return mask_put(dst, room, text, mask_write_uuid(text, digest))


cdef ssize_t mask_hash_bytea(
    const MaskSpec* m, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the raw bytes, as 32 bytes; 16 of a token."""
    cdef unsigned char digest[32]
    cdef unsigned char text[66]
    cdef size_t width = 16 if m.kind == MASK_DO_TOKEN else 32
    cdef ssize_t size
    if fmt == 1:
        return mask_put(dst, room, digest, width) if mask_digest(m, src, n, digest) else MASK_IS_NULL
    if room < n:                            # dst is the working space
        return MASK_NO_ROOM
    size = mask_read_bytea(src, n, dst)
    if size < 0:
        return MASK_UNFIT
    if not mask_digest(m, dst, <size_t>size, digest):
        return MASK_IS_NULL
    text[0] = c'\\'
    text[1] = c'x'
    return mask_put(dst, room, text, 2 + mask_write_hex(text + 2, digest, width))


cdef ssize_t mask_hash_time(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the microseconds; a date or a whole second of the years 1900 to 2099, or of a day."""
    cdef unsigned char digest[32]
    cdef unsigned char raw[8]
    cdef int64_t usecs = 0, days
    cdef uint64_t drawn
    if oid == OID_TIME:
        if fmt == 1 and n == 8:
            usecs = mask_read_be(src, 8)
        elif fmt == 1 or mask_read_clock(src, n, &usecs) != n or n == 0:
            return MASK_UNFIT
    elif not mask_get_moment(oid, fmt, src, n, &usecs):
        return MASK_UNFIT
    mask_put_be(raw, 8, <uint64_t>usecs, 8)
    if not mask_digest(m, raw, 8, digest):
        return MASK_IS_NULL
    drawn = <uint64_t>mask_read_be(digest, 8)
    if oid == OID_TIME:
        return mask_put_clock(fmt, <int64_t>(drawn % 86400) * 1000000, dst, room)
    days = <int64_t>(drawn % 73049) - 36524                         # 1900-01-01 to 2099-12-31
    if oid == OID_DATE:
        return mask_put_date(fmt, days, dst, room)
    return mask_put_moment(oid, fmt, (days * 86400 + <int64_t>(drawn // 73049 % 86400)) * 1000000, dst, room)


cdef ssize_t mask_hash_inet(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of family, length of the prefix and address; one address of the same family, of IPv6 a private one."""
    cdef unsigned char digest[32]
    cdef MaskInet net
    if not mask_read_inet(fmt, src, n, &net):
        return MASK_UNFIT
    if not mask_digest(m, <unsigned char*>&net, sizeof(net), digest):
        return MASK_IS_NULL
    net.bits = <unsigned char>(8 * net.size)
    memcpy(net.address, digest, net.size)
    if net.size == 16:
        net.address[0] = 0xFD
    return mask_put_inet(oid, fmt, &net, dst, room)


cdef ssize_t mask_hash_macaddr(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the bytes, with the bits of an address that nobody was assigned."""
    cdef unsigned char digest[32]
    cdef unsigned char raw[8]
    cdef unsigned char text[24]
    cdef size_t width = 6 if oid == OID_MACADDR else 8, i, at = 0
    cdef int high, low
    if fmt == 1:
        if n != width:
            return MASK_UNFIT
        memcpy(raw, src, width)
    else:
        if n != 3 * width - 1:
            return MASK_UNFIT
        for i in range(width):
            high = mask_hex_digit(src[3 * i])
            low = mask_hex_digit(src[3 * i + 1])
            if high < 0 or low < 0:
                return MASK_UNFIT
            raw[i] = <unsigned char>(high << 4 | low)
    if not mask_digest(m, raw, width, digest):
        return MASK_IS_NULL
    digest[0] = (digest[0] & 0xFC) | 0x02
    if fmt == 1:
        return mask_put(dst, room, digest, width)
    for i in range(width):
        if i:
            text[at] = c':'
            at += 1
        at += mask_write_hex(text + at, digest + i, 1)
    return mask_put(dst, room, text, at)


cdef ssize_t mask_hash(
    const MaskSpec* m, unsigned int oid, int typmod, int fmt, const unsigned char* src, size_t n, unsigned char* dst,
    size_t room
) noexcept nogil:
    if mask_is_text(oid):
        return mask_hash_text(m, oid, src, n, dst, room)
    if oid == OID_INT2 or oid == OID_INT4 or oid == OID_INT8 or oid == OID_OID:
        return mask_hash_int(m, oid, fmt, src, n, dst, room)
    if oid == OID_NUMERIC:
        return mask_hash_numeric(m, typmod, fmt, src, n, dst, room)
    if oid == OID_FLOAT4 or oid == OID_FLOAT8:
        return mask_hash_float(m, oid, fmt, src, n, dst, room)
    if oid == OID_UUID:
        return mask_hash_uuid(m, fmt, src, n, dst, room)
    if oid == OID_BYTEA:
        return mask_hash_bytea(m, fmt, src, n, dst, room)
    if oid == OID_DATE or oid == OID_TIMESTAMP or oid == OID_TIMESTAMPTZ or oid == OID_TIME:
        return mask_hash_time(m, oid, fmt, src, n, dst, room)
    if oid == OID_INET or oid == OID_CIDR:
        return mask_hash_inet(m, oid, fmt, src, n, dst, room)
    if oid == OID_MACADDR or oid == OID_MACADDR8:
        return mask_hash_macaddr(m, oid, fmt, src, n, dst, room)
    return MASK_UNFIT


# ---------------------------------------------------------------- ff1

cdef inline unsigned int ff1_radix(int alphabet) noexcept nogil:
    """By the order of policy/source.py: digits, hex, lower, upper, alphanumeric."""
    return 10 if alphabet == 0 else 16 if alphabet == 1 else 62 if alphabet == 4 else 36


cdef inline int ff1_digit(int alphabet, unsigned char c) noexcept nogil:
    """-1 for what is not in the alphabet."""
    if mask_is_digit(c):
        return c - c'0'
    if c'a' <= c <= c'z' and alphabet != 0 and alphabet != 3:
        return c - c'a' + (36 if alphabet == 4 else 10) if alphabet != 1 or c <= c'f' else -1
    if c'A' <= c <= c'Z' and (alphabet == 3 or alphabet == 4):
        return c - c'A' + 10
    return -1


cdef inline unsigned char ff1_letter(int alphabet, int digit) noexcept nogil:
    if digit < 10:
        return <unsigned char>(c'0' + digit)
    if alphabet == 3 or (alphabet == 4 and digit < 36):
        return <unsigned char>(c'A' + digit - 10)
    return <unsigned char>(c'a' + digit - (36 if alphabet == 4 else 10))


cdef ssize_t mask_ff1_text(
    const MaskSpec* m, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Letters of the alphabet are encrypted, punctuation and blanks of ASCII stay; anything else would show and is redacted."""
    cdef uint8_t digits[FF1_DIGITS_MAX]
    cdef size_t i, found = 0
    cdef int digit
    cdef unsigned char c
    if n > room:
        return MASK_NO_ROOM
    for i in range(n):
        c = src[i]
        digit = ff1_digit(m.keep, c)
        if digit >= 0:
            if found == FF1_DIGITS_MAX:
                return MASK_UNFIT
            digits[found] = <uint8_t>digit
            found += 1
        elif c >= 0x80 or mask_is_digit(c) or c'a' <= c | 0x20 <= c'z':
            return MASK_UNFIT
    if not mask_ff1(&m.keys, ff1_radix(m.keep), NULL, 0, digits, found):
        return MASK_UNFIT
    memcpy(dst, src, n)
    found = 0
    for i in range(n):
        if ff1_digit(m.keep, dst[i]) >= 0:
            dst[i] = ff1_letter(m.keep, digits[found])
            found += 1
    return <ssize_t>n


cdef bint mask_ff1_number(const MaskSpec* m, uint8_t* digits, size_t n, uint64_t most) noexcept nogil:
    """Among the numbers of as many digits, up to `most` (0: all): encrypted again and again until one comes out.

    That is a permutation of exactly these numbers, and a first digit of zero would make the number shorter.
    """
    cdef int tries
    cdef size_t i
    cdef uint64_t value
    for tries in range(FF1_TRIES_MAX):
        if not mask_ff1(&m.keys, 10, NULL, 0, digits, n):
            return False
        if digits[0] == 0:
            continue
        if most == 0 or n < 10:
            return True
        value = 0
        for i in range(n):                      # up to 19 digits, which 64 bits hold
            value = value * 10 + digits[i]
        if value <= most:
            return True
    return False


cdef ssize_t mask_ff1_int(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """As many digits, the same sign, within the type."""
    cdef unsigned char decimal[20]
    cdef int64_t value = 0
    cdef size_t size, i, sign
    if not mask_get_int(oid, fmt, src, n, &value):
        return MASK_UNFIT
    size = mask_write_decimal(decimal, value)
    sign = 1 if value < 0 else 0
    for i in range(sign, size):
        decimal[i] -= c'0'
    if not mask_ff1_number(m, decimal + sign, size - sign, (<uint64_t>1 << (8 * mask_int_width(oid) - 1)) - 1):
        return MASK_UNFIT
    for i in range(sign, size):
        decimal[i] += c'0'
    if fmt == 0:
        return mask_put(dst, room, decimal, size)
    mask_read_int(decimal, size, &value)
    return mask_put_int(oid, fmt, value, dst, room)


cdef ssize_t mask_ff1_numeric(
    const MaskSpec* m, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """The digits without leading zeros are encrypted; sign, scale and their number stay."""
    cdef MaskDecimal number
    if not mask_read_number(fmt, src, n, &number) or not mask_ff1_number(m, number.digits, number.n, 0):
        return MASK_UNFIT
    return mask_put_number(&number, fmt, dst, room)


cdef ssize_t mask_ff1_uuid(
    const MaskSpec* m, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """All 32 hexadecimal digits; bits of a version do not stay."""
    cdef unsigned char raw[16]
    cdef uint8_t digits[32]
    cdef unsigned char text[36]
    cdef size_t i
    if fmt == 1:
        if n != 16:
            return MASK_UNFIT
        memcpy(raw, src, 16)
    elif not mask_read_uuid(src, n, raw):
        return MASK_UNFIT
    for i in range(16):
        digits[2 * i] = raw[i] >> 4
        digits[2 * i + 1] = raw[i] & 15
    if not mask_ff1(&m.keys, 16, NULL, 0, digits, 32):
        return MASK_UNFIT
    for i in range(16):
        raw[i] = <unsigned char>(digits[2 * i] << 4 | digits[2 * i + 1])
    if fmt == 1:
        return mask_put(dst, room, raw, 16)
    return mask_put(dst, room, text, mask_write_uuid(text, raw))


cdef ssize_t mask_format_preserving(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if mask_is_text(oid):
        return mask_ff1_text(m, src, n, dst, room)
    if oid == OID_INT4 or oid == OID_INT8:
        return mask_ff1_int(m, oid, fmt, src, n, dst, room)
    if oid == OID_NUMERIC:
        return mask_ff1_numeric(m, fmt, src, n, dst, room)
    if oid == OID_UUID:
        return mask_ff1_uuid(m, fmt, src, n, dst, room)
    return MASK_UNFIT
