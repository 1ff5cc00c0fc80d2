/*
 * scram.c - the messages of SCRAM, read and written
 *
 *   client-first   n,,n=<user>,r=<client nonce>           header (n,, or y,, or p=tls-server-end-point,,) and
 * bare server-first   r=<both nonces>,s=<salt>,i=<iterations> client-final   c=<header and binding>,r=<both
 * nonces>,p=<proof> server-final   v=<signature>
 *
 * What both sides sign (auth) is client-first-bare, server-first and client-final without its proof, with
 * commas between.  It holds all that a message consists of, so a byte changed on the way denies the exchange.
 * Extensions are refused, known to nobody as they are; so is an authorization identity, as Postgres does.
 * The user name is that of the startup packet: the one in here is not looked at, also as Postgres does.
 */
#include "pg/scram.h"

#include "base/text.h"

/* Longer than any verifier within the bounds. */
#define VERIFIER_TEXT_MAX 256

enum scram_state {
    AWAIT_FIRST,
    AWAIT_KEYS, /* the client's own side has to go on */
    AWAIT_FINAL,
    ENDED,
};

/* What a client-first-message begins with. */
struct gs2 {
    const char *flag;
    bool binds;
    bool would_bind; /* the client can, and believes that the server cannot */
};

struct scram_server {
    struct scram_verifier verifier;
    struct crypt_binding binding; /* len 0: -PLUS was not offered */
    bool plus;                    /* chosen by the client */
    enum scram_state state;
    const struct gs2 *gs2;
    char *nonce;                /* our part of it */
    struct buf auth;            /* as far as it is known */
    size_t nonce_at, nonce_len; /* both parts, in auth */
    uint8_t client_key[SCRAM_KEY_SIZE];
};

struct scram_client {
    uint8_t server_key[SCRAM_KEY_SIZE];
    enum scram_state state;
    char *nonce;
    struct buf auth;            /* as far as it is known */
    size_t nonce_at, nonce_len; /* both parts, in auth */
    int32_t iterations;         /* as the server says */
    size_t salt_len;
    uint8_t salt[SCRAM_SALT_MAX];
};

/* --- reading
 * ------------------------------------------------------------------------------------------------------------
 */

/* Text that is not looked at yet. */
struct span {
    const char *p, *end;
};

static size_t span_len(struct span s)
{
    return (size_t)(s.end - s.p);
}

static bool span_is(struct span s, const char *text, size_t len)
{
    return span_len(s) == len && memcmp(s.p, text, len) == 0;
}

static bool span_skip(struct span *s, const char *word)
{
    size_t len = strlen(word);

    if (span_len(*s) < len || memcmp(s->p, word, len) != 0)
        return false;
    s->p += len;
    return true;
}

/* Up to the stop, which is taken too. */
static bool span_until(struct span *s, char stop, struct span *ret)
{
    const char *at = memchr(s->p, stop, span_len(*s));

    if (at == NULL)
        return false;
    *ret = (struct span){ s->p, at };
    s->p = at + 1;
    return true;
}

/* "name=value", up to a comma or the end. */
static bool span_attribute(struct span *s, const char *name, struct span *ret)
{
    const char *comma;

    if (!span_skip(s, name) || !span_skip(s, "="))
        return false;
    comma = memchr(s->p, ',', span_len(*s));
    *ret = (struct span){ s->p, comma != NULL ? comma : s->end };
    s->p = ret->end;
    return true;
}

/* Printable ASCII without commas, at which attributes end. */
static bool is_nonce(struct span s)
{
    for (const char *p = s.p; p < s.end; p++) {
        if (*p < 0x21 || *p > 0x7E)
            return false;
    }
    return span_len(s) > 0;
}

static bool read_key(struct span s, uint8_t ret[SCRAM_KEY_SIZE])
{
    size_t len;

    return crypt_unbase64(s.p, span_len(s), ret, SCRAM_KEY_SIZE, &len) && len == SCRAM_KEY_SIZE;
}

static bool read_salt(struct span s, uint8_t ret[SCRAM_SALT_MAX], size_t *ret_len)
{
    return crypt_unbase64(s.p, span_len(s), ret, SCRAM_SALT_MAX, ret_len) && *ret_len > 0;
}

/* Up to what Postgres can have. */
static bool read_iterations(struct span s, int32_t *ret)
{
    char digits[11] = "";
    int64_t n;

    if (span_len(s) == 0 || span_len(s) >= sizeof(digits) || *s.p == '0')
        return false;
    memcpy(digits, s.p, span_len(s));
    if (!text_to_i64(digits, 1, INT32_MAX, &n))
        return false;
    *ret = (int32_t)n;
    return true;
}

