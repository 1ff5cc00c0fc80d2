/*
 * diff.c - Myers's algorithm in linear space ("An O(ND) Difference Algorithm and Its Variations", 1986)
 *
 * Lines become numbers first, so that comparing two is comparing two integers.  Any thread; nothing is kept.
 */
#include "base/diff.h"

#define CONTEXT    3
#define COST_MAX   256 /* edits that are searched for before a box is divided where it has come furthest */
#define NOT_COMING (-2000000000) /* a diagonal that no path has reached */

struct text {
    const char **lines; /* n + 1: where each begins, and the end */
    int32_t *ids;       /* equal lines have equal ids */
    bool *changed;      /* is not in the other text */
    int32_t n;
};

struct diff {
    struct text t[2];
    int32_t
        *reached[2]; /* how far each side has come on a diagonal, from both ends; index 0 is diagonal -m */
};

/* ---- lines ---- */

static int split(struct text *t, const struct buf *b, struct err *err)
{
    size_t n = 0;
    const char *data = b->len > 0 ? b->data : "", *end = data + b->len;
    for (const char *p = data; p < end; n++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        p = nl ? nl + 1 : end;
    }
    if (n > DIFF_LINES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d lines cannot be compared", DIFF_LINES_MAX);
    t->n = (int32_t)n;
    t->lines = xcalloc(n + 1, sizeof(*t->lines));
    t->ids = xcalloc(n + 1, sizeof(*t->ids));
    t->changed = xcalloc(n + 1, sizeof(*t->changed));
    const char *p = data;
    for (size_t i = 0; i <= n; i++) {
        t->lines[i] = p;
        const char *nl = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        p = nl ? nl + 1 : end;
    }
    return 0;
}

static size_t line_len(const struct text *t, int32_t i)
{
    return (size_t)(t->lines[i + 1] - t->lines[i]);
}

static uint64_t hash(const char *s, size_t len)
{
    uint64_t h = 0xCBF29CE484222325;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)s[i]) * 0x100000001B3;
    return h ^ h >> 32;
}

/* A line's id is one more than the place of the first one like it, counted through both texts. */
static void number_lines(struct diff *d)
{
    int32_t total = d->t[0].n + d->t[1].n;
    size_t size = 16;
    while (size < 2 * (size_t)total)
        size *= 2;
    auto_free int32_t *table = xcalloc(size, sizeof(*table));
    for (int32_t k = 0; k < total; k++) {
        struct text *t = &d->t[k >= d->t[0].n];
        int32_t i = t == d->t ? k : k - d->t[0].n;
        size_t len = line_len(t, i), at = hash(t->lines[i], len) & (size - 1);
        for (; table[at] != 0; at = (at + 1) & (size - 1)) {
            int32_t j = table[at] - 1;
            const struct text *o = &d->t[j >= d->t[0].n];
            j -= o == d->t ? 0 : d->t[0].n;
            if (line_len(o, j) == len && memcmp(o->lines[j], t->lines[i], len) == 0)
                break;
        }
        if (table[at] == 0)
            table[at] = k + 1;
        t->ids[i] = table[at];
    }
}

/* ---- the shortest way ---- */

/* A part of the old text against a part of the new one. */
struct box {
    int32_t x, y; /* where it begins */
    int32_t n, m; /* its lines */
};

static bool is_same(const struct diff *d, const struct box *b, int side, int32_t x, int32_t y)
{
    if (side == 1) { /* from the other end */
        x = b->n - 1 - x;
        y = b->m - 1 - y;
    }
    return d->t[0].ids[b->x + x] == d->t[1].ids[b->y + y];
}

/* The furthest point with `cost` edits on diagonal k (x - y), from either end of the box. */
static int32_t advance(struct diff *d, const struct box *b, int side, int32_t cost, int32_t k)
{
    const int32_t *r = d->reached[side] + b->m + 1;
    int32_t x = r[k - 1] + 1 > r[k + 1] ? r[k - 1] + 1 : r[k + 1];
    if (cost == 0)
        x = 0;
    if (x < 0 || x > b->n || x - k > b->m)
        return NOT_COMING;
    while (x < b->n && x - k < b->m && is_same(d, b, side, x, x - k))
        x++;
    return x;
}

