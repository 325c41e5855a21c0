# Contexts, statements with their verdicts, the verdict cache, row plans. All owned by the relay thread, counted by hand.

cdef uint64_t HELD_STATEMENTS = 0   # alive in this process
cdef uint64_t HELD_PLANS = 0

cdef struct Context:
    uint64_t id
    uint32_t refs               # sessions and statements in it; 0 and dropped: freed
    bint dropped
    MaskSpec* masks
    MaskTypes* types            # of this database, or NULL; the masks point to it
    uint32_t n_masks
    uint64_t* columns           # open addressing: (table oid << 16 | attnum) + 1, 0 empty
    int32_t* column_masks       # mask index for each slot; WHOLE_ROW for attnum 0
    uint32_t column_room        # power of two, 0 when nothing is masked
    uint64_t* aliases           # open addressing: a masking view's column, as in `columns`, 0 empty
    uint64_t* alias_of          # the table's column that it stands for: table oid << 16 | attnum
    uint32_t alias_room         # power of two, 0 when statements are not rewritten
    Context* next

cdef enum:
    WHOLE_ROW = -2              # a whole-row value of a masked table: no mask fits, the statement is contradicted

cdef struct Statement:
    uint64_t id                 # unique in this process
    uint64_t hash
    Context* ctx                # counted
    uint32_t refs
    uint8_t kind                # b"Q", b"P" or b"F"; see template.pyx for the others
    uint8_t action
    uint16_t flags
    int32_t zero_origin
    uint64_t defined_in         # number of the last journal segment that holds its definition
    uint8_t* text
    size_t text_len
    uint8_t* types
    size_t types_len
    uint8_t* label
    size_t label_len
    int64_t limit_ns            # how long it may run; 0: no limit
    uint8_t* error              # ErrorResponse frame for ACTION_DENY, and of what has run for too long
    size_t error_len
    CopyPlan* copy
    uint8_t* sent               # goes upstream instead of the text; NULL: the text itself
    size_t sent_len
    uint8_t* sent_types         # parameter types that go with it (4 bytes each, network order)
    size_t sent_types_len
    Statement* next             # hash chain
    Statement* newer            # use order, while cached
    Statement* older
    bint cached

cdef struct Cache:
    Statement** buckets
    size_t n_buckets            # power of two
    size_t count
    size_t bytes
    size_t bytes_max
    Statement* newest
    Statement* oldest
    uint64_t seed
    uint64_t next_id
    bint shapes                 # there has been a template: worth looking for one

cdef struct PlanItem:
    uint16_t column
    int16_t format              # as described: 0 text, 1 binary
    int32_t mask
    uint32_t type_oid
    int32_t typmod

cdef struct RowPlan:            # what to mask in the rows of one description; shared by statement and portals
    uint32_t refs
    Context* ctx                # counted: the masks it points into, whatever the session's context has become
    uint16_t n_columns
    uint16_t n_items
    uint16_t zero_origin
    bint contradiction          # holds something no mask fits
    PlanItem items[0]


# ---------------------------------------------------------------- contexts

cdef Context* context_new(uint64_t id, uint32_t n_masks, uint32_t n_columns, uint32_t n_aliases) noexcept nogil:
    """Empty context with place for its masks and columns; NULL when memory is short."""
    cdef Context* c = <Context*>calloc(1, sizeof(Context))
    cdef uint32_t room = 8
    if c == NULL:
        return NULL
    c.id = id
    if n_masks:
        c.masks = <MaskSpec*>calloc(n_masks, sizeof(MaskSpec))
    c.n_masks = n_masks
    if n_columns:
        while room < n_columns * 4:     # every table adds a whole-row entry too
            room *= 2
        c.columns = <uint64_t*>calloc(room, sizeof(uint64_t))
        c.column_masks = <int32_t*>calloc(room, sizeof(int32_t))
        c.column_room = room
    if n_aliases:
        room = 8
        while room < n_aliases * 2:
            room *= 2
        c.aliases = <uint64_t*>calloc(room, sizeof(uint64_t))
        c.alias_of = <uint64_t*>calloc(room, sizeof(uint64_t))
        c.alias_room = room
    if (n_aliases and (c.aliases == NULL or c.alias_of == NULL)) or (n_masks and c.masks == NULL) or (n_columns and (c.columns == NULL or c.column_masks == NULL)):
        context_free(c)
        return NULL
    return c


