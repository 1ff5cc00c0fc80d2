/*
 * history.c - lines of WAL
 *
 * Rows first (no file is read while a connection is borrowed), then files.  Called from jobs and from
 * requests.
 */
#include "branch/history.h"

#include "base/fs.h"
#include "base/text.h"
#include "branch/volume.h"
#include "pg/walread.h"
#include "pg/walseg.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* ---- rows ---- */

static void push_piece(struct history *h, struct arena *a, const struct branch *b, uint64_t from)
{
    struct history_piece *all = arena_alloc(a, (h->n + 1) * sizeof(*all));
    if (h->n > 0)
        memcpy(all + 1, h->pieces, h->n * sizeof(*all));
    all[0] = (struct history_piece){ .volume_id = b->volume_id, .tli = (uint32_t)b->tli, .from = from };
    h->pieces = all;
    h->n++;
}

/* Which image to begin with: one that is named, or the newest that will do. */
struct start {
    const char *image_id; /* NULL = not named */
    bool timed;           /* nothing before it is stamped after t_us */
    int64_t t_us;
};

/* Is the image to begin with one of this branch's own? */
static int look_for_image(struct dbc *c, struct arena *a, const struct branch *b, uint64_t lsn,
                          const struct start *start, struct image *ret, bool *ret_found, struct err *err)
{
    *ret_found = false;
    if (start->image_id) {
        *ret_found = ret->branch_id && strcmp(ret->branch_id, b->id) == 0;
        return 0;
    }
    if (b->fork_lsn == 0)
        return 0;
    /* Before history_from only single places are left, with their images. */
    uint64_t from = lsn >= b->history_from && b->history_from > b->fork_lsn ? b->history_from : b->fork_lsn;
    if (start->timed)
        return image_find_stamped(c, a, b->id, from, lsn, start->t_us, ret, ret_found, err);
    return image_find_between(c, a, b->id, from, lsn, ret, ret_found, err);
}

/* No record begins inside a page's header: what is asked for there is the page's beginning. */
static uint64_t before_header(uint64_t lsn)
{
    uint64_t page = lsn - lsn % WALSEG_PAGE;
    return lsn <= walseg_record_start(page) ? page : lsn;
}

/* The branch of the line in whose own history the oldest place lies that can be reached: that of one whose
 * earlier history has gone, or is nobody's since it was emptied, of the root, or of one whose parent keeps
 * nothing of its own from there any more. */
static int find_oldest(struct dbc *c, struct arena *a, const struct branch *b, struct branch *ret,
                       struct err *err)
{
    struct branch parent;
    for (*ret = *b; ret->history_from == 0 && !ret->init_source && ret->parent_id; *ret = parent) {
        if (branch_get_id(c, a, ret->parent_id, &parent, err) < 0)
            return -1;
        if (ret->parent_lsn < parent.history_from)
            break;
    }
    return ret->image_id ? 0 : err_set(err, ERR_INTERNAL, "branch %s has no history yet", b->id);
}

/* Up the line to the branch whose image it begins with.  Where there is none that will do, it begins with the
 * oldest. */
static int find(const struct env *env, struct dbc *c, struct arena *a, const struct branch *b, uint64_t lsn,
                const struct start *start, struct history *ret, struct err *err)
{
    struct start from = *start;
    struct branch at = *b, oldest = { 0 };
    bool found = false;
    lsn = before_header(lsn);
    *ret = (struct history){ .env = env, .lsn = lsn };
    if ((from.image_id ? image_get(c, a, from.image_id, &ret->image, err)
                       : find_oldest(c, a, b, &oldest, err)) < 0)
        return -1;
    for (;;) {
        bool own = at.fork_lsn != 0 && at.tli != 0 && lsn > at.fork_lsn;
        if (look_for_image(c, a, &at, lsn, &from, &ret->image, &found, err) < 0)
            return -1;
        if (!found && !from.image_id && strcmp(at.id, oldest.id) == 0) {
            from.image_id = oldest.image_id;
            if (image_get(c, a, from.image_id, &ret->image, err) < 0 ||
                look_for_image(c, a, &at, lsn, &from, &ret->image, &found, err) < 0)
                return -1;
        }
        if (found && ret->image.lsn > lsn)
            break;
        if (found) {
            if (ret->image.lsn < lsn)
                push_piece(ret, a, &at, ret->image.lsn);
            return 0;
        }
        if (own)
            push_piece(ret, a, &at, at.fork_lsn);
        if (!at.parent_id)
            break;
        lsn = lsn < at.parent_lsn ? lsn : at.parent_lsn;
        if (branch_get_id(c, a, at.parent_id, &at, err) < 0)
            return -1;
    }
    /* The root: what it was cloned from is the template. */
    return !ret->image.branch_id
               ? 0
               : err_set(err, ERR_INTERNAL, "image %s is not of the history of branch %s before this place",
                         ret->image.id, b->id);
}

