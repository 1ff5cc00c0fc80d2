/*
 * shm.h - the file beside the metadata that SQLite maps into memory (for db.c only)
 *
 * On a file system that copies what is written, a write to a mapped page needs room for the copy, and ends
 * the process (SIGBUS) when there is none.
 */
#ifndef MERE_META_SHM_H
#define MERE_META_SHM_H

#include "base/base.h"

/* On btrfs: makes it so that it is written in place.  Before this process has a connection to the database;
 * nothing happens while somebody else has one, and where it is not possible it is done without. */
void shm_write_in_place(const char *database);

#endif
