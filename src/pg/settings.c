#include "pg/settings.h"

#include "base/text.h"
#include "pg/settings_value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum setting_type {
    S_BOOL,
    S_INT,
    S_REAL,
    S_ENUM, /* one of the words in `words` */
    S_ZONE,
    S_DATESTYLE,
    S_LOCALE,
};

struct setting {
    const char *name;
    enum setting_type type;
    enum setting_unit unit;
    double min, max; /* counted in unit */
    const char *words;
    int64_t since; /* the first major version that has it; 0 = all */
};

/*
 * Alphabetical.  Types, units and ranges are those of the view pg_settings, narrowed where a value could
 * exhaust the machine or leave nothing to work with; a test compares them with a running server.
 */
static const struct setting SETTINGS[] = {
    { "autovacuum", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "autovacuum_analyze_scale_factor", S_REAL, U_NONE, 0, 100, NULL, 0 },
    { "autovacuum_analyze_threshold", S_INT, U_NONE, 0, 2147483647, NULL, 0 },
    { "autovacuum_naptime", S_INT, U_S, 1, 2147483, NULL, 0 },
    { "autovacuum_vacuum_cost_delay", S_REAL, U_MS, -1, 100, NULL, 0 },
    { "autovacuum_vacuum_scale_factor", S_REAL, U_NONE, 0, 100, NULL, 0 },
    { "autovacuum_vacuum_threshold", S_INT, U_NONE, 0, 2147483647, NULL, 0 },
    { "bytea_output", S_ENUM, U_NONE, 0, 0, "hex,escape", 0 },
    { "checkpoint_completion_target", S_REAL, U_NONE, 0, 1, NULL, 0 },
    { "checkpoint_timeout", S_INT, U_S, 30, 86400, NULL, 0 },
    { "client_min_messages", S_ENUM, U_NONE, 0, 0,
      "debug5,debug4,debug3,debug2,debug1,log,notice,warning,error", 0 },
    { "cpu_index_tuple_cost", S_REAL, U_NONE, 0, 1e10, NULL, 0 },
    { "cpu_operator_cost", S_REAL, U_NONE, 0, 1e10, NULL, 0 },
    { "cpu_tuple_cost", S_REAL, U_NONE, 0, 1e10, NULL, 0 },
    { "datestyle", S_DATESTYLE, U_NONE, 0, 0, NULL, 0 },
    { "deadlock_timeout", S_INT, U_MS, 1, 2147483647, NULL, 0 },
    { "default_statistics_target", S_INT, U_NONE, 1, 10000, NULL, 0 },
    { "default_transaction_isolation", S_ENUM, U_NONE, 0, 0,
      "read committed,repeatable read,serializable,read_committed,repeatable_read", 0 },
    { "default_transaction_read_only", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "effective_cache_size", S_INT, U_8KB, 1, 2147483647, NULL, 0 },
    { "effective_io_concurrency", S_INT, U_NONE, 0, 1000, NULL, 0 },
    { "enable_hashagg", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_hashjoin", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_indexscan", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_mergejoin", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_nestloop", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_partitionwise_aggregate", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_partitionwise_join", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "enable_seqscan", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "from_collapse_limit", S_INT, U_NONE, 1, 1000, NULL, 0 },
    { "idle_in_transaction_session_timeout", S_INT, U_MS, 0, 2147483647, NULL, 0 },
    { "idle_session_timeout", S_INT, U_MS, 0, 2147483647, NULL, 0 },
    { "intervalstyle", S_ENUM, U_NONE, 0, 0, "postgres,postgres_verbose,sql_standard,iso_8601", 0 },
    { "jit", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "join_collapse_limit", S_INT, U_NONE, 1, 1000, NULL, 0 },
    { "lc_monetary", S_LOCALE, U_NONE, 0, 0, NULL, 0 },
    { "lc_numeric", S_LOCALE, U_NONE, 0, 0, NULL, 0 },
    { "lc_time", S_LOCALE, U_NONE, 0, 0, NULL, 0 },
    { "lock_timeout", S_INT, U_MS, 0, 2147483647, NULL, 0 },
    { "log_lock_waits", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "log_min_duration_statement", S_INT, U_MS, -1, 2147483647, NULL, 0 },
    { "maintenance_work_mem", S_INT, U_KB, 1024, 4194304, NULL, 0 },
    { "max_connections", S_INT, U_NONE, 10, 1000, NULL, 0 },
    { "max_locks_per_transaction", S_INT, U_NONE, 10, 4096, NULL, 0 },
    { "max_parallel_maintenance_workers", S_INT, U_NONE, 0, 64, NULL, 0 },
    { "max_parallel_workers", S_INT, U_NONE, 0, 64, NULL, 0 },
    { "max_parallel_workers_per_gather", S_INT, U_NONE, 0, 64, NULL, 0 },
    { "max_wal_size", S_INT, U_MB, 32, 16384, NULL, 0 },
    { "max_worker_processes", S_INT, U_NONE, 0, 64, NULL, 0 },
    { "random_page_cost", S_REAL, U_NONE, 0, 1e10, NULL, 0 },
    { "seq_page_cost", S_REAL, U_NONE, 0, 1e10, NULL, 0 },
    { "shared_buffers", S_INT, U_8KB, 128, 2097152, NULL, 0 },
    { "statement_timeout", S_INT, U_MS, 0, 2147483647, NULL, 0 },
    { "synchronous_commit", S_ENUM, U_NONE, 0, 0, "on,off,local", 0 },
    { "temp_buffers", S_INT, U_8KB, 100, 131072, NULL, 0 },
    { "temp_file_limit", S_INT, U_KB, -1, 2147483647, NULL, 0 },
    { "timezone", S_ZONE, U_NONE, 0, 0, NULL, 0 },
    { "transaction_timeout", S_INT, U_MS, 0, 2147483647, NULL, 17 },
    { "vacuum_cost_delay", S_REAL, U_MS, 0, 100, NULL, 0 },
    { "vacuum_cost_limit", S_INT, U_NONE, 1, 10000, NULL, 0 },
    { "wal_compression", S_BOOL, U_NONE, 0, 0, NULL, 0 },
    { "work_mem", S_INT, U_KB, 64, 4194304, NULL, 0 },
};

