/*
 * fuzz_greet.c - the first packets of a stranger: requests for encryption, cancellation, startup
 *
 * Input: a byte of flags (1: on this machine, 2: inside TLS from the start), then the bytes of the stranger.
 * Each prefix is asked about on the way, so every truncation is tried; what is accepted is built again from
 * what was understood, and must be the same bytes.
 */
#include "fuzz.h"

#include "base/text.h"
#include "proxy/greet.h"

static const char CUT[] = "more bytes change no verdict";
static const char BOUNDED[] = "there is a verdict after the longest packet";
static const char LENGTH[] = "what is taken was received";
static const char EARLY[] = "nothing that came in the clear is carried into TLS";
static const char ONCE[] = "each kind of encryption is answered once, and outside TLS";
static const char SECURE[] = "no session in the clear off this machine";
static const char REBUILT[] = "what was understood of a startup packet is all of it";
static const char LONGER[] = "a startup packet with a byte less or more is no good one";
static const char USER[] = "a user has a name of 1 to 63 bytes of UTF-8";
static const char TWICE[] = "no parameter is given twice";
static const char NEGOTIATE[] = "one message tells all extensions and the version, or none does";
static const char REPLY[] = "a refusal is one ErrorResponse that reads as it was meant";

const char *const fuzz_properties[] = { CUT,    BOUNDED, LENGTH, EARLY,     ONCE,  SECURE, REBUILT,
                                        LONGER, USER,    TWICE,  NEGOTIATE, REPLY, NULL };

static bool firsts_equal(const struct wire_first *a, const struct wire_first *b)
{
    return a->kind == b->kind && a->len == b->len && a->minor == b->minor &&
           memcmp(a->key, b->key, WIRE_KEY_SIZE) == 0 && strcmp(a->error.sqlstate, b->error.sqlstate) == 0 &&
           strcmp(a->error.message, b->error.message) == 0;
}

static void check_prefixes(const uint8_t *data, size_t len)
{
    struct wire_first first, whole;
    size_t verdict = 0;

    (void)wire_first_parse(data, len, &whole);
    for (size_t n = 0; n <= len && verdict == 0; n += 1 + (n > 64 ? n / 8 : 0))
        if (wire_first_parse(data, n, &first) != WIRE_INCOMPLETE)
            verdict = n;
    if (verdict == 0)
        (void)wire_first_parse(data, len, &first);
    if (fuzz_planted(CUT) && verdict > 0)
        first.minor ^= 1;
    fuzz_expect(firsts_equal(&first, &whole), CUT);
    fuzz_expect(len < WIRE_STARTUP_MAX || (whole.kind != WIRE_INCOMPLETE && !fuzz_planted(BOUNDED)), BOUNDED);
    if (whole.kind == WIRE_INCOMPLETE || whole.kind == WIRE_INVALID)
        return;
    if (fuzz_planted(LENGTH))
        whole.len = len + 1;
    fuzz_expect(whole.len >= WIRE_STARTUP_MIN && whole.len <= len && whole.len <= WIRE_STARTUP_MAX, LENGTH);
}

static void check_reply(const struct wire_error *e)
{
    auto_buf b = { 0 };
    struct wire_scan scan = { 0 };
    struct wire_piece piece;
    char sqlstate[WIRE_SQLSTATE_LEN + 1] = "";
    bool fatal = false;

    wire_error_add(&b, e);
    if (fuzz_planted(REPLY))
        b.data[4]++;
    fuzz_expect(wire_scan_next(&scan, (uint8_t *)b.data, b.len, &piece) == b.len && piece.ends &&
                    piece.type == 'E' && wire_error_sqlstate(piece.data, piece.len, sqlstate, &fatal) &&
                    fatal && strcmp(sqlstate, e->sqlstate) == 0 && e->message[0] != '\0',
                REPLY);
}

static void check_negotiate(const struct wire_startup *s)
{
    auto_buf b = { 0 };
    struct wire_scan scan = { 0 };
    struct wire_piece piece = { 0 };
    size_t extensions = 0, told;

    for (size_t i = 0; i < s->n; i++)
        extensions += strncmp(s->params[i].name, "_pq_.", 5) == 0;
    wire_negotiate_add(&b, s);
    if (fuzz_planted(NEGOTIATE))
        buf_add(&b, "", 1);
    if (s->minor == 0 && extensions == 0) {
        fuzz_expect(b.len == 0, NEGOTIATE);
        return;
    }
    fuzz_expect(wire_scan_next(&scan, (uint8_t *)b.data, b.len, &piece) == b.len && piece.type == 'v' &&
                    piece.len >= 8 && piece.ends,
                NEGOTIATE);
    told = 0;
    for (size_t i = 8; i < piece.len; i++)
        told += piece.data[i] == 0;
    fuzz_expect(told == extensions, NEGOTIATE);
}

