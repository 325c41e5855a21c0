# The redaction of each built-in type: a neutral value, the same for all, valid in text and binary. docs/masks.md has the table.

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset


cdef ssize_t mask_redact_bits(
    int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """As many zero bits as there were: the length of bit(n) is the type's, not the value's."""
    cdef uint64_t bits
    if n > room:
        return MASK_NO_ROOM
    if fmt == 0:
        memset(dst, c'0', n)
        return <ssize_t>n
    bits = <uint64_t>mask_read_be(src, 4) if n >= 4 else 0
    if n < 4 or bits > 0x7FFFFFF8 or n != 4 + (bits + 7) // 8:
        return mask_put(dst, room, b"\x00\x00\x00\x01\x00", 5)
    memcpy(dst, src, 4)
    memset(dst + 4, 0, n - 4)
    return <ssize_t>n


cdef ssize_t mask_redact_text(
    unsigned int oid, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if mask_is_text(oid):
        return mask_put(dst, room, b"***", 3)
    elif oid in (20, 21, 23, 26, 700, 701, 1700, 28, 29, 5069, 22, 30, 1562):   # numbers, xids, vectors; varbit
        return mask_put(dst, room, b"0", 1)
    elif oid == 1560:                                               # bit(n) has always n bits
        return mask_redact_bits(0, src, n, dst, room)
    elif oid == 16:
        return mask_put(dst, room, b"f", 1)
    elif oid == 17:
        return mask_put(dst, room, b"\\x", 2)
    elif oid == 18:
        return mask_put(dst, room, b"*", 1)
    elif oid == 790:                                                # money: pgjdbc cuts the first character off
        return mask_put(dst, room, b"00", 2)
    elif oid == 114 or oid == 3802:                                 # json, jsonb
        return mask_put(dst, room, b"{}", 2)
    elif oid == 142:                                                # xml: valid as content and as document
        return mask_put(dst, room, b"<redacted/>", 11)
    elif oid == 1082:
        return mask_put(dst, room, b"1970-01-01", 10) if mask_iso_dated(src, n) else MASK_IS_NULL
    elif oid == 1114:
        return mask_put(dst, room, b"1970-01-01 00:00:00", 19) if mask_iso_dated(src, n) else MASK_IS_NULL
    elif oid == 1184:
        return mask_put(dst, room, b"1970-01-01 00:00:00+00", 22) if mask_iso_dated(src, n) else MASK_IS_NULL
    elif oid == 1083:
        return mask_put(dst, room, b"00:00:00", 8)
    elif oid == 1266:
        return mask_put(dst, room, b"00:00:00+00", 11)
    elif oid == 1186:                                               # in the IntervalStyle that the source shows
        if n and src[0] == c'P':
            return mask_put(dst, room, b"PT0S", 4)
        if n and src[0] == c'@':
            return mask_put(dst, room, b"@ 0", 3)
        return mask_put(dst, room, b"00:00:00", 8)
    elif oid == 2950:
        return mask_put(dst, room, b"00000000-0000-0000-0000-000000000000", 36)
    elif oid == 869:
        return mask_put(dst, room, b"0.0.0.0", 7)
    elif oid == 650:
        return mask_put(dst, room, b"0.0.0.0/32", 10)
    elif oid == 829:
        return mask_put(dst, room, b"00:00:00:00:00:00", 17)
    elif oid == 774:
        return mask_put(dst, room, b"00:00:00:00:00:00:00:00", 23)
    elif oid == 3614:                                               # tsvector
        return 0
    elif oid == 3615:                                               # tsquery: an empty one has no binary form
        return mask_put(dst, room, b"'x'", 3)
    elif oid == 4072:                                               # jsonpath
        return mask_put(dst, room, b"$", 1)
    elif oid == 27:                                                 # tid
        return mask_put(dst, room, b"(0,0)", 5)
    elif oid == 3220:                                               # pg_lsn
        return mask_put(dst, room, b"0/0", 3)
    elif oid == 2970 or oid == 5038:                                # txid_snapshot, pg_snapshot
        return mask_put(dst, room, b"1:1:", 4)
    elif oid in (24, 2202, 2205, 2206, 3734, 3769, 4089, 4096, 4191):   # regproc, regclass and so on
        return mask_put(dst, room, b"-", 1)
    elif oid == 2203 or oid == 2204:                                # regoper, regoperator
        return mask_put(dst, room, b"0", 1)
    elif oid == 600:
        return mask_put(dst, room, b"(0,0)", 5)
    elif oid == 601:
        return mask_put(dst, room, b"[(0,0),(0,0)]", 13)
    elif oid == 602 or oid == 604:                                  # path, polygon
        return mask_put(dst, room, b"((0,0))", 7)
    elif oid == 603:
        return mask_put(dst, room, b"(0,0),(0,0)", 11)
    elif oid == 628:                                                # line: y = 0
        return mask_put(dst, room, b"{0,1,0}", 7)
    elif oid == 718:
        return mask_put(dst, room, b"<(0,0),0>", 9)
    return MASK_IS_NULL


cdef ssize_t mask_redact_binary(
    unsigned int oid, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if mask_is_text(oid):
        return mask_put(dst, room, b"***", 3)
    elif oid in (23, 26, 700, 28, 29, 3614,
                 24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191):
        return mask_put_zeros(dst, room, 4)         # also the number of lexemes of a tsvector
    elif oid in (20, 701, 790, 1083, 1700, 774, 5069, 3220):   # numeric: no digits, weight, sign and scale 0
        return mask_put_zeros(dst, room, 8)
    elif oid == 21:
        return mask_put_zeros(dst, room, 2)
    elif oid == 16:
        return mask_put_zeros(dst, room, 1)
    elif oid == 17:
        return 0
    elif oid == 18:
        return mask_put(dst, room, b"*", 1)
    elif oid == 114:
        return mask_put(dst, room, b"{}", 2)
    elif oid == 3802:                               # jsonb: version 1
        return mask_put(dst, room, b"\x01{}", 3)
    elif oid == 142:
        return mask_put(dst, room, b"<redacted/>", 11)
    elif oid == 1082:                               # days since 2000-01-01
        return mask_put_be(dst, room, <uint64_t><int64_t>(-10957), 4)
    elif oid == 1114 or oid == 1184:                # microseconds since 2000-01-01
        return mask_put_be(dst, room, <uint64_t><int64_t>(-946684800000000LL), 8)
    elif oid == 1266:
        return mask_put_zeros(dst, room, 12)
    elif oid == 1186 or oid == 2950:
        return mask_put_zeros(dst, room, 16)
    elif oid == 869:                                # family IPv4, 32 bits, not cidr, 4 bytes of address
        return mask_put(dst, room, b"\x02\x20\x00\x04\x00\x00\x00\x00", 8)
    elif oid == 650:
        return mask_put(dst, room, b"\x02\x20\x01\x04\x00\x00\x00\x00", 8)
    elif oid == 829:
        return mask_put_zeros(dst, room, 6)
    elif oid == 1560:
        return mask_redact_bits(1, src, n, dst, room)
    elif oid == 1562:                               # one bit
        return mask_put(dst, room, b"\x00\x00\x00\x01\x00", 5)
    elif oid == 3615:                               # tsquery: one item, a value of any weight, not a prefix
        return mask_put(dst, room, b"\0\0\0\1\1\0\0x\0", 9)
    elif oid == 4072:                               # jsonpath: version 1
        return mask_put(dst, room, b"\x01$", 2)
    elif oid == 27:
        return mask_put_zeros(dst, room, 6)
    elif oid == 2970 or oid == 5038:                # no transactions, both ends 1
        return mask_put(dst, room, b"\0\0\0\0" b"\0\0\0\0\0\0\0\1" b"\0\0\0\0\0\0\0\1", 20)
    elif oid == 22:                                 # one dimension, no NULLs, type, length, lower bound; size and value
        return mask_put(dst, room, b"\0\0\0\1" b"\0\0\0\0" b"\0\0\0\x15" b"\0\0\0\1" b"\0\0\0\0" b"\0\0\0\2\0\0", 26)
    elif oid == 30:
        return mask_put(dst, room, b"\0\0\0\1" b"\0\0\0\0" b"\0\0\0\x1a" b"\0\0\0\1" b"\0\0\0\0" b"\0\0\0\4\0\0\0\0", 28)
    elif oid == 600:                                # coordinates, 8 bytes each
        return mask_put_zeros(dst, room, 16)
    elif oid == 601 or oid == 603:
        return mask_put_zeros(dst, room, 32)
    elif oid == 718:
        return mask_put_zeros(dst, room, 24)
    elif oid == 604:                                # number of points
        return mask_put(dst, room, b"\0\0\0\1" b"\0\0\0\0\0\0\0\0" b"\0\0\0\0\0\0\0\0", 20)
    elif oid == 602:                                # closed; number of points
        return mask_put(dst, room, b"\1" b"\0\0\0\1" b"\0\0\0\0\0\0\0\0" b"\0\0\0\0\0\0\0\0", 21)
    elif oid == 628:
        return mask_put(dst, room, b"\0\0\0\0\0\0\0\0" b"\x3f\xf0\0\0\0\0\0\0" b"\0\0\0\0\0\0\0\0", 24)
    return MASK_IS_NULL


cdef inline ssize_t mask_redact(
    unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if fmt == 0:
        return mask_redact_text(oid, src, n, dst, room)
    return mask_redact_binary(oid, src, n, dst, room)
