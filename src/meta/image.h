/*
 * image.h - images: immutable volumes of a branch with a known LSN (branch NULL: the template of a Postgres
 * version)
 */
#ifndef MERE_META_IMAGE_H
#define MERE_META_IMAGE_H

#include "meta/db.h"

/* What stamp_us says while it does not say when: no time can begin at such an image. */
#define IMAGE_STAMP_UNREAD (-1)
#define IMAGE_STAMP_LOST   (-2) /* the WAL that says it cannot be read */

struct image {
    const char *id; /* also the volume's id */
    const char *branch_id;
    int64_t pg_version;
    const char *method; /* cold, snapshot, backup */
    const char *state;  /* taking, snapped, ready, trash */
    int64_t tli;
    uint64_t redo_lsn;
    uint64_t lsn;
    uint64_t until_lsn; /* nothing anybody did lies between lsn and here; 0 = lsn itself */
    int64_t
        stamp_us; /* the largest stamp of a commit or abort before lsn in its whole line; 0 = there is none */
    int64_t created_at; /* a time at which its lsn had been reached: what was committed later is not in it */
};

int image_get(struct dbc *c, struct arena *a, const char *id, struct image *ret, struct err *err) MUST_CHECK;
/* The ready template of a version; *ret_found false when there is none. */
int image_find_template(struct dbc *c, struct arena *a, int64_t pg_version, struct image *ret,
                        bool *ret_found, struct err *err) MUST_CHECK;
/* A ready or snapped image of the branch that is its state at exactly this LSN. */
int image_find_at(struct dbc *c, struct arena *a, const char *branch_id, uint64_t lsn, struct image *ret,
                  bool *ret_found, struct err *err) MUST_CHECK;
/* The newest ready image of the branch with from <= lsn <= to. */
int image_find_between(struct dbc *c, struct arena *a, const char *branch_id, uint64_t from, uint64_t to,
                       struct image *ret, bool *ret_found, struct err *err) MUST_CHECK;
/* The newest of these before which nothing is stamped after until_us. */
int image_find_stamped(struct dbc *c, struct arena *a, const char *branch_id, uint64_t from, uint64_t to,
                       int64_t until_us, struct image *ret, bool *ret_found, struct err *err) MUST_CHECK;
/* The oldest ready one in a history that is whole whose stamp_us was not read yet. */
int image_find_unstamped(struct dbc *c, struct arena *a, struct image *ret, bool *ret_found,
                         struct err *err) MUST_CHECK;
/* branch_id NULL: all images of everybody. */
int image_list(struct dbc *c, struct arena *a, const char *branch_id, struct image **ret, size_t *ret_n,
               struct err *err) MUST_CHECK;
/* All but those of branches that are being deleted, by id. */
int image_list_standing(struct dbc *c, struct arena *a, struct image **ret, size_t *ret_n,
                        struct err *err) MUST_CHECK;
int image_insert(struct dbc *c, const struct image *i, struct err *err) MUST_CHECK;
/* state, tli, redo_lsn, lsn, until_lsn, method, created_at */
int image_update(struct dbc *c, const struct image *i, struct err *err) MUST_CHECK;
int image_set_state(struct dbc *c, const char *id, const char *state, struct err *err) MUST_CHECK;
int image_set_stamp(struct dbc *c, const char *id, int64_t stamp_us, struct err *err) MUST_CHECK;
/* Branches being deleted let go of it; one that lives and is cloned from it is ERR_INTERNAL. */
int image_delete(struct dbc *c, const char *id, struct err *err) MUST_CHECK;

#endif
