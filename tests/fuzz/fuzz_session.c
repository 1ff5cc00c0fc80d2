/*
 * fuzz_session.c - the session reader: what it knows, and what it changes
 *
 * Input: one byte that decides the cuts, then chunks: a byte (the top bit: from the server; the rest: length
 * less one) and so many bytes.  Three readers see the same: whole chunks, single bytes, random cuts.
 */
#include "fuzz.h"

#include "proxy/session.h"

static const char SAME_STATE[] = "the state is the same however the stream is cut";
static const char CLIENT_BYTES[] = "no byte of the client is changed";
static const char SERVER_BYTES[] = "of the server's bytes only the first key of eight is changed, to ours";
static const char KEY_KNOWN[] = "the key that was taken is Postgres's";
static const char COUNTS[] = "no more is answered than was asked";
static const char HALF[] = "half a message of the client is activity";

const char *const fuzz_properties[] = {
    SAME_STATE, CLIENT_BYTES, SERVER_BYTES, KEY_KNOWN, COUNTS, HALF, NULL
};

enum { WHOLE, BYTES, RANDOM, READERS };

static const uint8_t OURS[WIRE_KEY_SIZE] = { 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8 };

struct run {
    struct session readers[READERS];
    struct buf server;       /* as it came */
    struct buf out[READERS]; /* as it went on */
    struct buf client;
    uint64_t seed;
};

static bool scans_equal(const struct wire_scan *a, const struct wire_scan *b)
{
    return a->have == b->have && memcmp(a->head, b->head, a->have) == 0 && a->broken == b->broken &&
           a->left == b->left && (a->at == b->at || a->have < sizeof(a->head));
}

static bool states_equal(const struct session *a, const struct session *b)
{
    return scans_equal(&a->client, &b->client) && scans_equal(&a->server, &b->server) &&
           a->asked == b->asked && a->answered == b->answered && a->last_query == b->last_query &&
           a->status == b->status && a->loose == b->loose && a->copying == b->copying && a->data == b->data &&
           a->bye == b->bye && a->fatal == b->fatal && a->has_key == b->has_key && a->failing == b->failing &&
           a->errors == b->errors && memcmp(a->server_key, b->server_key, WIRE_KEY_SIZE) == 0 &&
           a->kept == b->kept && memcmp(a->keep, b->keep, a->kept) == 0 &&
           session_is_idle(a) == session_is_idle(b) && session_may_add(a) == session_may_add(b);
}

static size_t next_cut(struct run *r, int reader, size_t left)
{
    size_t n = reader == WHOLE ? left : reader == BYTES ? 1 : 1 + fuzz_below(&r->seed, 7);

    return n < left ? n : left;
}

static void feed_one(struct run *r, int reader, bool server, const uint8_t *data, size_t len)
{
    struct session *s = &r->readers[reader];
    auto_free uint8_t *copy = xmalloc(len);

    memcpy(copy, data, len);
    for (size_t at = 0; at < len;) {
        size_t n = next_cut(r, reader, len - at);

        if (server)
            session_server_bytes(s, copy + at, n);
        else
            session_client_bytes(s, copy + at, n);
        at += n;
        if (fuzz_planted(SAME_STATE) && reader == RANDOM && at < len)
            s->client.have = 0; /* forgets at a cut what it had read */
    }
    if (server) {
        buf_add(&r->out[reader], copy, len);
        return;
    }
    if (fuzz_planted(CLIENT_BYTES))
        copy[len - 1] ^= 1;
    fuzz_expect(memcmp(copy, data, len) == 0, CLIENT_BYTES);
}

static void feed(struct run *r, bool server, const uint8_t *data, size_t len)
{
    for (int i = 0; i < READERS; i++)
        feed_one(r, i, server, data, len);
    for (int i = 1; i < READERS; i++)
        fuzz_expect(states_equal(&r->readers[WHOLE], &r->readers[i]), SAME_STATE);
    buf_add(server ? &r->server : &r->client, data, len);
}

/* Where the body of the first BackendKeyData with eight bytes begins; len when there is none. */
static size_t find_key(const uint8_t *p, size_t len)
{
    for (size_t at = 0; len - at >= 5;) {
        uint64_t size =
            (uint64_t)p[at + 1] << 24 | (uint64_t)p[at + 2] << 16 | (uint64_t)p[at + 3] << 8 | p[at + 4];

        if (size < 4 || size > INT32_MAX)
            return len;
        if (p[at] == 'K' && size == 4 + WIRE_KEY_SIZE)
            return at + 5;
        if (size + 1 > len - at)
            return len;
        at += 1 + size;
    }
    return len;
}

/* Whether the client's stream ends inside a message, or can no longer be read. */
static bool ends_inside(const uint8_t *p, size_t len)
{
    while (len >= 5) {
        uint64_t size = (uint64_t)p[1] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 8 | p[4];

        if (size < 4 || size + 1 > len)
            return true;
        p += size + 1;
        len -= size + 1;
    }
    return len > 0;
}

static void check_end(struct run *r)
{
    const uint8_t *given = (const uint8_t *)r->server.data;
    size_t len = r->server.len, key = find_key(given, len),
           n = len - key < WIRE_KEY_SIZE ? len - key : WIRE_KEY_SIZE;
    auto_buf want = { 0 };
    struct session *s = &r->readers[WHOLE];

    buf_add(&want, given, len);
    if (n > 0)
        memcpy(want.data + key, OURS, n);
    if (fuzz_planted(SERVER_BYTES) && len > 0)
        want.data[len - 1] ^= 1;
    for (int i = 0; i < READERS && len > 0; i++)
        fuzz_expect(r->out[i].len == len && memcmp(r->out[i].data, want.data, len) == 0, SERVER_BYTES);
    if (fuzz_planted(KEY_KNOWN))
        s->server_key[0] ^= 1;
    fuzz_expect(s->has_key == (n == WIRE_KEY_SIZE) && (n == 0 || memcmp(s->server_key, given + key, n) == 0),
                KEY_KNOWN);
    if (fuzz_planted(COUNTS))
        s->answered = s->asked + 1;
    fuzz_expect((int32_t)(s->asked - s->answered) >= 0, COUNTS);
    fuzz_expect(!(session_is_idle(s) || fuzz_planted(HALF)) ||
                    !ends_inside((uint8_t *)r->client.data, r->client.len),
                HALF);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    struct run r = { .seed = 0x9E3779B97F4A7C15u + fuzz_byte(&in) };

    for (int i = 0; i < READERS; i++)
        session_init(&r.readers[i], OURS);
    while (in.len > 1) {
        uint8_t head = fuzz_byte(&in);
        size_t n = (head & 0x7Fu) + 1u;

        n = n < in.len ? n : in.len;
        feed(&r, (head & 0x80) != 0, in.data, n);
        in.data += n;
        in.len -= n;
    }
    check_end(&r);
    for (int i = 0; i < READERS; i++)
        buf_fini(&r.out[i]);
    buf_fini(&r.server);
    buf_fini(&r.client);
    return 0;
}
