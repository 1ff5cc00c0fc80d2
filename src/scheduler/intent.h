/*
 * intent.h - what users may want, each one write transaction
 *
 * An intent validates meaning (names taken, states, limits, ranges; the API has already checked shapes),
 * writes the rows and their operations in one transaction, kicks the scheduler and returns what was written.
 * Any thread.  Results live in the arena. Conflicting work is ordered later by the scheduler; an intent never
 * fails because something else is running. Pointers in errors are JSON pointers into Neon's request bodies
 * ("/branch/parent_id").
 */
#ifndef MERE_INTENT_H
#define MERE_INTENT_H

#include "meta/bookmark.h"
#include "meta/branch.h"
#include "meta/endpoint.h"
#include "meta/extension.h"
#include "meta/operation.h"
#include "meta/project.h"
#include "meta/role.h"
#include "pg/extension.h"
#include "scheduler/sched.h"

#define INTENT_UNSET INT64_MIN

/* Everything an answer may need; arrays in the arena. */
struct outcome {
    struct project project;
    struct branch branch;
    struct endpoint *endpoints;
    size_t n_endpoints;
    struct role *roles;
    size_t n_roles;
    const char **passwords; /* beside roles: clear text or NULL */
    bool new_passwords;     /* they were made just now: the answer shows them */
    struct database *databases;
    size_t n_databases;
    struct operation *operations;
    size_t n_operations;
};

struct endpoint_spec {
    const char *branch_id; /* id or name; for POST /endpoints */
    const char *type;      /* NULL = read_write; or read_only */
    const char *name;
    double min_cu, max_cu;           /* 0 = not given */
    int64_t suspend_timeout_seconds; /* INTENT_UNSET = not given */
    const char *pg_settings;         /* JSON object or NULL */
    const char *preload_libraries;   /* JSON object or NULL, its shape checked */
    int disabled;                    /* -1 = not given */
    int park_sessions;               /* likewise */
    const char *given;               /* as of a branch_spec */
};

struct project_spec {
    const char *name;                  /* NULL = the id (create), unchanged (update) */
    int64_t pg_version;                /* 0 = newest installed */
    const char *region_id;             /* NULL, or must be ours */
    int store_passwords;               /* -1 = not given */
    int64_t history_retention_seconds; /* INTENT_UNSET */
    const char *settings; /* JSON text to keep and echo, already shape-checked; NULL = not given */
    const char *branch_name, *role_name, *database_name; /* NULL = main, <database>_owner, neondb */
    const char *branch_annotations;                      /* JSON object of strings or NULL */
    const char *default_endpoint_settings;               /* JSON text to echo; NULL = not given */
    struct endpoint_spec endpoint; /* the defaults of default_endpoint_settings, parsed */
};

struct branch_spec {
    const char *name;            /* NULL = generated (create), unchanged (update) */
    const char *kind;            /* NULL = user; snapshot, temporary: nobody sees it */
    const char *parent;          /* id or name; NULL = the default branch */
    bool hidden_parent;          /* parent is the id of one that nobody sees */
    uint64_t parent_lsn;         /* 0 = head */
    int64_t parent_timestamp;    /* 0 = head; not both */
    const char *parent_bookmark; /* or a bookmark of the parent */
    const char *init_source;     /* NULL, "parent-data" or "schema-only" */
    const char *durability;      /* NULL = full; "relaxed" */
    int is_protected;            /* -1 = not given */
    int64_t expires_at;          /* INTENT_UNSET = not given; 0 = never */
    int64_t ttl_seconds;         /* the same in seconds from now; both must agree */
    const char *annotations;     /* JSON object of strings or NULL */
    const char *given;           /* JSON object: what the client has set, as it set it; null = set no more */
    const char *made_by;         /* of a snapshot */
    const char *restored_from, *restored_as;
    struct endpoint_spec *endpoints;
    size_t n_endpoints;
    bool start; /* its compute, too: outcome.operations[last] */
};

int intent_project_create(struct sched *s, struct arena *a, const struct project_spec *spec,
                          struct outcome *ret, struct err *err) MUST_CHECK;
/*
 * read: called once with the project as it is, inside the transaction that changes it, so that what the
 * caller merges into it is never older than what is stored.  It must not use the database.
 */
int intent_project_update(struct sched *s, struct arena *a, const char *project_id,
                          int (*read)(void *arg, const struct project *now, struct project_spec *ret,
                                      struct err *err),
                          void *arg, struct outcome *ret, struct err *err) MUST_CHECK;
/* With all its branches.  It can be recovered for as long as it keeps history, at most 7 days; hard: never.
 */
int intent_project_delete(struct sched *s, struct arena *a, const char *project_id, bool hard,
                          struct outcome *ret, struct err *err) MUST_CHECK;
/* With the branches that it had.  One that is not deleted is answered as it is. */
int intent_project_recover(struct sched *s, struct arena *a, const char *project_id, struct outcome *ret,
                           struct err *err) MUST_CHECK;