/* One step of one side; true when it meets the other: *ret_x, *ret_y lie on a shortest way. */
static bool step(struct diff *d, const struct box *b, int side, int32_t cost, int32_t *ret_x, int32_t *ret_y)
{
    int32_t *mine = d->reached[side] + b->m + 1, *other = d->reached[!side] + b->m + 1;
    int32_t low = cost > b->m ? b->m - ((cost - b->m) & 1) : cost;
    int32_t high = cost > b->n ? b->n - ((cost - b->n) & 1) : cost;
    for (int32_t k = -low; k <= high; k += 2) {
        int32_t facing = b->n - b->m - k;
        mine[k] = advance(d, b, side, cost, k);
        if (mine[k] < 0 || facing < -cost || facing > cost || mine[k] + other[facing] < b->n)
            continue;
        *ret_x = side == 0 ? mine[k] : b->n - mine[k];
        *ret_y = side == 0 ? mine[k] - k : b->m - (mine[k] - k);
        return true;
    }
    return false;
}

static int32_t at_most(int32_t n)
{
    return n < COST_MAX ? n : COST_MAX;
}

/* Where the first side has come furthest. */
static void furthest(const struct diff *d, const struct box *b, int32_t *ret_x, int32_t *ret_y)
{
    const int32_t *r = d->reached[0] + b->m + 1;
    int32_t best = -1;
    for (int32_t k = -at_most(b->m); k <= at_most(b->n); k++)
        if (r[k] >= 0 && 2 * r[k] - k > best) {
            best = 2 * r[k] - k;
            *ret_x = r[k];
            *ret_y = r[k] - k;
        }
}

/* Both ends of the box differ, so the point lies in it and is no end of it. */
static void divide(struct diff *d, const struct box *b, int32_t *ret_x, int32_t *ret_y)
{
    for (int side = 0; side < 2; side++)
        for (int32_t k = -at_most(b->m) - 1; k <= at_most(b->n) + 1; k++)
            d->reached[side][k + b->m + 1] = NOT_COMING;
    for (int32_t cost = 0; cost <= COST_MAX; cost++)
        if (step(d, b, 0, cost, ret_x, ret_y) || step(d, b, 1, cost, ret_x, ret_y))
            return;
    furthest(d, b, ret_x, ret_y);
}

static void trim(const struct diff *d, struct box *b)
{
    while (b->n > 0 && b->m > 0 && is_same(d, b, 0, 0, 0)) {
        b->x++;
        b->y++;
        b->n--;
        b->m--;
    }
    while (b->n > 0 && b->m > 0 && is_same(d, b, 1, 0, 0)) {
        b->n--;
        b->m--;
    }
}

static void mark(struct diff *d, const struct box *b)
{
    memset(d->t[0].changed + b->x, true, (size_t)b->n);
    memset(d->t[1].changed + b->y, true, (size_t)b->m);
}

/* Goes down into the smaller part and on with the larger one, so that it is never deep. */
static void compare(struct diff *d, struct box b)
{
    for (;;) {
        int32_t x = 0, y = 0;
        trim(d, &b);
        if (b.n == 0 || b.m == 0) {
            mark(d, &b);
            return;
        }
        divide(d, &b, &x, &y);
        struct box head = { b.x, b.y, x, y }, tail = { b.x + x, b.y + y, b.n - x, b.m - y };
        bool head_is_smaller = (int64_t)x + y < (int64_t)b.n + b.m - x - y;
        compare(d, head_is_smaller ? head : tail);
        b = head_is_smaller ? tail : head;
    }
}

/* A change that could as well be said to lie further down is: so runs meet, and equal changes look equal. */
static void slide(struct text *t)
{
    for (int32_t i = 0, j; i < t->n; i = j) {
        for (j = i; j < t->n && t->changed[j]; j++)
            ;
        if (j == i) {
            j = i + 1;
            continue;
        }
        while (j < t->n && t->ids[i] == t->ids[j]) {
            t->changed[i++] = false;
            t->changed[j] = true;
            while (j < t->n && t->changed[j])
                j++;
        }
    }
}

/* ---- what it looks like ---- */

