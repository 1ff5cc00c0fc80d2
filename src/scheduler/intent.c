/*
 * intent.c - what the intents share: operations, endpoints, names, loading and filling outcomes
 */
#include "scheduler/intent_internal.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/text.h"
#include "pg/extension.h"
#include "pg/settings.h"
#include "scheduler/given.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SUSPEND_MAX_SECONDS 604800
#define PLAIN_NAME_MAX      63
#define CU_MIN              0.25
#define CU_MAX              56.0
#define CPU_PER_CU_MEMORY   4

int intent_add_operation(struct dbc *c, struct arena *a, struct outcome *out, const char *action,
                         const char *status, const char *branch_id, const char *endpoint_id, const char *args,
                         struct err *err)
{
    int64_t now = clock_wall_us();
    struct operation o = { .id = id_uuid(a),
                           .project_id = out->project.id,
                           .branch_id = branch_id,
                           .endpoint_id = endpoint_id,
                           .action = action,
                           .status = status,
                           .args = args,
                           .created_at = now,
                           .updated_at = now };
    if (operation_insert(c, &o, err) < 0)
        return -1;
    struct operation *bigger = arena_alloc(a, (out->n_operations + 1) * sizeof(*bigger));
    if (out->n_operations > 0)
        memcpy(bigger, out->operations, out->n_operations * sizeof(*bigger));
    bigger[out->n_operations++] = o;
    out->operations = bigger;
    return 0;
}

bool intent_is_branch(struct dbc *c, struct arena *a, const char *project_id, const char *ref, const char *id)
{
    struct branch b;
    struct err ignored = ERR_INIT;
    return branch_get(c, a, project_id, ref, &b, &ignored) == 0 && strcmp(b.id, id) == 0;
}

bool intent_is_plain_name(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= PLAIN_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n &&
           strchr("._-", name[0]) == NULL;
}

