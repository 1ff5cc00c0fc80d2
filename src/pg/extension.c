#include "pg/extension.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_MAX 65536

/*
 * Alphabetical.  Left out on purpose: files, programs and the network of the machine (adminpack, dblink,
 * file_fdw, postgres_fdw, untrusted languages, postgis_raster), pages and internals of others (pageinspect,
 * pg_surgery, pg_walinspect, pg_buffercache, …: of no use without rights that users do not have), and what
 * has parsers with a history (xml2).
 */
static const char *const ALLOWED[] = {
    "autoinc",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "earthdistance",
    "fuzzystrmatch",
    "hll",
    "hstore",
    "insert_username",
    "intarray",
    "ip4r",
    "isn",
    "lo",
    "ltree",
    "moddatetime",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_trgm",
    "pgcrypto",
    "pgrowlocks",
    "postgis",
    "postgis_sfcgal",
    "postgis_topology",
    "prefix",
    "rum",
    "seg",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
};

/* A library that is preloaded runs in every process of the compute. */
static const char *const PRELOADABLE[] = { "pg_prewarm", "pg_stat_statements" };

static bool is_among(const char *const *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

bool pg_extension_is_allowed(const char *name)
{
    return is_among(ALLOWED, N_ELEMENTS(ALLOWED), name);
}

/* Debian's layout, as install.h. */
static const char *folder(struct arena *a, const struct pg_install *install)
{
    return arena_printf(a, "/usr/share/postgresql/%" PRId64 "/extension", install->major);
}

/* The value of a line "key = 'value'", cut out of the line; NULL when it is another line. */
static const char *value_of(char *line, const char *key)
{
    size_t len = strlen(key);
    char *at = line + strspn(line, " \t");
    if (strncmp(at, key, len) != 0)
        return NULL;
    at += len + strspn(at + len, " \t");
    if (*at != '=')
        return NULL;
    at += 1 + strspn(at + 1, " \t");
    at += *at == '\'';
    at[strcspn(at, "'\r")] = '\0';
    return at;
}

static int read_control(struct arena *a, const char *dir, struct pg_extension *e, struct err *err)
{
    char *text, *line;
    size_t len;
    if (fs_read(a, arena_printf(a, "%s/%s.control", dir, e->name), CONTROL_MAX, &text, &len, err) < 0)
        return -1;
    while ((line = strsep(&text, "\n")) != NULL) {
        const char *version = value_of(line, "default_version"), *comment = value_of(line, "comment");
        e->default_version = version ? version : e->default_version;
        e->comment = comment ? comment : e->comment;
    }
    return 0;
}

/* The version that a script leads to: name--1.0.sql installs it, name--1.0--1.1.sql updates to it. */
static const char *version_of(struct arena *a, const char *name, const char *file)
{
    size_t len = strlen(name), n = strlen(file);
    if (n < len + 7 || strncmp(file, name, len) != 0 || strncmp(file + len, "--", 2) != 0 ||
        strcmp(file + n - 4, ".sql") != 0)
        return NULL;
    const char *version = file + len + 2, *next;
    while ((next = strstr(version, "--")) != NULL)
        version = next + 2;
    return arena_strndup(a, version, (size_t)(file + n - 4 - version));
}

static void read_versions(struct arena *a, const char *const *files, size_t n, struct pg_extension *e)
{
    const char **list = arena_alloc(a, (n + 1) * sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        const char *version = version_of(a, e->name, files[i]);
        if (version && !is_among(list, e->n_versions, version))
            list[e->n_versions++] = version;
    }
    e->versions = list;
}

int pg_extension_list(const struct pg_install *install, struct arena *a, struct pg_extension **ret,
                      size_t *ret_n, struct err *err)
{
    const char *dir = folder(a, install), **files;
    struct pg_extension *list = arena_alloc(a, N_ELEMENTS(ALLOWED) * sizeof(*list));
    size_t n;
    *ret = list;
    *ret_n = 0;
    if (!fs_exists(dir)) /* the contributed modules are a package of their own in some versions */
        return 0;
    if (fs_list(a, dir, &files, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < N_ELEMENTS(ALLOWED); i++) {
        struct pg_extension *e = &list[*ret_n];
        *e = (struct pg_extension){ .name = ALLOWED[i], .default_version = "", .comment = "" };
        if (!is_among(files, n, arena_printf(a, "%s.control", e->name)))
            continue;
        if (read_control(a, dir, e, err) < 0)
            return -1;
        read_versions(a, files, n, e);
        ++*ret_n;
    }
    return 0;
}

int pg_extension_get(const struct pg_install *install, struct arena *a, const char *name,
                     struct pg_extension *ret, struct err *err)
{
    struct pg_extension *list;
    size_t n;
    if (!pg_extension_is_allowed(name))
        return err_set(err, ERR_INVALID,
                       "there is no extension \"%.63s\" that may be installed here; GET …/extensions lists "
                       "those that may",
                       name);
    if (pg_extension_list(install, a, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0) {
            *ret = list[i];
            return 0;
        }
    return err_set(err, ERR_INVALID,
                   "extension \"%s\" is not on this machine for Postgres %" PRId64
                   "; install its package first",
                   name, install->major);
}

bool pg_extension_has_version(const struct pg_extension *e, const char *version)
{
    return is_among(e->versions, e->n_versions, version);
}

static bool has_library(const struct pg_install *install, const char *name)
{
    auto_free char *path = xasprintf("%s/../lib/%s.so", install->bindir, name);
    return access(path, R_OK) == 0;
}

int pg_preload_list(const struct pg_install *install, struct arena *a, struct pg_extension **ret,
                    size_t *ret_n, struct err *err)
{
    const char *dir = folder(a, install);
    *ret = arena_alloc(a, N_ELEMENTS(PRELOADABLE) * sizeof(**ret));
    *ret_n = 0;
    for (size_t i = 0; i < N_ELEMENTS(PRELOADABLE); i++) {
        struct pg_extension *e = &(*ret)[*ret_n];
        *e = (struct pg_extension){ .name = PRELOADABLE[i], .default_version = "", .comment = "" };
        if (!has_library(install, e->name))
            continue;
        if (fs_exists(arena_printf(a, "%s/%s.control", dir, e->name)) && read_control(a, dir, e, err) < 0)
            return -1;
        ++*ret_n;
    }
    return 0;
}

int pg_preload_check(const struct pg_install *install, json_t *names, const char *pointer, struct err *err)
{
    json_t *one;
    size_t i;
    json_array_foreach(names, i, one)
    {
        const char *name = json_string_value(one);
        if (!name || !is_among(PRELOADABLE, N_ELEMENTS(PRELOADABLE), name))
            return err_field(err, ERR_INVALID, pointer,
                             "\"%.63s\" is no library that may be preloaded; %s and %s may", name ? name : "",
                             PRELOADABLE[0], PRELOADABLE[1]);
        if (!has_library(install, name))
            return err_field(err, ERR_INVALID, pointer,
                             "library \"%s\" is not on this machine for Postgres %" PRId64
                             "; install its package first",
                             name, install->major);
    }
    return 0;
}

const char *pg_preload_text(struct arena *a, json_t *names)
{
    auto_buf text = { 0 };
    json_t *one;
    size_t i;
    json_array_foreach(names, i, one) buf_addf(&text, "%s%s", i > 0 ? "," : "", json_string_value(one));
    return arena_strdup(a, buf_str(&text));
}