static void add_line(struct buf *ret, char sign, const struct text *t, int32_t i)
{
    size_t len = line_len(t, i);
    buf_add(ret, &sign, 1);
    buf_add(ret, t->lines[i], len);
    if (t->lines[i][len - 1] != '\n')
        buf_adds(ret, "\n\\ No newline at end of file\n");
}

static void add_range(struct buf *ret, char sign, int32_t from, int32_t n)
{
    buf_addf(ret, " %c%d", sign, n == 0 ? from : from + 1);
    if (n != 1)
        buf_addf(ret, ",%d", n);
}

static void add_name(struct buf *ret, const char *sign, const char *name)
{
    buf_adds(ret, sign);
    for (const char *p = name; *p; p++)
        buf_add(ret, (uint8_t)*p < ' ' || *p == 0x7F ? "?" : p, 1);
    buf_adds(ret, "\n");
}

/* The lines from (x, y) to (x_end, y_end): what goes before what comes. */
static void add_hunk(struct buf *ret, const struct diff *d, int32_t x, int32_t y, int32_t x_end,
                     int32_t y_end)
{
    buf_adds(ret, "@@");
    add_range(ret, '-', x, x_end - x);
    add_range(ret, '+', y, y_end - y);
    buf_adds(ret, " @@\n");
    while (x < x_end || y < y_end)
        if (x < x_end && d->t[0].changed[x])
            add_line(ret, '-', &d->t[0], x++);
        else if (y < y_end && d->t[1].changed[y])
            add_line(ret, '+', &d->t[1], y++);
        else
            add_line(ret, ' ', &d->t[0], (y++, x++));
}

static bool changes_at(const struct diff *d, int32_t x, int32_t y)
{
    return (x < d->t[0].n && d->t[0].changed[x]) || (y < d->t[1].n && d->t[1].changed[y]);
}

/* Behind the changes at (x, y) and those that are near enough to share what stands between them. */
static void end_of_hunk(const struct diff *d, int32_t *x, int32_t *y)
{
    int32_t same = 0;
    while ((*x < d->t[0].n || *y < d->t[1].n) && same <= 2 * CONTEXT) {
        if (changes_at(d, *x, *y)) {
            same = 0;
            while (*x < d->t[0].n && d->t[0].changed[*x])
                ++*x;
            while (*y < d->t[1].n && d->t[1].changed[*y])
                ++*y;
        } else {
            same++;
            ++*x;
            ++*y;
        }
    }
    int32_t too_many = same > CONTEXT ? same - CONTEXT : 0;
    *x -= too_many;
    *y -= too_many;
}

static void render(const struct diff *d, struct buf *ret)
{
    int32_t x = 0, y = 0, same = 0;
    while (x < d->t[0].n || y < d->t[1].n) {
        if (!changes_at(d, x, y)) {
            x++;
            y++;
            same++;
            continue;
        }
        int32_t before = same < CONTEXT ? same : CONTEXT, x_end = x, y_end = y;
        end_of_hunk(d, &x_end, &y_end);
        add_hunk(ret, d, x - before, y - before, x_end, y_end);
        x = x_end;
        y = y_end;
        same = 0;
    }
}

static void diff_fini(struct diff *d)
{
    for (int i = 0; i < 2; i++) {
        free(d->t[i].lines);
        free(d->t[i].ids);
        free(d->t[i].changed);
        free(d->reached[i]);
    }
}

int diff_unified(const struct buf *old, const char *old_name, const struct buf *new, const char *new_name,
                 struct buf *ret, struct err *err)
{
    CLEANUP(diff_fini) struct diff d = { 0 };
    if (old->len == new->len && (old->len == 0 || memcmp(old->data, new->data, old->len) == 0))
        return 0;
    if (split(&d.t[0], old, err) < 0 || split(&d.t[1], new, err) < 0)
        return -1;
    number_lines(&d);
    for (int i = 0; i < 2; i++)
        d.reached[i] = xcalloc((size_t)d.t[0].n + (size_t)d.t[1].n + 3, sizeof(*d.reached[i]));
    compare(&d, (struct box){ 0, 0, d.t[0].n, d.t[1].n });
    slide(&d.t[0]);
    slide(&d.t[1]);
    add_name(ret, "--- ", old_name);
    add_name(ret, "+++ ", new_name);
    render(&d, ret);
    return 0;
}
