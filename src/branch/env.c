#include "branch/env.h"

#include "base/crypt.h"
#include "base/fs.h"
#include "base/proc.h"
#include "pg/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory of ours that others cannot have prepared for us. */
static int own_dir(const char *path, mode_t mode, struct err *err)
{
    struct stat st;
    if (fs_mkdir(path, mode, (uid_t)-1, (gid_t)-1, err) < 0)
        return -1;
    if (lstat(path, &st) < 0)
        return err_sys(err, "stat %s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_set(err, ERR_PRECONDITION, "%s is not a directory of ours; remove it and start again",
                       path);
    return 0;
}

int env_run_dir(struct arena *a, const char *data_dir, const char **ret, struct err *err)
{
    uint8_t hash[CRYPT_SHA256_SIZE];
    crypt_sha256(data_dir, strlen(data_dir), hash);
    const char *name = crypt_hex(a, hash, 4);
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    const char *base;
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    /* 40 bytes leave room for "/mere/<8>/s/<endpoint>/.s.PGSQL.5432" inside a socket address. */
    if (geteuid() == 0)
        base = "/run/mere";
    else if (xdg && xdg[0] == '/' && strlen(xdg) <= 40 && access(xdg, W_OK) == 0)
        base = arena_printf(a, "%s/mere", xdg);
    else
        base = arena_printf(a, "/tmp/mere-%u", (unsigned)geteuid());
    if (own_dir(base, mode, err) < 0)
        return -1;
    *ret = arena_printf(a, "%s/%s", base, name);
    return own_dir(*ret, mode, err);
}

/*
 * Where mere-wal is bound to in a compute's namespace.  Never replaced: that would take the mount away from
 * the computes that run.  Never executable: a shell runs an empty file with success, and Postgres would
 * believe its WAL archived.
 */
static int make_mount_file(const char *path, struct err *err)
{
    if (fs_exists(path))
        return chmod(path, 0444) < 0 ? err_sys(err, "chmod %s", path) : 0;
    return fs_write_plain(path, "", 0, 0444, (uid_t)-1, (gid_t)-1, err);
}

int env_prepare(const struct env *env, struct err *err)
{
    /* As root a compute sees none of these paths but the short ones under <run>/mnt. */
    if (!env->as_root &&
        (pg_conf_check_path(env->data_dir, err) < 0 || pg_conf_check_path(env->bin_dir, err) < 0))
        return -1;
    if (pg_conf_check_path(env->run_dir, err) < 0)
        return -1;
    auto_arena *a = arena_new(0);
    static const char *const DATA_DIRS[] = { "wal", "locks", "logs" };
    static const char *const RUN_DIRS[] = {
        "s", "conf", "mnt", "mnt/data", "mnt/wal", "mnt/from", "mnt/pool"
    };
    for (size_t i = 0; i < N_ELEMENTS(DATA_DIRS); i++)
        if (fs_mkdir(arena_printf(a, "%s/%s", env->data_dir, DATA_DIRS[i]), 0700, (uid_t)-1, (gid_t)-1, err) <
            0)
            return -1;
    for (size_t i = 0; i < N_ELEMENTS(RUN_DIRS); i++)
        if (fs_mkdir(arena_printf(a, "%s/%s", env->run_dir, RUN_DIRS[i]), 0755, (uid_t)-1, (gid_t)-1, err) <
            0)
            return -1;
    if (fs_mkdir(arena_printf(a, "%s/pool", env->run_dir), 0700, (uid_t)-1, (gid_t)-1, err) < 0)
        return -1;
    return make_mount_file(arena_printf(a, "%s/mnt/mere-wal", env->run_dir), err);
}

bool env_any_running(const struct env *env)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    const char *dir = arena_printf(a, "%s/locks", env->data_dir), **names;
    size_t n;
    if (fs_list(a, dir, &names, &n, &ignored) < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        auto_fd fd = -1;
        if (fs_lock(arena_printf(a, "%s/%s", dir, names[i]), true, &fd, &ignored) == 0)
            return true;
    }
    return false;
}

void env_cleanup(const struct env *env)
{
    struct err ignored = ERR_INIT;
    (void)!fs_remove_tree(env->run_dir, false, &ignored);
}

const struct pg_install *env_install(const struct env *env, int64_t major)
{
    for (size_t i = 0; i < env->n_installs; i++)
        if (env->installs[i].major == major)
            return &env->installs[i];
    return NULL;
}

const char *env_pgdata(const struct env *env, struct arena *a, const char *volume)
{
    return arena_printf(a, "%s/pgdata", store_path(env->store, a, volume));
}

const char *env_image_wal(const struct env *env, struct arena *a, const char *image)
{
    return arena_printf(a, "%s/wal", store_path(env->store, a, image));
}

const char *env_wal(const struct env *env, struct arena *a, const char *branch)
{
    return arena_printf(a, "%s/wal/%s", env->data_dir, branch);
}

const char *env_pg_wal(const struct env *env, struct arena *a, const char *branch)
{
    return arena_printf(a, "%s/wal/%s/pg_wal", env->data_dir, branch);
}

