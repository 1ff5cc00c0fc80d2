/*
 * tls.c - OpenSSL behind the byte operations of a stream
 *
 * SSL_MODE_RELEASE_BUFFERS gives the record buffers back while nothing is under way.  Read-ahead takes a
 * record with one system call instead of two; what it took too much of waits inside OpenSSL, where the loop
 * cannot see it: stream_is_pending().
 */
#include "proxy/tls.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "base/crypt.h"

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

/* The server's own certificate, and behind it those that vouch for it. */
static bool use_chain(SSL_CTX *ctx, BIO *pem)
{
    X509 *x = PEM_read_bio_X509_AUX(pem, NULL, no_password, NULL);
    bool ok = x != NULL && SSL_CTX_use_certificate(ctx, x) == 1;

    X509_free(x);
    while (ok && (x = PEM_read_bio_X509(pem, NULL, no_password, NULL)) != NULL) {
        ok = SSL_CTX_add0_chain_cert(ctx, x) == 1;
        if (!ok)
            X509_free(x);
    }
    return ok;
}

static bool use_key(SSL_CTX *ctx, BIO *pem)
{
    EVP_PKEY *key = PEM_read_bio_PrivateKey(pem, NULL, no_password, NULL);
    bool ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;

    EVP_PKEY_free(key);
    return ok;
}

static int load(SSL_CTX *ctx, const struct tls_file *cert, const struct tls_file *key, struct err *err)
{
    CLEANUP(crypt_pem_fini) struct crypt_pem cert_pem = { 0 }, key_pem = { 0 };
    BIO *cert_bio, *key_bio;
    bool certified = false, keyed = false;

    if (crypt_pem_read(cert->fd, cert->name, &cert_pem, err) < 0 ||
        crypt_pem_read(key->fd, key->name, &key_pem, err) < 0)
        return -1;
    cert_bio = BIO_new_mem_buf(cert_pem.data, (int)cert_pem.len);
    key_bio = BIO_new_mem_buf(key_pem.data, (int)key_pem.len);
    if (cert_bio != NULL && key_bio != NULL) {
        certified = use_chain(ctx, cert_bio);
        keyed = certified && use_key(ctx, key_bio);
    }
    BIO_free(cert_bio);
    BIO_free(key_bio);
    if (keyed)
        return 0;
    err_set(err, ERR_INVALID,
            certified ? "cannot use the private key %s; give the unencrypted PEM key of the certificate"
                      : "cannot use the certificate %s; give a PEM file, the server's own first",
            certified ? key->name : cert->name);
    return err_detail(err, "%s", tls_problem());
}

struct tls_context *tls_context_new(const struct tls_file *cert, const struct tls_file *key, struct err *err)
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
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                    SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(t->ctx, 0);
    SSL_CTX_set_read_ahead(t->ctx, 1);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_alpn, NULL);
    if (load(t->ctx, cert, key, err) < 0) {
        tls_context_free(t);
        return NULL;
    }
    return t;
}

struct tls_context *tls_context_open(const char *cert_path, const char *key_path, struct err *err)
{
    static const int HOW = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    auto_fd cert = open(cert_path, HOW), key = open(key_path, HOW);

    return tls_context_new(&(struct tls_file){ cert, cert_path }, &(struct tls_file){ key, key_path }, err);
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

bool tls_binding(const struct stream *s, struct crypt_binding *ret)
{
    X509 *certificate = s->tls != NULL ? SSL_get_certificate(s->tls) : NULL;
    struct err err = ERR_INIT;
    uint8_t *der = NULL;
    int len = certificate != NULL ? i2d_X509(certificate, &der) : 0;
    bool binds = len > 0 && crypt_binding_from_der(der, (size_t)len, ret, &err) == 0;

    OPENSSL_free(der);
    return binds;
}
