# JSON of the audit trail (docs/audit.md, schema 1): texts, numbers, times, parameters and result frames.
# Works on C memory alone. False means "not understood": Python's audit/typed.py then does the same with more care, so
# everything here may be strict; short memory is reported in the same way.

cdef enum:
    CLOCK_TEXT = 20             # "2026-01-31T12:00:00."

cdef struct Moment:             # text of a second, kept because neighbours share it
    int64_t second
    uint8_t text[CLOCK_TEXT]

cdef struct Shape:              # a RowDescription and what it says, kept because a statement has the same every time
    uint8_t* frame
    size_t frame_len
    uint8_t* json
    size_t json_len
    uint32_t* oids
    int16_t* formats
    size_t n
    bint binary                 # any format is not text

cdef struct BindParts:
    size_t name_at
    size_t name_len
    size_t formats_at           # of the results: n_formats big-endian int16
    size_t n_formats
    size_t given_at             # formats of the parameters
    size_t n_given
    size_t values_at
    size_t n_values
    bint binary                 # any of them is

cdef extern from *:
    """
    /* Whether none of 8 bytes needs a closer look in a JSON string: no controls, quotes, backslashes, non-ASCII. */
    static inline int hf_json_plain(const void *p) {
        const uint64_t ones = 0x0101010101010101ULL, high = 0x8080808080808080ULL;
        uint64_t w, q, s;
        memcpy(&w, p, 8);
        q = w ^ (ones * '"');
        s = w ^ (ones * '\\\\');
        return !((w | ((w - ones * 0x20) & ~w) | ((q - ones) & ~q) | ((s - ones) & ~s)) & high);
    }
    """
    int hf_json_plain(const void* p) nogil


cdef size_t utf8_step(const uint8_t* p, size_t n) noexcept nogil:
    """Length of the character that begins with a byte over 0x7f; 0: this is not UTF-8 as Python reads it."""
    cdef uint8_t c = p[0], low = 0x80, top = 0xbf
    cdef size_t k = 2 if c < 0xe0 else 3 if c < 0xf0 else 4
    cdef size_t i
    if c < 0xc2 or c > 0xf4 or k > n:
        return 0
    if c == 0xe0:
        low = 0xa0
    elif c == 0xed:
        top = 0x9f
    elif c == 0xf0:
        low = 0x90
    elif c == 0xf4:
        top = 0x8f
    if p[1] < low or p[1] > top:
        return 0
    for i in range(2, k):
        if p[i] & 0xc0 != 0x80:
            return 0
    return k


cdef bint json_text(Buffer* b, const uint8_t* p, size_t n) noexcept nogil:
    """The inside of a JSON string."""
    cdef size_t at = 0, run = 0, step, k
    cdef uint8_t c
    cdef uint8_t escape[6]
    while at < n:
        while at + 8 <= n and hf_json_plain(p + at):
            at += 8
        if at >= n:
            break
        c = p[at]
        if c >= 0x80:
            step = utf8_step(p + at, n - at)
            if step == 0:
                return False
            at += step
            continue
        if c >= 0x20 and c != c'"' and c != c'\\':
            at += 1
            continue
        escape[0] = c'\\'
        k = 2
        if c == c'"' or c == c'\\':
            escape[1] = c
        elif c == c'\n':
            escape[1] = c'n'
        elif c == c'\r':
            escape[1] = c'r'
        elif c == c'\t':
            escape[1] = c't'
        elif c == 8:
            escape[1] = c'b'
        elif c == 12:
            escape[1] = c'f'
        else:
            memcpy(escape + 1, b"u00", 3)
            escape[4] = c'0' + (c >> 4)
            escape[5] = <uint8_t>(c'0' + (c & 15) if (c & 15) < 10 else c'a' + (c & 15) - 10)
            k = 6
        if buffer_put(b, p + run, at - run) < 0 or buffer_put(b, escape, k) < 0:
            return False
        at += 1
        run = at
    return buffer_put(b, p + run, n - run) == 0


cdef bint json_string(Buffer* b, const uint8_t* p, size_t n) noexcept nogil:
    return buffer_put(b, b'"', 1) == 0 and json_text(b, p, n) and buffer_put(b, b'"', 1) == 0


cdef size_t write_number(uint8_t* out, uint64_t v) noexcept nogil:
    """Decimal digits, at most 20."""
    cdef uint8_t digits[20]
    cdef size_t k = 20
    while True:
        k -= 1
        digits[k] = <uint8_t>(c'0' + v % 10)
        v //= 10
        if v == 0:
            break
    memcpy(out, digits + k, 20 - k)
    return 20 - k


