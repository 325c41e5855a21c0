# OpenSSL on a non-blocking descriptor: one SSL object from the handshake (front) to the last byte (relay).

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL
    ctypedef struct SSL_CTX
    ctypedef struct SSL_METHOD
    ctypedef struct X509
    ctypedef struct X509_VERIFY_PARAM
    enum:
        SSL_FILETYPE_PEM, SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE
        SSL_ERROR_ZERO_RETURN, SSL_ERROR_SYSCALL, SSL_ERROR_SSL, TLS1_2_VERSION, TLS1_3_VERSION
        SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, SSL_MODE_RELEASE_BUFFERS
        SSL_VERIFY_FAIL_IF_NO_PEER_CERT, TLSEXT_NAMETYPE_host_name
        SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_ALERT_FATAL, X509_V_OK, SSL_SENT_SHUTDOWN, SSL_RECEIVED_SHUTDOWN
    long SSL_OP_NO_TICKET, SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_COMPRESSION, SSL_OP_IGNORE_UNEXPECTED_EOF
    const SSL_METHOD* TLS_server_method()
    const SSL_METHOD* TLS_client_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD* m)
    void SSL_CTX_free(SSL_CTX* c)
    int SSL_CTX_up_ref(SSL_CTX* c)
    int SSL_CTX_use_certificate_chain_file(SSL_CTX* c, const char* f)
    int SSL_CTX_use_PrivateKey_file(SSL_CTX* c, const char* f, int t)
    int SSL_CTX_check_private_key(SSL_CTX* c)
    int SSL_CTX_load_verify_locations(SSL_CTX* c, const char* f, const char* d)
    int SSL_CTX_set_default_verify_paths(SSL_CTX* c)
    void* SSL_load_client_CA_file(const char* f)
    void SSL_CTX_set_client_CA_list(SSL_CTX* c, void* names)
    void SSL_CTX_set_verify(SSL_CTX* c, int mode, void* cb)
    int SSL_CTX_set_min_proto_version(SSL_CTX* c, int v)
    uint64_t SSL_CTX_set_options(SSL_CTX* c, uint64_t o)
    long SSL_CTX_set_mode(SSL_CTX* c, long m)
    long SSL_CTX_set_max_send_fragment(SSL_CTX* c, long n)
    void SSL_CTX_set_read_ahead(SSL_CTX* c, int yes)
    int SSL_CTX_set_num_tickets(SSL_CTX* c, size_t n)
    int SSL_CTX_set_alpn_protos(SSL_CTX* c, const unsigned char* p, unsigned int n)
    void SSL_CTX_set_alpn_select_cb(SSL_CTX* c, int (*cb)(SSL*, const unsigned char**, unsigned char*, const unsigned char*, unsigned int, void*) noexcept nogil, void* arg)
    SSL* SSL_new(SSL_CTX* c)
    void SSL_free(SSL* s)
    void SSL_set_accept_state(SSL* s)
    void SSL_set_connect_state(SSL* s)
    int SSL_do_handshake(SSL* s)
    int SSL_read(SSL* s, void* b, int n)
    int SSL_write(SSL* s, const void* b, int n)
    int SSL_pending(const SSL* s)
    int SSL_has_pending(const SSL* s)
    int SSL_shutdown(SSL* s)
    int SSL_get_error(const SSL* s, int r)
    long SSL_get_verify_result(const SSL* s)
    const char* SSL_get_version(const SSL* s)
    const char* SSL_get_servername(const SSL* s, int kind)
    void SSL_get0_alpn_selected(const SSL* s, const unsigned char** p, unsigned int* n)
    X509* SSL_get1_peer_certificate(const SSL* s)
    int SSL_set_tlsext_host_name(SSL* s, const char* name)
    X509_VERIFY_PARAM* SSL_get0_param(SSL* s)

cdef extern from "<openssl/x509v3.h>" nogil:
    int X509_VERIFY_PARAM_set1_host(X509_VERIFY_PARAM* p, const char* name, size_t n)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM* p, const char* ip)
    const char* X509_verify_cert_error_string(long e)
    int i2d_X509(X509* x, unsigned char** out)
    void X509_free(X509* x)

cdef extern from "<openssl/err.h>" nogil:
    unsigned long ERR_get_error()
    void ERR_clear_error()
    void ERR_error_string_n(unsigned long e, char* buf, size_t n)
    const char* ERR_reason_error_string(unsigned long e)

cdef extern from "tls_io.h" nogil:
    int hf_tls_attach(SSL* s, int fd)
    void hf_tls_allow(SSL* s, long budget)
    bint hf_tls_was_empty(SSL* s)
    void hf_tls_turn(SSL* s, bint short_is_empty)
    bint hf_tls_is_dry(SSL* s)
    void hf_tls_no_errors()
    bint hf_tls_was_cut(SSL* s)


