/*
 * settle.h - ?wait=ready&timeout=N, and Prefer: wait=N: a change is answered when its work is done
 */
#ifndef MERE_SETTLE_H
#define MERE_SETTLE_H

#include "api/http.h"

/* Does the request ask for it?  ERR_BAD_REQUEST for another wait, or a timeout out of 0 to 60.  Before
 * anything is changed. */
struct settling {
    bool asked, preferred; /* preferred: by the header */
    int64_t timeout_s;
};
int settle_read(const struct http_req *req, struct settling *ret, struct err *err) MUST_CHECK;

#define SETTLE_MAX_S 60 /* what lies between us and a client cuts off later than that, if at all */

/* Waits for the end of an operation; not beyond the deadline (of the monotonic clock), and not while the
 * server stops. */
int settle_operation(struct http_req *req, const char *id, int64_t deadline_ms, struct err *err) MUST_CHECK;

/*
 * Waits for the operations in the answer and shows everything in it as it is then.  What is not done when the
 * time is over: status 202, with Location of the first operation that goes on.  ERR_CONFLICT when one failed.
 */
int settle(struct http_req *req, const struct settling *how, struct http_res *res,
           struct err *err) MUST_CHECK;

#endif
