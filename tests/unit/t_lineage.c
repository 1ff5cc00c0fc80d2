/*
 * t_lineage.c - lineage: whatever the family looks like, a piece of WAL is taken from whoever wrote it
 *
 * Random trees of branches, some never started, some with images; each tree is a transaction that is rolled
 * back.  What must come out is kept beside it as a list of who wrote what, made when a branch is made.
 */
#include "meta_bed.h"

#include "branch/env.h"
#include "branch/history.h"
#include "pg/walseg.h"

#include <inttypes.h>
#include <stdlib.h>

Suite *t_lineage_suite(void);

enum { BRANCHES = 9, IMAGES = 8, TREES = 10000, QUESTIONS = 12, RECORD = 256 };

struct stretch { /* of a line: from here on this branch wrote */
    uint64_t from;
    int who;
};

struct member {
    char id[16];
    int parent;
    uint64_t parent_lsn, fork_lsn, head; /* fork_lsn 0: never started, and its head is where it was forked */
    struct stretch line[BRANCHES];
    size_t n;
};

struct tree {
    struct member all[BRANCHES];
    struct {
        int who;
        uint64_t lsn;
    } images[IMAGES + 1];
    int n, n_images;
    uint64_t first; /* of the template */
};

static unsigned seed;

static uint64_t below(uint64_t n)
{
    return (uint64_t)rand_r(&seed) % n;
}

/* Somewhere in [low, high], but not in a page's header; small spans, so that pieces meet inside of segments.
 */
static uint64_t between(uint64_t low, uint64_t high)
{
    uint64_t at = low + 8 * below((high - low) / 8 + 1);
    uint64_t begin = walseg_record_start(at - at % WALSEG_PAGE);
    return at <= begin ? begin + 8 : at;
}

/* The next place where a record begins: here all are of the same size, and a page begins with half a one. */
static uint64_t record(uint64_t lsn)
{
    uint64_t at = (lsn + RECORD - 1) / RECORD * RECORD;
    return at % WALSEG_PAGE == 0 ? at + RECORD : at;
}

/* ---- a random family ---- */

static void write_branch(struct dbc *c, const struct tree *t, int i)
{
    const struct member *m = &t->all[i];
    struct branch b = a_branch(m->id, m->id, i + 1);
    b.parent_id = m->parent < 0 ? NULL : t->all[m->parent].id;
    b.parent_lsn = m->parent_lsn;
    b.state = "init";
    b.volume_id = arena_printf(A, "v-%s", m->id);
    b.fork_lsn = m->fork_lsn;
    b.fork_tli = m->fork_lsn ? 1 : 0;
    b.tli = m->fork_lsn ? 2 + i : 0;
    OK(branch_insert(c, &b, &E));
    if (m->fork_lsn)
        OK(branch_set_begin(c, m->id, b.fork_tli, b.fork_lsn, &E));
    OK(branch_set_tli(c, m->id, b.tli, &E));
    OK(branch_set_fork(c, m->id, m->parent_lsn, 0, "template", i + 1, &E));
}

static void add_member(struct dbc *c, struct tree *t)
{
    int i = t->n++;
    struct member *m = &t->all[i], *up;
    snprintf(m->id, sizeof(m->id), "b%d", i);
    m->n = 0;
    m->parent = i == 0 ? -1 : (int)below((uint64_t)i);
    up = i == 0 ? NULL : &t->all[m->parent];
    m->parent_lsn = up ? between(t->first, up->head) : 0;
    /* A branch forked inside a record begins behind it. */
    m->fork_lsn = !up ? t->first : below(5) > 0 ? record(m->parent_lsn) : 0;
    m->head = m->fork_lsn ? record(m->fork_lsn + 1 + below(3 * WALSEG_SIZE)) : m->parent_lsn;
    for (size_t k = 0; up && k < up->n && up->line[k].from < m->parent_lsn; k++)
        m->line[m->n++] = up->line[k];
    if (m->fork_lsn)
        m->line[m->n++] = (struct stretch){ .from = m->fork_lsn, .who = i };
    write_branch(c, t, i);
}

static void add_images(struct dbc *c, struct tree *t)
{
    t->images[t->n_images].who = -1;
    t->images[t->n_images++].lsn = t->first;
    for (int k = 0; k < IMAGES; k++) {
        int who = (int)below((uint64_t)t->n);
        if (t->all[who].fork_lsn == 0)
            continue;
        uint64_t lsn = record(between(t->all[who].fork_lsn, t->all[who].head - RECORD));
        add_image(c, arena_printf(A, "i%d", k), t->all[who].id, "ready", lsn, k + 1);
        t->images[t->n_images].who = who;
        t->images[t->n_images++].lsn = lsn;
    }
}

