# Constants and foreign declarations. The numbers mirror hoopfast/model.py (tests/test_model.py compares them).

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen

cdef extern from "native.h" nogil:
    uint32_t hf_be32(const void* p)
    uint16_t hf_be16(const void* p)
    void hf_put_be32(void* p, uint32_t v)
    void hf_put_be16(void* p, uint16_t v)
    void hf_store_release32(void* p, uint32_t v)
    uint64_t hf_load_acquire64(const uint64_t* p)
    void hf_store_release64(uint64_t* p, uint64_t v)
    void hf_add_relaxed64(uint64_t* p, uint64_t v)
    int64_t hf_clock(int which)
    uint64_t hf_hash(const void* p, size_t n, uint64_t seed)
    uint32_t hf_crc32c(const void* p, size_t n)
    void HF_ASSERT(int x)

cdef extern from *:
    """
    #ifndef HF_BUILD
    #define HF_BUILD "release"
    #endif
    """
    const char* HF_BUILD

cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EAGAIN, EINTR

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_THREAD_CPUTIME_ID

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    enum:
        MSG_NOSIGNAL, MSG_DONTWAIT, SHUT_WR, SHUT_RDWR
    ssize_t c_recv "recv"(int fd, void* buf, size_t n, int flags)
    ssize_t c_send "send"(int fd, const void* buf, size_t n, int flags)
    ssize_t c_sendmsg "sendmsg"(int fd, const msghdr* m, int flags)
    int c_shutdown "shutdown"(int fd, int how)

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)
    ssize_t c_read "read"(int fd, void* buf, size_t n)
    ssize_t c_write "write"(int fd, const void* buf, size_t n)
    int c_fdatasync "fdatasync"(int fd)

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_RDWR, O_CREAT, O_EXCL, O_CLOEXEC
    int c_open "open"(const char* path, int flags, int mode)
    int c_posix_fallocate "posix_fallocate"(int fd, int64_t offset, int64_t n)

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED, MAP_POPULATE
    void* MAP_FAILED
    int c_madvise "madvise"(void* addr, size_t n, int advice)
    void* c_mmap "mmap"(void* addr, size_t n, int prot, int flags, int fd, int64_t offset)
    int c_munmap "munmap"(void* addr, size_t n)

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int c_epoll_create1 "epoll_create1"(int flags)
    int c_epoll_ctl "epoll_ctl"(int ep, int op, int fd, epoll_event* ev)
    int c_epoll_wait "epoll_wait"(int ep, epoll_event* evs, int n, int timeout)

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_NONBLOCK, EFD_CLOEXEC
    int c_eventfd "eventfd"(unsigned int initial, int flags)

cdef enum:                      # verdicts
    ACTION_ALLOW = 1
    ACTION_DENY = 2
    ACTION_ASK = 3

cdef enum:
    FLAG_TOUCHED = 1
    FLAG_ANY_ZERO = 2
    FLAG_CATALOG = 4
    FLAG_COPY_OUT = 8
    FLAG_SCRUB = 16
    FLAG_NAMES = 32
    FLAG_SETTLES = 64
    FLAG_REDACT = 128
    FLAG_STRICT = 256
    FLAG_PRIVATE = 512

cdef enum:                      # journal records
    KIND_SESSION_START = 1
    KIND_STATEMENT = 2
    KIND_QUERY = 3
    KIND_PARSE = 4
    KIND_BIND = 5
    KIND_EXECUTE = 6
    KIND_FUNCTION = 7
    KIND_OUTCOME = 8
    KIND_RESULT = 9
    KIND_SESSION_END = 10
    KIND_NOTE = 11
    KIND_QUERY_TEXT = 12
    KIND_OUTCOME_ROWS = 13
    KIND_ASIDE = 14
    KIND_DESCRIBED = 15
    RECORD_FLAG_MORE = 1
    RECORD_HEADER = 48
    SEGMENT_HEADER = 64