cdef bint json_integer(Buffer* b, int64_t v) noexcept nogil:
    """As PostgreSQL's text form, in quotes."""
    cdef uint8_t text[24]
    cdef size_t k = 1
    text[0] = c'"'
    if v < 0:
        text[1] = c'-'
        k = 2
    k += write_number(text + k, (<uint64_t>0) - <uint64_t>v if v < 0 else <uint64_t>v)
    text[k] = c'"'
    return buffer_put(b, text, k + 1) == 0


cdef void write_padded(uint8_t* out, uint64_t v, int width) noexcept nogil:
    while width:
        width -= 1
        out[width] = <uint8_t>(c'0' + v % 10)
        v //= 10


cdef void write_utc(Moment* m, uint8_t* out, int64_t ns) noexcept nogil:
    """30 bytes: 2026-01-31T12:00:00.123456789Z, as events.utc."""
    cdef int64_t second = ns // 1000000000
    cdef int64_t days, rest, era, of_era, year, of_year, month
    if ns % 1000000000 < 0:
        second -= 1
    if second != m.second or m.text[0] == 0:
        m.second = second
        days = second // 86400
        if second % 86400 < 0:
            days -= 1
        rest = second - days * 86400
        days += 719468
        era = days // 146097
        of_era = days - era * 146097
        year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
        of_year = of_era - (365 * year + year // 4 - year // 100)
        month = (5 * of_year + 2) // 153
        write_padded(m.text + 8, of_year - (153 * month + 2) // 5 + 1, 2)
        month = month + 3 if month < 10 else month - 9
        write_padded(m.text, year + era * 400 + (month <= 2), 4)
        write_padded(m.text + 5, month, 2)
        write_padded(m.text + 11, rest // 3600, 2)
        write_padded(m.text + 14, rest // 60 % 60, 2)
        write_padded(m.text + 17, rest % 60, 2)
        m.text[4] = m.text[7] = c'-'
        m.text[10] = c'T'
        m.text[13] = m.text[16] = c':'
        m.text[19] = c'.'
    memcpy(out, m.text, CLOCK_TEXT)
    write_padded(out + CLOCK_TEXT, ns - second * 1000000000, 9)
    out[29] = c'Z'


# ---------------------------------------------------------------- values

cdef bint json_value(Buffer* b, uint32_t oid, int how, const uint8_t* p, size_t n) noexcept nogil:
    """One value in PostgreSQL's text form, in quotes."""
    cdef uint64_t v = 0
    cdef size_t i
    if how == 0 or oid == 25 or oid == 1043 or oid == 1042 or oid == 19 or oid == 18 or oid == 114 or oid == 705:
        return json_string(b, p, n)
    if n > 8:
        return False
    for i in range(n):
        v = v << 8 | p[i]
    if oid == 23 and n == 4:
        return json_integer(b, <int32_t>v)
    if oid == 20 and n == 8:
        return json_integer(b, <int64_t>v)
    if oid == 21 and n == 2:
        return json_integer(b, <int16_t>v)
    if (oid == 26 or oid == 2205) and n == 4:
        return json_integer(b, <int64_t>v)
    if oid == 16 and n == 1 and v <= 1:
        return buffer_put(b, b'"t"' if v else b'"f"', 3) == 0
    return False


cdef bint skip_formats(const uint8_t* p, size_t n, size_t* at, size_t* count) noexcept nogil:
    if at[0] + 2 > n:
        return False
    count[0] = hf_be16(p + at[0])
    at[0] += 2 + 2 * count[0]
    return at[0] <= n


cdef bint json_bind(Buffer* b, BindParts* parts, const uint8_t* p, size_t n, const uint8_t* types,
                    size_t n_types) noexcept nogil:
    """The parameters of a Bind body as a JSON list. `types`: type OIDs as in the Parse message."""
    cdef const uint8_t* nul = <const uint8_t*>memchr(p, 0, n)
    cdef size_t at, formats, count, n_formats = 0, n_values, i
    cdef uint32_t length
    cdef int how
    if nul == NULL:
        return False
    parts.name_at = nul - p + 1
    nul = <const uint8_t*>memchr(nul + 1, 0, n - parts.name_at)
    if nul == NULL:
        return False
    parts.name_len = nul - p - parts.name_at
    at = formats = nul - p + 1
    if not skip_formats(p, n, &at, &n_formats) or at + 2 > n:
        return False
    formats += 2
    n_values = hf_be16(p + at)
    at += 2
    parts.given_at = formats
    parts.n_given = n_formats
    parts.values_at = at
    parts.n_values = n_values
    parts.binary = False
    if buffer_put(b, b"[", 1) < 0:
        return False
    for i in range(n_values):
        if at + 4 > n or (i and buffer_put(b, b",", 1) < 0):
            return False
        length = hf_be32(p + at)
        at += 4
        if length >> 31:
            if buffer_put(b, b"null", 4) < 0:
                return False
            continue
        if length > n - at:
            return False
        how = 0
        if n_formats == 1:
            how = hf_be16(p + formats)
        elif i < n_formats:
            how = hf_be16(p + formats + 2 * i)
        if how:
            parts.binary = True
        if not json_value(b, hf_be32(types + 4 * i) if i < n_types else 0, how, p + at, length):
            return False
        at += length
    parts.formats_at = at + 2
    return skip_formats(p, n, &at, &parts.n_formats) and buffer_put(b, b"]", 1) == 0


cdef bint json_binary(Buffer* b, const BindParts* parts, const uint8_t* p) noexcept nogil:
    """The values that came in binary format, as hex, null for others. `parts` as a successful json_bind has left them."""
    cdef const char* digits = "0123456789abcdef"
    cdef size_t at = parts.values_at, i, k
    cdef uint32_t length
    cdef uint8_t* w
    cdef int how
    if buffer_put(b, b"[", 1) < 0:
        return False
    for i in range(parts.n_values):
        length = hf_be32(p + at)
        at += 4
        how = 0
        if parts.n_given == 1:
            how = hf_be16(p + parts.given_at)
        elif i < parts.n_given:
            how = hf_be16(p + parts.given_at + 2 * i)
        if i and buffer_put(b, b",", 1) < 0:
            return False
        if length >> 31 or not how:
            if buffer_put(b, b"null", 4) < 0:
                return False
        else:
            if buffer_reserve(b, 2 * <size_t>length + 2) < 0:
                return False
            w = b.data + b.end
            w[0] = c'"'
            for k in range(length):
                w[1 + 2 * k] = <uint8_t>digits[p[at + k] >> 4]
                w[2 + 2 * k] = <uint8_t>digits[p[at + k] & 15]
            w[1 + 2 * <size_t>length] = c'"'
            b.end += 2 * <size_t>length + 2
        if not length >> 31:
            at += length
    return buffer_put(b, b"]", 1) == 0


cdef bytes json_formats(bytes formats):
    """Format codes of results as a member of a JSON object; nothing when all are text, which is what no codes mean."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(formats)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(formats) // 2, i
    for i in range(n):
        if hf_be16(p + 2 * i):
            break
    else:
        return EMPTY
    return b',"result_formats":[%b]' % b",".join([b"%d" % hf_be16(p + 2 * i) for i in range(n)])


# ---------------------------------------------------------------- results

cdef void shape_free(Shape* s) noexcept nogil:
    free(s.frame)
    free(s.json)
    free(s.oids)
    free(s.formats)
    memset(s, 0, sizeof(Shape))


cdef bint shape_read(Shape* s, Buffer* b, const uint8_t* p, size_t n) noexcept nogil:
    """Take in a RowDescription frame of n bytes; `b` is for scratch: what is put there is taken away again."""
    cdef size_t at = 7, i, mark = b.end - b.start, count
    cdef const uint8_t* nul
    cdef uint8_t number[20]
    cdef bint good
    if s.frame != NULL and s.frame_len == n and memcmp(s.frame, p, n) == 0:
        return True
    shape_free(s)
    count = hf_be16(p + 5) if n >= 7 else 0x8000
    if count >= 0x8000 or count * 19 > n - 7:
        return False
    s.oids = <uint32_t*>malloc(count * 4 + 4)
    s.formats = <int16_t*>malloc(count * 2 + 2)
    if s.oids == NULL or s.formats == NULL:
        return False
    for i in range(count):
        nul = <const uint8_t*>memchr(p + at, 0, n - at)
        if nul == NULL or <size_t>(p + n - nul) < 19:
            return False
        good = buffer_put(b, b',{"name":' if i else b'{"name":', 9 if i else 8) == 0
        good = good and json_string(b, p + at, nul - p - at) and buffer_put(b, b',"oid":', 7) == 0
        s.oids[i] = hf_be32(nul + 7)
        s.formats[i] = <int16_t>hf_be16(nul + 17)
        if s.formats[i]:
            s.binary = True
        if not good or buffer_put(b, number, write_number(number, s.oids[i])) < 0 or buffer_put(b, b"}", 1) < 0:
            return False
        at = nul - p + 19
    s.json_len = b.end - b.start - mark
    s.json = copy_bytes(b.data + b.start + mark, s.json_len)
    s.frame = copy_bytes(p, n)
    s.frame_len = n
    s.n = count
    b.end -= s.json_len
    return s.json != NULL and s.frame != NULL


cdef bint json_row(Buffer* b, const uint8_t* p, size_t n, const Shape* s, const uint8_t* formats, size_t n_formats,
                   bint binary) noexcept nogil:
    """A DataRow's body. Formats are those of the row description `s`, or without one the `formats` of the Bind."""
    cdef size_t at = 2, i, count
    cdef uint32_t length
    cdef int how
    if n < 2 or buffer_put(b, b"[", 1) < 0:
        return False
    count = hf_be16(p)
    for i in range(count):
        if at + 4 > n or (i and buffer_put(b, b",", 1) < 0):
            return False
        length = hf_be32(p + at)
        at += 4
        if length >> 31:
            if buffer_put(b, b"null", 4) < 0:
                return False
            continue
        if length > n - at:
            return False
        how = 0
        if binary:
            if s != NULL:
                how = s.formats[0] if s.n == 1 else s.formats[i] if i < s.n else 0
            else:
                how = hf_be16(formats) if n_formats == 1 else hf_be16(formats + 2 * i) if i < n_formats else 0
        if not json_value(b, s.oids[i] if s != NULL and i < s.n else 0, how, p + at, length):
            return False
        at += length
    return buffer_put(b, b"]", 1) == 0


cdef bint json_result_end(Buffer* b, bint truncated) noexcept nogil:
    if buffer_put(b, b'],"copy":"","truncated":', 24) < 0:
        return False
    return buffer_put(b, b"true}" if truncated else b"false}", 5 if truncated else 6) == 0


cdef bint json_result_start(Buffer* b, bint another, const uint8_t* columns, size_t n) noexcept nogil:
    if buffer_put(b, b',{"columns":[' if another else b'{"columns":[', 13 if another else 12) < 0:
        return False
    return buffer_put(b, columns, n) == 0 and buffer_put(b, b'],"rows":[', 10) == 0


cdef bint json_results(Buffer* b, Shape* shape, const uint8_t* p, size_t n, const uint8_t* formats,
                       size_t n_formats, uint64_t sent) noexcept nogil:
    """Captured frames as the JSON list of results; see typed.decode_results."""
    cdef size_t at = 0, stop, rows = 0, i, done = 0, data = 0
    cdef uint32_t length
    cdef bint opened = False, described = False, binary = False
    for i in range(n_formats):
        binary = binary or hf_be16(formats + 2 * i) != 0
    if buffer_put(b, b"[", 1) < 0:
        return False
    while at + 5 <= n:
        length = hf_be32(p + at + 1)
        if length < 4 or length > n - at - 1:
            break
        stop = at + 1 + length
        if p[at] == c'D':
            data += stop - at
            if not opened:
                if not json_result_start(b, done > 0, NULL, 0):
                    return False
                opened = True
                rows = 0
            if rows and buffer_put(b, b",", 1) < 0:
                return False
            rows += 1
            if not json_row(b, p + at + 5, stop - at - 5, shape if described else NULL, formats, n_formats,
                            shape.binary if described else binary):
                return False
        elif p[at] == c'T':
            if opened:
                if not json_result_end(b, False):
                    return False
                opened = False
                done += 1
            if not shape_read(shape, b, p + at, stop - at):
                shape_free(shape)
                return False
            described = True
            if shape.n:
                if not json_result_start(b, done > 0, shape.json, shape.json_len):
                    return False
                opened = True
                rows = 0
        elif p[at] == c'd':
            return False
        elif p[at] == c'V':
            data += stop - at
        at = stop
    # What was not kept may end between two frames.
    if not opened and (at < n or data < sent):
        if not json_result_start(b, done > 0, NULL, 0):
            return False
        opened = True
    if opened and not json_result_end(b, at < n or data < sent):
        return False
    return buffer_put(b, b"]", 1) == 0
