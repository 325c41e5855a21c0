# json and jsonb: keys, structure and null stay, each string is masked as a text, each number as a numeric, booleans are false.
#
# Bytes that are written are structure, keys, or masked: what the scanner does not know redacts the whole value.

from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy


cdef inline bint mask_json_is_space(unsigned char c) noexcept nogil:
    return c == c' ' or c == c'\n' or c == c'\t' or c == c'\r'


cdef int32_t mask_json_hex4(const unsigned char* p, size_t n) noexcept nogil:
    cdef int32_t v = 0
    cdef int digit
    cdef size_t i
    if n < 4:
        return -1
    for i in range(4):
        digit = mask_hex_digit(p[i])
        if digit < 0:
            return -1
        v = v << 4 | digit
    return v


cdef ssize_t mask_json_escape_of(const unsigned char* p, size_t n, int32_t* code) noexcept nogil:
    """The character of an escape, p behind the backslash: bytes read, MASK_UNFIT for what no text can hold."""
    cdef int32_t low
    cdef unsigned char c = p[0]
    code[0] = (c'\n' if c == c'n' else c'\t' if c == c't' else c'\r' if c == c'r' else c'\b' if c == c'b'
               else c'\f' if c == c'f' else c)
    if c != c'u':
        return 1 if code[0] != c or c == c'"' or c == c'\\' or c == c'/' else MASK_UNFIT
    code[0] = mask_json_hex4(p + 1, n - 1)
    if code[0] <= 0 or 0xDC00 <= code[0] <= 0xDFFF:
        return MASK_UNFIT
    if code[0] < 0xD800 or code[0] > 0xDBFF:
        return 5
    low = mask_json_hex4(p + 7, n - 7) if n >= 11 and p[5] == c'\\' and p[6] == c'u' else -1
    if low < 0xDC00 or low > 0xDFFF:
        return MASK_UNFIT
    code[0] = 0x10000 + ((code[0] - 0xD800) << 10) + low - 0xDC00
    return 11


cdef size_t mask_json_utf8(int32_t code, unsigned char* to) noexcept nogil:
    if code < 0x80:
        to[0] = <unsigned char>code
        return 1
    if code < 0x800:
        to[0] = <unsigned char>(0xC0 | code >> 6)
        to[1] = <unsigned char>(0x80 | code & 63)
        return 2
    if code < 0x10000:
        to[0] = <unsigned char>(0xE0 | code >> 12)
        to[1] = <unsigned char>(0x80 | code >> 6 & 63)
        to[2] = <unsigned char>(0x80 | code & 63)
        return 3
    to[0] = <unsigned char>(0xF0 | code >> 18)
    to[1] = <unsigned char>(0x80 | code >> 12 & 63)
    to[2] = <unsigned char>(0x80 | code >> 6 & 63)
    to[3] = <unsigned char>(0x80 | code & 63)
    return 4


cdef ssize_t mask_json_unescape(const unsigned char* p, size_t n, unsigned char* to) noexcept nogil:
    """What the bytes between quotes mean; never longer than they are."""
    cdef size_t i = 0, at = 0
    cdef ssize_t used
    cdef int32_t code = 0
    while i < n:
        if p[i] != c'\\':
            to[at] = p[i]
            at += 1
            i += 1
            continue
        used = mask_json_escape_of(p + i + 1, n - i - 1, &code) if i + 1 < n else MASK_UNFIT
        if used < 0:
            return used
        at += mask_json_utf8(code, to + at)
        i += 1 + <size_t>used
    return <ssize_t>at


cdef inline unsigned char mask_json_short(unsigned char c) noexcept nogil:
    """What stands behind the backslash for `c`: a letter, `u` for four digits, 0 when `c` stands for itself."""
    if c == c'"' or c == c'\\':
        return c
    if c >= 0x20:
        return 0
    return (c'n' if c == c'\n' else c't' if c == c'\t' else c'r' if c == c'\r' else c'b' if c == c'\b'
            else c'f' if c == c'\f' else c'u')


