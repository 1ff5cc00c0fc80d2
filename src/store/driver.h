/*
 * driver.h - what a storage driver implements (for store.c and the drivers only)
 *
 * Paths are absolute directories that exist or not as said; store.c has checked ids and holds the volume's
 * lock.
 */
#ifndef MERE_STORE_DRIVER_H
#define MERE_STORE_DRIVER_H

#include "store/store.h"

struct store_driver {
    const char *name;
    unsigned features;
    /* 0 when volumes can be made under dir (tried for real in a scratch directory, removed again); else why
     * not. */
    int (*probe)(const char *dir, struct err *err);
    int (*create)(const char *path, struct err *err);
    /*
     * path must not exist; on failure nothing is left at it.  With STORE_ATOMIC_SNAPSHOT the clone is
     * complete and durable whenever path exists, so path is the final one; without it path is under .tmp and
     * nothing is synced.
     */
    int (*clone)(const char *src, const char *path, bool tolerate_vanishing, struct err *err);
    int (*destroy)(const char *path,
                   struct err *err); /* absent is fine; also takes what another driver made */
    int (*usage)(const char *path, uint64_t *ret_bytes, struct err *err);
};

extern const struct store_driver STORE_BTRFS, STORE_REFLINK, STORE_COPY;

/* By name; NULL when there is none. */
const struct store_driver *driver_find(const char *name);
/* Runs fn on a new directory in dir, which is removed afterwards whatever it holds.  What fn returned. */
int driver_try(const char *dir, int (*fn)(const char *scratch, struct err *err), struct err *err) MUST_CHECK;

#endif
