/*
 * t_fuzz.c - the fuzz targets on their seeds and some thousand repeatable mutations of them
 *
 * make fuzz goes further; this always runs.  And for each property of each target: the fault that is planted
 * for it is found.
 */
#include "../fuzz/fuzz.h"

#include <check.h>

#include "base/fs.h"
#include "base/log.h"

Suite *t_fuzz_suite(void);

#define MUTATIONS 3000
#define INPUT_MAX 12000
#define SEEDS_MAX 200
#define PATIENCE  20000 /* inputs until a planted fault must have been found */

#define TARGET(name)                                                                                         \
    int fuzz_##name##_one(const uint8_t *data, size_t size);                                                 \
    extern const char *const fuzz_##name##_properties[];
#include "fuzz_targets.h"
#undef TARGET

static const struct {
    const char *name;
    int (*one)(const uint8_t *data, size_t size);
    const char *const *properties;
} TARGETS[] = {
#define TARGET(name) { #name, fuzz_##name##_one, fuzz_##name##_properties },
#include "fuzz_targets.h"
#undef TARGET
};

static const char *planted, *broken;
static bool caught;

bool fuzz_planted(const char *property)
{
    return property == planted;
}

void fuzz_expect(bool holds, const char *property)
{
    if (!holds && property == planted)
        caught = true;
    if (!holds && broken == NULL)
        broken = property;
}

/* --- inputs
 * ------------------------------------------------------------------------------------------------------- */

struct corpus {
    struct arena *arena;
    struct buf seeds[SEEDS_MAX];
    size_t n;
    uint64_t random;
};

static void corpus_open(struct corpus *c, const char *name)
{
    struct err err = ERR_INIT;
    auto_free char *dir = xasprintf("tests/fuzz/corpus/%s", name);
    const char **names;
    size_t n;

    *c = (struct corpus){ .arena = arena_new(0), .random = 88172645463325252u };
    ck_assert_msg(fs_list(c->arena, dir, &names, &n, &err) == 0, "%s: %s", dir, err.msg);
    ck_assert(n > 0 && n <= SEEDS_MAX);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(seed_read(arena_printf(c->arena, "%s/%s", dir, names[i]), &c->seeds[c->n++]), "%s/%s",
                      dir, names[i]);
}

static void corpus_close(struct corpus *c)
{
    for (size_t i = 0; i < c->n; i++)
        buf_fini(&c->seeds[i]);
    arena_free(c->arena);
}

/* bytes take the place of those from at to to. */
static void replace(struct buf *b, size_t at, size_t to, const void *bytes, size_t len)
{
    auto_buf tail = { 0 };

    buf_add(&tail, b->data + to, b->len - to);
    b->len = at;
    buf_add(b, bytes, len);
    buf_add(b, tail.data, tail.len);
}

/* One change: a bit, a telling byte, some bytes more, less, or twice, or a piece of another seed. */
static void mutate(struct corpus *c, struct buf *b)
{
    static const uint8_t TELLING[] = { 0,    1,   3,   4,   5,    8,    0x10, ' ',
                                       '\n', '-', '@', '=', '\\', 0x7F, 0x80, 0xFF };
    size_t at = fuzz_below(&c->random, b->len + 1),
           to = at + fuzz_below(&c->random, 1 + (b->len - at < 16 ? b->len - at : 16));
    const struct buf *other = &c->seeds[fuzz_below(&c->random, c->n)];
    size_t from = fuzz_below(&c->random, other->len + 1);
    auto_free uint8_t *piece = NULL;

    switch (fuzz_below(&c->random, 6)) {
    case 0:
        if (at < b->len)
            b->data[at] ^= (char)(1 << fuzz_below(&c->random, 8));
        break;
    case 1:
        if (at < b->len)
            b->data[at] = (char)TELLING[fuzz_below(&c->random, sizeof(TELLING))];
        break;
    case 2:
        replace(b, at, at, &TELLING[fuzz_below(&c->random, sizeof(TELLING))], 1);
        break;
    case 3:
        replace(b, at, to, "", 0);
        break;
    case 4:
        piece = xmalloc(to - at);
        memcpy(piece, b->data + at, to - at);
        replace(b, at, at, piece, to - at);
        break;
    default:
        replace(b, at, fuzz_below(&c->random, 2) ? b->len : to, other->data + from,
                fuzz_below(&c->random, other->len - from + 1));
        break;
    }
    if (b->len > INPUT_MAX)
        b->len = INPUT_MAX;
}

/* The i-th input: the seeds first. */
static void next_input(struct corpus *c, size_t i, struct buf *ret)
{
    const struct buf *seed = &c->seeds[i < c->n ? i : fuzz_below(&c->random, c->n)];

    buf_clear(ret);
    buf_reserve(ret, seed->len + 1);
    buf_add(ret, seed->data, seed->len);
    for (size_t n = i < c->n ? 0 : 1 + fuzz_below(&c->random, 5); n > 0; n--)
        mutate(c, ret);
}

/* In a block of its own size, so that a byte too far is seen. */
static void run(size_t target, const struct buf *input)
{
    auto_free uint8_t *exact = xmalloc(input->len);

    memcpy(exact, input->data, input->len);
    (void)TARGETS[target].one(exact, input->len);
}

/* As the text of a seed. */
static void say_input(const struct buf *input)
{
    for (size_t i = 0; i < input->len; i++)
        printf("%02x%s", (uint8_t)input->data[i], i % 32 == 31 ? "\n" : " ");
    printf("\n");
}

/* --- tests
 * -------------------------------------------------------------------------------------------------------- */

START_TEST(properties_hold)
{
    struct corpus c;
    auto_buf input = { 0 };

    log_set_level(LOG_ERROR);
    corpus_open(&c, TARGETS[_i].name);
    for (size_t i = 0; i < c.n + MUTATIONS && broken == NULL; i++) {
        next_input(&c, i, &input);
        run((size_t)_i, &input);
    }
    if (broken != NULL)
        say_input(&input);
    ck_assert_msg(broken == NULL, "%s: not true: %s; the input, as a seed, is above", TARGETS[_i].name,
                  broken);
    corpus_close(&c);
}
END_TEST

START_TEST(planted_faults_are_found)
{
    struct corpus c;

    log_set_level(LOG_ERROR);
    for (const char *const *p = TARGETS[_i].properties; *p != NULL; p++) {
        auto_buf input = { 0 };

        corpus_open(&c, TARGETS[_i].name);
        planted = *p;
        caught = false;
        for (size_t i = 0; i < PATIENCE && !caught; i++) {
            next_input(&c, i, &input);
            run((size_t)_i, &input);
        }
        ck_assert_msg(caught, "%s: the fault planted for it is not found: %s", TARGETS[_i].name, *p);
        corpus_close(&c);
    }
}
END_TEST

START_TEST(seeds_as_text)
{
    auto_buf b = { 0 };

    ck_assert(!seed_read("tests/fuzz/corpus/there-is-none", &b));
    ck_assert(!seed_read("tests/unit/t_fuzz.c", &b));
}
END_TEST

Suite *t_fuzz_suite(void)
{
    Suite *s = suite_create("fuzz");
    TCase *t = tcase_create("fuzz");

    tcase_add_loop_test(t, properties_hold, 0, N_ELEMENTS(TARGETS));
    tcase_add_loop_test(t, planted_faults_are_found, 0, N_ELEMENTS(TARGETS));
    tcase_add_test(t, seeds_as_text);
    suite_add_tcase(s, t);
    return s;
}