static enum scram_result invalid(struct wire_error *e, const char *what)
{
    wire_error_set(e, "08P01", NULL, "malformed SCRAM message: %s", what);
    return SCRAM_INVALID;
}

static enum scram_result refused(struct wire_error *e, const char *sqlstate, const char *what)
{
    wire_error_set(e, sqlstate, NULL, "%s", what);
    return SCRAM_INVALID;
}

/* SCRAM_MORE: a message that can be looked into. */
static enum scram_result read_message(const void *message, size_t len, struct span *ret, struct wire_error *e)
{
    if (len == 0)
        return invalid(e, "it is empty");
    if (len > WIRE_SASL_MAX)
        return invalid(e, "it is too long");
    if (memchr(message, 0, len) != NULL)
        return invalid(e, "it holds a zero byte");
    *ret = (struct span){ message, (const char *)message + len };
    return SCRAM_MORE;
}

/* --- verifiers
 * ----------------------------------------------------------------------------------------------------------
 */

static bool read_verifier(struct span s, struct scram_verifier *ret)
{
    struct span iterations, salt, stored_key;

    return span_len(s) <= VERIFIER_TEXT_MAX && span_skip(&s, SCRAM_SHA_256 "$") &&
           span_until(&s, ':', &iterations) && span_until(&s, '$', &salt) &&
           span_until(&s, ':', &stored_key) && read_iterations(iterations, &ret->iterations) &&
           read_salt(salt, ret->salt, &ret->salt_len) && read_key(stored_key, ret->stored_key) &&
           read_key(s, ret->server_key);
}

int scram_verifier_parse(const char *text, struct scram_verifier *ret, struct err *err)
{
    *ret = (struct scram_verifier){ 0 };
    if (read_verifier((struct span){ text, text + strnlen(text, VERIFIER_TEXT_MAX + 1) }, ret))
        return 0;
    explicit_bzero(ret, sizeof(*ret));
    return err_set(
        err, ERR_INVALID,
        "what is kept of the password is not a SCRAM-SHA-256 verifier; set the password again, with "
        "password_encryption = 'scram-sha-256'");
}

bool scram_verifier_fits(const struct scram_verifier *v, const char *password)
{
    uint8_t stored_key[SCRAM_KEY_SIZE], server_key[SCRAM_KEY_SIZE];
    struct err ignored = ERR_INIT;
    bool fits;

    if (v->iterations > SCRAM_TRIED_MAX ||
        crypt_scram_keys(password, v->salt, v->salt_len, v->iterations, stored_key, server_key, &ignored) < 0)
        return false;
    fits = crypt_equal(stored_key, v->stored_key, sizeof(stored_key));
    explicit_bzero(stored_key, sizeof(stored_key));
    explicit_bzero(server_key, sizeof(server_key));
    return fits;
}

static void mock_part(const uint8_t key[CRYPT_KEY_SIZE], const char *purpose, const char *name,
                      uint8_t out[SCRAM_KEY_SIZE])
{
    uint8_t own[CRYPT_SHA256_SIZE];

    crypt_hmac(key, purpose, strlen(purpose), own);
    crypt_hmac(own, name, strlen(name), out);
    explicit_bzero(own, sizeof(own));
}

void scram_verifier_mock(const uint8_t key[CRYPT_KEY_SIZE], const char *name, struct scram_verifier *ret)
{
    *ret = (struct scram_verifier){ .iterations = CRYPT_SCRAM_ITERATIONS, .salt_len = CRYPT_SCRAM_SALT_SIZE };
    /* a salt of more bytes than are used: salt_len says how many */
    mock_part(key, "scram mock salt", name, ret->salt);
    mock_part(key, "scram mock stored key", name, ret->stored_key);
    mock_part(key, "scram mock server key", name, ret->server_key);
}

/* --- both sides
 * ---------------------------------------------------------------------------------------------------------
 */

void scram_nonce(const uint8_t random[SCRAM_RANDOM_SIZE], char out[SCRAM_NONCE_SIZE])
{
    crypt_base64(random, SCRAM_RANDOM_SIZE, out);
}

static void sign(const uint8_t key[SCRAM_KEY_SIZE], const struct buf *auth, uint8_t out[SCRAM_KEY_SIZE])
{
    crypt_hmac(key, auth->data, auth->len, out);
}

