# Decimal numbers digit by digit, and network addresses: read from either format, written to either.

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr, memcpy, memmove, memset, strlen

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET, AF_INET6
    int mask_inet_pton "inet_pton"(int family, const char* text, void* address)
    const char* mask_inet_ntop "inet_ntop"(int family, const void* address, char* text, unsigned int n)

cdef enum:
    MASK_DECIMAL_MAX = 100      # digits that are read; larger numbers are none
    MASK_DECIMAL_ROOM = 128     # what a bucket may add, and a digit

cdef struct MaskDecimal:        # digits / 10^scale
    bint negative
    int scale                   # 0 .. MASK_DECIMAL_MAX
    size_t n                    # without leading zeros: zero has none
    uint8_t digits[MASK_DECIMAL_ROOM]


cdef inline bint mask_decimal_add(MaskDecimal* d, unsigned int digit) noexcept nogil:
    if digit == 0 and d.n == 0:
        return True
    if d.n == MASK_DECIMAL_MAX:
        return False
    d.digits[d.n] = <uint8_t>digit
    d.n += 1
    return True


cdef bint mask_decimal_text(const unsigned char* p, size_t n, MaskDecimal* d) noexcept nogil:
    cdef size_t i, digits = 0
    cdef bint point = False
    d.scale = 0
    d.n = 0
    d.negative = n > 0 and p[0] == c'-'
    for i in range(1 if d.negative else 0, n):
        if p[i] == c'.' and not point:
            point = True
            continue
        digits += 1
        d.scale += point
        if not mask_is_digit(p[i]) or d.scale > MASK_DECIMAL_MAX or not mask_decimal_add(d, p[i] - c'0'):
            return False
    return digits > 0


