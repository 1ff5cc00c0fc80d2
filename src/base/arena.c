/*
 * arena.c - bump allocation in blocks
 *
 * One thread at a time.  Blocks double from 4 KB to 64 KB; what is larger gets a block of its own.
 */
#include "base/arena.h"

#include <stdarg.h>

#define BLOCK_MIN 4096
#define BLOCK_MAX 65536
#define ALIGNMENT _Alignof(max_align_t)

struct block {
    struct block *next;
    size_t size, used;
    _Alignas(max_align_t) char data[];
};

struct arena {
    struct block *head; /* the one that is filled now */
    size_t cap;         /* 0 = none */
    size_t taken;       /* bytes handed out, against cap */
    size_t next_size;
};

struct arena *arena_new(size_t cap_bytes)
{
    struct arena *a = xcalloc(1, sizeof(*a));

    a->cap = cap_bytes;
    a->next_size = BLOCK_MIN;
    return a;
}

void arena_free(struct arena *a)
{
    struct block *b, *next;

    if (a == NULL)
        return;
    for (b = a->head; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

/* A block that has n bytes free, at the head; a large one goes behind the head, which keeps its free rest. */
static struct block *block_for(struct arena *a, size_t n)
{
    size_t size = a->next_size;
    struct block *b;

    if (a->head != NULL && a->head->size - a->head->used >= n)
        return a->head;
    if (n > BLOCK_MAX / 2)
        size = n;
    else if (size < n)
        size = BLOCK_MAX;
    b = xcalloc(1, sizeof(*b) + size);
    b->size = size;
    if (n > BLOCK_MAX / 2 && a->head != NULL) {
        b->next = a->head->next;
        a->head->next = b;
        return b;
    }
    b->next = a->head;
    a->head = b;
    if (a->next_size < BLOCK_MAX)
        a->next_size *= 2;
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    struct block *b;
    void *p;

    if (n > SIZE_MAX / 2)
        abort(); /* a size computed wrongly, never a user's: those are checked before */
    n = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (n == 0)
        n = ALIGNMENT;
    if (a->cap != 0 && (n > a->cap || a->taken > a->cap - n))
        return NULL;
    b = block_for(a, n);
    p = b->data + b->used;
    b->used += n;
    a->taken += n;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    size_t len;
    char *p;

    if (s == NULL)
        return NULL;
    len = strnlen(s, n);
    p = arena_alloc(a, len + 1);
    if (p != NULL)
        memcpy(p, s, len); /* the block is zeroed: the end is there */
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s != NULL ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    char *p = NULL;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort(); /* a format string of ours that printf cannot render */
    p = arena_alloc(a, (size_t)n + 1);
    if (p != NULL)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void arena_cleanup(struct arena **a)
{
    arena_free(*a);
    *a = NULL;
}