int intent_check_name(const char *name, size_t max, const char *pointer, const char *what, struct err *err)
{
    /* Clients and proxies take these two out of a path, so that a request would reach something else. */
    if (text_is_name(name, max) && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
        return err_field(err, ERR_INVALID, pointer, "%s may not be \"%s\"", what, name);
    if (!text_is_name(name, max))
        return err_field(err, ERR_INVALID, pointer,
                         "%s must be 1 to %zu bytes of printable UTF-8, without a blank at either end and "
                         "without invisible characters",
                         what, max);
    return 0;
}

int intent_check_branch_name(const char *name, const char *pointer, struct err *err)
{
    if (!name)
        return 0;
    if (intent_check_name(name, 256, pointer, "a branch name", err) < 0)
        return -1;
    if (id_looks_like_branch(name))
        return err_field(err, ERR_INVALID, pointer, "a branch name may not look like a branch id");
    return 0;
}

int intent_check_branch_name_free(struct dbc *c, const char *project_id, const char *name,
                                  const char *pointer, struct err *err)
{
    bool taken;
    if (!name)
        return 0;
    if (branch_name_is_taken(c, project_id, name, &taken, err) < 0)
        return -1;
    if (taken)
        return err_field(err, ERR_CONFLICT, pointer,
                         "branch already exists; branch_name:\"%s\"; nothing was changed", name);
    return 0;
}

int intent_point_here(struct err *err, const char *object, const struct intent_pointer *table, size_t n)
{
    auto_free char *was = xstrdup(err->pointer);
    const char *is = text_starts_with(was, object) ? was + strlen(object) : was;
    for (size_t i = 0; i < n; i++)
        if (strcmp(was, table[i].there) == 0)
            is = table[i].here;
    snprintf(err->pointer, sizeof(err->pointer), "%s", is);
    return -1;
}

int intent_check_role_name(const char *name, const char *pointer, struct err *err)
{
    if (intent_check_name(name, 63, pointer, "a role name", err) < 0)
        return -1;
    if (pg_role_name_reserved(name))
        return err_field(err, ERR_INVALID, pointer, "the role name \"%s\" is reserved", name);
    return 0;
}

int intent_check_database_name(const char *name, const char *pointer, struct err *err)
{
    if (intent_check_name(name, 63, pointer, "a database name", err) < 0)
        return -1;
    if (pg_database_name_reserved(name))
        return err_field(err, ERR_INVALID, pointer, "the database name \"%s\" is reserved", name);
    return 0;
}

static bool is_cu(double cu)
{
    return cu == 0 || (cu >= CU_MIN && cu <= CU_MAX);
}

/* Where there are no control groups they are kept and shown, and limit nothing. */
static int check_cu(const struct endpoint_spec *spec, const char *pointer, struct err *err)
{
    double min = spec->min_cu, max = spec->max_cu;
    auto_free char *where = xasprintf("%s/autoscaling_limit_%s_cu", pointer, is_cu(min) ? "max" : "min");
    if (!is_cu(min) || !is_cu(max) || (min != 0 && max != 0 && min > max))
        return err_field(err, ERR_INVALID, where,
                         "compute units must be between %.2f and %.0f, the minimum not above the maximum",
                         CU_MIN, CU_MAX);
    return 0;
}

/* The defaults of a project are flat; an endpoint has its settings in an object of their own. */
static char *settings_pointer(const char *pointer)
{
    const char *last = strrchr(pointer, '/');

    return xasprintf("%s%s/pg_settings", pointer,
                     last != NULL && strcmp(last, "/default_endpoint_settings") == 0 ? "" : "/settings");
}

int intent_check_preload(struct sched *s, const char *preload_libraries, int64_t pg_version,
                         const char *pointer, struct err *err)
{
    const struct pg_install *install = env_install(&s->env, pg_version);
    json_auto_t *obj = preload_libraries ? json_loads(preload_libraries, 0, NULL) : NULL;
    json_t *names = json_object_get(obj, "enabled_libraries");
    if (!install) /* the version itself is what is wrong, and is told */
        return 0;
    return pg_preload_check(install, names, pointer, err);
}

int intent_check_endpoint(struct sched *s, const struct endpoint_spec *spec, int64_t pg_version,
                          const char *pointer, struct err *err)
{
    auto_free char *p_type = xasprintf("%s/type", pointer), *p_name = xasprintf("%s/name", pointer);
    auto_free char *p_suspend = xasprintf("%s/suspend_timeout_seconds", pointer),
                   *p_settings = settings_pointer(pointer),
                   *p_preload = xasprintf("%s/settings/preload_libraries/enabled_libraries", pointer);
    int64_t t = spec->suspend_timeout_seconds, least = s->suspend_min_seconds;
    if (spec->type && strcmp(spec->type, "read_write") != 0 && strcmp(spec->type, "read_only") != 0)
        return err_field(err, ERR_INVALID, p_type, "type must be read_write or read_only");
    if (spec->name && intent_check_name(spec->name, 64, p_name, "an endpoint name", err) < 0)
        return -1;
    if (t != INTENT_UNSET && t != 0 && t != -1 && (t < least || t > SUSPEND_MAX_SECONDS))
        return err_field(err, ERR_INVALID, p_suspend,
                         "suspend_timeout_seconds must be 0 (default), -1 (never) or %" PRId64 " to %d",
                         least, SUSPEND_MAX_SECONDS);
    if (spec->pg_settings) {
        json_auto_t *obj = json_loads(spec->pg_settings, 0, NULL);
        if (!json_is_object(obj))
            return err_field(err, ERR_INVALID, p_settings, "pg_settings must be an object of strings");
        if (pg_settings_check(obj, pg_version, p_settings, err) < 0)
            return -1;
    }
    if (intent_check_preload(s, spec->preload_libraries, pg_version, p_preload, err) < 0)
        return -1;
    return check_cu(spec, pointer, err);
}

/* The server's, then the project's, as its default_endpoint_settings keeps them. */
void intent_endpoint_defaults(struct sched *s, struct arena *a, const struct project *p, struct endpoint *e)
{
    e->min_cu = s->info.default_min_cu;
    e->max_cu = s->info.default_max_cu;
    e->suspend_timeout_seconds = 0;
    e->pg_settings = e->preload_libraries = NULL;
    e->disabled = e->park_sessions = false;
    json_auto_t *d = p->default_endpoint_settings ? json_loads(p->default_endpoint_settings, 0, NULL) : NULL;
    json_t *min = json_object_get(d, "autoscaling_limit_min_cu"),
           *max = json_object_get(d, "autoscaling_limit_max_cu");
    json_t *suspend = json_object_get(d, "suspend_timeout_seconds"),
           *settings = json_object_get(d, "pg_settings");
    if (json_is_number(min))
        e->min_cu = json_number_value(min);
    if (json_is_number(max))
        e->max_cu = json_number_value(max);
    if (json_is_integer(suspend))
        e->suspend_timeout_seconds = json_integer_value(suspend);
    if (json_is_object(settings)) {
        char *text = json_dumps(settings, JSON_COMPACT);
        e->pg_settings = arena_strdup(a, text);
        free(text);
    }
}

void intent_endpoint_apply(const struct endpoint_spec *spec, struct endpoint *e)
{
    if (spec->min_cu != 0)
        e->min_cu = spec->min_cu;
    if (spec->max_cu != 0)
        e->max_cu = spec->max_cu;
    if (spec->suspend_timeout_seconds != INTENT_UNSET)
        e->suspend_timeout_seconds = spec->suspend_timeout_seconds;
    if (spec->pg_settings)
        e->pg_settings = spec->pg_settings;
    if (spec->preload_libraries)
        e->preload_libraries = spec->preload_libraries;
    if (spec->name)
        e->name = spec->name;
    if (spec->disabled >= 0)
        e->disabled = spec->disabled;
    if (spec->park_sessions >= 0)
        e->park_sessions = spec->park_sessions;
    if (e->min_cu > e->max_cu && spec->min_cu == 0)
        e->min_cu = e->max_cu;
    if (e->min_cu > e->max_cu)
        e->max_cu = e->min_cu;
}

int intent_add_endpoint(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out,
                        const struct project *p, const char *branch_id, const struct endpoint_spec *spec,
                        const char *pointer, struct err *err)
{
    int64_t now = clock_wall_us();
    struct endpoint e = { .id = id_endpoint(a),
                          .project_id = p->id,
                          .branch_id = branch_id,
                          .type = spec->type ? spec->type : "read_write",
                          .desired = "stopped",
                          .observed = compute_state_name(COMPUTE_STOPPED),
                          .spec = given_merge(a, NULL, spec->given),
                          .created_at = now,
                          .updated_at = now };
    if (intent_check_endpoint(s, spec, p->pg_version, pointer, err) < 0)
        return -1;
    intent_endpoint_defaults(s, a, p, &e);
    intent_endpoint_apply(spec, &e);
    if (endpoint_insert(c, &e, err) < 0)
        return -1;
    struct endpoint *bigger = arena_alloc(a, (out->n_endpoints + 1) * sizeof(*bigger));
    if (out->n_endpoints > 0)
        memcpy(bigger, out->endpoints, out->n_endpoints * sizeof(*bigger));
    bigger[out->n_endpoints++] = e;
    out->endpoints = bigger;
    return 0;
}

int intent_load(struct dbc *c, struct arena *a, const char *project_id, const char *branch,
                struct outcome *out, struct err *err)
{
    if (project_get(c, a, project_id, &out->project, err) < 0)
        return -1;
    return branch ? branch_get(c, a, project_id, branch, &out->branch, err) : 0;
}

int intent_fill(struct sched *s, struct dbc *c, struct arena *a, struct outcome *out, bool passwords,
                struct err *err)
{
    if (role_list(c, a, out->branch.id, false, &out->roles, &out->n_roles, err) < 0 ||
        database_list(c, a, out->branch.id, false, &out->databases, &out->n_databases, err) < 0 ||
        endpoint_list(c, a, NULL, out->branch.id, false, &out->endpoints, &out->n_endpoints, err) < 0)
        return -1;
    out->passwords = arena_alloc(a, (out->n_roles + 1) * sizeof(*out->passwords));
    for (size_t i = 0; passwords && i < out->n_roles; i++)
        if (out->roles[i].sealed && secret_open(s, a, &out->roles[i], &out->passwords[i], err) < 0)
            return -1;
    return 0;
}

int intent_new_role(struct sched *s, struct arena *a, const struct project *p, const char *branch_id,
                    const char *name, bool no_login, struct role *ret, const char **ret_plain,
                    struct err *err)
{
    int64_t now = clock_wall_us();
    *ret = (struct role){ .branch_id = branch_id,
                          .name = name,
                          .no_login = no_login,
                          .state = "creating",
                          .created_at = now,
                          .updated_at = now };
    const char *verifier;
    *ret_plain = no_login ? NULL : id_password(a);
    if (no_login)
        return 0;
    if (crypt_scram_verifier(a, *ret_plain, &verifier, err) < 0 ||
        secret_seal_verifier(s, a, branch_id, name, verifier, ret, err) < 0)
        return -1;
    return p->store_passwords ? secret_seal(s, a, branch_id, name, *ret_plain, ret, err) : 0;
}
