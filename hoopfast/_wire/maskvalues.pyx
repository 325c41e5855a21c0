# Values as PostgreSQL writes them, text and binary: read into a normal form, written with the room checked. For mask.pyx.
#
# Every reader gets a length and believes nothing beyond it; what it cannot read it refuses, and the caller redacts.

from libc.math cimport isfinite
from libc.stdint cimport int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport strtod
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    MASK_IS_NULL = -1
    MASK_NO_ROOM = -2
    MASK_UNFIT = -3             # inside this part only: this kind cannot do this value, redact it

cdef enum:                      # type OIDs of pg_type.dat, which never change
    OID_BOOL = 16
    OID_BYTEA = 17
    OID_CHAR = 18
    OID_NAME = 19
    OID_INT8 = 20
    OID_INT2 = 21
    OID_INT4 = 23
    OID_TEXT = 25
    OID_OID = 26
    OID_UNKNOWN = 705
    OID_FLOAT4 = 700
    OID_FLOAT8 = 701
    OID_BPCHAR = 1042
    OID_VARCHAR = 1043
    OID_JSON = 114
    OID_BOX = 603
    OID_CIDR = 650
    OID_MACADDR8 = 774
    OID_MACADDR = 829
    OID_INET = 869
    OID_DATE = 1082
    OID_TIME = 1083
    OID_TIMESTAMP = 1114
    OID_TIMESTAMPTZ = 1184
    OID_TIMETZ = 1266
    OID_NUMERIC = 1700
    OID_REFCURSOR = 1790
    OID_RECORD = 2249
    OID_UUID = 2950
    OID_JSONB = 3802

cdef const char* MASK_HEX = "0123456789abcdef"


cdef inline ssize_t mask_put(unsigned char* dst, size_t room, const void* p, size_t n) noexcept nogil:
    if n > room:
        return MASK_NO_ROOM
    if n:                                       # an empty constant may be a null pointer
        memcpy(dst, p, n)
    return <ssize_t>n


cdef inline ssize_t mask_put_be(unsigned char* dst, size_t room, uint64_t v, size_t n) noexcept nogil:
    cdef size_t i
    if n > room:
        return MASK_NO_ROOM
    for i in range(n):
        dst[i] = <unsigned char>(v >> (8 * (n - 1 - i)))
    return <ssize_t>n


cdef inline ssize_t mask_put_zeros(unsigned char* dst, size_t room, size_t n) noexcept nogil:
    if n > room:
        return MASK_NO_ROOM
    memset(dst, 0, n)
    return <ssize_t>n


cdef inline bint mask_is_digit(unsigned char c) noexcept nogil:
    return c'0' <= c <= c'9'


cdef bint mask_iso_dated(const unsigned char* p, size_t n) noexcept nogil:
    """Does the date begin as DateStyle ISO writes it? Drivers read dates by the session's style, which is not known here."""
    cdef size_t i = 0
    if n and p[0] == c'-':
        i = 1
    if n > i and p[i] == c'i':                  # infinity is the same in every style
        return True
    while i < n and mask_is_digit(p[i]):
        i += 1
    return i >= 4 and i < n and p[i] == c'-'


cdef inline size_t mask_utf8_step(const unsigned char* p, size_t n) noexcept nogil:
    """Bytes of the character at p, of which n > 0 are there; 0 when it is not UTF-8."""
    cdef unsigned char c = p[0]
    cdef size_t want, i
    if c < 0x80:
        return 1
    if 0xC2 <= c <= 0xDF:
        want = 2
    elif 0xE0 <= c <= 0xEF:
        want = 3
    elif 0xF0 <= c <= 0xF4:
        want = 4
    else:
        return 0
    if n < want:
        return 0
    for i in range(1, want):
        if p[i] & 0xC0 != 0x80:
            return 0
    if (c == 0xE0 and p[1] < 0xA0) or (c == 0xED and p[1] > 0x9F) or (c == 0xF0 and p[1] < 0x90) or (c == 0xF4 and p[1] > 0x8F):
        return 0
    return want


# ---------------------------------------------------------------- integers, uuid, bytea

cdef bint mask_read_int(const unsigned char* p, size_t n, int64_t* value) noexcept nogil:
    cdef uint64_t v = 0, most = 0x7FFFFFFFFFFFFFFF
    cdef size_t i = 0
    cdef unsigned int digit
    cdef bint negative = n > 0 and p[0] == c'-'
    if negative:
        i = 1
        most += 1
    if i >= n:
        return False
    if n <= 18:                                 # cannot get too large
        while i < n:
            digit = <unsigned int>p[i] - c'0'
            if digit > 9:
                return False
            v = v * 10 + digit
            i += 1
    while i < n:
        if not mask_is_digit(p[i]):
            return False
        digit = p[i] - c'0'
        if v > (most - digit) // 10:
            return False
        v = v * 10 + digit
        i += 1
    value[0] = <int64_t>(0 - v) if negative else <int64_t>v
    return True


