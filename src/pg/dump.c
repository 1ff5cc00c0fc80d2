/*
 * dump.c - schemas, by pg_dump and by one query of the catalogue
 */
#include "pg/dump.h"

#include "base/proc.h"
#include "base/text.h"
#include "pg/admin.h"
#include "pg/conf.h"

#include <string.h>
#include <unistd.h>

#define OPEN_MS 10000

/* pg_dump lifts these, too, but not before its first queries. */
#define NO_LIMITS                                                                                            \
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c "                 \
    "idle_session_timeout=0"

int pg_schema_find(const char *socket_dir, const char *database, struct err *err)
{
    struct pg_admin *admin = NULL;
    bool there = false;
    int rc = pg_admin_open(socket_dir, OPEN_MS, &admin, err);
    if (rc == 0 && !pg_database_name_reserved(database))
        rc = pg_admin_database_exists(admin, database, &there, err);
    pg_admin_close(admin);
    if (rc == 0 && !there)
        return err_set(err, ERR_NOT_FOUND, "database not found: \"%.80s\"", database);
    return rc;
}

/* ---- SQL ---- */

/* A value of a connection string. */
static void add_quoted(struct buf *b, const char *key, const char *value)
{
    buf_addf(b, "%s='", key);
    for (const char *p = value; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_adds(b, "\\");
        buf_add(b, p, 1);
    }
    buf_adds(b, "' ");
}

/* It says: "pg_dump: error: query failed: ERROR:  …", or that it could not connect: "… failed: FATAL:  …".
 * Anything else is the end of the compute. */
static int explain(struct err *err)
{
    auto_free char *said = xstrdup(err->detail);
    const char *why = strstr(said, "ERROR:  "), *refused = strstr(said, "connection to server");
    if (err->code != ERR_INTERNAL)
        return -1;
    if (!why && refused)
        why = strstr(refused, "FATAL:  ");
    if (why)
        err_set(err, ERR_INVALID, "pg_dump cannot read this database: %.*s", (int)strcspn(why + 8, "\n"),
                why + 8);
    else
        err_set(err, ERR_UNAVAILABLE, "the compute that the schema was read from has ended; try again");
    return err_detail(err, "%s", said);
}

int pg_schema_sql(struct arena *a, const char *bindir, const char *socket_dir, const char *database,
                  int timeout_ms, const atomic_bool *give_up, struct buf *ret, struct err *err)
{
    const char *program = arena_printf(a, "%s/pg_dump", bindir);
    auto_buf where = { 0 };
    if (access(program, X_OK) < 0)
        return err_set(
            err, ERR_PRECONDITION,
            "pg_dump of this version of Postgres is not installed on the server; on Debian it comes "
            "with the package postgresql-client-VERSION");
    add_quoted(&where, "host", socket_dir);
    buf_addf(&where, "port=%d user=" PG_ADMIN_ROLE " ", PG_PORT);
    add_quoted(&where, "dbname", database);
    add_quoted(&where, "options", PG_FOREIGN_DATABASE_OPTIONS NO_LIMITS);
    const char *const argv[] = {
        program, "--schema-only", "--no-password", "--encoding=UTF8", "-d", buf_str(&where), NULL
    };
    if (proc_output(argv, timeout_ms, PG_SCHEMA_MAX_BYTES, give_up, ret, err) < 0) {
        if (err->code == ERR_TOO_LARGE)
            return err_set(err, ERR_TOO_LARGE, "the schema of database \"%.80s\" is larger than %d MB",
                           database, PG_SCHEMA_MAX_BYTES >> 20);
        return explain(err);
    }
    pg_schema_settle(ret);
    return 0;
}

/* The end of the line at `at`, behind its line break. */
static size_t line_end(const struct buf *b, size_t at)
{
    const char *nl = memchr(b->data + at, '\n', b->len - at);
    return nl ? (size_t)(nl + 1 - b->data) : b->len;
}

static bool line_is(const struct buf *b, size_t at, const char *begin)
{
    size_t len = strlen(begin);
    return b->len - at >= len && memcmp(b->data + at, begin, len) == 0;
}

static void cut(struct buf *b, size_t from, size_t to)
{
    memmove(b->data + from, b->data + to, b->len - to);
    b->len -= to - from;
}

/* The last line of the dump, where the key is that of the first one: elsewhere it may be part of a function.
 */
static void cut_unrestrict(struct buf *dump, const char *key)
{
    auto_free char *line = xasprintf("\n\\unrestrict %s\n", key);
    size_t len = strlen(line), end = dump->len;
    while (end > 0 && dump->data[end - 1] == '\n')
        end--;
    end += end < dump->len;
    if (end >= len && memcmp(dump->data + end - len, line, len) == 0)
        dump->len = end - len + 1;
}

