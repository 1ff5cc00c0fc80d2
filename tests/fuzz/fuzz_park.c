/*
 * fuzz_park.c - what is read of both sides of a session that may be parked: a client's SQL, and a server's
 * answers to what it is asked
 *
 * Input: one byte (the lowest two bits: a client's bytes; a server's while the session is examined; while it
 * is restored; the rest decides the cuts), then the bytes.  Three readers see the same: whole, single bytes,
 * random cuts.
 */
#include "fuzz.h"

#include <string.h>
#include <strings.h>

#include "pg/park.h"
#include "proxy/scan.h"

static const char SAME_FINDS[] = "what is found in SQL is the same however it is cut";
static const char NO_MISS[] = "no text with set_config as a word is taken for harmless";
static const char KEPT[] = "no more of an unnamed statement is kept than may be";
static const char SAME_END[] = "the end is the same however the answers are cut";
static const char EVIDENCE[] = "nothing is parked without Postgres's word that no sequence was used";
static const char NO_REASON[] = "what may not be parked has a reason, and what may has none";
static const char BOUNDED[] = "no more is kept than may be, whatever a server says";

const char *const fuzz_properties[] = { SAME_FINDS, NO_MISS,   KEPT,    SAME_END,
                                        EVIDENCE,   NO_REASON, BOUNDED, NULL };

enum { WHOLE, BYTES, RANDOM, READERS };

static size_t next_cut(uint64_t *seed, int reader, size_t left)
{
    size_t n = reader == WHOLE ? left : reader == BYTES ? 1 : 1 + fuzz_below(seed, 7);

    return n < left ? n : left;
}

/* --- the client
 * ---------------------------------------------------------------------------------------------------------
 */

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool has_set_config(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 10 <= len; i++) {
        bool begins = i == 0 || !(is_letter(p[i - 1]) || (p[i - 1] >= '0' && p[i - 1] <= '9'));
        bool ends = i + 10 == len || !(is_letter(p[i + 10]) || (p[i + 10] >= '0' && p[i + 10] <= '9'));

        if (begins && ends && strncasecmp((const char *)p + i, "set_config", 10) == 0)
            return true;
    }
    return false;
}

/* The texts of whole Query messages. */
static bool client_has_it(const uint8_t *p, size_t len)
{
    while (len >= 5) {
        uint64_t size = (uint64_t)p[1] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 8 | p[4];

        if (size < 4 || size + 1 > len)
            return false;
        if (p[0] == 'Q' && has_set_config(p + 5, strnlen((const char *)p + 5, size - 4)))
            return true;
        p += size + 1;
        len -= size + 1;
    }
    return false;
}

static void scan_one(struct scan *s, int reader, uint64_t seed, const struct fuzz_input *in)
{
    auto_free uint8_t *copy = xmalloc(in->len + 1);

    if (in->len > 0)
        memcpy(copy, in->data, in->len);
    for (size_t at = 0; at < in->len;) {
        size_t n = next_cut(&seed, reader, in->len - at);

        scan_client_bytes(s, copy + at, n, false);
        at += n;
        if (fuzz_planted(SAME_FINDS) && reader == RANDOM)
            s->n = 0; /* forgets at a cut what it had read */
    }
}

static void run_client(uint64_t seed, const struct fuzz_input *in)
{
    struct scan s[READERS] = { { .n = 0 } };

    for (int i = 0; i < READERS; i++)
        scan_one(&s[i], i, seed, in);
    for (int i = 1; i < READERS; i++)
        fuzz_expect(s[0].stays == s[i].stays && s[0].redefines == s[i].redefines &&
                        scan_has_unnamed(&s[0]) == scan_has_unnamed(&s[i]) &&
                        s[0].unnamed.len == s[i].unnamed.len &&
                        (s[0].unnamed.len == 0 ||
                         memcmp(s[0].unnamed.data, s[i].unnamed.data, s[0].unnamed.len) == 0),
                    SAME_FINDS);
    if (fuzz_planted(NO_MISS))
        s[0].stays = false;
    fuzz_expect(s[0].stays || !client_has_it(in->data, in->len), NO_MISS);
    fuzz_expect(s[0].unnamed.len <= (fuzz_planted(KEPT) ? 4 : SCAN_UNNAMED_MAX), KEPT);
    for (int i = 0; i < READERS; i++)
        scan_fini(&s[i]);
}

/* --- the server
 * ---------------------------------------------------------------------------------------------------------
 */

struct end {
    enum park_result result;
    size_t used;
    const char *why;
    struct buf out, aside;
};

