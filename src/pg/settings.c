#include "pg/settings.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum setting_type {
    S_BOOL,
    S_INT,
    S_REAL,
    S_SIZE_KB, /* number with optional kB, MB, GB, TB; counted in kB */
    S_TIME_MS, /* number with optional us, ms, s, min, h, d; counted in ms */
    S_ENUM,    /* one of the words in `words` */
    S_TEXT,    /* printable characters without quote and backslash */
};

struct setting {
    const char *name;
    enum setting_type type;
    double min, max;
    const char *words;
};

/* Alphabetical.  Ranges are those of the Postgres documentation, narrowed where a value could exhaust the
 * machine. */
static const struct setting SETTINGS[] = {
    { "autovacuum", S_BOOL, 0, 0, NULL },
    { "autovacuum_analyze_scale_factor", S_REAL, 0, 100, NULL },
    { "autovacuum_analyze_threshold", S_INT, 0, 2147483647, NULL },
    { "autovacuum_naptime", S_TIME_MS, 1000, 2147483000.0, NULL },
    { "autovacuum_vacuum_cost_delay", S_TIME_MS, 0, 100, NULL },
    { "autovacuum_vacuum_scale_factor", S_REAL, 0, 100, NULL },
    { "autovacuum_vacuum_threshold", S_INT, 0, 2147483647, NULL },
    { "bytea_output", S_ENUM, 0, 0, "hex escape" },
    { "checkpoint_completion_target", S_REAL, 0, 1, NULL },
    { "checkpoint_timeout", S_TIME_MS, 30000, 86400000, NULL },
    { "client_min_messages", S_ENUM, 0, 0, "debug5 debug4 debug3 debug2 debug1 log notice warning error" },
    { "cpu_index_tuple_cost", S_REAL, 0, 1e10, NULL },
    { "cpu_operator_cost", S_REAL, 0, 1e10, NULL },
    { "cpu_tuple_cost", S_REAL, 0, 1e10, NULL },
    { "datestyle", S_TEXT, 0, 64, NULL },
    { "deadlock_timeout", S_TIME_MS, 1, 2147483647, NULL },
    { "default_statistics_target", S_INT, 1, 10000, NULL },
    { "default_transaction_isolation", S_ENUM, 0, 0, "read_committed repeatable_read serializable" },
    { "default_transaction_read_only", S_BOOL, 0, 0, NULL },
    { "effective_cache_size", S_SIZE_KB, 8, 17179869176.0, NULL },
    { "effective_io_concurrency", S_INT, 0, 1000, NULL },
    { "enable_hashagg", S_BOOL, 0, 0, NULL },
    { "enable_hashjoin", S_BOOL, 0, 0, NULL },
    { "enable_indexscan", S_BOOL, 0, 0, NULL },
    { "enable_mergejoin", S_BOOL, 0, 0, NULL },
    { "enable_nestloop", S_BOOL, 0, 0, NULL },
    { "enable_partitionwise_aggregate", S_BOOL, 0, 0, NULL },
    { "enable_partitionwise_join", S_BOOL, 0, 0, NULL },
    { "enable_seqscan", S_BOOL, 0, 0, NULL },
    { "from_collapse_limit", S_INT, 1, 1000, NULL },
    { "idle_in_transaction_session_timeout", S_TIME_MS, 0, 2147483647, NULL },
    { "idle_session_timeout", S_TIME_MS, 0, 2147483647, NULL },
    { "intervalstyle", S_ENUM, 0, 0, "postgres postgres_verbose sql_standard iso_8601" },
    { "jit", S_BOOL, 0, 0, NULL },
    { "join_collapse_limit", S_INT, 1, 1000, NULL },
    { "lc_monetary", S_TEXT, 0, 64, NULL },
    { "lc_numeric", S_TEXT, 0, 64, NULL },
    { "lc_time", S_TEXT, 0, 64, NULL },
    { "lock_timeout", S_TIME_MS, 0, 2147483647, NULL },
    { "log_lock_waits", S_BOOL, 0, 0, NULL },
    { "log_min_duration_statement", S_TIME_MS, -1, 2147483647, NULL },
    { "maintenance_work_mem", S_SIZE_KB, 1024, 4194304, NULL },
    { "max_connections", S_INT, 10, 1000, NULL },
    { "max_locks_per_transaction", S_INT, 10, 4096, NULL },
    { "max_parallel_maintenance_workers", S_INT, 0, 64, NULL },
    { "max_parallel_workers", S_INT, 0, 64, NULL },
    { "max_parallel_workers_per_gather", S_INT, 0, 64, NULL },
    { "max_wal_size", S_SIZE_KB, 32768, 16777216, NULL },
    { "max_worker_processes", S_INT, 0, 64, NULL },
    { "random_page_cost", S_REAL, 0, 1e10, NULL },
    { "seq_page_cost", S_REAL, 0, 1e10, NULL },
    { "shared_buffers", S_SIZE_KB, 128, 16777216, NULL },
    { "statement_timeout", S_TIME_MS, 0, 2147483647, NULL },
    { "synchronous_commit", S_ENUM, 0, 0, "on off local" },
    { "temp_buffers", S_SIZE_KB, 800, 1048576, NULL },
    { "temp_file_limit", S_SIZE_KB, -1, 2147483647, NULL },
    { "timezone", S_TEXT, 0, 64, NULL },
    { "transaction_timeout", S_TIME_MS, 0, 2147483647, NULL },
    { "vacuum_cost_delay", S_TIME_MS, 0, 100, NULL },
    { "vacuum_cost_limit", S_INT, 1, 10000, NULL },
    { "wal_compression", S_BOOL, 0, 0, NULL },
    { "work_mem", S_SIZE_KB, 64, 4194304, NULL },
};

