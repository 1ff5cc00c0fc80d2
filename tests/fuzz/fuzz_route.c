/*
 * fuzz_route.c - naming an endpoint: server name, options and database@endpoint
 *
 * Input: a TLS server name (empty: none) and a NUL, then the parameters of a startup packet as they are on
 * the wire.  A second, plainer reading collects what the connection names; what is routed must be all of it.
 * The rewritten packet is read again, and routed again.
 */
#include "fuzz.h"

#include <ctype.h>

#include "base/text.h"
#include "proxy/route.h"

static const char NAME[] = "an endpoint is ep- and three words of [a-z0-9], a branch has a name or an id";
static const char AGREE[] = "where names disagree, nobody is let through, and where none is, neither";
static const char POOLED[] =
    "pooled is what says so in one of its names, and nothing else; it has no options";
static const char STRANGER[] = "with a second name that is another, nobody is let through";
static const char SNI_COUNTS[] = "the TLS server name is never overruled";
static const char REREAD[] = "Postgres sees the parameters that are its own as they were sent, and no others";
static const char NO_WORDS[] = "no routing word is left in options";
static const char AGAIN[] = "routed again under the same name, a packet stays as it is";
static const char MOMENT[] = "a moment is an LSN or a time, and not zero";
static const char RESERVED_USER[] = "the user is the one who was named, and none of ours";
static const char DATABASE[] = "the database is the one that Postgres will see";
static const char NO_REPLICATION[] = "no replication";
static const char REFUSAL[] = "a refusal has a code, a sentence and, where a name is wrong, what to do";

const char *const fuzz_properties[] = { NAME,          AGREE,          POOLED,  STRANGER, SNI_COUNTS,
                                        REREAD,        NO_WORDS,       AGAIN,   MOMENT,   DATABASE,
                                        RESERVED_USER, NO_REPLICATION, REFUSAL, NULL };

static const char *const RESERVED[] = { "mere_admin", "postgres" };

#define CLAIMS_MAX 256

/* --- the plain reading --- */

struct claims {
    char *kinds[CLAIMS_MAX]; /* "endpoint:name" */
    size_t n;
    bool pooled; /* one of them said so */
};

/* ^ep-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$, or br-. */
static bool shape_of_id(const char *s, const char *prefix)
{
    size_t dashes = 0;

    if (strncmp(s, prefix, 3) != 0)
        return false;
    for (s += 3; *s != '\0'; s++) {
        if (*s == '-' ? s[-1] == '-' || s[1] == '\0'
                      : !(islower((unsigned char)*s) || isdigit((unsigned char)*s)))
            return false;
        dashes += *s == '-';
    }
    return dashes == 2;
}

/* The id in front of "-pooler", where that is one; else empty. */
static void direct_id(const char *s, size_t len, char ret[64])
{
    size_t n = strnlen(s, len), more = strlen("-pooler");

    ret[0] = '\0';
    if (n > more && n < 64 && strncmp(s + n - more, "-pooler", more) == 0)
        snprintf(ret, 64, "%.*s", (int)(n - more), s);
    if (!shape_of_id(ret, "ep-"))
        ret[0] = '\0';
}

static bool names_endpoint(const char *s)
{
    char direct[64];

    direct_id(s, strlen(s), direct);
    return shape_of_id(s, "ep-") || direct[0] != '\0';
}

static void claims_add(struct claims *c, const char *kind, const char *name, size_t len)
{
    char direct[64] = "";

    if (strcmp(kind, "endpoint") == 0)
        direct_id(name, len, direct);
    c->pooled |= direct[0] != '\0';
    if (c->n < CLAIMS_MAX && direct[0] != '\0')
        c->kinds[c->n++] = xasprintf("%s:%s", kind, direct);
    else if (c->n < CLAIMS_MAX)
        c->kinds[c->n++] = xasprintf("%s:%.*s", kind, (int)len, name);
}

static void claims_fini(struct claims *c)
{
    while (c->n > 0)
        free(c->kinds[--c->n]);
}

static bool blank(char c)
{
    return c != '\0' && strchr(" \t\n\v\f\r", c) != NULL;
}

/* The words of options, as Postgres cuts them: one after the other in ret, each ended by a NUL. */
static size_t plain_words(const char *options, struct buf *ret)
{
    size_t n = 0;

    for (;;) {
        while (blank(*options))
            options++;
        if (*options == '\0')
            return n;
        for (; *options != '\0' && !blank(*options); options++) {
            if (*options == '\\' && *++options == '\0')
                break;
            buf_add(ret, options, 1);
        }
        buf_add(ret, "", 1);
        n++;
    }
}

