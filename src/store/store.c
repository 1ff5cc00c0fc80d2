/*
 * store.c - volumes by id: checks, claims, .tmp and .trash, and which driver does the work
 *
 * store_open and store_close at start and stop; everything else from any thread.  Below <root>:
 *   <id>/                    the volumes
 *   .tmp/<id>/               half-made ones; whatever is here at start goes to the trash
 *   .trash/<id>.<random>/    removed ones, until store_empty_trash
 */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"
#include "store/claim.h"
#include "store/disk.h"
#include "store/driver.h"

#define GIB             (1ULL << 30)
#define AUTO_DISK_BYTES (10 * GIB)
#define GROW_BYTES      GIB
#define TRASH_CLAIM     ".trash" /* not an id, so it clashes with no volume */

struct store {
    char *dir;
    char *root;
    char *tmp;
    char *trash;
    char *notice;
    const struct store_driver *driver;
    struct disk *disk; /* NULL: the volumes are in a plain directory */
    uint64_t reserve_bytes;
    struct claims claims;
    pthread_mutex_t growing;
};

/* --- paths
 * ----------------------------------------------------------------------------------------------------------
 */

static int check_id(const char *id, struct err *err)
{
    if (id_is_valid(id))
        return 0;
    return err_set(err, ERR_INVALID, "a volume's id is 1 to %d of a-z, 0-9 and -; nothing was changed",
                   ID_MAX);
}

