# Rows on their way to the client: which cells to mask (row plans), and the rebuilt DataRow or CopyData.


cdef void contradiction(State* r, Session* s) noexcept nogil:
    """The server's answer does not fit the verdict. What cannot be understood is not passed on."""
    count(r, C_CONTRADICTIONS, 1)
    end_session(r, s, "XX000", "the result contradicts what the gateway knew of the statement; the session was ended so "
                "that no masked value could get out. Reconnect; if it happens again, tell your administrator",
                "contradiction")


cdef inline bint restricted(const Session* s, const Statement* x) noexcept nogil:
    """Whether x's errors and notices may hold masked values."""
    return x != NULL and context_masked(x.ctx) and (x.flags & (FLAG_TOUCHED | FLAG_SCRUB)) != 0


cdef bint withheld(const Session* s, const Reply* e) noexcept nogil:
    """Whether an error or notice at e may hold masked values: of e's own statement, or of what an earlier one deferred."""
    if restricted(s, e.stmt):
        return True
    if not s.deferring:
        return False
    # Outside of a transaction block, Sync or the end of a simple Query ends the transaction.
    return s.status != c'T' or s.settled or e.kind == REPLY_SYNC or (e.stmt != NULL and e.stmt.flags & FLAG_SETTLES != 0)


cdef bint plan_agrees(const RowPlan* plan, const Statement* x) noexcept nogil:
    """Cross-check: does what the server described fit what the analysis promised?"""
    if plan.contradiction:
        return False
    if x == NULL:
        return plan.n_items == 0
    if not x.flags & FLAG_TOUCHED:
        return plan.n_items == 0
    return (x.flags & FLAG_ANY_ZERO) != 0 or plan.zero_origin <= x.zero_origin


cdef void described_for_all(Named* portal) noexcept nogil:
    """What a portal's description says holds for its statement: later portals of it need none of their own."""
    cdef Named* prepared = portal.prepared
    if prepared == NULL or prepared.described or prepared.stmt != portal.stmt:
        return
    prepared.plan = portal.plan
    if portal.plan != NULL:
        portal.plan.refs += 1
    prepared.described = True


