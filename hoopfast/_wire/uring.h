/* io_uring by bare system calls: a ring of one thread, and one pool of receive buffers that the kernel picks from.
 *
 * Layouts and numbers are the kernel's, spelled out here so that old headers do; whether this kernel (and whoever guards
 * it) has them is found out by hf_ring_open. Linux 6.1 is the oldest that can: IORING_SETUP_DEFER_TASKRUN, with which
 * the kernel touches sockets and buffers only inside our own io_uring_enter. Much depends on that. */
#ifndef HF_URING_H
#define HF_URING_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

enum {
    HF_OP_POLL_ADD = 6, HF_OP_TIMEOUT = 11, HF_OP_ASYNC_CANCEL = 14, HF_OP_SEND = 26, HF_OP_RECV = 27,
    HF_SQE_BUFFER_SELECT = 1 << 5, HF_SQE_CQE_SKIP_SUCCESS = 1 << 6,
    HF_POLL_MULTI = 1 << 0, HF_RECV_MULTISHOT = 1 << 1,
    HF_CQE_BUFFER = 1 << 0, HF_CQE_MORE = 1 << 1, HF_CQE_BUFFER_SHIFT = 16,
    HF_SETUP_CQSIZE = 1 << 3, HF_SETUP_CLAMP = 1 << 4, HF_SETUP_R_DISABLED = 1 << 6, HF_SETUP_SUBMIT_ALL = 1 << 7,
    HF_SETUP_SINGLE_ISSUER = 1 << 12, HF_SETUP_DEFER_TASKRUN = 1 << 13,
    HF_FEAT_SINGLE_MMAP = 1 << 0, HF_FEAT_NODROP = 1 << 1,
    HF_ENTER_GETEVENTS = 1 << 0, HF_ENTER_REGISTERED_RING = 1 << 4,
    HF_REGISTER_PROBE = 8, HF_REGISTER_ENABLE_RINGS = 12, HF_REGISTER_RING_FDS = 20, HF_REGISTER_PBUF_RING = 22,
#ifdef HF_DEBUG                     /* so small that every queue is full sooner or later */
    HF_RING_SQ = 4, HF_RING_CQ = 8, HF_RING_BUFFERS = 4,
#else
    HF_RING_SQ = 1024, HF_RING_CQ = 8192, HF_RING_BUFFERS = 128,        /* powers of two */
#endif
    HF_RING_BUFFER_BYTES = 4096,
};
#define HF_OFF_SQES 0x10000000ULL

typedef struct {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off, addr;
    uint32_t len, op_flags;
    uint64_t user_data;
    uint16_t buf_group, personality;
    int32_t file_index;
    uint64_t pad[2];
} HfSqe;

typedef struct {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
} HfCqe;

typedef struct {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
    struct { uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved; uint64_t user_addr; } sq;
    struct { uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved; uint64_t user_addr; } cq;
} HfRingParams;

typedef struct { uint64_t addr; uint32_t len; uint16_t bid, tail; } HfRingBuffer;      /* tail: of the first entry only */
typedef struct { uint64_t ring_addr; uint32_t ring_entries; uint16_t bgid, flags; uint64_t reserved[3]; } HfBufferRegister;
typedef struct { uint32_t offset, reserved; uint64_t data; } HfRingUpdate;
typedef struct { int64_t seconds, nanoseconds; } HfTimespec;
typedef struct { uint8_t last_op, ops_len; uint16_t reserved; uint32_t reserved2[3]; struct { uint8_t op, reserved; uint16_t flags; uint32_t reserved2; } ops[64]; } HfProbe;

_Static_assert(sizeof(HfSqe) == 64 && sizeof(HfCqe) == 16 && sizeof(HfRingParams) == 120, "the kernel's layout");
_Static_assert(sizeof(HfRingBuffer) == 16 && sizeof(HfBufferRegister) == 40 && sizeof(HfProbe) == 528, "the kernel's layout");

