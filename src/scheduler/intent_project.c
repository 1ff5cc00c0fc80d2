/*
 * intent_project.c - projects: a root branch with its role, database and endpoint, as rows; nothing is copied
 * or started
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/text.h"
#include "meta/image.h"
#include "pg/bootstrap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RETENTION_DEFAULT_SECONDS 86400
#define RETENTION_MAX_SECONDS     2592000

static int check_version(struct sched *s, int64_t version, struct err *err)
{
    auto_free char *have = xstrdup("");
    for (size_t i = 0; i < s->info.n_pg_versions; i++) {
        if (s->info.pg_versions[i] == version)
            return 0;
        char *longer = xasprintf("%s%s%" PRId64, have, i ? ", " : "", s->info.pg_versions[i]);
        free(have);
        have = longer;
    }
    return err_field(err, ERR_INVALID, "/project/pg_version",
                     "Postgres %" PRId64 " is not installed here; installed: %s", version, have);
}

static int check_settings(struct sched *s, const struct project_spec *spec, int64_t pg_version,
                          struct err *err)
{
    json_auto_t *all = spec->settings ? json_loads(spec->settings, 0, NULL) : NULL;
    json_t *preload = json_object_get(all, "preload_libraries");
    auto_free char *text = preload ? json_dumps(preload, JSON_COMPACT) : NULL;
    return intent_check_preload(s, text, pg_version, "/project/settings/preload_libraries/enabled_libraries",
                                err);
}

static int check_common(struct sched *s, const struct project_spec *spec, int64_t pg_version, struct err *err)
{
    int64_t keep = spec->history_retention_seconds;
    if (spec->name && intent_check_name(spec->name, 256, "/project/name", "a project name", err) < 0)
        return -1;
    if (keep != INTENT_UNSET && (keep < 0 || keep > RETENTION_MAX_SECONDS))
        return err_field(err, ERR_INVALID, "/project/history_retention_seconds",
                         "history_retention_seconds must be 0 to %d", RETENTION_MAX_SECONDS);
    if (spec->region_id && strcmp(spec->region_id, s->info.region_id) != 0)
        return err_field(err, ERR_INVALID, "/project/region_id", "there is one region here: \"%s\"",
                         s->info.region_id);
    return intent_check_endpoint(s, &spec->endpoint, pg_version, "/project/default_endpoint_settings", err) <
                       0 ||
                   check_settings(s, spec, pg_version, err) < 0
               ? -1
               : 0;
}

static int insert_roles(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                        const char *role, const char *database, const char **ret_plain, struct err *err)
{
    int64_t now = clock_wall_us();
    struct role r;
    struct database d = { .branch_id = out->branch.id,
                          .name = database,
                          .owner_name = role,
                          .created_at = now,
                          .updated_at = now };
    if (intent_new_role(s, a, &out->project, out->branch.id, role, false, &r, ret_plain, err) < 0 ||
        role_insert(c, &r, err) < 0)
        return -1;
    /* What the template brings along and nobody asked for goes at the first start; what it has as asked need
     * not be made. */
    bool own_role = strcmp(role, PG_TEMPLATE_ROLE) == 0,
         own_database = strcmp(database, PG_TEMPLATE_DATABASE) == 0;
    d.state = own_role && own_database ? "ready" : "creating";
    if (database_insert(c, &d, err) < 0)
        return -1;
    struct database old = { .branch_id = out->branch.id,
                            .name = role_dropping_name(a),
                            .made_name = PG_TEMPLATE_DATABASE,
                            .owner_name = PG_TEMPLATE_ROLE,
                            .state = "dropping",
                            .created_at = now,
                            .updated_at = now };
    if (!own_database && database_insert(c, &old, err) < 0)
        return -1;
    struct role old_role = { .branch_id = out->branch.id,
                             .name = role_dropping_name(a),
                             .made_name = PG_TEMPLATE_ROLE,
                             .state = "dropping",
                             .created_at = now,
                             .updated_at = now };
    return own_role ? 0 : role_insert(c, &old_role, err);
}

