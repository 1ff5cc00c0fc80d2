/*
 * tls.c - OpenSSL behind the byte operations of a stream
 *
 * SSL_MODE_RELEASE_BUFFERS gives the record buffers back while nothing is under way.  Read-ahead takes a
 * record with one system call instead of two; what it took too much of waits inside OpenSSL, where the loop
 * cannot see it: stream_is_pending().
 */
#include "proxy/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

static const unsigned char ALPN[] = "\012postgresql";
#define ALPN_LEN (sizeof(ALPN) - 1)

struct tls_context {
    SSL_CTX *ctx;
};

const char *tls_problem(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    return reason != NULL ? reason : "connection lost";
}

/* A client that speaks another protocol and was led here must not be answered. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned int in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    for (unsigned int i = 0; i + ALPN_LEN <= in_len; i += in[i] + 1u) {
        if (memcmp(in + i, ALPN, ALPN_LEN) != 0)
            continue;
        *out = in + i + 1;
        *out_len = ALPN_LEN - 1;
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Never asks a terminal for the password of a key. */
static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static int load_files(SSL_CTX *ctx, const char *cert_path, const char *key_path, struct err *err)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cert_path) != 1) {
        err_set(err, ERR_INVALID,
                "cannot read the certificate %s; give a PEM file that this process may read", cert_path);
        return err_detail(err, "%s", tls_problem());
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1) {
        err_set(err, ERR_INVALID,
                "cannot use the private key %s; give the unencrypted PEM key of the certificate", key_path);
        return err_detail(err, "%s", tls_problem());
    }
    return 0;
}

struct tls_context *tls_context_new(const char *cert_path, const char *key_path, struct err *err)
{
    struct tls_context *t = xcalloc(1, sizeof(*t));

    ERR_clear_error();
    t->ctx = SSL_CTX_new(TLS_server_method());
    if (t->ctx == NULL || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1) {
        err_set(err, ERR_INTERNAL, "TLS is not available");
        err_detail(err, "%s", tls_problem());
        tls_context_free(t);
        return NULL;
    }
    SSL_CTX_set_default_passwd_cb(t->ctx, no_password);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                    SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(t->ctx, 0);
    SSL_CTX_set_read_ahead(t->ctx, 1);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_alpn, NULL);
    if (load_files(t->ctx, cert_path, key_path, err) < 0) {
        tls_context_free(t);
        return NULL;
    }
    return t;
}

void tls_context_free(struct tls_context *t)
{
    if (t == NULL)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

/* What an SSL_* call that did not succeed means for the loop.  A read that has to write first leaves
 * s->starved. */
static ssize_t tls_result(struct stream *s, int ret, bool reading)
{
    switch (SSL_get_error(s->tls, ret)) {
    case SSL_ERROR_WANT_READ:
        return STREAM_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        s->starved = reading;
        return STREAM_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return reading ? STREAM_END : STREAM_FAILED;
    default:
        s->failed = true; /* OpenSSL must not be asked to write after a fatal error */
        return STREAM_FAILED;
    }
}

static ssize_t tls_read(struct stream *s, void *data, size_t len)
{
    size_t n;
    int ret;

    ERR_clear_error();
    s->starved = false;
    ret = SSL_read_ex(s->tls, data, len, &n);
    return ret == 1 ? (ssize_t)n : tls_result(s, ret, true);
}

static ssize_t tls_write(struct stream *s, const void *data, size_t len)
{
    size_t n;
    int ret;

    ERR_clear_error();
    ret = SSL_write_ex(s->tls, data, len, &n);
    return ret == 1 ? (ssize_t)n : tls_result(s, ret, false);
}

static void tls_finish(struct stream *s)
{
    ERR_clear_error();
    SSL_shutdown(s->tls);
    shutdown(s->fd, SHUT_WR);
}

static void tls_release(struct stream *s)
{
    SSL_free(s->tls);
    s->tls = NULL;
}

static bool tls_pending(const struct stream *s)
{
    return SSL_has_pending(s->tls) == 1;
}

static const struct stream_ops TLS = {
    .read = tls_read,
    .write = tls_write,
    .finish = tls_finish,
    .release = tls_release,
    .pending = tls_pending,
};

int tls_begin(struct stream *s, struct tls_context *t)
{
    SSL *ssl = SSL_new(t->ctx);

    ERR_clear_error();
    if (ssl == NULL || SSL_set_fd(ssl, s->fd) != 1) {
        SSL_free(ssl);
        return -1;
    }
    SSL_set_accept_state(ssl);
    s->tls = ssl;
    s->ops = &TLS;
    s->failed = true; /* until the handshake is done there is nothing to write to */
    return 0;
}

int tls_handshake(struct stream *s, unsigned *ret_events)
{
    int ret;

    ERR_clear_error();
    ret = SSL_do_handshake(s->tls);
    if (ret == 1) {
        s->failed = false;
        return 1;
    }
    switch (SSL_get_error(s->tls, ret)) {
    case SSL_ERROR_WANT_READ:
        *ret_events = LOOP_READ;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        *ret_events = LOOP_WRITE;
        return 0;
    default:
        return -1;
    }
}

const char *tls_server_name(const struct stream *s)
{
    return s->tls != NULL ? SSL_get_servername(s->tls, TLSEXT_NAMETYPE_host_name) : NULL;
}

bool tls_has_alpn(const struct stream *s)
{
    const unsigned char *name;
    unsigned int len;

    SSL_get0_alpn_selected(s->tls, &name, &len);
    return len == ALPN_LEN - 1 && memcmp(name, ALPN + 1, len) == 0;
}