cdef void context_free(Context* c) noexcept nogil:
    cdef uint32_t i
    if c == NULL:
        return
    for i in range(c.n_masks if c.masks != NULL else 0):
        mask_spec_clear(&c.masks[i])
    free(c.masks)
    mask_types_free(c.types)
    free(c.columns)
    free(c.column_masks)
    free(c.aliases)
    free(c.alias_of)
    free(c)


cdef void context_column(Context* c, uint32_t table, uint16_t attnum, int32_t mask) noexcept nogil:
    cdef uint64_t key = ((<uint64_t>table << 16) | attnum) + 1
    cdef uint32_t at = <uint32_t>(hf_hash(&key, 8, 0)) & (c.column_room - 1)
    while c.columns[at] != 0 and c.columns[at] != key:
        at = (at + 1) & (c.column_room - 1)
    c.columns[at] = key
    c.column_masks[at] = mask


cdef void context_alias(Context* c, uint32_t view, uint16_t view_attnum, uint32_t table, uint16_t attnum) noexcept nogil:
    cdef uint64_t key = ((<uint64_t>view << 16) | view_attnum) + 1
    cdef uint32_t at = <uint32_t>(hf_hash(&key, 8, 0)) & (c.alias_room - 1)
    while c.aliases[at] != 0 and c.aliases[at] != key:
        at = (at + 1) & (c.alias_room - 1)
    c.aliases[at] = key
    c.alias_of[at] = (<uint64_t>table << 16) | attnum


cdef uint64_t context_unalias(const Context* c, uint32_t table, uint16_t attnum) noexcept nogil:
    """table oid << 16 | attnum of the column that a masking view's column stands for; 0 when it is none."""
    cdef uint64_t key = ((<uint64_t>table << 16) | attnum) + 1
    cdef uint32_t at, tries
    if c.alias_room == 0:
        return 0
    at = <uint32_t>(hf_hash(&key, 8, 0)) & (c.alias_room - 1)
    for tries in range(c.alias_room):
        if c.aliases[at] == 0:
            return 0
        if c.aliases[at] == key:
            return c.alias_of[at]
        at = (at + 1) & (c.alias_room - 1)
    return 0


cdef inline bint context_masked(const Context* c) noexcept nogil:
    return c.column_room != 0


cdef int32_t context_lookup(const Context* c, uint32_t table, uint16_t attnum) noexcept nogil:
    """Mask index of a column, WHOLE_ROW, or -1 when it is not masked."""
    cdef uint64_t key = ((<uint64_t>table << 16) | attnum) + 1
    cdef uint32_t at, tries
    if c.column_room == 0:
        return -1
    at = <uint32_t>(hf_hash(&key, 8, 0)) & (c.column_room - 1)
    for tries in range(c.column_room):
        if c.columns[at] == 0:
            return -1
        if c.columns[at] == key:
            return c.column_masks[at]
        at = (at + 1) & (c.column_room - 1)
    return -1


# ---------------------------------------------------------------- statements

cdef void context_leave(Context* c) noexcept nogil:
    """One user fewer. A context that is not dropped stays; the relay frees dropped ones when it sweeps."""
    HF_ASSERT(c.refs > 0)
    c.refs -= 1


cdef void statement_free(Statement* s) noexcept nogil:
    global HELD_STATEMENTS
    if s == NULL:
        return
    HELD_STATEMENTS -= 1
    if s.ctx != NULL:
        context_leave(s.ctx)
    free(s.text)
    free(s.types)
    free(s.label)
    free(s.error)
    copy_plan_free(s.copy)
    free(s.sent)
    free(s.sent_types)
    free(s)