cdef enum:                      # counters, in the order of model.COUNTERS
    C_SESSIONS_OPEN
    C_SESSIONS_TOTAL
    C_ALLOW
    C_DENY
    C_ASK
    C_ERROR
    C_CACHE_HITS
    C_CACHE_MISSES
    C_CLIENT_IN
    C_CLIENT_OUT
    C_UPSTREAM_IN
    C_UPSTREAM_OUT
    C_ROWS
    C_MASKED_ROWS
    C_MASKED_CELLS
    C_JOURNAL_RECORDS
    C_JOURNAL_BYTES
    C_JOURNAL_STALLS
    C_PARKED
    C_CANCELS
    C_SCRUBBED
    C_CONTRADICTIONS
    C_WAKEUPS
    C_TRANSACTIONS
    C_STATEMENTS
    C_FUNCTIONS
    C_TEMPLATE_HITS
    C_JOURNAL_LOST
    C_JOURNAL_FAILURES
    C_BUFFER_BYTES
    C_ARENA_BYTES
    C_HELD_STATEMENTS
    C_CACHED_STATEMENTS
    C_HELD_NAMES
    C_HELD_PLANS
    C_HISTOGRAM = 64
    C_BUCKETS = 28
    C_HISTOGRAM_SUM = 92

cdef enum:                      # sizes of the relay's own working memory, bytes
    SCRATCH_BYTES = 262144
    ARENA_BYTES = 262144
    TURN_BUDGET = 524288        # per session, direction and turn
    TLS_RECORD_MAX = 8192       # libpq's asynchronous readers stall on larger ones
    TLS_RECORDS_MAX = 128       # taken in one go: a record may hold a single byte
    TLS_BUDGET = 32768          # bytes that may be read for one record with data, before others have their turn
    RECEIVE_COST_MIN = 2048     # of the turn's budget, or a peer that trickles would have the turn for itself
    IOV_MAX_OURS = 64
    EVENTS_PER_WAIT = 256
    TICK_NS = 250000000

BUILD = HF_BUILD.decode()
VOCABULARY = {
    "ACTION_ALLOW": ACTION_ALLOW, "ACTION_DENY": ACTION_DENY, "ACTION_ASK": ACTION_ASK,
    "FLAG_TOUCHED": FLAG_TOUCHED, "FLAG_ANY_ZERO": FLAG_ANY_ZERO, "FLAG_CATALOG": FLAG_CATALOG,
    "FLAG_COPY_OUT": FLAG_COPY_OUT, "FLAG_SCRUB": FLAG_SCRUB, "FLAG_NAMES": FLAG_NAMES,
    "FLAG_SETTLES": FLAG_SETTLES, "FLAG_REDACT": FLAG_REDACT, "FLAG_STRICT": FLAG_STRICT,
    "FLAG_PRIVATE": FLAG_PRIVATE,
    "KIND_SESSION_START": KIND_SESSION_START, "KIND_STATEMENT": KIND_STATEMENT, "KIND_QUERY": KIND_QUERY,
    "KIND_PARSE": KIND_PARSE, "KIND_BIND": KIND_BIND, "KIND_EXECUTE": KIND_EXECUTE, "KIND_FUNCTION": KIND_FUNCTION,
    "KIND_OUTCOME": KIND_OUTCOME, "KIND_RESULT": KIND_RESULT, "KIND_SESSION_END": KIND_SESSION_END,
    "KIND_NOTE": KIND_NOTE, "KIND_QUERY_TEXT": KIND_QUERY_TEXT, "KIND_OUTCOME_ROWS": KIND_OUTCOME_ROWS,
    "KIND_ASIDE": KIND_ASIDE, "KIND_DESCRIBED": KIND_DESCRIBED, "RECORD_FLAG_MORE": RECORD_FLAG_MORE,
    "RECORD_HEADER_BYTES": RECORD_HEADER, "JOURNAL_HEADER_BYTES": SEGMENT_HEADER, "HISTOGRAM_OFFSET": C_HISTOGRAM, "HISTOGRAM_BUCKETS": C_BUCKETS,
    "HISTOGRAM_SUM": C_HISTOGRAM_SUM,
}
COUNTER_COUNT = C_HELD_PLANS + 1
