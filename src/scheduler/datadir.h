/*
 * datadir.h - the data directory of mered: its lock, its keys, its certificate
 */
#ifndef MERE_DATADIR_H
#define MERE_DATADIR_H

#include "base/arena.h"
#include "base/err.h"

struct datadir {
    const char *path; /* canonical */
    int lock_fd;      /* ours alone: CLOEXEC, so that no compute keeps a later mered out */
    const char *admin_key;
    const char *admin_key_path;
    uint8_t secret[32];
    const char *tls_cert, *tls_key;
};

/* Makes the directory (0700) and what is missing in it; takes the lock.  ERR_CONFLICT when another mered has
 * it. */
int datadir_open(struct arena *a, const char *path, struct datadir *ret, struct err *err) MUST_CHECK;
/* The certificate of mere-proxy: the user's when given, else one made here for these names. */
int datadir_certificate(struct arena *a, struct datadir *d, const char *cert, const char *key,
                        const char *const *names, size_t n_names, struct err *err) MUST_CHECK;

#endif
