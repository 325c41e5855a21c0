# The journal: append-only records in preallocated, mapped segment files (format: docs/architecture.md).
# Written by the relay thread only. No system call per record; segments are made by the front and handed over.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef struct JournalSegment:
    uint8_t* base
    size_t size
    uint64_t number             # unique in this process, never 0: statements remember where they were defined
    int fd                      # kept for fdatasync
    char* path
    JournalSegment* next

cdef struct Journal:
    JournalSegment* current
    JournalSegment* spares      # in order of use
    int n_spares
    int wanted                  # segments asked for and not yet given
    size_t at                   # write offset in current
    JournalSegment* sealed      # left for good, to be reported
    bint dirty                  # records since the last fdatasync
    uint64_t records
    uint64_t bytes
    uint64_t lost               # records for which there was no room after all: a defect, and loud

cdef enum:
    JOURNAL_SLACK = 64          # always left at the end of a segment for the seal mark
    MADV_POPULATE_WRITE = 23
    JOURNAL_RESERVE = 2097152   # what intents leave for the outcomes of statements already running

cdef struct Part:
    const void* p
    size_t n


cdef inline size_t record_size(size_t payload) noexcept nogil:
    return (RECORD_HEADER + payload + 7) & ~<size_t>7


cdef size_t journal_room(const Journal* j) noexcept nogil:
    """Bytes that can still be written, all segments at hand together."""
    cdef size_t room = 0
    cdef JournalSegment* s = j.spares
    if j.current != NULL:
        room = j.current.size - j.at - JOURNAL_SLACK
    while s != NULL:
        room += s.size - SEGMENT_HEADER - JOURNAL_SLACK
        s = s.next
    return room


cdef inline bint journal_fits(const Journal* j, size_t bytes_needed, bint intent) noexcept nogil:
    """Whether records of this total size can be written now, headers and segment ends included."""
    cdef size_t need = bytes_needed + (bytes_needed >> 12) + 4096 + (JOURNAL_RESERVE if intent else 0)
    if j.current != NULL and j.current.size - j.at - JOURNAL_SLACK >= need:
        return True
    return journal_room(j) >= need


cdef void journal_seal(Journal* j) noexcept nogil:
    cdef JournalSegment* s = j.current
    cdef JournalSegment** last
    if s == NULL:
        return
    hf_store_release32(s.base + j.at, <uint32_t>-1)
    s.next = NULL
    last = &j.sealed
    while last[0] != NULL:
        last = &last[0].next
    last[0] = s
    j.current = NULL


cdef bint journal_advance(Journal* j) noexcept nogil:
    """Seal the current segment and start the next spare; False when there is none (then nothing changes)."""
    cdef JournalSegment* s = j.spares
    if s == NULL:
        return False
    journal_seal(j)
    j.spares = s.next
    j.n_spares -= 1
    s.next = NULL
    j.current = s
    j.at = SEGMENT_HEADER
    return True


cdef void record_write(Journal* j, uint16_t kind, uint16_t flags, uint64_t session, uint64_t seq, int64_t wall_ns,
                       int64_t mono_ns, const Part* parts, int n_parts, size_t payload) noexcept nogil:
    """One record at `at`; the caller has made sure that it fits. The length goes last: readers stop at zero."""
    cdef uint8_t* r = j.current.base + j.at
    cdef uint8_t* w = r + RECORD_HEADER
    cdef uint32_t crc
    cdef int i
    (<uint16_t*>(r + 8))[0] = kind
    (<uint16_t*>(r + 10))[0] = flags
    (<uint32_t*>(r + 12))[0] = 0
    (<uint64_t*>(r + 16))[0] = session
    (<uint64_t*>(r + 24))[0] = seq
    (<int64_t*>(r + 32))[0] = wall_ns
    (<int64_t*>(r + 40))[0] = mono_ns
    for i in range(n_parts):
        if parts[i].n:
            memcpy(w, parts[i].p, parts[i].n)
            w += parts[i].n
    crc = hf_crc32c(r + 8, RECORD_HEADER - 8 + payload)
    (<uint32_t*>(r + 4))[0] = crc
    hf_store_release32(r, <uint32_t>(RECORD_HEADER + payload))
    j.at += record_size(payload)
    j.dirty = True
    j.records += 1
    j.bytes += record_size(payload)
    HF_ASSERT(j.at + JOURNAL_SLACK <= j.current.size)


