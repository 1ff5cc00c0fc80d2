/*
 * project.h - projects: rows and their statements
 */
#ifndef MERE_META_PROJECT_H
#define MERE_META_PROJECT_H

#include "base/fields.h"
#include "meta/db.h"

/* settings.image_wal_bytes: how much WAL a running branch writes until it gets an image; 0 = none. */
#define PROJECT_IMAGE_WAL_DEFAULT ((int64_t)256 << 20)
#define PROJECT_IMAGE_WAL_MIN     ((int64_t)16 << 20)

struct project {
    const char *id;
    const char *name;
    const char *state; /* ready, deleted, deleting */
    int64_t pg_version;
    const char *region_id;
    bool store_passwords;
    int64_t history_retention_seconds;
    const char *settings;                  /* JSON */
    const char *default_endpoint_settings; /* JSON */
    int64_t deleted_at, recoverable_until; /* in state deleted */
    int64_t created_at, updated_at;
};

/* ERR_NOT_FOUND "project not found" when absent, deleted or being deleted. */
int project_get(struct dbc *c, struct arena *a, const char *id, struct project *ret,
                struct err *err) MUST_CHECK;
int project_get_any(struct dbc *c, struct arena *a, const char *id, struct project *ret,
                    struct err *err) MUST_CHECK;
/* A deleted one that can still be recovered. */
int project_get_deleted(struct dbc *c, struct arena *a, const char *id, int64_t now_us, struct project *ret,
                        struct err *err) MUST_CHECK;
/* A deleted one that cannot be recovered any more. */
int project_find_purgeable(struct dbc *c, struct arena *a, int64_t now_us, struct project *ret,
                           bool *ret_found, struct err *err) MUST_CHECK;
/* Newest first; search matches name substring (ASCII case-insensitive) or exact id.  page->deleted: those
 * that can be recovered instead. */
int project_list(struct dbc *c, struct arena *a, struct page *page, struct project **ret, size_t *ret_n,
                 struct err *err) MUST_CHECK;
int project_image_wal_bytes(struct dbc *c, const char *id, int64_t *ret, struct err *err) MUST_CHECK;
int project_insert(struct dbc *c, const struct project *p, struct err *err) MUST_CHECK;
int project_update(struct dbc *c, const struct project *p,
                   struct err *err) MUST_CHECK; /* name, retention, settings, defaults, updated_at */
int project_set_state(struct dbc *c, const char *id, const char *state, int64_t now_us,
                      struct err *err) MUST_CHECK;
/* Nobody sees it from here on. */
int project_set_deleted(struct dbc *c, const char *id, int64_t recoverable_until, int64_t now_us,
                        struct err *err) MUST_CHECK;
int project_set_recovered(struct dbc *c, const char *id, int64_t now_us, struct err *err) MUST_CHECK;
int project_delete(struct dbc *c, const char *id,
                   struct err *err) MUST_CHECK; /* the row and its permissions; branches must be gone */

#endif
