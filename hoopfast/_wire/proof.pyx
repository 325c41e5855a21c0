# Hashes of the audit trail's proof: leaves and trees as in RFC 6962 (SHA-256; leaves begin with 0, inner nodes with 1).

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_MD
    ctypedef struct EVP_MD_CTX
    const EVP_MD* EVP_sha256()
    EVP_MD_CTX* EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX* c)
    int EVP_DigestInit_ex(EVP_MD_CTX* c, const EVP_MD* md, void* engine)
    int EVP_DigestUpdate(EVP_MD_CTX* c, const void* p, size_t n)
    int EVP_DigestFinal_ex(EVP_MD_CTX* c, unsigned char* out, unsigned int* n)

cdef enum:
    HASH_BYTES = 32


cdef bint hash_prefixed(EVP_MD_CTX* c, uint8_t prefix, const uint8_t* p, size_t n, uint8_t* out) noexcept nogil:
    # The method is set once, before: naming it again costs a look-up per hash.
    return (EVP_DigestInit_ex(c, NULL, NULL) == 1 and EVP_DigestUpdate(c, &prefix, 1) == 1
            and EVP_DigestUpdate(c, p, n) == 1 and EVP_DigestFinal_ex(c, out, NULL) == 1)


cdef bint hash_lines(EVP_MD_CTX* c, const uint8_t* p, size_t n, uint8_t* out) noexcept nogil:
    cdef const uint8_t* end = p + n
    cdef const uint8_t* stop
    while p < end:
        stop = <const uint8_t*>memchr(p, c'\n', end - p)
        if stop == NULL or not hash_prefixed(c, 0, p, stop - p, out):
            return False
        out += HASH_BYTES
        p = stop + 1
    return True


cdef bint hash_tree(EVP_MD_CTX* c, uint8_t* nodes, size_t n) noexcept nogil:
    """The root of n > 0 leaves, left in the first place. A node without a neighbour goes up as it is."""
    cdef size_t i
    while n > 1:
        for i in range(n // 2):
            if not hash_prefixed(c, 1, nodes + 2 * i * HASH_BYTES, 2 * HASH_BYTES, nodes + i * HASH_BYTES):
                return False
        if n & 1:
            memmove(nodes + (n // 2) * HASH_BYTES, nodes + (n - 1) * HASH_BYTES, HASH_BYTES)
        n = n // 2 + (n & 1)
    return True


cdef EVP_MD_CTX* _hasher() except NULL:
    cdef EVP_MD_CTX* c = EVP_MD_CTX_new()
    if c == NULL or EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1:
        EVP_MD_CTX_free(c)
        raise MemoryError
    return c


def leaf_hashes(bytes lines not None):
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(lines)
    cdef size_t n = PyBytes_GET_SIZE(lines)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, HASH_BYTES * lines.count(b"\n"))
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(made)
    cdef EVP_MD_CTX* c
    cdef bint good
    if n and p[n - 1] != c'\n':
        raise ValueError("the last line has no end")
    c = _hasher()
    with nogil:
        good = hash_lines(c, p, n, out)
        EVP_MD_CTX_free(c)
    if not good:
        raise MemoryError
    return made


cdef int _lines_and_leaves(Buffer* b, bint keep, list items, encode, uint8_t* out) except -1:
    """A line at a time, hashed while the cache has it: half the cost of going through all of them again."""
    cdef EVP_MD_CTX* c = _hasher()
    cdef Moment moment
    cdef size_t at
    memset(&moment, 0, sizeof(moment))
    try:
        for item in items:
            at = b.end = b.end if keep else 0
            if type(item) is Finished:
                write_line(b, &moment, <Finished>item)
            else:
                _put(b, encode(item))
            if not hash_prefixed(c, 0, b.data + at, b.end - at, out):
                raise MemoryError
            out += HASH_BYTES
            if keep:
                _put(b, b"\n")
        return 0
    finally:
        EVP_MD_CTX_free(c)


def leaves_of(list items, encode):
    return _sealed(items, encode, False)[1]


def sealed_lines(list items, encode):
    return _sealed(items, encode, True)


cdef tuple _sealed(list items, encode, bint keep):
    cdef bytes leaves = PyBytes_FromStringAndSize(NULL, HASH_BYTES * <Py_ssize_t>len(items))
    cdef Buffer b
    memset(&b, 0, sizeof(b))
    try:
        _lines_and_leaves(&b, keep, items, encode, <uint8_t*>PyBytes_AS_STRING(leaves))
        return (_bytes(&b) if keep else b""), leaves
    finally:
        buffer_free(&b)


def merkle_root(bytes leaves not None):
    cdef size_t n = PyBytes_GET_SIZE(leaves) // HASH_BYTES
    cdef bytes nodes = PyBytes_FromStringAndSize(PyBytes_AS_STRING(leaves), PyBytes_GET_SIZE(leaves))
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(nodes)
    cdef EVP_MD_CTX* c
    cdef bint good
    if n == 0 or n * HASH_BYTES != <size_t>PyBytes_GET_SIZE(leaves):
        raise ValueError(f"{PyBytes_GET_SIZE(leaves)} bytes are no list of hashes")
    c = _hasher()
    with nogil:
        good = hash_tree(c, p, n)
        EVP_MD_CTX_free(c)
    if not good:
        raise MemoryError
    return nodes[:HASH_BYTES]
