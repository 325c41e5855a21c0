# Keyed functions of the masks: HMAC-SHA-256 (hash), SipHash-2-4 with 128 bits (token), FF1 (NIST SP 800-38G).
#
# Keys are scheduled once, when a context is defined. Nothing here allocates afterwards.

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    /* The one-shot interfaces of OpenSSL 3 take four times as long as the digest itself, for looking themselves up. */
    #define OPENSSL_SUPPRESS_DEPRECATED
    #include <openssl/sha.h>
    #include <openssl/evp.h>
    typedef unsigned __int128 hf_u128;
    """
    ctypedef unsigned long long hf_u128         # wider than Cython knows; only C computes with it

cdef extern from "<openssl/sha.h>" nogil:
    ctypedef struct mask_sha "SHA256_CTX":
        pass
    int mask_sha_init "SHA256_Init"(mask_sha* c)
    int mask_sha_update "SHA256_Update"(mask_sha* c, const void* p, size_t n)
    int mask_sha_final "SHA256_Final"(unsigned char* digest, mask_sha* c)

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct mask_cipher "EVP_CIPHER":
        pass
    ctypedef struct mask_cipher_ctx "EVP_CIPHER_CTX":
        pass
    mask_cipher_ctx* mask_cipher_new "EVP_CIPHER_CTX_new"()
    void mask_cipher_free "EVP_CIPHER_CTX_free"(mask_cipher_ctx* c)
    const mask_cipher* mask_aes128 "EVP_aes_128_ecb"()
    const mask_cipher* mask_aes192 "EVP_aes_192_ecb"()
    const mask_cipher* mask_aes256 "EVP_aes_256_ecb"()
    int mask_cipher_init "EVP_EncryptInit_ex"(
        mask_cipher_ctx* c, const mask_cipher* cipher, void* engine, const unsigned char* key, const unsigned char* iv)
    int mask_cipher_padding "EVP_CIPHER_CTX_set_padding"(mask_cipher_ctx* c, int pad)
    int mask_cipher_update "EVP_EncryptUpdate"(
        mask_cipher_ctx* c, unsigned char* out, int* size, const unsigned char* p, int n)

cdef enum:
    MASK_KEY_BYTES = 32
    FF1_DIGITS_MAX = 56
    FF1_TWEAK_MAX = 16
    FF1_TRIES_MAX = 200         # of a walk through the numbers that do not fit; each fits with one chance in nine at worst

cdef struct MaskKeys:
    mask_sha inner              # HMAC after the key's block
    mask_sha outer
    uint64_t sip[2]
    mask_cipher_ctx* aes


cdef bint mask_keys_hmac(MaskKeys* k, const unsigned char* key) noexcept nogil:
    cdef unsigned char block[64]
    cdef size_t i
    cdef bint done
    memset(block, 0x36, 64)
    for i in range(32):
        block[i] ^= key[i]
    done = mask_sha_init(&k.inner) == 1 and mask_sha_update(&k.inner, block, 64) == 1
    memset(block, 0x5C, 64)
    for i in range(32):
        block[i] ^= key[i]
    return done and mask_sha_init(&k.outer) == 1 and mask_sha_update(&k.outer, block, 64) == 1


cdef bint mask_keys_aes(MaskKeys* k, const unsigned char* key, size_t n) noexcept nogil:
    """16, 24 or 32 bytes. The context is the keys' own: mask_keys_free."""
    k.aes = mask_cipher_new()
    return k.aes != NULL and mask_cipher_init(
        k.aes, mask_aes256() if n == 32 else mask_aes192() if n == 24 else mask_aes128(), NULL, key, NULL) == 1 and (
        mask_cipher_padding(k.aes, 0) == 1)


cdef void mask_keys_free(MaskKeys* k) noexcept nogil:
    mask_cipher_free(k.aes)
    k.aes = NULL


cdef bint mask_hmac(const MaskKeys* k, const unsigned char* p, size_t n, unsigned char* digest) noexcept nogil:
    """HMAC-SHA-256 (RFC 2104), 32 bytes."""
    cdef mask_sha c
    memcpy(&c, &k.inner, sizeof(c))
    if mask_sha_update(&c, p, n) != 1 or mask_sha_final(digest, &c) != 1:
        return False
    memcpy(&c, &k.outer, sizeof(c))
    return mask_sha_update(&c, digest, 32) == 1 and mask_sha_final(digest, &c) == 1


