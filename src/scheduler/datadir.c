#include "scheduler/datadir.h"

#include "base/crypt.h"
#include "base/fs.h"
#include "base/id.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERTIFICATE_DAYS 3650

static int make_dir(const char *path, struct err *err)
{
    struct stat st;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_set(err, ERR_PRECONDITION, "cannot make the data directory %s: %s; nothing was started",
                       path, strerror(errno));
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_PRECONDITION, "%s is not a directory; choose another --data", path);
    if (st.st_uid != geteuid())
        return err_set(err, ERR_PRECONDITION,
                       "%s belongs to another user; run mered as its owner or choose another --data", path);
    if ((st.st_mode & 0777) != 0700 && chmod(path, 0700) < 0)
        return err_sys(err, "chmod %s", path);
    return 0;
}

static int take_lock(struct arena *a, struct datadir *d, struct err *err)
{
    int got = fs_lock(arena_printf(a, "%s/lock", d->path), true, &d->lock_fd, err);
    if (got == 0)
        return err_set(err, ERR_CONFLICT,
                       "another mered is running on %s; stop it first, or choose another --data", d->path);
    return got < 0 ? -1 : 0;
}

static int read_admin_key(struct arena *a, struct datadir *d, struct err *err)
{
    char *text;
    size_t len;
    d->admin_key_path = arena_printf(a, "%s/admin.key", d->path);
    if (!fs_exists(d->admin_key_path)) {
        const char *line = arena_printf(a, "%s\n", id_token(a));
        if (fs_write_atomic(d->admin_key_path, line, strlen(line), 0600, err) < 0)
            return -1;
    }
    if (fs_read(a, d->admin_key_path, 4096, &text, &len, err) < 0)
        return -1;
    text[strcspn(text, "\r\n")] = '\0';
    if (strlen(text) < 32)
        return err_set(err, ERR_PRECONDITION,
                       "%s holds no usable key (32 characters or more); remove the file to get a new one",
                       d->admin_key_path);
    d->admin_key = text;
    return 0;
}

static int read_secret(struct arena *a, struct datadir *d, struct err *err)
{
    char *data;
    size_t len;
    const char *path = arena_printf(a, "%s/secret.key", d->path);
    if (!fs_exists(path)) {
        crypt_random(d->secret, sizeof(d->secret));
        return fs_write_atomic(path, d->secret, sizeof(d->secret), 0600, err);
    }
    if (fs_read(a, path, sizeof(d->secret), &data, &len, err) < 0)
        return -1;
    if (len != sizeof(d->secret))
        return err_set(err, ERR_PRECONDITION, "%s is damaged; without it the stored passwords cannot be read",
                       path);
    memcpy(d->secret, data, sizeof(d->secret));
    return 0;
}

int datadir_open(struct arena *a, const char *path, struct datadir *ret, struct err *err)
{
    *ret = (struct datadir){ .lock_fd = -1 };
    if (make_dir(path, err) < 0 || fs_realpath(a, path, &ret->path, err) < 0 || take_lock(a, ret, err) < 0)
        return -1;
    return read_admin_key(a, ret, err) < 0 ? -1 : read_secret(a, ret, err);
}

int datadir_certificate(struct arena *a, struct datadir *d, const char *cert, const char *key,
                        const char *const *names, size_t n_names, struct err *err)
{
    if (!cert != !key)
        return err_set(err, ERR_INVALID, "tls-cert and tls-key go together; only one of them was given");
    if (cert && (access(cert, R_OK) < 0 || access(key, R_OK) < 0))
        return err_set(err, ERR_PRECONDITION, "cannot read the certificate %s or its key: %s", cert,
                       strerror(errno));
    d->tls_cert = cert ? cert : arena_printf(a, "%s/tls.crt", d->path);
    d->tls_key = key ? key : arena_printf(a, "%s/tls.key", d->path);
    if (cert || (fs_exists(d->tls_cert) && fs_exists(d->tls_key)))
        return 0;
    return crypt_make_certificate(d->tls_cert, d->tls_key, names, n_names, CERTIFICATE_DAYS, err);
}