cdef str _tls_reason():
    """OpenSSL's first reason for the last failure; the queue is emptied, or it would surface in another session."""
    cdef unsigned long code = ERR_get_error()
    cdef const char* text = ERR_reason_error_string(code) if code else NULL
    ERR_clear_error()
    return (<bytes>text).decode() if text != NULL else "unknown error"


cdef int _tls_select_alpn(SSL* ssl, const unsigned char** out, unsigned char* out_len, const unsigned char* offer,
                          unsigned int n, void* arg) noexcept nogil:
    # A client that offers ALPN must offer ours, else another protocol could be talked into this port (ALPACA).
    cdef const char* ours = "postgresql"
    cdef unsigned int i = 0
    while i < n:
        if offer[i] > n - i - 1:
            return SSL_TLSEXT_ERR_ALERT_FATAL
        if offer[i] == 10 and memcmp(offer + i + 1, ours, 10) == 0:
            out[0] = offer + i + 1
            out_len[0] = 10
            return SSL_TLSEXT_ERR_OK
        i += offer[i] + 1
    return SSL_TLSEXT_ERR_ALERT_FATAL


cdef class TlsContext:
    """An OpenSSL SSL_CTX; see _wire.pyi."""

    cdef SSL_CTX* ctx
    cdef bint server
    cdef str verify

    def __cinit__(self):
        self.ctx = NULL

    def __init__(self, *, bint server, certificate=None, key=None, ca=None, str verify="none", bint insist=False,
                 str minimum="1.2", bytes alpn=b"postgresql"):
        if verify not in ("none", "ca", "full"):
            raise ValueError(f"verify is none, ca or full, not {verify!r}")
        if insist and verify == "none":
            raise ValueError("a certificate that is insisted on must be verified")
        ERR_clear_error()
        self.server = server
        self.verify = verify
        self.ctx = SSL_CTX_new(TLS_server_method() if server else TLS_client_method())
        if self.ctx == NULL:
            raise ValueError(f"TLS: {_tls_reason()}")
        SSL_CTX_set_min_proto_version(self.ctx, TLS1_3_VERSION if minimum == "1.3" else TLS1_2_VERSION)
        # A peer that sends no more, and does not say so in TLS, still gets its answers: they can be sent after this.
        SSL_CTX_set_options(self.ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION
                            | SSL_OP_IGNORE_UNEXPECTED_EOF)
        SSL_CTX_set_mode(self.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                         | SSL_MODE_RELEASE_BUFFERS)
        SSL_CTX_set_read_ahead(self.ctx, 1)
        SSL_CTX_set_max_send_fragment(self.ctx, TLS_RECORD_MAX)
        SSL_CTX_set_num_tickets(self.ctx, 0)
        self._load_files(certificate, key, ca, insist)
        if server:
            SSL_CTX_set_alpn_select_cb(self.ctx, _tls_select_alpn, NULL)
        elif alpn:
            wire = bytes([len(alpn)]) + alpn
            SSL_CTX_set_alpn_protos(self.ctx, wire, len(wire))

    cdef _load_files(self, certificate, key, ca, bint insist):
        cdef int mode = SSL_VERIFY_NONE
        if certificate:
            if SSL_CTX_use_certificate_chain_file(self.ctx, str(certificate).encode()) != 1:
                raise ValueError(f"TLS certificate {certificate}: {_tls_reason()}")
            if SSL_CTX_use_PrivateKey_file(self.ctx, str(key or certificate).encode(), SSL_FILETYPE_PEM) != 1:
                raise ValueError(f"TLS key {key or certificate}: {_tls_reason()}")
            if SSL_CTX_check_private_key(self.ctx) != 1:
                raise ValueError(f"TLS key {key} does not belong to certificate {certificate}")
        if ca:
            if SSL_CTX_load_verify_locations(self.ctx, str(ca).encode(), NULL) != 1:
                raise ValueError(f"TLS CA file {ca}: {_tls_reason()}")
            if self.server:
                # Clients choose among several certificates by the names of those who may have issued it.
                SSL_CTX_set_client_CA_list(self.ctx, SSL_load_client_CA_file(str(ca).encode()))
        elif self.verify != "none":
            SSL_CTX_set_default_verify_paths(self.ctx)
        if self.verify != "none":
            mode = SSL_VERIFY_PEER | (SSL_VERIFY_FAIL_IF_NO_PEER_CERT if insist else 0)
        SSL_CTX_set_verify(self.ctx, mode, NULL)

    def __dealloc__(self):
        if self.ctx != NULL:
            SSL_CTX_free(self.ctx)


