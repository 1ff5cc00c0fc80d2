#include "branch/retain.h"

#include <stdlib.h>
#include <string.h>

struct deciding {
    struct arena *a;
    const struct retain_rows *rows;
    struct retain_decision *d;
    size_t room;   /* of d->ranges */
    size_t *order; /* the images by line and place */
    size_t *first; /* beside lines: where its images begin in order; those of n_lines end it */
};

/* ---- images by line and place ---- */

static int by_place(const void *p, const void *q, void *arg)
{
    const struct retain_rows *rows = arg;
    size_t i = *(const size_t *)p, k = *(const size_t *)q;
    const struct retain_image *a = &rows->images[i], *b = &rows->images[k];
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    return i < k ? -1 : i > k;
}

/* Templates come last: RETAIN_NONE is the largest. */
static void put_in_order(struct deciding *x)
{
    const struct retain_rows *rows = x->rows;
    size_t at = 0;
    x->order = arena_alloc(x->a, (rows->n_images + 1) * sizeof(*x->order));
    x->first = arena_alloc(x->a, (rows->n_lines + 1) * sizeof(*x->first));
    for (size_t i = 0; i < rows->n_images; i++)
        x->order[i] = i;
    if (rows->n_images > 1)
        qsort_r(x->order, rows->n_images, sizeof(*x->order), by_place, (void *)rows);
    for (size_t line = 0; line <= rows->n_lines; line++) {
        while (at < rows->n_images && rows->images[x->order[at]].line < line)
            at++;
        x->first[line] = at;
    }
}

/* ---- needs ---- */

static void keep_wal(struct deciding *x, size_t line, uint64_t from, uint64_t to)
{
    struct retain_decision *d = x->d;
    if (d->n_ranges == x->room) {
        x->room = x->room ? x->room * 2 : 64;
        struct retain_range *bigger = arena_alloc(x->a, x->room * sizeof(*bigger));
        if (d->n_ranges > 0)
            memcpy(bigger, d->ranges, d->n_ranges * sizeof(*bigger));
        d->ranges = bigger;
    }
    d->ranges[d->n_ranges++] = (struct retain_range){ .line = line, .from = from, .to = to };
}

/* The way from an image to `lsn` of a line, as history_find() goes it: up to the line whose image it is. */
static void keep_way(struct deciding *x, size_t line, uint64_t lsn, size_t image)
{
    const struct retain_image *i = &x->rows->images[image];
    x->d->keep_image[image] = true;
    while (line != RETAIN_NONE) {
        const struct retain_line *l = &x->rows->lines[line];
        if (i->line == line) {
            if (i->lsn < lsn)
                keep_wal(x, line, i->lsn, lsn);
            return;
        }
        if (l->fork_lsn != 0 && lsn > l->fork_lsn)
            keep_wal(x, line, l->fork_lsn, lsn);
        lsn = lsn < l->parent_lsn ? lsn : l->parent_lsn;
        line = l->parent;
    }
}

/* The newest image of the line that was there when its window begins. */
static size_t window_image(const struct deciding *x, size_t line)
{
    const struct retain_line *l = &x->rows->lines[line];
    for (size_t at = x->first[line + 1]; l->made && at > x->first[line]; at--) {
        const struct retain_image *i = &x->rows->images[x->order[at - 1]];
        if (i->state == RETAIN_READY && i->taken_us <= l->window_us && i->lsn >= l->history_from &&
            i->lsn >= l->fork_lsn)
            return x->order[at - 1];
    }
    return RETAIN_NONE;
}

static void decide_line(struct deciding *x, size_t line)
{
    const struct retain_line *l = &x->rows->lines[line];
    struct retain_decision *d = x->d;
    d->from[line] = l->history_from;
    d->image[line] = l->image;
    if (l->image == RETAIN_NONE)
        return; /* its fork takes, or finds, what it needs */
    size_t begin = window_image(x, line);
    if (begin != RETAIN_NONE) {
        d->from[line] = x->rows->images[begin].lsn;
        d->image[line] = begin;
    }
    d->keep_image[d->image[line]] = true;
    if (d->from[line] == 0)
        keep_way(x, l->parent, l->parent_lsn, l->image);
    if (l->fork_lsn != 0)
        keep_wal(x, line, d->from[line] ? d->from[line] : l->fork_lsn, RETAIN_FOREVER);
}

/* Of the images of a line's window those stay that are not close between two others, and the newest. */
static void thin_out(struct deciding *x, size_t line)
{
    const struct retain_line *l = &x->rows->lines[line];
    struct retain_decision *d = x->d;
    uint64_t from = d->from[line] ? d->from[line] : l->fork_lsn, before = from;
    size_t last = RETAIN_NONE; /* the one looked at before: the next one tells whether it stays */
    for (size_t at = x->first[line]; at < x->first[line + 1]; at++) {
        size_t k = x->order[at];
        const struct retain_image *i = &x->rows->images[k];
        if (i->state != RETAIN_READY || i->lsn < from)
            continue;
        if (last != RETAIN_NONE && !d->keep_image[last] && i->lsn - before > x->rows->spacing)
            d->keep_image[last] = true;
        if (last != RETAIN_NONE && d->keep_image[last])
            before = x->rows->images[last].lsn;
        last = k;
    }
    if (last != RETAIN_NONE)
        d->keep_image[last] = true;
}