# ---------------------------------------------------------------- SipHash

cdef inline uint64_t sip_rotate(uint64_t x, int n) noexcept nogil:
    return (x << n) | (x >> (64 - n))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = sip_rotate(v[1], 13) ^ v[0]
    v[3] = sip_rotate(v[3], 16) ^ v[2]
    v[0] = sip_rotate(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = sip_rotate(v[1], 17) ^ v[2]
    v[3] = sip_rotate(v[3], 21) ^ v[0]
    v[2] = sip_rotate(v[2], 32)


cdef void mask_siphash(const uint64_t* key, const unsigned char* p, size_t n, unsigned char* digest) noexcept nogil:
    """SipHash-2-4 with a result of 128 bits (Aumasson and Bernstein), for machines of little-endian words."""
    cdef uint64_t v[4]
    cdef uint64_t word, last = <uint64_t>n << 56
    cdef size_t i, whole = n & ~<size_t>7
    v[0] = 0x736F6D6570736575ULL ^ key[0]
    v[1] = 0x646F72616E646F6DULL ^ key[1] ^ 0xEE
    v[2] = 0x6C7967656E657261ULL ^ key[0]
    v[3] = 0x7465646279746573ULL ^ key[1]
    i = 0
    while i < whole:
        memcpy(&word, p + i, 8)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
        i += 8
    word = 0
    for i in range(n & 7):
        last |= <uint64_t>p[whole + i] << (8 * i)
    v[3] ^= last
    sip_round(v)
    sip_round(v)
    v[0] ^= last
    v[2] ^= 0xEE
    for i in range(4):
        sip_round(v)
    word = v[0] ^ v[1] ^ v[2] ^ v[3]
    memcpy(digest, &word, 8)
    v[1] ^= 0xDD
    for i in range(4):
        sip_round(v)
    word = v[0] ^ v[1] ^ v[2] ^ v[3]
    memcpy(digest + 8, &word, 8)


# ---------------------------------------------------------------- FF1

cdef extern from *:
    """
    /* Numbers of up to 96 bits, and one of 128 modulo one of 96. */
    static inline hf_u128 hf_ff1_power(unsigned radix, size_t m) {
        hf_u128 v = 1;
        while (m--) v *= radix;
        return v;
    }
    static inline hf_u128 hf_ff1_number(const uint8_t* x, size_t n, unsigned radix) {
        hf_u128 v = 0;
        for (size_t i = 0; i < n; i++) v = v * radix + x[i];
        return v;
    }
    static inline void hf_ff1_digits(hf_u128 v, uint8_t* x, size_t n, unsigned radix) {
        if (v >> 64 == 0) {
            uint64_t w = (uint64_t)v;
            while (n--) { x[n] = (uint8_t)(w % radix); w /= radix; }
            return;
        }
        while (n--) { x[n] = (uint8_t)(v % radix); v /= radix; }
    }
    static inline size_t hf_ff1_bytes(hf_u128 limit) {      /* of limit - 1, at least one */
        size_t n = 0;
        limit -= 1;
        do { n++; limit >>= 8; } while (limit);
        return n;
    }
    static inline hf_u128 hf_ff1_add(hf_u128 a, const uint8_t* s, size_t d, hf_u128 limit) {
        hf_u128 y = 0;
        for (size_t i = 0; i < d; i++) y = y << 8 | s[i];
        if (limit >> 64 == 0 && y >> 64 == 0) y = (uint64_t)y % (uint64_t)limit;
        else y %= limit;
        a += y;
        return a >= limit ? a - limit : a;
    }
    static inline void hf_ff1_bytes_of(hf_u128 v, uint8_t* out, size_t n) {
        while (n--) { out[n] = (uint8_t)v; v >>= 8; }
    }
    """
    hf_u128 hf_ff1_power(unsigned int radix, size_t m) nogil
    hf_u128 hf_ff1_number(const uint8_t* x, size_t n, unsigned int radix) nogil
    void hf_ff1_digits(hf_u128 v, uint8_t* x, size_t n, unsigned int radix) nogil
    size_t hf_ff1_bytes(hf_u128 limit) nogil
    hf_u128 hf_ff1_add(hf_u128 a, const uint8_t* s, size_t d, hf_u128 limit) nogil
    void hf_ff1_bytes_of(hf_u128 v, uint8_t* out, size_t n) nogil


cdef inline size_t ff1_digits_most(unsigned int radix) noexcept nogil:
    """The longest value whose longer half stays below 2^96, so that a round needs one block."""
    return 56 if radix <= 10 else 48 if radix == 16 else 36 if radix == 36 else 32


cdef inline size_t ff1_digits_least(unsigned int radix) noexcept nogil:
    """The standard's least domain is a million values: fewer could be found by trying."""
    return 6 if radix <= 10 else 5 if radix == 16 else 4


cdef bint mask_ff1(
    const MaskKeys* k, unsigned int radix, const unsigned char* tweak, size_t t, uint8_t* x, size_t n
) noexcept nogil:
    """Encrypts the n digits at x, which are below `radix`, where they are. False, and x as it was, for what has no FF1 here."""
    cdef unsigned char first[16]        # the cipher of block P, the same in each round
    cdef unsigned char block[48]        # tweak, zeros, round, number
    cdef unsigned char s[16]
    cdef size_t u = n // 2, v = n - n // 2, b, q, i, at
    cdef hf_u128 left, right, sum, limit_u, limit_v
    cdef int size = 0, round
    if (radix not in (10, 16, 36, 62) or n > ff1_digits_most(radix) or n < ff1_digits_least(radix) or t > FF1_TWEAK_MAX
            or k.aes == NULL):
        return False
    limit_u = hf_ff1_power(radix, u)
    limit_v = hf_ff1_power(radix, v)
    b = hf_ff1_bytes(limit_v)
    memset(block, 0, 16)
    block[0], block[1], block[2], block[5], block[6], block[7] = 1, 2, 1, <unsigned char>radix, 10, <unsigned char>u
    block[11] = <unsigned char>n
    block[15] = <unsigned char>t
    if mask_cipher_update(<mask_cipher_ctx*>k.aes, first, &size, block, 16) != 1:
        return False
    q = (t + b + 1 + 15) // 16 * 16
    memset(block, 0, sizeof(block))
    if t:
        memcpy(block, tweak, t)
    left = hf_ff1_number(x, u, radix)
    right = hf_ff1_number(x + u, v, radix)
    for round in range(10):
        block[q - b - 1] = <unsigned char>round
        hf_ff1_bytes_of(right, block + q - b, b)
        memcpy(s, first, 16)
        at = 0
        while at < q:
            for i in range(16):
                s[i] ^= block[at + i]
            if mask_cipher_update(<mask_cipher_ctx*>k.aes, s, &size, s, 16) != 1:
                return False
            at += 16
        sum = hf_ff1_add(left, s, (b + 3) // 4 * 4 + 4, limit_v if round & 1 else limit_u)
        left = right
        right = sum
    hf_ff1_digits(left, x, u, radix)
    hf_ff1_digits(right, x + u, v, radix)
    return True


# ---------------------------------------------------------------- from Python

def ff1(bytes key, int radix, bytes tweak, digits):
    """For tests: FF1 of a list of digits, or None for what has no FF1 here. `key` has 16, 24 or 32 bytes."""
    cdef MaskKeys k
    cdef bytearray x = bytearray(digits)
    cdef bint done
    if len(key) not in (16, 24, 32) or any(digit >= radix for digit in digits):
        raise ValueError("FF1 needs a key of 16, 24 or 32 bytes, and digits below the radix")
    memset(&k, 0, sizeof(k))
    done = mask_keys_aes(&k, key, len(key)) and mask_ff1(&k, radix, tweak, len(tweak), x, len(x))
    mask_keys_free(&k)
    return list(x) if done else None


def siphash(bytes key, bytes data):
    """For tests: 16 bytes, with a key of 16."""
    cdef uint64_t words[2]
    cdef unsigned char digest[16]
    if len(key) != 16:
        raise ValueError("SipHash needs a key of 16 bytes")
    memcpy(words, <const unsigned char*>key, 16)
    mask_siphash(words, data, len(data), digest)
    return digest[:16]