const char *env_archive(const struct env *env, struct arena *a, const char *branch)
{
    return arena_printf(a, "%s/wal/%s/archive", env->data_dir, branch);
}

const char *env_lock(const struct env *env, struct arena *a, const char *branch)
{
    return arena_printf(a, "%s/locks/%s.lock", env->data_dir, branch);
}

const char *env_log(const struct env *env, struct arena *a, const char *endpoint)
{
    return arena_printf(a, "%s/logs/%s.log", env->data_dir, endpoint);
}

const char *env_socket_dir(const struct env *env, struct arena *a, const char *endpoint)
{
    return arena_printf(a, "%s/s/%s", env->run_dir, endpoint);
}

const char *env_conf_dir(const struct env *env, struct arena *a, const char *endpoint)
{
    return arena_printf(a, "%s/conf/%s", env->run_dir, endpoint);
}

const char *env_pool_dir(const struct env *env, struct arena *a, const char *endpoint)
{
    return arena_printf(a, "%s/pool/%s", env->run_dir, endpoint);
}

const char *env_pool_lock(const struct env *env, struct arena *a, const char *endpoint)
{
    return arena_printf(a, "%s/pool/%s/lock", env->run_dir, endpoint);
}

void env_view(const struct env *env, struct arena *a, const char *volume, const char *branch,
              const char *followed, struct env_view *ret)
{
    const char *wal = env->as_root ? arena_printf(a, "%s/mnt/wal", env->run_dir)
                      : branch     ? env_wal(env, a, branch)
                                   : "";
    *ret = (struct env_view){
        .data_dir = env->as_root ? arena_printf(a, "%s/mnt/data", env->run_dir) : env_pgdata(env, a, volume),
        .pg_wal = arena_printf(a, "%s/pg_wal", wal),
        .archive = arena_printf(a, "%s/archive", wal),
        .wal_tool = arena_printf(a, "%s/mere-wal",
                                 env->as_root ? arena_printf(a, "%s/mnt", env->run_dir) : env->bin_dir),
        .followed = !followed      ? NULL
                    : env->as_root ? arena_printf(a, "%s/mnt/from", env->run_dir)
                                   : env_wal(env, a, followed),
    };
}

struct args {
    struct arena *a;
    const char **v;
    size_t n;
};

static void add(struct args *args, const char *word)
{
    if (args->n % 16 == 0) {
        const char **bigger = arena_alloc(args->a, (args->n + 17) * sizeof(*bigger));
        if (args->n > 0)
            memcpy(bigger, args->v, args->n * sizeof(*bigger));
        args->v = bigger;
    }
    args->v[args->n++] = word;
    args->v[args->n] = NULL;
}

static void add_bind(struct args *args, const char *option, const char *from, const char *to)
{
    add(args, option);
    add(args, from);
    add(args, to);
}

static void add_exec(struct args *args, const struct env *env)
{
    add(args, arena_printf(args->a, "%s/mere-exec", env->bin_dir));
    if (!env->as_root)
        return;
    add(args, "--uid");
    add(args, arena_printf(args->a, "%u", (unsigned)env->uid));
    add(args, "--gid");
    add(args, arena_printf(args->a, "%u", (unsigned)env->gid));
}

static void add_program(struct args *args, bool keep_lock, const char *const *argv)
{
    if (keep_lock) {
        add(args, "--lock-fd");
        add(args, arena_printf(args->a, "%d", PROC_KEEP_FD));
    }
    add(args, "--");
    for (size_t i = 0; argv[i]; i++)
        add(args, argv[i]);
}

const char *const *env_exec_argv(const struct env *env, struct arena *a, const char *volume,
                                 const char *branch, const char *followed, bool keep_lock,
                                 const char *const *argv)
{
    struct args args = { .a = a };
    struct env_view view;
    env_view(env, a, volume, branch, followed, &view);
    add_exec(&args, env);
    if (env->as_root) {
        add_bind(&args, "--bind", env_pgdata(env, a, volume), view.data_dir);
        add_bind(&args, "--bind", arena_printf(a, "%s/mere-wal", env->bin_dir), view.wal_tool);
        if (branch)
            add_bind(&args, "--bind", env_wal(env, a, branch), arena_printf(a, "%s/mnt/wal", env->run_dir));
        if (followed)
            add_bind(&args, "--bind-ro", env_wal(env, a, followed), view.followed);
    }
    add_program(&args, keep_lock, argv);
    return args.v;
}

const char *env_pool_view(const struct env *env, struct arena *a, const char *endpoint)
{
    return env->as_root ? arena_printf(a, "%s/mnt/pool", env->run_dir) : env_pool_dir(env, a, endpoint);
}

const char *const *env_pool_exec_argv(const struct env *env, struct arena *a, const char *endpoint,
                                      const char *const *argv)
{
    struct args args = { .a = a };
    add_exec(&args, env);
    if (env->as_root)
        add_bind(&args, "--bind", env_pool_dir(env, a, endpoint), env_pool_view(env, a, endpoint));
    add_program(&args, true, argv);
    return args.v;
}