static void feed(struct park *p, int reader, uint64_t seed, const struct fuzz_input *in, struct end *e)
{
    auto_free uint8_t *copy = xmalloc(in->len + 1);
    size_t used;

    if (in->len > 0)
        memcpy(copy, in->data, in->len);
    e->result = PARK_MORE;
    while (e->result == PARK_MORE && e->used < in->len) {
        size_t n = next_cut(&seed, reader, in->len - e->used);

        e->result = park_next(p, copy + e->used, n, &used, &e->out, &e->aside);
        e->used += used;
        fuzz_expect(park_size(p) < (fuzz_planted(BOUNDED) ? 400 : 8 * PARK_BYTES_MAX), BOUNDED);
    }
    e->why = park_why(p);
}

/* A session with a setting, a statement and an unnamed statement: what Postgres answers when it is examined.
 */
static const char HOLDS[] = "1\0\0\0\4"
                            "2\0\0\0\4"
                            "D\0\0\0\33\0\4\0\0\0\1F\0\0\0\1x\377\377\377\377\377\377\377\377"
                            "D\0\0\0\43\0\4\0\0\0\1P\0\0\0\1s\0\0\0\10SELECT 1\0\0\0\0"
                            "D\0\0\0\33\0\4\0\0\0\1S\0\0\0\1a\0\0\0\1b\377\377\377\377"
                            "C\0\0\0\4"
                            "Z\0\0\0\5I"
                            "E\0\0\0\26SERROR\0C55000\0\0"
                            "Z\0\0\0\5I"
                            "t\0\0\0\4"
                            "n\0\0\0\4"
                            "Z\0\0\0\5I"
                            "3\0\0\0\4"
                            "3\0\0\0\4"
                            "Z\0\0\0\5I";
static const char SHAPES[] = "t\0\0\0\4"
                             "n\0\0\0\4"
                             "Z\0\0\0\5I";

static struct park *examined(void)
{
    struct park *p = park_new("ann");
    struct end e = { .used = 0 };

    park_examine(p, true, &e.out);
    feed(p, WHOLE, 1, &(struct fuzz_input){ (const uint8_t *)HOLDS, sizeof(HOLDS) - 1 }, &e);
    e.used = 0;
    feed(p, WHOLE, 1, &(struct fuzz_input){ (const uint8_t *)SHAPES, sizeof(SHAPES) - 1 }, &e);
    buf_fini(&e.out);
    buf_fini(&e.aside);
    return p;
}

static void run_server(bool restoring, uint64_t seed, const struct fuzz_input *in)
{
    static const char UNNAMED[] = "\0SELECT 2\0\0";
    struct buf unnamed = { (char *)(uintptr_t)UNNAMED, sizeof(UNNAMED), 0 };
    struct end e[READERS] = { { .used = 0 } };

    for (int i = 0; i < READERS; i++) {
        struct park *p = restoring ? examined() : park_new("ann");

        if (restoring)
            park_restore(p, &unnamed, &e[i].out);
        else
            park_examine(p, (seed & 4) != 0, &e[i].out);
        feed(p, i, seed, in, &e[i]);
        park_free(p);
    }
    if (fuzz_planted(SAME_END) && e[1].result != PARK_MORE)
        e[1].used--;
    for (int i = 1; i < READERS; i++)
        fuzz_expect(e[0].result == e[i].result && e[0].why == e[i].why &&
                        (e[0].result == PARK_BROKEN || e[0].used == e[i].used) &&
                        e[0].out.len == e[i].out.len && e[0].aside.len == e[i].aside.len,
                    SAME_END);
    fuzz_expect(restoring || e[0].result != PARK_YES ||
                    (!fuzz_planted(EVIDENCE) && memmem(in->data, in->len, "C55000", 7) != NULL),
                EVIDENCE);
    if (fuzz_planted(NO_REASON))
        e[0].why = NULL;
    fuzz_expect(e[0].result != PARK_NO || e[0].why != NULL, NO_REASON);
    fuzz_expect(e[0].result != PARK_YES || e[0].why == NULL, NO_REASON);
    for (int i = 0; i < READERS; i++) {
        buf_fini(&e[i].out);
        buf_fini(&e[i].aside);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint8_t head = fuzz_byte(&in);
    uint64_t seed = 0x9E3779B97F4A7C15u + head;

    if ((head & 3) == 0)
        run_client(seed, &in);
    else
        run_server((head & 3) == 2, seed, &in);
    return 0;
}
