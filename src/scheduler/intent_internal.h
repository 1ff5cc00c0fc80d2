/*
 * intent_internal.h - what the intent files share
 */
#ifndef MERE_INTENT_INTERNAL_H
#define MERE_INTENT_INTERNAL_H

#include "scheduler/intent.h"
#include "scheduler/internal.h"
#include "scheduler/moment.h"

/* Appends an operation to the outcome and inserts it.  status "scheduling" for work, "finished" where there
 * is none left. */
int intent_add_operation(struct dbc *c, struct arena *a, struct outcome *out, const char *action,
                         const char *status, const char *branch_id, const char *endpoint_id, const char *args,
                         struct err *err) MUST_CHECK;
/* A new endpoint row for the branch from its spec (defaults filled in); appended to the outcome. */
int intent_add_endpoint(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                        const struct project *p, const char *branch_id, const struct endpoint_spec *spec,
                        const char *pointer, struct err *err) MUST_CHECK;
/* What an endpoint of the project is like where its spec says nothing, and what the spec says. */
void intent_endpoint_defaults(struct sched *s, struct arena *a, const struct project *p, struct endpoint *e);
void intent_endpoint_apply(const struct endpoint_spec *spec, struct endpoint *e);
/* out->endpoints[0], as it was read in c, becomes what is wanted; with the operations that takes.  Commits.
 * Pointers: "/endpoint". */
int intent_endpoint_change(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                           const struct endpoint *wanted, struct err *err) MUST_CHECK;
/* The endpoint of a spec in the project of out; into out.  Commits.  Pointers: "/endpoint". */
int intent_endpoint_make(struct sched *s, struct dbc *c, struct arena *a, const struct endpoint_spec *spec,
                         struct outcome *out, struct err *err) MUST_CHECK;
/* One endpoint, role or database into an outcome that has none. */
void intent_give_endpoint(struct arena *a, struct outcome *out, const struct endpoint *e);
void intent_give_role(struct arena *a, struct outcome *out, const struct role *r, const char *plain);
void intent_give_database(struct arena *a, struct outcome *out, const struct database *d);
/* d, as it was read in c, becomes what the spec says; with the operation that takes.  Commits what differs.
 * Pointers: "/database". */
int intent_database_change(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                           struct database *d, const struct database_spec *spec, struct err *err) MUST_CHECK;
/* Does ref (an id or a name) mean the branch of this id? */
bool intent_is_branch(struct dbc *c, struct arena *a, const char *project_id, const char *ref,
                      const char *id);
/* Ranges of a spec's members, in a project of pg_version; pointer is that of the object they stand in. */
int intent_check_endpoint(struct sched *s, const struct endpoint_spec *spec, int64_t pg_version,
                          const char *pointer, struct err *err) MUST_CHECK;
/* The libraries of a preload_libraries object (JSON, or NULL); pointer is that of enabled_libraries. */
int intent_check_preload(struct sched *s, const char *preload_libraries, int64_t pg_version,
                         const char *pointer, struct err *err) MUST_CHECK;
/* [a-z0-9][a-z0-9._-]{0,62}: stands in a URL as it is. */
bool intent_is_plain_name(const char *name);
int intent_check_name(const char *name, size_t max, const char *pointer, const char *what,
                      struct err *err) MUST_CHECK;
/* A branch name that is asked for; NULL is fine. */
int intent_check_branch_name(const char *name, const char *pointer, struct err *err) MUST_CHECK;
/* Nobody has it: ERR_CONFLICT; NULL is fine. */
int intent_check_branch_name_free(struct dbc *c, const char *project_id, const char *name,
                                  const char *pointer, struct err *err) MUST_CHECK;
/* A pointer into the body of an object ("/branch") becomes one into another body: as the table says, else
 * without the object.  Returns -1. */
struct intent_pointer {
    const char *there, *here;
};
int intent_point_here(struct err *err, const char *object, const struct intent_pointer *table, size_t n);
int intent_check_role_name(const char *name, const char *pointer, struct err *err) MUST_CHECK;
int intent_check_database_name(const char *name, const char *pointer, struct err *err) MUST_CHECK;
/* project (live) and branch (live) of a request, into the outcome. */
int intent_load(struct dbc *c, struct arena *a, const char *project_id, const char *branch,
                struct outcome *out, struct err *err) MUST_CHECK;
/* What a spec says without looking at anything else. */
int intent_check_branch_spec(const struct branch_spec *spec, struct err *err) MUST_CHECK;
/* May it expire as b says?  The pointer is that of what spec gives. */
int intent_check_expiry(struct dbc *c, const struct branch *b, const struct branch_spec *spec,
                        struct err *err) MUST_CHECK;
/* What expires_at and ttl_seconds ask for, into b; given or not. */
int intent_set_expiry(const struct branch_spec *spec, int64_t now_us, struct branch *b,
                      struct err *err) MUST_CHECK;
/*
 * The end of out->branch (out->project is there, too): its rows and operations.  recoverable_until 0 = it is
 * not; method: user, ttl, or NULL.
 */
int intent_end_branch(struct dbc *c, struct arena *a, struct outcome *out, int64_t recoverable_until,
                      const char *method, struct err *err) MUST_CHECK;
/* Waits, bounded, until the operation of a child has said where it leaves its parent. */
int intent_wait_for_fork(struct sched *s, struct arena *a, struct outcome *out, struct err *err) MUST_CHECK;
/* Roles, databases and endpoints of out->branch into the outcome; the clear passwords of the roles too, when
 * asked for: only where the project stores passwords. */
int intent_fill(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out, bool passwords,
                struct err *err) MUST_CHECK;
/* The parent that a spec names; ERR_NOT_FOUND and ERR_DAMAGED with a pointer. */
int intent_load_parent(struct dbc *c, struct arena *a, const char *project_id, const struct branch_spec *spec,
                       struct branch *ret, struct err *err) MUST_CHECK;
/*
 * The rows and the operation of a child: at `past`, or at the parent's head when that is NULL.  *ret_wait:
 * the head is not known without work; the child is in state init and its operation says when it is fixed.
 * ERR_UNAVAILABLE when the history moved since the moment was resolved.  Into out: branch, endpoints,
 * roles (with passwords, where the project stores them or they were made now), databases, operations.
 */
int intent_insert_child(struct sched *s, struct dbc *c, struct arena *a, const struct branch *parent,
                        const struct branch_spec *spec, const struct moment *past, struct outcome *out,
                        bool *ret_wait, struct err *err) MUST_CHECK;
/* For role_copy_all; arg is the scheduler. */
int intent_reseal(void *arg, struct arena *a, const struct role *from, struct role *to,
                  struct err *err) MUST_CHECK;
/* A role row with a fresh password in *ret_plain, which is sealed in the row where the project stores
 * passwords; its verifier always is. */
int intent_new_role(struct sched *s, struct arena *a, const struct project *p, const char *branch_id,
                    const char *name, bool no_login, struct role *ret, const char **ret_plain,
                    struct err *err) MUST_CHECK;

#endif
