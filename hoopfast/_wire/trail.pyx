# Finished statements on their way to the sinks: JSON lines, and rows of the embedded store.

cdef inline uint8_t* add(uint8_t* w, bytes part) noexcept:
    cdef size_t n = PyBytes_GET_SIZE(part)
    memcpy(w, PyBytes_AS_STRING(part), n)
    return w + n


cdef inline size_t size_of(bytes part) noexcept:
    return PyBytes_GET_SIZE(part) if part is not None else 4


cdef inline uint8_t* add_field(uint8_t* w, const char* name, size_t n, uint64_t value) noexcept:
    memcpy(w, name, n)
    return w + n + write_number(w + n, value)


cdef inline uint8_t* add_protected(uint8_t* w, Finished f) noexcept:
    """The members without their first comma, and the end of the object."""
    cdef size_t n = PyBytes_GET_SIZE(f.protected) - 1
    memcpy(w, PyBytes_AS_STRING(f.protected) + 1, n)
    w[n] = c'}'
    return w + n + 1


cdef int write_line(Buffer* b, Moment* moment, Finished f) except -1:
    """The event as audit.events.encode has it, without a newline."""
    cdef _Session s = f.session
    cdef _Definition d = f.definition
    cdef bytes wire = json_formats(f.formats)
    cdef uint8_t* w
    cdef size_t room = 512 + len(s.head) + len(s.body) + len(d.sql) + len(d.tail) + len(f.name) + len(f.portal)
    room += len(f.tag) + size_of(f.parameters) + size_of(f.error) + size_of(f.results) + size_of(f.binary) + len(wire)
    room += len(f.protected)
    if buffer_reserve(b, room) < 0:
        raise MemoryError
    w = b.data + b.end
    memcpy(w, b'{"event":"statement","kind":"', 29)
    w = add(w + 29, <bytes>KIND_TEXTS[f.kind])
    memcpy(w, b'","sql":', 8)
    w = add(w + 8, d.sql)
    memcpy(w, b',"statement_name":"', 19)
    w = add(w + 19, f.name)
    memcpy(w, b'","portal":"', 12)
    w = add(w + 12, f.portal)
    w = add_field(w, b'","row_limit":', 14, f.row_limit)
    memcpy(w, b',"parameters":', 14)
    w = add(w + 14, f.parameters if f.parameters is not None else b"null")
    w = add(w, d.tail)
    w = add(w, <bytes>OUTCOME_BYTES[f.outcome])
    memcpy(w, b'","tag":"', 9)
    w = add(w + 9, f.tag)
    w = add_field(w, b'","rows":', 9, f.rows)
    w = add_field(w, b',"bytes":', 9, f.sent)
    w = add_field(w, b',"copy_bytes":', 14, f.copied)
    w = add_field(w, b',"duration_us":', 15, f.duration_us)
    memcpy(w, b',"error":', 9)
    w = add(w + 9, f.error if f.error is not None else b"null")
    memcpy(w, b',"results":', 11)
    w = add(w + 11, f.results if f.results is not None else b"[]")
    if f.first_us >= 0:
        w = add_field(w, b',"first_row_us":', 16, <uint64_t>f.first_us)
    if f.binary is not None:
        memcpy(w, b',"parameter_bytes":', 19)
        w = add(w + 19, f.binary)
    w = add(w, wire)
    if f.protected:
        memcpy(w, b',"protected":{', 14)
        w = add_protected(w + 14, f)
    w = add(w, s.head)
    w += write_number(w, f.seq)
    memcpy(w, b',"at":"', 7)
    write_utc(moment, w + 7, f.wall)
    w = add(w + 37, s.body)
    b.end = w - b.data
    return 0


def json_lines(list items, encode):
    cdef Buffer b
    cdef Moment moment
    memset(&b, 0, sizeof(b))
    memset(&moment, 0, sizeof(moment))
    try:
        if buffer_reserve(&b, 1024 * len(items)) < 0:
            raise MemoryError
        for item in items:
            if type(item) is Finished:
                write_line(&b, &moment, <Finished>item)
            else:
                _put(&b, encode(item))
            _put(&b, b"\n")
        return _bytes(&b)
    finally:
        buffer_free(&b)


cdef str detail_of(Buffer* b, Finished f):
    """What nobody searches by, as JSON; what has its usual value is left out (audit.sinks.sqlite.Detail)."""
    cdef bytes wire = json_formats(f.formats)
    cdef uint8_t* w
    cdef size_t room = 256 + len(f.name) + len(f.portal) + len(f.tag) + size_of(f.parameters) + size_of(f.error)
    b.end = 0
    room += len(f.protected)
    if buffer_reserve(b, room + size_of(f.results) + size_of(f.binary) + len(wire)) < 0:
        raise MemoryError
    w = b.data
    if f.kind != S_EXTENDED:
        memcpy(w, b',"kind":"', 9)
        w = add(w + 9, <bytes>KIND_TEXTS[f.kind])
        w[0] = c'"'
        w += 1
    if f.name:
        memcpy(w, b',"statement_name":"', 19)
        w = add(w + 19, f.name)
        w[0] = c'"'
        w += 1
    if f.portal:
        memcpy(w, b',"portal":"', 11)
        w = add(w + 11, f.portal)
        w[0] = c'"'
        w += 1
    if f.row_limit:
        w = add_field(w, b',"row_limit":', 13, f.row_limit)
    if f.parameters is not None:
        memcpy(w, b',"parameters":', 14)
        w = add(w + 14, f.parameters)
    if f.tag:
        memcpy(w, b',"tag":"', 8)
        w = add(w + 8, f.tag)
        w[0] = c'"'
        w += 1
    if f.sent:
        w = add_field(w, b',"bytes":', 9, f.sent)
    if f.copied:
        w = add_field(w, b',"copy_bytes":', 14, f.copied)
    if f.error is not None:
        memcpy(w, b',"error":', 9)
        w = add(w + 9, f.error)
    if f.results is not None and len(f.results) > 2:
        memcpy(w, b',"results":', 11)
        w = add(w + 11, f.results)
    if f.first_us >= 0:
        w = add_field(w, b',"first_row_us":', 16, <uint64_t>f.first_us)
    if f.binary is not None:
        memcpy(w, b',"parameter_bytes":', 19)
        w = add(w + 19, f.binary)
    w = add(w, wire)
    if f.protected:
        memcpy(w, b',"protected":{', 14)
        w = add_protected(w + 14, f)
    if w == b.data:
        return "{}"
    b.data[0] = c'{'
    w[0] = c'}'
    return PyUnicode_DecodeUTF8(<char*>b.data, w + 1 - b.data, NULL)


def store_rows(list items, dict sessions, dict definitions, store):
    cdef list values = []
    cdef Buffer b
    cdef Finished f
    memset(&b, 0, sizeof(b))
    try:
        for item in items:
            if type(item) is not Finished:
                values.extend(store.row(item))
                continue
            f = <Finished>item
            session = sessions.get(f.session)
            if session is None:
                session = sessions[f.session] = store.session(f.session.id, f.session.who)
            definition = definitions.get(f.definition)
            if definition is None:
                definition = definitions[f.definition] = store.definition(f.definition.info)
            if f.sqlstate is not None:
                store.mark("sqlstate", f.sqlstate, session, f.seq)
            values.append(session)
            values.append(f.seq)
            values.append(f.wall)
            values.append(definition)
            values.append(f.outcome)
            values.append(<int64_t>f.rows)
            values.append(<int64_t>f.duration_us)
            values.append(detail_of(&b, f))
        return values
    finally:
        buffer_free(&b)
