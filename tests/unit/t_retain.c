/*
 * t_retain.c - what of history may go: the cases one by one, then random families that live, fork and age
 */
#include "branch/retain.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *t_retain_suite(void);

#define SPACING 100
#define MAX     64

static struct arena *a;
static struct retain_line lines[MAX];
static struct retain_image images[MAX * 8];
static struct retain_rows rows;
static struct retain_decision d;

static void set_up(void)
{
    a = arena_new(0);
    rows = (struct retain_rows){ .lines = lines, .images = images, .spacing = SPACING };
    images[rows.n_images++] = (struct retain_image){ .line = RETAIN_NONE, .lsn = 10, .state = RETAIN_READY };
}

static void tear_down(void)
{
    arena_free(a);
}

/* A root, or a child of `parent` at lsn that begins with `image`. */
static size_t add_line(size_t parent, uint64_t lsn, size_t image, bool made)
{
    lines[rows.n_lines] = (struct retain_line){ .parent = parent,
                                                .parent_lsn = lsn,
                                                .image = image,
                                                .made = made,
                                                .fork_lsn = !made                   ? 0
                                                            : parent == RETAIN_NONE ? 10
                                                                                    : lsn,
                                                .window_us = 0 };
    return rows.n_lines++;
}

static size_t add_image(size_t line, uint64_t lsn, int64_t taken_us)
{
    images[rows.n_images] =
        (struct retain_image){ .line = line, .lsn = lsn, .taken_us = taken_us, .state = RETAIN_READY };
    return rows.n_images++;
}

static void decide(void)
{
    size_t line;
    retain_decide(a, &rows, &d);
    ck_assert_int_eq(retain_check(&rows, &d, &line), 0);
}

static bool stays(size_t line, uint64_t from, uint64_t to)
{
    return retain_segment(&d, line, from, to - from);
}

START_TEST(a_line_without_images_keeps_all_from_its_beginning)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true);
    lines[main].window_us = 1000;
    decide();
    ck_assert_uint_eq(d.from[main], 0);
    ck_assert(!stays(main, 0, 10) && stays(main, 0, 11) && stays(main, 5000, 5001));
}
END_TEST

START_TEST(a_window_begins_with_the_newest_image_before_it)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true);
    size_t old = add_image(main, 1000, 1), base = add_image(main, 2000, 2), in = add_image(main, 3000, 3);
    lines[main].window_us = 2;
    decide();
    ck_assert_uint_eq(d.from[main], 2000);
    ck_assert_uint_eq(d.image[main], base);
    ck_assert(!d.keep_image[old] && d.keep_image[base] && d.keep_image[in]);
    ck_assert(!stays(main, 1900, 2000) && stays(main, 2000, 2001) && stays(main, 9000, 9001));
    lines[main].window_us = 0; /* longer than anything was there */
    decide();
    ck_assert_uint_eq(d.from[main], 0);
    ck_assert(d.keep_image[old] && stays(main, 10, 11));
}
END_TEST

START_TEST(what_has_gone_does_not_come_back)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true);
    size_t base = add_image(main, 2000, 2);
    lines[main].history_from = 2000;
    lines[main].image = base;
    lines[main].window_us = 1; /* retention was raised */
    decide();
    ck_assert_uint_eq(d.from[main], 2000);
    ck_assert(d.keep_image[base] && !stays(main, 1000, 2000));
}
END_TEST

START_TEST(a_fork_holds_its_image_and_the_way_from_it)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true);
    size_t first = add_image(main, 1000, 1), base = add_image(main, 5000, 5);
    size_t child = add_line(main, 1500, first, false);
    lines[main].window_us = 9;
    decide();
    ck_assert_uint_eq(d.from[main], 5000);
    ck_assert(d.keep_image[first] && d.keep_image[base]);
    ck_assert(stays(main, 1000, 1001) && stays(main, 1499, 1500) && !stays(main, 1500, 5000));
    /* Made, and with an image of its own before its window: it needs nothing of its parent any more. */
    lines[child].made = true;
    lines[child].fork_lsn = 1500;
    add_image(child, 1600, 3);
    lines[child].window_us = 4;
    decide();
    ck_assert(!d.keep_image[first] && !stays(main, 1000, 1500));
    ck_assert_uint_eq(d.from[child], 1600);
    lines[child].window_us = 2; /* its window begins where it was forked */
    decide();
    ck_assert(d.keep_image[first] && stays(main, 1000, 1500));
}
END_TEST