void pg_schema_settle(struct buf *dump)
{
    static const char RESTRICT[] = "\\restrict ";
    auto_free char *key = NULL;
    for (size_t at = 0; at < dump->len;) {
        size_t end = line_end(dump, at);
        bool restricts = !key && line_is(dump, at, RESTRICT);
        if (!restricts && !line_is(dump, at, "--") && !line_is(dump, at, "\n"))
            break; /* what follows is the schema */
        if (restricts)
            key =
                xasprintf("%.*s", (int)(end - at - strlen(RESTRICT) - 1), dump->data + at + strlen(RESTRICT));
        if (!restricts && !line_is(dump, at, "-- Dumped ")) {
            at = end;
            continue;
        }
        if (end < dump->len && dump->data[end] == '\n')
            end++; /* with the blank line behind it */
        cut(dump, at, end);
    }
    if (key)
        cut_unrestrict(dump, key);
}

/* ---- JSON ---- */

/* Names sort by their bytes, as the type name does.  What an extension made is the extension's. */
static const char SQL_SCHEMA[] =
    "WITH own AS MATERIALIZED (SELECT oid, nspname FROM pg_namespace"
    "  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),"
    " made AS MATERIALIZED (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),"
    " relation AS MATERIALIZED (SELECT r.oid, r.relkind, n.nspname, r.relname"
    "  FROM pg_class AS r JOIN own AS n ON n.oid = r.relnamespace"
    "  WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT EXISTS"
    "   (SELECT 1 FROM made WHERE made.classid = 'pg_class'::regclass AND made.objid = r.oid)),"
    " columns AS (SELECT a.attrelid AS of, json_agg(json_build_object('name', a.attname,"
    "   'type', format_type(a.atttypid, a.atttypmod), 'nullable', NOT a.attnotnull,"
    "   'default', pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum) AS list"
    "  FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid"
    "  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    "  WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY 1),"
    " constraints AS (SELECT k.conrelid AS of, json_agg(json_build_object('name', k.conname,"
    "   'definition', pg_get_constraintdef(k.oid)) ORDER BY k.conname) AS list"
    "  FROM relation AS r JOIN pg_constraint AS k ON k.conrelid = r.oid"
    "  WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') GROUP BY 1),"
    " indexes AS (SELECT i.indrelid AS of, json_agg(json_build_object('name', y.relname,"
    "   'definition', pg_get_indexdef(y.oid)) ORDER BY y.relname) AS list"
    "  FROM relation AS r JOIN pg_index AS i ON i.indrelid = r.oid"
    "  JOIN pg_class AS y ON y.oid = i.indexrelid GROUP BY 1),"
    " functions AS (SELECT n.nspname, f.proname, pg_get_function_identity_arguments(f.oid) AS arguments"
    "  FROM pg_proc AS f JOIN own AS n ON n.oid = f.pronamespace WHERE NOT EXISTS"
    "   (SELECT 1 FROM made WHERE made.classid = 'pg_proc'::regclass AND made.objid = f.oid))"
    " SELECT json_strip_nulls(json_build_object("
    "'tables', (SELECT coalesce(json_agg(json_build_object('schema', r.nspname, 'name', r.relname,"
    "   'columns', coalesce(c.list, '[]'), 'constraints', coalesce(k.list, '[]'),"
    "   'indexes', coalesce(i.list, '[]')) ORDER BY r.nspname, r.relname), '[]')"
    "  FROM relation AS r LEFT JOIN columns AS c ON c.of = r.oid LEFT JOIN constraints AS k ON k.of = r.oid"
    "  LEFT JOIN indexes AS i ON i.of = r.oid WHERE r.relkind IN ('r', 'p', 'f')),"
    " 'views', (SELECT coalesce(json_agg(json_build_object('schema', nspname, 'name', relname)"
    "  ORDER BY nspname, relname), '[]') FROM relation WHERE relkind IN ('v', 'm')),"
    " 'functions', (SELECT coalesce(json_agg(json_build_object('schema', nspname, 'name', proname,"
    "  'arguments', arguments) ORDER BY nspname, proname, arguments COLLATE \"C\"), '[]') FROM functions)))";

int pg_schema_json(const char *socket_dir, const char *database, json_t **ret, struct err *err)
{
    struct pg_admin *admin = NULL;
    auto_buf text = { 0 };
    json_error_t why;
    int rc = pg_admin_open_database(socket_dir, database, OPEN_MS, &admin, err);
    if (rc == 0)
        rc = pg_admin_text(admin, SQL_SCHEMA, PG_SCHEMA_MAX_BYTES, &text, err);
    pg_admin_close(admin);
    if (rc < 0 && err->code == ERR_INTERNAL)
        err->code = ERR_INVALID; /* Postgres said why: it is about what is in the database */
    if (rc < 0)
        return -1;
    *ret = json_loadb(text.data, text.len, 0, &why);
    if (!*ret) {
        err_set(err, ERR_INTERNAL, "the schema of this database cannot be shown as JSON");
        return err_detail(err, "%s", why.text);
    }
    return 0;
}
