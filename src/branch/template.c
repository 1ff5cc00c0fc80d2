#include "branch/template.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "branch/volume.h"
#include "meta/image.h"
#include "pg/bootstrap.h"
#include "pg/conf.h"
#include "pg/control.h"
#include "pg/walseg.h"

#include <fcntl.h>
#include <signal.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INITDB_TIMEOUT_MS 120000

static int run_initdb(const struct env *env, struct arena *a, const struct pg_install *install,
                      const char *id, struct err *err)
{
    struct env_view view;
    env_view(env, a, id, NULL, NULL, &view);
    const char *const argv[] = { arena_printf(a, "%s/initdb", install->bindir),
                                 "-D",
                                 view.data_dir,
                                 "-U",
                                 PG_ADMIN_ROLE,
                                 "--wal-segsize=1", /* a suspend burns one whole segment */
                                 "--data-checksums",
                                 "--encoding=UTF8",
                                 "--locale=C.UTF-8",
                                 "--auth=reject",
                                 "--no-sync",
                                 "--no-instructions",
                                 NULL };
    if (fs_mkdir(env_pgdata(env, a, id), 0700, env->uid, env->gid, err) < 0)
        return -1;
    return proc_run(a, env_exec_argv(env, a, id, NULL, NULL, false, argv), INITDB_TIMEOUT_MS, NULL, err);
}

/* Single-user mode goes on after an error, so its output is what tells. */
static int check_output(struct arena *a, const char *out_path, struct err *err)
{
    char *out;
    size_t len;
    if (fs_read(a, out_path, 1 << 20, &out, &len, err) < 0)
        return -1;
    const char *bad = strstr(out, "ERROR:");
    if (!bad)
        bad = strstr(out, "FATAL:");
    if (!bad)
        return 0;
    err_set(err, ERR_INTERNAL, "the template cluster could not be prepared");
    return err_detail(err, "%.300s", bad);
}

static int run_sql(const struct env *env, struct arena *a, const struct pg_install *install, const char *id,
                   struct err *err)
{
    struct env_view view;
    env_view(env, a, id, NULL, NULL, &view);
    const char *const argv[] = {
        arena_printf(a, "%s/postgres", install->bindir), "--single", "-D", view.data_dir, "postgres", NULL
    };
    const char *in_path = arena_printf(a, "%s/template.sql", env->run_dir),
               *out_path = arena_printf(a, "%s/template.out", env->run_dir);
    if (fs_write_plain(in_path, PG_BOOTSTRAP_SQL, strlen(PG_BOOTSTRAP_SQL), 0600, (uid_t)-1, (gid_t)-1, err) <
        0)
        return -1;
    auto_fd in = open(in_path, O_RDONLY | O_CLOEXEC);
    auto_fd out = open(out_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in < 0 || out < 0)
        return err_sys(err, "open %s", in < 0 ? in_path : out_path);
    struct proc_spec spec = { .argv = env_exec_argv(env, a, id, NULL, NULL, false, argv),
                              .stdin_fd = in,
                              .stdout_fd = out,
                              .stderr_fd = out,
                              .keep_fd = -1 };
    struct proc_identity who;
    auto_fd pidfd = -1;
    if (proc_spawn(&spec, &who, &pidfd, err) < 0)
        return -1;
    if (!proc_wait_exit(pidfd, INITDB_TIMEOUT_MS)) {
        (void)proc_signal(pidfd, SIGKILL);
        (void)proc_reap(pidfd);
        return err_set(err, ERR_TIMEOUT, "the template cluster was not prepared in time");
    }
    int status = proc_reap(pidfd);
    int rc = check_output(a, out_path, err);
    (void)unlink(in_path);
    (void)unlink(out_path);
    if (rc == 0 && status != 0)
        return err_set(err, ERR_INTERNAL, "preparing the template cluster ended with status %d", status);
    return rc;
}

/* What capture does for a stopped branch; the template's pg_wal is still inside its data directory. */
static int seal(const struct env *env, struct arena *a, struct image *image, struct err *err)
{
    struct pg_control control;
    char name[WALSEG_NAME_SIZE];
    const char *pgdata = env_pgdata(env, a, image->id), *wal = env_image_wal(env, a, image->id);
    const char *pg_wal = arena_printf(a, "%s/pg_wal", pgdata);
    if (pg_control_read(pgdata, &control, err) < 0)
        return -1;
    if (control.state != PG_STATE_SHUT_DOWN)
        return err_set(err, ERR_INTERNAL, "the template cluster was not shut down cleanly");
    if (walseg_record_end(pg_wal, control.tli, control.checkpoint, &image->lsn, err) < 0)
        return -1;
    if (fs_mkdir(wal, 0700, env->uid, env->gid, err) < 0)
        return -1;
    for (uint64_t segno = walseg_no(control.redo); segno <= walseg_no(image->lsn - 1); segno++) {
        walseg_name(control.tli, segno, name);
        if (fs_copy_sparse(arena_printf(a, "%s/%s", pg_wal, name), arena_printf(a, "%s/%s", wal, name), 0600,
                           env->uid, env->gid, err) < 0)
            return -1;
    }
    image->tli = control.tli;
    image->redo_lsn = control.redo;
    image->created_at = clock_wall_us();
    return volume_strip(env, pgdata, err);
}

static int make(const struct env *env, struct arena *a, const struct pg_install *install, struct image *image,
                struct err *err)
{
    if (store_remove(env->store, image->id, err) < 0 || store_create(env->store, image->id, err) < 0)
        return -1;
    if (run_initdb(env, a, install, image->id, err) < 0)
        return err_wrap(err, "initdb");
    if (run_sql(env, a, install, image->id, err) < 0 || seal(env, a, image, err) < 0)
        return -1;
    return store_sync(env->store, err);
}

static int record(const struct env *env, const struct image *image, struct err *err)
{
    auto_dbc *c = NULL;
    if (db_write(env->db, &c, err) < 0 || image_delete(c, image->id, err) < 0 ||
        image_insert(c, image, err) < 0)
        return -1;
    return db_commit(c, err);
}

static int find(const struct env *env, struct arena *a, int64_t major, struct image *ret, bool *ret_found,
                struct err *err)
{
    auto_dbc *c = NULL;
    if (db_read(env->db, &c, err) < 0)
        return -1;
    return image_find_template(c, a, major, ret, ret_found, err);
}

int template_ensure(const struct env *env, const struct pg_install *install, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct image image;
    bool found;
    if (find(env, a, install->major, &image, &found, err) < 0)
        return -1;
    if (found && store_exists(env->store, image.id))
        return 0;
    if (found)
        return err_set(err, ERR_INTERNAL,
                       "the template of Postgres %" PRId64 " is recorded but missing on disk",
                       install->major);
    image = (struct image){ .id = arena_printf(a, "im-template-%" PRId64, install->major),
                            .pg_version = install->major,
                            .method = "cold",
                            .state = "ready" };
    if (make(env, a, install, &image, err) < 0)
        return -1;
    CRASH_POINT("template.made");
    return record(env, &image, err);
}