/* Proof out of ClientKey, and ClientKey out of proof. */
static void exchange_key(const uint8_t in[SCRAM_KEY_SIZE], const uint8_t stored_key[SCRAM_KEY_SIZE],
                         const struct buf *auth, uint8_t out[SCRAM_KEY_SIZE])
{
    uint8_t signature[SCRAM_KEY_SIZE];

    sign(stored_key, auth, signature);
    for (size_t i = 0; i < SCRAM_KEY_SIZE; i++)
        out[i] = in[i] ^ signature[i];
    explicit_bzero(signature, sizeof(signature));
}

/* ",p=" or "v=" and a key's size of bytes. */
static void add_base64(struct buf *b, const char *name, const uint8_t *data)
{
    char text[CRYPT_BASE64_SIZE(SCRAM_KEY_SIZE)];

    crypt_base64(data, SCRAM_KEY_SIZE, text);
    buf_adds(b, name);
    buf_adds(b, text);
}

/* --- the server
 * ---------------------------------------------------------------------------------------------------------
 */

static const struct gs2 GS2[] = {
    { "n", false, false },
    { "y", false, true },
    { "p=tls-server-end-point", true, false },
};

/* An empty one would bind to nothing. */
static bool can_bind(const struct crypt_binding *binding)
{
    return binding != NULL && binding->len > 0;
}

void scram_offer_add(struct buf *b, const struct crypt_binding *binding)
{
    static const char *const MECHANISMS[] = { SCRAM_SHA_256_PLUS, SCRAM_SHA_256 };
    size_t from = can_bind(binding) ? 0 : 1;

    wire_sasl_offer_add(b, MECHANISMS + from, N_ELEMENTS(MECHANISMS) - from);
}

struct scram_server *scram_server_new(const struct scram_verifier *v, const struct crypt_binding *binding,
                                      const char *mechanism, const char *nonce, struct wire_error *e)
{
    bool plus = can_bind(binding) && strcmp(mechanism, SCRAM_SHA_256_PLUS) == 0;
    struct scram_server *s;

    if (!plus && strcmp(mechanism, SCRAM_SHA_256) != 0) {
        refused(e, "08P01", "client selected an invalid SASL authentication mechanism");
        return NULL;
    }
    s = xcalloc(1, sizeof(*s));
    s->verifier = *v;
    if (binding != NULL)
        s->binding = *binding;
    s->plus = plus;
    s->nonce = xstrdup(nonce);
    return s;
}

void scram_server_free(struct scram_server *s)
{
    if (s == NULL)
        return;
    free(s->nonce);
    buf_fini(&s->auth);
    explicit_bzero(s, sizeof(*s));
    free(s);
}

const uint8_t *scram_server_client_key(const struct scram_server *s)
{
    return s->client_key;
}

static enum scram_result check_binding(const struct scram_server *s, struct wire_error *e)
{
    if (s->plus && !s->gs2->binds)
        return invalid(e, "the client chose SCRAM-SHA-256-PLUS, but sends no channel binding");
    if (!s->plus && s->gs2->binds)
        return invalid(e, "the client chose SCRAM-SHA-256, but sends a channel binding");
    /* somebody between us took -PLUS out of the offer */
    if (s->gs2->would_bind && s->binding.len > 0)
        return refused(
            e, "28000",
            "SCRAM channel binding negotiation error: the client supports it and believes that the "
            "server does not, but it does");
    return SCRAM_MORE;
}

static enum scram_result read_gs2(struct scram_server *s, struct span *in, struct wire_error *e)
{
    for (size_t i = 0; i < N_ELEMENTS(GS2) && s->gs2 == NULL; i++) {
        if (span_skip(in, GS2[i].flag))
            s->gs2 = &GS2[i];
    }
    if (s->gs2 == NULL)
        return invalid(e, "unexpected channel-binding flag or unsupported channel-binding type");
    if (!span_skip(in, ","))
        return invalid(e, "expected a comma after the channel-binding flag");
    if (span_skip(in, "a="))
        return refused(e, "0A000", "client uses authorization identity, but it is not supported");
    if (!span_skip(in, ","))
        return invalid(e, "unexpected attribute before client-first-message-bare");
    return check_binding(s, e);
}

static enum scram_result read_bare(struct scram_server *s, struct span in, struct span *ret_nonce,
                                   struct wire_error *e)
{
    struct span user;

    buf_add(&s->auth, in.p, span_len(in));
    if (span_skip(&in, "m="))
        return refused(e, "0A000", "client requires an unsupported SCRAM extension");
    if (!span_attribute(&in, "n", &user) || !span_skip(&in, ",") || !span_attribute(&in, "r", ret_nonce) ||
        span_len(in) > 0)
        return invalid(e, "client-first-message is not n=<user>,r=<nonce>");
    return is_nonce(*ret_nonce) ? SCRAM_MORE : invalid(e, "non-printable characters in SCRAM nonce");
}