typedef struct {
    int fd;
    int enter_fd;                   /* fd, or its index in the thread's registered rings */
    uint32_t enter_flags;
    uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask, sq_local, cq_seen;
    HfSqe *sqes;
    HfCqe *cqes;
    void *rings;
    size_t rings_size, sqes_size;
    uint8_t *buffers;
    HfRingBuffer *pool;
    uint16_t pool_tail;
    HfTimespec tick;
} HfRing;

static void hf_ring_close(HfRing *r) {
    int error = errno;
    if (r == NULL) return;
    if (r->fd >= 0) close(r->fd);
    if (r->rings != NULL) munmap(r->rings, r->rings_size);
    if (r->sqes != NULL) munmap(r->sqes, r->sqes_size);
    if (r->buffers != NULL) munmap(r->buffers, (size_t)HF_RING_BUFFERS * HF_RING_BUFFER_BYTES);
    if (r->pool != NULL) munmap(r->pool, HF_RING_BUFFERS * sizeof(HfRingBuffer));
    free(r);
    errno = error;
}

static void *hf_ring_map(size_t size, int fd, uint64_t offset) {
    void *p = fd < 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                     : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
    return p == MAP_FAILED ? NULL : p;
}

static int hf_ring_knows(int fd) {
    static const uint8_t needed[] = {HF_OP_POLL_ADD, HF_OP_TIMEOUT, HF_OP_ASYNC_CANCEL, HF_OP_SEND, HF_OP_RECV};
    HfProbe probe;
    memset(&probe, 0, sizeof probe);
    if (syscall(__NR_io_uring_register, fd, HF_REGISTER_PROBE, &probe, 64) < 0) return 0;
    for (size_t i = 0; i < sizeof needed; i++)
        if (needed[i] > probe.last_op || needed[i] >= probe.ops_len || !(probe.ops[needed[i]].flags & 1)) {
            errno = EOPNOTSUPP;
            return 0;
        }
    return 1;
}

static inline void hf_ring_give(HfRing *r, uint32_t id) {
    HfRingBuffer *b = &r->pool[r->pool_tail & (HF_RING_BUFFERS - 1)];
    b->addr = (uint64_t)(uintptr_t)(r->buffers + (size_t)id * HF_RING_BUFFER_BYTES);
    b->len = HF_RING_BUFFER_BYTES;
    b->bid = (uint16_t)id;
    r->pool_tail++;
    __atomic_store_n(&r->pool[0].tail, r->pool_tail, __ATOMIC_RELEASE);
}

static int hf_ring_map_all(HfRing *r, const HfRingParams *p) {
    uint8_t *at;
    uint32_t *array;
    HfBufferRegister pool;
    size_t sq = p->sq.array + p->sq_entries * sizeof(uint32_t), cq = p->cq.cqes + p->cq_entries * sizeof(HfCqe);
    r->rings_size = sq > cq ? sq : cq;
    r->sqes_size = p->sq_entries * sizeof(HfSqe);
    r->rings = at = hf_ring_map(r->rings_size, r->fd, 0);
    r->sqes = hf_ring_map(r->sqes_size, r->fd, HF_OFF_SQES);
    r->buffers = hf_ring_map((size_t)HF_RING_BUFFERS * HF_RING_BUFFER_BYTES, -1, 0);
    r->pool = hf_ring_map(HF_RING_BUFFERS * sizeof(HfRingBuffer), -1, 0);
    if (at == NULL || r->sqes == NULL || r->buffers == NULL || r->pool == NULL) return 0;
    r->sq_head = (uint32_t *)(at + p->sq.head);
    r->sq_tail = (uint32_t *)(at + p->sq.tail);
    r->cq_head = (uint32_t *)(at + p->cq.head);
    r->cq_tail = (uint32_t *)(at + p->cq.tail);
    r->sq_mask = p->sq_entries - 1;
    r->cq_mask = p->cq_entries - 1;
    r->cqes = (HfCqe *)(at + p->cq.cqes);
    array = (uint32_t *)(at + p->sq.array);
    for (uint32_t i = 0; i < p->sq_entries; i++) array[i] = i;
    memset(&pool, 0, sizeof pool);
    pool.ring_addr = (uint64_t)(uintptr_t)r->pool;
    pool.ring_entries = HF_RING_BUFFERS;
    if (syscall(__NR_io_uring_register, r->fd, HF_REGISTER_PBUF_RING, &pool, 1) < 0) return 0;
    for (uint32_t i = 0; i < HF_RING_BUFFERS; i++) hf_ring_give(r, i);
    return 1;
}

