# The fuzzer's engine: inputs that reached something new are kept and changed again. No Python objects in the loop, except
# for targets that call Python.
#
# An input is a script: operations of one byte, a two-byte length (little-endian) and so many bytes. What an operation
# means is the target's business. Mutations work on whole operations as well as on bytes, so that long conversations
# survive them.

cdef extern from "world.h" nogil:
    enum:
        WORLD_CLIENT, WORLD_UPSTREAM, SENDS_ALL
    struct world_end:
        int ended
        int sends
        size_t at
        size_t end
    void world_reset()
    void world_put(int fd, const uint8_t* p, size_t n)
    int world_sent(int fd, const void* needle, size_t n)
    int world_find(const void* where, size_t size, const void* needle, size_t n)
    world_end* world_of(int fd)
    void cover_start()
    uint32_t cover_new()
    void cover_add(uint32_t at)
    void abort()

cdef extern from "<sys/mman.h>" nogil:
    enum:
        MAP_PRIVATE, MAP_ANONYMOUS

cdef extern from "<stdio.h>" nogil:
    int c_fprintf "fprintf"(void* stream, const char* format, ...)
    void* c_stderr "stderr"

cdef enum:
    INPUT_MAX = 4096
    KEPT_MAX = 65536

cdef struct Input:
    uint32_t n
    uint8_t bytes[4096]

cdef struct Engine:
    Input** kept
    uint32_t n_kept
    uint64_t state              # of the generator
    const uint8_t** words       # dictionary
    uint32_t* word_lengths
    uint32_t n_words
    uint64_t runs
    uint64_t features
    uint64_t* board             # shared with the parent: runs, length and bytes of the input under way

cdef Engine ENGINE
cdef uint32_t[8] NUMBERS = [0, 1, 4, 0x7FFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]

cdef int (*TARGET)(const uint8_t* p, size_t n) except -1 nogil


cdef inline uint32_t dice(uint32_t sides) noexcept nogil:
    """xorshift: reproducible by seed, and the same on every machine."""
    ENGINE.state ^= ENGINE.state << 13
    ENGINE.state ^= ENGINE.state >> 7
    ENGINE.state ^= ENGINE.state << 17
    return <uint32_t>((ENGINE.state >> 16) % sides) if sides else 0


cdef inline size_t operation(const uint8_t* p, size_t at, size_t n, size_t* length) noexcept nogil:
    """Where the next operation begins; `length` is what this one has of its bytes. n at the end."""
    cdef size_t announced
    if n - at < 3:
        length[0] = 0
        return n
    announced = p[at + 1] | (<size_t>p[at + 2] << 8)
    length[0] = announced if announced < n - at - 3 else n - at - 3
    return at + 3 + length[0]


