# Journal records -> what happened: intents joined with their binds, results and outcomes. Runs in the shipper, with the
# GIL, on segments that the relay has written; what is rare goes to `slow` (audit/builder.py), which knows the schema.

cdef enum:
    SEALED = 0xFFFFFFFF
    PORTALS_MAX = 4096          # per session; a client may name portals for ever and Close is not journalled
    DESCRIBED_MAX = 256         # statements per session of which the server's description is known
    DESCRIBED_BYTES = 65536     # of one; without it values are shown as their bytes
    PARSES_MAX = 1024           # per session; a Parse that succeeds is never heard of again
    RESULTS_MAX = 16777216      # of one statement, whatever the relay captured: an event must fit in memory

cdef enum:                      # why Decoder.read came back
    READ_LIMIT
    READ_END                    # nothing more is there yet
    READ_SEALED
    READ_SHORT                  # a record that goes on after `data`
    READ_DAMAGED

cdef class Decoder:
    """The records of one worker process, in order of writing; see _wire.pyi."""

    cdef object slow
    cdef dict sessions          # number -> _Session
    cdef dict definitions       # id -> _Definition, of this segment
    cdef dict earlier           # of the segment before: most of them come again
    cdef _Definition nowhere
    cdef _Session last
    cdef bytes tag_raw, tag     # the tag before, most are alike
    cdef Buffer scratch
    cdef public bint joining    # a divided record is open
    cdef public int64_t wall    # of the last record
    cdef public list out

    def __init__(self, slow):
        self.slow = slow
        self.sessions = {}
        self.definitions = {}
        self.earlier = {}
        self.out = []
        self.nowhere = self.define(bytes(16))

    def __dealloc__(self):
        buffer_free(&self.scratch)

    # ------------------------------------------------------------ input

    def segment(self):
        if not self.joining:
            self.earlier = self.definitions
            self.definitions = {}

    def read(self, bytes data, Py_ssize_t offset, Py_ssize_t base, Py_ssize_t size, Py_ssize_t limit):
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef size_t at = offset - base, end = PyBytes_GET_SIZE(data), room = size - base
        cdef uint32_t length = 0
        cdef Py_ssize_t count = 0
        cdef int why = READ_LIMIT
        cdef const uint8_t* r
        while count < limit:
            if at + 4 > end:
                # The end of the data, or of the segment: then nothing can follow.
                length = 4 if end < room else 0
                why = READ_SEALED if at + RECORD_HEADER > room else READ_SHORT if length else READ_END
                break
            r = p + at
            length = (<const uint32_t*>r)[0]
            if length == 0:
                why = READ_END
                break
            if length == SEALED:
                why = READ_SEALED
                break
            if length < RECORD_HEADER or at + length > room:
                why = READ_DAMAGED
                break
            if at + length > end:
                why = READ_SHORT
                break
            if hf_crc32c(r + 8, length - 8) != (<const uint32_t*>(r + 4))[0]:
                why = READ_DAMAGED
                break
            if self.joining or (<const uint16_t*>(r + 10))[0]:
                self.joining = self.slow.divided(
                    (<const uint16_t*>(r + 8))[0], (<const uint16_t*>(r + 10))[0], (<const uint64_t*>(r + 16))[0],
                    (<const uint64_t*>(r + 24))[0], (<const int64_t*>(r + 32))[0], (<const int64_t*>(r + 40))[0],
                    data[at + RECORD_HEADER:at + length], base + at)
            else:
                self.one((<const uint16_t*>(r + 8))[0], (<const uint64_t*>(r + 16))[0], (<const uint64_t*>(r + 24))[0],
                         (<const int64_t*>(r + 32))[0], r + RECORD_HEADER, length - RECORD_HEADER, base + at)
            at += (length + 7) & ~7
            count += 1
        return count, base + <Py_ssize_t>at, why, length if why == READ_SHORT else 0

    def take(self, int kind, uint64_t session, uint64_t seq, int64_t wall, bytes payload, Py_ssize_t offset):
        self.one(kind, session, seq, wall, <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), offset)

    def flush(self, int64_t wall):
        for session in list(self.sessions.values()):
            self.end(<_Session>session, 0, wall, "gateway")

    cdef int one(self, int kind, uint64_t number, uint64_t seq, int64_t wall, const uint8_t* p, size_t n,
                 Py_ssize_t offset) except -1:
        if wall:
            self.wall = wall
        try:
            if kind == KIND_BIND:
                self.on_bind(number, seq, wall, p, n, offset)
            elif kind == KIND_EXECUTE:
                self.on_execute(number, seq, wall, p, n, offset)
            elif kind == KIND_OUTCOME:
                self.on_outcome(number, seq, wall, p, n, -1)
            elif kind == KIND_OUTCOME_ROWS:
                if n < 8:
                    raise ValueError(TOO_SHORT)
                self.on_outcome(number, seq, wall, p + 8, n - 8, (<const int64_t*>p)[0])
            elif kind == KIND_RESULT:
                self.on_result(number, p, n)
            elif kind == KIND_QUERY or kind == KIND_QUERY_TEXT or kind == KIND_PARSE or kind == KIND_FUNCTION:
                self.on_intent(kind, number, seq, wall, p, n, offset)
            elif kind == KIND_STATEMENT:
                self.on_statement(p, n)
            else:
                self.on_other(kind, number, seq, wall, (<const char*>p)[:n], offset)
        except self.slow.FAULTS as failure:
            what = f"a record of kind {kind} cannot be decoded: {failure}"
            self.out.append(self.slow.damage(what, number, seq, wall, offset))
        return 0

    # ------------------------------------------------------------ records

    cdef int on_bind(self, uint64_t number, uint64_t seq, int64_t wall, const uint8_t* p, size_t n,
                     Py_ssize_t offset) except -1:
        cdef _Session s = self.session(number)
        cdef const uint8_t* nul
        cdef _Bound bound
        if n < 8:
            raise ValueError(TOO_SHORT)
        nul = <const uint8_t*>memchr(p + 8, 0, n - 8)
        if nul == NULL:
            raise ValueError("its portal has no end")
        bound = _Bound.__new__(_Bound)
        bound.portal = (<const char*>p + 8)[:nul - p - 8]
        bound.seq = seq
        bound.wall = wall
        s.portals.pop(bound.portal, None)
        bound.definition = self.definition(p, number, seq, wall, offset)
        bound.body = (<const char*>p + 8)[:n - 8]
        bound.protected = EMPTY
        if bound.definition.guard is not None and bound.definition.guard.parameters:
            self.open_private(s, bound)
        s.portals[bound.portal] = bound
        if len(s.portals) > PORTALS_MAX:
            del s.portals[next(iter(s.portals))]
        return 0

    cdef int on_execute(self, uint64_t number, uint64_t seq, int64_t wall, const uint8_t* p, size_t n,
                        Py_ssize_t offset) except -1:
        cdef _Session s = self.session(number)
        cdef Finished f
        cdef _Bound bound
        cdef bytes portal
        if n < 20:
            raise ValueError(TOO_SHORT)
        f = finished(S_EXTENDED, seq, wall, self.definition(p, number, seq, wall, offset))
        portal = (<const char*>p + 20)[:n - 21] if n > 21 else EMPTY
        if portal:
            f.portal = self.text(portal)
        f.row_limit = (<const uint32_t*>(p + 16))[0]
        bound = s.portals.get(portal)
        if bound is not None and bound.seq == (<const uint64_t*>(p + 8))[0]:
            self.open_bound(s, bound)
            f.name = bound.name
            f.parameters = bound.parameters
            f.binary = bound.binary
            f.formats = bound.formats
            f.protected = bound.protected
        elif (<const uint64_t*>(p + 8))[0]:
            what = f"the parameters of this statement are lost, with record {(<const uint64_t*>(p + 8))[0]}"
            self.out.append(self.slow.damage(what, number, seq, wall, offset))
        if f.definition.guard is not None:
            self.seal_text(s, f)
        s.open[seq] = f
        return 0

    cdef int on_result(self, uint64_t number, const uint8_t* p, size_t n) except -1:
        cdef Finished f
        if n < 8:
            raise ValueError(TOO_SHORT)
        f = self.session(number).open.get((<const uint64_t*>p)[0])
        if f is None or f.captured >= RESULTS_MAX:
            return 0
        f.captured += n
        piece = (<const char*>p + 8)[:n - 8]
        if f.frames is None:
            f.frames = piece
        elif isinstance(f.frames, list):
            (<list>f.frames).append(piece)
        else:
            f.frames = [f.frames, piece]
        return 0

    cdef int on_outcome(self, uint64_t number, uint64_t seq, int64_t wall, const uint8_t* p, size_t n,
                        int64_t first_ns) except -1:
        cdef _Session s
        cdef Finished f
        cdef uint64_t intent
        cdef size_t tag_len
        cdef char how
        if n < 44:
            raise ValueError(TOO_SHORT)
        s = self.session(number)
        intent = (<const uint64_t*>p)[0]
        key = intent
        f = s.open.pop(key, None)
        if f is None:
            f = s.parses.pop(key, None)
        if f is None:
            f = self.failed_bind(s, intent)
        if f is None:
            f = finished(S_LOST, intent, wall, self.nowhere)
        f.session = s
        f.rows = (<const uint64_t*>(p + 8))[0]
        f.sent = (<const uint64_t*>(p + 16))[0]
        f.copied = (<const uint64_t*>(p + 24))[0]
        f.duration_us = <uint64_t>((<const int64_t*>(p + 32))[0] // 1000)
        f.first_us = first_ns // 1000 if first_ns >= 0 else -1
        how = <char>p[40]
        f.outcome = (O_COMPLETE if how == c'C' else O_ERROR if how == c'E' else O_DENIED if how == c'D'
                     else O_SUSPENDED if how == c'S' else O_SKIPPED if how == c'K' else O_UNKNOWN)
        tag_len = (<const uint16_t*>(p + 42))[0]
        if tag_len > n - 44:
            tag_len = n - 44
        if self.tag_raw is None or <size_t>PyBytes_GET_SIZE(self.tag_raw) != tag_len or \
                memcmp(PyBytes_AS_STRING(self.tag_raw), p + 44, tag_len):
            self.tag_raw = (<const char*>p + 44)[:tag_len]
            self.tag = self.text(self.tag_raw)
        f.tag = self.tag
        if n > 44 + tag_len:
            body = (<const char*>p + 44 + tag_len)[:n - 44 - tag_len]
            if f.definition.guard is not None and f.definition.guard.protect.error:
                f.error, f.sqlstate, secret = self.slow.private_error(body)
                f.protected += self.slow.seal(s.who, number, f.seq, f.wall, "error", secret)
            else:
                f.error, f.sqlstate = self.slow.error(body)
        if f.frames is not None:
            self.open_results(s, f)
        self.out.append(f)
        if s.parses:
            # Answers come in order: a Parse before this one has succeeded.
            for parse in [parse for parse in s.parses if parse < key]:
                del s.parses[parse]
        return 0

    cdef int on_intent(self, int kind, uint64_t number, uint64_t seq, int64_t wall, const uint8_t* p, size_t n,
                       Py_ssize_t offset) except -1:
        cdef _Session s
        cdef _Definition definition
        cdef const uint8_t* nul
        cdef Finished f
        if kind == KIND_FUNCTION:
            if n < 8:
                raise ValueError(TOO_SHORT)
            call = self.slow.call((<const char*>p + 8)[:n - 8])
            definition = self.definition(p, number, seq, wall, offset)
            title, parameters, binary = self.slow.called(call, definition.info)
            if title:
                definition = self.define(definition.payload + title)
            f = finished(S_FUNCTION, seq, wall, definition)
            f.parameters = parameters
            f.binary = binary
            s = self.session(number)
            if definition.guard is not None and definition.guard.parameters:
                f.parameters, f.binary, secret = self.slow.private_call(call, definition.info, definition.guard)
                if secret:
                    f.protected = self.slow.seal(s.who, number, seq, wall, "parameters", secret)
            s.open[seq] = f
            return 0
        s = self.session(number)
        if n < 8:
            raise ValueError(TOO_SHORT)
        definition = self.definition(p, number, seq, wall, offset)
        if kind == KIND_QUERY_TEXT:
            definition = self.define(without_text(definition) + (<const char*>p + 8)[:n - 8])
        f = finished(S_PARSE if kind == KIND_PARSE else S_SIMPLE, seq, wall, definition)
        if definition.guard is not None:
            self.seal_text(s, f)
        if kind != KIND_PARSE:
            s.open[seq] = f
            return 0
        nul = <const uint8_t*>memchr(p + 8, 0, n - 8)
        if nul == NULL:
            raise ValueError("its name has no end")
        if nul != p + 8:
            f.name = self.text((<const char*>p + 8)[:nul - p - 8])
        s.parses[seq] = f
        if len(s.parses) > PARSES_MAX:
            del s.parses[next(iter(s.parses))]
        return 0

    cdef int on_statement(self, const uint8_t* p, size_t n) except -1:
        cdef uint64_t id
        cdef _Definition known
        if n < 16:
            raise ValueError(TOO_SHORT)
        id = (<const uint64_t*>p)[0]
        key = id
        known = self.earlier.get(key)
        if known is None or <size_t>PyBytes_GET_SIZE(known.payload) != n or \
                memcmp(PyBytes_AS_STRING(known.payload), p, n):
            known = self.define((<const char*>p)[:n])
        self.definitions[key] = known
        return 0

    cdef int on_other(self, int kind, uint64_t number, uint64_t seq, int64_t wall, bytes payload,
                      Py_ssize_t offset) except -1:
        cdef _Session s
        if kind == KIND_SESSION_START:
            if not payload:
                raise ValueError(TOO_SHORT)
            s = self.adopt(number, payload)
            self.out.append(self.slow.started(s.id, s.who, seq, wall))
        elif kind == KIND_SESSION_END:
            if not payload:
                raise ValueError(TOO_SHORT)
            reason = payload[1:1 + payload[0]].decode("utf-8", "replace")
            self.end(self.session(number), seq, wall, reason)
        elif kind == KIND_NOTE:
            s = self.session(number)
            self.out.append(self.slow.note(s.id, s.who, seq, wall, payload))
        elif kind == KIND_ASIDE:
            s = self.session(number)
            self.out.append(self.slow.aside(s.id, s.who, seq, wall, payload))
        elif kind == KIND_DESCRIBED:
            self.on_described(self.session(number), payload)
        else:
            what = payload.decode() if kind == 0 else f"a record of kind {kind} is not known"
            self.out.append(self.slow.damage(what, number, seq, wall, offset))
        return 0

    cdef int on_described(self, _Session s, bytes payload) except -1:
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(payload)
        cdef size_t n = PyBytes_GET_SIZE(payload)
        if n < 15:
            raise ValueError(TOO_SHORT)
        key = (<const uint64_t*>p)[0]
        types, columns = s.described.pop(key, (EMPTY, EMPTY))
        if n <= DESCRIBED_BYTES:
            if p[8] == c't':
                types = payload[15:15 + 4 * hf_be16(p + 13)]
            else:
                columns = payload[8:]
            s.described[key] = types, columns
        if len(s.described) > DESCRIBED_MAX:
            del s.described[next(iter(s.described))]
        return 0

    # ------------------------------------------------------------ helpers

    cdef tuple described(self, _Session s, _Definition d):
        """What the server has said of a statement, if the client had asked: see _Session.described."""
        if not s.described or PyBytes_GET_SIZE(d.payload) < 8:
            return None
        key = (<const uint64_t*>PyBytes_AS_STRING(d.payload))[0]
        return s.described.get(key)

    cdef _Session session(self, uint64_t number):
        cdef _Session s = self.last
        if s is not None and s.number == number:
            return s
        s = self.sessions.get(number)
        if s is None:
            # Its start record was lost with damage: what it did is still worth keeping.
            s = self.adopt(number, EMPTY)
        self.last = s
        return s

    cdef _Session adopt(self, uint64_t number, bytes header):
        cdef _Session s = _Session.__new__(_Session)
        s.number = number
        s.id = f"{number:016x}"
        s.header = header
        s.who, s.body = self.slow.header(header)
        s.head = b',"schema":1,"session":"' + s.id.encode() + b'","seq":'
        s.open = {}
        s.parses = {}
        s.portals = {}
        s.described = {}
        self.sessions[number] = s
        self.last = None
        return s

    cdef _Definition define(self, bytes payload):
        cdef _Definition d = _Definition.__new__(_Definition)
        d.payload = payload
        d.info, d.types, d.sql, d.tail, d.guard = self.slow.define(payload)
        return d

    cdef _Definition definition(self, const uint8_t* p, uint64_t number, uint64_t seq, int64_t wall, Py_ssize_t offset):
        cdef uint64_t id = (<const uint64_t*>p)[0]
        cdef _Definition d = self.definitions.get(id)
        if d is None:
            self.out.append(self.slow.damage(f"statement {id} has no definition", number, seq, wall, offset))
            return self.nowhere
        return d

    cdef bytes text(self, bytes raw):
        """JSON text without quotes; what is not UTF-8 is replaced."""
        self.scratch.end = 0
        if not json_text(&self.scratch, <const uint8_t*>PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw)):
            return self.text(raw.decode("utf-8", "replace").encode())
        return (<char*>self.scratch.data)[:self.scratch.end] if self.scratch.end else EMPTY

    cdef int open_bound(self, _Session s, _Bound bound) except -1:
        cdef BindParts parts
        cdef const uint8_t* p
        cdef bytes types = bound.definition.types
        cdef Buffer* b = &self.scratch
        if bound.opened:
            return 0
        said = self.described(s, bound.definition)
        if said is not None and said[0]:
            types = said[0]
        p = <const uint8_t*>PyBytes_AS_STRING(bound.body)
        b.end = 0
        if json_bind(b, &parts, p, PyBytes_GET_SIZE(bound.body), <const uint8_t*>PyBytes_AS_STRING(types),
                     PyBytes_GET_SIZE(types) // 4):
            bound.parameters = (<char*>b.data)[:b.end]
            bound.name = self.text((<const char*>p + parts.name_at)[:parts.name_len]) if parts.name_len else EMPTY
            bound.formats = (<const char*>p + parts.formats_at)[:2 * parts.n_formats]
            if parts.binary:
                b.end = 0
                if not json_binary(b, &parts, p):
                    raise MemoryError
                bound.binary = (<char*>b.data)[:b.end]
        else:
            name, bound.parameters, bound.binary, bound.formats = self.slow.bind(bound.body, types)
            bound.name = self.text(name)
        bound.opened = True
        return 0

    cdef int open_private(self, _Session s, _Bound bound) except -1:
        """Takes a Bind apart at once: its values are not kept as they came."""
        said = self.described(s, bound.definition)
        name, bound.parameters, bound.binary, bound.formats, secret = self.slow.private_bind(
            bound.body, said[0] if said is not None and said[0] else bound.definition.types, bound.definition.guard)
        bound.name = self.text(name)
        if secret:
            bound.protected = self.slow.seal(s.who, s.number, bound.seq, bound.wall, "parameters", secret)
        bound.body = bound.portal + b"\0"
        bound.opened = bound.private = True
        return 0

    cdef int seal_text(self, _Session s, Finished f) except -1:
        if f.definition.guard.sql:
            f.protected = self.slow.seal(s.who, s.number, f.seq, f.wall, "sql", f.definition.guard.sql) + f.protected
        return 0

    cdef int open_results(self, _Session s, Finished f) except -1:
        cdef Buffer* b = &self.scratch
        cdef bytes frames = b"".join(f.frames) if isinstance(f.frames, list) else f.frames
        f.frames = None
        b.end = 0
        if f.kind == S_EXTENDED and frames[:1] == b"D":
            said = self.described(s, f.definition)
            if said is not None and said[1]:
                frames = with_formats(said[1], f.formats) + frames
        if f.definition.guard is not None and f.definition.guard.protect.results:
            f.results, secret = self.slow.private_results(frames, f.formats, f.sent)
            f.protected += self.slow.seal(s.who, s.number, f.seq, f.wall, "results", secret)
            return 0
        if json_results(b, &f.definition.shape, <const uint8_t*>PyBytes_AS_STRING(frames), PyBytes_GET_SIZE(frames),
                        <const uint8_t*>PyBytes_AS_STRING(f.formats), PyBytes_GET_SIZE(f.formats) // 2, f.sent):
            f.results = (<char*>b.data)[:b.end]
        else:
            f.results = self.slow.results(frames, f.formats, f.sent)
        return 0

    cdef Finished failed_bind(self, _Session s, uint64_t seq):
        """An outcome of a Bind: it was refused (a wrong value for a parameter), so its Execute never ran."""
        cdef Finished f
        cdef _Bound bound
        for each in s.portals.values():
            bound = <_Bound>each
            if bound.seq == seq:
                self.open_bound(s, bound)
                f = finished(S_EXTENDED, seq, bound.wall, bound.definition)
                f.name = bound.name
                f.portal = self.text(bound.portal)
                f.parameters = bound.parameters
                f.binary = bound.binary
                f.protected = bound.protected
                if f.definition.guard is not None:
                    self.seal_text(s, f)
                return f
        return None

    cdef int end(self, _Session s, uint64_t seq, int64_t wall, str reason) except -1:
        cdef Finished f
        del self.sessions[s.number]
        self.last = None
        for each in s.open.values():
            f = <Finished>each
            f.session = s
            f.outcome = O_UNKNOWN
            if f.frames is not None:
                self.open_results(s, f)
            self.out.append(f)
        s.open = {}
        self.out.append(self.slow.ended(s.id, s.who, seq, wall, reason))
        return 0

    # ------------------------------------------------------------ state

    def running(self, int64_t before):
        cdef _Session s
        cdef Finished f
        lines = []
        for session in self.sessions.values():
            s = <_Session>session
            for each in s.open.values():
                f = <Finished>each
                if f.wall < before:
                    f.session = s
                    lines.append(f.line())
                    f.session = None
        return lines

    @property
    def open_sessions(self):
        return len(self.sessions)

    def state(self):
        cdef _Session s
        cdef _Bound x
        cdef Finished f
        cdef dict places = {}
        cdef list payloads = []
        sessions = []
        for session in self.sessions.values():
            s = <_Session>session
            bounds = []
            for each in s.portals.values():
                x = <_Bound>each
                opened = (x.name, x.parameters, x.binary, x.formats, x.protected) if x.private else None
                bounds.append((x.seq, x.wall, self.keep_public(places, payloads, x.definition), x.body, opened))
            intents = []
            for part in (s.open, s.parses):
                for each in part.values():
                    f = <Finished>each
                    frames = f.frames if isinstance(f.frames, list) else [] if f.frames is None else [f.frames]
                    if f.definition.guard is not None and f.definition.guard.protect.results:
                        frames = []
                    intents.append((f.kind, f.seq, f.wall, self.keep_public(places, payloads, f.definition), f.row_limit,
                                    f.name, f.portal, f.parameters, f.formats, frames, f.binary, f.protected))
            described = [(id, types, columns) for id, (types, columns) in s.described.items()]
            sessions.append((s.number, s.header, bounds, intents, described))
        known = [(id, keep(places, payloads, <_Definition>d)) for id, d in self.definitions.items()]
        return payloads, known, sessions

    cdef object keep_public(self, dict places, list payloads, _Definition d):
        """`keep`, but without what is protected: a snapshot on disk outlives the segment that it was read from."""
        if d.guard is None:
            return keep(places, payloads, d)
        place = places.get((d,))
        if place is None:
            place = places[(d,)] = len(payloads)
            payloads.append(self.slow.public(d.payload, d.info, d.guard))
        return place

    def load(self, definitions, known, sessions, bint joining):
        cdef _Session s
        cdef _Bound x
        cdef Finished f
        made = [self.define(payload) for payload in definitions]
        self.definitions = {id: made[index] for id, index in known}
        self.sessions = {}
        self.last = None
        self.joining = joining
        for number, header, bounds, intents, described in sessions:
            s = self.adopt(number, header)
            s.described = {id: (types, columns) for id, types, columns in described}
            for seq, wall, index, body, opened in bounds:
                x = _Bound.__new__(_Bound)
                x.seq, x.wall, x.definition, x.body = seq, wall, made[index], body
                x.portal = body[:body.index(0)]
                x.protected = EMPTY
                if opened is not None:
                    x.name, x.parameters, x.binary, x.formats, x.protected = opened
                    x.opened = x.private = True
                s.portals[x.portal] = x
            for kind, seq, wall, index, row_limit, name, portal, parameters, formats, frames, binary, protected in intents:
                f = finished(kind, seq, wall, made[index])
                f.binary = binary
                f.row_limit, f.name, f.portal, f.parameters, f.formats = row_limit, name, portal, parameters, formats
                f.frames = frames or None
                f.protected = protected
                f.captured = sum([len(piece) + 8 for piece in frames])
                (s.parses if kind == S_PARSE else s.open)[seq] = f
