/* What Cython cannot say: unaligned big-endian access, CRC32C by instruction, atomics, clocks, debug assertions. */
#ifndef HF_NATIVE_H
#define HF_NATIVE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HF_DEBUG
#define HF_ASSERT(x)                                                                                                   \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "hoopfast core: assertion failed: %s (%s:%d)\n", #x, __FILE__, __LINE__);                  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)
#else
#define HF_ASSERT(x) ((void)0)
#endif

static inline uint32_t hf_be32(const void *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
static inline uint16_t hf_be16(const void *p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
static inline void hf_put_be32(void *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
static inline void hf_put_be16(void *p, uint16_t v) { v = __builtin_bswap16(v); memcpy(p, &v, 2); }

static inline void hf_store_release32(void *p, uint32_t v) { __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELEASE); }
static inline uint64_t hf_load_acquire64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void hf_store_release64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

static inline void hf_add_relaxed64(uint64_t *p, uint64_t v) { __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }

static inline int64_t hf_clock(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* 64-bit multiply-mix hash, seeded per process: keys come from clients, so a fixed seed would invite collisions. */
static inline uint64_t hf_mix(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}
static inline uint64_t hf_hash(const void *data, size_t n, uint64_t seed) {
    const uint8_t *p = (const uint8_t *)data;
    uint64_t h = seed ^ 0x9e3779b97f4a7c15ULL ^ n, a, b;
    while (n >= 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = hf_mix(a ^ 0xa0761d6478bd642fULL ^ h, b ^ 0xe7037ed1a0b428dbULL);
        p += 16;
        n -= 16;
    }
    a = b = 0;
    if (n) memcpy(&a, p, n > 8 ? 8 : n);
    if (n > 8) memcpy(&b, p + 8, n - 8);
    return hf_mix(h ^ a ^ 0x8ebc6af09c88c6e3ULL, b ^ 0x589965cc75374cc3ULL ^ h);
}

static uint32_t hf_crc_table[256];
static int hf_crc_ready;
static void hf_crc_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        hf_crc_table[i] = c;
    }
    hf_crc_ready = 1;
}
static uint32_t hf_crc_soft(uint32_t crc, const uint8_t *p, size_t n) {
    while (n--) crc = (crc >> 8) ^ hf_crc_table[(crc ^ *p++) & 255];
    return crc;
}
#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t hf_crc_hard(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t c = crc, v;
    while (n >= 8) {
        memcpy(&v, p, 8);
        c = __builtin_ia32_crc32di(c, v);
        p += 8;
        n -= 8;
    }
    crc = (uint32_t)c;
    while (n--) crc = __builtin_ia32_crc32qi(crc, *p++);
    return crc;
}
#endif
static inline uint32_t hf_crc32c(const void *data, size_t n) {
    uint32_t crc = 0xffffffffu;
    if (!hf_crc_ready) hf_crc_init();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~hf_crc_hard(crc, (const uint8_t *)data, n);
#endif
    return ~hf_crc_soft(crc, (const uint8_t *)data, n);
}

#endif
