/*
 * disk.h - the disk file: a file system of our own inside one file of the data directory (for store.c only)
 *
 * Owns <dir>/disk.btrfs, the loop device on it and the mount at a directory the caller names.  Needs root and
 * loop devices. The file is preallocated and stays so: sparse, fdatasync inside it took twelve times as long
 * as outside.
 */
#ifndef MERE_DISK_H
#define MERE_DISK_H

#include "base/err.h"

#define DISK_MIN_BYTES (256ULL << 20)

struct disk;

bool disk_exists(const char *dir);
/* 0 when a disk file can be made and mounted here, as far as can be told without doing it; else
 * ERR_NOT_SUPPORTED with why not. */
int disk_supported(struct err *err) MUST_CHECK;
/*
 * Makes the file, with its file system, unless it exists; tried by mounting it once, so that a file of this
 * name can always be mounted.  Nothing is left on failure; what a crash leaves is removed by disk_sweep, to
 * be called at each start.
 */
int disk_make(const char *dir, const char *mountpoint, uint64_t size_bytes, struct err *err) MUST_CHECK;
int disk_sweep(const char *dir, const char *mountpoint, struct err *err) MUST_CHECK;

/*
 * Mounts it, or takes over the mount that an earlier life left; finishes an enlargement that was cut short
 * and allocates again what has become sparse.
 */
int disk_attach(const char *dir, const char *mountpoint, struct disk **ret, struct err *err) MUST_CHECK;
/* Frees d; unmounts unless keep_mounted.  Somebody still using the mount keeps it: the next disk_attach takes
 * it over. */
void disk_close(struct disk *d, bool keep_mounted);

uint64_t disk_size(const struct disk *d);
bool disk_is_direct(
    const struct disk *d); /* false: through the page cache, where each fdatasync costs more */
/* No smaller than it is; ERR_DISK_FULL leaves it as it was. */
int disk_grow(struct disk *d, uint64_t size_bytes, struct err *err) MUST_CHECK;

#endif
