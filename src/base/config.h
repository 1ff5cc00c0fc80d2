/*
 * config.h - one table of settings: file, environment, flags, --help
 *
 * Precedence: flag > environment (MERE_<NAME> in upper case, '-' as '_', or MERE_<NAME>_FILE: a file with the
 * value) > file (name = value lines, # comments) > credential > default. A setting that is unknown, malformed
 * or out of range is an error that names it and says where it came from.
 */
#ifndef MERE_CONFIG_H
#define MERE_CONFIG_H

#include "base/arena.h"
#include "base/err.h"

enum config_type { CONFIG_STR, CONFIG_INT, CONFIG_SIZE, CONFIG_BOOL };

struct config_key {
    const char *name; /* "pg-listen": flag --pg-listen, file key pg-listen (or pg_listen) */
    enum config_type type;
    size_t offset;    /* into the caller's struct: const char *, int64_t, uint64_t, bool */
    const char *def;  /* text of the default, NULL = none */
    int64_t min, max; /* CONFIG_INT; both 0 = any */
    const char *arg;  /* placeholder in --help, "HOST:PORT"; NULL for CONFIG_BOOL */
    const char *help; /* one line; NULL = a hidden key (tests) */
    bool live;        /* may be another when the file is read again; the rest holds until the next start */
    bool credential;  /* a path: when not given, the file of that name that came as a credential
                       * ($CREDENTIALS_DIRECTORY, /run/secrets) */
};

struct config_source {
    const struct config_key *keys;
    size_t n;
    const char *file_key; /* the name of the key that names the file ("config"), or NULL */
    int argc;
    char **argv;
};

/*
 * Fills *strct.  The file may be absent only when its name is the default.  argv[0] is skipped; then flags
 * --name VALUE, --name=VALUE, --bool, --bool=off and nothing else (the caller takes --help, --version and
 * words out first).  In a file a comment is a whole line that begins with #.
 */
int config_load(struct arena *a, const struct config_source *src, void *strct, struct err *err) MUST_CHECK;
/* The names of the keys that differ between two of these structs and are not live, with ", " between them;
 * NULL = none. */
const char *config_fixed(struct arena *a, const struct config_source *src, const void *was, const void *now);
/*
 * Only a file: name = value lines for the settings in keys.  What it does not name is left as it is, defaults
 * are not looked at.  A file that is absent, unreadable or malformed is an error.
 */
int config_read(struct arena *a, const struct config_key *keys, size_t n, const char *path, void *strct,
                struct err *err) MUST_CHECK;
/* Prints the options part of --help to standard output. */
void config_help(const struct config_key *keys, size_t n);
/* Prints, as a file that could be read again, every setting that was given, with a word on where, and as
 * comments those that were not. */
int config_print(struct arena *a, const struct config_source *src, struct err *err) MUST_CHECK;
/* "127.0.0.1:7432", "[::1]:0", "localhost:7433" into host and port. */
int config_host_port(struct arena *a, const char *text, const char **ret_host, int *ret_port,
                     struct err *err) MUST_CHECK;

#endif
