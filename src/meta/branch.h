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
    const char *kind;  /* user, snapshot, temporary; insert: NULL = user */
    const char *state; /* init, ready, damaged, deleted, deleting */
    const char *parent_id;
    uint64_t parent_lsn;
    int64_t parent_timestamp;
    bool is_default;
    bool is_protected;
    bool is_root;            /* is treated as one, whatever its history stands on */
    const char *init_source; /* schema-only: what it is cloned from is emptied at its first start; or NULL */
    const char *durability;  /* full, relaxed */
    const char *image_id;    /* what its history begins with: what the volume is cloned from, later one of its
                                own; NULL while state is init */
    const char *volume;      /* none, making, ready */
    const char *volume_id;   /* names its volume, WAL directory and lock; insert: NULL = the id */
    int64_t fork_tli;        /* the timeline it left, and where: its own WAL begins here; */
    uint64_t fork_lsn;       /* 0 = its volume was never made */
    int64_t tli;             /* 0 = never started */
    uint64_t head_lsn;       /* 0 = not cleanly suspended */
    uint64_t history_from;   /* its own history is whole from here on; 0 = from where it left its parent */
    uint64_t begins_lsn;     /* of one that was emptied: where; nobody reaches what lies before */
    const char *boot_id;     /* of the boot in which it last ran without syncing, or NULL */
    const char *annotations; /* JSON object of strings */
    const char *spec;        /* JSON object: what a client has set, as it set it; NULL = nothing */
    int64_t expires_at;      /* 0 = never */
    int64_t ttl_seconds;     /* what expires_at is set to anew at a reset; 0 = it stays */
    int64_t last_reset_at;   /* 0 = never */
    int64_t deleted_at, recoverable_until; /* in state deleted */
    const char *deletion_method;           /* user, ttl; or NULL */
    const char *made_by;                   /* of a snapshot: user, schedule, bookmark */
    const char *restored_from;             /* the snapshot it was made of, or NULL */
    const char *restored_as;               /* the branch it is to replace; of a snapshot: the one it is of */
    const char *restore_status;            /* restored, finalized; or NULL */
    int64_t state_changed_at, created_at, updated_at;
    /* Read only: the parent as users know it: of a child of a snapshot, what that is of; NULL when nobody
     * sees it. */
    const char *shown_parent_id;
};

/*
 * Where not said otherwise, only branches of kind user that are neither deleted nor being deleted exist.
 * ref: an id, or a name inside the project; an id wins.  ERR_NOT_FOUND "branch not found: \"ref\"", also from
 * the moment of its expires_at on, however long it takes until it is gone.
 */
int branch_get(struct dbc *c, struct arena *a, const char *project_id, const char *ref, struct branch *ret,
               struct err *err) MUST_CHECK;
/* Is it one that users see? */
bool branch_is_seen(const struct branch *b);
bool branch_has_expired(const struct branch *b, int64_t now_us);
/* It was made without rows, and was never started: what it is cloned from still has them. */
bool branch_awaits_emptying(const struct branch *b);
/* May a child made at this place keep the rows it finds there? */
bool branch_keeps_rows(const struct branch *parent, uint64_t lsn);
/* A deleted one that can still be recovered, by id or by the name it had.  ERR_NOT_FOUND; ERR_CONFLICT when
 * several had the name. */
int branch_get_deleted(struct dbc *c, struct arena *a, const char *project_id, const char *ref,
                       int64_t now_us, struct branch *ret, struct err *err) MUST_CHECK;
int branch_get_id(struct dbc *c, struct arena *a, const char *id, struct branch *ret,
                  struct err *err) MUST_CHECK; /* any project, any kind, any state */
int branch_get_default(struct dbc *c, struct arena *a, const char *project_id, struct branch *ret,
                       struct err *err) MUST_CHECK;
/* All branches of that name in any project (for connections). */
int branch_find_name(struct dbc *c, struct arena *a, const char *name, struct branch **ret, size_t *ret_n,
                     struct err *err) MUST_CHECK;
