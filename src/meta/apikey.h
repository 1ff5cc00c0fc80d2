/*
 * apikey.h - API keys: only their SHA-256 is kept
 */
#ifndef MERE_META_APIKEY_H
#define MERE_META_APIKEY_H

#include "meta/db.h"

struct apikey {
    int64_t id;
    const char *name;
    int64_t created_at;
    int64_t last_used_at;
    const char *last_used_addr;
    int64_t revoked_at; /* 0 = live */
};

int apikey_insert(struct dbc *c, const char *name, const uint8_t hash[32], int64_t now_us, int64_t *ret_id,
                  struct err *err) MUST_CHECK;
/* The live key with this hash; *ret_found false when there is none. */
int apikey_find(struct dbc *c, struct arena *a, const uint8_t hash[32], struct apikey *ret, bool *ret_found,
                struct err *err) MUST_CHECK;
int apikey_list(struct dbc *c, struct arena *a, struct apikey **ret, size_t *ret_n,
                struct err *err) MUST_CHECK; /* live ones */
int apikey_revoke(struct dbc *c, struct arena *a, int64_t id, int64_t now_us, struct apikey *ret,
                  struct err *err) MUST_CHECK; /* ERR_NOT_FOUND */
int apikey_touch(struct dbc *c, int64_t id, int64_t now_us, const char *addr, struct err *err) MUST_CHECK;

#endif
