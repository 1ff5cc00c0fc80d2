#include "pg/empty.h"

#include "base/buf.h"
#include "base/clock.h"
#include "pg/admin.h"

#include <jansson.h>

#define OPEN_MS       10000
#define NAMES_MAX     (16 << 20)
#define LOCKS_AT_ONCE "100" /* objects in one transaction: the table of locks is finite */

static const char SQL_DATABASES[] =
    "SELECT coalesce(json_agg(datname), '[]') FROM pg_database WHERE datallowconn AND NOT datistemplate";

/* A user's relation: neither ours nor an extension's. */
#define OWN_RELATION                                                                                         \
    "c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS"   \
    " (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"                \
    "  AND d.deptype = 'e')"
#define RELATIONS "pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE " OWN_RELATION

/* Each name a statement of its own; a transaction ends after some. */
#define FOR_EACH(query, statement)                                                                           \
    "DO $$ DECLARE r record; i int := 0; BEGIN FOR r IN " query " LOOP EXECUTE " statement                   \
    "; i := i + 1; IF i % " LOCKS_AT_ONCE " = 0 THEN COMMIT; END IF; END LOOP; END $$"

/* Those that fire at a TRUNCATE whatever session_replication_role is.  They are switched off, and back to
 * what they were. */
#define FIRM_TRIGGERS                                                                                        \
    "SELECT n.nspname, c.relname, t.tgname, t.tgenabled FROM pg_trigger AS t JOIN pg_class AS c ON c.oid ="  \
    " t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal"                   \
    " AND t.tgtype & 32 <> 0 AND t.tgenabled IN ('A', 'R')"

static const char *const STEPS[] = {
    "SET session_replication_role = replica",
    "SET synchronous_commit = off",
    "CREATE TEMPORARY TABLE firm AS " FIRM_TRIGGERS,
    FOR_EACH("SELECT * FROM pg_temp.firm",
             "format('ALTER TABLE %I.%I DISABLE TRIGGER %I', r.nspname, r.relname, r.tgname)"),
    FOR_EACH("SELECT n.nspname, c.relname FROM " RELATIONS
             " AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0"
             " ORDER BY c.oid",
             "format('TRUNCATE %I.%I CASCADE', r.nspname, r.relname)"),
    FOR_EACH("SELECT * FROM pg_temp.firm",
             "format('ALTER TABLE %I.%I ENABLE %s TRIGGER %I', r.nspname, r.relname,"
             " CASE r.tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, r.tgname)"),
    "DROP TABLE pg_temp.firm",
    FOR_EACH("SELECT n.nspname, c.relname FROM " RELATIONS " AND c.relkind = 'm' AND c.relispopulated"
             " ORDER BY c.oid",
             "format('REFRESH MATERIALIZED VIEW %I.%I WITH NO DATA', r.nspname, r.relname)"),
    FOR_EACH("SELECT n.nspname, c.relname FROM " RELATIONS " AND c.relkind = 'S' ORDER BY c.oid",
             "format('ALTER SEQUENCE %I.%I RESTART', r.nspname, r.relname)"),
    FOR_EACH("SELECT oid FROM pg_largeobject_metadata", "format('SELECT lo_unlink(%s)', r.oid)"),
    "DELETE FROM pg_statistic",
    "DELETE FROM pg_statistic_ext_data",
    /* What was deleted lies in their pages until they are written anew. */
    "VACUUM (FULL) pg_statistic, pg_statistic_ext_data, pg_largeobject, pg_largeobject_metadata",
};

static int empty_database(const char *socket_dir, const char *database, int64_t deadline_ms, struct err *err)
{
    struct pg_admin *admin = NULL;
    int rc = pg_admin_open_database(socket_dir, database, OPEN_MS, &admin, err);
    for (size_t i = 0; rc == 0 && i < N_ELEMENTS(STEPS); i++) {
        int64_t left = deadline_ms - clock_mono_ms();
        rc = pg_admin_do(admin, STEPS[i], left > 0 ? (int)left : 0, err);
    }
    pg_admin_close(admin);
    return rc;
}

int pg_empty(const char *socket_dir, int timeout_ms, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    struct pg_admin *admin = NULL;
    auto_buf text = { 0 };
    json_t *one;
    size_t i;
    int rc = pg_admin_open(socket_dir, OPEN_MS, &admin, err);
    if (rc == 0)
        rc = pg_admin_text(admin, SQL_DATABASES, NAMES_MAX, &text, err);
    pg_admin_close(admin);
    json_auto_t *names = rc == 0 ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    json_array_foreach(names, i, one)
    {
        if (rc == 0 && empty_database(socket_dir, json_string_value(one), deadline_ms, err) < 0)
            rc = -1;
    }
    return rc;
}
