/*
 * branch.h - branches: rows and their statements
 */
#ifndef MERE_META_BRANCH_H
#define MERE_META_BRANCH_H

#include "base/fields.h"
#include "meta/db.h"

struct branch {
    const char *id;
    const char *project_id;
    const char *name;
    const char *state; /* init, ready, damaged, deleting */
    const char *parent_id;
    uint64_t parent_lsn;
    int64_t parent_timestamp;
    bool is_default;
    bool is_protected;
    const char *durability;  /* full, relaxed */
    const char *image_id;    /* what the volume is cloned from; NULL while state is init */
    const char *volume;      /* none, making, ready */
    const char *volume_id;   /* names its volume, WAL directory and lock; insert: NULL = the id */
    int64_t fork_tli;        /* the timeline it left, and where: its own WAL begins here; */
    uint64_t fork_lsn;       /* 0 = its volume was never made */
    int64_t tli;             /* 0 = never started */
    uint64_t head_lsn;       /* 0 = not cleanly suspended */
    const char *boot_id;     /* of the boot in which it last ran without syncing, or NULL */
    const char *annotations; /* JSON object of strings */
    int64_t state_changed_at, created_at, updated_at;
};

/* ref: an id, or a name inside the project; an id wins.  ERR_NOT_FOUND "branch not found: \"ref\"".  Never
 * gives one being deleted. */
int branch_get(struct dbc *c, struct arena *a, const char *project_id, const char *ref, struct branch *ret,
               struct err *err) MUST_CHECK;
int branch_get_id(struct dbc *c, struct arena *a, const char *id, struct branch *ret,
                  struct err *err) MUST_CHECK; /* any project, any state */
int branch_get_default(struct dbc *c, struct arena *a, const char *project_id, struct branch *ret,
                       struct err *err) MUST_CHECK;
/* All branches of that name in any project (for connections); not those being deleted. */
int branch_find_name(struct dbc *c, struct arena *a, const char *name, struct branch **ret, size_t *ret_n,
                     struct err *err) MUST_CHECK;
/* sort_by: name, created_at, updated_at (default updated_at, descending). */
int branch_list(struct dbc *c, struct arena *a, const char *project_id, struct page *page,
                struct branch **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* Every branch of the project in every state. */
int branch_list_all(struct dbc *c, struct arena *a, const char *project_id, struct branch **ret,
                    size_t *ret_n, struct err *err) MUST_CHECK;
int branch_count(struct dbc *c, const char *project_id, const char *search, int64_t *ret,
                 struct err *err) MUST_CHECK;
int branch_count_children(struct dbc *c, const char *id, int64_t *ret,
                          struct err *err) MUST_CHECK; /* not those being deleted */

/* ERR_CONFLICT `branch already exists; branch_name:"x"` */
int branch_insert(struct dbc *c, const struct branch *b, struct err *err) MUST_CHECK;
int branch_update(struct dbc *c, const struct branch *b,
                  struct err *err) MUST_CHECK; /* name, is_protected, annotations, updated_at */
int branch_set_default(struct dbc *c, const char *project_id, const char *id, int64_t now_us,
                       struct err *err) MUST_CHECK;
/* Compare-and-set: ERR_PRECONDITION when the state is not `from` any more (from NULL = any). */
int branch_set_state(struct dbc *c, const char *id, const char *from, const char *to, int64_t now_us,
                     struct err *err) MUST_CHECK;
/* The fork is fixed: parent_lsn, parent_timestamp, image_id; state init -> ready. */
int branch_set_fork(struct dbc *c, const char *id, uint64_t parent_lsn, int64_t parent_timestamp,
                    const char *image_id, int64_t now_us, struct err *err) MUST_CHECK;
int branch_set_volume(struct dbc *c, const char *id, const char *volume, struct err *err) MUST_CHECK;
int branch_set_begin(struct dbc *c, const char *id, int64_t fork_tli, uint64_t fork_lsn,
                     struct err *err) MUST_CHECK;
int branch_set_tli(struct dbc *c, const char *id, int64_t tli, struct err *err) MUST_CHECK;
int branch_set_head(struct dbc *c, const char *id, uint64_t head_lsn,
                    struct err *err) MUST_CHECK; /* 0 clears */
int branch_set_boot(struct dbc *c, const char *id, const char *boot_id, struct err *err) MUST_CHECK;
/* The row and its roles and databases; images and endpoints must be gone or re-owned.  Children being deleted
 * lose the link. */
int branch_delete(struct dbc *c, const char *id, struct err *err) MUST_CHECK;

#endif