static char *path_in(const char *dir, const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static bool is_dir(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

const char *store_path(const struct store *s, struct arena *a, const char *id)
{
    return id_is_valid(id) ? arena_printf(a, "%s/%s", s->root, id) : NULL;
}

bool store_exists(const struct store *s, const char *id)
{
    auto_free char *path = id_is_valid(id) ? path_in(s->root, id) : NULL;

    return path != NULL && is_dir(path);
}

/* --- trash
 * ----------------------------------------------------------------------------------------------------------
 */

/* A new name each time: an id may be removed, used again and removed again before the trash is emptied. */
static int move_to_trash(const struct store *s, const char *path, const char *name, struct err *err)
{
    auto_free char *target = NULL;
    uint64_t random = 0;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return err_sys(err, "getrandom");
    target = xasprintf("%s/%s.%016llx", s->trash, name, (unsigned long long)random);
    return rename(path, target) < 0 ? err_sys(err, "move %s to the trash", path) : 0;
}

static int remove_locked(struct store *s, const char *id, struct err *err)
{
    auto_free char *path = path_in(s->root, id);

    if (!is_dir(path))
        return 0;
    if (move_to_trash(s, path, id, err) < 0)
        return -1;
    CRASH_POINT("store.trashed");
    return fs_sync_dir(s->root, err) < 0 ? -1 : fs_sync_dir(s->trash, err);
}

int store_remove(struct store *s, const char *id, struct err *err)
{
    struct claim claim = { .id = id, .exclusive = true };
    int rc;

    if (check_id(id, err) < 0)
        return -1;
    claims_take(&s->claims, &claim, 1);
    rc = remove_locked(s, id, err);
    claims_drop(&s->claims, &claim, 1);
    return rc;
}

static int empty_locked(struct store *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char **names = NULL;
    int failed = 0;

    if (fs_list(a, s->trash, &names, NULL, err) < 0)
        return -1;
    for (size_t i = 0; names[i] != NULL; i++) {
        auto_free char *path = path_in(s->trash, names[i]);
        struct err one = ERR_INIT;

        if (s->driver->destroy(path, &one) == 0)
            continue;
        if (failed++ == 0)
            *err = one;
    }
    return failed > 0 ? err_wrap(err, "%d left in the trash, the first", failed) : 0;
}

int store_empty_trash(struct store *s, struct err *err)
{
    struct claim claim = { .id = TRASH_CLAIM, .exclusive = true };
    int rc;

    claims_take(&s->claims, &claim, 1);
    rc = empty_locked(s, err);
    claims_drop(&s->claims, &claim, 1);
    return rc;
}

/* --- making volumes
 * ------------------------------------------------------------------------------------------------- */

/* From .tmp into place, durably.  A rename that may not last is taken back, so that a failure leaves nothing.
 */
static int publish(struct store *s, const char *tmp, const char *id, struct err *err)
{
    auto_free char *path = path_in(s->root, id);
    struct err ignored = ERR_INIT;

    if (rename(tmp, path) < 0) {
        err_sys(err, "rename %s to %s", tmp, path);
        (void)!s->driver->destroy(tmp, &ignored);
        return -1;
    }
    CRASH_POINT("store.renamed");
    if (fs_sync_dir(s->root, err) == 0)
        return 0;
    (void)!move_to_trash(s, path, id, &ignored);
    return -1;
}

static int create_locked(struct store *s, const char *id, struct err *err)
{
    auto_free char *tmp = path_in(s->tmp, id);
    struct err ignored = ERR_INIT;

    if (store_exists(s, id))
        return 0;
    if (s->driver->destroy(tmp, err) < 0 || s->driver->create(tmp, err) < 0)
        return -1;
    if (chmod(tmp, 0755) < 0) {
        err_sys(err, "chmod %s", tmp);
        (void)!s->driver->destroy(tmp, &ignored);
        return -1;
    }
    return publish(s, tmp, id, err);
}

int store_create(struct store *s, const char *id, struct err *err)
{
    struct claim claim = { .id = id, .exclusive = true };
    int rc;

    if (check_id(id, err) < 0)
        return -1;
    claims_take(&s->claims, &claim, 1);
    rc = create_locked(s, id, err);
    claims_drop(&s->claims, &claim, 1);
    return rc;
}

static int clone_by_files(struct store *s, const char *from, const char *dst, bool tolerate_vanishing,
                          struct err *err)
{
    auto_free char *tmp = path_in(s->tmp, dst);
    struct err ignored = ERR_INIT;

    if (s->driver->destroy(tmp, err) < 0 || s->driver->clone(from, tmp, tolerate_vanishing, err) < 0)
        return -1;
    CRASH_POINT("store.cloned");
    /* All at once: a file system sync costs less than a thousand fsyncs, and those alone would not keep the
     * directories. */
    if (fs_syncfs(tmp, err) < 0) {
        (void)!s->driver->destroy(tmp, &ignored);
        return -1;
    }
    CRASH_POINT("store.synced");
    return publish(s, tmp, dst, err);
}

static int clone_locked(struct store *s, const char *src, const char *dst, bool tolerate_vanishing,
                        struct err *err)
{
    auto_free char *from = path_in(s->root, src), *to = path_in(s->root, dst);

    if (fs_exists(to))
        return err_set(err, ERR_CONFLICT, "the volume %s exists already; nothing was changed", dst);
    if (!is_dir(from))
        return err_set(err, ERR_NOT_FOUND, "there is no volume %s; nothing was changed", src);
    if (s->driver->features & STORE_ATOMIC_SNAPSHOT)
        return s->driver->clone(from, to, tolerate_vanishing, err);
    return clone_by_files(s, from, dst, tolerate_vanishing, err);
}

int store_clone(struct store *s, const char *src, const char *dst, bool tolerate_vanishing, struct err *err)
{
    struct claim claims[2] = { { .id = dst, .exclusive = true }, { .id = src } };
    size_t n;
    int rc;

    if (check_id(src, err) < 0 || check_id(dst, err) < 0)
        return -1;
    n = strcmp(src, dst) == 0 ? 1 : 2; /* onto itself: a plain conflict, found below */
    claims_take(&s->claims, claims, n);
    rc = clone_locked(s, src, dst, tolerate_vanishing, err);
    claims_drop(&s->claims, claims, n);
    return rc;
}

/* --- questions
 * ------------------------------------------------------------------------------------------------------ */

const char *store_driver(const struct store *s)
{
    return s->driver->name;
}

unsigned store_features(const struct store *s)
{
    return s->driver->features | (s->disk != NULL ? (unsigned)STORE_GROWS : 0);
}

const char *store_notice(const struct store *s)
{
    return s->notice;
}

int store_list(struct store *s, struct arena *a, const char ***ret_ids, size_t *ret_n, struct err *err)
{
    const char **names = NULL;
    size_t n = 0;

    if (fs_list(a, s->root, &names, NULL, err) < 0)
        return -1;
    for (size_t i = 0; names[i] != NULL; i++)
        if (store_exists(s, names[i]))
            names[n++] = names[i];
    names[n] = NULL;
    *ret_ids = names;
    *ret_n = n;
    return 0;
}

int store_usage(struct store *s, const char *id, uint64_t *ret_bytes, struct err *err)
{
    struct claim claim = { .id = id };
    auto_free char *path = NULL;
    int rc;

    if (check_id(id, err) < 0)
        return -1;
    path = path_in(s->root, id);
    claims_take(&s->claims, &claim, 1);
    if (is_dir(path))
        rc = s->driver->usage(path, ret_bytes, err);
    else
        rc = err_set(err, ERR_NOT_FOUND, "there is no volume %s", id);
    claims_drop(&s->claims, &claim, 1);
    return rc;
}

int store_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
    return fs_space(s->root, ret_total, ret_free, err);
}

int store_sync(struct store *s, struct err *err)
{
    return fs_syncfs(s->root, err);
}

static int grow_locked(struct store *s, uint64_t reserve_bytes, bool *ret_grown, struct err *err)
{
    uint64_t size = disk_size(s->disk), step = size / 4 > GROW_BYTES ? size / 4 : GROW_BYTES;
    uint64_t total = 0, free_bytes = 0, host_free = 0;

    if (fs_space(s->root, &total, &free_bytes, err) < 0 || fs_space(s->dir, NULL, &host_free, err) < 0)
        return -1;
    if (free_bytes >= total / 5 || host_free < step || host_free - step < reserve_bytes)
        return 0;
    if (disk_grow(s->disk, size + step, err) < 0)
        return -1;
    *ret_grown = true;
    return 0;
}

int store_grow(struct store *s, uint64_t reserve_bytes, bool *ret_grown, struct err *err)
{
    int rc;

    *ret_grown = false;
    if (s->disk == NULL)
        return 0;
    pthread_mutex_lock(&s->growing);
    rc = grow_locked(s, reserve_bytes, ret_grown, err);
    pthread_mutex_unlock(&s->growing);
    return rc;
}

/* --- open and close
 * ------------------------------------------------------------------------------------------------- */

/* How many volumes and parts of volumes there are, the trash included. */
static int count_kept(const struct store *s, size_t *ret_n, struct err *err)
{
    const char *const dirs[] = { s->root, s->tmp, s->trash };
    auto_arena *a = arena_new(0);

    *ret_n = 0;
    for (size_t i = 0; i < N_ELEMENTS(dirs); i++) {
        const char **names = NULL;

        if (!is_dir(dirs[i]))
            continue;
        if (fs_list(a, dirs[i], &names, NULL, err) < 0)
            return -1;
        for (size_t n = 0; names[n] != NULL; n++)
            *ret_n += dirs[i] != s->root || names[n][0] != '.';
    }
    return 0;
}

/* A mount hides what is below it.  The empty directories of an earlier life do not count. */
static int check_unused(const struct store *s, struct err *err)
{
    size_t n = 0;

    if (count_kept(s, &n, err) < 0)
        return -1;
    if (n == 0) {
        (void)rmdir(s->tmp);
        (void)rmdir(s->trash);
        return 0;
    }
    return err_set(err, ERR_CONFLICT,
                   "%s already holds volumes outside of a disk file, which it would hide; nothing was "
                   "changed; go on with "
                   "--store auto, reflink or copy",
                   s->root);
}

static int make_disk(struct store *s, uint64_t size_bytes, struct err *err)
{
    if (disk_supported(err) < 0 || check_unused(s, err) < 0 ||
        disk_make(s->dir, s->root, size_bytes, err) < 0 || disk_attach(s->dir, s->root, &s->disk, err) < 0)
        return -1;
    s->notice = xasprintf(
        "made a disk file of %.1f GiB with btrfs for the volumes, %s/disk.btrfs; it grows on demand%s",
        (double)disk_size(s->disk) / (double)GIB, s->dir,
        disk_is_direct(s->disk) ? "" : "; direct I/O is not possible below it, so commits are slow");
    return 0;
}

static int make_auto_disk(struct store *s, struct err *err)
{
    uint64_t free_bytes = 0;

    if (fs_space(s->dir, NULL, &free_bytes, err) < 0)
        return -1;
    return make_disk(s, free_bytes / 5 < AUTO_DISK_BYTES ? free_bytes / 5 : AUTO_DISK_BYTES, err);
}

static int pass_on(const struct err *why, struct err *err)
{
    *err = *why;
    return -1;
}

/* A disk file that is full is first given the room it would get from the housekeeping. */
static int probe(struct store *s, const struct store_driver *driver, struct err *err)
{
    struct err full = ERR_INIT, ignored = ERR_INIT;
    bool grown = false;

    if (driver->probe(s->root, &full) == 0)
        return 0;
    if (full.code != ERR_DISK_FULL || store_grow(s, s->reserve_bytes, &grown, &ignored) < 0 || !grown)
        return pass_on(&full, err);
    log_event(LOG_INFO, "store", "the disk file was full and has grown", NULL);
    return driver->probe(s->root, err);
}

/* Nothing can be tried on a full file system, but what is there was made by the driver, and can be deleted
 * with it: by whom else, if we do not start? */
static bool may_be_full(const struct store *s, const struct err *why)
{
    struct err ignored = ERR_INIT;
    size_t n = 0;

    return why->code == ERR_DISK_FULL && (s->disk != NULL || (count_kept(s, &n, &ignored) == 0 && n > 0));
}

static int use_driver(struct store *s, const struct store_driver *driver, struct err *err)
{
    struct err why = ERR_INIT;

    if (probe(s, driver, &why) < 0) {
        if (!may_be_full(s, &why))
            return pass_on(&why, err);
        log_event(LOG_WARN, "store",
                  "the file system of the volumes is full: nothing can be made until something is deleted",
                  "detail", why.detail, NULL);
    }
    s->driver = driver;
    return 0;
}

static int use_named(struct store *s, const char *name, struct err *err)
{
    const struct store_driver *driver = driver_find(name);
    struct err why = ERR_INIT;

    if (use_driver(s, driver, &why) == 0)
        return 0;
    err_set(err, why.code,
            "--store %s cannot be used: %s; nothing was changed; use --store auto, or another data directory",
            name, why.msg);
    return err_detail(err, "%s", why.detail);
}

static int use_auto(struct store *s, struct err *err)
{
    struct err why = ERR_INIT, no_reflink = ERR_INIT;

    if (use_driver(s, &STORE_BTRFS, &why) == 0)
        return 0;
    if (s->disk != NULL) /* our own file system, and it does not work: nothing else will */
        return pass_on(&why, err);
    why = (struct err)ERR_INIT;
    if (make_auto_disk(s, &why) == 0)
        return use_driver(s, &STORE_BTRFS, err);
    if (disk_exists(s->dir)) /* volumes made outside of it now would be hidden by the next start */
        return pass_on(&why, err);
    if (probe(s, &STORE_REFLINK, &no_reflink) == 0) { /* full: whether it could be is not known */
        s->driver = &STORE_REFLINK;
        s->notice = xasprintf("volumes share blocks file by file (no disk file: %s)", why.msg);
        return 0;
    }
    if (use_driver(s, &STORE_COPY, err) < 0)
        return -1;
    s->notice =
        xasprintf("every branch with a volume is a full copy (no disk file with copy-on-write: %s)", why.msg);
    return 0;
}

static int use_disk(struct store *s, uint64_t size_bytes, struct err *err)
{
    struct err why = ERR_INIT;

    if (s->disk != NULL && disk_grow(s->disk, size_bytes, err) < 0)
        return -1;
    if (s->disk == NULL && make_disk(s, size_bytes, &why) < 0) {
        err_set(err, why.code, "--store disk cannot be used: %s", why.msg);
        return err_detail(err, "%s", why.detail);
    }
    return use_named(s, STORE_BTRFS.name, err);
}

static int choose(struct store *s, const char *wanted, struct err *err)
{
    uint64_t size_bytes = 0;

    if (disk_sweep(s->dir, s->root, err) < 0)
        return -1;
    if (disk_exists(s->dir) && disk_attach(s->dir, s->root, &s->disk, err) < 0)
        return -1;
    if (strcmp(wanted, "auto") == 0)
        return use_auto(s, err);
    if (driver_find(wanted) != NULL)
        return use_named(s, wanted, err);
    if (text_starts_with(wanted, "disk:") && text_to_size(wanted + strlen("disk:"), &size_bytes))
        return use_disk(s, size_bytes, err);
    return err_set(err, ERR_INVALID,
                   "--store takes auto, btrfs, reflink, copy or disk:SIZE (such as disk:10GiB)");
}

/* Half-made volumes go to the trash: moving is quick, and the start waits for it. */
static int sweep_tmp(const struct store *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char **names = NULL;

    if (fs_list(a, s->tmp, &names, NULL, err) < 0)
        return -1;
    for (size_t i = 0; names[i] != NULL; i++) {
        auto_free char *path = path_in(s->tmp, names[i]);

        if (move_to_trash(s, path, names[i], err) < 0)
            return -1;
    }
    return 0;
}

/* Passable and no more: computes run as another user and reach their volume by its name, without seeing the
 * others'. */
static int make_root(const struct store *s, struct err *err)
{
    return fs_mkdir(s->root, 0711, (uid_t)-1, (gid_t)-1, err);
}

static int prepare(struct store *s, const char *wanted, struct err *err)
{
    if (make_root(s, err) < 0 || choose(s, wanted, err) < 0)
        return -1;
    if (s->disk != NULL && make_root(s, err) < 0) /* once more: it is another directory now */
        return -1;
    if (fs_mkdir(s->tmp, 0700, (uid_t)-1, (gid_t)-1, err) < 0 ||
        fs_mkdir(s->trash, 0700, (uid_t)-1, (gid_t)-1, err) < 0)
        return -1;
    return sweep_tmp(s, err);
}

int store_open(const struct store_options *opt, struct store **ret, struct err *err)
{
    auto_arena *a = arena_new(0);
    const char *dir = NULL;
    struct store *s;

    if (fs_realpath(a, opt->dir, &dir, err) < 0)
        return -1;
    s = xcalloc(1, sizeof(*s));
    s->dir = xstrdup(dir);
    s->root = path_in(dir, "volumes");
    s->tmp = path_in(s->root, ".tmp");
    s->trash = path_in(s->root, ".trash");
    s->reserve_bytes = opt->reserve_bytes > 0 ? opt->reserve_bytes : GIB;
    claims_init(&s->claims);
    pthread_mutex_init(&s->growing, NULL);
    if (prepare(s, opt->driver, err) < 0) {
        store_close(s, false);
        return -1;
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s, bool keep_mounted)
{
    if (s == NULL)
        return;
    disk_close(s->disk, keep_mounted);
    pthread_mutex_destroy(&s->growing);
    claims_fini(&s->claims);
    free(s->notice);
    free(s->trash);
    free(s->tmp);
    free(s->root);
    free(s->dir);
    free(s);
}
