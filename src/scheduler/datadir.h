/*
 * datadir.h - the data directory of mered: its lock, its keys
 */
#ifndef MERE_DATADIR_H
#define MERE_DATADIR_H

#include "base/arena.h"
#include "base/err.h"
#include "meta/db.h"

struct datadir {
    const char *path; /* canonical */
    int lock_fd;      /* ours alone: CLOEXEC, so that no compute keeps a later mered out */
    const char *admin_key;
    const char *admin_key_path;
    uint8_t secret[32]; /* of datadir_secret */
};

/*
 * Makes the directory (0700) and its admin key where they are missing; takes the lock.  admin_key: a file
 * with the key, which is not made; NULL = the directory's own.  ERR_CONFLICT when another mered has it,
 * ERR_PRECONDITION for a directory that holds something else: it is left as it is.
 */
int datadir_open(struct arena *a, const char *path, const char *admin_key, struct datadir *ret,
                 struct err *err) MUST_CHECK;
/*
 * The key that stored passwords are sealed with; made when none is stored yet.  Refuses when there are some
 * and the key is gone or another one: a new key would leave them unreadable for good.
 */
int datadir_secret(struct arena *a, struct datadir *d, struct db *db, struct err *err) MUST_CHECK;

#endif