int history_find(const struct env *env, struct dbc *c, struct arena *a, const struct branch *b, uint64_t lsn,
                 const char *image_id, struct history *ret, struct err *err)
{
    return find(env, c, a, b, lsn, &(struct start){ .image_id = image_id }, ret, err);
}

int history_find_time(const struct env *env, struct dbc *c, struct arena *a, const struct branch *b,
                      uint64_t lsn, int64_t t_us, struct history *ret, struct err *err)
{
    return find(env, c, a, b, lsn, &(struct start){ .timed = true, .t_us = t_us }, ret, err);
}

int history_earliest(struct dbc *c, struct arena *a, const struct branch *b, uint64_t *ret_lsn,
                     int64_t *ret_time_us, struct err *err)
{
    struct branch oldest;
    struct image image;
    if (find_oldest(c, a, b, &oldest, err) < 0 || image_get(c, a, oldest.image_id, &image, err) < 0)
        return -1;
    bool own = oldest.history_from != 0;
    *ret_lsn = own                 ? oldest.history_from
               : oldest.begins_lsn ? oldest.begins_lsn
               : oldest.parent_id  ? oldest.parent_lsn
                                   : image.lsn;
    *ret_time_us = own ? image.created_at : oldest.parent_id ? oldest.parent_timestamp : oldest.created_at;
    return 0;
}

uint32_t history_tli(const struct history *h)
{
    return h->n > 0 ? h->pieces[h->n - 1].tli : (uint32_t)h->image.tli;
}

/* ---- files ---- */

const struct history_piece *history_piece_of(const struct history *h, uint64_t segno)
{
    size_t i = h->n - 1;
    while (i > 0 && walseg_no(h->pieces[i].from) > segno)
        i--;
    return &h->pieces[i];
}

struct reading {
    const struct history *h;
    const char *dir; /* each segment is copied here and read from here; NULL = read where it is kept */
    char name[64];
};

/* The directories belong to the computes' user: whatever lies there, we neither follow nor wait for it. */
static int try_open(const char *path, int *ret_fd, struct err *err)
{
    struct stat st;
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, "open %s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_INTERNAL, "a WAL segment is not a file; nothing was made of it");
    /* Also where all that is read of it is there: nobody writes a short one, and recovery takes none. */
    if (st.st_size != WALSEG_SIZE)
        return err_set(err, ERR_INTERNAL,
                       "the history is damaged: WAL segment %s has %lld bytes; nothing was made of it",
                       strrchr(path, '/') + 1, (long long)st.st_size);
    *ret_fd = TAKE_FD(fd);
    return 1;
}

static int open_segment(void *arg, uint64_t segno, int *ret_fd, const char **ret_name, struct err *err)
{
    struct reading *r = arg;
    const struct history_piece *p = history_piece_of(r->h, segno);
    auto_arena *a = arena_new(0);
    walseg_name(p->tli, segno, r->name);
    *ret_name = r->name;
    const char *kept = arena_printf(a, "%s/%s", env_archive(r->h->env, a, p->volume_id), r->name);
    const char *live = arena_printf(a, "%s/%s", env_pg_wal(r->h->env, a, p->volume_id), r->name);
    if (r->dir) {
        uint64_t bytes = segno == walseg_no(r->h->lsn) ? r->h->lsn % WALSEG_SIZE : WALSEG_SIZE;
        if (volume_copy_segment(r->h->env, p->volume_id, p->tli, segno, bytes, 0, r->dir, err) < 0)
            return -1;
        return try_open(arena_printf(a, "%s/%s", r->dir, r->name), ret_fd, err);
    }
    /* What is not live any more by the second look has been kept by the third. */
    const char *const tries[] = { kept, live, kept };
    int rc = 0;
    for (size_t i = 0; i < N_ELEMENTS(tries) && rc == 0; i++)
        rc = try_open(tries[i], ret_fd, err);
    return rc;
}

static int broken(const struct walread *r, struct err *err)
{
    return err_set(err, ERR_INTERNAL, "the history is damaged: WAL segment %s; nothing was made of it",
                   walread_why(r));
}

/* Has the reader come to where lsn is?  On a page boundary the header stands between the two. */
static bool reached(const struct walread *r, uint64_t lsn)
{
    return walseg_record_start(walread_at(r)) >= lsn;
}