cdef size_t operations(const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t at = 0, count = 0, length
    while at < n:
        at = operation(p, at, n, &length)
        count += 1
    return count


cdef size_t nth_operation(const uint8_t* p, size_t n, size_t which) noexcept nogil:
    cdef size_t at = 0, length
    while which and at < n:
        at = operation(p, at, n, &length)
        which -= 1
    return at


cdef void insert_bytes(Input* x, size_t at, const uint8_t* p, size_t n) noexcept nogil:
    if x.n + n > INPUT_MAX:
        return
    memmove(x.bytes + at + n, x.bytes + at, x.n - at)
    memcpy(x.bytes + at, p, n)
    x.n += <uint32_t>n


cdef void remove_bytes(Input* x, size_t at, size_t n) noexcept nogil:
    memmove(x.bytes + at, x.bytes + at + n, x.n - at - n)
    x.n -= <uint32_t>n


cdef void mutate_operations(Input* x) noexcept nogil:
    """Repeat, drop, move or borrow whole operations."""
    cdef size_t count = operations(x.bytes, x.n), a, b, length
    cdef uint8_t copied[4096]
    cdef Input* other
    if count == 0:
        return
    a = nth_operation(x.bytes, x.n, dice(<uint32_t>count))
    b = operation(x.bytes, a, x.n, &length)
    if dice(3) == 0 and b < x.n:
        b = operation(x.bytes, b, x.n, &length)
    if dice(3) == 0:
        if b - a < x.n:
            remove_bytes(x, a, b - a)
        return
    if dice(2) == 0:
        memcpy(copied, x.bytes + a, b - a)
        length = b - a
    else:
        other = ENGINE.kept[dice(ENGINE.n_kept)]
        count = operations(other.bytes, other.n)
        if count == 0:
            return
        a = nth_operation(other.bytes, other.n, dice(<uint32_t>count))
        b = nth_operation(other.bytes + a, other.n - a, 1 + dice(4)) + a
        memcpy(copied, other.bytes + a, b - a)
        length = b - a
    count = operations(x.bytes, x.n)
    insert_bytes(x, nth_operation(x.bytes, x.n, dice(<uint32_t>count + 1)), copied, length)


cdef void resize_operation(Input* x) noexcept nogil:
    """Let one operation's bytes grow or shrink, its length with them."""
    cdef size_t count = operations(x.bytes, x.n), at, length, cut
    cdef uint8_t more[16]
    cdef uint32_t i, n
    if count == 0:
        return
    at = nth_operation(x.bytes, x.n, dice(<uint32_t>count))
    operation(x.bytes, at, x.n, &length)
    if x.n - at < 3:
        return
    if dice(2) and length:
        cut = 1 + dice(<uint32_t>(length if length < 16 else 16))
        remove_bytes(x, at + 3 + dice(<uint32_t>(length - cut + 1)), cut)
        length -= cut
    elif ENGINE.n_words and dice(2):
        i = dice(ENGINE.n_words)
        if x.n + ENGINE.word_lengths[i] <= INPUT_MAX:
            insert_bytes(x, at + 3 + dice(<uint32_t>length + 1), ENGINE.words[i], ENGINE.word_lengths[i])
            length += ENGINE.word_lengths[i]
    else:
        n = 1 + dice(16)
        for i in range(n):
            more[i] = <uint8_t>dice(256)
        if x.n + n <= INPUT_MAX:
            insert_bytes(x, at + 3 + dice(<uint32_t>length + 1), more, n)
            length += n
    x.bytes[at + 1] = <uint8_t>length
    x.bytes[at + 2] = <uint8_t>(length >> 8)


cdef void mutate_bytes(Input* x) noexcept nogil:
    cdef uint32_t at, i
    if x.n == 0:
        return
    at = dice(x.n)
    i = dice(6)
    if i == 0:
        x.bytes[at] ^= <uint8_t>(1 << dice(8))
    elif i == 1:
        x.bytes[at] = <uint8_t>dice(256)
    elif i == 2:
        x.bytes[at] = <uint8_t>(x.bytes[at] + dice(9) - 4)
    elif i == 3 and x.n - at >= 4:
        hf_put_be32(x.bytes + at, NUMBERS[dice(8)])
    elif i == 4 and x.n - at >= 2:
        hf_put_be16(x.bytes + at, <uint16_t>(0xFFFF if dice(2) else dice(4)))
    elif ENGINE.n_words:
        i = dice(ENGINE.n_words)
        if ENGINE.word_lengths[i] <= x.n - at:
            memcpy(x.bytes + at, ENGINE.words[i], ENGINE.word_lengths[i])


cdef void mutate(Input* x) noexcept nogil:
    cdef uint32_t rounds = 1 << dice(5), i
    while rounds:
        rounds -= 1
        i = dice(4)
        if i == 0:
            mutate_operations(x)
        elif i == 1:
            resize_operation(x)
        else:
            mutate_bytes(x)


cdef bint keep_input(const Input* x) noexcept nogil:
    cdef Input* copy
    if ENGINE.n_kept == KEPT_MAX:
        return False
    copy = <Input*>malloc(sizeof(Input))
    if copy == NULL:
        return False
    memcpy(copy, x, sizeof(Input))
    ENGINE.kept[ENGINE.n_kept] = copy
    ENGINE.n_kept += 1
    return True


cdef int try_input(const Input* x, bint always) except -1 nogil:
    """Run one input; what reaches something new is kept."""
    cdef uint32_t found
    ENGINE.runs += 1
    ENGINE.board[0] = ENGINE.runs
    ENGINE.board[1] = x.n
    memcpy(ENGINE.board + 2, x.bytes, x.n)
    cover_start()
    TARGET(x.bytes, x.n)
    found = cover_new()
    ENGINE.features += found
    if found or always:
        keep_input(x)
    return 0


cdef int fuzz_until(int64_t deadline_ns) except -1 nogil:
    cdef Input x
    cdef Input* from_
    while hf_clock(CLOCK_MONOTONIC) < deadline_ns:
        # Half of the time what was found lately: it is the least explored.
        if dice(2) and ENGINE.n_kept > 64:
            from_ = ENGINE.kept[ENGINE.n_kept - 1 - dice(64)]
        else:
            from_ = ENGINE.kept[dice(ENGINE.n_kept)]
        memcpy(&x, from_, sizeof(Input))
        mutate(&x)
        try_input(&x, False)
    return 0