cdef inline void statement_release(Statement* s) noexcept nogil:
    if s == NULL:
        return
    HF_ASSERT(s.refs > 0)
    s.refs -= 1
    if s.refs == 0:
        statement_free(s)


cdef Statement* statement_new(Cache* k, Context* ctx, uint8_t kind, const uint8_t* text, size_t text_len,
                              const uint8_t* types, size_t types_len) noexcept nogil:
    """A statement with one reference and no verdict yet (action 0 never passes anywhere)."""
    global HELD_STATEMENTS
    cdef Statement* s = <Statement*>calloc(1, sizeof(Statement))
    if s == NULL:
        return NULL
    HELD_STATEMENTS += 1
    s.text = copy_bytes(text, text_len)
    s.types = copy_bytes(types, types_len)
    if s.text == NULL or s.types == NULL:
        statement_free(s)
        return NULL
    s.text_len = text_len
    s.types_len = types_len
    s.kind = kind
    s.refs = 1
    k.next_id += 1
    s.id = k.next_id
    s.hash = statement_hash(k, ctx, kind, text, text_len, types, types_len)
    s.ctx = ctx
    ctx.refs += 1
    return s


cdef inline uint64_t statement_hash(const Cache* k, const Context* ctx, uint8_t kind, const uint8_t* text,
                                    size_t text_len, const uint8_t* types, size_t types_len) noexcept nogil:
    cdef uint64_t h = hf_hash(text, text_len, k.seed ^ (ctx.id * 31 + kind))
    return hf_hash(types, types_len, h) if types_len else h


# ---------------------------------------------------------------- cache

cdef int cache_init(Cache* k, size_t bytes_max, uint64_t seed) noexcept nogil:
    memset(k, 0, sizeof(Cache))
    k.n_buckets = 1024
    k.bytes_max = bytes_max
    k.seed = seed
    k.buckets = <Statement**>calloc(k.n_buckets, sizeof(Statement*))
    return 0 if k.buckets != NULL else -1


cdef inline size_t statement_bytes(const Statement* s) noexcept nogil:
    return (sizeof(Statement) + s.text_len + s.types_len + s.label_len + s.error_len + s.sent_len + s.sent_types_len + 64)


cdef inline void cache_unlink_order(Cache* k, Statement* s) noexcept nogil:
    if s.newer != NULL:
        s.newer.older = s.older
    else:
        k.newest = s.older
    if s.older != NULL:
        s.older.newer = s.newer
    else:
        k.oldest = s.newer


cdef inline void cache_link_newest(Cache* k, Statement* s) noexcept nogil:
    s.newer = NULL
    s.older = k.newest
    if k.newest != NULL:
        k.newest.newer = s
    k.newest = s
    if k.oldest == NULL:
        k.oldest = s


cdef Statement* cache_find(Cache* k, const Context* ctx, uint8_t kind, const uint8_t* text, size_t text_len,
                           const uint8_t* types, size_t types_len) noexcept nogil:
    """The cached statement (no reference taken), or NULL."""
    cdef uint64_t h = statement_hash(k, ctx, kind, text, text_len, types, types_len)
    cdef Statement* s = k.buckets[h & (k.n_buckets - 1)]
    while s != NULL:
        if (s.hash == h and s.ctx == ctx and s.kind == kind and s.text_len == text_len and s.types_len == types_len
                and memcmp(s.text, text, text_len) == 0
                and (types_len == 0 or memcmp(s.types, types, types_len) == 0)):
            if k.newest != s:
                cache_unlink_order(k, s)
                cache_link_newest(k, s)
            return s
        s = s.next
    return NULL


cdef void cache_remove(Cache* k, Statement* s) noexcept nogil:
    cdef Statement** at = &k.buckets[s.hash & (k.n_buckets - 1)]
    if not s.cached:
        return
    while at[0] != NULL and at[0] != s:
        at = &at[0].next
    if at[0] == s:
        at[0] = s.next
    s.next = NULL
    cache_unlink_order(k, s)
    s.cached = False
    k.count -= 1
    k.bytes -= statement_bytes(s)
    statement_release(s)