cdef inline int64_t mask_read_be(const unsigned char* p, size_t n) noexcept nogil:
    cdef uint64_t v = 0
    cdef size_t i
    for i in range(n):
        v = (v << 8) | p[i]
    if n == 2:
        return <int16_t>v
    if n == 4:
        return <int32_t>v
    return <int64_t>v


cdef size_t mask_write_decimal(unsigned char* out, int64_t value) noexcept nogil:
    """At most 20 bytes."""
    cdef unsigned char digits[20]
    cdef uint64_t v = <uint64_t>value
    cdef unsigned int pair
    cdef size_t from_ = 20, at = 0
    if value < 0:
        v = 0 - v
        out[0] = c'-'
        at = 1
    while v >= 100:                             # two at a time: divisions are what this costs
        pair = <unsigned int>(v % 100)
        v //= 100
        from_ -= 2
        digits[from_] = <unsigned char>(c'0' + pair // 10)
        digits[from_ + 1] = <unsigned char>(c'0' + pair % 10)
    if v >= 10:
        from_ -= 1
        digits[from_] = <unsigned char>(c'0' + v % 10)
        v //= 10
    from_ -= 1
    digits[from_] = <unsigned char>(c'0' + v)
    memcpy(out + at, digits + from_, 20 - from_)
    return at + 20 - from_


cdef inline int mask_hex_digit(unsigned char c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef bint mask_read_uuid(const unsigned char* p, size_t n, unsigned char* raw) noexcept nogil:
    """32 hexadecimal digits, dashes anywhere between, into 16 bytes."""
    cdef size_t i, digits = 0
    cdef int h
    for i in range(n):
        if p[i] == c'-':
            continue
        h = mask_hex_digit(p[i])
        if h < 0 or digits == 32:
            return False
        if digits & 1:
            raw[digits >> 1] |= <unsigned char>h
        else:
            raw[digits >> 1] = <unsigned char>(h << 4)
        digits += 1
    return digits == 32


cdef size_t mask_write_hex(unsigned char* out, const unsigned char* p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        out[2 * i] = MASK_HEX[p[i] >> 4]
        out[2 * i + 1] = MASK_HEX[p[i] & 15]
    return 2 * n


cdef size_t mask_write_uuid(unsigned char* out, const unsigned char* raw) noexcept nogil:
    cdef size_t i, at = 0
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            out[at] = c'-'
            at += 1
        at += mask_write_hex(out + at, raw + i, 1)
    return at


cdef ssize_t mask_read_bytea(const unsigned char* p, size_t n, unsigned char* out) noexcept nogil:
    """Text to raw bytes, by both settings of bytea_output; never longer than n. -1: not bytea."""
    cdef size_t i = 0, at = 0
    cdef int high, low
    if n >= 2 and p[0] == c'\\' and p[1] == c'x':
        if n & 1:
            return -1
        i = 2
        while i < n:
            high = mask_hex_digit(p[i])
            low = mask_hex_digit(p[i + 1])
            if high < 0 or low < 0:
                return -1
            out[at] = <unsigned char>(high << 4 | low)
            at += 1
            i += 2
        return <ssize_t>at
    while i < n:
        if p[i] != c'\\':
            out[at] = p[i]
            i += 1
        elif n - i >= 2 and p[i + 1] == c'\\':
            out[at] = c'\\'
            i += 2
        elif n - i >= 4 and c'0' <= p[i + 1] <= c'3' and c'0' <= p[i + 2] <= c'7' and c'0' <= p[i + 3] <= c'7':
            out[at] = <unsigned char>((p[i + 1] - c'0') << 6 | (p[i + 2] - c'0') << 3 | (p[i + 3] - c'0'))
            i += 4
        else:
            return -1
        at += 1
    return <ssize_t>at


# ---------------------------------------------------------------- float

cdef bint mask_read_float(const unsigned char* p, size_t n, double* value) noexcept nogil:
    """Digits, point, exponent; finite. No names, no hexadecimal."""
    cdef char text[64]
    cdef char* end = NULL
    cdef size_t i
    if n == 0 or n >= sizeof(text):
        return False
    for i in range(n):
        if not mask_is_digit(p[i]) and p[i] != c'.' and p[i] != c'-' and p[i] != c'+' and p[i] != c'e' and p[i] != c'E':
            return False
    memcpy(text, p, n)
    text[n] = 0
    value[0] = strtod(text, &end)
    return end == text + n and isfinite(value[0])


# ---------------------------------------------------------------- numeric

cdef struct MaskNumeric:        # normal form: no zero groups at either end, so 1.5 and 1.50 are equal, text and binary too
    uint16_t sign               # of the binary format: 0, 0x4000 negative, 0xC000 NaN, 0xD000 and 0xF000 infinities
    int16_t weight
    uint16_t scale
    size_t groups               # base 10000, two bytes each


cdef inline void mask_numeric_add(MaskNumeric* number, unsigned char* out, int* weight, unsigned int group) noexcept nogil:
    if group == 0 and number.groups == 0:
        weight[0] -= 1
        return
    mask_put_be(out + 2 * number.groups, 2, group, 2)
    number.groups += 1


cdef void mask_numeric_finish(MaskNumeric* number, const unsigned char* out, int weight) noexcept nogil:
    while number.groups and out[2 * number.groups - 1] == 0 and out[2 * number.groups - 2] == 0:
        number.groups -= 1
    number.weight = <int16_t>weight
    if number.groups == 0 and number.sign == 0x4000:
        number.sign = 0
    if number.groups == 0:
        number.weight = 0


cdef bint mask_numeric_special(const unsigned char* p, size_t n, MaskNumeric* number) noexcept nogil:
    if n == 3 and memcmp(p, b"NaN", 3) == 0:
        number.sign = 0xC000
    elif n == 8 and memcmp(p, b"Infinity", 8) == 0:
        number.sign = 0xD000
    elif n == 9 and memcmp(p, b"-Infinity", 9) == 0:
        number.sign = 0xF000
    else:
        return False
    return True


cdef bint mask_numeric_text(const unsigned char* p, size_t n, unsigned char* out, MaskNumeric* number) noexcept nogil:
    """Writes at most n / 2 + 4 bytes of groups to `out`. No exponent: the server never writes one."""
    cdef size_t i = 0, whole_from, whole_to, part_from, part_to, k, left
    cdef unsigned int group
    cdef int weight
    memset(number, 0, sizeof(MaskNumeric))
    if mask_numeric_special(p, n, number):
        return True
    if n and (p[0] == c'-' or p[0] == c'+'):
        number.sign = 0x4000 if p[0] == c'-' else 0
        i = 1
    whole_from = i
    while i < n and mask_is_digit(p[i]):
        i += 1
    whole_to = part_from = part_to = i
    if i < n and p[i] == c'.':
        i += 1
        part_from = i
        while i < n and mask_is_digit(p[i]):
            i += 1
        part_to = i
    # 131072 digits before the point and 16383 after it are PostgreSQL's limits
    if i != n or whole_to - whole_from > 131072 or part_to - part_from > 16383:
        return False
    left = whole_to - whole_from
    if left == 0 and part_to == part_from:
        return False
    number.scale = <uint16_t>(part_to - part_from)
    weight = <int>((left + 3) // 4) - 1
    while left:
        group = 0
        for k in range(((left - 1) & 3) + 1):
            group = group * 10 + p[whole_to - left] - c'0'
            left -= 1
        mask_numeric_add(number, out, &weight, group)
    while part_from < part_to:
        group = 0
        for k in range(4):
            group *= 10
            if part_from < part_to:
                group += p[part_from] - c'0'
                part_from += 1
        mask_numeric_add(number, out, &weight, group)
    mask_numeric_finish(number, out, weight)
    return True


cdef bint mask_numeric_binary(const unsigned char* p, size_t n, unsigned char* out, MaskNumeric* number) noexcept nogil:
    cdef size_t i, groups
    cdef unsigned int group
    cdef int weight
    memset(number, 0, sizeof(MaskNumeric))
    if n < 8:
        return False
    groups = <size_t>(<uint16_t>mask_read_be(p, 2))
    if groups > 0x7FFF or n != 8 + 2 * groups:
        return False
    weight = <int>mask_read_be(p + 2, 2)
    number.sign = <uint16_t>mask_read_be(p + 4, 2)
    if number.sign == 0xC000 or number.sign == 0xD000 or number.sign == 0xF000:
        return True
    if number.sign != 0 and number.sign != 0x4000:
        return False
    for i in range(groups):
        group = <uint16_t>mask_read_be(p + 8 + 2 * i, 2)
        if group > 9999:
            return False
        mask_numeric_add(number, out, &weight, group)
    if weight < -32768:
        return False
    mask_numeric_finish(number, out, weight)
    return True


cdef ssize_t mask_put_numeric(
    const MaskNumeric* number, const unsigned char* groups, unsigned char* dst, size_t room
) noexcept nogil:
    if 8 + 2 * number.groups > room:
        return MASK_NO_ROOM
    mask_put_be(dst, 2, number.groups, 2)
    mask_put_be(dst + 2, 2, <uint64_t>number.weight, 2)
    mask_put_be(dst + 4, 2, number.sign, 2)
    mask_put_be(dst + 6, 2, number.scale, 2)
    memcpy(dst + 8, groups, 2 * number.groups)
    return <ssize_t>(8 + 2 * number.groups)
