/* What OpenSSL reads and writes through: a descriptor, and a budget for each call.
 *
 * SSL_read goes on by itself over records that hold no data (KeyUpdate, and whatever a later TLS brings) for as long as
 * they come, so one peer could keep the thread for ever. Here the descriptor looks empty once the budget is spent;
 * `empty` says whether it really is. The SSL object owns all of it.
 *
 * Who is told of new bytes by an edge may take a short read for an empty descriptor (`short_is_empty`): that saves the
 * call that would only be told so. */
#ifndef HF_TLS_IO_H
#define HF_TLS_IO_H

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

typedef struct {
    int fd;
    long budget;
    int empty;
    int ended;
    int short_is_empty;
    int dry;                /* a short read since the last hf_tls_turn */
} HfTlsIo;

static int hf_tls_read(BIO *bio, char *to, int room) {
    HfTlsIo *io = (HfTlsIo *)BIO_get_data(bio);
    ssize_t n;
    BIO_clear_retry_flags(bio);
    if (io->budget <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (io->dry) {
        io->empty = 1;
        BIO_set_retry_read(bio);
        return -1;
    }
    do n = recv(io->fd, to, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) io->budget -= n;
    if (n > 0 && n < room) io->dry = io->short_is_empty;
    if (n == 0) io->ended = 1;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        io->empty = 1;
        BIO_set_retry_read(bio);
    }
    return (int)n;
}

static int hf_tls_write(BIO *bio, const char *from, int size) {
    HfTlsIo *io = (HfTlsIo *)BIO_get_data(bio);
    ssize_t n;
    BIO_clear_retry_flags(bio);
    do n = send(io->fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) BIO_set_retry_write(bio);
    return (int)n;
}

static long hf_tls_ctrl(BIO *bio, int what, long number, void *pointer) {
    (void)number;
    (void)pointer;
    if (what == BIO_CTRL_EOF) return ((HfTlsIo *)BIO_get_data(bio))->ended;
    return what == BIO_CTRL_FLUSH;
}

static int hf_tls_destroy(BIO *bio) {
    free(BIO_get_data(bio));
    BIO_set_data(bio, NULL);
    return 1;
}

static BIO_METHOD *hf_tls_method(void) {
    static BIO_METHOD *method;      /* made once, under the GIL, and never freed */
    BIO_METHOD *made;
    if (method != NULL) return method;
    made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hoopfast");
    if (made == NULL || !BIO_meth_set_read(made, hf_tls_read) || !BIO_meth_set_write(made, hf_tls_write)
        || !BIO_meth_set_ctrl(made, hf_tls_ctrl) || !BIO_meth_set_destroy(made, hf_tls_destroy)) {
        BIO_meth_free(made);
        return NULL;
    }
    return method = made;
}

/* 1, or 0 when memory is short. The descriptor stays the caller's. */
static int hf_tls_attach(SSL *ssl, int fd) {
    BIO_METHOD *method = hf_tls_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    HfTlsIo *io = bio != NULL ? (HfTlsIo *)calloc(1, sizeof(HfTlsIo)) : NULL;
    if (io == NULL) {
        BIO_free(bio);
        return 0;
    }
    io->fd = fd;
    BIO_set_data(bio, io);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return 1;
}

static inline HfTlsIo *hf_tls_io(SSL *ssl) { return (HfTlsIo *)BIO_get_data(SSL_get_rbio(ssl)); }

static inline void hf_tls_allow(SSL *ssl, long budget) {
    HfTlsIo *io = hf_tls_io(ssl);
    io->budget = budget;
    io->empty = 0;
}
/* Before the reads of one turn. Not `short_is_empty` where the end of file is known to follow: no edge will tell of it. */
static inline void hf_tls_turn(SSL *ssl, int short_is_empty) {
    HfTlsIo *io = hf_tls_io(ssl);
    io->short_is_empty = short_is_empty;
    io->dry = 0;
}
/* Nothing more to be had until the next edge, neither from the descriptor nor from what has been read of it. */
static inline int hf_tls_is_dry(SSL *ssl) { return hf_tls_io(ssl)->dry && !SSL_has_pending(ssl); }

/* SSL_get_error looks at the thread's queue of errors, which must hold nothing old; it seldom does. */
static inline void hf_tls_no_errors(void) {
    if (ERR_peek_error() != 0) ERR_clear_error();
}

/* End of file came where TLS had not said that it would: SSL_read reports both as a close. */
static inline int hf_tls_was_cut(SSL *ssl) { return hf_tls_io(ssl)->ended; }

static inline int hf_tls_was_empty(SSL *ssl) { return hf_tls_io(ssl)->empty; }

#endif
