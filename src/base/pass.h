/*
 * pass.h - descriptors that travel with bytes over a unix socket (SCM_RIGHTS)
 */
#ifndef MERE_PASS_H
#define MERE_PASS_H

#include "base/base.h"

#include <sys/types.h>

#define PASS_MAX 8 /* descriptors at once */

/*
 * Sends len bytes (> 0) and copies of n descriptors with the first of them, without waiting.  What send()
 * gives; on a stream so few bytes go whole or not at all.
 */
ssize_t pass_send(int socket, const void *data, size_t len, const int *fds, size_t n);

/*
 * What recv() gives.  *ret_n descriptors came with the bytes; they are the caller's, and are closed on exec.
 * Those of two sendings are never received at once.
 */
ssize_t pass_receive(int socket, void *data, size_t len, int fds[PASS_MAX], size_t *ret_n);

#endif
