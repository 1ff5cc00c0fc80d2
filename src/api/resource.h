/*
 * resource.h - the one resource that a path or an answer is about: as it was set, and whether it has changed
 *
 * Branches, endpoints, roles and databases.  An ETag has two halves, "SET.ALL": the first changes when
 * somebody changes the resource, the second when anything in the answer does.  If-None-Match of a GET looks
 * at both, so that whatever an answer says can be waited for; If-Match looks at the first alone, so that a
 * compute that wakes or a history that grows spoils nobody's change.
 */
#ifndef MERE_RESOURCE_H
#define MERE_RESOURCE_H

#include "api/http.h"

/*
 * If-Match and If-None-Match of a request that changes something: they are looked at in the transaction that
 * makes the change, which fails with ERR_PRECONDITION.  Taken back behind the handler.
 */
void resource_guard_begin(struct http_req *req);
void resource_guard_end(void);

/* ?view=spec.  ERR_BAD_REQUEST for another view; before anything is changed. */
int resource_read_view(const struct http_req *req, bool *ret_spec, struct err *err) MUST_CHECK;

/*
 * Gives the answer of a GET, PUT, POST or PATCH its ETag; a GET whose answer the client has becomes a 304.
 * spec: shows the name and the members that a client has set, as it set them, and nothing else.
 */
int resource_show(struct http_req *req, bool spec, struct http_res *res, struct err *err) MUST_CHECK;

#endif