static void claims_of_options(struct claims *c, const char *options)
{
    static const char *const KINDS[][2] = { { "endpoint=", "endpoint" },
                                            { "project=", "endpoint" },
                                            { "branch=", "branch" } };
    auto_buf words = { 0 };
    size_t n = plain_words(options, &words);
    const char *word = words.data;
    bool value = false;

    for (size_t i = 0; i < n; i++, word += strlen(word) + 1) {
        for (size_t k = 0; k < N_ELEMENTS(KINDS) && !value; k++)
            if (strncmp(word, KINDS[k][0], strlen(KINDS[k][0])) == 0)
                claims_add(c, KINDS[k][1], word + strlen(KINDS[k][0]), strlen(word));
        value = !value && strcmp(word, "-c") == 0;
    }
}

/* The label that names something, in lower case; empty when there is none. */
static void naming_label(const char *sni, char ret[64])
{
    size_t n = sni != NULL ? strcspn(sni, ".") : 64;

    ret[0] = '\0';
    if (n > 63 || (strncasecmp(sni, "ep-", 3) != 0 && strncasecmp(sni, "br-", 3) != 0))
        return;
    for (size_t i = 0; i <= n; i++)
        ret[i] = i < n ? (char)tolower((unsigned char)sni[i]) : '\0';
}

static void collect(struct claims *c, const struct wire_startup *s, const char *sni)
{
    const char *options = wire_startup_find(s, "options"), *database = wire_startup_find(s, "database"), *at;
    char label[64];

    naming_label(sni, label);
    if (label[0] != '\0')
        claims_add(c, label[0] == 'e' ? "endpoint" : "branch", label, sizeof(label));
    if (options != NULL)
        claims_of_options(c, options);
    at = database != NULL ? strrchr(database, '@') : NULL;
    if (at != NULL && names_endpoint(at + 1))
        claims_add(c, "endpoint", at + 1, strlen(at));
}

/* --- properties --- */

static void check_agreement(const struct wire_startup *s, const char *sni, const struct route *r)
{
    struct claims c = { .n = 0 };
    auto_free char *routed = xasprintf("%s:%s", r->kind == ROUTE_ENDPOINT ? "endpoint" : "branch", r->name);
    char label[64];

    collect(&c, s, sni);
    if (fuzz_planted(AGREE))
        claims_add(&c, "endpoint", "ep-a-b-c", 8);
    fuzz_expect(c.n > 0, AGREE);
    for (size_t i = 0; i < c.n; i++)
        fuzz_expect(strcmp(c.kinds[i], routed) == 0, AGREE);
    fuzz_expect(c.pooled == r->pooled && !fuzz_planted(POOLED), POOLED);
    claims_fini(&c);
    naming_label(fuzz_planted(SNI_COUNTS) ? "ep-a-b-c" : sni, label);
    fuzz_expect(label[0] == '\0' || (strncmp(label, r->name, strlen(r->name)) == 0 &&
                                     (label[strlen(r->name)] == '\0' ||
                                      (r->pooled && strcmp(label + strlen(r->name), "-pooler") == 0))),
                SNI_COUNTS);
}

/* What Postgres takes for false: a beginning of one of these words that is of no other. */
static bool is_off(const char *s)
{
    size_t n = strlen(s);

    return n > 0 && (strncasecmp(s, "false", n) == 0 || strncasecmp(s, "no", n) == 0 || strcmp(s, "0") == 0 ||
                     (n > 1 && strncasecmp(s, "off", n) == 0));
}

