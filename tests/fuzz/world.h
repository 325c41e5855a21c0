/* The world that a fuzzed core lives in: sockets are queues in memory, coverage is counted, output is searched.

   Included before everything else (-include), so that the core's own calls of recv, send and the like come here. */
#ifndef HF_WORLD_H
#define HF_WORLD_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define NO_COVERAGE __attribute__((no_sanitize_coverage, no_sanitize_address, no_sanitize_undefined))

/* ---------------------------------------------------------------- coverage: edges, counted in the manner of AFL */

enum { COVER_ROOM = 1 << 16, COVER_TOUCHED_MAX = 1 << 15 };
static uint8_t cover_hits[COVER_ROOM];
static uint32_t cover_touched[COVER_TOUCHED_MAX];
static uint32_t cover_n;
static uintptr_t cover_before;
static uint8_t cover_seen[COVER_ROOM]; /* one bit per power of two of hits */

NO_COVERAGE static inline void cover_add(uint32_t at) {
    at &= COVER_ROOM - 1;
    if (cover_hits[at] == 0 && cover_n < COVER_TOUCHED_MAX) cover_touched[cover_n++] = at;
    if (cover_hits[at] != 255) cover_hits[at]++;
}

/* gcc's -fsanitize-coverage=trace-pc calls this at every basic block. */
NO_COVERAGE void __sanitizer_cov_trace_pc(void) {
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    cover_add((uint32_t)(here ^ (here >> 16) ^ cover_before));
    cover_before = here << 1;
}

NO_COVERAGE static void cover_start(void) {
    uint32_t i;
    for (i = 0; i < cover_n; i++) cover_hits[cover_touched[i]] = 0;
    cover_n = 0;
    cover_before = 0;
}

/* How many (edge, magnitude of hits) were seen for the first time since cover_start. */
NO_COVERAGE static uint32_t cover_new(void) {
    uint32_t i, found = 0;
    for (i = 0; i < cover_n; i++) {
        uint8_t hits = cover_hits[cover_touched[i]];
        uint8_t bit = (uint8_t)(1u << (hits > 127 ? 7 : 31 - __builtin_clz(hits)));
        if (!(cover_seen[cover_touched[i]] & bit)) {
            cover_seen[cover_touched[i]] |= bit;
            found++;
        }
    }
    return found;
}

/* ---------------------------------------------------------------- two sockets */

enum { WORLD_CLIENT = 100000, WORLD_UPSTREAM = 100001, WORLD_IN = 1 << 20, WORLD_OUT = 1 << 20 };
enum { SENDS_ALL, SENDS_NOTHING, SENDS_SOME, SENDS_BREAK };

struct world_end {
    uint8_t in[WORLD_IN];
    size_t at, end;
    int ended;
    int sends;
    uint8_t out[WORLD_OUT]; /* what was sent to it, as far as it fits */
    size_t out_n;
};
static struct world_end world_ends[2];

static struct world_end *world_of(int fd) {
    return fd == WORLD_CLIENT ? &world_ends[0] : fd == WORLD_UPSTREAM ? &world_ends[1] : NULL;
}

static void world_reset(void) {
    int i;
    for (i = 0; i < 2; i++) {
        world_ends[i].at = world_ends[i].end = world_ends[i].out_n = 0;
        world_ends[i].ended = world_ends[i].sends = 0;
    }
}

static void world_put(int fd, const uint8_t *p, size_t n) {
    struct world_end *e = world_of(fd);
    if (n > WORLD_IN - e->end) n = WORLD_IN - e->end;
    memcpy(e->in + e->end, p, n);
    e->end += n;
}

static ssize_t world_recv(int fd, void *to, size_t n, int flags) {
    struct world_end *e = world_of(fd);
    (void)flags;
    if (e == NULL) { errno = EBADF; return -1; }
    if (e->at == e->end) {
        if (e->ended) return 0;
        errno = EAGAIN;
        return -1;
    }
    if (n > e->end - e->at) n = e->end - e->at;
    memcpy(to, e->in + e->at, n);
    e->at += n;
    return (ssize_t)n;
}

static ssize_t world_send(int fd, const void *p, size_t n, int flags) {
    struct world_end *e = world_of(fd);
    size_t kept;
    (void)flags;
    if (e == NULL) { errno = EBADF; return -1; }
    if (e->sends == SENDS_NOTHING) { errno = EAGAIN; return -1; }
    if (e->sends == SENDS_BREAK) { errno = EPIPE; return -1; }
    if (e->sends == SENDS_SOME) {
        if (n > 7) n = 7;
        e->sends = SENDS_NOTHING;
    }
    kept = n < WORLD_OUT - e->out_n ? n : WORLD_OUT - e->out_n;
    memcpy(e->out + e->out_n, p, kept);
    e->out_n += kept;
    return (ssize_t)n;
}

static ssize_t world_sendmsg(int fd, const struct msghdr *m, int flags) {
    ssize_t sent, total = 0;
    size_t i;
    for (i = 0; i < m->msg_iovlen; i++) {
        sent = world_send(fd, m->msg_iov[i].iov_base, m->msg_iov[i].iov_len, flags);
        if (sent < 0) return total ? total : -1;
        total += sent;
        if ((size_t)sent < m->msg_iov[i].iov_len) break;
    }
    return total;
}

static int world_sent(int fd, const void *needle, size_t n) {
    struct world_end *e = world_of(fd);
    return memmem(e->out, e->out_n, needle, n) != NULL;
}

static int world_find(const void *where, size_t size, const void *needle, size_t n) {
    return memmem(where, size, needle, n) != NULL;
}

static int world_shutdown(int fd, int how) { (void)how; return world_of(fd) ? 0 : -1; }
static int world_close(int fd) { return world_of(fd) || fd < 0 ? 0 : close(fd); }
static ssize_t world_write(int fd, const void *p, size_t n) { (void)fd; (void)p; return (ssize_t)n; }
static int world_epoll_ctl(int ep, int op, int fd, struct epoll_event *e) { (void)ep; (void)op; (void)fd; (void)e; return 0; }

#define recv world_recv
#define send world_send
#define sendmsg world_sendmsg
#define shutdown world_shutdown
#define close world_close
#define write world_write
#define epoll_ctl world_epoll_ctl

#endif