static int by_line(const void *p, const void *q)
{
    const struct retain_range *a = p, *b = q;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->from < b->from ? -1 : a->from > b->from;
}

static void sort_ranges(struct deciding *x)
{
    struct retain_decision *d = x->d;
    size_t at = 0;
    if (d->n_ranges > 1)
        qsort(d->ranges, d->n_ranges, sizeof(*d->ranges), by_line);
    d->first_range = arena_alloc(x->a, (x->rows->n_lines + 1) * sizeof(*d->first_range));
    for (size_t line = 0; line <= x->rows->n_lines; line++) {
        while (at < d->n_ranges && d->ranges[at].line < line)
            at++;
        d->first_range[line] = at;
    }
}

void retain_decide(struct arena *a, const struct retain_rows *rows, struct retain_decision *ret)
{
    struct deciding x = { .a = a, .rows = rows, .d = ret };
    *ret = (struct retain_decision){ 0 };
    ret->keep_image = arena_alloc(a, (rows->n_images + 1) * sizeof(*ret->keep_image));
    ret->from = arena_alloc(a, (rows->n_lines + 1) * sizeof(*ret->from));
    ret->image = arena_alloc(a, (rows->n_lines + 1) * sizeof(*ret->image));
    memset(ret->keep_image, 0, (rows->n_images + 1) * sizeof(*ret->keep_image));
    put_in_order(&x);
    for (size_t i = 0; i < rows->n_images; i++)
        if (rows->images[i].line == RETAIN_NONE || rows->images[i].state == RETAIN_UNSURE)
            ret->keep_image[i] = true;
    for (size_t line = 0; line < rows->n_lines; line++)
        decide_line(&x, line);
    for (size_t line = 0; line < rows->n_lines; line++)
        thin_out(&x, line);
    sort_ranges(&x);
}

bool retain_segment(const struct retain_decision *d, size_t line, uint64_t at, uint64_t size)
{
    for (size_t i = d->first_range[line]; i < d->first_range[line + 1]; i++)
        if (d->ranges[i].from < at + size && d->ranges[i].to > at)
            return true;
    return false;
}

/* ---- the second look ---- */

static bool has_wal(const struct retain_decision *d, size_t line, uint64_t from, uint64_t to)
{
    /* They stand by their beginnings: each one that holds the place leads further. */
    for (size_t i = d->first_range[line]; i < d->first_range[line + 1]; i++) {
        const struct retain_range *r = &d->ranges[i];
        if (r->from <= from && r->to > from)
            from = r->to;
    }
    return from >= to;
}

/* Can the line be brought to lsn?  image: the one to begin with. */
static bool leads_to(const struct retain_rows *rows, const struct retain_decision *d, size_t image,
                     size_t line, uint64_t lsn)
{
    const struct retain_image *i = &rows->images[image];
    if (!d->keep_image[image] || i->state == RETAIN_TRASH || i->state == RETAIN_UNSURE)
        return false;
    for (; line != RETAIN_NONE && i->line != line; line = rows->lines[line].parent) {
        const struct retain_line *l = &rows->lines[line];
        if (l->fork_lsn != 0 && lsn > l->fork_lsn && !has_wal(d, line, l->fork_lsn, lsn))
            return false;
        lsn = lsn < l->parent_lsn ? lsn : l->parent_lsn;
    }
    if (line == RETAIN_NONE)
        return i->line == RETAIN_NONE;
    return i->lsn == lsn || (i->lsn < lsn && has_wal(d, line, i->lsn, lsn));
}

static bool line_stands(const struct retain_rows *rows, const struct retain_decision *d, size_t line)
{
    const struct retain_line *l = &rows->lines[line];
    uint64_t from = d->from[line];
    if (l->image == RETAIN_NONE)
        return true;
    if (from < l->history_from || (from != 0 && !l->made))
        return false;
    if (from == 0 && !leads_to(rows, d, d->image[line], l->parent, l->parent_lsn))
        return false;
    if (from != 0 && (rows->images[d->image[line]].line != line || rows->images[d->image[line]].lsn != from ||
                      rows->images[d->image[line]].state != RETAIN_READY || !d->keep_image[d->image[line]]))
        return false;
    return l->fork_lsn == 0 || has_wal(d, line, from ? from : l->fork_lsn, RETAIN_FOREVER);
}

int retain_check(const struct retain_rows *rows, const struct retain_decision *d, size_t *ret_line)
{
    for (size_t line = 0; line < rows->n_lines; line++)
        if (!line_stands(rows, d, line)) {
            *ret_line = line;
            return -1;
        }
    return 0;
}
