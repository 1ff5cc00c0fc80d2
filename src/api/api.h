/*
 * api.h - the HTTP face of mered
 *
 * Owns the listening socket and one thread a connection (bounded).  Reads metadata through meta/, changes
 * anything only through scheduler/intent.h.
 */
#ifndef MERE_API_H
#define MERE_API_H

#include "scheduler/sched.h"

struct api;

struct api_config {
    const char *host;
    int port;      /* 0 = any free one */
    int listen_fd; /* a socket that listens there already and is others' too; -1 = it opens one */
    int max_connections;
    const char *admin_key; /* the token of <data>/admin.key */
};

int api_start(const struct api_config *cfg, struct sched *s, struct api **ret, struct err *err) MUST_CHECK;
int api_port(const struct api *api);
void api_stop(struct api *api); /* stops accepting, lets requests finish (10 s), frees; accepts NULL */

#endif
