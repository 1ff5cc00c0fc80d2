/*
 * loopdev.h - loop devices by the file behind them (for disk.c only)
 */
#ifndef MERE_LOOPDEV_H
#define MERE_LOOPDEV_H

#include "base/err.h"

/* The device itself, open; ERR_NOT_SUPPORTED when there are no loop devices here. */
int loopdev_supported(struct err *err) MUST_CHECK;
/*
 * Puts a loop device on the open file, or finds the one that is on it already: a second one would be a
 * second, unsynchronised view of the same bytes.  It vanishes by itself with its last user, so *ret_fd must
 * stay open until it is mounted.
 */
int loopdev_attach(int file_fd, const char *file, int *ret_fd, int *ret_number, struct err *err) MUST_CHECK;
int loopdev_open(int number, struct err *err) MUST_CHECK; /* the descriptor, or -1 */
/* Whether /dev/loop<number> is on the open file. */
bool loopdev_is_on(int number, int file_fd);
/* Makes the device as large as its file has become. */
int loopdev_resize(int fd, struct err *err) MUST_CHECK;
bool loopdev_is_direct(int fd);

#endif
