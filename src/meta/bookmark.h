/*
 * bookmark.h - names for places in a branch's history
 */
#ifndef MERE_META_BOOKMARK_H
#define MERE_META_BOOKMARK_H

#include "meta/db.h"

struct bookmark {
    const char *branch_id;
    const char *name;
    uint64_t lsn;
    int64_t timestamp;   /* 0 = not known */
    const char *hold_id; /* the hidden branch that keeps the place, or NULL */
    int64_t expires_at;  /* 0 = never; from then on it is not there */
    int64_t created_at, updated_at;
};

/* ERR_NOT_FOUND "bookmark not found". */
int bookmark_get(struct dbc *c, struct arena *a, const char *branch_id, const char *name,
                 struct bookmark *ret, struct err *err) MUST_CHECK;
int bookmark_list(struct dbc *c, struct arena *a, const char *branch_id, struct bookmark **ret, size_t *ret_n,
                  struct err *err) MUST_CHECK; /* by name */
/* Takes the place of one of that name. */
int bookmark_put(struct dbc *c, const struct bookmark *b, struct err *err) MUST_CHECK;
int bookmark_delete(struct dbc *c, const char *branch_id, const char *name, struct err *err) MUST_CHECK;
/* Those beyond an LSN go to another branch, or, where that is NULL, go. */
int bookmark_move_beyond(struct dbc *c, const char *branch_id, uint64_t lsn, const char *to_id,
                         struct err *err) MUST_CHECK;
/* Those beyond an LSN that hold their place. */
int bookmark_count_held(struct dbc *c, const char *branch_id, uint64_t beyond, int64_t *ret,
                        struct err *err) MUST_CHECK;
/* Removes those that have expired, and those of branches that cannot be recovered any more. */
int bookmark_prune(struct dbc *c, int64_t now_us, int64_t *ret_removed, struct err *err) MUST_CHECK;

#endif