cdef void cache_grow(Cache* k) noexcept nogil:
    cdef size_t n = k.n_buckets * 2, i
    cdef Statement** wider = <Statement**>calloc(n, sizeof(Statement*))
    cdef Statement* s
    cdef Statement* following
    if wider == NULL:
        return
    for i in range(k.n_buckets):
        s = k.buckets[i]
        while s != NULL:
            following = s.next
            s.next = wider[s.hash & (n - 1)]
            wider[s.hash & (n - 1)] = s
            s = following
    free(k.buckets)
    k.buckets = wider
    k.n_buckets = n


cdef void cache_add(Cache* k, Statement* s) noexcept nogil:
    """Keep a decided statement; the least recently used ones make room. A text over a quarter of the cache is not kept."""
    cdef Statement* older = cache_find(k, s.ctx, s.kind, s.text, s.text_len, s.types, s.types_len)
    if older != NULL:
        cache_remove(k, older)
    if statement_bytes(s) > k.bytes_max / 4:
        return
    while k.bytes + statement_bytes(s) > k.bytes_max and k.oldest != NULL:
        cache_remove(k, k.oldest)
    if k.count > k.n_buckets:
        cache_grow(k)
    s.next = k.buckets[s.hash & (k.n_buckets - 1)]
    k.buckets[s.hash & (k.n_buckets - 1)] = s
    cache_link_newest(k, s)
    s.cached = True
    s.refs += 1
    k.count += 1
    k.bytes += statement_bytes(s)


cdef void cache_drop_context(Cache* k, const Context* ctx) noexcept nogil:
    cdef Statement* s = k.newest
    cdef Statement* older
    while s != NULL:
        older = s.older
        if s.ctx == ctx:
            cache_remove(k, s)
        s = older


# ---------------------------------------------------------------- row plans

cdef inline void plan_release(RowPlan* p) noexcept nogil:
    global HELD_PLANS
    if p != NULL:
        p.refs -= 1
        if p.refs == 0:
            context_leave(p.ctx)
            free(p)
            HELD_PLANS -= 1


cdef RowPlan* plan_parse(Context* ctx, const uint8_t* body, size_t n, bint redact) noexcept nogil:
    """Read a RowDescription body; NULL when it is malformed or memory is short. `redact`: what has no origin is hidden
    by the last mask of the context."""
    global HELD_PLANS
    cdef const uint8_t* end = body + n
    cdef const uint8_t* p = body + 2
    cdef const uint8_t* nul
    cdef uint16_t columns, i, items = 0
    cdef uint32_t table
    cdef uint16_t attnum
    cdef int32_t mask
    cdef RowPlan* plan
    if n < 2:
        return NULL
    columns = hf_be16(body)
    plan = <RowPlan*>calloc(1, sizeof(RowPlan) + columns * sizeof(PlanItem))
    if plan == NULL:
        return NULL
    plan.refs = 1
    plan.n_columns = columns
    for i in range(columns):
        nul = cstring_end(p, end)
        if nul == NULL or end - nul - 1 < 18:
            free(plan)
            return NULL
        p = nul + 1
        table = hf_be32(p)
        attnum = hf_be16(p + 4)
        if table == 0:
            plan.zero_origin += 1
            mask = <int32_t>ctx.n_masks - 1 if redact else -1
        else:
            mask = context_lookup(ctx, table, attnum)
        if mask == WHOLE_ROW or mask >= <int32_t>ctx.n_masks:
            plan.contradiction = True
        elif mask >= 0:
            plan.items[items].column = i
            plan.items[items].mask = mask
            plan.items[items].type_oid = hf_be32(p + 6)
            plan.items[items].typmod = <int32_t>hf_be32(p + 12)
            plan.items[items].format = <int16_t>hf_be16(p + 16)
            items += 1
        p += 18
    plan.n_items = items
    if p != end:
        free(plan)
        return NULL
    plan.ctx = ctx
    ctx.refs += 1
    HELD_PLANS += 1
    return plan