/* A ring that no thread has entered yet, or NULL with errno: ENOSYS, EINVAL (old kernel), EPERM (not allowed)... */
static HfRing *hf_ring_open(void) {
    HfRingParams p;
    HfRing *r = (HfRing *)calloc(1, sizeof(HfRing));
    if (r == NULL) return NULL;
    memset(&p, 0, sizeof p);
    p.cq_entries = HF_RING_CQ;
    p.flags = HF_SETUP_CQSIZE | HF_SETUP_CLAMP | HF_SETUP_R_DISABLED | HF_SETUP_SUBMIT_ALL | HF_SETUP_SINGLE_ISSUER
              | HF_SETUP_DEFER_TASKRUN;
    r->fd = (int)syscall(__NR_io_uring_setup, HF_RING_SQ, &p);
    if (r->fd >= 0) {
        errno = EOPNOTSUPP;
        if ((p.features & (HF_FEAT_SINGLE_MMAP | HF_FEAT_NODROP)) == (HF_FEAT_SINGLE_MMAP | HF_FEAT_NODROP)
            && hf_ring_knows(r->fd) && hf_ring_map_all(r, &p)) {
            r->enter_fd = r->fd;
            return r;
        }
    }
    hf_ring_close(r);
    return NULL;
}

/* The calling thread is the one that owns the ring from now on; 0, or -1 with errno. */
static int hf_ring_enable(HfRing *r) {
    HfRingUpdate own = {.offset = UINT32_MAX, .data = (uint64_t)r->fd};
    if (syscall(__NR_io_uring_register, r->fd, HF_REGISTER_ENABLE_RINGS, NULL, 0) < 0) return -1;
    /* Saves a look-up of the descriptor with every call; nothing depends on it. */
    if (syscall(__NR_io_uring_register, r->fd, HF_REGISTER_RING_FDS, &own, 1) == 1) {
        r->enter_fd = (int)own.offset;
        r->enter_flags = HF_ENTER_REGISTERED_RING;
    }
    return 0;
}

/* Hand over what was asked, and sleep until `least` completions are there (0: take what is). A ring that fails for good
 * would leave every session dumb: the process ends, and the supervisor starts another. */
static void hf_ring_enter(HfRing *r, uint32_t least) {
    uint32_t asked = r->sq_local - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
    if (syscall(__NR_io_uring_enter, r->enter_fd, asked, least, HF_ENTER_GETEVENTS | r->enter_flags, NULL, 0) >= 0) return;
    if (errno == EBUSY || errno == EAGAIN || errno == EINTR) return;        /* look at what is there, then come again */
    fprintf(stderr, "hoopfast core: io_uring_enter failed: %s\n", strerror(errno));
    abort();
}

/* An empty request, or NULL: the kernel takes none just now. hf_ring_ask makes it count. */
static inline HfSqe *hf_ring_request(HfRing *r) {
    HfSqe *s;
    if (r->sq_local - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE) > r->sq_mask) {
        hf_ring_enter(r, 0);
        if (r->sq_local - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE) > r->sq_mask) return NULL;
    }
    s = &r->sqes[r->sq_local & r->sq_mask];
    memset(s, 0, sizeof *s);
    return s;
}
static inline void hf_ring_ask(HfRing *r) {
    r->sq_local++;
    __atomic_store_n(r->sq_tail, r->sq_local, __ATOMIC_RELEASE);
}