cdef class TlsConnection:
    """One TLS session on a descriptor that it does not own; see _wire.pyi."""

    cdef SSL* ssl
    cdef TlsContext context

    def __cinit__(self):
        self.ssl = NULL

    def __init__(self, TlsContext context, int fd, hostname=None):
        self.context = context
        self.ssl = SSL_new(context.ctx)
        if self.ssl == NULL or hf_tls_attach(self.ssl, fd) != 1:
            raise ConnectionError(f"TLS: {_tls_reason()}")
        if context.server:
            SSL_set_accept_state(self.ssl)
            return
        SSL_set_connect_state(self.ssl)
        if hostname:
            self._expect(hostname.encode("idna") if not hostname.isascii() else hostname.encode())
        elif context.verify == "full":
            raise ValueError("verify=full needs the server's name")

    cdef _expect(self, bytes name):
        cdef X509_VERIFY_PARAM* param = SSL_get0_param(self.ssl)
        is_address = name.replace(b".", b"").isdigit() or b":" in name
        if not is_address:
            SSL_set_tlsext_host_name(self.ssl, name)
        if self.context.verify != "full":
            return
        if is_address:
            ok = X509_VERIFY_PARAM_set1_ip_asc(param, name)
        else:
            ok = X509_VERIFY_PARAM_set1_host(param, name, len(name))
        if ok != 1:
            raise ConnectionError("TLS: the server's name cannot be checked")

    cdef _live(self):
        if self.ssl == NULL:
            raise ConnectionError("this TLS connection belongs to the relay")

    def handshake(self):
        self._live()
        cdef int r
        with nogil:
            ERR_clear_error()
            hf_tls_allow(self.ssl, TLS_BUDGET)
            r = SSL_do_handshake(self.ssl)
        if r == 1:
            return "done"
        return self._want(r, "handshake")

    cdef _want(self, int r, str what):
        cdef int e = SSL_get_error(self.ssl, r)
        cdef long verdict
        if e == SSL_ERROR_WANT_READ:
            return "read" if hf_tls_was_empty(self.ssl) else "again"
        if e == SSL_ERROR_WANT_WRITE:
            return "write"
        verdict = SSL_get_verify_result(self.ssl)
        if what == "handshake" and verdict != X509_V_OK:
            raise ConnectionError(f"TLS certificate not accepted: {(<bytes>X509_verify_cert_error_string(verdict)).decode()}")
        if e == SSL_ERROR_SYSCALL or e == SSL_ERROR_ZERO_RETURN:
            ERR_clear_error()
            raise ConnectionError(f"TLS {what}: the peer closed the connection")
        raise ConnectionError(f"TLS {what}: {_tls_reason()}")

    def read(self, int n):
        self._live()
        cdef bytearray out = bytearray(n)
        cdef char* p = out
        cdef int r
        with nogil:
            ERR_clear_error()
            hf_tls_allow(self.ssl, TLS_BUDGET)
            r = SSL_read(self.ssl, p, n)
        if r > 0:
            return bytes(out[:r])
        if SSL_get_error(self.ssl, r) == SSL_ERROR_ZERO_RETURN:
            return b""
        return self._want(r, "read")

    def write(self, bytes data):
        self._live()
        cdef const char* p = data
        cdef int n = len(data)
        cdef int r
        with nogil:
            ERR_clear_error()
            r = SSL_write(self.ssl, p, n)
        if r > 0:
            return r
        return self._want(r, "write")

    def pending(self):
        self._live()
        return SSL_pending(self.ssl)

    def shutdown(self):
        if self.ssl != NULL:
            with nogil:
                ERR_clear_error()
                SSL_shutdown(self.ssl)
                ERR_clear_error()

    def version(self):
        self._live()
        return (<bytes>SSL_get_version(self.ssl)).decode()

    def server_name(self):
        self._live()
        cdef const char* name = SSL_get_servername(self.ssl, TLSEXT_NAMETYPE_host_name)
        return (<bytes>name).decode("ascii", "backslashreplace") if name != NULL else ""

    def alpn(self):
        self._live()
        cdef const unsigned char* p = NULL
        cdef unsigned int n = 0
        SSL_get0_alpn_selected(self.ssl, &p, &n)
        return (<char*>p)[:n] if n else b""

    def peer_certificate(self):
        self._live()
        cdef X509* x = SSL_get1_peer_certificate(self.ssl)
        cdef unsigned char* der = NULL
        cdef unsigned char* at
        if x == NULL:
            return b""
        n = i2d_X509(x, NULL)
        try:
            if n <= 0:
                return b""
            der = <unsigned char*>malloc(n)
            if der == NULL:
                raise MemoryError
            at = der
            i2d_X509(x, &at)
            return (<char*>der)[:n]
        finally:
            free(der)
            X509_free(x)

    cdef SSL* take(self):
        """The SSL object leaves Python: the relay frees it. It keeps its own reference to the SSL_CTX."""
        cdef SSL* s = self.ssl
        self.ssl = NULL
        return s

    def __dealloc__(self):
        if self.ssl != NULL:
            SSL_free(self.ssl)
