/*
 * migrate.c - the schema, step by step
 *
 * A migration and the number it leads to are one transaction: a crash in the middle leaves the file as it
 * was.
 */
#include "meta/migrate.h"

#include "meta/migrations.gen.h"

static int failed(sqlite3 *h, int number, struct err *err)
{
    err_set(err, ERR_INTERNAL,
            "the metadata could not be brought from schema %d to %d and stays at %d; the log says why",
            number - 1, number, number - 1);
    (void)err_detail(err, "sqlite %d: %s", sqlite3_extended_errcode(h), sqlite3_errmsg(h));
    if ((sqlite3_errcode(h) & 0xff) == SQLITE_FULL)
        err->code = ERR_DISK_FULL;
    if (!sqlite3_get_autocommit(h))
        (void)sqlite3_exec(h, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

static int read_version(sqlite3 *h, int *ret, struct err *err)
{
    sqlite3_stmt *st = NULL;
    bool ok = sqlite3_prepare_v2(h, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
              sqlite3_step(st) == SQLITE_ROW;

    if (ok)
        *ret = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    if (ok && *ret >= 0)
        return 0;
    err_set(err, ERR_INTERNAL, "the metadata cannot be read; nothing was changed");
    return err_detail(err, "user_version: %s", ok ? "negative" : sqlite3_errmsg(h));
}

static int apply(sqlite3 *h, const char *sql, int number, struct err *err)
{
    char set[48];
    const char *const STEPS[] = { "BEGIN IMMEDIATE", sql, set, "COMMIT" };

    snprintf(set, sizeof(set), "PRAGMA user_version=%d", number);
    for (size_t i = 0; i < N_ELEMENTS(STEPS); i++)
        if (sqlite3_exec(h, STEPS[i], NULL, NULL, NULL) != SQLITE_OK)
            return failed(h, number, err);
    return 0;
}

int migrate_with(sqlite3 *h, const char *const *list, size_t n, struct err *err)
{
    int newest = (int)n, version = 0;

    if (read_version(h, &version, err) < 0)
        return -1;
    if (version > newest)
        return err_set(
            err, ERR_PRECONDITION,
            "this data directory was written by a newer Mere (schema %d, this one knows %d); nothing was "
            "changed; start the newer one",
            version, newest);
    for (int number = version + 1; number <= newest; number++)
        if (apply(h, list[number - 1], number, err) < 0)
            return -1;
    return 0;
}

int migrate(sqlite3 *h, struct err *err)
{
    return migrate_with(h, MIGRATIONS, N_ELEMENTS(MIGRATIONS), err);
}
