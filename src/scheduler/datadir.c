#include "scheduler/datadir.h"

#include "base/crypt.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/text.h"
#include "scheduler/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is there before anything else: of the file system's making, or of a first start that ended at once. */
static bool counts_as_nothing(const char *name)
{
    static const char *const NAMES[] = { "lost+found", "lock", "ca.crt", "ca.key", "tls.crt", "tls.key" };
    static const char *const BEGINNINGS[] = { "admin.key.", "ca.crt.", "ca.key.", "tls.crt.", "tls.key." };
    for (size_t i = 0; i < N_ELEMENTS(NAMES); i++)
        if (strcmp(name, NAMES[i]) == 0)
            return true;
    for (size_t i = 0; i < N_ELEMENTS(BEGINNINGS); i++)
        if (text_starts_with(name, BEGINNINGS[i]))
            return true;
    return false;
}

/* Somebody else's files are not ours to live among, nor their directory to close: looked at before anything
 * is changed. */
static int is_ours(struct arena *a, const char *path, bool *ret, struct err *err)
{
    const char **names;
    size_t n, others = 0;
    if (fs_list(a, path, &names, &n, err) < 0)
        return err_set(err, ERR_PRECONDITION,
                       "cannot look into %s; nothing was changed, choose another --data", path);
    *ret = false;
    for (size_t i = 0; i < n; i++) {
        *ret = *ret || strcmp(names[i], "mere.db") == 0 || strcmp(names[i], "admin.key") == 0;
        others += !counts_as_nothing(names[i]);
    }
    if (*ret || others == 0)
        return 0;
    return err_set(
        err, ERR_PRECONDITION,
        "%s holds other things and no Mere; nothing was changed: choose an empty or a new directory "
        "for --data",
        path);
}

/* An existing directory keeps its mode, unless it is ours and others could write in it. */
static int take_dir(struct arena *a, const char *path, struct err *err)
{
    struct stat st;
    bool ours;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_PRECONDITION, "%s is not a directory; choose another --data", path);
    if (st.st_uid != geteuid())
        return err_set(err, ERR_PRECONDITION,
                       "%s belongs to another user; run mered as its owner or choose another --data", path);
    if (is_ours(a, path, &ours, err) < 0)
        return -1;
    if ((st.st_mode & 022) == 0)
        return 0;
    if (!ours)
        return err_set(err, ERR_PRECONDITION,
                       "others may write in %s; nothing was changed: chmod 700 it, or choose a new directory "
                       "for --data",
                       path);
    return chmod(path, 0700) < 0 ? err_sys(err, "chmod %s", path) : 0;
}

static int make_dir(struct arena *a, const char *path, struct err *err)
{
    if (mkdir(path, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return err_set(err, ERR_PRECONDITION, "cannot make the data directory %s: %s; nothing was started",
                       path, strerror(errno));
    return take_dir(a, path, err);
}

static int take_lock(struct arena *a, struct datadir *d, struct err *err)
{
    int got = fs_lock(arena_printf(a, "%s/lock", d->path), true, &d->lock_fd, err);
    if (got == 0)
        return err_set(err, ERR_CONFLICT,
                       "another mered is running on %s; stop it first, or choose another --data", d->path);
    return got < 0 ? -1 : 0;
}

static int read_admin_key(struct arena *a, const char *given, struct datadir *d, struct err *err)
{
    char *text;
    size_t len;
    d->admin_key_path = given ? given : arena_printf(a, "%s/admin.key", d->path);
    if (!given && !fs_exists(d->admin_key_path)) {
        const char *line = arena_printf(a, "%s\n", id_token(a));
        if (fs_write_atomic(d->admin_key_path, line, strlen(line), 0600, err) < 0)
            return -1;
    }
    if (fs_read(a, d->admin_key_path, 4096, &text, &len, err) < 0)
        return given ? err_set(err, ERR_PRECONDITION, "the file of --admin-key, %s, cannot be read", given)
                     : -1;
    text[strcspn(text, "\r\n")] = '\0';
    if (strlen(text) < 32)
        return err_set(err, ERR_PRECONDITION, "%s holds no usable key (32 characters or more)%s",
                       d->admin_key_path, given ? "" : "; remove the file to get a new one");
    d->admin_key = text;
    return 0;
}

/* A stored password to try the key on. */
static int find_sealed(struct arena *a, struct db *db, struct role *ret, bool *ret_found, struct err *err)
{
    auto_dbc *c = NULL;
    return db_read(db, &c, err) < 0 ? -1 : role_find_sealed(c, a, ret, ret_found, err);
}

#define SECRET_WANTED                                                                                        \
    "the passwords stored in mere.db cannot be read; nothing was started: put back the secret.key that "     \
    "belongs to this directory"

int datadir_secret(struct arena *a, struct datadir *d, struct db *db, struct err *err)
{
    struct err why = ERR_INIT;
    struct role r;
    const char *path = arena_printf(a, "%s/secret.key", d->path);
    char *data;
    size_t len;
    bool found;
    if (find_sealed(a, db, &r, &found, err) < 0)
        return -1;
    if (!fs_exists(path)) {
        if (found)
            return err_set(err, ERR_PRECONDITION, "%s is missing, and without it " SECRET_WANTED, path);
        crypt_random(d->secret, sizeof(d->secret));
        return fs_write_atomic(path, d->secret, sizeof(d->secret), 0600, err);
    }
    if (fs_read(a, path, sizeof(d->secret), &data, &len, err) < 0 && err->code != ERR_TOO_LARGE)
        return -1;
    if (err->code == ERR_TOO_LARGE || len != sizeof(d->secret))
        return err_set(err, ERR_PRECONDITION, "%s is damaged, and without it " SECRET_WANTED, path);
    memcpy(d->secret, data, sizeof(d->secret));
    if (found && secret_try(d->secret, a, &r, &why) < 0)
        return err_set(err, ERR_PRECONDITION, "%s is another key, with which " SECRET_WANTED, path);
    return 0;
}

int datadir_open(struct arena *a, const char *path, const char *admin_key, struct datadir *ret,
                 struct err *err)
{
    *ret = (struct datadir){ .lock_fd = -1 };
    if (make_dir(a, path, err) < 0 || fs_realpath(a, path, &ret->path, err) < 0 || take_lock(a, ret, err) < 0)
        return -1;
    return read_admin_key(a, admin_key, ret, err);
}