START_TEST(a_way_goes_through_ancestors)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true);
    size_t base = add_image(main, 8000, 1);
    size_t child = add_line(main, 500, 0, true); /* from the template */
    size_t grandchild = add_line(child, 700, 0, false);
    add_image(child, 900, 1);
    lines[main].window_us = lines[child].window_us = 2;
    (void)grandchild;
    decide();
    ck_assert_uint_eq(d.from[main], images[base].lsn);
    ck_assert_uint_eq(d.from[child], 900);
    ck_assert(stays(main, 10, 500) && !stays(main, 500, 8000));
    ck_assert(stays(child, 500, 700) && !stays(child, 700, 900) && stays(child, 900, 901));
}
END_TEST

START_TEST(images_close_between_two_others_go)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true), i[6];
    static const uint64_t AT[] = { 1000, 1040, 1080, 1120, 1160, 5000 };
    for (size_t k = 0; k < N_ELEMENTS(AT); k++)
        i[k] = add_image(main, AT[k], 5);
    lines[main].window_us = 5;
    add_line(main, 1090, i[2], false);
    lines[main].window_us = 4;
    lines[main].history_from = 1000;
    lines[main].image = i[0];
    decide();
    static const bool KEPT[] = { true, false, true, false, true, true };
    for (size_t k = 0; k < N_ELEMENTS(AT); k++)
        ck_assert_msg(d.keep_image[i[k]] == KEPT[k], "image %zu", k);
}
END_TEST

START_TEST(half_made_and_trash)
{
    size_t main = add_line(RETAIN_NONE, 0, 0, true);
    size_t half = add_image(main, 100, 1), held = add_image(main, 200, 1), trash = add_image(main, 300, 1),
           unsure = add_image(main, 0, 1);
    images[half].state = images[held].state = RETAIN_HALF;
    images[trash].state = RETAIN_TRASH;
    images[unsure].state = RETAIN_UNSURE;
    add_line(main, 200, held, false);
    lines[main].window_us = 9;
    decide();
    ck_assert(!d.keep_image[half] && d.keep_image[held] && !d.keep_image[trash] && d.keep_image[unsure]);
    ck_assert_uint_eq(d.from[main], 0); /* none of them is one to begin with */
}
END_TEST

/* ---- families ---- */

static unsigned long seed;

static size_t pick(size_t n)
{
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return (size_t)(seed >> 33) % n;
}

struct family {
    uint64_t head[MAX];
    int64_t now;
};

static bool may_begin_at(size_t line, uint64_t lsn)
{
    return lsn >= lines[line].history_from && lsn >= lines[line].fork_lsn && lines[line].made;
}

/* The newest image of the line at or before lsn; or what the line begins with. */
static size_t image_before(size_t line, uint64_t lsn)
{
    size_t best = RETAIN_NONE;
    for (size_t i = 0; i < rows.n_images; i++)
        if (images[i].line == line && images[i].state == RETAIN_READY && images[i].lsn <= lsn &&
            images[i].lsn >= lines[line].history_from &&
            (best == RETAIN_NONE || images[i].lsn > images[best].lsn))
            best = i;
    return best != RETAIN_NONE ? best : lines[line].image;
}

