/*
 * base.h - the vocabulary every file shares
 *
 * Attributes, cleanup guards, small macros, and the list of functions nobody may call.
 * Included first by every header of ours; knows nothing of the domain.
 */
#ifndef MERE_BASE_H
#define MERE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>
#include <unistd.h>

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_CHECK             __attribute__((warn_unused_result))
#define UNUSED                 __attribute__((unused))
#define NORETURN               __attribute__((noreturn))
#define CLEANUP(fn)            __attribute__((cleanup(fn)))

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

/* Hands a pointer over: yields it and leaves NULL behind, so that a cleanup guard lets go of it. */
#define TAKE(p)                                                                                              \
    ({                                                                                                       \
        __typeof__(p) taken_ = (p);                                                                          \
        (p) = NULL;                                                                                          \
        taken_;                                                                                              \
    })

/* The same for a descriptor: leaves -1. */
#define TAKE_FD(fd)                                                                                          \
    ({                                                                                                       \
        int taken_ = (fd);                                                                                   \
        (fd) = -1;                                                                                           \
        taken_;                                                                                              \
    })

/* Closes *fd when it is >= 0 and sets it to -1; keeps errno. */
void fd_close(int *fd);
/* Frees *(void **)p; for CLEANUP. */
void ptr_free(void *p);

#define auto_fd   CLEANUP(fd_close) int
#define auto_free CLEANUP(ptr_free)

/* malloc, calloc, strdup and friends that end the process when memory is out (outside a request there is
 * nothing better to do). */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/*
 * CRASH_POINT("branch.cloned"): a named place where a test build can die.
 * With -DMERE_CRASH_POINTS: CRASH_LIST=FILE appends each name reached to FILE; CRASH_AT=name:n does
 * _exit(137) at the n-th hit (n from 1).  Compiled to nothing otherwise.
 */
#ifdef MERE_CRASH_POINTS
void crash_point(const char *name);
#define CRASH_POINT(name) crash_point(name)
#else
#define CRASH_POINT(name) ((void)0)
#endif

/*
 * The headers that declare the banned names are included above, so that own-header-first works in every file.
 * Banned: unbounded, racy, or wrong in a threaded daemon.  Use the named replacement.
 */
#ifndef MERE_ALLOW_BANNED
#pragma GCC poison strcpy strcat sprintf vsprintf gets system popen atoi atol atof strtok usleep tmpnam
#endif

#endif
