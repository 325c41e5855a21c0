# Client bytes -> upstream. Every statement gets a verdict and a journal record before its first byte is gathered.

# The server's own words.
cdef const char* BAD_STRING = "invalid string in message"
cdef const char* CUT_SHORT = "insufficient data left in message"
cdef const char* BAD_FORMAT = "invalid message format"


cdef const char* TOO_MANY_NAMES = (
    "this session's prepared statements and portals are larger than the gateway's limit: close some, or Sync more often")


cdef int to_upstream_query(State* r, Session* s, const Statement* x, const uint8_t* p, size_t total) noexcept nogil:
    """A Query frame (p), with the text that the verdict put in place of the client's. -1: memory is short."""
    cdef uint8_t* w
    cdef size_t n
    if x.sent == NULL:
        to_upstream(r, s, p, total)
        return 0
    n = 5 + x.sent_len + 1
    w = arena_take(r, s, n)
    if w == NULL:
        return -1
    w[0] = c'Q'
    hf_put_be32(w + 1, <uint32_t>(n - 1))
    memcpy(w + 5, x.sent, x.sent_len)
    w[n - 1] = 0
    to_upstream(r, s, w, n)
    return 0


cdef int to_upstream_parse(State* r, Session* s, const Statement* x, const uint8_t* p, size_t total) noexcept nogil:
    """A well-formed Parse frame (p), with the text and types of the verdict. -1: memory is short."""
    cdef uint8_t* w
    cdef size_t name, n, at
    if x.sent == NULL:
        to_upstream(r, s, p, total)
        return 0
    name = cstring_end(p + 5, p + total) + 1 - (p + 5)
    n = 5 + name + x.sent_len + 1 + 2 + x.sent_types_len
    w = arena_take(r, s, n)
    if w == NULL:
        return -1
    w[0] = c'P'
    hf_put_be32(w + 1, <uint32_t>(n - 1))
    memcpy(w + 5, p + 5, name)
    memcpy(w + 5 + name, x.sent, x.sent_len)
    at = 5 + name + x.sent_len
    w[at] = 0
    hf_put_be16(w + at + 1, <uint16_t>(x.sent_types_len // 4))
    if x.sent_types_len:
        memcpy(w + at + 3, x.sent_types, x.sent_types_len)
    to_upstream(r, s, w, n)
    return 0


cdef int pass_on(State* r, Session* s, uint8_t kind, Statement* x, Named* portal, uint64_t seq, const uint8_t* p,
                 size_t total) noexcept nogil:
    """A statement that is recorded (seq) and may run: its reply is awaited, its bytes go."""
    cdef Reply* e = reply_push(s, kind, FOR_CLIENT, x, portal)
    if e == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    e.seq = seq
    e.started_ns = r.now_ns
    count(r, C_ALLOW, 1)
    if x.flags & FLAG_NAMES:
        names_stale(&s.statements)
        names_stale(&s.portals)
    if kind != REPLY_QUERY:
        to_upstream(r, s, p, total)
    elif to_upstream_query(r, s, x, p, total) < 0:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
    return STEP_DONE


cdef int front_query(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* nul = cstring_end(p + 5, p + total)
    cdef Statement* x
    cdef uint64_t seq
    if nul == NULL:
        return complain(r, s, c'Q', "08P01", BAD_STRING)
    if nul != p + total - 1:
        return complain(r, s, c'Q', "08P01", BAD_FORMAT)
    x = judge(r, s, c'Q', p + 5, nul - p - 5, NULL, 0)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + x.error_len + total + 1024):
        return STEP_WAIT
    if is_template(x):
        seq = put_use(r, s, KIND_QUERY_TEXT, x, p + 5, nul - p - 5, NULL, 0)
    else:
        seq = put_use(r, s, KIND_QUERY, x, NULL, 0, NULL, 0)
    count(r, C_STATEMENTS, 1)
    if x.action != ACTION_ALLOW:
        return refuse_simple(r, s, x, c'Q', seq)
    return pass_on(r, s, REPLY_QUERY, x, NULL, seq, p, total)


cdef int front_parse(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* end = p + total
    cdef const uint8_t* name_nul = cstring_end(p + 5, end)
    cdef const uint8_t* text_nul = cstring_end(name_nul + 1, end) if name_nul != NULL else NULL
    cdef uint16_t n_types
    cdef Statement* x
    cdef Named* named
    cdef Reply* e
    cdef uint64_t seq
    if text_nul == NULL:
        return complain(r, s, c'P', "08P01", BAD_STRING)
    n_types = hf_be16(text_nul + 1) if end - text_nul >= 3 else 0
    if end - text_nul < 3 or end - text_nul - 3 < <ssize_t>n_types * 4:
        return complain(r, s, c'P', "08P01", CUT_SHORT)
    if end - text_nul - 3 != <ssize_t>n_types * 4:
        return complain(r, s, c'P', "08P01", BAD_FORMAT)
    if s.names_held + total > r.message_max:
        return complain(r, s, c'P', "54000", TOO_MANY_NAMES)
    x = judge(r, s, c'P', name_nul + 1, text_nul - name_nul - 1, text_nul + 3, <size_t>n_types * 4)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_PARSE, x, p + 5, name_nul - p - 4, NULL, 0)
    if x.action == ACTION_DENY or x.action == 0:
        count(r, C_STATEMENTS, 1)
        return refuse_extended(r, s, x, p + 5, name_nul - p - 5, seq)
    named = named_new(&s.names_held, p + 5, name_nul - p - 5, x, x.text_len + x.types_len)
    e = reply_push(s, REPLY_PARSE, FOR_CLIENT, x, named)
    if named == NULL or e == NULL or names_put(&s.statements, named) < 0:
        named_release(named)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    named_release(named)
    e.seq = seq
    e.started_ns = r.now_ns
    if to_upstream_parse(r, s, x, p, total) < 0:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
    return STEP_DONE


cdef int bind_formats(Named* portal, const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Read the result formats at the end of a Bind body (p: after both names). -1 when it is too short, -2 too long."""
    cdef uint32_t n, i
    cdef int32_t length
    if end - p < 2:
        return -1
    n = hf_be16(p)
    p += 2
    if end - p < <ssize_t>n * 2 + 2:
        return -1
    p += n * 2
    n = hf_be16(p)
    p += 2
    for i in range(n):
        if end - p < 4:
            return -1
        length = <int32_t>hf_be32(p)
        p += 4
        if length < -1 or (length > 0 and end - p < length):
            return -1
        if length > 0:
            p += length
    if end - p < 2:
        return -1
    n = hf_be16(p)
    p += 2
    if end - p != <ssize_t>n * 2:
        return -1 if end - p < <ssize_t>n * 2 else -2
    portal.has_formats = True
    portal.n_formats = <uint16_t>n
    if n:
        portal.formats = <int16_t*>malloc(n * sizeof(int16_t))
        if portal.formats == NULL:
            return -1
        portal.cost += n * sizeof(int16_t)
        portal.held[0] += n * sizeof(int16_t)
        for i in range(n):
            portal.formats[i] = <int16_t>hf_be16(p + 2 * i)
    return 0


cdef size_t synthetic(uint8_t* w, const char* verb, const uint8_t* name, size_t n) noexcept nogil:
    """`VERB "name"` for a name that only SQL can have made (PREPARE, DECLARE). w holds at least 192 bytes."""
    cdef size_t at = strlen(verb), i
    if n > NAME_MAX:
        n = NAME_MAX
    memcpy(w, verb, at)
    w[at] = c'"'
    at += 1
    for i in range(n):
        if name[i] == c'"':
            w[at] = c'"'
            at += 1
        w[at] = name[i]
        at += 1
    w[at] = c'"'
    return at + 1


cdef Statement* bound_statement(State* r, Session* s, Named* prepared, const uint8_t* name, size_t n) noexcept nogil:
    """What a Bind of this name would run, judged in the session's present context; NULL: parked."""
    cdef uint8_t text[192]
    cdef Statement* x
    if prepared == NULL or (doubtful(prepared) and prepared.stmt.action == ACTION_ALLOW):
        return judge(r, s, c'P', text, synthetic(text, "EXECUTE ", name, n), NULL, 0)
    x = prepared.stmt
    if x.ctx == s.ctx:
        return x
    x = judge(r, s, c'P', x.text, x.text_len, x.types, x.types_len)
    if x != NULL:
        statement_release(prepared.stmt)
        prepared.stmt = x
        x.refs += 1
        # What was described belongs to the context that is gone.
        plan_release(prepared.plan)
        prepared.plan = NULL
        prepared.described = prepared.describe_sent = False
        if x == s.granted:
            granted_clear(s)
    return x


cdef int front_bind(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* end = p + total
    cdef const uint8_t* portal_nul = cstring_end(p + 5, end)
    cdef const uint8_t* name_nul = cstring_end(portal_nul + 1, end) if portal_nul != NULL else NULL
    cdef Named* prepared
    cdef Named* portal
    cdef Statement* x
    cdef Reply* e
    cdef uint64_t seq
    cdef int bad
    if name_nul == NULL:
        return complain(r, s, c'B', "08P01", BAD_STRING)
    if s.names_held > r.message_max:
        return complain(r, s, c'B', "54000", TOO_MANY_NAMES)
    prepared = names_find(&s.statements, portal_nul + 1, name_nul - portal_nul - 1)
    if prepared == NULL and name_nul == portal_nul + 1:
        # SQL cannot have made it, so there is nothing to judge.
        return complain(r, s, c'B', "26000", "unnamed prepared statement does not exist")
    x = s.granted if s.granted != NULL and s.granted_kind == c'B' else bound_statement(
        r, s, prepared, portal_nul + 1, name_nul - portal_nul - 1)
    if x == NULL:
        return STEP_WAIT
    if x.action == ACTION_ASK:
        park(r, s, c'B', x, p + 5, total - 5)
        return STEP_WAIT
    if not journal_ready(r, s, 2 * definition_size(r, x) + total + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_BIND, x, p + 5, total - 5, NULL, 0)
    if x.action != ACTION_ALLOW:
        count(r, C_STATEMENTS, 1)
        return refuse_extended(r, s, x, <const uint8_t*>"hoopfast_refused", 16, seq)
    portal = named_new(&s.names_held, p + 5, portal_nul - p - 5, x, 0)
    if portal != NULL and context_masked(x.ctx):
        bad = bind_formats(portal, name_nul + 1, end)
        if bad:
            named_release(portal)
            return complain(r, s, c'B', "08P01", CUT_SHORT if bad == -1 else BAD_FORMAT)
    e = reply_push(s, REPLY_BIND, FOR_CLIENT, x, portal)
    if portal == NULL or e == NULL or names_put(&s.portals, portal) < 0:
        named_release(portal)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    portal.bind_seq = seq
    if prepared != NULL and not doubtful(prepared):
        portal.prepared = prepared
        prepared.refs += 1
    named_release(portal)
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_named(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """Describe and Close: a letter (statement or portal) and a name."""
    cdef const uint8_t* nul = cstring_end(p + 6, p + total) if total > 6 else NULL
    cdef Named* x
    cdef uint8_t kind = REPLY_CLOSE
    cdef uint8_t text[64]
    if total == 5:
        return complain(r, s, p[0], "08P01", "no data left in message")
    if nul == NULL:
        return complain(r, s, p[0], "08P01", BAD_STRING)
    if nul != p + total - 1:
        return complain(r, s, p[0], "08P01", BAD_FORMAT)
    if p[5] != c'S' and p[5] != c'P':
        return complain(r, s, p[0], "08P01", numbered(
            text, "invalid DESCRIBE message subtype " if p[0] == c'D' else "invalid CLOSE message subtype ", p[5]))
    x = names_find(&s.statements if p[5] == c'S' else &s.portals, p + 6, nul - p - 6)
    if p[0] == c'D':
        kind = REPLY_DESCRIBE_STATEMENT if p[5] == c'S' else REPLY_DESCRIBE_PORTAL
        if x != NULL:
            x.describe_sent = True
    if reply_push(s, kind, FOR_CLIENT, NULL, x) == NULL:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int describe_first(State* r, Session* s, Named* portal) noexcept nogil:
    """Rows of a touched statement need a row description; when nobody asked for one, we do. -1: memory is short."""
    cdef size_t total = 7 + portal.name_len
    cdef uint8_t* w
    if portal.described or portal.describe_sent:
        return 0
    if portal.prepared != NULL and (portal.prepared.described or portal.prepared.describe_sent):
        return 0
    w = arena_take(r, s, total)
    if w == NULL or reply_push(s, REPLY_DESCRIBE_PORTAL, FOR_US, NULL, portal) == NULL:
        return -1
    portal.describe_sent = True
    w[0] = c'D'
    hf_put_be32(w + 1, <uint32_t>(total - 1))
    w[5] = c'P'
    memcpy(w + 6, portal.name, portal.name_len)
    w[total - 1] = 0
    to_upstream(r, s, w, total)
    return 0


cdef int front_execute(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef const uint8_t* nul = cstring_end(p + 5, p + total)
    cdef Named* portal
    cdef Statement* x
    cdef uint64_t seq
    cdef uint8_t head[12]
    cdef uint8_t text[192]
    if nul == NULL:
        return complain(r, s, c'E', "08P01", BAD_STRING)
    if p + total - nul != 5:
        return complain(r, s, c'E', "08P01", CUT_SHORT if p + total - nul < 5 else BAD_FORMAT)
    portal = names_find(&s.portals, p + 5, nul - p - 5)
    if portal == NULL and nul == p + 5:
        return complain(r, s, c'E', "34000", "portal \"\" does not exist")
    if portal != NULL and doubtful(portal) and portal.stmt.action == ACTION_ALLOW:
        portal = NULL
    x = portal.stmt if portal != NULL else judge(
        r, s, c'P', text, synthetic(text, "FETCH FROM ", p + 5, nul - p - 5), NULL, 0)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + x.error_len + total + 1024):
        return STEP_WAIT
    (<uint64_t*>head)[0] = portal.bind_seq if portal != NULL else 0
    (<uint32_t*>(head + 8))[0] = hf_be32(nul + 1)
    seq = put_use(r, s, KIND_EXECUTE, x, head, 12, p + 5, nul - p - 4)
    count(r, C_STATEMENTS, 1)
    if x.action != ACTION_ALLOW:
        return refuse_extended(r, s, x, <const uint8_t*>"hoopfast_refused", 16, seq)
    if portal != NULL:
        portal.refs += 1
    else:
        portal = named_new(&s.names_held, p + 5, nul - p - 5, x, 0)
    if portal == NULL or (x.flags & FLAG_TOUCHED and context_masked(x.ctx) and describe_first(r, s, portal) < 0):
        named_release(portal)
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    pass_on(r, s, REPLY_EXECUTE, x, portal, seq, p, total)
    named_release(portal)
    return STEP_DONE


cdef int front_function(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    cdef uint8_t text[24]
    cdef Statement* x
    cdef uint64_t seq
    cdef uint32_t oid, digits
    cdef size_t at = 10
    if total < 5 + 4:
        return complain(r, s, c'F', "08P01", CUT_SHORT)
    text[0] = 0
    memcpy(text + 1, "function ", 9)
    oid = hf_be32(p + 5)
    digits = 1000000000
    while digits > 1 and oid < digits:
        digits //= 10
    while digits:
        text[at] = <uint8_t>(c'0' + oid // digits % 10)
        at += 1
        digits //= 10
    x = judge(r, s, c'F', text, at, NULL, 0)
    if x == NULL or not journal_ready(r, s, 2 * definition_size(r, x) + total + x.error_len + 1024):
        return STEP_WAIT
    seq = put_use(r, s, KIND_FUNCTION, x, p + 5, total - 5, NULL, 0)
    count(r, C_STATEMENTS, 1)
    count(r, C_FUNCTIONS, 1)
    if x.action != ACTION_ALLOW:
        return refuse_simple(r, s, x, c'F', seq)
    return pass_on(r, s, REPLY_FUNCTION, x, NULL, seq, p, total)


cdef int push_control(Session* s, uint8_t expects) noexcept nogil:
    """What a Sync, CopyDone or CopyFail asks for; those that nothing answers are one entry in a row. -1: memory is short."""
    cdef Reply* last
    if expects == REPLY_NONE or (expects == REPLY_COPY_END and not replies(s)):
        return 0
    if expects == REPLY_COPY_SYNC or expects == REPLY_COPY_END:
        last = reply_at(s, s.tail - 1) if replies(s) else NULL
        if last == NULL or last.kind != expects:
            last = reply_push(s, expects, FOR_CLIENT, NULL, NULL)
        if last == NULL:
            return -1
        last.rows += 1
        return 0
    return 0 if reply_push(s, expects, FOR_CLIENT, NULL, NULL) != NULL else -1


cdef int front_control(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """Sync, Flush, CopyDone, CopyFail, Terminate."""
    if p[0] == c'H' and total != 5 and s.side == SIDE_OPEN:
        return complain(r, s, c'H', "08P01", BAD_FORMAT)
    if push_control(s, SIDE_EXPECTS[s.side][p[0]]) < 0:
        end_session(r, s, "53200", "the gateway is out of memory", "protocol")
        return STEP_DONE
    s.side = SIDE_NEXT[s.side][p[0]]
    to_upstream(r, s, p, total)
    return STEP_DONE


cdef int front_frame(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """One whole frame that is not dropped: STEP_DONE, or STEP_WAIT when it has to be seen again."""
    cdef uint8_t type = p[0]
    cdef int step
    if type == c'Q':
        step = front_query(r, s, p, total)
    elif type == c'P':
        step = front_parse(r, s, p, total)
    elif type == c'B':
        step = front_bind(r, s, p, total)
    elif type == c'E':
        step = front_execute(r, s, p, total)
    elif type == c'F':
        step = front_function(r, s, p, total)
    elif type == c'D' or type == c'C':
        step = front_named(r, s, p, total)
    else:
        return front_control(r, s, p, total)
    if step == STEP_DONE:
        granted_clear(s)
    return step


cdef int front_oversized(State* r, Session* s) noexcept nogil:
    """A message larger than we look into is not stored: all but its last byte has been dropped; now it is answered.

    Not before it is whole, because the server never does that: a client that meets its answer while it still sends
    (psycopg2 with a wait callback) may then wait for another one for ever.
    """
    if complain(r, s, s.client.oversized, "54000", "the message is larger than the gateway's limit") == STEP_WAIT:
        return STEP_WAIT
    s.client.oversized = 0
    s.client.drop_left = 1
    return STEP_DONE


cdef void front_doom(State* r, Session* s, const char* reason, int type) noexcept nogil:
    """What comes cannot be read. The server first answers what it has got; to it the client has simply gone."""
    cdef uint8_t* w = arena_take(r, s, 5)
    s.doom = reason
    s.doom_type = type
    s.client.ended = True
    s.client.readable = False
    if w == NULL or not replies(s):
        doomed(r, s)
        return
    w[0] = c'H'
    hf_put_be32(w + 1, 4)
    to_upstream(r, s, w, 5)
    ready(r, s)


cdef size_t front_feed(State* r, Session* s, const uint8_t* p, size_t n) noexcept nogil:
    """Handle client bytes; returns how many were taken. The rest waits in client.pending."""
    cdef Leg* leg = &s.client
    cdef size_t at = 0, total = 0, k
    cdef uint8_t take
    leg.need = 0
    while at < n and not s.closing and not s.parked and not s.journal_wait and not s.upstream.broken:
        if leg.pass_left or leg.drop_left:
            k = n - at
            if leg.pass_left:
                k = k if k < leg.pass_left else leg.pass_left
                to_upstream(r, s, p + at, k)
                leg.pass_left -= k
            else:
                k = k if k < leg.drop_left else leg.drop_left
                leg.drop_left -= k
            at += k
            continue
        if s.side == SIDE_GONE:
            at = n
            break
        if leg.oversized:
            if front_oversized(r, s) == STEP_WAIT:
                break
            continue
        take = FRONTEND_TAKE[p[at]]
        if take == TAKE_NEVER:
            front_doom(r, s, "invalid frontend message type ", p[at])
            break
        if n - at < 5:
            break
        if frame_length(p + at, SMALL_MAX if take == TAKE_SMALL else 0x3FFFFFFF, &total) < 0:
            front_doom(r, s, "invalid message length", -1)
            break
        if SIDE_EXPECTS[s.side][p[at]] == REPLY_NEVER:
            leg.drop_left = total
            continue
        if take == TAKE_STREAM:
            leg.pass_left = total
            if s.side == SIDE_COPY and replies(s):
                reply_head(s).copied += total - 5
            continue
        if total > (r.statement_max if p[at] == c'Q' or p[at] == c'P' else r.message_max) + 1024:
            leg.oversized = p[at]
            leg.drop_left = total - 1
            continue
        if n - at < total:
            leg.need = total
            break
        if front_frame(r, s, p + at, total) == STEP_WAIT:
            break
        at += total
    return at