/*
 * A session that lasts longer than this timeout while it is opened is ended, clients' and ours alike:
 * measured with 17, nobody at all gets in at 1 ms.
 */
#define TRANSACTION_TIMEOUT_LEAST_MS 1000

static const struct setting *find(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS(SETTINGS); i++)
        if (strcmp(SETTINGS[i].name, name) == 0)
            return &SETTINGS[i];
    return NULL;
}

/* Shared memory beyond what the machine has cannot be mapped, and then nothing starts. */
static double max_of(const struct setting *s)
{
    if (strcmp(s->name, "shared_buffers") != 0)
        return s->max;
    double half = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 2 / 8192;
    double pages = (double)(int64_t)half;
    return pages < s->min ? s->min : pages < s->max ? pages : s->max;
}

static bool is_word_of(const char *words, const char *value)
{
    size_t len = strlen(value);
    for (const char *p = words; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (len > 0 && strcspn(p, ",") == len && strncmp(p, value, len) == 0)
            return true;
    return false;
}

static bool value_ok(const struct setting *s, const char *value)
{
    double v;
    bool b;
    switch (s->type) {
    case S_BOOL:
        return text_to_bool(value, &b);
    case S_INT:
    case S_REAL:
        if (!setting_number(value, s->unit, s->type == S_INT, &v) || v < s->min || v > max_of(s))
            return false;
        return strcmp(s->name, "transaction_timeout") != 0 || v == 0 || v >= TRANSACTION_TIMEOUT_LEAST_MS;
    case S_ENUM:
        return is_word_of(s->words, value);
    case S_ZONE:
        return setting_is_zone(value);
    case S_DATESTYLE:
        return setting_is_datestyle(value);
    case S_LOCALE:
        return setting_is_locale(value);
    }
    return false;
}

static char *number_wanted(const struct setting *s)
{
    char min[SETTING_TEXT_SIZE], max[SETTING_TEXT_SIZE];
    const char *what = s->type == S_INT && s->unit == U_NONE ? "a whole number" : "a number";
    const char *least = strcmp(s->name, "transaction_timeout") == 0 ? ", and not between 0 and 1s" : "";
    auto_free char *range = xasprintf("%s from %s to %s%s", what, setting_text(s->min, s->unit, min),
                                      setting_text(max_of(s), s->unit, max), least);
    if (s->unit == U_NONE)
        return xasprintf("%s", range);
    return xasprintf("%s; units are %s, and without one it counts %s", range, setting_units(s->unit),
                     setting_unit_name(s->unit));
}

/* What a value has to be, for the one who chose another. */
static char *wanted(const struct setting *s)
{
    switch (s->type) {
    case S_BOOL:
        return xasprintf("on or off");
    case S_INT:
    case S_REAL:
        return number_wanted(s);
    case S_ENUM:
        return xasprintf("one of %s", s->words);
    case S_ZONE:
        return xasprintf("a time zone this machine knows, such as Europe/Berlin or UTC");
    case S_DATESTYLE:
        return xasprintf("ISO, SQL, POSTGRES or GERMAN, and YMD, DMY or MDY, such as \"ISO, DMY\"");
    case S_LOCALE:
        return xasprintf("a locale this machine has, such as C or C.UTF-8");
    }
    return xasprintf("something else");
}

static int check_one(const char *name, json_t *value, int64_t pg_major, const char *pointer, struct err *err)
{
    const struct setting *s = find(name);
    if (!s)
        return err_field(
            err, ERR_INVALID, pointer,
            "pg_settings has no \"%.60s\" that may be chosen; it is either unknown or kept by Mere", name);
    if (pg_major < s->since)
        return err_field(err, ERR_INVALID, pointer,
                         "pg_settings.%s came with Postgres %" PRId64 ", and this project has %" PRId64, name,
                         s->since, pg_major);
    if (!json_is_string(value))
        return err_field(err, ERR_INVALID, pointer, "pg_settings.%s must be a string", name);
    const char *text = json_string_value(value);
    if (json_string_length(value) == strlen(text) && value_ok(s, text))
        return 0;
    auto_free char *what = wanted(s);
    return err_field(err, ERR_INVALID, pointer, "pg_settings.%s: \"%.60s\" is not %s", name, text, what);
}

int pg_settings_check(json_t *obj, int64_t pg_major, const char *pointer_prefix, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(obj, name, value)
    {
        auto_free char *pointer = xasprintf("%s/%s", pointer_prefix, name);
        if (check_one(name, value, pg_major, pointer, err) < 0)
            return -1;
    }
    return 0;
}

void pg_settings_render(json_t *obj, struct buf *out)
{
    const char *name;
    json_t *value;
    json_object_foreach(obj, name, value)
    {
        const char *text = json_string_value(value);
        if (strcmp(name, "default_transaction_isolation") == 0 && strcmp(text, "read_committed") == 0)
            text = "read committed";
        else if (strcmp(name, "default_transaction_isolation") == 0 && strcmp(text, "repeatable_read") == 0)
            text = "repeatable read";
        buf_addf(out, "%s = '%s'\n", name, text);
    }
}

int64_t pg_settings_integer(json_t *obj, const char *name, int64_t fallback)
{
    double v;
    json_t *value = json_object_get(obj, name);
    if (json_is_string(value) && setting_number(json_string_value(value), U_NONE, true, &v) && v >= 0 &&
        v <= 100000)
        return (int64_t)v;
    return fallback;
}

int64_t pg_settings_max_connections(json_t *obj)
{
    return pg_settings_integer(obj, "max_connections", PG_MAX_CONNECTIONS_DEFAULT);
}
