/*
 * extension.h - extensions that users asked for, of each database
 */
#ifndef MERE_META_EXTENSION_H
#define MERE_META_EXTENSION_H

#include "meta/db.h"

struct extension {
    int64_t database_id;
    const char *name;
    const char *version; /* wanted or installed; NULL = whichever is the default */
    const char *schema;  /* as version */
    const char *state;   /* creating (or to be altered), ready, inherited, dropping */
    int64_t created_at, updated_at;
};

int extension_find(struct dbc *c, struct arena *a, int64_t database_id, const char *name,
                   struct extension *ret, bool *ret_found, struct err *err) MUST_CHECK; /* of any state */
/* By name, of any state. */
int extension_list(struct dbc *c, struct arena *a, int64_t database_id, struct extension **ret, size_t *ret_n,
                   struct err *err) MUST_CHECK;
/* All that waits in the databases of a branch that are there, by database. */
int extension_list_pending(struct dbc *c, struct arena *a, const char *branch_id, struct extension **ret,
                           size_t *ret_n, struct err *err) MUST_CHECK;
/* Inserts it, or writes version, schema, state and updated_at (which always grows) of the row there is. */
int extension_put(struct dbc *c, const struct extension *e, struct err *err) MUST_CHECK;
/*
 * What was asked for in e (as it was read, but for version and schema) is decided: the row becomes ready, or
 * goes where e is installed nowhere.  A row that was changed since is left as it is.
 */
int extension_settle(struct dbc *c, const struct extension *e, bool installed, struct err *err) MUST_CHECK;
/* Those of one database for another one, which begins as its copy; past: with the moment before them, as
 * role_copy_all. */
int extension_copy_all(struct dbc *c, int64_t from, int64_t to, bool past, int64_t now_us,
                       struct err *err) MUST_CHECK;

#endif
