/*
 * replay.h - answers that were given to POSTs with an Idempotency-Key: rows and their statements
 *
 * A row is written in the transaction that makes the change, without an answer, and gets the answer behind
 * it: one without means that the change was made and nobody knows what was answered.
 */
#ifndef MERE_META_REPLAY_H
#define MERE_META_REPLAY_H

#include "meta/db.h"

#define REPLAY_KEEP_S (24 * 3600) /* what the drafts of the header and most services promise */

struct replay {
    const char *account; /* whose key it is: another's may say the same */
    const char *key;
    const char *digest; /* of method, target and body, in hex */
    int64_t status;     /* 0 = not known yet, as the answer */
    const char *answer; /* sealed, base64; NULL = not known */
    int64_t created_at;
};

int replay_find(struct dbc *c, struct arena *a, const char *account, const char *key, struct replay *ret,
                bool *ret_found, struct err *err) MUST_CHECK;
int replay_insert(struct dbc *c, const struct replay *r, struct err *err) MUST_CHECK;
/* status and answer */
int replay_update(struct dbc *c, const struct replay *r, struct err *err) MUST_CHECK;
int replay_delete(struct dbc *c, const char *account, const char *key, struct err *err) MUST_CHECK;
/* Those made before that, at most `limit`. */
int replay_prune(struct dbc *c, int64_t before_us, int64_t limit, struct err *err) MUST_CHECK;

#endif