static enum scram_result server_first(struct scram_server *s, struct span in, struct buf *reply,
                                      struct wire_error *e)
{
    char salt[CRYPT_BASE64_SIZE(SCRAM_SALT_MAX)];
    size_t mark = reply->len;
    struct span nonce;

    if (read_gs2(s, &in, e) != SCRAM_MORE || read_bare(s, in, &nonce, e) != SCRAM_MORE)
        return SCRAM_INVALID;
    crypt_base64(s->verifier.salt, s->verifier.salt_len, salt);
    buf_adds(reply, "r=");
    buf_add(reply, nonce.p, span_len(nonce));
    buf_addf(reply, "%s,s=%s,i=%d", s->nonce, salt, (int)s->verifier.iterations);
    buf_adds(&s->auth, ",");
    s->nonce_at = s->auth.len + strlen("r=");
    s->nonce_len = span_len(nonce) + strlen(s->nonce);
    buf_add(&s->auth, reply->data + mark, reply->len - mark);
    s->state = AWAIT_FINAL;
    return SCRAM_MORE;
}

/* The attribute c repeats the header and adds the hash of the certificate that the client saw. */
static bool is_bound(const struct scram_server *s, struct span got)
{
    char raw[32 + CRYPT_DIGEST_MAX], want[CRYPT_BASE64_SIZE(sizeof(raw))];
    size_t len = (size_t)snprintf(raw, sizeof(raw), "%s,,", s->gs2->flag);

    if (s->gs2->binds) {
        memcpy(raw + len, s->binding.hash, s->binding.len);
        len += s->binding.len;
    }
    crypt_base64(raw, len, want);
    return span_is(got, want, strlen(want));
}

static enum scram_result read_final(struct scram_server *s, struct span in, uint8_t ret_proof[SCRAM_KEY_SIZE],
                                    struct wire_error *e)
{
    struct span whole = in, binding, nonce, proof;

    if (!span_attribute(&in, "c", &binding) || !span_skip(&in, ",") || !span_attribute(&in, "r", &nonce))
        return invalid(e, "client-final-message is not c=<binding>,r=<nonce>,p=<proof>");
    whole.end = in.p;
    if (!span_skip(&in, ",") || !span_attribute(&in, "p", &proof) || span_len(in) > 0 ||
        !read_key(proof, ret_proof))
        return invalid(e, "client-final-message is not c=<binding>,r=<nonce>,p=<proof>");
    if (!is_bound(s, binding))
        return refused(e, "28000", "SCRAM channel binding check failed");
    if (!span_is(nonce, s->auth.data + s->nonce_at, s->nonce_len))
        return refused(e, "08P01", "invalid SCRAM response: nonce does not match");
    buf_adds(&s->auth, ",");
    buf_add(&s->auth, whole.p, span_len(whole));
    return SCRAM_MORE;
}

static enum scram_result server_final(struct scram_server *s, struct span in, struct buf *reply,
                                      struct wire_error *e)
{
    uint8_t proof[SCRAM_KEY_SIZE], key[SCRAM_KEY_SIZE], hash[SCRAM_KEY_SIZE];

    if (read_final(s, in, proof, e) != SCRAM_MORE)
        return SCRAM_INVALID;
    exchange_key(proof, s->verifier.stored_key, &s->auth, key);
    crypt_sha256(key, sizeof(key), hash);
    if (!crypt_equal(hash, s->verifier.stored_key, sizeof(hash))) {
        wire_error_set(e, "28P01", NULL, "password authentication failed");
        return SCRAM_DENIED;
    }
    memcpy(s->client_key, key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    sign(s->verifier.server_key, &s->auth, hash);
    add_base64(reply, "v=", hash);
    return SCRAM_DONE;
}

enum scram_result scram_server_next(struct scram_server *s, const void *message, size_t len,
                                    struct buf *reply, struct wire_error *e)
{
    enum scram_state was = s->state;
    struct span in;

    s->state = ENDED; /* unless what is done here awaits another message */
    if (was == ENDED)
        return invalid(e, "the exchange has ended");
    if (read_message(message, len, &in, e) != SCRAM_MORE)
        return SCRAM_INVALID;
    return was == AWAIT_FIRST ? server_first(s, in, reply, e) : server_final(s, in, reply, e);
}

/* --- the client
 * ---------------------------------------------------------------------------------------------------------
 */

struct scram_client *scram_client_new(const char *nonce, struct buf *first)
{
    struct scram_client *c = xcalloc(1, sizeof(*c));

