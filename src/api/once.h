/*
 * once.h - Idempotency-Key: a POST that is sent again is answered again, and not carried out again
 *
 * For a day the same key of the same account answers what the first request was answered, with
 * Idempotency-Replayed: true.  Requests with one key run one behind the other.  The key is kept in the very
 * transaction that makes the change, so that a crash makes no second one.  What was refused changed nothing
 * and is not kept.
 */
#ifndef MERE_ONCE_H
#define MERE_ONCE_H

#include "api/router.h"

#include <pthread.h>

struct once {
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    struct once_run *running; /* private */
};

void once_init(struct once *all);
void once_fini(struct once *all); /* nothing runs any more */

/*
 * The handler's answer, or the one kept.  body: as it was sent.  Errors, beside the handler's own:
 * ERR_BAD_REQUEST for a key that is none, ERR_INVALID when it came with another request, ERR_UNAVAILABLE
 * while the first one still runs, ERR_CONFLICT when that was carried out and its answer is lost.
 */
int once_handle(struct once *all, struct http_req *req, http_handler handler, const char *body, size_t len,
                struct http_res *res, struct err *err) MUST_CHECK;

#endif
