# Constants in SQL text, by PostgreSQL's lexical rules, so that texts which differ in them can share a verdict.
#
# Everything but plain constants stays byte for byte, so the only way to be wrong is to disagree with the server about
# where a constant begins or ends. What could make that differ (backslashes, E'' and U&'' strings, dollar quotes, numbers
# with exponents, underscores or letters behind them) is not understood here: such a text has no template.
# tests/wire/test_lexer.py compares with libpg_query's scanner.

cdef enum:
    LEX_TEXT_MAX = 65536
    LEX_CONSTANTS_MAX = 4096

cdef enum:                      # what stands for a constant; a text that holds one of these bytes has no template
    MARK_STRING = 1
    MARK_INTEGER = 2            # up to 9 digits: certainly an int4
    MARK_LONG = 3
    MARK_DECIMAL = 4

cdef enum:                      # classes of bytes
    LEX_OTHER                   # operators, punctuation, white space: copied one by one
    LEX_WORD                    # begins an identifier or keyword
    LEX_DIGIT
    LEX_QUOTE
    LEX_DOUBLE_QUOTE
    LEX_DOLLAR
    LEX_DOT
    LEX_DASH
    LEX_SLASH
    LEX_BAD

cdef uint8_t LEX_CLASS[256]
for _byte in range(256):
    LEX_CLASS[_byte] = (
        LEX_BAD if _byte <= MARK_DECIMAL else LEX_DIGIT if chr(_byte) in "0123456789"
        else LEX_WORD if _byte >= 128 or chr(_byte).isalpha() or _byte == c'_' else LEX_OTHER
    )
LEX_CLASS[c"'"] = LEX_QUOTE
LEX_CLASS[c'"'] = LEX_DOUBLE_QUOTE
LEX_CLASS[c'$'] = LEX_DOLLAR
LEX_CLASS[c'.'] = LEX_DOT
LEX_CLASS[c'-'] = LEX_DASH
LEX_CLASS[c'/'] = LEX_SLASH

cdef struct Constant:
    uint32_t at                 # in the text
    uint32_t n
    uint32_t mark_at            # in `normal`

cdef struct Lexed:
    uint32_t n_constants
    size_t normal_len
    Constant constants[4096]
    uint8_t normal[65536]       # the text with a mark for each constant


cdef inline bint lex_goes_on(uint8_t c) noexcept nogil:
    """Whether a byte belongs to the identifier, parameter or number before it."""
    return LEX_CLASS[c] == LEX_WORD or LEX_CLASS[c] == LEX_DIGIT or c == c'$'


cdef size_t lex_quoted(const uint8_t* p, size_t i, size_t n) noexcept nogil:
    """One past the end of the quoted thing that begins at i; 0 when it has none, or holds what is not understood."""
    cdef uint8_t quote = p[i]
    i += 1
    while i < n:
        if p[i] == quote:
            if i + 1 >= n or p[i + 1] != quote:
                return i + 1
            i += 2
        elif LEX_CLASS[p[i]] == LEX_BAD or (quote == c"'" and p[i] == c'\\'):
            return 0
        else:
            i += 1
    return 0


cdef size_t lex_comment(const uint8_t* p, size_t i, size_t n) noexcept nogil:
    """The same for a comment, nested or to the end of the line (which stays outside)."""
    cdef uint32_t depth = 0
    if p[i] == c'-':
        while i < n and p[i] != c'\n' and p[i] != c'\r':
            if LEX_CLASS[p[i]] == LEX_BAD:
                return 0
            i += 1
        return i
    while i < n:
        if p[i] == c'/' and i + 1 < n and p[i + 1] == c'*':
            depth += 1
            i += 2
        elif p[i] == c'*' and i + 1 < n and p[i + 1] == c'/':
            depth -= 1
            i += 2
            if depth == 0:
                return i
        elif LEX_CLASS[p[i]] == LEX_BAD:
            return 0
        else:
            i += 1
    return 0