    c->nonce = xstrdup(nonce);
    buf_addf(&c->auth, "n=,r=%s", nonce);
    buf_adds(first, "n,,");
    buf_add(first, c->auth.data, c->auth.len);
    return c;
}

void scram_client_free(struct scram_client *c)
{
    if (c == NULL)
        return;
    free(c->nonce);
    buf_fini(&c->auth);
    explicit_bzero(c, sizeof(*c));
    free(c);
}

bool scram_client_matches(const struct scram_client *c, const struct scram_verifier *v)
{
    return c->iterations == v->iterations && c->salt_len == v->salt_len &&
           memcmp(c->salt, v->salt, v->salt_len) == 0;
}

static enum scram_result read_server_first(struct scram_client *c, struct span in, struct span *ret_nonce,
                                           struct wire_error *e)
{
    struct span salt, iterations, theirs;

    if (!span_attribute(&in, "r", ret_nonce) || !span_skip(&in, ",") || !span_attribute(&in, "s", &salt) ||
        !span_skip(&in, ",") || !span_attribute(&in, "i", &iterations) || span_len(in) > 0 ||
        !read_salt(salt, c->salt, &c->salt_len) || !read_iterations(iterations, &c->iterations))
        return invalid(e, "server-first-message is not r=<nonce>,s=<salt>,i=<iterations>");
    theirs = *ret_nonce;
    if (!span_skip(&theirs, c->nonce) || !is_nonce(theirs))
        return invalid(e, "the server's nonce does not begin with ours, or adds nothing");
    return SCRAM_MORE;
}

static enum scram_result client_challenged(struct scram_client *c, struct span in, struct wire_error *e)
{
    struct span nonce;

    if (read_server_first(c, in, &nonce, e) != SCRAM_MORE)
        return SCRAM_INVALID;
    buf_adds(&c->auth, ",");
    c->nonce_at = c->auth.len + strlen("r=");
    c->nonce_len = span_len(nonce);
    buf_add(&c->auth, in.p, span_len(in));
    c->state = AWAIT_KEYS;
    return SCRAM_MORE;
}

void scram_client_prove(struct scram_client *c, const uint8_t client_key[SCRAM_KEY_SIZE],
                        const uint8_t server_key[SCRAM_KEY_SIZE], struct buf *reply)
{
    uint8_t stored_key[SCRAM_KEY_SIZE], proof[SCRAM_KEY_SIZE];
    auto_buf final = { 0 };

    memcpy(c->server_key, server_key, SCRAM_KEY_SIZE);
    buf_adds(&final, "c=biws,r="); /* "n,,", the header of ours */
    buf_add(&final, c->auth.data + c->nonce_at, c->nonce_len);
    buf_adds(&c->auth, ",");
    buf_add(&c->auth, final.data, final.len);
    crypt_sha256(client_key, SCRAM_KEY_SIZE, stored_key);
    exchange_key(client_key, stored_key, &c->auth, proof);
    explicit_bzero(stored_key, sizeof(stored_key));
    buf_add(reply, final.data, final.len);
    add_base64(reply, ",p=", proof);
    c->state = AWAIT_FINAL;
}

static enum scram_result client_verify(const struct scram_client *c, struct span in, struct wire_error *e)
{
    uint8_t got[SCRAM_KEY_SIZE], want[SCRAM_KEY_SIZE];
    struct span signature;

    if (!span_attribute(&in, "v", &signature) || span_len(in) > 0 || !read_key(signature, got))
        return invalid(e, "server-final-message is not v=<signature>");
    sign(c->server_key, &c->auth, want);
    if (crypt_equal(got, want, sizeof(want)))
        return SCRAM_DONE;
    wire_error_set(e, "28000", NULL, "the server does not know the password's verifier");
    return SCRAM_DENIED;
}

enum scram_result scram_client_next(struct scram_client *c, const void *message, size_t len,
                                    struct wire_error *e)
{
    enum scram_state was = c->state;
    struct span in;

    c->state = ENDED;
    if (was != AWAIT_FIRST && was != AWAIT_FINAL)
        return invalid(e, was == ENDED ? "the exchange has ended" : "it came before its turn");
    if (read_message(message, len, &in, e) != SCRAM_MORE)
        return SCRAM_INVALID;
    return was == AWAIT_FIRST ? client_challenged(c, in, e) : client_verify(c, in, e);
}
