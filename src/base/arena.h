/*
 * arena.h - memory that dies all at once, with the request or the job
 *
 * Not thread-safe: one thread at a time.  Over its cap arena_alloc returns NULL only when the arena was made
 * with a cap (request arenas: the caller answers 503); without a cap it never returns NULL.
 */
#ifndef MERE_ARENA_H
#define MERE_ARENA_H

#include "base/base.h"

struct arena;

struct arena *arena_new(size_t cap_bytes);          /* 0 = no cap */
void arena_free(struct arena *a);                   /* accepts NULL */
void *arena_alloc(struct arena *a, size_t n);       /* zeroed, aligned for any type */
char *arena_strdup(struct arena *a, const char *s); /* NULL stays NULL */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

void arena_cleanup(struct arena **a);
#define auto_arena CLEANUP(arena_cleanup) struct arena

#endif
