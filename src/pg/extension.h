/*
 * extension.h - the extensions and the libraries to preload that a user may choose: allow-lists
 *
 * A user is no superuser, so what is not "trusted" he cannot install himself; and what gives files, programs
 * or the network to whoever may call it is on no list.  Reads the files of the installed Postgres; any
 * thread.
 */
#ifndef MERE_PG_EXTENSION_H
#define MERE_PG_EXTENSION_H

#include "pg/install.h"

#include <jansson.h>

struct pg_extension {
    const char *name;
    const char *default_version;
    const char *comment;
    const char *const *versions; /* that can be installed, by name */
    size_t n_versions;
};

/* May a user have it?  Says nothing about whether its files are there. */
bool pg_extension_is_allowed(const char *name);
/* Those that may be had and whose files are there, by name. */
int pg_extension_list(const struct pg_install *install, struct arena *a, struct pg_extension **ret,
                      size_t *ret_n, struct err *err) MUST_CHECK;
/* ERR_INVALID, with what to do, when it may not be had or its files are not there. */
int pg_extension_get(const struct pg_install *install, struct arena *a, const char *name,
                     struct pg_extension *ret, struct err *err) MUST_CHECK;
bool pg_extension_has_version(const struct pg_extension *e, const char *version);

/* The libraries that may be preloaded and are there; of each name, version and comment. */
int pg_preload_list(const struct pg_install *install, struct arena *a, struct pg_extension **ret,
                    size_t *ret_n, struct err *err) MUST_CHECK;
/* names: an array of texts, or NULL.  ERR_INVALID for a library that may not be preloaded or is not there. */
int pg_preload_check(const struct pg_install *install, json_t *names, const char *pointer,
                     struct err *err) MUST_CHECK;
/* The value of shared_preload_libraries: names have been checked. */
const char *pg_preload_text(struct arena *a, json_t *names);

#endif
