/*
 * spec.h - what a body asks for: JSON into the structs that intents take
 *
 * Checks shapes only; whether something is possible is the intent's business.  Every field of Neon's API on
 * these routes is known.  One that touches safety, limits or data and has no effect here is
 * ERR_NOT_SUPPORTED, so that nobody believes in a protection that is not there; asking for what is so anyhow
 * (false, empty, zero) is fine.  Strings live in the request's arena.
 */
#ifndef MERE_SPEC_H
#define MERE_SPEC_H

#include "api/http.h"
#include "scheduler/intent.h"

int spec_project_create(struct http_req *req, struct project_spec *ret, struct err *err) MUST_CHECK;
/* now: the project as it is; members of its settings that the body does not name stay. */
int spec_project_update(struct http_req *req, const struct project *now, struct project_spec *ret,
                        struct err *err) MUST_CHECK;
int spec_branch_create(struct http_req *req, struct branch_spec *ret, struct err *err) MUST_CHECK;
/* name: as the path has it. */
int spec_branch_put(struct http_req *req, const char *name, struct branch_spec *ret,
                    struct err *err) MUST_CHECK;
int spec_branch_update(struct http_req *req, struct branch_spec *ret, struct err *err) MUST_CHECK;
int spec_branch_restore(struct http_req *req, struct restore_spec *ret, struct err *err) MUST_CHECK;
int spec_branch_reset(struct http_req *req, struct restore_spec *ret, struct err *err) MUST_CHECK;
int spec_endpoint_create(struct http_req *req, struct endpoint_spec *ret, struct err *err) MUST_CHECK;
int spec_endpoint_put(struct http_req *req, const char *name, struct endpoint_spec *ret,
                      struct err *err) MUST_CHECK;
int spec_endpoint_update(struct http_req *req, struct endpoint_spec *ret, struct err *err) MUST_CHECK;

int spec_snapshot_update(struct http_req *req, struct branch_spec *ret, struct err *err) MUST_CHECK;
int spec_snapshot_restore(struct http_req *req, struct snapshot_spec *ret, struct err *err) MUST_CHECK;
int spec_finalize_restore(struct http_req *req, const char **ret_name, struct err *err) MUST_CHECK;
/* The entries as JSON text, checked. */
int spec_schedule(struct http_req *req, const char **ret_entries, struct err *err) MUST_CHECK;

int spec_bookmark(struct http_req *req, struct bookmark_spec *ret, struct err *err) MUST_CHECK;

#endif