/* Reads to h->lsn, or to the first commit or abort stamped after after_us.  *ret_before: it was the latter.
 */
static int read_to(const struct history *h, const char *dir, int64_t after_us, struct history_place *ret,
                   bool *ret_before, struct err *err)
{
    struct reading files = { .h = h, .dir = dir };
    struct walrec rec;
    *ret = (struct history_place){ .lsn = h->lsn, .stamp_us = h->image.stamp_us > 0 ? h->image.stamp_us : 0 };
    *ret_before = false;
    if (h->n == 0)
        return 0;
    auto_walread *r = walread_new(open_segment, &files, h->image.lsn);
    while (!reached(r, h->lsn)) {
        int rc = walread_next(r, &rec, err);
        if (rc <= 0)
            return rc < 0 ? -1 : broken(r, err);
        if (rec.stamp_us == 0)
            continue;
        if (rec.stamp_us > after_us) {
            ret->lsn = rec.start;
            *ret_before = true;
            return 0;
        }
        if (rec.stamp_us > ret->stamp_us)
            ret->stamp_us = rec.stamp_us;
    }
    ret->lsn = walread_at(r);
    ret->needs = *walread_needs(r);
    return 0;
}

int history_locate(const struct history *h, struct history_place *ret, struct err *err)
{
    bool before;
    return read_to(h, NULL, INT64_MAX, ret, &before, err);
}

int history_locate_time(const struct history *h, int64_t t_us, struct history_place *ret, struct err *err)
{
    bool before;
    if (read_to(h, NULL, t_us, ret, &before, err) < 0)
        return -1;
    ret->lsn = before ? ret->lsn : h->lsn;
    return 0;
}

/* Segments are kept when they are full: where one is that holds the end, or what comes after it, it is no
 * end. */
static int refuse_if_kept_beyond(const struct history *h, const struct walread *r, struct err *err)
{
    auto_arena *a = arena_new(0);
    const struct history_piece *p = &h->pieces[h->n - 1];
    const char **names;
    size_t n;
    uint32_t tli;
    uint64_t segno;
    if (fs_list(a, env_archive(h->env, a, p->volume_id), &names, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (walseg_parse(names[i], &tli, &segno) == WALSEG_SEGMENT && tli == p->tli &&
            segno >= walseg_no(walread_at(r)))
            return broken(r, err);
    return 0;
}

int history_is_quiet(const struct history *h, uint64_t from, bool *ret, struct err *err)
{
    struct reading files = { .h = h };
    struct walrec rec;
    int rc = 1;
    *ret = true;
    if (h->n == 0)
        return 0;
    auto_walread *r = walread_new(open_segment, &files, from);
    while (*ret && !reached(r, h->lsn) && (rc = walread_next(r, &rec, err)) > 0)
        *ret = walrec_is_quiet(&rec);
    return rc > 0 ? 0 : rc < 0 ? -1 : broken(r, err);
}

int history_floor(const struct history *h, uint64_t *ret, struct err *err)
{
    struct reading files = { .h = h };
    struct walrec rec;
    int rc = 0;
    *ret = h->image.lsn;
    if (h->n == 0)
        return 0;
    auto_walread *r = walread_new(open_segment, &files, h->image.lsn);
    while (!reached(r, h->lsn) && (rc = walread_next(r, &rec, err)) > 0 && rec.end <= h->lsn)
        *ret = rec.end;
    return rc == 0 && !reached(r, h->lsn) ? refuse_if_kept_beyond(h, r, err) : rc < 0 ? -1 : 0;
}

int history_end(const struct history *h, uint64_t *ret, struct err *err)
{
    struct reading files = { .h = h };
    struct walrec rec;
    int rc = 0;
    *ret = h->image.lsn;
    if (h->n == 0)
        return 0;
    auto_walread *r = walread_new(open_segment, &files, h->image.lsn);
    while ((rc = walread_next(r, &rec, err)) > 0)
        *ret = rec.end;
    return rc < 0 ? -1 : refuse_if_kept_beyond(h, r, err);
}

int history_gather(const struct history *h, const char *dir, struct history_place *ret, struct err *err)
{
    bool before;
    if (read_to(h, dir, INT64_MAX, ret, &before, err) < 0 || h->n == 0)
        return h->n == 0 ? 0 : -1;
    for (size_t i = 0; i < h->n; i++)
        if (volume_copy_history(h->env, h->pieces[i].volume_id, h->pieces[i].tli, dir, err) < 0)
            return -1;
    return volume_end_wal(dir, history_tli(h), h->image.lsn, ret->lsn, err);
}