/* ---- what must come out ---- */

/* Who wrote the byte; -1: it is older than the tree. */
static int writer(const struct member *m, uint64_t byte)
{
    int who = -1;
    for (size_t k = 0; k < m->n && m->line[k].from <= byte; k++)
        who = m->line[k].who;
    return who;
}

/* Is it an image of a state on this line? */
static bool on_line(const struct tree *t, const struct member *m, int image)
{
    int who = t->images[image].who;
    uint64_t lsn = t->images[image].lsn;
    if (who < 0)
        return true;
    for (const struct member *at = m; at; at = at->parent < 0 ? NULL : &t->all[at->parent]) {
        if (at == &t->all[who])
            return lsn >= at->fork_lsn && at->fork_lsn != 0;
        if (lsn > at->parent_lsn)
            return false;
    }
    return false;
}

static uint64_t newest_image(const struct tree *t, const struct member *m, uint64_t lsn)
{
    uint64_t best = 0;
    for (int k = 0; k < t->n_images; k++)
        if (t->images[k].lsn <= lsn && t->images[k].lsn > best && on_line(t, m, k))
            best = t->images[k].lsn;
    return best;
}

static void same_writer(const struct tree *t, const struct member *m, const struct history_piece *p,
                        uint64_t byte)
{
    int who = writer(m, byte);
    ck_assert_msg(who >= 0 && strcmp(p->volume_id + 2, t->all[who].id) == 0 && p->tli == 2 + (uint32_t)who,
                  "%s: byte %" PRIX64 " was written by %d and is taken from %s", m->id, byte, who,
                  p->volume_id);
}

static void ask(struct dbc *c, const struct tree *t, const struct member *m, uint64_t lsn)
{
    struct branch b;
    struct history h;
    OK(branch_get_id(c, A, m->id, &b, &E));
    OK(history_find(&(struct env){ 0 }, c, A, &b, lsn, NULL, &h, &E));
    ck_assert_uint_eq(h.lsn, lsn);
    ck_assert_msg(h.image.lsn == newest_image(t, m, lsn), "%s at %" PRIX64 ": image at %" PRIX64, m->id, lsn,
                  h.image.lsn);
    ck_assert_msg((h.n == 0) == (h.image.lsn == lsn), "%s: %zu pieces", m->id, h.n);
    for (size_t i = 0; i < h.n; i++) {
        uint64_t from = i == 0 ? h.image.lsn : h.pieces[i].from,
                 to = i + 1 < h.n && h.pieces[i + 1].from < lsn ? h.pieces[i + 1].from : lsn;
        ck_assert_uint_le(from, to);
        if (from < to) {
            same_writer(t, m, &h.pieces[i], from);
            same_writer(t, m, &h.pieces[i], to - 1);
        }
    }
    for (uint64_t n = walseg_no(h.image.lsn); h.n > 0 && n <= walseg_no(lsn - 1); n++) {
        uint64_t end = (n + 1) * WALSEG_SIZE;
        same_writer(t, m, history_piece_of(&h, n), (end < lsn ? end : lsn) - 1);
    }
}

START_TEST(random_families)
{
    for (int i = 0; i < TREES; i++) {
        struct arena *keep = A;
        struct tree t = { .first = record((3 + below(3)) * WALSEG_SIZE + below(WALSEG_SIZE)) };
        A = arena_new(0);
        seed = (unsigned)i + 1;
        {
            WRITE();
            add_project(c, "p", "p", 1);
            add_image(c, "template", NULL, "ready", t.first, 1);
            for (uint64_t n = 2 + below(BRANCHES - 2); n > 0; n--)
                add_member(c, &t);
            add_images(c, &t);
            for (int q = 0; q < QUESTIONS; q++) {
                const struct member *m = &t.all[below((uint64_t)t.n)];
                ask(c, &t, m, between(t.first, m->head));
            }
        }
        arena_free(A);
        A = keep;
    }
}
END_TEST

Suite *t_lineage_suite(void)
{
    Suite *s = suite_create("lineage");
    TCase *t = tcase_create("lineage");
    tcase_add_checked_fixture(t, meta_setup, meta_teardown);
    tcase_set_timeout(t, 300);
    TESTS(t, random_families);
    suite_add_tcase(s, t);
    return s;
}
