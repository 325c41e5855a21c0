# Verdicts for texts that differ in their constants only.
#
# Which constants may differ is the analysis' word, given once with a verdict. It is a matter of syntax, so of `normal`
# alone (the text with a mark for every constant): a *shape* remembers it, one byte for each constant. The verdict stands
# under the text in which only those constants are marks and all others are themselves.
# Both are statements in the ordinary cache, of kinds that no frame has.

cdef enum:
    KIND_SHAPE = 0x73           # 's'
    KIND_TEMPLATE_BIT = 0x20    # 'Q' -> 'q', 'P' -> 'p'


cdef inline bint is_template(const Statement* x) noexcept nogil:
    return x.kind == c'q' or x.kind == c'p'


cdef Statement* shape_find(Cache* k, const Context* ctx, const Lexed* lexed) noexcept nogil:
    cdef Statement* shape = cache_find(k, ctx, KIND_SHAPE, lexed.normal, lexed.normal_len, NULL, 0)
    return shape if shape != NULL and shape.label_len == lexed.n_constants else NULL


cdef size_t template_text(uint8_t* w, const uint8_t* text, size_t n, const Lexed* lexed, const uint8_t* free_ones) noexcept nogil:
    """The text with marks for its free constants; never longer than the text."""
    cdef const uint8_t* first = w
    cdef const Constant* constant
    cdef size_t copied = 0
    cdef uint32_t i
    for i in range(lexed.n_constants):
        if not free_ones[i]:
            continue
        constant = &lexed.constants[i]
        memcpy(w, text + copied, constant.at - copied)
        w += constant.at - copied
        w[0] = lexed.normal[constant.mark_at]
        w += 1
        copied = constant.at + constant.n
    memcpy(w, text + copied, n - copied)
    return w + n - copied - first


cdef Statement* template_find(Cache* k, Lexed* lexed, uint8_t* work, const Context* ctx, uint8_t kind, const uint8_t* text,
                              size_t n, const uint8_t* types, size_t types_len) noexcept nogil:
    """The verdict of a text that differs in free constants only (no reference taken), or NULL. `work`: LEX_TEXT_MAX bytes."""
    cdef Statement* shape
    if k.shapes == 0 or lex(text, n, lexed) < 0 or lexed.n_constants == 0:
        return NULL
    shape = shape_find(k, ctx, lexed)
    if shape == NULL:
        return NULL
    return cache_find(k, ctx, kind | KIND_TEMPLATE_BIT, work, template_text(work, text, n, lexed, shape.label), types, types_len)


cdef bint template_add(Cache* k, Lexed* lexed, uint8_t* work, const Statement* x, const uint32_t* free_at, size_t n_free) noexcept nogil:
    """Keep the verdict of x for every text that differs in the constants at these places (ascending); False: not done."""
    cdef Statement* shape
    cdef Statement* t = NULL
    cdef uint8_t* free_ones
    cdef uint32_t i
    cdef size_t j = 0, found = 0
    if n_free == 0 or lex(x.text, x.text_len, lexed) < 0 or lexed.n_constants == 0:
        return False
    shape = statement_new(k, x.ctx, KIND_SHAPE, lexed.normal, lexed.normal_len, NULL, 0)
    free_ones = <uint8_t*>calloc(lexed.n_constants, 1)
    if shape == NULL or free_ones == NULL:
        statement_release(shape)
        free(free_ones)
        return False
    for i in range(lexed.n_constants):
        while j < n_free and free_at[j] < lexed.constants[i].at:
            j += 1
        free_ones[i] = j < n_free and free_at[j] == lexed.constants[i].at
        found += free_ones[i]
    shape.label = free_ones
    shape.label_len = lexed.n_constants
    if found:
        t = statement_new(k, x.ctx, x.kind | KIND_TEMPLATE_BIT, work,
                          template_text(work, x.text, x.text_len, lexed, free_ones), x.types, x.types_len)
    if t != NULL:
        t.label = copy_bytes(x.label, x.label_len)
        t.error = copy_bytes(NULL, 0)
    if t != NULL and t.label != NULL and t.error != NULL:
        t.label_len = x.label_len
        t.action = x.action
        t.flags = x.flags
        t.zero_origin = x.zero_origin
        cache_add(k, shape)
        cache_add(k, t)
        k.shapes = 1
        found = t.cached
    else:
        found = 0
    statement_release(shape)
    statement_release(t)
    return found != 0


cdef Statement* template_apply(Cache* k, const Statement* t, uint8_t kind, const uint8_t* text, size_t n, const uint8_t* types,
                               size_t types_len) noexcept nogil:
    """A statement of its own text with a template's verdict (one reference), or NULL."""
    cdef Statement* x = statement_new(k, t.ctx, kind, text, n, types, types_len)
    if x == NULL:
        return NULL
    x.label = copy_bytes(t.label, t.label_len)
    x.error = copy_bytes(NULL, 0)
    if x.label == NULL or x.error == NULL:
        statement_release(x)
        return NULL
    x.label_len = t.label_len
    x.flags = t.flags
    x.zero_origin = t.zero_origin
    x.action = t.action
    return x
