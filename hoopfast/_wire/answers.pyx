# What is kept of the server's answers: fields of errors, command tags, rows of COPY, what it says aside.


cdef const uint8_t* error_field(const uint8_t* p, size_t total, uint8_t code, size_t* n) noexcept nogil:
    """One field of an ErrorResponse or NoticeResponse frame, or NULL."""
    cdef const uint8_t* end = p + total
    cdef const uint8_t* at = p + 5
    cdef const uint8_t* nul
    while at < end and at[0] != 0:
        nul = cstring_end(at + 1, end)
        if nul == NULL:
            return NULL
        if at[0] == code:
            n[0] = nul - at - 1
            return at + 1
        at = nul + 1
    return NULL


cdef void keep_error(Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """The error's fields, as the client gets them, for the outcome record. `pump` has made sure of room for this much."""
    cdef uint8_t frame[256]
    cdef const uint8_t* code
    cdef size_t n = 0
    cdef char state[6]
    if e.error_body != NULL:
        return
    if total > 2 * SCRATCH_BYTES:
        code = error_field(p, total, c'C', &n)
        memcpy(state, code if n == 5 else <const uint8_t*>"XX000", 5)
        state[5] = 0
        total = error_write(frame, "ERROR", state, "(the error is too large for the audit trail, the client got all of it)")
        p = frame
    e.error_body = copy_bytes(p + 5, total - 5)
    e.error_len = <uint32_t>(total - 5) if e.error_body != NULL else 0


cdef void command_tag(Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """Keep the tag (several of one simple Query joined by `; `). Those that do not fit into a record show as `; ...`."""
    cdef size_t n = total - 6, have = e.tag_len, need
    cdef uint8_t* w = e.long_tag if e.long_tag != NULL else e.tag
    need = have + n + (2 if have else 0) + 5            # always room for the dots
    if e.tag_cut:
        return
    if need > sizeof(e.tag) and need <= TAG_MAX and (e.long_tag == NULL or (need >> 12) != ((have + 5) >> 12)):
        w = <uint8_t*>realloc(e.long_tag, ((need >> 12) + 1) << 12)
        if w != NULL:
            if e.long_tag == NULL:
                memcpy(w, e.tag, have)
            e.long_tag = w
    if need > TAG_MAX or w == NULL:
        e.tag_cut = True
        memcpy((e.long_tag if e.long_tag != NULL else e.tag) + have, b"; ...", 5)
        e.tag_len = <uint16_t>(have + 5)
        return
    if have:
        memcpy(w + have, b"; ", 2)
        have += 2
    memcpy(w + have, p + 5, n)
    e.tag_len = <uint16_t>(have + n)


cdef void copied_rows(Reply* e, const uint8_t* p, size_t total) noexcept nogil:
    """COPY counts rows itself; its messages are rows in the text format only. An error before that leaves the messages."""
    cdef size_t at = 10
    cdef uint64_t rows = 0
    if total < 12 or memcmp(p + 5, b"COPY ", 5) != 0:
        return
    while at < total - 1 and c'0' <= p[at] <= c'9':
        rows = rows * 10 + p[at] - c'0'
        at += 1
    e.rows += rows - e.copy_frames
    e.copy_frames = 0


cdef void aside(State* r, Session* s, const uint8_t* p, size_t total) noexcept nogil:
    """Record a notification, or an error that answers nothing: the client got it. Of a payload, as much as of results."""
    cdef const uint8_t* nul = NULL
    cdef size_t kept = total - 5
    if p[0] == c'A' and s.capture_max >= 0:
        if total > 9:
            nul = cstring_end(p + 9, p + total)
        if nul != NULL and p + total - nul - 1 > s.capture_max:
            kept = nul + 1 - (p + 5) + <size_t>s.capture_max
    elif kept > 2 * SCRATCH_BYTES:
        kept = 2 * SCRATCH_BYTES
    capture_flush(r, s)
    if not put_aside(r, s, p[0], p + 5, total - 5, kept):
        end_session(r, s, "53100", "the gateway's audit journal is full, and what cannot be recorded may not pass: tell the "
                    "operators of the gateway", "journal")