struct unit {
    const char *name;
    double factor;
};
static const struct unit SIZE_UNITS[] = {
    { "", 1 }, { "kB", 1 }, { "MB", 1024 }, { "GB", 1048576 }, { "TB", 1073741824 }
};
static const struct unit TIME_UNITS[] = { { "", 1 },        { "us", 0.001 },  { "ms", 1 },      { "s", 1000 },
                                          { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 } };

static const struct setting *find(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS(SETTINGS); i++)
        if (strcmp(SETTINGS[i].name, name) == 0)
            return &SETTINGS[i];
    return NULL;
}

static bool number(const char *s, const struct unit *units, size_t n_units, double *ret)
{
    char *end;
    if (*s == '\0' || strspn(s, "0123456789.+-eE") == 0)
        return false;
    double v = strtod(s, &end);
    if (end == s || v != v)
        return false;
    end += strspn(end, " ");
    for (size_t i = 0; i < n_units; i++)
        if (strcmp(end, units[i].name) == 0) {
            *ret = v * units[i].factor;
            return true;
        }
    return false;
}

static bool is_word_of(const char *words, const char *value)
{
    size_t len = strlen(value);
    for (const char *p = words; p && *p; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
        if (len > 0 && !strchr(value, ' ') && strncmp(p, value, len) == 0 &&
            (p[len] == ' ' || p[len] == '\0'))
            return true;
    return false;
}

static bool is_plain_text(const char *value, double max)
{
    size_t len = strlen(value);
    for (size_t i = 0; i < len; i++)
        if (value[i] < 0x20 || value[i] > 0x7e || value[i] == '\'' || value[i] == '\\')
            return false;
    return len > 0 && len <= (size_t)max;
}

static bool value_ok(const struct setting *s, const char *value)
{
    double v = 0;
    bool b;
    int64_t i;
    switch (s->type) {
    case S_BOOL:
        return text_to_bool(value, &b);
    case S_INT:
        return text_to_i64(value, (int64_t)s->min, (int64_t)s->max, &i);
    case S_REAL:
        return number(value, SIZE_UNITS, 1, &v) && v >= s->min && v <= s->max;
    case S_SIZE_KB:
        return number(value, SIZE_UNITS, N_ELEMENTS(SIZE_UNITS), &v) && v >= s->min && v <= s->max;
    case S_TIME_MS:
        return number(value, TIME_UNITS, N_ELEMENTS(TIME_UNITS), &v) && v >= s->min && v <= s->max;
    case S_ENUM:
        return is_word_of(s->words, value);
    case S_TEXT:
        return is_plain_text(value, s->max);
    }
    return false;
}

int pg_settings_check(json_t *obj, const char *pointer_prefix, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(obj, name, value)
    {
        auto_free char *pointer = xasprintf("%s/%s", pointer_prefix, name);
        const struct setting *s = find(name);
        if (!s)
            return err_field(
                err, ERR_INVALID, pointer,
                "pg_settings has no \"%.60s\" that may be chosen; it is either unknown or kept by Mere",
                name);
        if (!json_is_string(value))
            return err_field(err, ERR_INVALID, pointer, "pg_settings.%s must be a string", name);
        if (json_string_length(value) != strlen(json_string_value(value)) ||
            !value_ok(s, json_string_value(value)))
            return err_field(err, ERR_INVALID, pointer,
                             "pg_settings.%s: \"%.60s\" is not a value in its range", name,
                             json_string_value(value));
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

int64_t pg_settings_max_connections(json_t *obj)
{
    int64_t v = PG_MAX_CONNECTIONS_DEFAULT;
    json_t *value = json_object_get(obj, "max_connections");
    if (json_is_string(value))
        (void)text_to_i64(json_string_value(value), 1, 100000, &v);
    return v;
}