static int insert_root(struct dbc *c, struct arena *a, struct outcome *out, const struct project_spec *spec,
                       struct err *err)
{
    int64_t now = out->project.created_at;
    struct image template;
    bool found;
    if (image_find_template(c, a, out->project.pg_version, &template, &found, err) < 0)
        return -1;
    if (!found)
        return err_set(err, ERR_UNAVAILABLE,
                       "the template of Postgres %" PRId64 " is not ready yet; try again in a moment",
                       out->project.pg_version);
    out->branch = (struct branch){ .id = id_branch(a),
                                   .project_id = out->project.id,
                                   .name = spec->branch_name ? spec->branch_name : "main",
                                   .state = "ready",
                                   .is_default = true,
                                   .durability = "full",
                                   .image_id = template.id,
                                   .volume = "none",
                                   .annotations = spec->branch_annotations,
                                   .state_changed_at = now,
                                   .created_at = now,
                                   .updated_at = now };
    return branch_insert(c, &out->branch, err);
}

static int check_names(struct arena *a, const struct project_spec *spec, const char **ret_role,
                       const char **ret_database, struct err *err)
{
    *ret_database = spec->database_name ? spec->database_name : PG_TEMPLATE_DATABASE;
    *ret_role = spec->role_name ? spec->role_name : arena_printf(a, "%s_owner", *ret_database);
    if (intent_check_branch_name(spec->branch_name, "/project/branch/name", err) < 0 ||
        intent_check_database_name(*ret_database, "/project/branch/database_name", err) < 0)
        return -1;
    return intent_check_role_name(*ret_role, "/project/branch/role_name", err);
}

int intent_project_create(struct sched *s, struct arena *a, const struct project_spec *spec,
                          struct outcome *ret, struct err *err)
{
    const char *role, *database, *plain;
    int64_t now = clock_wall_us();
    *ret = (struct outcome){ 0 };
    ret->project = (struct project){ .id = id_project(a),
                                     .state = "ready",
                                     .region_id = s->info.region_id,
                                     .settings = spec->settings,
                                     .default_endpoint_settings = spec->default_endpoint_settings,
                                     .created_at = now,
                                     .updated_at = now };
    ret->project.name = spec->name ? spec->name : ret->project.id;
    ret->project.pg_version =
        spec->pg_version ? spec->pg_version : s->info.pg_versions[s->info.n_pg_versions - 1];
    ret->project.store_passwords = spec->store_passwords != 0;
    ret->project.history_retention_seconds = spec->history_retention_seconds == INTENT_UNSET
                                                 ? RETENTION_DEFAULT_SECONDS
                                                 : spec->history_retention_seconds;
    if (check_common(s, spec, ret->project.pg_version, err) < 0 ||
        check_version(s, ret->project.pg_version, err) < 0 ||
        check_names(a, spec, &role, &database, err) < 0 || sched_space(s, err) < 0)
        return -1;
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || project_insert(c, &ret->project, err) < 0 ||
        insert_root(c, a, ret, spec, err) < 0 ||
        insert_roles(s, c, a, ret, role, database, &plain, err) < 0 ||
        intent_add_endpoint(s, c, a, ret, &ret->project, ret->branch.id,
                            &(struct endpoint_spec){ .suspend_timeout_seconds = INTENT_UNSET,
                                                     .disabled = -1,
                                                     .park_sessions = -1 },
                            "/project/default_endpoint_settings", err) < 0 ||
        intent_add_operation(c, a, ret, "create_timeline", "finished", ret->branch.id, NULL, NULL, err) < 0 ||
        intent_fill(s, c, a, ret, false, err) < 0)
        return -1;
    ret->passwords[0] = plain; /* of the one role there is */
    return db_commit(c, err);
}

int intent_project_update(struct sched *s, struct arena *a, const char *project_id,
                          int (*read)(void *arg, const struct project *now, struct project_spec *ret,
                                      struct err *err),
                          void *arg, struct outcome *ret, struct err *err)
{
    struct project_spec spec;
    *ret = (struct outcome){ 0 };
    auto_dbc *c = NULL;
    if (db_write(s->env.db, &c, err) < 0 || intent_load(c, a, project_id, NULL, ret, err) < 0 ||
        read(arg, &ret->project, &spec, err) < 0 || check_common(s, &spec, ret->project.pg_version, err) < 0)
        return -1;
    struct project *p = &ret->project;
    p->name = spec.name ? spec.name : p->name;
    p->settings = spec.settings ? spec.settings : p->settings;
    p->default_endpoint_settings =
        spec.default_endpoint_settings ? spec.default_endpoint_settings : p->default_endpoint_settings;
    if (spec.history_retention_seconds != INTENT_UNSET)
        p->history_retention_seconds = spec.history_retention_seconds;
    p->updated_at = clock_wall_us();
    if (project_update(c, p, err) < 0 || db_commit(c, err) < 0)
        return -1;
    sched_sweep_soon(s);
    return 0;
}