cdef void journal_put(Journal* j, uint16_t kind, uint64_t session, uint64_t seq, int64_t wall_ns, int64_t mono_ns,
                      const Part* parts, int n_parts) noexcept nogil:
    """Append a record, in several when it is larger than what is left. Call only after journal_fits said yes."""
    cdef size_t payload = 0, room, chunk, taken, part_at = 0
    cdef int i, k = 0, n
    cdef Part piece[8]
    for i in range(n_parts):
        payload += parts[i].n
    if j.current != NULL and record_size(payload) + JOURNAL_SLACK <= j.current.size - j.at:
        record_write(j, kind, 0, session, seq, wall_ns, mono_ns, parts, n_parts, payload)
        return
    if record_size(payload) + JOURNAL_SLACK + SEGMENT_HEADER <= (j.spares.size if j.spares != NULL else 0):
        journal_advance(j)
        record_write(j, kind, 0, session, seq, wall_ns, mono_ns, parts, n_parts, payload)
        return
    while True:
        if j.current == NULL or j.current.size - j.at < JOURNAL_SLACK + RECORD_HEADER + 4096:
            if not journal_advance(j):
                j.lost += 1
                return
        room = (j.current.size - j.at - JOURNAL_SLACK - RECORD_HEADER) & ~<size_t>7
        chunk = payload if payload < room else room
        taken = 0
        n = 0
        while taken < chunk:
            piece[n].p = <const uint8_t*>parts[k].p + part_at
            piece[n].n = parts[k].n - part_at
            if piece[n].n > chunk - taken:
                piece[n].n = chunk - taken
                part_at += piece[n].n
            else:
                k += 1
                part_at = 0
            taken += piece[n].n
            n += 1
        payload -= chunk
        record_write(j, kind, RECORD_FLAG_MORE if payload else 0, session, seq, wall_ns, mono_ns, piece, n, chunk)
        if payload == 0:
            return


cdef void segment_free(JournalSegment* s) noexcept nogil:
    if s == NULL:
        return
    if s.base != NULL:
        c_munmap(s.base, s.size)
    if s.fd >= 0:
        c_close(s.fd)
    free(s.path)
    free(s)


cdef class Segment:
    """One journal segment file: created, preallocated and mapped; see _wire.pyi."""

    cdef JournalSegment* s
    cdef readonly str path

    def __cinit__(self):
        self.s = NULL

    def __init__(self, str path, size_t size, uint32_t worker, uint64_t sequence):
        cdef bytes name = path.encode()
        cdef const char* c_name = name
        cdef int failed = 0
        cdef void* base = NULL
        cdef int64_t wall = hf_clock(CLOCK_REALTIME), mono = hf_clock(CLOCK_MONOTONIC)
        if size < 1 << 16 or size % 4096:
            raise ValueError("a segment has at least 64 KiB, in whole pages")
        self.path = path
        self.s = <JournalSegment*>calloc(1, sizeof(JournalSegment))
        if self.s == NULL:
            raise MemoryError
        with nogil:
            self.s.fd = c_open(c_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            if self.s.fd < 0:
                failed = errno
            else:
                failed = c_posix_fallocate(self.s.fd, 0, size)
            if not failed:
                base = c_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, self.s.fd, 0)
                if base == MAP_FAILED:
                    failed = errno
                else:
                    # Pages made writable here cost the relay no fault each; kernels before 5.14 do not know how.
                    c_madvise(base, size, MADV_POPULATE_WRITE)
        if failed:
            import os
            if self.s.fd >= 0:
                os.unlink(path)
            raise OSError(failed, f"journal segment: {os.strerror(failed)}", path)
        self.s.base = <uint8_t*>base
        self.s.size = size
        self.s.number = sequence + 1
        self.s.path = <char*>copy_bytes(c_name, len(name))
        memcpy(self.s.base, b"HFJRNL01", 8)
        (<uint32_t*>(self.s.base + 8))[0] = 1
        (<uint32_t*>(self.s.base + 12))[0] = worker
        (<uint64_t*>(self.s.base + 16))[0] = sequence
        (<int64_t*>(self.s.base + 24))[0] = wall
        (<int64_t*>(self.s.base + 32))[0] = mono
        (<uint64_t*>(self.s.base + 40))[0] = size

    cdef JournalSegment* take(self):
        cdef JournalSegment* s = self.s
        self.s = NULL
        return s

    def __dealloc__(self):
        segment_free(self.s)


def journal_cost(Segment segment, list payloads, int rounds):
    cdef Journal j
    cdef Part parts[64]
    cdef int n = len(payloads), i, k
    cdef size_t need = 0
    cdef int64_t began, took
    if segment.s == NULL or not 0 < n <= 64:
        raise ValueError("a segment that was not handed over, and up to 64 payloads")
    for i in range(n):
        parts[i].p = PyBytes_AS_STRING(payloads[i])
        parts[i].n = PyBytes_GET_SIZE(payloads[i])
        need += record_size(parts[i].n)
    if need + JOURNAL_SLACK + SEGMENT_HEADER > segment.s.size:
        raise ValueError("the payloads are larger than the segment")
    memset(&j, 0, sizeof(j))
    j.current = segment.s
    j.at = SEGMENT_HEADER
    with nogil:
        began = hf_clock(CLOCK_THREAD_CPUTIME_ID)
        for k in range(rounds):
            if j.at + need + JOURNAL_SLACK > j.current.size:
                j.at = SEGMENT_HEADER
            for i in range(n):
                journal_put(&j, KIND_NOTE, 1, k, began, began, &parts[i], 1)
        took = hf_clock(CLOCK_THREAD_CPUTIME_ID) - began
    return took / <double>rounds
