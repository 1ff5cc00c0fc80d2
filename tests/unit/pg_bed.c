/*
 * pg_bed.c - starts and stops a cluster in a directory of its own
 */
#include "pg_bed.h"

#include "base/fs.h"
#include "base/proc.h"
#include "pg/install.h"

#include <check.h>
#include <sys/stat.h>

int pg_bed_run(struct arena *a, const char *const *argv, const char **ret_out, struct err *err)
{
    const char *all[24] = { "/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups" };
    size_t n = geteuid() == 0 ? 4 : 0;
    for (size_t i = 0; argv[i]; i++)
        all[n++] = argv[i];
    all[n] = NULL;
    return proc_run(a, all, 60000, ret_out, err);
}

static const char *run(struct pg_bed *bed, const char *const *argv)
{
    struct err err = ERR_INIT;
    const char *out = "";
    ck_assert_msg(pg_bed_run(bed->arena, argv, &out, &err) == 0, "%s %s", err.msg, err.detail);
    return out;
}

static const char *program(struct pg_bed *bed, const char *name)
{
    return arena_printf(bed->arena, "%s/%s", bed->bindir, name);
}

static const char *in(struct pg_bed *bed, const char *name)
{
    return arena_printf(bed->arena, "%s/%s", bed->dir, name);
}

void pg_bed_start(struct pg_bed *bed)
{
    static const char HBA[] = "local all boss trust\nlocal all all scram-sha-256\n";
    struct pg_install *list;
    struct err err = ERR_INIT;
    size_t n;
    *bed = (struct pg_bed){ .dir = "/tmp/pg_bed.XXXXXX", .arena = arena_new(0) };
    if (pg_install_scan(bed->arena, &list, &n, &err) < 0)
        return;
    bed->bindir = list[n - 1].bindir;
    ck_assert_ptr_nonnull(mkdtemp(bed->dir));
    ck_assert_int_eq(chmod(bed->dir, 0777), 0);
    run(bed, (const char *const[]){ program(bed, "initdb"), "-D", in(bed, "data"), "-U", "boss", "-N", "-A",
                                    "trust", "--locale=C", NULL });
    ck_assert_int_eq(
        fs_write_plain(in(bed, "data/pg_hba.conf"), HBA, sizeof(HBA) - 1, 0644, (uid_t)-1, (gid_t)-1, &err),
        0);
    run(bed, (const char *const[]){ program(bed, "pg_ctl"), "-D", in(bed, "data"), "-l", in(bed, "log"), "-w",
                                    "-o", arena_printf(bed->arena, "-F -h '' -k %s -p 5432", bed->dir),
                                    "start", NULL });
}

void pg_bed_stop(struct pg_bed *bed)
{
    struct err err = ERR_INIT;
    if (bed->bindir != NULL) {
        run(bed, (const char *const[]){ program(bed, "pg_ctl"), "-D", in(bed, "data"), "-m", "fast", "-w",
                                        "stop", NULL });
        ck_assert_int_eq(fs_remove_tree(bed->dir, false, &err), 0);
    }
    arena_free(bed->arena);
}

const char *pg_bed_sql(struct pg_bed *bed, const char *sql)
{
    return run(bed, (const char *const[]){ program(bed, "psql"), "-h", bed->dir, "-U", "boss", "-d",
                                           "postgres", "-XAtqc", sql, NULL });
}