/* sort_by: name, created_at, updated_at (default updated_at, descending). */
int branch_list(struct dbc *c, struct arena *a, const char *project_id, struct page *page,
                struct branch **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* Snapshots that users see: taken by them or by a schedule, not deleted and not expired.  ERR_NOT_FOUND
 * "snapshot not found". */
int branch_get_snapshot(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                        struct branch *ret, struct err *err) MUST_CHECK;
int branch_list_snapshots(struct dbc *c, struct arena *a, const char *project_id, struct branch **ret,
                          size_t *ret_n, struct err *err) MUST_CHECK; /* newest first */
/* Every branch of the project, of every kind and in every state. */
int branch_list_all(struct dbc *c, struct arena *a, const char *project_id, struct branch **ret,
                    size_t *ret_n, struct err *err) MUST_CHECK;
/* Temporary ones that nothing works on or with any more: no open operation is of them or names them in its
 * args, and no compute of theirs runs or is to run.  id: only this one, if it is one of them; NULL = all. */
int branch_list_left_over(struct dbc *c, struct arena *a, const char *id, struct branch **ret, size_t *ret_n,
                          struct err *err) MUST_CHECK;
/* What the retention of history needs to know of a branch. */
struct branch_line {
    const char *id;
    const char *volume_id;
    const char *parent_id;
    uint64_t parent_lsn;
    const char *image_id;
    const char *volume;
    uint64_t fork_lsn;
    int64_t tli;
    uint64_t history_from;
    int64_t retention_seconds; /* of its project; 0 for one that was deleted for good */
};
/* Every branch that is not being deleted, of every kind, by id. */
int branch_list_lines(struct dbc *c, struct arena *a, int64_t now_us, struct branch_line **ret, size_t *ret_n,
                      struct err *err) MUST_CHECK;
/* At most `limit` that are made, past their expires_at, and kept by nothing: users' branches without children
 * that users see, and snapshots. */
int branch_list_expired(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                        size_t *ret_n, struct err *err) MUST_CHECK;
/* At most `limit` deleted ones that cannot be recovered any more, that nothing stands on and nothing works
 * on. */
int branch_list_purgeable(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                          size_t *ret_n, struct err *err) MUST_CHECK;
/* What held the place of a bookmark that is gone. */
int branch_list_unheld(struct dbc *c, struct arena *a, int64_t now_us, int64_t limit, struct branch **ret,
                       size_t *ret_n, struct err *err) MUST_CHECK;
/* The temporary ones that are read (by an endpoint of type read_only) at some LSN of the parent. */
int branch_list_moments(struct dbc *c, struct arena *a, const char *parent_id, struct branch **ret,
                        size_t *ret_n, struct err *err) MUST_CHECK;
/* The one at this LSN: there is at most one. */
int branch_find_moment(struct dbc *c, struct arena *a, const char *parent_id, uint64_t lsn,
                       struct branch *ret, bool *ret_found, struct err *err) MUST_CHECK;
int branch_count(struct dbc *c, const char *project_id, const char *search, int64_t *ret,
                 struct err *err) MUST_CHECK;
int branch_count_children(struct dbc *c, const char *id, int64_t *ret, struct err *err) MUST_CHECK;
int branch_name_is_taken(struct dbc *c, const char *project_id, const char *name, bool *ret,
                         struct err *err) MUST_CHECK;
/* Does any row stand on it, seen or not? */
int branch_is_stood_on(struct dbc *c, const char *id, bool *ret, struct err *err) MUST_CHECK;

/* ERR_CONFLICT `branch already exists; branch_name:"x"` */
int branch_insert(struct dbc *c, const struct branch *b, struct err *err) MUST_CHECK;
int branch_update(struct dbc *c, const struct branch *b,
                  struct err *err) MUST_CHECK; /* name, is_protected, annotations, expires_at, ttl_seconds,
                                                  restore_status, restored_as, updated_at */
int branch_set_default(struct dbc *c, const char *project_id, const char *id, int64_t now_us,
                       struct err *err) MUST_CHECK;
/* Compare-and-set: ERR_PRECONDITION when the state is not `from` any more (from NULL = any). */
int branch_set_state(struct dbc *c, const char *id, const char *from, const char *to, int64_t now_us,
                     struct err *err) MUST_CHECK;
/* Nobody sees it from here on; its name is free.  method: user or ttl. */
int branch_set_deleted(struct dbc *c, const char *id, int64_t recoverable_until, const char *method,
                       int64_t now_us, struct err *err) MUST_CHECK;
/* Deleted -> ready, as it was.  ERR_CONFLICT when its name was taken meanwhile. */
int branch_set_recovered(struct dbc *c, const struct branch *b, int64_t now_us, struct err *err) MUST_CHECK;
/* Those that were deleted at this very time: with their project. */
int branch_recover_all(struct dbc *c, const char *project_id, int64_t deleted_at, int64_t now_us,
                       struct err *err) MUST_CHECK;
/* The fork is fixed: parent_lsn, parent_timestamp, image_id; state init -> ready. */
int branch_set_fork(struct dbc *c, const char *id, uint64_t parent_lsn, int64_t parent_timestamp,
                    const char *image_id, int64_t now_us, struct err *err) MUST_CHECK;
/*
 * A restore: target becomes what `made` (a child without endpoints, which goes) would have become, and `old`
 * is inserted with what target was: its place, data and history.  Children and images of target are then
 * those of old. target: as it is to be; what makes up its history is taken from made.
 */
int branch_replace(struct dbc *c, struct branch *target, const struct branch *made, struct branch *old,
                   struct err *err) MUST_CHECK;
int branch_set_volume(struct dbc *c, const char *id, const char *volume, struct err *err) MUST_CHECK;
int branch_set_begin(struct dbc *c, const char *id, int64_t fork_tli, uint64_t fork_lsn,
                     struct err *err) MUST_CHECK;
/* Branches whose own history is all that is kept of them need no parent that was deleted for good. */
int branch_let_parents_go(struct dbc *c, int64_t now_us, struct err *err) MUST_CHECK;
/* Its own history is whole from here on, and begins with this image of it. */
int branch_set_history(struct dbc *c, const char *id, uint64_t history_from, const char *image_id,
                       struct err *err) MUST_CHECK;
/* It has been emptied. */
int branch_set_begins(struct dbc *c, const char *id, uint64_t begins_lsn, struct err *err) MUST_CHECK;
int branch_set_tli(struct dbc *c, const char *id, int64_t tli, struct err *err) MUST_CHECK;
int branch_set_head(struct dbc *c, const char *id, uint64_t head_lsn,
                    struct err *err) MUST_CHECK; /* 0 clears */
int branch_set_boot(struct dbc *c, const char *id, const char *boot_id, struct err *err) MUST_CHECK;
/* The row and its roles, databases, bookmarks and schedule; images and endpoints must be gone or re-owned.
 * Children being deleted lose the link. */
int branch_delete(struct dbc *c, const char *id, struct err *err) MUST_CHECK;

#endif
