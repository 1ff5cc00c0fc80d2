/*
 * role.h - roles and databases of a branch
 */
#ifndef MERE_META_ROLE_H
#define MERE_META_ROLE_H

#include "meta/db.h"

struct role {
    const char *branch_id;
    const char *name;
    const uint8_t *sealed; /* the password as crypt_seal made it; NULL = not stored, or not known */
    size_t sealed_len;
    const uint8_t *verifier; /* likewise; NULL = there is none to log in with */
    size_t verifier_len;
    int64_t valid_until; /* of the password, us since 1970; 0 = for ever */
    bool no_login;
    const char *made_name; /* in Postgres, while that is not `name`; NULL = name */
    const char *spec;      /* JSON object: what a client has set, as it set it; NULL = nothing */
    const char *state;     /* creating, ready, inherited, dropping */
    int64_t created_at, updated_at;
};

struct database {
    int64_t id;
    const char *branch_id;
    const char *name;
    const char *owner_name;
    const char *made_name, *spec; /* as of a role */
    const char *state;            /* creating (or to be altered), ready, inherited, dropping */
    int64_t created_at, updated_at;
};

/* ERR_NOT_FOUND "role not found"; those being dropped are not found. Lists are by name; with_dropping gives
 * all. */
int role_get(struct dbc *c, struct arena *a, const char *branch_id, const char *name, struct role *ret,
             struct err *err) MUST_CHECK;
int role_list(struct dbc *c, struct arena *a, const char *branch_id, bool with_dropping, struct role **ret,
              size_t *ret_n, struct err *err) MUST_CHECK;
int role_insert(struct dbc *c, const struct role *r,
                struct err *err) MUST_CHECK; /* ERR_CONFLICT role already exists */
int role_update(struct dbc *c, const struct role *r,
                struct err *err) MUST_CHECK; /* what is of its password, no_login, state, updated_at (which
                                                always grows) */
/* spec alone: what is wanted of the role is what it was. */
int role_set_spec(struct dbc *c, const struct role *r, struct err *err) MUST_CHECK;
int role_delete(struct dbc *c, const struct role *r, struct err *err) MUST_CHECK; /* the row */
/* From here on the name is free: the row is called otherwise until the role is gone from Postgres. */
int role_begin_drop(struct dbc *c, const struct role *r, int64_t now_us, struct err *err) MUST_CHECK;
/* Postgres will not drop it: it is there again, unless its name was taken meanwhile; then the row goes. */
int role_undo_drop(struct dbc *c, const struct role *r, int64_t now_us, struct err *err) MUST_CHECK;
/* What was asked for in r (as it was read) is done in Postgres: the row becomes ready, or goes when it was a
 * drop.  A row that was changed since is left as it is: somebody wants something newer. */
int role_settle(struct dbc *c, const struct role *r, int64_t now_us, struct err *err) MUST_CHECK;

int database_get(struct dbc *c, struct arena *a, const char *branch_id, const char *name,
                 struct database *ret, struct err *err) MUST_CHECK;
int database_list(struct dbc *c, struct arena *a, const char *branch_id, bool with_dropping,
                  struct database **ret, size_t *ret_n, struct err *err) MUST_CHECK;
int database_insert(struct dbc *c, struct database *d, struct err *err) MUST_CHECK; /* sets d->id */
int database_update(struct dbc *c, const struct database *d, struct err *err)
    MUST_CHECK; /* by id: name, made_name, owner_name, spec, state, updated_at */
int database_set_spec(struct dbc *c, const struct database *d, struct err *err) MUST_CHECK;
int database_delete(struct dbc *c, const struct database *d, struct err *err) MUST_CHECK; /* the row */
/* As those of roles.  A name that was taken meanwhile stays with the new one, and the drop is tried again. */
int database_begin_drop(struct dbc *c, const struct database *d, int64_t now_us, struct err *err) MUST_CHECK;
int database_undo_drop(struct dbc *c, const struct database *d, int64_t now_us, struct err *err) MUST_CHECK;
int database_settle(struct dbc *c, const struct database *d, int64_t now_us, struct err *err) MUST_CHECK;
/* A name for a row of state dropping; in the arena. */
const char *role_dropping_name(struct arena *a);

/*
 * Copies roles and databases of one branch to another (a fork), sealed passwords as given by reseal.  At the
 * head states are kept.  In the past there may have been none of them: what there is now becomes inherited,
 * and wishes for databases or for a role to go were not made for that moment.
 */
typedef int (*role_reseal_fn)(void *arg, struct arena *a, const struct role *from, struct role *to,
                              struct err *err);
int role_copy_all(struct dbc *c, struct arena *a, const char *from_branch, const char *to_branch, bool past,
                  int64_t now_us, role_reseal_fn reseal, void *arg, struct err *err) MUST_CHECK;
/* The branch begins anew from another moment: what it has now is inherited, what is wished for stays so. */
int role_begin_anew(struct dbc *c, const char *branch_id, int64_t now_us, struct err *err) MUST_CHECK;
/* Some role with a sealed verifier (not one being dropped): what the key can be tried on. */
int role_find_sealed(struct dbc *c, struct arena *a, struct role *ret, bool *ret_found,
                     struct err *err) MUST_CHECK;
/* Is anything of this branch waiting to be made, dropped or found? */
int role_any_pending(struct dbc *c, const char *branch_id, bool *ret, struct err *err) MUST_CHECK;

#endif