/* A packet of len bytes whose length word says so. */
static bool is_accepted(const uint8_t *packet, size_t len)
{
    auto_free uint8_t *copy = xmalloc(len);
    struct wire_first first;
    struct wire_startup s;
    struct wire_error e;

    memcpy(copy, packet, len);
    copy[2] = (uint8_t)(len >> 8);
    copy[3] = (uint8_t)len;
    return wire_first_parse(copy, len, &first) == WIRE_STARTUP &&
           wire_startup_parse(copy, &first, &s, &e) == 0;
}

static void check_neighbours(const uint8_t *packet, size_t len)
{
    auto_free uint8_t *longer = xmalloc(len + 1);
    bool planted = fuzz_planted(LONGER);

    memcpy(longer, packet, len);
    longer[len] = 0;
    fuzz_expect(!is_accepted(packet, len - (planted ? 0 : 1)) && !is_accepted(longer, len + 1), LONGER);
}

static void check_startup(const uint8_t *packet, const struct wire_first *first)
{
    auto_free uint8_t *exact = xmalloc(first->len); /* so that a byte too far is seen */
    auto_buf again = { 0 };
    struct wire_startup s;
    struct wire_error e;
    const char *user;
    size_t mark;

    memcpy(exact, packet, first->len);
    if (wire_startup_parse(exact, first, &s, &e) < 0) {
        check_reply(&e);
        return;
    }
    if (fuzz_planted(TWICE) && s.n < WIRE_PARAMS_MAX)
        s.params[s.n++] = s.params[0];
    for (size_t i = 0; i < s.n; i++)
        for (size_t j = 0; j < i; j++)
            fuzz_expect(strcmp(s.params[i].name, s.params[j].name) != 0, TWICE);
    user = wire_startup_find(&s, "user");
    if (fuzz_planted(USER))
        user = "";
    fuzz_expect(user != NULL && user[0] != '\0' && strlen(user) <= 63 && text_is_utf8(user, strlen(user)),
                USER);
    mark = wire_startup_begin(&again);
    for (size_t i = fuzz_planted(REBUILT) ? 1 : 0; i < s.n; i++)
        wire_startup_param(&again, s.params[i].name, s.params[i].value);
    wire_startup_end(&again, mark);
    fuzz_expect(again.len == first->len && memcmp(again.data + 8, exact + 8, first->len - 8) == 0, REBUILT);
    check_neighbours(exact, first->len);
    check_negotiate(&s);
}

/* One packet at the front; how many bytes the caller drops, 0 = the end. */
static size_t greet_one(struct greet *g, const uint8_t *data, size_t len, bool asked[2])
{
    struct wire_first first;
    enum greet_step step = greet_next(g, data, len, &first);
    bool request = step == GREET_TLS || step == GREET_NO_GSS;

    if (request) {
        bool *before = &asked[step == GREET_TLS];

        fuzz_expect(len == first.len && !fuzz_planted(EARLY), EARLY);
        fuzz_expect(!*before && !g->secure && !fuzz_planted(ONCE), ONCE);
        *before = true;
        g->secure = step == GREET_TLS;
        return first.len;
    }
    if (step == GREET_START) {
        fuzz_expect((g->secure || g->plain) && !fuzz_planted(SECURE), SECURE);
        check_startup(data, &first);
    }
    if (step == GREET_REFUSE)
        check_reply(&first.error);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint8_t flags = fuzz_byte(&in);
    struct greet g = { .plain = (flags & 1) != 0, .secure = (flags & 2) != 0 };
    bool asked[2] = { false, false };

    /* The client waits for each answer: its requests come one by one, what is left all at once. */
    while (in.len > 0) {
        auto_free uint8_t *bytes = NULL;
        size_t n = in.len, used;

        if (n > 8 && (flags & 4) == 0 && in.data[3] == 8)
            n = 8;
        bytes = xmalloc(n);
        memcpy(bytes, in.data, n);
        check_prefixes(bytes, n);
        used = greet_one(&g, bytes, n, asked);
        if (used == 0)
            break;
        in.data += used;
        in.len -= used;
    }
    return 0;
}
