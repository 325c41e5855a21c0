/* A TLS 1.3 client that updates its keys, for tests/wire/test_tls.py: tls_peer FD ROUNDS
 *
 * Shakes hands on the inherited socket FD and sends ROUNDS KeyUpdates, made beforehand so that they go as fast as the
 * socket takes them (standard error says "flood" and "over"); then what stands on standard input, every byte in a record of
 * its own, behind a KeyUpdate that asks the peer for one too. Prints what it gets until the peer closes. */
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void must(int ok, const char *what) {
    if (ok == 1) return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

static void update(SSL *s, int how) {
    must(SSL_key_update(s, how), "SSL_key_update");
    must(SSL_do_handshake(s), "sending a KeyUpdate");
}

static void flood(SSL *s, int fd, long rounds) {
    BIO *wire = SSL_get_wbio(s), *memory = BIO_new(BIO_s_mem());
    BIO_up_ref(wire);
    SSL_set0_wbio(s, memory);
    while (rounds-- > 0) update(s, SSL_KEY_UPDATE_NOT_REQUESTED);
    char *data;
    long left = BIO_get_mem_data(memory, &data);
    fprintf(stderr, "flood\n");
    for (ssize_t n; left > 0; data += n, left -= n) must((n = write(fd, data, left)) > 0, "write");
    fprintf(stderr, "over\n");
    SSL_set0_wbio(s, wire);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL *s = SSL_new(context);
    must(SSL_set_fd(s, atoi(argv[1])), "SSL_set_fd");
    must(SSL_connect(s), "the handshake");
    flood(s, atoi(argv[1]), atol(argv[2]));
    char buffer[4096];
    for (int c; (c = getchar()) != EOF;) {
        update(s, SSL_KEY_UPDATE_REQUESTED);
        buffer[0] = (char)c;
        must(SSL_write(s, buffer, 1), "SSL_write");
    }
    for (int n; (n = SSL_read(s, buffer, sizeof buffer)) > 0;) {
        fwrite(buffer, 1, n, stdout);
        fflush(stdout);
    }
    SSL_shutdown(s);
    return 0;
}
