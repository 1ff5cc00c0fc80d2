#include "meta/migrate.h"

#include "meta/migrations.gen.h"

static int read_version(sqlite3 *h, int *ret)
{
    sqlite3_stmt *st = NULL;
    int rc = -1;
    if (sqlite3_prepare_v2(h, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW) {
        *ret = sqlite3_column_int(st, 0);
        rc = 0;
    }
    sqlite3_finalize(st);
    return rc;
}

static int apply(sqlite3 *h, int number)
{
    char *set = sqlite3_mprintf("PRAGMA user_version=%d", number);
    int ok = sqlite3_exec(h, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
             sqlite3_exec(h, MIGRATIONS[number - 1], NULL, NULL, NULL) == SQLITE_OK &&
             sqlite3_exec(h, set, NULL, NULL, NULL) == SQLITE_OK &&
             sqlite3_exec(h, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_free(set);
    return ok ? 0 : -1;
}

int migrate(sqlite3 *h, struct err *err)
{
    const int newest = (int)N_ELEMENTS(MIGRATIONS);
    int version;
    if (read_version(h, &version) < 0)
        return err_set(err, ERR_INTERNAL, "Mere's metadata cannot be read: %s", sqlite3_errmsg(h));
    if (version > newest)
        return err_set(
            err, ERR_PRECONDITION,
            "this data directory was written by a newer Mere (schema %d, this one knows %d); use that one",
            version, newest);
    for (int n = version + 1; n <= newest; n++)
        if (apply(h, n) < 0) {
            err_set(err, ERR_INTERNAL, "the metadata could not be brought up to schema %d; it is unchanged",
                    n);
            return err_detail(err, "%s", sqlite3_errmsg(h));
        }
    return 0;
}