cdef int described(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """A RowDescription for the head of the queue; 0, or -1 when the session was ended."""
    cdef RowPlan* plan
    cdef Named* named = e.named
    cdef Statement* x = e.stmt if named == NULL else named.stmt
    # The context that the statement was judged in, not the session's: a reload may have come between.
    cdef Context* ctx = x.ctx if x != NULL else s.ctx
    if not context_masked(ctx):
        return 0
    plan = plan_parse(ctx, p + 5, total - 5, x != NULL and x.flags & FLAG_REDACT != 0)
    if plan == NULL:
        contradiction(r, s)
        return -1
    if e.kind == REPLY_QUERY:
        if not plan_agrees(plan, x):
            plan_release(plan)
            contradiction(r, s)
            return -1
        plan_release(e.plan)
        e.plan = plan
        return 0
    if named == NULL or doubtful(named) or e.whom == FOR_PROBE:
        plan_release(plan)
        return 0
    if not plan_agrees(plan, named.stmt):
        plan_release(plan)
        contradiction(r, s)
        return -1
    plan_release(named.plan)
    named.plan = plan
    named.described = True
    described_for_all(named)
    return 0


cdef RowPlan* rows_plan(Session* s, Reply* e) noexcept nogil:
    """The plan for rows of an Execute, or NULL when nothing was described."""
    cdef Named* portal = e.named
    if portal == NULL:
        return NULL
    if portal.described:
        return portal.plan
    if portal.prepared != NULL and portal.prepared.described:
        return portal.prepared.plan
    return NULL


cdef inline bint rows_known(const Reply* e) noexcept nogil:
    return e.named != NULL and (e.named.described or (e.named.prepared != NULL and e.named.prepared.described))


cdef int item_format(const Reply* e, const PlanItem* item) noexcept nogil:
    """Wire format of a masked column: Bind's word counts, a described statement always says text. -1: cannot be."""
    cdef const Named* portal = e.named
    if e.kind != REPLY_EXECUTE or portal == NULL or not portal.has_formats:
        return item.format
    if portal.n_formats == 0:
        return 0
    if portal.n_formats == 1:
        return portal.formats[0]
    if item.column >= portal.n_formats:
        return -1
    return portal.formats[item.column]


cdef ssize_t mask_row(State* r, Session* s, const Reply* e, const uint8_t* p, size_t total, uint8_t* w, size_t room) noexcept nogil:
    """Rebuild one DataRow at w; its new total size, -1 when it does not fit its plan, MASK_NO_ROOM when w is too small."""
    cdef const RowPlan* plan = e.plan
    cdef const PlanItem* item = &plan.items[0]
    cdef const PlanItem* last = item + plan.n_items
    cdef const uint8_t* end = p + total
    cdef const uint8_t* at = p + 7
    cdef const uint8_t* copied = p + 5          # everything before this is in w already
    cdef uint16_t column, columns
    cdef int32_t length
    cdef size_t n = 5, span
    cdef uint64_t cells = 0
    cdef ssize_t got
    cdef int fmt
    if total < 7:
        return -1
    columns = hf_be16(p + 5)
    if columns != plan.n_columns:
        return -1
    for column in range(columns):
        if end - at < 4:
            return -1
        length = <int32_t>hf_be32(at)
        if length < -1 or (length > 0 and end - at - 4 < length):
            return -1
        if item != last and item.column == column:
            span = at - copied
            fmt = item_format(e, item)
            if fmt < 0 or fmt > 1:
                return -1
            if n + span + 4 > room:
                return MASK_NO_ROOM
            memcpy(w + n, copied, span)
            n += span
            got = mask_cell(
                &plan.ctx.masks[item.mask], item.type_oid, item.typmod, fmt, at + 4, length, w + n + 4, room - n - 4)
            if got == MASK_NO_ROOM:
                return MASK_NO_ROOM
            hf_put_be32(w + n, <uint32_t>(got if got >= 0 else -1))
            n += 4 + (got if got > 0 else 0)
            if length >= 0:
                cells += 1
            item += 1
            copied = at + 4 + (length if length > 0 else 0)
        at += 4 + (length if length > 0 else 0)
    if at != end or item != last:
        return -1
    span = end - copied
    if n + span > room:
        return MASK_NO_ROOM
    memcpy(w + n, copied, span)
    n += span
    w[0] = c'D'
    hf_put_be32(w + 1, <uint32_t>(n - 1))
    count(r, C_MASKED_CELLS, cells)
    return n


cdef size_t mask_row_bound(const RowPlan* plan, size_t total) noexcept nogil:
    """Room that is enough for the rebuilt row unless its masked values have parts that grow: arrays, composites, json."""
    cdef size_t bound = total + 64
    cdef uint16_t i
    for i in range(plan.n_items):
        bound += mask_cell_bound(&plan.ctx.masks[plan.items[i].mask], 0)
    return bound + total        # the masked cells' own lengths add up to at most `total`


cdef size_t mask_row_most(const RowPlan* plan, size_t total) noexcept nogil:
    """Room that is enough for any row: seldom needed, and much."""
    cdef size_t most = mask_row_bound(plan, total), parts, longest = 0
    cdef uint16_t i
    for i in range(plan.n_items):
        parts = mask_parts_bound(&plan.ctx.masks[plan.items[i].mask], total)
        longest = parts if parts > longest else longest
    return most + longest


cdef int masked_row(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """Mask and gather one DataRow; -1 when the session was ended."""
    cdef size_t room = mask_row_bound(e.plan, total), most
    cdef uint8_t* w
    cdef ssize_t n
    while True:
        w = arena_take(r, s, room)
        n = mask_row(r, s, e, p, total, w, room) if w != NULL else -1
        if n != MASK_NO_ROOM:
            break
        most = mask_row_most(e.plan, total)
        if room >= most:
            break
        r.arena_used -= room
        room = 4 * room if 4 * room < most else most
    if n < 0:
        contradiction(r, s)
        return -1
    r.arena_used -= room - <size_t>n
    count(r, C_MASKED_ROWS, 1)
    e.bytes += n
    to_client(r, s, w, n)
    capture_add(r, s, e, w, n)
    return 0


cdef int masked_copy(State* r, Session* s, Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """Mask and gather one CopyData; -1 when the session was ended."""
    cdef size_t room = 5 + copy_mask_bound(e.stmt.copy, e.stmt.ctx.masks, <int>e.stmt.ctx.n_masks, total)
    cdef size_t most = room + copy_parts_bound(e.stmt.copy, e.stmt.ctx.masks, <int>e.stmt.ctx.n_masks, total)
    cdef uint8_t* w
    cdef ssize_t n
    cdef long long cells = 0
    while True:
        w = arena_take(r, s, room)
        if w == NULL:
            n = -1
        else:
            n = copy_mask_row(
                e.stmt.copy, e.stmt.ctx.masks, <int>e.stmt.ctx.n_masks, p + 5, total - 5, w + 5, room - 5, &e.copy_state,
                &cells)
        if n != COPY_NO_ROOM or room >= most:
            break
        r.arena_used -= room
        room = 4 * room if 4 * room < most else most
    if n < 0:
        contradiction(r, s)
        return -1
    w[0] = c'd'
    hf_put_be32(w + 1, <uint32_t>(n + 4))
    n += 5
    r.arena_used -= room - <size_t>n
    count(r, C_MASKED_CELLS, <uint64_t>cells)
    count(r, C_MASKED_ROWS, 1)
    e.bytes += n
    to_client(r, s, w, n)
    capture_add(r, s, e, w, n)
    return 0