/* Housekeeping: ends for good what was deleted and cannot be recovered any more.  In a worker. */
int intent_sweep_projects(struct sched *s, struct err *err) MUST_CHECK;

/*
 * A child at a moment of the parent's history (see moment.h), or at its head.  The moment is ready at once.
 * The head of a cleanly suspended parent with an image: ready at once, nothing waits.  A running one: waits
 * (at most 8 s) until parent_lsn is fixed; after that time the branch is answered in state init, and its
 * operation tells the rest. Fills branch, endpoints, roles (+ passwords), databases, operations.
 */
int intent_branch_create(struct sched *s, struct arena *a, const char *project_id,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
int intent_branch_update(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
/*
 * The branch of that name (or id) as the spec says: made where there is none, else changed where it differs:
 * what the spec leaves out goes back to what it is by itself.  Nothing to change changes nothing, not even
 * its time; what was given before and is given again (a ttl_seconds) counts from when it came first.
 * ERR_CONFLICT for what a branch keeps for life: its parent, where it leaves it, its durability.  outcome as
 * of a create. Pointers: "/parent".
 */
int intent_branch_put(struct sched *s, struct arena *a, const char *project_id, const char *name,
                      const struct branch_spec *spec, struct outcome *ret, bool *ret_created,
                      struct err *err) MUST_CHECK;
int intent_branch_set_default(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                              struct outcome *ret, struct err *err) MUST_CHECK;
/* Ends a hidden branch, in whatever state; one that is gone or going is fine. */
int intent_branch_discard(struct sched *s, struct arena *a, const char *id, struct err *err) MUST_CHECK;
/*
 * Its name is free at once and nobody reaches it.  It can be recovered for as long as the project keeps
 * history, at most 7 days; hard: never.  Either way it stays as an ancestor that nobody sees while something
 * stands on it.
 */
/* The same, if nothing works with it even now: a client may have been led to it since it was looked at. */
int intent_branch_discard_left_over(struct sched *s, struct arena *a, const char *id,
                                    struct err *err) MUST_CHECK;
int intent_branch_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         bool hard, struct outcome *ret, struct err *err) MUST_CHECK;
/* By id, or by the name it had.  One that is not deleted is answered as it is. */
int intent_branch_recover(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                          struct outcome *ret, struct err *err) MUST_CHECK;
/* Housekeeping: ends what has expired, and what was deleted and cannot be recovered any more.  In a worker.
 */
int intent_sweep_ended(struct sched *s, struct err *err) MUST_CHECK;

/*
 * A client wants to read a branch (by id) as it was: exactly one of lsn and time_us is not 0.  One hidden
 * branch with one read_only endpoint serves all who want the same LSN; made when there is none.  Its start is
 * ordered, so that it is not swept away before it runs.  ERR_INVALID tells the window.  Reads WAL.
 */
int intent_moment_read(struct sched *s, struct arena *a, const char *branch_id, uint64_t lsn, int64_t time_us,
                       struct endpoint *ret, struct err *err) MUST_CHECK;

struct restore_spec {
    const char *source;        /* id or name; NULL = the parent */
    uint64_t lsn;              /* 0 = head */
    int64_t time_us;           /* 0 = head; not both */
    const char *preserve_name; /* the old state becomes a branch of this name; NULL = it goes */
    int64_t expires_at;        /* of the branch from now on; INTENT_UNSET = as its TTL says */
    int64_t ttl_seconds;       /* INTENT_UNSET = not given */
};
/*
 * The branch becomes what the source is at a moment, and keeps id, name, endpoints and passwords.  Waits (at
 * most 8 s) until it is done; after that time its operation tells the rest.  Whatever fails leaves the branch
 * as it was.
 */
int intent_branch_restore(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                          const struct restore_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
/*
 * Snapshots: outcome.branch is the snapshot, a branch of kind snapshot that only these see.  It is taken as a
 * branch is made, and never started.  Pointers: /name, /lsn, /timestamp, /expires_at.
 */
int intent_snapshot_take(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                         const struct branch_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
/* spec: name (NULL = unchanged) and expires_at. */
int intent_snapshot_update(struct sched *s, struct arena *a, const char *project_id, const char *id,
                           const struct branch_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
int intent_snapshot_delete(struct sched *s, struct arena *a, const char *project_id, const char *id,
                           struct outcome *ret, struct err *err) MUST_CHECK;

struct snapshot_spec {
    const char *name;   /* of the new branch; NULL = its id */
    const char *target; /* the branch it is to replace, id or name; NULL = what the snapshot is of */
    bool finalize;      /* at once */
};

/* A new branch as of the snapshot, with the roles and passwords of then. */
int intent_snapshot_restore(struct sched *s, struct arena *a, const char *project_id, const char *id,
                            const struct snapshot_spec *spec, struct outcome *ret,
                            struct err *err) MUST_CHECK;
/* A restored branch takes the name, the endpoints, the schedule and the place as default of the one it is to
 * replace, which is called old_name from then on (NULL = made up) and gets its endpoints. */
int intent_restore_finalize(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                            const char *old_name, struct outcome *ret, struct err *err) MUST_CHECK;
/* entries: the JSON array as it is to be kept, checked by schedule_parse(). */
int intent_schedule_set(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                        const char *entries, struct err *err) MUST_CHECK;
/* Housekeeping: takes the snapshots that are due.  In a worker. */
int intent_sweep_schedules(struct sched *s, struct err *err) MUST_CHECK;

struct bookmark_spec {
    uint64_t lsn;        /* 0 = not given */
    int64_t time_us;     /* 0 = not given; neither: the head, or where the bookmark is already */
    int hold;            /* -1 = not given */
    int64_t ttl_seconds; /* INTENT_UNSET = not given; 0 = for ever */
};

/* Makes it, moves it, or changes what holds it and for how long.  Resolved once: the same place again is the
 * same LSN. */
int intent_bookmark_put(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                        const char *name, const struct bookmark_spec *spec, struct bookmark *ret,
                        bool *ret_created, struct err *err) MUST_CHECK;
int intent_bookmark_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *name, struct bookmark *ret, struct err *err) MUST_CHECK;

/* outcome.endpoints[0] is the endpoint. */
int intent_endpoint_create(struct sched *s, struct arena *a, const char *project_id,
                           const struct endpoint_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
int intent_endpoint_update(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                           const struct endpoint_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
int intent_endpoint_delete(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                           struct outcome *ret, struct err *err) MUST_CHECK;
/* As intent_branch_put.  spec->branch_id is needed where there is none of that name. */
int intent_endpoint_put(struct sched *s, struct arena *a, const char *project_id, const char *name,
                        const struct endpoint_spec *spec, struct outcome *ret, bool *ret_created,
                        struct err *err) MUST_CHECK;
enum endpoint_verb { ENDPOINT_START, ENDPOINT_SUSPEND, ENDPOINT_RESTART };
int intent_endpoint_act(struct sched *s, struct arena *a, const char *project_id, const char *endpoint_id,
                        enum endpoint_verb verb, struct outcome *ret, struct err *err) MUST_CHECK;

struct role_spec {
    const char *name;
    bool no_login;
    const char *given; /* as of a branch_spec */
};

struct database_spec {
    const char *name;       /* NULL = unchanged (update) */
    const char *owner_name; /* NULL = unchanged (update); the only role there is (put) */
    const char *given;      /* as of a branch_spec */
};

/* outcome.roles[0] (+ passwords[0] where Neon answers it); the operation ends when the catalogue has it. */
int intent_role_create(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                       const struct role_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
/* As intent_branch_put; passwords[0] is NULL when the role was there. */
int intent_role_put(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                    const struct role_spec *spec, struct outcome *ret, bool *ret_created,
                    struct err *err) MUST_CHECK;
int intent_role_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                       const char *name, struct outcome *ret, struct err *err) MUST_CHECK;
int intent_role_reset_password(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                               const char *name, struct outcome *ret, struct err *err) MUST_CHECK;
/* outcome.databases[0] */
int intent_database_create(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const struct database_spec *spec, struct outcome *ret, struct err *err) MUST_CHECK;
int intent_database_update(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *name, const struct database_spec *spec, struct outcome *ret,
                           struct err *err) MUST_CHECK;
/* As intent_branch_put. */
int intent_database_put(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                        const struct database_spec *spec, struct outcome *ret, bool *ret_created,
                        struct err *err) MUST_CHECK;
int intent_database_delete(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *name, struct outcome *ret, struct err *err) MUST_CHECK;

/* An extension, or (name NULL) all of a database. */
struct extension_place {
    const char *project_id, *branch, *database, *name;
};
struct extension_info {
    struct pg_extension available;
    bool known; /* it is installed or asked for: row says what */
    struct extension row;
};
/* Those that may be had, by name. */
int intent_extension_list(struct sched *s, struct arena *a, const struct extension_place *at,
                          struct extension_info **ret, size_t *ret_n, struct err *err) MUST_CHECK;
/* The libraries that computes of the project may preload. */
int intent_preload_list(struct sched *s, struct arena *a, const char *project_id, struct pg_extension **ret,
                        size_t *ret_n, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND for one that may not be had. */
int intent_extension_get(struct sched *s, struct arena *a, const struct extension_place *at,
                         struct extension_info *ret, struct err *err) MUST_CHECK;
/* version, schema: NULL = the default, or as it is.  Nothing to do: no operation.  ERR_INVALID for one that
 * may not be had. */
int intent_extension_put(struct sched *s, struct arena *a, const struct extension_place *at,
                         const char *version, const char *schema, struct extension_info *ret,
                         struct outcome *out, struct err *err) MUST_CHECK;
int intent_extension_delete(struct sched *s, struct arena *a, const struct extension_place *at,
                            struct extension_info *ret, struct outcome *out, struct err *err) MUST_CHECK;

/* The clear password.  ERR_PRECONDITION when the project does not store passwords or the role has none. */
int intent_reveal_password(struct sched *s, struct arena *a, const char *project_id, const char *branch,
                           const char *role, const char **ret, struct err *err) MUST_CHECK;

#endif
