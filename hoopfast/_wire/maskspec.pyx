# How one column is hidden: the kind with its numbers and keys, made once when a context is defined.

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef struct MaskSpec:
    int kind                    # model.MASK_*
    int keep                    # partial: characters; redact: 1 keeps the parts; bucket: the unit; token: the version; ff1: the
                                # alphabet
    size_t constant_len
    unsigned char* constant     # text format
    int64_t step                # bucket: the size is step / 10^step_scale
    int step_scale
    MaskKeys keys
    const MaskTypes* types      # borrowed from the context; NULL: built-in types only

cdef enum:                      # MaskSpec.kind
    MASK_DO_NULL = 0
    MASK_DO_REDACT = 1
    MASK_DO_PARTIAL = 2
    MASK_DO_EMAIL = 3
    MASK_DO_HASH = 4
    MASK_DO_CONSTANT = 5
    MASK_DO_BUCKET = 6
    MASK_DO_TOKEN = 7
    MASK_DO_FF1 = 8
    MASK_KINDS = 9

cdef enum:
    MASK_FIXED_MAX = 128        # no scalar's result is longer than source + constant + this
    MASK_NAME_MAX = 63          # bytes of a `name`
    MASK_NUMBER_MAX = 400       # bytes of a numeric constant
    MASK_STEP_DIGITS_MAX = 15
    MASK_DEPTH_MAX = 6          # values within values; what lies deeper is NULL


cdef inline bint mask_kind_keyed(int kind) noexcept nogil:
    return kind == MASK_DO_HASH or kind == MASK_DO_TOKEN or kind == MASK_DO_FF1


cdef bint mask_spec_step(MaskSpec* m, const unsigned char* p, size_t n) noexcept nogil:
    """The size of a bucket: a decimal number above zero, of up to 15 digits."""
    cdef size_t i, digits = 0
    cdef bint point = False
    for i in range(n):
        if p[i] == c'.' and not point:
            point = True
            continue
        digits += 1
        if not mask_is_digit(p[i]) or digits > MASK_STEP_DIGITS_MAX:
            return False
        m.step = m.step * 10 + p[i] - c'0'
        m.step_scale += point
    while m.step_scale and m.step % 10 == 0:
        m.step //= 10
        m.step_scale -= 1
    return m.step > 0


cdef void mask_spec_clear(MaskSpec* m) noexcept nogil:
    free(m.constant)
    mask_keys_free(&m.keys)
    memset(m, 0, sizeof(MaskSpec))


cdef bint mask_spec_set(
    MaskSpec* m, int kind, int keep, const unsigned char* constant, size_t constant_len, const unsigned char* key,
    size_t key_len
) noexcept nogil:
    """Fill a zeroed struct with copies; True, or False (and the struct clear again) for a mask that cannot be."""
    cdef bint good = 0 <= kind < MASK_KINDS and (not mask_kind_keyed(kind) or key_len == MASK_KEY_BYTES)
    if good:
        m.kind = kind
        m.keep = keep
        m.constant = <unsigned char*>malloc(constant_len if constant_len else 1)
        good = m.constant != NULL
    if good:
        if constant_len:
            memcpy(m.constant, constant, constant_len)
        m.constant_len = constant_len
        if kind == MASK_DO_HASH:
            good = mask_keys_hmac(&m.keys, key)
        elif kind == MASK_DO_TOKEN:
            memcpy(m.keys.sip, key, 16)
        elif kind == MASK_DO_FF1:
            good = mask_keys_aes(&m.keys, key, MASK_KEY_BYTES)
        elif kind == MASK_DO_BUCKET and (keep == UNIT_NUMBER or keep == UNIT_PREFIX):
            good = mask_spec_step(m, constant, constant_len)
    if not good:
        mask_spec_clear(m)
    return good


cdef inline size_t mask_cell_bound(const MaskSpec* m, ssize_t src_len) noexcept nogil:
    """Room that is enough for a scalar's result, and for the working space of hashes. Values with parts may need more."""
    return (<size_t>src_len if src_len > 0 else 0) + m.constant_len + MASK_FIXED_MAX


cdef inline size_t mask_parts_bound(const MaskSpec* m, size_t n) noexcept nogil:
    """Room that is enough for any result: each two bytes an element, quoted once more in each value around it."""
    return (n // 2 + 1) * (MASK_FIXED_MAX + 4 + (m.constant_len << MASK_DEPTH_MAX)) + (MASK_DEPTH_MAX + 2) * n + MASK_FIXED_MAX


# ---------------------------------------------------------------- where a value with parts is being written

cdef struct MaskOut:            # where a value is being written
    unsigned char* dst
    size_t room
    size_t at


cdef inline bint mask_out(MaskOut* o, const void* p, size_t n) noexcept nogil:
    if n > o.room - o.at:
        return False
    memcpy(o.dst + o.at, p, n)
    o.at += n
    return True
