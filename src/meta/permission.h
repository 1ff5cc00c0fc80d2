/*
 * permission.h - who was named as having access to a project
 */
#ifndef MERE_META_PERMISSION_H
#define MERE_META_PERMISSION_H

#include "base/fields.h"
#include "meta/db.h"

struct permission {
    const char *id;
    const char *project_id;
    const char *granted_to_email;
    int64_t granted_at;
};

/* Oldest first. */
int permission_list(struct dbc *c, struct arena *a, const char *project_id, struct permission **ret,
                    size_t *ret_n, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND "permission not found" */
int permission_get(struct dbc *c, struct arena *a, const char *project_id, const char *id,
                   struct permission *ret, struct err *err) MUST_CHECK;
/* ERR_CONFLICT when the project has one for this address. */
int permission_insert(struct dbc *c, const struct permission *p, struct err *err) MUST_CHECK;
int permission_delete(struct dbc *c, const char *id, struct err *err) MUST_CHECK;
/* All of a project that goes. */
int permission_delete_all(struct dbc *c, const char *project_id, struct err *err) MUST_CHECK;

#endif
