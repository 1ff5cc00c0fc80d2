/*
 * store_bed.h - file systems to test the store on, and a store open on one of them
 *
 * As root each driver gets a file system of its own in a loop device, mounted in a mount namespace of this
 * process, so that it ends with the process however that ends.  As an ordinary user: whatever probes true
 * under /tmp.
 */
#ifndef MERE_TEST_STORE_BED_H
#define MERE_TEST_STORE_BED_H

#include <check.h>

#include "base/fs.h"
#include "store/store.h"

#define MIB (1024u * 1024u)

struct bed {
    const char *name;
    const char *driver;
    const char *mkfs[8]; /* NULL: the file system of /tmp as it is */
    unsigned size_mib;
};

enum { BED_BTRFS, BED_XFS, BED_EXT4, BED_HOST_BTRFS, BED_HOST_REFLINK, BED_HOST_COPY, N_BEDS };

extern const struct bed BEDS[N_BEDS];
extern const struct bed *bed; /* of the test case at work */
extern char *bed_dir;         /* its file system */
extern char *data;            /* the data directory in it */
extern struct store *S;
extern struct arena *A;
extern struct err E;

#define OK(expr)                                                                                             \
    do {                                                                                                     \
        E = (struct err)ERR_INIT;                                                                            \
        ck_assert_msg((expr) == 0, "%s: %s (%s)", #expr, E.msg, E.detail);                                   \
    } while (0)

#define FAILS(expr, want)                                                                                    \
    do {                                                                                                     \
        E = (struct err)ERR_INIT;                                                                            \
        ck_assert_msg((expr) < 0, "%s did not fail", #expr);                                                 \
        ck_assert_msg(E.code == (want), "%s: %s, not %s: %s (%s)", #expr, err_name(E.code), err_name(want),  \
                      E.msg, E.detail);                                                                      \
    } while (0)

/*
 * A test case on the bed: its file system lives as long as the case, data directory and store as long as one
 * test.  When the bed cannot be had, NULL: the case then holds one test that says it is skipped (nothing at
 * all for a bed under /tmp).
 */
TCase *bed_case(Suite *suite, int which);
void bed_open(void); /* S anew, after store_close(TAKE(S), ...) */

/* Names inside volumes; texts and paths live in A. */
const char *in_volume(const char *id, const char *name);
void put(const char *id, const char *name, const char *text);
void put_bytes(const char *id, const char *name, size_t n,
               unsigned seed); /* incompressible, the same for the same seed */
const char *get(const char *id, const char *name);
bool has(const char *id, const char *name);
void make_dir(const char *id, const char *name, mode_t mode);

/* A volume with one of each kind that is kept; SAMPLE_ENTRIES with itself. */
#define SAMPLE_ENTRIES 11
void make_sample(const char *id);
/* Asserts that two volumes are the same in everything that is kept; how many entries, the root included. */
size_t compare(const char *id, const char *twin);

size_t n_tmp(void);
size_t n_trash(void);
size_t n_volumes(void);

#endif