/* Events of the descriptor by edges, again and again, until cancelled. */
static inline int hf_ring_watch(HfRing *r, int fd, uint32_t events, uint64_t mark) {
    HfSqe *s = hf_ring_request(r);
    if (s == NULL) return -1;
    s->opcode = HF_OP_POLL_ADD;
    s->fd = fd;
    s->len = HF_POLL_MULTI;
    s->op_flags = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? events << 16 | events >> 16 : events;
    s->user_data = mark;
    hf_ring_ask(r);
    return 0;
}

/* Once, when the descriptor is readable. */
static inline int hf_ring_readable(HfRing *r, int fd, uint64_t mark) {
    HfSqe *s = hf_ring_request(r);
    uint32_t events = 1;            /* POLLIN */
    if (s == NULL) return -1;
    s->opcode = HF_OP_POLL_ADD;
    s->fd = fd;
    s->op_flags = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? events << 16 | events >> 16 : events;
    s->user_data = mark;
    hf_ring_ask(r);
    return 0;
}

/* Bytes of the socket as they come, each lot in a buffer of the pool, until cancelled. */
static inline int hf_ring_receive(HfRing *r, int fd, uint64_t mark) {
    HfSqe *s = hf_ring_request(r);
    if (s == NULL) return -1;
    s->opcode = HF_OP_RECV;
    s->fd = fd;
    s->flags = HF_SQE_BUFFER_SELECT;
    s->ioprio = HF_RECV_MULTISHOT;
    s->user_data = mark;
    hf_ring_ask(r);
    return 0;
}

/* Send what the socket takes at once: it is done when hf_ring_enter has handed it over, never later. */
static inline int hf_ring_send(HfRing *r, int fd, const void *p, uint32_t n, uint64_t mark) {
    HfSqe *s = hf_ring_request(r);
    if (s == NULL) return -1;
    s->opcode = HF_OP_SEND;
    s->fd = fd;
    s->addr = (uint64_t)(uintptr_t)p;
    s->len = n;
    s->op_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    s->user_data = mark;
    hf_ring_ask(r);
    return 0;
}

/* End the request of this mark; its last completion tells. */
static inline int hf_ring_cancel(HfRing *r, uint64_t asked) {
    HfSqe *s = hf_ring_request(r);
    if (s == NULL) return -1;
    s->opcode = HF_OP_ASYNC_CANCEL;
    s->flags = HF_SQE_CQE_SKIP_SUCCESS;
    s->addr = asked;
    hf_ring_ask(r);
    return 0;
}

static inline int hf_ring_alarm(HfRing *r, int64_t nanoseconds, uint64_t mark) {
    HfSqe *s = hf_ring_request(r);
    if (s == NULL) return -1;
    r->tick.seconds = nanoseconds / 1000000000;
    r->tick.nanoseconds = nanoseconds % 1000000000;
    s->opcode = HF_OP_TIMEOUT;
    s->addr = (uint64_t)(uintptr_t)&r->tick;
    s->len = 1;
    s->user_data = mark;
    hf_ring_ask(r);
    return 0;
}

/* The next completion, copied, its place given back; 0 when there is none. */
static inline int hf_ring_next(HfRing *r, HfCqe *to) {
    if (r->cq_seen == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE)) return 0;
    *to = r->cqes[r->cq_seen & r->cq_mask];
    r->cq_seen++;
    __atomic_store_n(r->cq_head, r->cq_seen, __ATOMIC_RELEASE);
    return 1;
}

static inline const uint8_t *hf_ring_bytes(const HfRing *r, uint32_t id) {
    return r->buffers + (size_t)id * HF_RING_BUFFER_BYTES;
}

#endif