cdef size_t lex_number(const uint8_t* p, size_t i, size_t n, uint8_t* mark) noexcept nogil:
    """The same for digits, with a fraction or not."""
    cdef size_t first = i
    while i < n and LEX_CLASS[p[i]] == LEX_DIGIT:
        i += 1
    mark[0] = MARK_INTEGER if i - first <= 9 else MARK_LONG if i - first <= 18 else MARK_DECIMAL
    if i + 1 < n and p[i] == c'.' and LEX_CLASS[p[i + 1]] == LEX_DIGIT:
        mark[0] = MARK_DECIMAL
        i += 1
        while i < n and LEX_CLASS[p[i]] == LEX_DIGIT:
            i += 1
    if i < n and (lex_goes_on(p[i]) or p[i] == c'.'):
        return 0
    return i


cdef size_t lex_word(const uint8_t* p, size_t i, size_t n) noexcept nogil:
    """The same for an identifier or keyword, unless it is the prefix of another kind of string."""
    cdef size_t first = i
    while i < n and lex_goes_on(p[i]):
        i += 1
    if i - first == 1 and i < n:
        if p[i] == c"'" and p[first] in (c'e', c'E', c'b', c'B', c'x', c'X', c'n', c'N'):
            return 0
        if p[i] == c'&' and p[first] in (c'u', c'U') and i + 1 < n and p[i + 1] in (c"'", c'"'):
            return 0
    return i


cdef int lex(const uint8_t* p, size_t n, Lexed* out) noexcept nogil:
    """Find the constants of a text; -1 when it is not understood, is too long or has too many."""
    cdef size_t i = 0, copied = 0, w = 0, end
    cdef uint8_t mark = 0
    cdef uint8_t kind
    cdef Constant* constant
    out.n_constants = 0
    if n > LEX_TEXT_MAX:
        return -1
    while i < n:
        kind = LEX_CLASS[p[i]]
        mark = 0
        if kind == LEX_OTHER or (kind == LEX_DOT and (i + 1 >= n or LEX_CLASS[p[i + 1]] != LEX_DIGIT)):
            i += 1
            continue
        if kind == LEX_WORD:
            end = lex_word(p, i, n)
        elif kind == LEX_DIGIT:
            end = lex_number(p, i, n, &mark)
        elif kind == LEX_QUOTE:
            end = lex_quoted(p, i, n)
            mark = MARK_STRING
        elif kind == LEX_DOUBLE_QUOTE:
            end = lex_quoted(p, i, n)
        elif (kind == LEX_DASH or kind == LEX_SLASH):
            if i + 1 >= n or p[i + 1] != (c'-' if kind == LEX_DASH else c'*'):
                i += 1
                continue
            end = lex_comment(p, i, n)
        elif kind == LEX_DOLLAR:
            end = i + 1
            while end < n and LEX_CLASS[p[end]] == LEX_DIGIT:
                end += 1
            if end == i + 1 or (end < n and lex_goes_on(p[end])):
                return -1
        else:
            return -1
        if end == 0:
            return -1
        if mark:
            if out.n_constants == LEX_CONSTANTS_MAX:
                return -1
            memcpy(out.normal + w, p + copied, i - copied)
            w += i - copied
            constant = &out.constants[out.n_constants]
            constant.at = <uint32_t>i
            constant.n = <uint32_t>(end - i)
            constant.mark_at = <uint32_t>w
            out.n_constants += 1
            out.normal[w] = mark
            w += 1
            copied = end
        i = end
    memcpy(out.normal + w, p + copied, n - copied)
    out.normal_len = w + n - copied
    return 0


def lex_constants(bytes text):
    cdef Lexed* found = <Lexed*>malloc(sizeof(Lexed))
    cdef uint32_t i
    if found == NULL:
        raise MemoryError
    try:
        if lex(<const uint8_t*><const char*>text, len(text), found) < 0:
            return None
        return (<char*>found.normal)[:found.normal_len], [
            (found.constants[i].at, found.constants[i].n) for i in range(found.n_constants)]
    finally:
        free(found)