cdef bint mask_decimal_binary(const unsigned char* p, size_t n, MaskDecimal* d) noexcept nogil:
    """As numeric_send writes it: groups of four digits, of which the first has the power `weight` of 10000."""
    cdef int64_t groups, weight, sign, scale, power, at, group, place
    cdef int kept, i
    d.n = 0
    if n < 8:
        return False
    groups = mask_read_be(p, 2)
    weight = mask_read_be(p + 2, 2)
    sign = mask_read_be(p + 4, 2)
    scale = mask_read_be(p + 6, 2)
    # A power of 25 is 104 digits: nothing beyond can be read, and the loop below stays short.
    if groups < 0 or n != 8 + 2 * <size_t>groups or (sign != 0 and sign != 0x4000) or weight > 25:
        return False
    if not 0 <= scale <= MASK_DECIMAL_MAX:
        return False
    d.negative = sign != 0
    d.scale = <int>scale
    power = weight if weight > 0 else 0
    while power >= -((scale + 3) // 4):
        at = weight - power
        group = mask_read_be(p + 8 + 2 * at, 2) if 0 <= at < groups else 0
        if not 0 <= group <= 9999:
            return False
        kept = 4
        if power < 0 and scale - 4 * (-power - 1) < 4:
            kept = <int>(scale - 4 * (-power - 1))
        place = 1000
        for i in range(kept):
            if not mask_decimal_add(d, <unsigned int>(group // place % 10)):
                return False
            place //= 10
        power -= 1
    return True


cdef inline bint mask_read_number(int fmt, const unsigned char* p, size_t n, MaskDecimal* d) noexcept nogil:
    """False for NaN, infinities, exponents and more than 100 digits too."""
    return mask_decimal_binary(p, n, d) if fmt == 1 else mask_decimal_text(p, n, d)


cdef size_t mask_write_number(const MaskDecimal* d, unsigned char* out) noexcept nogil:
    """At most MASK_DECIMAL_ROOM + MASK_DECIMAL_MAX + 3 bytes."""
    cdef size_t at = 0, i, scale = <size_t>d.scale
    if d.negative and d.n:
        out[0] = c'-'
        at = 1
    if d.n <= scale:
        out[at] = c'0'
        at += 1
    for i in range(d.n - scale if d.n > scale else 0):
        out[at] = c'0' + d.digits[i]
        at += 1
    if scale:
        out[at] = c'.'
        at += 1
        for i in range(scale - d.n if d.n < scale else 0):
            out[at] = c'0'
            at += 1
        for i in range(d.n - scale if d.n > scale else 0, d.n):
            out[at] = c'0' + d.digits[i]
            at += 1
    return at


cdef ssize_t mask_put_number(const MaskDecimal* d, int fmt, unsigned char* dst, size_t room) noexcept nogil:
    cdef unsigned char text[MASK_DECIMAL_ROOM + MASK_DECIMAL_MAX + 8]
    cdef unsigned char groups[MASK_DECIMAL_ROOM + 8]
    cdef MaskNumeric number
    cdef size_t size = mask_write_number(d, text)
    if fmt == 0:
        return mask_put(dst, room, text, size)
    if not mask_numeric_text(text, size, groups, &number):
        return MASK_UNFIT
    return mask_put_numeric(&number, groups, dst, room)


cdef bint mask_decimal_floor(MaskDecimal* d, int64_t step, int step_scale) noexcept nogil:
    """To the next multiple of step / 10^step_scale at or below; False when it would get too long."""
    cdef bint more = False                      # something lies beyond the digits that are kept
    cdef int64_t rest = 0
    cdef size_t i
    while d.scale > step_scale:
        if d.n:
            d.n -= 1
            more |= d.digits[d.n] != 0
        d.scale -= 1
    while d.scale < step_scale:
        if not mask_decimal_add(d, 0):
            return False
        d.scale += 1
    for i in range(d.n):                        # step has 15 digits at most: no overflow
        rest = (rest * 10 + d.digits[i]) % step
    more |= rest != 0
    mask_decimal_shift(d, -rest)
    if d.negative and more:
        mask_decimal_shift(d, step)
    return True


cdef void mask_decimal_shift(MaskDecimal* d, int64_t by) noexcept nogil:
    """Add to the digits, which stay at or above zero; |by| < 10^16."""
    cdef int64_t carry = by, sum
    cdef size_t i = d.n, skip = 0
    while i and carry:
        i -= 1
        sum = d.digits[i] + carry
        carry = mask_floor_div(sum, 10)
        d.digits[i] = <uint8_t>(sum - carry * 10)
    while carry > 0:                            # at most 16 more digits, for which there is room
        memmove(d.digits + 1, d.digits, d.n)
        d.digits[0] = <uint8_t>(carry % 10)
        d.n += 1
        carry //= 10
    while skip < d.n and d.digits[skip] == 0:
        skip += 1
    memmove(d.digits, d.digits + skip, d.n - skip)
    d.n -= skip


# ---------------------------------------------------------------- network addresses

cdef struct MaskInet:
    unsigned char bits          # of the prefix
    unsigned char size          # 4 or 16 bytes of address
    unsigned char address[16]   # zeros behind


cdef bint mask_read_inet(int fmt, const unsigned char* p, size_t n, MaskInet* net) noexcept nogil:
    """An inet or cidr."""
    cdef char text[64]
    cdef const unsigned char* slash
    cdef size_t size = n
    cdef int64_t bits = -1
    memset(net, 0, sizeof(MaskInet))
    if fmt == 1:                                # family, bits, whether cidr, size, address
        if n < 4 or (p[0] != 2 and p[0] != 3) or p[3] != (4 if p[0] == 2 else 16) or n != 4 + <size_t>p[3]:
            return False
        net.size = p[3]
        net.bits = p[1]
        memcpy(net.address, p + 4, net.size)
        return net.bits <= 8 * net.size
    if n == 0 or n >= sizeof(text):
        return False
    slash = <const unsigned char*>memchr(p, c'/', n)
    if slash != NULL:
        size = slash - p
        if not mask_read_int(slash + 1, n - size - 1, &bits) or bits < 0:
            return False
    memcpy(text, p, size)
    text[size] = 0
    if mask_inet_pton(AF_INET, text, net.address) == 1:
        net.size = 4
    elif mask_inet_pton(AF_INET6, text, net.address) == 1:
        net.size = 16
    else:
        return False
    if bits > 8 * net.size:
        return False
    net.bits = <unsigned char>(bits if bits >= 0 else 8 * net.size)
    return True


cdef ssize_t mask_put_inet(unsigned int oid, int fmt, const MaskInet* net, unsigned char* dst, size_t room) noexcept nogil:
    """cidr says its prefix always, inet when it is not the whole address."""
    cdef char text[64]
    cdef size_t size
    if fmt == 1:
        if 4 + <size_t>net.size > room:
            return MASK_NO_ROOM
        dst[0] = 2 if net.size == 4 else 3
        dst[1] = net.bits
        dst[2] = oid == OID_CIDR
        dst[3] = net.size
        memcpy(dst + 4, net.address, net.size)
        return 4 + net.size
    if mask_inet_ntop(AF_INET if net.size == 4 else AF_INET6, net.address, text, 48) == NULL:
        return MASK_UNFIT
    size = strlen(text)
    if oid == OID_CIDR or net.bits != 8 * net.size:
        text[size] = c'/'
        size += 1 + mask_write_decimal(<unsigned char*>text + size + 1, net.bits)
    return mask_put(dst, room, text, size)
