# Commands in, events out: two bounded single-producer single-consumer rings of pointers and an eventfd each way.

cdef enum:
    RING_ROOM = 65536           # more than sessions x what one can have under way at once

cdef struct Ring:
    uint64_t head               # written by the consumer
    uint8_t apart[56]           # head and tail on cache lines of their own
    uint64_t tail               # written by the producer
    uint8_t apart_too[56]
    Message* slots[65536]

cdef enum:                      # commands, then events
    COMMAND_ADOPT
    COMMAND_DECIDE
    COMMAND_PROBE
    COMMAND_NOTICE
    COMMAND_NOTE
    COMMAND_CANCEL
    COMMAND_CANCEL_DONE
    COMMAND_KILL
    COMMAND_CONTEXT
    COMMAND_DROP_CONTEXT
    COMMAND_SET_CONTEXT
    COMMAND_SEGMENT
    COMMAND_LIMITS
    EVENT_VERDICT
    EVENT_PROBE
    EVENT_CANCEL
    EVENT_CATALOG
    EVENT_CLOSED
    EVENT_WITHDRAWN
    EVENT_SEGMENT
    EVENT_UNSYNCED
    EVENT_SEALED

cdef struct Message:
    int kind
    uint64_t session
    uint64_t serial
    int64_t a
    int64_t b
    int64_t c
    void* p                     # owned by the message, freed with it unless taken
    Buffer x                    # three byte strings; each command and event says what they hold
    Buffer y
    Buffer z


cdef Message* message_new(int kind, uint64_t session) noexcept nogil:
    cdef Message* m = <Message*>calloc(1, sizeof(Message))
    if m != NULL:
        m.kind = kind
        m.session = session
    return m


cdef void message_free(Message* m) noexcept nogil:
    buffer_free(&m.x)
    buffer_free(&m.y)
    buffer_free(&m.z)
    free(m)


cdef bint ring_push(Ring* q, Message* m) noexcept nogil:
    cdef uint64_t tail = q.tail
    if tail - hf_load_acquire64(&q.head) >= RING_ROOM:
        return False
    q.slots[tail & (RING_ROOM - 1)] = m
    hf_store_release64(&q.tail, tail + 1)
    return True


cdef Message* ring_pop(Ring* q) noexcept nogil:
    cdef uint64_t head = q.head
    cdef Message* m
    if head == hf_load_acquire64(&q.tail):
        return NULL
    m = q.slots[head & (RING_ROOM - 1)]
    hf_store_release64(&q.head, head + 1)
    return m


cdef void wake(int fd) noexcept nogil:
    cdef uint64_t one = 1
    c_write(fd, &one, 8)


cdef void post(State* r, Message* m) noexcept nogil:
    """An event for the front. The ring is larger than all sessions' events together, so a full one is our own bug."""
    if m == NULL:
        return
    if not ring_push(r.events, m):
        message_free(m)
        return
    wake(r.event_fd)


cdef struct Adoption:           # what travels with COMMAND_ADOPT beside the descriptors
    SSL* client_ssl
    SSL* upstream_ssl
    uint8_t status
    int64_t capture_max
    Buffer from_upstream

cdef struct Decided:            # what travels with COMMAND_DECIDE beside label, error and copy plan
    uint8_t action
    uint16_t flags
    int32_t zero_origin
    bint cache
    int64_t limit_ns
    Buffer free_at              # uint32: places of constants that do not matter
    Buffer sent                 # the text that goes upstream instead of the client's; empty: the client's
    Buffer sent_types           # and its parameter types


cdef void decided_free(Decided* d) noexcept nogil:
    buffer_free(&d.free_at)
    buffer_free(&d.sent)
    buffer_free(&d.sent_types)
    free(d)
