# Masking of one cell: a value that says nothing, yet is valid for its type in its wire format. docs/masks.md has the table.
#
# No allocation, no Python. Whatever a kind cannot do for a type falls back to that type's redaction, and what has no
# redaction becomes NULL, which every type has. tests/wire/reference_mask.py says the same a second time, slowly.

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct mask_evp_md "EVP_MD":
        pass
    ctypedef struct mask_evp_ctx "EVP_MD_CTX":
        pass
    mask_evp_md* mask_evp_fetch "EVP_MD_fetch"(void* library, const char* name, const char* properties)
    mask_evp_ctx* mask_evp_new "EVP_MD_CTX_new"()
    void mask_evp_free "EVP_MD_CTX_free"(mask_evp_ctx* ctx)
    int mask_evp_init "EVP_DigestInit_ex"(mask_evp_ctx* ctx, const mask_evp_md* md, void* engine)
    int mask_evp_update "EVP_DigestUpdate"(mask_evp_ctx* ctx, const void* p, size_t n)
    int mask_evp_final "EVP_DigestFinal_ex"(mask_evp_ctx* ctx, unsigned char* digest, unsigned int* n)

cdef struct MaskSpec:
    int kind                    # model.MASK_*
    int keep                    # partial: characters kept at the end
    size_t constant_len
    unsigned char* constant     # text format
    unsigned char key[32]

cdef enum:                      # MaskSpec.kind
    MASK_DO_NULL = 0
    MASK_DO_REDACT = 1
    MASK_DO_PARTIAL = 2
    MASK_DO_EMAIL = 3
    MASK_DO_HASH = 4
    MASK_DO_CONSTANT = 5

cdef enum:
    MASK_FIXED_MAX = 128        # no result is longer than source + constant + this
    MASK_NAME_MAX = 63          # bytes of a `name`
    MASK_NUMBER_MAX = 400       # bytes of a numeric constant


cdef inline size_t mask_cell_bound(const MaskSpec* m, ssize_t src_len) noexcept nogil:
    """Room that is enough for any result, and for the working space of hashes."""
    return (<size_t>src_len if src_len > 0 else 0) + m.constant_len + MASK_FIXED_MAX


cdef inline bint mask_is_text(unsigned int oid) noexcept nogil:
    return oid == OID_TEXT or oid == OID_VARCHAR or oid == OID_BPCHAR or oid == OID_NAME or oid == OID_UNKNOWN


# ---------------------------------------------------------------- redact

cdef unsigned int mask_array_element(unsigned int oid) noexcept nogil:
    """The element type of a built-in array type, 0 when it is not one."""
    if oid == 1000: return 16
    elif oid == 1001: return 17
    elif oid == 1002: return 18
    elif oid == 1003: return 19
    elif oid == 1016: return 20
    elif oid == 1005: return 21
    elif oid == 1007: return 23
    elif oid == 1009: return 25
    elif oid == 1028: return 26
    elif oid == 199: return 114
    elif oid == 143: return 142
    elif oid == 1017: return 600
    elif oid == 1018: return 601
    elif oid == 1019: return 602
    elif oid == 1020: return 603
    elif oid == 1027: return 604
    elif oid == 629: return 628
    elif oid == 651: return 650
    elif oid == 1021: return 700
    elif oid == 1022: return 701
    elif oid == 719: return 718
    elif oid == 775: return 774
    elif oid == 791: return 790
    elif oid == 1040: return 829
    elif oid == 1041: return 869
    elif oid == 1014: return 1042
    elif oid == 1015: return 1043
    elif oid == 1182: return 1082
    elif oid == 1183: return 1083
    elif oid == 1115: return 1114
    elif oid == 1185: return 1184
    elif oid == 1187: return 1186
    elif oid == 1270: return 1266
    elif oid == 1561: return 1560
    elif oid == 1563: return 1562
    elif oid == 1231: return 1700
    elif oid == 2951: return 2950
    elif oid == 3643: return 3614
    elif oid == 3807: return 3802
    elif oid == 3905: return 3904
    elif oid == 3907: return 3906
    elif oid == 3909: return 3908
    elif oid == 3911: return 3910
    elif oid == 3913: return 3912
    elif oid == 3927: return 3926
    return 0


