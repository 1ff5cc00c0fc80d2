/*
 * store.h - copy-on-write volumes
 *
 * Owns one directory ("volumes").  A volume is a directory <root>/<id>/ whose content belongs to the caller;
 * ids are chosen by the caller (^[a-z0-9-]{1,60}$), so every call may be repeated after a crash.  Called from
 * job workers; thread-safe, calls on one volume are serialised inside.  Never touches SQLite or Postgres,
 * never hears of an LSN.
 *
 * Removal is a rename into <root>/.trash first; store_empty_trash() does the slow part.  Nothing else unlinks
 * volume data.
 */
#ifndef MERE_STORE_H
#define MERE_STORE_H

#include "base/arena.h"
#include "base/err.h"

struct store;

/* The one symbolic link that a volume may hold: its caller keeps that directory elsewhere.  Through any other
 * one, two volumes would write the same files. */
#define STORE_LINK "pgdata/pg_wal"

enum store_feature {
    STORE_SHARES_BLOCKS = 1 << 0, /* a clone costs (almost) no space: images may be taken eagerly */
    /* A snapshot of a tree that is being written is what a power cut at that instant would leave: of writes
     * that were synced one after the other it never holds a later without the earlier (may clone running
     * clusters).  Unsynced writes have no order. */
    STORE_ATOMIC_SNAPSHOT = 1 << 1,
    STORE_GROWS = 1 << 2, /* lives on our own disk file and can be enlarged */
};

struct store_options {
    const char *dir;        /* the data directory of mered */
    const char *driver;     /* "auto", "btrfs", "reflink", "copy", "disk:SIZE" */
    uint64_t reserve_bytes; /* what a disk file that is full leaves free on the host when it grows at the
                               start; 0 = 1 GiB */
};

/*
 * Chooses the driver by probing (really cloning a small tree) and opens it.
 *   auto:  btrfs if <dir> is on btrfs and we may use subvolumes; else, as root with loop devices and
 * mkfs.btrfs, a disk file of min(10 GiB, a fifth of the free space) at <dir>/disk.btrfs mounted at
 * <dir>/volumes; else reflink; else copy. An existing disk file is always mounted again.  A named driver that
 * does not probe is an error that says why; but where there are volumes already, a full file system is none:
 * deleting is what makes room, and needs a server. Leftovers of an earlier life (our mount already there
 * after kill -9, half-made volumes in <root>/.tmp) are taken over or removed.
 */
int store_open(const struct store_options *opt, struct store **ret, struct err *err) MUST_CHECK;
/* Unmounts and detaches what store_open attached, unless keep_mounted.  Accepts NULL. */
void store_close(struct store *s, bool keep_mounted);

const char *
store_driver(const struct store *s); /* "btrfs", "reflink", "copy" (a disk file reports "btrfs") */
unsigned store_features(const struct store *s);
/* What a user should know at start ("made a 10.0 GiB disk file ..."), or NULL. */
const char *store_notice(const struct store *s);

/* <root>/<id> in the arena, whether or not it exists; NULL for what is not an id. */
const char *store_path(const struct store *s, struct arena *a, const char *id);
bool store_exists(const struct store *s, const char *id);

/* An empty volume, mode 0755 root-owned.  An existing one is fine. */
int store_create(struct store *s, const char *id, struct err *err) MUST_CHECK;
/*
 * dst becomes an independent, writable twin of src (owners, modes, times of files kept).  All or nothing: one
 * snapshot, or made under .tmp, synced and renamed where the driver has no such thing.  ERR_CONFLICT if dst
 * exists, ERR_NOT_FOUND if src does not. ERR_INVALID for anything but directories, regular files and
 * STORE_LINK inside src (a socket, fifo, device or other link is refused, named). With tolerate_vanishing
 * (backup mode on reflink and copy) a file that disappears while being copied is left out.
 */
int store_clone(struct store *s, const char *src, const char *dst, bool tolerate_vanishing,
                struct err *err) MUST_CHECK;
/* Into the trash; absent is fine. */
int store_remove(struct store *s, const char *id, struct err *err) MUST_CHECK;
/* Really deletes what is in the trash.  Slow; returns what could not be deleted as an error and goes on with
 * the rest. */
int store_empty_trash(struct store *s, struct err *err) MUST_CHECK;
/* Ids of all volumes (not .tmp, not .trash), sorted. */
int store_list(struct store *s, struct arena *a, const char ***ret_ids, size_t *ret_n,
               struct err *err) MUST_CHECK;
/* Bytes that belong to this volume alone, as far as the driver can tell cheaply (copy: all; btrfs: st_blocks
 * of unshared files is not known without quotas, so extents are examined by FIEMAP; slow). */
int store_usage(struct store *s, const char *id, uint64_t *ret_bytes, struct err *err) MUST_CHECK;
/* Space of the file system under the volumes. */
int store_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err) MUST_CHECK;
/* STORE_GROWS: enlarges the disk file by about a quarter (at least 1 GiB) when less than a fifth is free and
 * the host keeps its reserve_bytes; *ret_grown says whether. */
int store_grow(struct store *s, uint64_t reserve_bytes, bool *ret_grown, struct err *err) MUST_CHECK;
/* All of it is on disk when this returns. */
int store_sync(struct store *s, struct err *err) MUST_CHECK;

#endif