cdef ssize_t mask_json_quote(MaskOut* o, size_t n) noexcept nogil:
    """Make a string of the n bytes at o.at where they lie, and take it in."""
    cdef unsigned char* p = o.dst + o.at
    cdef unsigned char c, short
    cdef size_t i, more = 2
    for i in range(n):
        short = mask_json_short(p[i])
        more += 5 if short == c'u' else 1 if short else 0
    if n + more > o.room - o.at:
        return MASK_NO_ROOM
    o.at += n + more
    p[n + more - 1] = c'"'
    more -= 1
    i = n
    while i:                                    # backwards: what is read has not been written yet
        i -= 1
        c = p[i]
        short = mask_json_short(c)
        if short == c'u':
            more -= 5
            memcpy(p + i + more, b"\\u00", 4)
            p[i + more + 4] = MASK_HEX[c >> 4]
            p[i + more + 5] = MASK_HEX[c & 15]
        elif short:
            p[i + more] = short
            more -= 1
            p[i + more] = c'\\'
        else:
            p[i + more] = c
    p[0] = c'"'
    return 0


cdef ssize_t mask_json_string(const MaskSpec* m, const unsigned char* p, size_t n, MaskOut* o) noexcept nogil:
    """A string value, the n bytes between its quotes."""
    cdef size_t room
    cdef ssize_t size
    if n > o.room - o.at:
        return MASK_NO_ROOM
    room = o.room - n
    size = mask_json_unescape(p, n, o.dst + room)
    if size == MASK_UNFIT:
        size = mask_redact(OID_TEXT, 0, p, n, o.dst + o.at, room - o.at)
    else:
        size = mask_scalar(m, OID_TEXT, -1, 0, o.dst + room, <size_t>size, o.dst + o.at, room - o.at)
    if size == MASK_IS_NULL:
        return 0 if mask_out(o, b"null", 4) else MASK_NO_ROOM
    return mask_json_quote(o, <size_t>size) if size >= 0 else size


cdef ssize_t mask_json_number(const MaskSpec* m, const unsigned char* p, size_t n, MaskOut* o) noexcept nogil:
    cdef ssize_t size = mask_scalar(m, OID_NUMERIC, -1, 0, p, n, o.dst + o.at, o.room - o.at)
    if size == MASK_IS_NULL:
        return 0 if mask_out(o, b"null", 4) else MASK_NO_ROOM
    if size >= 0:
        o.at += <size_t>size
    return size


cdef inline bint mask_json_word(const unsigned char* p, size_t n, const char* word, size_t size) noexcept nogil:
    return n >= size and memcmp(p, word, size) == 0


cdef ssize_t mask_json(
    const MaskSpec* m, unsigned int oid, int fmt, const unsigned char* p, size_t n, MaskOut* o
) noexcept nogil:
    cdef size_t i = 0, start, after
    cdef ssize_t done
    cdef unsigned char c
    if fmt == 1 and oid == OID_JSONB:           # a version before the text
        if n == 0 or p[0] != 1:
            return MASK_UNFIT
        if not mask_out(o, p, 1):
            return MASK_NO_ROOM
        i = 1
    if m.kind == MASK_DO_CONSTANT:
        if not mask_out(o, m.constant, m.constant_len):
            return MASK_NO_ROOM
        o.at -= m.constant_len
        return mask_json_quote(o, m.constant_len)
    while i < n:
        c = p[i]
        start = i
        done = 0
        if c == c'"':
            done = mask_quoted_end(QUOTE_ARRAY, p + i, n - i)
            if done < 0:
                return done
            i += <size_t>done
            after = i
            while after < n and mask_json_is_space(p[after]):
                after += 1
            if after < n and p[after] == c':':
                done = 0 if mask_out(o, p + start, i - start) else MASK_NO_ROOM
            else:
                done = mask_json_string(m, p + start + 1, i - start - 2, o)
        elif c == c'-' or mask_is_digit(c):
            while i < n and (mask_is_digit(p[i]) or p[i] == c'-' or p[i] == c'+' or p[i] == c'.' or p[i] | 32 == c'e'):
                i += 1
            done = mask_json_number(m, p + start, i - start, o)
        elif c == c't' or c == c'f':
            i += 4 if c == c't' else 5
            if not mask_json_word(p + start, n - start, b"true" if c == c't' else b"false", i - start):
                return MASK_UNFIT
            done = 0 if mask_out(o, b"false", 5) else MASK_NO_ROOM
        elif c == c'n':
            i += 4
            if not mask_json_word(p + start, n - start, b"null", 4):
                return MASK_UNFIT
            done = 0 if mask_out(o, b"null", 4) else MASK_NO_ROOM
        elif mask_json_is_space(c) or c == c'{' or c == c'}' or c == c'[' or c == c']' or c == c':' or c == c',':
            i += 1
            done = 0 if mask_out(o, &c, 1) else MASK_NO_ROOM
        else:
            return MASK_UNFIT
        if done < 0:
            return done
    return 0