static void check_fields(const struct wire_startup *s, struct route *r)
{
    const char *replication = wire_startup_find(s, "replication");
    uint64_t lsn = 0;
    int64_t time_us = 0;

    if (fuzz_planted(NAME))
        r->name[0] ^= 0x20;
    fuzz_expect(r->kind == ROUTE_ENDPOINT ? shape_of_id(r->name, "ep-") && strlen(r->name) <= 60
                                          : r->kind == ROUTE_BRANCH && text_is_name(r->name, ROUTE_NAME_MAX),
                NAME);
    if (fuzz_planted(NAME))
        r->name[0] ^= 0x20;
    if (fuzz_planted(MOMENT))
        snprintf(r->moment, sizeof(r->moment), "lsn:0/0");
    fuzz_expect(
        r->moment[0] == '\0' ||
            (text_starts_with(r->moment, "lsn:") && text_to_lsn(r->moment + 4, &lsn) && lsn != 0) ||
            (text_starts_with(r->moment, "time:") && text_to_time(r->moment + 5, &time_us) && time_us != 0),
        MOMENT);
    if (fuzz_planted(RESERVED_USER))
        snprintf(r->user, sizeof(r->user), "postgres");
    fuzz_expect(strcmp(r->user, wire_startup_find(s, "user")) == 0 && strcmp(r->user, RESERVED[0]) != 0 &&
                    strcmp(r->user, RESERVED[1]) != 0,
                RESERVED_USER);
    fuzz_expect(!fuzz_planted(NO_REPLICATION) && (replication == NULL || is_off(replication)),
                NO_REPLICATION);
}

/* Whether b is a without some of its bytes. */
static bool is_subsequence(const char *b, const char *a)
{
    for (; *b != '\0'; b++, a++) {
        while (*a != '\0' && *a != *b)
            a++;
        if (*a == '\0')
            return false;
    }
    return true;
}

static bool param_may_become(const struct wire_param *was, const struct wire_param *is)
{
    if (strcmp(was->name, is->name) != 0)
        return false;
    if (strcmp(was->name, "options") == 0)
        return is_subsequence(is->value, was->value);
    if (strcmp(was->name, "database") == 0)
        return strncmp(was->value, is->value, strlen(is->value)) == 0 &&
               (strlen(was->value) == strlen(is->value) || was->value[strlen(is->value)] == '@');
    return strcmp(was->value, is->value) == 0;
}

static bool may_be_left_out(const struct wire_param *p)
{
    return strcmp(p->name, "options") == 0 || strncmp(p->name, "_pq_.", 5) == 0;
}

/* The rewritten packet, read again.  False when it cannot be. */
static bool read_again(struct route *r, struct wire_startup *ret)
{
    struct wire_first first;
    struct wire_error e;

    if (fuzz_planted(REREAD))
        r->packet.data[r->packet.len - 1] ^= 1;
    return wire_first_parse(r->packet.data, r->packet.len, &first) == WIRE_STARTUP &&
           first.len == r->packet.len && first.minor == 0 &&
           wire_startup_parse(r->packet.data, &first, ret, &e) == 0;
}

static bool check_packet(const struct wire_startup *s, struct route *r, struct wire_startup *again)
{
    size_t seen = 0;
    const char *options, *database;
    struct claims c = { .n = 0 };

    if (!read_again(r, again)) {
        fuzz_expect(false, REREAD);
        return false;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (seen < again->n && param_may_become(&s->params[i], &again->params[seen]))
            seen++;
        else
            fuzz_expect(may_be_left_out(&s->params[i]), REREAD);
    }
    fuzz_expect(seen == again->n, REREAD);
    options = wire_startup_find(again, "options");
    fuzz_expect(!r->pooled || options == NULL, POOLED);
    claims_of_options(&c, fuzz_planted(NO_WORDS) ? "-c a=b branch=x" : options != NULL ? options : "");
    fuzz_expect(c.n == 0, NO_WORDS);
    claims_fini(&c);
    database = wire_startup_find(again, "database");
    if (database == NULL || *database == '\0')
        database = r->user;
    if (fuzz_planted(DATABASE))
        r->database[0]++;
    fuzz_expect(strcmp(r->database, strlen(database) <= WIRE_NAME_MAX ? database : "") == 0, DATABASE);
    return true;
}

/* name as a word of options. */
static void add_word(struct buf *b, const struct route *r)
{
    buf_adds(b, r->kind == ROUTE_ENDPOINT ? "endpoint=" : "branch=");
    for (const char *p = r->name; *p != '\0'; p++) {
        buf_add(b, "\\", 1);
        buf_add(b, p, 1);
    }
}

/* s with a routing word in front of its options; text holds them. */
static void with_word(struct wire_startup *s, const struct route *word, struct buf *text)
{
    size_t i = 0;

    while (i < s->n && strcmp(s->params[i].name, "options") != 0)
        i++;
    add_word(text, word);
    if (i < s->n && !blank(s->params[i].value[0]))
        buf_adds(text, " ");
    if (i < s->n)
        buf_adds(text, s->params[i].value);
    if (i == s->n && s->n < WIRE_PARAMS_MAX)
        s->n++;
    if (i < s->n)
        s->params[i] = (struct wire_param){ "options", buf_str(text) };
}

