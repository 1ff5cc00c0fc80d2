/*
 * directory.h - what mere-proxy is told of each endpoint, and which of it has changed
 *
 * Changes are noted by triggers (migrations/), so that no statement can forget to.  Each has a number, larger
 * than those of all before; of one endpoint only the latest is kept.
 */
#ifndef MERE_META_DIRECTORY_H
#define MERE_META_DIRECTORY_H

#include "meta/db.h"

/* An endpoint that users see. */
struct listed {
    const char *endpoint_id, *branch_id;
    const char *project_settings; /* JSON; NULL = none */
    bool is_protected;            /* its branch */
    bool park_sessions;
};

/* At most limit of those behind `after` ("" = from the start), by id. */
int directory_page(struct dbc *c, struct arena *a, const char *after, int64_t limit, int64_t now_us,
                   struct listed **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* *ret_found false when nobody sees it. */
int directory_get(struct dbc *c, struct arena *a, const char *endpoint_id, int64_t now_us, struct listed *ret,
                  bool *ret_found, struct err *err) MUST_CHECK;

struct listed_change {
    int64_t seq;
    const char *endpoint_id;
};
/* At most limit of those behind `after`, oldest first. */
int directory_changes(struct dbc *c, struct arena *a, int64_t after, int64_t limit,
                      struct listed_change **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* The latest one; 0 = there is none. */
int directory_last_change(struct dbc *c, int64_t *ret, struct err *err) MUST_CHECK;
/* Those up to seq need not be told any more. */
int directory_forget_changes(struct dbc *c, int64_t seq, struct err *err) MUST_CHECK;

#define DIRECTORY_CHANGES "door_change" /* the table they are noted in */

#endif