static void live(struct family *f)
{
    size_t line = pick(rows.n_lines);
    uint64_t from = lines[line].history_from ? lines[line].history_from : lines[line].fork_lsn;
    f->now++;
    switch (pick(5)) {
    case 0:
    case 1:
        if (lines[line].made)
            f->head[line] += 1 + pick(80);
        break;
    case 2:
        if (lines[line].made && rows.n_images < N_ELEMENTS(images))
            add_image(line, f->head[line], f->now);
        break;
    case 3:
        if (rows.n_lines < MAX && may_begin_at(line, f->head[line])) {
            uint64_t lsn = from + pick(f->head[line] - from + 1);
            size_t child = add_line(line, lsn, image_before(line, lsn), false);
            f->head[child] = lsn;
        } else if (rows.n_lines < MAX) { /* one that was never started is forked where it was */
            size_t child = add_line(line, lines[line].parent_lsn, lines[line].image, false);
            f->head[child] = lines[line].parent_lsn;
        }
        break;
    case 4:
        lines[line].made = true;
        lines[line].fork_lsn = lines[line].fork_lsn ? lines[line].fork_lsn : lines[line].parent_lsn;
        break;
    }
}

/* What a sweep does with its decision. */
static void carry_out(void)
{
    for (size_t i = 0; i < rows.n_lines; i++) {
        lines[i].history_from = d.from[i];
        lines[i].image = d.image[i];
    }
    for (size_t i = 0; i < rows.n_images; i++)
        if (!d.keep_image[i])
            images[i].state = RETAIN_TRASH;
}

static bool somebody_begins_with(size_t image)
{
    for (size_t i = 0; i < rows.n_lines; i++)
        if (d.image[i] == image)
            return true;
    return false;
}

/* The checker must see each single thing that is taken away. */
static void take_one_away(void)
{
    struct retain_decision less = d;
    size_t line, image = pick(rows.n_images);
    bool kept = d.keep_image[image];
    if (kept && images[image].line != RETAIN_NONE && somebody_begins_with(image)) {
        d.keep_image[image] = false;
        ck_assert_int_eq(retain_check(&rows, &d, &line), -1);
        d.keep_image[image] = true;
    }
    for (size_t i = 0; i < d.n_ranges; i++) {
        struct retain_range one = d.ranges[i];
        if (one.to != RETAIN_FOREVER)
            continue;
        d.ranges[i].from++; /* the first byte of a window */
        if (!retain_segment(&d, one.line, one.from, 1))
            ck_assert_int_eq(retain_check(&rows, &d, &line), -1);
        d.ranges[i] = one;
    }
    ck_assert_ptr_eq(less.keep_image, d.keep_image);
}

static void one_family(unsigned long from)
{
    struct family f = { .head = { 10 } };
    set_up();
    seed = from;
    add_line(RETAIN_NONE, 0, 0, true);
    for (int step = 0; step < 120; step++) {
        live(&f);
        if (pick(6) != 0)
            continue;
        for (size_t i = 0; i < rows.n_lines; i++)
            lines[i].window_us = f.now - (int64_t)pick(40);
        decide();
        take_one_away();
        carry_out();
        struct retain_decision first = d;
        decide(); /* one more pass finds nothing more */
        for (size_t i = 0; i < rows.n_images; i++)
            ck_assert(images[i].state == RETAIN_TRASH || first.keep_image[i] == d.keep_image[i]);
        ck_assert_uint_eq(first.n_ranges, d.n_ranges);
    }
    tear_down();
}

START_TEST(families_of_branches)
{
    tear_down();
    for (unsigned long i = 1; i <= 20000; i++)
        one_family(i);
    set_up();
}
END_TEST

Suite *t_retain_suite(void)
{
    Suite *s = suite_create("retain");
    TCase *t = tcase_create("retain");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_line_without_images_keeps_all_from_its_beginning);
    tcase_add_test(t, a_window_begins_with_the_newest_image_before_it);
    tcase_add_test(t, what_has_gone_does_not_come_back);
    tcase_add_test(t, a_fork_holds_its_image_and_the_way_from_it);
    tcase_add_test(t, a_way_goes_through_ancestors);
    tcase_add_test(t, images_close_between_two_others_go);
    tcase_add_test(t, half_made_and_trash);
    tcase_add_test(t, families_of_branches);
    suite_add_tcase(s, t);
    return s;
}
