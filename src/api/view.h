/*
 * view.h - what clients see of each resource
 *
 * One function per resource: struct in, JSON object out (the caller owns it).  What has no value is left out.
 * Passwords are in a view only where the caller passes one.  Pure.
 */
#ifndef MERE_VIEW_H
#define MERE_VIEW_H

#include "api/http.h"
#include "meta/size.h"
#include "scheduler/intent.h"
#include "scheduler/lag.h"

/* The one user and the one organisation of a server. */
#define VIEW_USER_ID     "00000000-0000-4000-8000-000000000001"
#define VIEW_ORG_ID      "org-mere-local-00000001"
#define VIEW_PROVISIONER "k8s-neonvm"
/* Behind an endpoint's id where a connection is to be pooled. */
#define VIEW_POOLER_SUFFIX "-pooler"

json_t *view_project(const struct sched_info *info, const struct project *p);
json_t *view_project_item(const struct sched_info *info, const struct project *p); /* in a list */
struct view_history {
    uint64_t earliest_lsn;
    int64_t earliest_timestamp;
    struct branch_size size; /* zeros where it was not measured */
};
json_t *view_history(const struct view_history *h);
json_t *view_branch(const struct branch *b);
json_t *view_snapshot(const struct branch *b);                 /* of kind snapshot */
json_t *view_bookmark(const struct bookmark *b, bool expired); /* expired: out of reach, and not held */
json_t *view_annotation(const struct branch *b);
json_t *view_endpoint(const struct sched_info *info, const struct endpoint *e);
json_t *view_role(const struct role *r, const char *password); /* NULL = not shown */
json_t *view_database(const struct database *d);
json_t *view_extension(const struct extension_info *e);
json_t *view_operation(const struct operation *o);
/* Whether pooled connections are there, and what they can do. */
json_t *view_pooler(const struct sched_info *info);
json_t *view_user(void);
json_t *view_organization(void);
json_t *view_region(const struct sched_info *info);

/* Adds to an endpoint how far it lies behind, where that is known. */
void view_lag(json_t *endpoint, const struct lag *lag);
/* Arrays of them. */
json_t *view_endpoints(const struct sched_info *info, const struct endpoint *list, size_t n);
json_t *view_roles(const struct role *list, const char *const *passwords,
                   size_t n); /* passwords may be NULL */
json_t *view_databases(const struct database *list, size_t n);
json_t *view_operations(const struct operation *list, size_t n);

/* Who is connected where as whom: what a connection string says. */
struct view_connection {
    const char *endpoint_id, *role, *password, *database;
    bool pooled;
};

/* The string, which the caller frees.  It works as it is on the machine of the server. */
char *view_uri(const struct sched_info *info, const struct view_connection *c);
json_t *view_connection(const struct sched_info *info, const struct view_connection *c);

/* "key": one, and operations: the answer of most mutations.  Takes one over. */
json_t *view_change(const char *key, json_t *one, const struct outcome *out);

#endif