cdef ssize_t mask_redact_text(
    unsigned int oid, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if mask_is_text(oid):
        return mask_put(dst, room, b"***", 3)
    elif oid in (20, 21, 23, 26, 700, 701, 1700, 1560, 1562):       # numbers; bit strings
        return mask_put(dst, room, b"0", 1)
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
    elif oid in (3904, 3906, 3908, 3910, 3912, 3926):               # ranges
        return mask_put(dst, room, b"empty", 5)
    elif oid in (4451, 4532, 4533, 4534, 4535, 4536):               # multiranges
        return mask_put(dst, room, b"{}", 2)
    elif mask_array_element(oid):
        return mask_put(dst, room, b"{}", 2)
    return MASK_IS_NULL


cdef ssize_t mask_redact_binary(unsigned int oid, unsigned char* dst, size_t room) noexcept nogil:
    cdef unsigned int element
    if mask_is_text(oid):
        return mask_put(dst, room, b"***", 3)
    elif oid in (23, 26, 700, 3614, 4451, 4532, 4533, 4534, 4535, 4536):    # 4 zero bytes; counts of tsvector, multirange
        return mask_put_zeros(dst, room, 4)
    elif oid in (20, 701, 790, 1083, 1700, 774):    # 8 zero bytes; numeric: no digits, weight, sign and scale 0
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
    elif oid == 1560 or oid == 1562:                # one bit
        return mask_put(dst, room, b"\x00\x00\x00\x01\x00", 5)
    elif oid in (3904, 3906, 3908, 3910, 3912, 3926):
        return mask_put(dst, room, b"\x01", 1)
    element = mask_array_element(oid)
    if element == 0:
        return MASK_IS_NULL
    if room < 12:
        return MASK_NO_ROOM
    memset(dst, 0, 8)                               # no dimensions, no NULLs
    return 8 + mask_put_be(dst + 8, 4, element, 4)


cdef inline ssize_t mask_redact(
    unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    if fmt == 0:
        return mask_redact_text(oid, src, n, dst, room)
    return mask_redact_binary(oid, dst, room)


# ---------------------------------------------------------------- partial, email

cdef ssize_t mask_partial(const MaskSpec* m, const unsigned char* src, size_t n, unsigned char* dst, size_t room) noexcept nogil:
    """Stars, then the last `keep` characters, never more than half of them."""
    cdef size_t i = 0, step, chars = 0, keep, kept_from = n
    while i < n:
        step = mask_utf8_step(src + i, n - i)
        if step == 0:
            return MASK_UNFIT               # half of what, if the characters are unknown
        i += step
        chars += 1
    keep = <size_t>m.keep if m.keep > 0 else 0
    if keep > chars // 2:
        keep = chars // 2
    for i in range(keep):
        kept_from -= 1
        while src[kept_from] & 0xC0 == 0x80:
            kept_from -= 1
    chars -= keep
    if chars + (n - kept_from) > room:
        return MASK_NO_ROOM
    memset(dst, c'*', chars)
    memcpy(dst + chars, src + kept_from, n - kept_from)
    return <ssize_t>(chars + (n - kept_from))


cdef ssize_t mask_email(unsigned int oid, const unsigned char* src, size_t n, unsigned char* dst, size_t room) noexcept nogil:
    """First character, three stars, the domain."""
    cdef size_t i, at = n, first, total
    for i in range(n):
        if src[i] == c'@':
            if at != n:
                return MASK_UNFIT
            at = i
    if at == 0 or at + 1 >= n:
        return MASK_UNFIT
    first = mask_utf8_step(src, at)
    total = first + 3 + (n - at)
    if first == 0 or (oid == OID_NAME and total > MASK_NAME_MAX):
        return MASK_UNFIT
    if total > room:
        return MASK_NO_ROOM
    memcpy(dst, src, first)
    memset(dst + first, c'*', 3)
    memcpy(dst + first + 3, src + at, n - at)
    return <ssize_t>total


# ---------------------------------------------------------------- hash

cdef mask_evp_md* mask_sha256 = mask_evp_fetch(NULL, b"SHA256", NULL)


cdef bint mask_digest_pass(
    mask_evp_ctx* ctx, const MaskSpec* m, unsigned char pad, const unsigned char* p, size_t n, unsigned char* digest
) noexcept nogil:
    cdef unsigned char block[64]
    cdef size_t i
    memset(block, pad, 64)
    for i in range(32):
        block[i] ^= m.key[i]
    return (mask_evp_init(ctx, mask_sha256, NULL) == 1 and mask_evp_update(ctx, block, 64) == 1
            and mask_evp_update(ctx, p, n) == 1 and mask_evp_final(ctx, digest, NULL) == 1)


cdef bint mask_digest(const MaskSpec* m, const unsigned char* p, size_t n, unsigned char* digest) noexcept nogil:
    """HMAC-SHA-256 (RFC 2104) by two plain digests: OpenSSL 3 takes four times as long in HMAC(), for looking itself up."""
    cdef mask_evp_ctx* ctx
    cdef bint done
    if mask_sha256 == NULL:
        return False
    ctx = mask_evp_new()
    if ctx == NULL:
        return False
    done = mask_digest_pass(ctx, m, 0x36, p, n, digest) and mask_digest_pass(ctx, m, 0x5C, digest, 32, digest)
    mask_evp_free(ctx)
    return done


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


cdef ssize_t mask_hash_int(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of the decimal text; 1 .. the type's largest value."""
    cdef unsigned char digest[32]
    cdef unsigned char decimal[20]
    cdef size_t width = mask_int_width(oid)
    cdef uint64_t most = (<uint64_t>1 << (8 * width - 1)) - 1
    cdef int64_t value = 0
    if fmt == 1:
        if n != width:
            return MASK_UNFIT
        value = mask_read_be(src, n)
    elif not mask_read_int(src, n, &value):
        return MASK_UNFIT
    if not mask_digest(m, decimal, mask_write_decimal(decimal, value), digest):
        return MASK_IS_NULL
    return mask_put_int(oid, fmt, <int64_t>(<uint64_t>mask_read_be(digest, 8) % most + 1), dst, room)


cdef ssize_t mask_hash_numeric(
    const MaskSpec* m, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """Digest of sign, weight and groups in normal form; an integer of up to 18 digits."""
    cdef MaskNumeric number
    cdef unsigned char digest[32]
    cdef unsigned char shaped[20]
    cdef unsigned char groups[16]
    cdef size_t size
    if room < n + 16:                       # dst is the working space
        return MASK_NO_ROOM
    if not (mask_numeric_binary(src, n, dst + 4, &number) if fmt == 1 else mask_numeric_text(src, n, dst + 4, &number)):
        return MASK_UNFIT
    mask_put_be(dst, 2, number.sign, 2)
    mask_put_be(dst + 2, 2, <uint64_t>number.weight, 2)
    if not mask_digest(m, dst, 4 + 2 * number.groups, digest):
        return MASK_IS_NULL
    size = mask_write_decimal(shaped, <int64_t>(<uint64_t>mask_read_be(digest, 8) % 999999999999999999ULL + 1))
    if fmt == 0:
        return mask_put(dst, room, shaped, size)
    mask_numeric_text(shaped, size, groups, &number)
    return mask_put_numeric(&number, groups, dst, room)


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
    """Digest of the raw bytes, as 32 bytes."""
    cdef unsigned char digest[32]
    cdef unsigned char text[66]
    cdef ssize_t size
    if fmt == 1:
        return mask_put(dst, room, digest, 32) if mask_digest(m, src, n, digest) else MASK_IS_NULL
    if room < n:                            # dst is the working space
        return MASK_NO_ROOM
    size = mask_read_bytea(src, n, dst)
    if size < 0:
        return MASK_UNFIT
    if not mask_digest(m, dst, <size_t>size, digest):
        return MASK_IS_NULL
    text[0] = c'\\'
    text[1] = c'x'
    return mask_put(dst, room, text, 2 + mask_write_hex(text + 2, digest, 32))


cdef ssize_t mask_hash(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    cdef unsigned char digest[32]
    cdef unsigned char text[32]
    if mask_is_text(oid):
        if not mask_digest(m, src, n, digest):
            return MASK_IS_NULL
        return mask_put(dst, room, text, mask_write_hex(text, digest, 16))
    if oid == OID_INT2 or oid == OID_INT4 or oid == OID_INT8:
        return mask_hash_int(m, oid, fmt, src, n, dst, room)
    if oid == OID_NUMERIC:
        return mask_hash_numeric(m, fmt, src, n, dst, room)
    if oid == OID_UUID:
        return mask_hash_uuid(m, fmt, src, n, dst, room)
    if oid == OID_BYTEA:
        return mask_hash_bytea(m, fmt, src, n, dst, room)
    return MASK_UNFIT


# ---------------------------------------------------------------- constant

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
    cdef float narrow
    cdef uint64_t wide_bits = 0
    cdef uint32_t narrow_bits = 0
    if not mask_read_float(p, n, &value):
        return MASK_IS_NULL
    narrow = <float>value
    if oid == OID_FLOAT4 and not isfinite(narrow):
        return MASK_IS_NULL
    if fmt == 0:
        return mask_put(dst, room, p, n)
    if oid == OID_FLOAT4:
        memcpy(&narrow_bits, &narrow, 4)
        return mask_put_be(dst, room, narrow_bits, 4)
    memcpy(&wide_bits, &value, 8)
    return mask_put_be(dst, room, wide_bits, 8)


cdef ssize_t mask_constant_numeric(const unsigned char* p, size_t n, int fmt, unsigned char* dst, size_t room) noexcept nogil:
    cdef unsigned char groups[208]                  # MASK_NUMBER_MAX / 2 and a group at each end
    cdef MaskNumeric number
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


cdef ssize_t mask_constant(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* src, size_t n, unsigned char* dst, size_t room
) noexcept nogil:
    """The constant in the cell's type and format; NULL when it is no value of that type."""
    cdef const unsigned char* p = m.constant
    cdef size_t size = m.constant_len
    cdef unsigned char raw[16]
    cdef unsigned char text[36]
    cdef int32_t days = 0
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
        return mask_constant_numeric(p, size, fmt, dst, room)
    if oid == OID_BYTEA:
        return mask_constant_bytea(p, size, fmt, dst, room)
    if oid == OID_UUID and mask_read_uuid(p, size, raw):
        return mask_put(dst, room, raw, 16) if fmt == 1 else mask_put(dst, room, text, mask_write_uuid(text, raw))
    if oid == OID_DATE and mask_read_date(p, size, &days):
        if fmt == 1:
            return mask_put_be(dst, room, <uint64_t><int64_t>days, 4)
        return mask_put(dst, room, p, size) if mask_iso_dated(src, n) else MASK_IS_NULL
    return MASK_IS_NULL


# ---------------------------------------------------------------- the cell

cdef ssize_t mask_cell(
    const MaskSpec* m, unsigned int type_oid, int fmt, const unsigned char* src, ssize_t src_len, unsigned char* dst,
    size_t room
) noexcept nogil:
    """Bytes written to dst, or MASK_IS_NULL, or MASK_NO_ROOM. src_len -1 is NULL and stays NULL; src and dst are apart."""
    cdef ssize_t done = MASK_UNFIT
    cdef size_t n
    if src_len < 0 or (fmt != 0 and fmt != 1) or m.kind <= MASK_DO_NULL or m.kind > MASK_DO_CONSTANT:
        return MASK_IS_NULL
    n = <size_t>src_len
    if m.kind == MASK_DO_CONSTANT:
        return mask_constant(m, type_oid, fmt, src, n, dst, room)
    if m.kind != MASK_DO_REDACT:
        if type_oid == OID_BPCHAR:                  # the padding is no part of the value
            while n and src[n - 1] == c' ':
                n -= 1
        if m.kind == MASK_DO_HASH:
            done = mask_hash(m, type_oid, fmt, src, n, dst, room)
        elif mask_is_text(type_oid):
            done = mask_partial(m, src, n, dst, room) if m.kind == MASK_DO_PARTIAL else mask_email(type_oid, src, n, dst, room)
        if done != MASK_UNFIT:
            return done
    return mask_redact(type_oid, fmt, src, n, dst, room)


# ---------------------------------------------------------------- from Python

cdef int mask_fill(MaskSpec* m, int kind, int keep, bytes constant, bytes key) except -1:
    """`constant` is borrowed: it must live as long as the struct."""
    if not MASK_DO_NULL <= kind <= MASK_DO_CONSTANT:
        raise ValueError(f"mask kind {kind} does not exist")
    if kind == MASK_DO_HASH and len(key) != 32:
        raise ValueError("a hash mask needs a key of 32 bytes")
    memset(m, 0, sizeof(MaskSpec))
    m.kind = kind
    m.keep = keep
    m.constant = <unsigned char*>constant
    m.constant_len = <size_t>len(constant)
    if kind == MASK_DO_HASH:
        memcpy(m.key, <const unsigned char*>key, 32)
    return 0


def mask_room(int kind, int keep, bytes constant, bytes key, unsigned int type_oid, int format, bytes value, ssize_t room):
    """For tests: mask_cell with `room` bytes (-1: as many as its bound) and a guard behind them."""
    cdef MaskSpec m
    cdef ssize_t done, size = len(value) if value is not None else -1
    cdef const unsigned char* src = <const unsigned char*>value if value is not None else NULL
    mask_fill(&m, kind, keep, constant, key)
    if room < 0:
        room = <ssize_t>mask_cell_bound(&m, size)
    out = bytearray(b"\xA5" * (room + 64))
    cdef unsigned char* dst = out
    with nogil:
        done = mask_cell(&m, type_oid, format, src, size, dst, <size_t>room)
    if out[room:] != b"\xA5" * 64 or done > room:
        raise SystemError("the mask wrote past its room")
    return done, bytes(out[:done]) if done >= 0 else b""


def mask_value(kind, keep, constant, key, type_oid, format, value):
    """One value as it would be masked (None: NULL). ValueError for a mask that cannot be."""
    done, masked = mask_room(kind, keep, constant, key, type_oid, format, value, -1)
    if done == MASK_NO_ROOM:
        raise SystemError("the bound of a mask is too small")
    return masked if done >= 0 else None