/* What Postgres sees the second time: a blank may have come in front of options. */
static bool packets_equal(const struct wire_startup *a, const struct wire_startup *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const char *x = a->params[i].value, *y = b->params[i].value;

        if (strcmp(a->params[i].name, b->params[i].name) != 0)
            return false;
        if (strcmp(a->params[i].name, "options") == 0 && !blank(x[0]) && y[0] == ' ')
            y++;
        if (strcmp(x, y) != 0)
            return false;
    }
    return true;
}

/* again is what Postgres would see: with the name said anew, it must come out as it is. */
static void check_again(const struct wire_startup *again, const struct route *r)
{
    const char *database = wire_startup_find(again, "database"),
               *at = database != NULL ? strrchr(database, '@') : NULL;
    struct wire_startup more = *again, third;
    auto_buf text = { 0 };
    struct route second;
    struct wire_error e;

    if (at != NULL || again->n == WIRE_PARAMS_MAX)
        return; /* d@x@ep-…: what is left is the name of a database, which cannot be told from a claim */
    with_word(&more, r, &text);
    if (route_find(&more, NULL, RESERVED, N_ELEMENTS(RESERVED), &second, &e) < 0) {
        fuzz_expect(false, AGAIN);
    } else {
        if (fuzz_planted(AGAIN))
            second.name[0]++;
        fuzz_expect(read_again(&second, &third) && packets_equal(again, &third) && second.kind == r->kind &&
                        strcmp(second.name, r->name) == 0 && strcmp(second.user, r->user) == 0 &&
                        strcmp(second.database, r->database) == 0,
                    AGAIN);
    }
    route_fini(&second);
}

static void check_stranger(const struct wire_startup *s, const char *sni, const struct route *r)
{
    struct wire_startup more = *s;
    struct route stranger = { .kind = ROUTE_ENDPOINT, .name = "ep-other-sun-b6944ocj" }, second;
    auto_buf text = { 0 };
    struct wire_error e;

    if (s->n == WIRE_PARAMS_MAX || strcmp(r->name, stranger.name) == 0)
        return;
    with_word(&more, fuzz_planted(STRANGER) ? r : &stranger, &text);
    fuzz_expect(route_find(&more, sni, RESERVED, N_ELEMENTS(RESERVED), &second, &e) < 0, STRANGER);
    route_fini(&second);
}

static void check_refusal(const struct wire_error *e)
{
    static const char *const CODES[] = { "08004", "0A000", "28000", "22023", "3D000" };
    bool known = false;

    for (size_t i = 0; i < N_ELEMENTS(CODES); i++)
        known |= strcmp(e->sqlstate, CODES[i]) == 0;
    fuzz_expect(known && e->message[0] != '\0' && e->hint[0] != '\0' && !fuzz_planted(REFUSAL), REFUSAL);
}

static void check_route(const struct wire_startup *s, const char *sni)
{
    struct wire_error e = { .sqlstate = "" };
    struct route r;

    if (route_find(s, sni, RESERVED, N_ELEMENTS(RESERVED), &r, &e) < 0) {
        check_refusal(&e);
    } else {
        struct wire_startup again;

        check_agreement(s, sni, &r);
        check_stranger(s, sni, &r);
        check_fields(s, &r);
        if (check_packet(s, &r, &again))
            check_again(&again, &r);
    }
    route_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = memchr(data, 0, size);
    auto_free char *sni = NULL;
    struct wire_startup s;
    struct wire_first first;
    struct wire_error e;
    auto_buf packet = { 0 };

    if (nul == NULL || size > WIRE_STARTUP_MAX)
        return 0;
    sni = nul > data ? xstrdup((const char *)data) : NULL;
    (void)wire_startup_begin(&packet);
    buf_add(&packet, nul + 1, size - (size_t)(nul + 1 - data));
    packet.data[2] = (char)(packet.len >> 8);
    packet.data[3] = (char)packet.len;
    if (wire_first_parse(packet.data, packet.len, &first) == WIRE_STARTUP &&
        wire_startup_parse(packet.data, &first, &s, &e) == 0)
        check_route(&s, sni);
    return 0;
}
